"""BENCHMARKS.md: the goals that are missed with their reasons, then each subject with its rows and
what was printed. It is written from bench/results, which has what each measurement found last.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

from bench.figures import Point, Row
from bench.measurements import MEASUREMENTS, Measurement
from bench.plots import Plot, draw_plot, find_plots

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "bench" / "results"
PICTURES = ROOT / "docs" / "pictures"
PAGE = ROOT / "BENCHMARKS.md"
DONE, FAILED, ABSENT = "done", "failed", "not measured"  # how a measurement ends
MISSED = "Missed goals"
INTRODUCTION = """\
# Benchmarks

<!-- Written by `make bench`: do not edit. -->

What each measurement means and what was measured before is in [bench/README.md](bench/README.md).
Machines are noisy: only what one run compares means anything. Peers write to this machine, too, and
send nothing. The limit is what nobody can save: a bare interpreter, a line of JSON, the SQL query,
reading the files. `make bench` measures anew (`QUICK=1`: the short forms, under 5 minutes once the
peers are installed), `python -m bench --list` says how long each takes.
"""


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
    """The subjects with their counts, the missed goals, the plots, then a section a subject."""
    known = {one.name: one for one in results}
    subjects = [
        (subject, [(one, known[one.name]) for one in group if one.name in known])
        for subject, group in groupby(MEASUREMENTS, key=lambda one: one.subject)
    ]
    measured = [(subject, pairs) for subject, pairs in subjects if pairs]
    plots = find_plots([point for one in results for point in one.points])
    lines = [
        INTRODUCTION,
        *render_counts(measured),
        *render_missing([one.name for one in MEASUREMENTS if one.name not in known]),
        *render_missed([row for one in results for row in one.rows]),
        *(line for plot in plots for line in render_picture(plot)),
        *(line for subject, pairs in measured for line in render_subject(subject, pairs)),
    ]
    return "\n".join(lines)


def render_counts(
    measured: Sequence[tuple[str, Sequence[tuple[Measurement, Result]]]],
) -> list[str]:
    """How many goals of each subject, and of all, are reached."""
    counts = {
        subject: [
            [row.reached for _, result in pairs for row in result.rows].count(reached)
            for reached in (True, False)
        ]
        for subject, pairs in measured
    }
    reached, missed = map(sum, zip(*counts.values(), strict=True)) if counts else (0, 0)
    return [
        f"{reached + missed} goals: {reached} reached, {missed} missed.",
        "",
        "| | reached | missed |",
        "|---|---|---|",
        *(
            f"| [{name}](#{find_anchor(name)}) | {one} | {two} |"
            for name, (one, two) in counts.items()
        ),
        "",
    ]


def find_anchor(heading: str) -> str:
    """The link to a heading of plain words."""
    return heading.lower().replace(" ", "-")


def render_missing(names: Sequence[str]) -> list[str]:
    """Which measurements nobody has made."""
    if not names:
        return []
    return [f"Not measured for this page: {', '.join(f'`bench/{name}.py`' for name in names)}.", ""]


def render_missed(rows: Sequence[Row]) -> list[str]:
    """The missed goals, each with its reason."""
    missed = [row for row in rows if row.reached is False]
    if not missed:
        return []
    return [
        f"## {MISSED}",
        "",
        "| what | tracker | limit | goal | why |",
        "|---|---|---|---|---|",
        *(
            render_cells(row.what, row.ours, row.limit, row.goal, find_reason(row))
            for row in missed
        ),
        "",
    ]


def find_reason(row: Row) -> str:
    """Why a goal is missed."""
    return row.reason or "nobody has looked into it yet"


def render_subject(subject: str, pairs: Sequence[tuple[Measurement, Result]]) -> list[str]:
    """The rows of a subject, when they were measured, and what was printed."""
    rows = [row for _, result in pairs for row in result.rows]
    table = [
        "| verdict | what | tracker | others | limit | goal |",
        "|---|---|---|---|---|---|",
        *map(render_row, rows),
        "",
    ]
    return [
        f"## {subject}",
        "",
        *(table if rows else []),
        *(line for one, result in pairs for line in render_printed(one.question, result)),
    ]


def render_row(row: Row) -> str:
    """A line of a subject's table; one without a goal says what it means, or that it has none."""
    verdict = {True: "reached", False: f"[**missed**](#{find_anchor(MISSED)})"}.get(
        row.reached, "not measured" if row.goal else "no goal"
    )
    goal = "; ".join(filter(None, (row.goal, row.verdict)))
    return render_cells(verdict, row.what, row.ours, row.peer, row.limit, goal)


def render_cells(*cells: str) -> str:
    """A line of a table."""
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


def render_printed(question: str, one: Result) -> list[str]:
    """A measurement's question, command, day, commit and load; unfolded, what it printed."""
    end = f"{one.end} after {one.seconds:.0f} s: {', '.join(one.machine.split(', ')[:2])}."
    busy = one.busy and one.end == DONE
    note = " **Others computed meanwhile**: read its ratios, not its seconds." if busy else ""
    return [
        f"**{question}** `{one.command}`, {end}{note}",
        "",
        "<details><summary>What it printed</summary>",
        "",
        "```",
        one.machine,
        one.printed,
        "```",
        "",
        "</details>",
        "",
    ]
