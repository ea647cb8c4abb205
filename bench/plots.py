"""Plots of BENCHMARKS.md and README, light and dark, from the points that measurements left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.figures import Point

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OURS = "tracker"
SCHEMES = {  # text, a peer's bars and lines
    "light": ("#1f2328", "#9aa4af"),
    "dark": ("#e6edf3", "#6e7681"),
}
OUR_COLOR = "#2f81f7"
SIZE_INCHES, DPI = (7.2, 2.9), 140


@dataclass(frozen=True)
class Plot:
    """A picture: its file's name, and for each of its panels the points and the title."""

    name: str
    alt: str
    panels: Mapping[str, str]


PLOTS = (
    Plot(
        "bench-logging",
        "Bars: what a logged step costs with tracker and its peers, and how many kill -9 loses",
        {
            "logging-cost": "logging four values: us a step (log scale)",
            "logging-loss": "steps lost after kill -9",
        },
    ),
    Plot(
        "bench-scale",
        "Lines: seconds of commands with 100 to 1,000,000 rows in the ledger, or runs on disk",
        {"scale-ledger": "seconds, by rows of the ledger", "scale-runs": "seconds, by runs"},
    ),
)


def find_plots(points: Iterable[Point]) -> list[Plot]:
    """The plots all of whose panels were measured."""
    measured = {point.plot for point in points}
    return [plot for plot in PLOTS if measured.issuperset(plot.panels)]


def draw_plot(plot: Plot, points: Sequence[Point], folder: Path) -> None:
    """Write a plot's pictures, one for each scheme."""
    import matplotlib

    matplotlib.use("agg")
    from matplotlib import pyplot

    for scheme, (text, _) in SCHEMES.items():
        colors = dict.fromkeys(
            ("text.color", "axes.labelcolor", "xtick.color", "ytick.color", "axes.edgecolor"), text
        )
        with matplotlib.rc_context({**colors, "font.size": 9}):
            figure, axes = pyplot.subplots(1, len(plot.panels), figsize=SIZE_INCHES, layout="tight")
            for (panel, title), place in zip(plot.panels.items(), axes, strict=True):
                draw_panel(place, [one for one in points if one.plot == panel], scheme)
                place.set_title(title, fontsize=9, loc="left")
                place.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"{plot.name}-{scheme}.png", transparent=True, dpi=DPI)
            pyplot.close(figure)


def draw_panel(place: Axes, points: Sequence[Point], scheme: str) -> None:
    """Bars where each series has one point, otherwise lines with logarithmic axes."""
    series: dict[str, list[Point]] = {}
    for point in points:
        series.setdefault(point.series, []).append(point)
    _, gray = SCHEMES[scheme]
    if all(len(found) == 1 for found in series.values()):
        names = list(series)[::-1]
        values = [series[name][0].y for name in names]
        colors = [OUR_COLOR if name == OURS else gray for name in names]
        bars = place.barh(names, values, color=colors)
        place.bar_label(bars, [f"{value:,.0f}" for value in values], padding=3)
        if min(values) > 0:
            place.set_xscale("log")
            place.set_xlim(left=min(1.0, *values), right=max(values) * 8)
        else:
            place.set_xlim(right=max(1.0, max(values) * 1.25))
        return
    for name, found in series.items():
        ordered = sorted(found, key=lambda point: point.x)
        style = "--" if name.startswith("limit") else "-"
        xs, ys = [point.x for point in ordered], [point.y for point in ordered]
        place.plot(xs, ys, style, marker="o", markersize=3, label=name)
    place.set_xscale("log")
    place.set_yscale("log")
    place.set_ylim(0.05, max(20.0, *(point.y for point in points)))
    place.legend(frameon=False, fontsize=7)
