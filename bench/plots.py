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
LINE_COLORS = (OUR_COLOR, "#d97706", "#1a9e5c", "#a855f7", "#dc2626", "#64748b")
SIZE_INCHES, DPI = (7.2, 2.9), 140


@dataclass(frozen=True)
class Plot:
    """A picture: its file's name, the title of each panel by the name of its points, and the goal
    that its lines should stay below."""

    name: str
    alt: str
    panels: Mapping[str, str]
    goal: float | None = None


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
        "Lines: seconds of commands, by rows of the ledger and by runs on disk",
        {"scale-ledger": "seconds, by rows of the ledger", "scale-runs": "seconds, by runs"},
        goal=2.0,
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
                own = [one for one in points if one.plot == panel]
                if any(one.x for one in own):
                    draw_lines(place, own, plot.goal, scheme)
                else:
                    draw_bars(place, own, scheme)
                place.set_title(title, fontsize=9, loc="left")
                place.spines[["top", "right"]].set_visible(False)
            figure.savefig(folder / f"{plot.name}-{scheme}.png", transparent=True, dpi=DPI)
            pyplot.close(figure)


def draw_bars(place: Axes, points: Sequence[Point], scheme: str) -> None:
    """A bar with its figure for each series, ours on top; a logarithmic axis where none is 0."""
    _, gray = SCHEMES[scheme]
    values = {point.series: point.y for point in reversed(points)}
    colors = [OUR_COLOR if name == OURS else gray for name in values]
    bars = place.barh(list(values), list(values.values()), color=colors)
    place.bar_label(bars, [f"{value:,.0f}" for value in values.values()], padding=3)
    least, most = min(values.values()), max(values.values())
    if least > 0:
        place.set_xscale("log")
        place.set_xlim(left=min(1.0, least), right=most * 8)
    else:
        place.set_xlim(right=max(1.0, most * 1.25))
    place.xaxis.set_visible(False)  # each bar has its figure
    place.spines["bottom"].set_visible(False)
    place.tick_params(axis="y", length=0)


def draw_lines(place: Axes, points: Sequence[Point], goal: float | None, scheme: str) -> None:
    """A line for each series through whatever sizes were measured; both axes are logarithmic."""
    from matplotlib.ticker import NullLocator

    _, gray = SCHEMES[scheme]
    for name, color in zip(dict.fromkeys(one.series for one in points), LINE_COLORS, strict=False):
        ordered = sorted((one.x, one.y) for one in points if one.series == name)
        xs, ys = zip(*ordered, strict=True)
        place.plot(xs, ys, marker="o", markersize=3.5, color=color, label=name)
    place.set_xscale("log")
    place.set_yscale("log")
    values = [one.y for one in points]
    least, most = min(values), max(values)
    if goal is not None:
        place.axhline(goal, color=gray, linestyle=":", linewidth=1, zorder=0)
        left = min(one.x for one in points)
        place.text(left, goal * 1.1, f"goal {goal:g} s", color=gray, fontsize=7)
        most = max(most, goal)
    place.set_ylim(least / 1.6, most * 12)  # the legend needs the place above the lines
    for axis, unit in ((place.xaxis, ""), (place.yaxis, " s")):
        axis.set_minor_locator(NullLocator())
        axis.set_major_formatter(lambda value, _, unit=unit: f"{value:,.10g}{unit}")
    place.tick_params(axis="x", labelsize=8)
    place.legend(frameon=False, fontsize=7, loc="upper left")
