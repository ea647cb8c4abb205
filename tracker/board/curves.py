"""Curves as drawings: one metric of one run or two, by epoch."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from markupsafe import Markup

from tracker.report.charts import render_ticks
from tracker.report.svg import Drawing, Scale, fit_scale
from tracker.training.numbers import render_float

Points = Sequence[tuple[int, float]]  # (epoch, value), by epoch
KINDS = ("curve", "curve other")
LEFT, TOP, BOTTOM = 46.0, 12.0, 22.0
LARGE = 100_000.0  # a diverged loss: its digits have no room
MAX_DOTS = 12  # of a longer curve only the last point is a dot


def draw_curves(
    title: str,
    curves: Mapping[str, Points],
    *,
    width: float,
    height: float,
    name: str,
    epochs: int | None = None,
) -> Markup:
    """At most two curves on the same axes, the first in the stronger color; empty without a point.

    `epochs` is the last one to come, where that is known: what is left of the run stays blank.
    """
    known = {key: _drop_non_finite(points) for key, points in curves.items()}
    known = {key: points for key, points in known.items() if points}
    if not known:
        return Markup("")
    every = [point for points in known.values() for point in points]
    last = max(epochs or 1, *(epoch for epoch, _ in every))
    first = min(epoch for epoch, _ in every)
    x = Scale(first - 0.5, max(last, first) + 0.5, LEFT, width - 10)
    y = fit_scale([value for _, value in every], height - BOTTOM, TOP)
    drawing = Drawing(width, height)
    _draw_axes(drawing, x, y)
    for kind, (key, points) in reversed(list(zip(KINDS, known.items(), strict=False))):
        _draw_curve(drawing, kind, key, points, (x, y))
    return drawing.finish(name, title, describe_curves(known))


def describe_curves(curves: Mapping[str, Points]) -> str:
    """The curves in words: how many epochs, and the last value of each."""
    texts = []
    for key, points in curves.items():
        epoch, value = points[-1]
        texts.append(f"{key} {render_float(value)} in epoch {epoch}")
    return f"{', '.join(texts)}."


def _drop_non_finite(points: Points) -> Points:
    return [(epoch, value) for epoch, value in points if math.isfinite(value)]


def _draw_axes(drawing: Drawing, x: Scale, y: Scale) -> None:
    ticks = y.ticks(6)
    large = max(map(abs, ticks), default=0.0) >= LARGE
    texts = [render_float(tick) for tick in ticks] if large else render_ticks(ticks)
    for tick, text in zip(ticks, texts, strict=True):
        drawing.line((x.start, y(tick)), (x.end, y(tick)), "grid")
        drawing.text((x.start - 8, y(tick) + 4), "end", text, "tick")
    for tick in x.ticks(6, whole=True):
        drawing.text((x(tick), drawing.height - 6), "middle", f"{tick:.0f}", "tick")


def _draw_curve(
    drawing: Drawing, kind: str, key: str, points: Points, axes: tuple[Scale, Scale]
) -> None:
    x, y = axes
    if len(points) > 1:
        steps = "L".join(f"{x(epoch):.1f} {y(value):.1f}" for epoch, value in points)
        drawing.path(f"M{steps}", kind)
    dots = points if len(points) <= MAX_DOTS else points[-1:]
    for epoch, value in dots:
        at = (x(epoch), y(value))
        drawing.dot(at, 3, kind, f"{key}, epoch {epoch}: {render_float(value)}")
