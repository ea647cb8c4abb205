"""Curves as text: two runs side by side in block characters, on the same axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tracker.core.text import render_number

EMPTY, FULL = " ", "\u2588"
EIGHTHS = "\u2581\u2582\u2583\u2584\u2585\u2586\u2587\u2588"
PLAIN = str.maketrans(EIGHTHS + "\u2502", "__..--##|")  # for an output that cannot have them
ROWS = 3
MARGIN = 11  # of the numbers at the left
MOST_TIES = 3  # epochs that are named beside the marked one
STRETCH = 4  # columns for an epoch, at most


class Panel(NamedTuple):
    """A curve of (epoch, value), None where the value is no number, and the epoch to mark.

    That is the run's `best` epoch, or the first one with the value `figure` of the table of
    metrics, where this is another: scripts may report the best of each metric.
    """

    name: str
    curve: Sequence[tuple[int, float | None]]
    best: int | None
    figure: float | None = None


def render_curves(title: str, panels: Sequence[Panel], *, width: int) -> list[str]:
    """Lines of at most `width` characters: title and names, the curves, a mark below each best
    epoch."""
    values = [value for panel in panels for _, value in panel.curve if value is not None]
    if not values:
        return []
    low, high = min(values), max(values)
    room = max(12, (width - MARGIN) // len(panels) - 3)
    epochs = max(epoch for panel in panels for epoch, _ in panel.curve)
    columns = min(room, STRETCH * epochs)
    drawn = [_draw(panel, low, high, epochs, columns) for panel in panels]
    margins = [render_number(high), "", render_number(low)]
    lines = [f"{title:{MARGIN}} " + "   ".join(f"{panel.name[:room]:{room}}" for panel in panels)]
    for row, margin in enumerate(margins):
        parts = [f"\u2502{rows[row]:{room}}" for rows in drawn]
        lines.append(f"{margin:>{MARGIN}}" + "  ".join(parts))
    marks = [_mark(panel, epochs, columns, room) for panel in panels]
    lines.append(" " * (MARGIN + 1) + "   ".join(f"{mark:{room}}" for mark in marks))
    return [line.rstrip() for line in lines]


def _draw(panel: Panel, low: float, high: float, epochs: int, columns: int) -> list[str]:
    """The rows of one curve, top first; a column is the mean of the epochs that fall into it."""
    level = len(EIGHTHS) * ROWS
    heights = []
    for column in range(columns):
        first, last = column * epochs // columns + 1, max(1, -(-(column + 1) * epochs // columns))
        values = [v for epoch, v in panel.curve if v is not None and first <= epoch <= last]
        share = (sum(values) / len(values) - low) / (high - low) if values and high > low else 0.0
        heights.append(max(1, round(share * level)) if values else 0)
    rows = []
    for row in reversed(range(ROWS)):
        parts = [min(len(EIGHTHS), height - row * len(EIGHTHS)) for height in heights]
        rows.append("".join(EIGHTHS[part - 1] if part > 0 else EMPTY for part in parts))
    return rows


def _mark(panel: Panel, epochs: int, columns: int, room: int) -> str:
    """`^ run's best epoch 3 of 15: 0.78` under the best epoch.

    The text is to the left of the mark where there is no room to the right.
    """
    known = dict(panel.curve)
    if panel.best is None or panel.best not in known:
        return ""
    marked, title = panel.best, "run's best epoch"
    if panel.figure is not None and known[marked] != panel.figure:
        same = [epoch for epoch, value in panel.curve if value == panel.figure]
        if same:
            marked, title = same[0], "in the table: epoch"
    value, last = known[marked], max(known)
    equal = [epoch for epoch in known if epoch > marked and known[epoch] == value]
    also = f" (as good: {', '.join(map(str, equal))})" if 0 < len(equal) <= MOST_TIES else ""
    words = f"{title} {marked} of {last}: {render_number(value)}{also}"
    if len(words) + 2 > room:  # a narrow terminal
        words = words.replace(title, "best").replace("as good:", "also")
    if len(words) + 2 > room:
        words = words.partition(" (")[0]
    column = (marked - 1) * columns // epochs
    if column + 2 + len(words) <= room:
        return " " * column + f"^ {words}"
    return f"{words} ^".rjust(column + 1) if column > len(words) else f"^ {words}"[:room]
