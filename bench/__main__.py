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
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path

from bench.figures import FILE, NOT_HERE, Point, Row, read_figures
from bench.plots import Plot, draw_plot, find_plots

BENCH = Path(__file__).resolve().parent
ROOT = BENCH.parent
RESULTS = BENCH / "results"
PICTURES = ROOT / "docs" / "pictures"
BUSY = 2.0  # load for each core: one measurement after another leaves less
DONE, FAILED, ABSENT = "done", "failed", "not measured"
PAGE = ROOT / "BENCHMARKS.md"
LIBRARIES = ("torch", "numpy", "mlflow", "sqlalchemy", "typer")


@dataclass(frozen=True)
class Measurement:
    """A script of this folder: its question, and its options where it is to be quick; None where it
    has no quick form.

    `long_s` and `quick_s` are about what it takes on two quiet cores, the peers being installed.
    """

    name: str
    question: str
    long_s: float
    quick: tuple[str, ...] | None = None
    quick_s: float = 0.0

    @property
    def limit_s(self) -> float:
        """What a busy machine may take."""
        return max(1800.0, 4 * self.long_s)


MEASUREMENTS = (
    Measurement(
        "startup", "How long does a command take to start?", 90, ("--rounds", "3"), quick_s=17
    ),
    Measurement(
        "logging_cost",
        "What does a logged point cost, and what is left of it after kill -9?",
        40,
        ("--rounds", "3", "--kills", "4"),
        quick_s=8,
    ),
    Measurement(
        "compare_runs",
        "How long does diff take with few and many runs?",
        120,
        ("--rounds", "1", "--runs", "5", "1000"),
        quick_s=16,
    ),
    Measurement(
        "compare_many",
        "How long does compare take with many runs?",
        120,
        ("--rounds", "2", "--runs", "1000"),
        quick_s=10,
    ),
    Measurement(
        "compare_stats",
        "How long do the statistics of two runs take?",
        60,
        ("--rounds", "2", "--images", "3780"),
        quick_s=8,
    ),
    Measurement(
        "big_ledger",
        "How long does a question take with many submissions?",
        90,
        ("--rounds", "2", "--rows", "10000"),
        quick_s=10,
    ),
    Measurement(
        "writers",
        "How many submissions a second do several writers add to one ledger?",
        60,
        ("--seconds", "1"),
        quick_s=15,
    ),
    Measurement(
        "scale",
        "Does every command that reads answer with very many runs?",
        1500,
        ("--quick",),
        quick_s=31,
    ),
    Measurement(
        "report_size",
        "How long does the report take, how large is it?",
        60,
        ("--rounds", "1", "--rows", "1000"),
        quick_s=12,
    ),
    Measurement(
        "input",
        "How many images a second does the input make?",
        60,
        ("--rounds", "1", "--images", "48"),
        quick_s=9,
    ),
    Measurement(
        "data_check",
        "How long does data check of unchanged images take?",
        60,
        ("--quick",),
        quick_s=5,
    ),
    Measurement(
        "decoding",
        "What does reducing a photograph while it is decoded save?",
        40,
        ("--quick",),
        quick_s=15,
    ),
    Measurement(
        "epochs",
        "How long does an epoch take?",
        180,
        ("--rounds", "1", "--people", "12"),
        quick_s=35,
    ),
    Measurement(
        "inference",
        "How long do predictions take, files to CSV?",
        400,
        ("--quick",),
        quick_s=11,
    ),
    Measurement("large_tables", "How long does a submit take for tables of numbers?", 90),
    Measurement("points", "How long does it take to copy a long run to MLflow?", 400),
    Measurement("gpu", "How near does training come to the GPU's limit?", 300, (), quick_s=4),
    Measurement("jitter_f1", "Does the quick jitter cost F1?", 900),
    Measurement("suspects", "Does data suspects find wrong labels?", 400),
    Measurement(
        "sharing",
        "What do two trainings at once cost each other?",
        90,
        ("--seconds", "1"),
        quick_s=20,
    ),
    Measurement(
        "peers",
        "How large are other trackers, what does a point cost?",
        150,
        ("--quick",),
        quick_s=50,
    ),
    Measurement(
        "queries",
        "How long does the same question take with other trackers?",
        600,
        ("--quick",),
        quick_s=20,
    ),
)


@dataclass(frozen=True)
class Result:
    """What a measurement printed and recorded, where, when and in which form; `busy` where others
    computed as it began."""

    name: str
    command: str
    end: str
    seconds: float
    machine: str
    printed: str
    rows: tuple[Row, ...]
    points: tuple[Point, ...]
    busy: bool = False


def main() -> int:
    """Measure, write the page after each measurement; 1 when one failed."""
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
    for one in chosen:
        result = measure(one, quick=arguments.quick)
        failed += result.end.startswith(FAILED)
        keep(result)
        write_page(read_results())
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
    path = RESULTS / f"{result.name}.json"
    if result.end == ABSENT and path.is_file() and json.loads(path.read_text())["end"] == DONE:
        return
    RESULTS.mkdir(parents=True, exist_ok=True)
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
            cwd=ROOT,
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
    """BENCHMARKS.md and its plots."""
    points = [point for one in results for point in one.points]
    for plot in find_plots(points):
        draw_plot(plot, points, PICTURES)
    PAGE.write_text(render_page(results), encoding="utf-8")


def render_page(results: Sequence[Result]) -> str:
    """The verdicts, the plots, then a section for each measurement."""
    rows = [row for one in results for row in one.rows]
    plots = find_plots([point for one in results for point in one.points])
    head = [
        "# Benchmarks",
        "",
        "<!-- Written by `make bench`: do not edit. -->",
        "",
        "What each measurement means and what was measured before is in"
        " [bench/README.md](bench/README.md). Machines are noisy: only what one run compares means"
        " anything. Peers write to this machine, too, and send nothing. `make bench` measures anew"
        " (`QUICK=1`: the short forms, under 5 minutes), `python -m bench --list` says how long"
        " each takes.",
        "",
        *render_verdicts(rows),
        *render_busy([one.name for one in results if one.busy and one.end == DONE]),
        *(line for plot in plots for line in render_picture(plot)),
    ]
    missing = [one for one in MEASUREMENTS if one.name not in [done.name for done in results]]
    if missing:
        names = ", ".join(f"`bench/{one.name}.py`" for one in missing)
        head += [f"Not measured for this page: {names}.", ""]
    questions = {one.name: one.question for one in MEASUREMENTS}
    sections = [render_section(questions[one.name], one) for one in results]
    return "\n".join([*head, *sections])


def render_verdicts(rows: Sequence[Row]) -> list[str]:
    """How many goals are reached, and the table of all rows."""
    if not rows:
        return []
    judged = [row for row in rows if row.reached is not None]
    missed = sum(row.reached is False for row in judged)
    return [
        f"{len(judged)} goals: {len(judged) - missed} reached, {missed} missed.",
        "",
        "| what | tracker | others | limit | goal | verdict |",
        "|---|---|---|---|---|---|",
        *map(render_row, rows),
        "",
    ]


def render_busy(names: Sequence[str]) -> list[str]:
    """Which measurements say little in seconds."""
    if not names:
        return []
    text = "Others computed on the machine, so a goal in seconds may be missed for that alone"
    return [f"{text}: {', '.join(names)}.", ""]


def render_row(row: Row) -> str:
    """A line of the table; a missed goal has its reason, and a row without a goal says so."""
    verdict = row.verdict or "for comparison"
    if row.reached is not None:
        missed = f"**missed**: {row.reason or 'nobody has looked into it yet'}"
        verdict = "reached" if row.reached else missed
    cells = (row.what, row.ours, row.peer, row.limit, row.goal, verdict)
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


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
