"""Curves of several runs in one plot of characters."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tracker.core.table import cut, measure
from tracker.core.text import render_number
from tracker.run_folder.running import Curve

COLORS = ("36", "33", "35", "32", "34", "31")  # cyan, yellow, magenta, green, blue, red
MARKS = "*+ox#@"
MARGIN = 11  # of the numbers at the left, and the axis
MIN_ROWS = 3  # of curves, below which a plot says nothing
BRAILLE = 0x2800
# the bit of each dot of a braille character, which has four rows of two
DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Style:
    """What the terminal can show: colors, and characters beyond ASCII."""

    color: bool = True
    unicode: bool = True


@dataclass(frozen=True)
class Series:
    """A curve with the name that the legend gives it."""

    name: str
    curve: Curve


@dataclass(frozen=True)
class _Axes:
    """The ranges of the plot, `low` and `high` as logarithms with `log`."""

    first: float
    last: float
    low: float
    high: float
    log: bool

    def place(self, epoch: float, value: float) -> tuple[float, float]:
        """Where a point lies: 0 to 1 from the left, 0 to 1 from below."""
        height = (_scale(value, log=self.log) - self.low) / (self.high - self.low)
        return (epoch - self.first) / (self.last - self.first), height

    def value(self, share: float) -> float:
        """The value at a height of 0 to 1."""
        height = self.low + share * (self.high - self.low)
        return 10.0**height if self.log else height


def draw_plot(
    title: str, series: Sequence[Series], *, width: int, height: int, log: bool, style: Style
) -> list[str]:
    """At most `height` lines of `width` columns: title, legend, curves, and the epochs below.

    Each curve has its color, and its own mark where there are no colors. With `log`, values that
    have no logarithm are left out, and the title says so.
    """
    kept = [
        Series(one.name, [(epoch, value) for epoch, value in one.curve if value > 0 or not log])
        for one in series
    ]
    lost = sum(len(one.curve) for one in series) - sum(len(one.curve) for one in kept)
    title += " (log axis)" if log else ""
    title += f"; {lost} not above 0 left out" if lost else ""
    legend = _draw_legend(kept, width, style)
    rows = height - len(legend) - 3
    if not any(one.curve for one in kept):
        return [cut(f"{title}: no value yet", width)]
    if rows < MIN_ROWS:
        return []
    axes = _find_axes(kept, log=log)
    columns = width - MARGIN - 1
    with_dots = style.unicode and (style.color or len(kept) == 1)
    draw = _draw_dots if with_dots else _draw_marks
    cells = draw(kept, axes, columns, rows)
    lines = [cut(title, width), *legend]
    for row, line in enumerate(cells):
        share = 1 - row / (rows - 1)
        label = _label(axes.value(share)) if row in (0, rows // 2, rows - 1) else ""
        lines.append(f"{label:>{MARGIN - 2}} |{_join(line, style)}".rstrip())
    first, last = f"epoch {axes.first:.0f}", f"{axes.last:.0f}"
    lines.append(" " * (MARGIN - 1) + "+" + "-" * columns)
    lines.append(" " * MARGIN + first + last.rjust(columns - len(first)))
    return lines


def _draw_legend(series: Sequence[Series], width: int, style: Style) -> list[str]:
    """`* exp3 0.7612   + exp9 0.7401`, as many lines as that takes, two at most."""
    lines, used = [""], 0
    for index, one in enumerate(series):
        last = render_number(one.curve[-1][1]) if one.curve else "-"
        text = cut(f"{_mark(index)} {one.name} {last}", width)
        if used and used + 3 + measure(text) > width:
            if len(lines) == 2:
                lines[-1] += " ..." if used + 4 <= width else ""
                break
            lines, used = [*lines, ""], 0
        lines[-1] += ("   " if used else "") + _color(text, index, style)
        used += measure(text) + (3 if used else 0)
    return lines


def _find_axes(series: Sequence[Series], *, log: bool) -> _Axes:
    points = [point for one in series for point in one.curve]
    first, last = min(epoch for epoch, _ in points), max(epoch for epoch, _ in points)
    values = [_scale(value, log=log) for _, value in points]
    low, high = min(values), max(values)
    if high - low <= 1e-9 * max(abs(low), abs(high)):  # a flat curve is drawn in the middle
        room = abs(high) * 0.05 or 0.5
        low, high = low - room, high + room
    return _Axes(first, max(last, first + 1), low, high, log)


def _scale(value: float, *, log: bool) -> float:
    return math.log10(value) if log else value


Cells = list[list[tuple[str, int]]]  # (character, place of the series), by row, top first


def _draw_dots(series: Sequence[Series], axes: _Axes, columns: int, rows: int) -> Cells:
    """Braille characters: four rows and two columns of dots in each; the last curve is on top."""
    bits = [[0] * columns for _ in range(rows)]
    owners = [[0] * columns for _ in range(rows)]
    for index, one in enumerate(series):
        for x, y in _trace(one.curve, axes, 2 * columns, 4 * rows):
            bits[y // 4][x // 2] |= DOTS[y % 4][x % 2]
            owners[y // 4][x // 2] = index
    return [
        [(chr(BRAILLE + bit) if bit else " ", owner) for bit, owner in zip(*pair, strict=True)]
        for pair in zip(bits, owners, strict=True)
    ]


def _draw_marks(series: Sequence[Series], axes: _Axes, columns: int, rows: int) -> Cells:
    """A mark for each curve, as the legend has it."""
    cells: Cells = [[(" ", 0)] * columns for _ in range(rows)]
    for index, one in enumerate(series):
        for x, y in _trace(one.curve, axes, columns, rows):
            cells[y][x] = (_mark(index), index)
    return cells


def _trace(curve: Curve, axes: _Axes, columns: int, rows: int) -> Iterator[tuple[int, int]]:
    """The dots (column, row from above) of the line through the points."""
    before: tuple[int, int] | None = None
    for epoch, value in curve:
        across, up = axes.place(epoch, value)
        x, y = round(across * (columns - 1)), round((1 - up) * (rows - 1))
        from_x, from_y = before or (x, y)
        steps = max(abs(x - from_x), abs(y - from_y), 1)
        for step in range(1, steps + 1):
            share = step / steps
            yield round(from_x + share * (x - from_x)), round(from_y + share * (y - from_y))
        before = (x, y)


def _join(line: Sequence[tuple[str, int]], style: Style) -> str:
    """The characters of a row; neighbors of one curve share their color code."""
    shown, start = "", 0
    for place in range(1, len(line) + 1):
        if place == len(line) or line[place][1] != line[start][1]:
            text = "".join(char for char, _ in line[start:place])
            shown += text if text.isspace() else _color(text, line[start][1], style)
            start = place
    return shown


def _label(value: float) -> str:
    text = render_number(value)
    return text if len(text) <= MARGIN - 2 else f"{value:.2e}"


def _mark(index: int) -> str:
    return MARKS[index % len(MARKS)]


def _color(text: str, index: int, style: Style) -> str:
    return f"\x1b[{COLORS[index % len(COLORS)]}m{text}\x1b[0m" if style.color else text
