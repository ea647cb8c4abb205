"""Run the measurements of this folder, and write what they print to BENCHMARKS.md: `make bench`.

`--quick` takes each measurement's short form, `--minutes 10` those that take no longer, and
`--list` says how long each takes. `--only startup input` takes some: the others stay on the page as
they were last measured (bench/results); `--only` alone writes the page anew. A measurement that
fails, or takes longer than its limit, is written down as that, and the others are made.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

from bench import page
from bench.figures import FILE, NOT_HERE, read_figures
from bench.measurements import MEASUREMENTS, Measurement
from bench.page import ABSENT, DONE, FAILED, Result, read_results, write_page

BENCH = Path(__file__).resolve().parent
BUSY = 2.0  # load for each core: one measurement after another leaves less
LIBRARIES = ("torch", "numpy", "mlflow", "sqlalchemy", "typer")


def main() -> int:
    """Measure, and write the page at the end, also an early one; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the short form of those that have one"
    )
    names = [one.name for one in MEASUREMENTS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="some of them")
    parser.add_argument("--minutes", type=float, help="those that take no longer, each by itself")
    parser.add_argument("--list", action="store_true", help="what each takes; measures nothing")
    arguments = parser.parse_args()
    chosen = [
        one
        for one in MEASUREMENTS
        if one.name in arguments.only
        and (one.quick is not None or not arguments.quick)
        and (arguments.minutes is None or find_seconds(one, arguments) <= arguments.minutes * 60)
    ]
    print(describe_plan(chosen, arguments), flush=True)
    if arguments.list:
        return 0
    failed = 0
    try:
        for one in chosen:
            result = measure(one, quick=arguments.quick)
            failed += result.end.startswith(FAILED)
            keep(result)
    finally:
        write_page(read_results())
    return min(failed, 1)


def find_seconds(one: Measurement, arguments: argparse.Namespace) -> float:
    """What a measurement takes in the form that was asked for."""
    return one.quick_s if arguments.quick else one.long_s


def describe_plan(chosen: Sequence[Measurement], arguments: argparse.Namespace) -> str:
    """About how long each takes on two quiet cores, and all together."""
    seconds = {one.name: find_seconds(one, arguments) for one in chosen}
    lines = [f"{name:12} about {some:5,.0f} s" for name, some in seconds.items()]
    return "\n".join([*lines, f"together about {sum(seconds.values()) / 60:.0f} minutes"])


def keep(result: Result) -> None:
    """Write down a result; what another machine could measure is not replaced by "not here"."""
    path = page.RESULTS / f"{result.name}.json"
    if result.end == ABSENT and path.is_file() and json.loads(path.read_text())["end"] == DONE:
        return
    page.RESULTS.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(asdict(result), indent=1, ensure_ascii=False) + "\n")


def measure(one: Measurement, *, quick: bool) -> Result:
    """Run a measurement to its end or its limit."""
    options = one.quick or () if quick else ()
    expected = one.quick_s if quick else one.long_s
    print(f"{one.name}: {one.question} (about {expected:.0f} s)", flush=True)
    started = time.monotonic()
    busy = os.getloadavg()[0] > BUSY * (os.cpu_count() or 1)
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        printed, end = run_script(one, options, figures)
        rows, points = read_figures(figures)
    seconds = time.monotonic() - started
    print(f"{printed}\n{end} after {seconds:.0f} s", flush=True)
    command = " ".join(["python", f"bench/{one.name}.py", *options])
    machine = describe_machine()
    return Result(
        name=one.name,
        command=command,
        end=end,
        seconds=seconds,
        machine=machine,
        printed=printed.rstrip(),
        rows=tuple(rows),
        points=tuple(points),
        busy=busy,
    )


def run_script(one: Measurement, options: Sequence[str], figures: Path) -> tuple[str, str]:
    """What a script printed, and how it ended."""
    command = [sys.executable, str(BENCH / f"{one.name}.py"), *options]
    try:
        done = subprocess.run(
            command,
            cwd=page.ROOT,
            env={**os.environ, FILE: str(figures)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=one.limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        printed = error.stdout or b""  # bytes, whatever `text` says
        return printed.decode(errors="replace"), f"{FAILED}: stopped after {one.limit_s:.0f} s"
    ends = {0: DONE, NOT_HERE: ABSENT}
    return done.stdout, ends.get(done.returncode, f"{FAILED} with {done.returncode}")


def describe_machine() -> str:
    """Processor, versions, commit and load."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(": ")[2] if lines else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    command = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    commit = subprocess.run(
        command, cwd=page.ROOT, capture_output=True, text=True, check=False
    ).stdout
    load = os.getloadavg()[0]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"{day}, commit {commit.strip()}, {platform.system()}, {os.cpu_count()} cores of {cpu},"
        f" load {load:.1f} at the end; Python {platform.python_version()}, {libraries}."
    )


if __name__ == "__main__":
    sys.exit(main())
