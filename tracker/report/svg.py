"""Small SVG drawings: scales, round ticks, labels without overlap, text for screen readers.

Sizes are in SVG units: pixels if a drawing is as wide on the page as it was drawn.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass

from markupsafe import Markup

LETTER_WIDTH = 6.6  # of a digit, at font size 11 as in the page's charts
# Where a label is tried around its point, the clearest place first: dx, dy, anchor.
LABEL_OFFSETS = (
    (9, 4, "start"),
    (-9, 4, "end"),
    (0, -10, "middle"),
    (-4, -9, "end"),
    (0, 18, "middle"),
    (8, -7, "start"),
    (-8, -7, "end"),
    (8, 15, "start"),
    (-8, 15, "end"),
)
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scale:
    """Maps values from `low` to `high` to positions from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) / (self.high - self.low) * (self.end - self.start)

    def ticks(self, most: int, *, whole: bool = False) -> list[float]:
        """About `most` round values between low and high, or fewer; with `whole`, only integers."""
        rough = max((self.high - self.low) / most, 1.0 if whole else 0.0)
        power = 10.0 ** math.floor(math.log10(rough))
        step = next(
            power * nice
            for nice in ((1, 2, 5, 10) if whole else (1, 2, 2.5, 5, 10))
            if power * nice >= rough
        )
        first, last = math.ceil(self.low / step - 1e-9), math.floor(self.high / step + 1e-9)
        return [round(number * step, 10) for number in range(first, last + 1)]


def fit_scale(values: Iterable[float], start: float, end: float) -> Scale:
    """A scale with a little room beyond the values."""
    known = list(values)
    low, high = min(known), max(known)
    room = (high - low) * 0.06 or abs(high) * 0.05 or 0.5
    return Scale(low - room, high + room, start, end)


def measure_text(text: str) -> float:
    """The approximate width of a text; an East Asian character is as wide as two others."""
    wide = sum(unicodedata.east_asian_width(letter) in "WF" for letter in text)
    return (len(text) + wide) * LETTER_WIDTH


class Drawing:
    """Collects shapes; `kind` is the CSS class that colors them. Texts are escaped."""

    def __init__(self, width: float, height: float) -> None:
        self.width, self.height = width, height
        self._parts: list[Markup] = []
        self._occupied: list[Box] = []

    def line(self, start: tuple[float, float], end: tuple[float, float], kind: str) -> None:
        """A straight line."""
        shape = Markup('<line class="{}" x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}"/>')
        self._parts.append(shape.format(kind, *start, *end))

    def path(self, steps: str, kind: str) -> None:
        """A path in SVG's own syntax."""
        self._parts.append(Markup('<path class="{}" d="{}"/>').format(kind, steps))

    def text(self, at: tuple[float, float], anchor: str, text: str, kind: str) -> None:
        """A text on its baseline."""
        shape = Markup('<text class="{}" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>')
        self._parts.append(shape.format(kind, *at, anchor, text))

    def dot(self, at: tuple[float, float], radius: float, kind: str, title: str) -> None:
        """A point that shows its title under the mouse, if it has one; labels do not cover it."""
        about = Markup("<title>{}</title>").format(title) if title else Markup("")
        shape = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}">{}</circle>')
        if not title:
            shape = Markup('<circle class="{}" cx="{:.1f}" cy="{:.1f}" r="{}"/>{}')
        self._parts.append(shape.format(kind, *at, radius, about))
        self._occupied.append((at[0] - 4, at[1] - 4, at[0] + 4, at[1] + 4))

    def reserve_line(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Keep labels off the vertical or horizontal line between two points."""
        xs, ys = sorted((start[0], end[0])), sorted((start[1], end[1]))
        self._occupied.append((xs[0] - 1, ys[0] - 1, xs[1] + 1, ys[1] + 1))

    def label(self, at: tuple[float, float], text: str, kind: str) -> None:
        """A text at the first free place around a point, or nothing. Call it after all dots."""
        wide = measure_text(text)
        for dx, dy, anchor in LABEL_OFFSETS:
            left = at[0] + dx - {"start": 0.0, "middle": wide / 2, "end": wide}[anchor]
            box = (left - 3, at[1] + dy - 9, left + wide + 3, at[1] + dy + 2)
            if self._is_free(box):
                self._occupied.append(box)
                self.text((at[0] + dx, at[1] + dy), anchor, text, kind)
                return

    def _is_free(self, box: Box) -> bool:
        left, top, right, bottom = box
        if left < 0 or top < 0 or right > self.width or bottom > self.height:
            return False
        return not any(
            left < r and right > x and top < b and bottom > y for x, y, r, b in self._occupied
        )

    def finish(self, name: str, title: str, about: str) -> Markup:
        """The whole drawing as markup; `name` is unique on the page.

        Title and description are for screen readers.
        """
        head = Markup(
            '<svg class="chart" viewBox="0 0 {:.0f} {:.0f}" role="img" aria-labelledby="{n}-t'
            ' {n}-d"><title id="{n}-t">{}</title><desc id="{n}-d">{}</desc>'
        )
        return (
            head.format(self.width, self.height, title, about, n=name)
            + Markup("").join(self._parts)
            + Markup("</svg>")
        )
