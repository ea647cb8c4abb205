"""Run the measurements of this folder, and write what they print to BENCHMARKS.md: `make bench`.

`--quick` takes each measurement's short form; `--only startup input` takes some, and the others
stay on the page as they were last measured here (build/bench); `--only` alone writes the page anew.
A measurement that fails, or takes longer than its limit, is written down as that, and the others
are made.
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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bench.figures import FILE, Point, Row, read_figures
from bench.plots import Plot, draw_plots

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = ROOT / "build" / "bench"
PICTURES = ROOT / "docs" / "pictures"
DONE = "done"
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
        "scale", "Does every command that reads answer with very many runs?", ("--quick",), 3600.0
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
        "epochs", "How long does an epoch take?", ("--rounds", "1", "--people", "12"), 3600.0
    ),
    Measurement("inference", "How long do predictions take, files to CSV?", ("--quick",)),
    Measurement("jitter_f1", "Does the quick jitter cost F1?", None, 7200.0),
    Measurement("suspects", "Does data suspects find wrong labels?", None, 7200.0),
    Measurement("sharing", "What do two trainings at once cost each other?", ("--seconds", "3")),
    Measurement("peers", "How large are other trackers, what does a point cost?", ("--quick",)),
)


@dataclass(frozen=True)
class Result:
    """What a measurement printed and recorded, where, when and in which form."""

    name: str
    command: str
    end: str
    seconds: float
    machine: str
    printed: str
    rows: tuple[Row, ...]
    points: tuple[Point, ...]


def main() -> int:
    """Measure, write the page after each measurement; 1 when one failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument(
        "--quick", action="store_true", help="the short form of those that have one"
    )
    names = [one.name for one in MEASUREMENTS]
    parser.add_argument("--only", nargs="*", choices=names, default=names, help="some of them")
    arguments = parser.parse_args()
    failed = 0
    for one in MEASUREMENTS:
        if one.name in arguments.only and (one.quick is not None or not arguments.quick):
            result = measure(one, quick=arguments.quick)
            failed += result.end != DONE
            RESULTS.mkdir(parents=True, exist_ok=True)
            path = RESULTS / f"{one.name}.json"
            path.write_text(json.dumps(asdict(result), indent=1))
            write_page(read_results())
    write_page(read_results())
    return min(failed, 1)


def measure(one: Measurement, *, quick: bool) -> Result:
    """Run a measurement to its end or its limit."""
    options = one.quick or () if quick else ()
    print(f"{one.name}: {one.question}", flush=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        printed, end = run_script(one, options, figures)
        rows, points = read_figures(figures)
    seconds = time.monotonic() - started
    print(f"{printed}\n{end} after {seconds:.0f} s", flush=True)
    command = " ".join(["python", f"bench/{one.name}.py", *options])
    machine = describe_machine()
    return Result(
        one.name, command, end, seconds, machine, printed.rstrip(), tuple(rows), tuple(points)
    )


def run_script(one: Measurement, options: Sequence[str], figures: Path) -> tuple[str, str]:
    """What a script printed, and how it ended."""
    command = [sys.executable, str(BENCH / f"{one.name}.py"), *options]
    try:
        done = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, FILE: str(figures)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=one.limit_s,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return "", f"stopped: more than {one.limit_s:.0f} s"
    return done.stdout, DONE if done.returncode == 0 else f"failed with {done.returncode}"


def read_results() -> list[Result]:
    """What was measured last by each measurement, in the order of the page."""
    results = []
    for one in MEASUREMENTS:
        path = RESULTS / f"{one.name}.json"
        if path.is_file():
            raw = json.loads(path.read_text())
            rows = tuple(Row(**row) for row in raw.pop("rows"))
            points = tuple(Point(**point) for point in raw.pop("points"))
            results.append(Result(**raw, rows=rows, points=points))
    return results


def write_page(results: Sequence[Result]) -> None:
    """BENCHMARKS.md: the verdicts, the plots, then a section for each measurement."""
    drawn = draw_plots([point for one in results for point in one.points], PICTURES)
    head = [
        "# Benchmarks",
        "",
        "<!-- Written by `make bench`: do not edit. -->",
        "",
        "What each measurement means and what was measured before is in"
        " [bench/README.md](bench/README.md). Machines are noisy: only what one run compares means"
        " anything. Peers write to this machine, too, and send nothing.",
        "",
        *render_verdicts([row for one in results for row in one.rows]),
        *(line for plot in drawn for line in render_picture(plot)),
    ]
    missing = [one for one in MEASUREMENTS if one.name not in [done.name for done in results]]
    if missing:
        names = ", ".join(f"`bench/{one.name}.py`" for one in missing)
        head += [f"Not measured for this page: {names}.", ""]
    questions = {one.name: one.question for one in MEASUREMENTS}
    sections = [render_section(questions[one.name], one) for one in results]
    PAGE.write_text("\n".join([*head, *sections]))


def render_verdicts(rows: Sequence[Row]) -> list[str]:
    """The table of all rows; a missed goal has its reason."""
    if not rows:
        return []
    lines = ["| what | tracker | others | limit | goal | verdict |", "|---|---|---|---|---|---|"]
    for row in rows:
        verdict = {None: "", True: "reached", False: "**missed**"}[row.reached]
        if row.reached is False and row.reason:
            verdict += f": {row.reason}"
        cells = (row.what, row.ours, row.peer, row.limit, row.goal, verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def render_picture(plot: Plot) -> list[str]:
    """A plot that fits the reader's scheme."""
    place = PICTURES.relative_to(ROOT).as_posix()
    return [
        "<picture>",
        f'  <source media="(prefers-color-scheme: dark)" srcset="{place}/{plot.name}-dark.png">',
        f'  <img alt="{plot.alt}" src="{place}/{plot.name}-light.png">',
        "</picture>",
        "",
    ]


def render_section(question: str, one: Result) -> str:
    """What a measurement printed, and where."""
    head = f"`{one.command}`, {one.end} after {one.seconds:.0f} s."
    return "\n".join([f"## {question}", "", head, "", "```", one.machine, one.printed, "```", ""])


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
