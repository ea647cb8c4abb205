"""Run the measurements of this folder, and write what they print to BENCHMARKS.md: `make bench`.

`--quick` takes each measurement's short form; `--only startup input` takes some. A measurement that
fails, or takes longer than its limit, is written down as that, and the others are made.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
PAGE = ROOT / "BENCHMARKS.md"
LIBRARIES = ("torch", "numpy", "mlflow", "sqlalchemy", "typer")


@dataclass(frozen=True)
class Measurement:
    """A script of this folder: its question, and its options where it is to be quick; None where it
    has no quick form."""

    name: str
    question: str
    quick: tuple[str, ...] | None
    limit_s: float = 1800.0


MEASUREMENTS = (
    Measurement("startup", "How long does a command take to start?", ("--rounds", "3")),
    Measurement(
        "logging_cost",
        "What does a logged point cost, and what is left of it after kill -9?",
        ("--rounds", "3", "--kills", "4"),
    ),
    Measurement(
        "compare_runs", "How long does diff take with few and many runs?", ("--rounds", "2")
    ),
    Measurement(
        "compare_many",
        "How long does compare take with many runs?",
        ("--rounds", "2", "--runs", "1000"),
    ),
    Measurement(
        "compare_stats",
        "How long do the statistics of two runs take?",
        ("--rounds", "2", "--images", "3780"),
    ),
    Measurement(
        "big_ledger",
        "How long does a question take with many submissions?",
        ("--rounds", "2", "--rows", "10000"),
    ),
    Measurement(
        "report_size", "How long does the report take, how large is it?", ("--rounds", "1")
    ),
    Measurement(
        "input",
        "How many images a second does the input make?",
        ("--rounds", "1", "--images", "48"),
    ),
    Measurement("data_check", "How long does data check of unchanged images take?", ("--quick",)),
    Measurement(
        "decoding", "What does reducing a photograph while it is decoded save?", ("--quick",)
    ),
    Measurement(
        "epochs", "How long does an epoch take?", ("--rounds", "1", "--people", "6"), 3600.0
    ),
    Measurement("jitter_f1", "Does the quick jitter cost F1?", None, 7200.0),
    Measurement("suspects", "Does data suspects find wrong labels?", None, 7200.0),
    Measurement("sharing", "What do two trainings at once cost each other?", ("--seconds", "3")),
    Measurement("peers", "How large are other trackers, what does a point cost?", ("--quick",)),
)


def main() -> int:
    """Measure, write the page after each measurement; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the short form of those that have one"
    )
    names = [one.name for one in MEASUREMENTS]
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of them")
    arguments = parser.parse_args()
    sections: list[str] = []
    failed = 0
    for one in MEASUREMENTS:
        if one.name in arguments.only and (one.quick is not None or not arguments.quick):
            text, worked = measure(one, quick=arguments.quick)
            failed += not worked
            sections.append(text)
            PAGE.write_text(render_page(sections, quick=arguments.quick))
    return min(failed, 1)


def measure(one: Measurement, *, quick: bool) -> tuple[str, bool]:
    """A section of the page, and whether the measurement came to its end."""
    options = one.quick or () if quick else ()
    print(f"{one.name}: {one.question}", flush=True)
    started = time.monotonic()
    printed, end = run_script(one, options)
    seconds = time.monotonic() - started
    print(f"{printed}\n{end} after {seconds:.0f} s", flush=True)
    command = " ".join(["python", f"bench/{one.name}.py", *options])
    lines = [f"## {one.question}", "", f"`{command}`, {end} after {seconds:.0f} s.", ""]
    return "\n".join([*lines, "```", printed.rstrip(), "```", ""]), end == "done"


def run_script(one: Measurement, options: Sequence[str]) -> tuple[str, str]:
    """What a script printed, and how it ended."""
    command = [sys.executable, str(BENCH / f"{one.name}.py"), *options]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=one.limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"stopped: more than {one.limit_s:.0f} s"
    return done.stdout, "done" if done.returncode == 0 else f"failed with {done.returncode}"


def render_page(sections: Sequence[str], *, quick: bool) -> str:
    """BENCHMARKS.md: where and when it was measured, then a section for each measurement."""
    form = " --quick" if quick else ""
    head = [
        "# Benchmarks",
        "",
        f"<!-- Written by `python -m bench{form}`: do not edit. -->",
        "",
        "What each measurement means, its goal and what was measured before is in"
        " [bench/README.md](bench/README.md). Machines are noisy: only the ratios of one run mean"
        " anything.",
        "",
        describe_machine(),
        "",
    ]
    if quick:
        head += ["The short form: few rounds, so that medians are rough.", ""]
    return "\n".join([*head, *sections])


def describe_machine() -> str:
    """Processor, versions, commit and load."""
    cpu = platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = [line for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = lines[0].partition(": ")[2] if lines else cpu
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    command = ["git", "describe", "--always", "--dirty=+", "--exclude", "*"]
    commit = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False).stdout
    load = os.getloadavg()[0]
    day = time.strftime("%Y-%m-%d", time.gmtime())
    return (
        f"{day}, commit {commit.strip()}, {platform.system()}, {os.cpu_count()} cores of {cpu},"
        f" load {load:.1f} at the end; Python {platform.python_version()}, {libraries}."
    )


if __name__ == "__main__":
    sys.exit(main())
