"""What a measurement leaves for BENCHMARKS.md beside what it prints: rows of the table of verdicts,
and points of the plots.

`make bench` names a file in BENCH_FIGURES, to which a script adds a line of JSON for each; run by
itself, a script only prints.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

FILE = "BENCH_FIGURES"
NOT_HERE = 77  # the exit code of a measurement that needs what this machine has not


@dataclass(frozen=True)
class Row:
    """A question with its answer: texts with units; `reached` is None where there is no goal, and
    `verdict` then says what the row means.

    `limit` is what the machine could do at best, `reason` why a goal is missed: it is printed only
    where it is.
    """

    what: str
    ours: str
    peer: str = ""
    limit: str = ""
    goal: str = ""
    reached: bool | None = None
    reason: str = ""
    verdict: str = ""


@dataclass(frozen=True)
class Point:
    """A point of a plot: a line has many, a bar one (its `x` is 0)."""

    plot: str
    series: str
    x: float
    y: float


def record(figures: Iterable[Row | Point]) -> None:
    """Add rows or points to the file of this measurement, if there is one."""
    path = os.environ.get(FILE)
    if not path:
        return
    with Path(path).open("a") as file:
        for one in figures:
            file.write(json.dumps({type(one).__name__: asdict(one)}) + "\n")


def weigh(ours: float, others: Mapping[str, float], why: str) -> str:
    """The verdict over figures without a goal, of which less is better: the peers that have less,
    how much less, and why."""
    ahead = {name: figure for name, figure in others.items() if figure < ours}
    if not ahead:
        return f"less than all {len(others)} peers" if len(others) > 1 else "less than the peer"
    less = ", ".join(f"{name} {ours / figure:.1f} times" for name, figure in ahead.items())
    return f"for comparison; ahead: {less}: {why}"


def read_figures(path: Path) -> tuple[list[Row], list[Point]]:
    """What a measurement recorded; nothing where it recorded nothing."""
    rows: list[Row] = []
    points: list[Point] = []
    for line in path.read_text().splitlines() if path.exists() else ():
        found: dict[str, Any] = json.loads(line)
        if "Row" in found:
            rows.append(Row(**found["Row"]))
        else:
            points.append(Point(**found["Point"]))
    return rows, points
