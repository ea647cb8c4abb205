"""Figures of a data set as PNG files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from tracker.training.inspect.survey import Survey
from tracker.training.pictures.sheets import save_figure

COLORS = {"training": "#4c78a8", "validation": "#f58518"}


def draw_survey(survey: Survey, folder: Path) -> list[Path]:
    """classes.png has images by class, ages.png has people by age.

    Mask, gender and age have panels of their own where they are known.
    """
    labeled = {name: part for name, part in survey.parts.items() if part.classes}
    attributes = next(iter(labeled.values())).attributes
    panels = {"class": {name: part.classes for name, part in labeled.items()}}
    for key in attributes:
        panels[key] = {name: part.attributes[key] for name, part in labeled.items()}
    drawn = [_draw_panels(panels, folder / "classes.png")]
    if survey.age_bands:
        ages = {name: part.ages for name, part in labeled.items()}
        drawn.append(_draw_ages(ages, survey.age_bands, folder / "ages.png"))
    return drawn


def _draw_panels(panels: Mapping[str, Mapping[str, Mapping[str, int]]], path: Path) -> Path:
    """A bar for each name with the parts end to end.

    The classes are on the left, the attributes on the right.
    """
    classes, *rest = panels.items()
    height = max(2.5, 0.3 * len(next(iter(classes[1].values()))) + 1.2)
    figure = Figure(figsize=(11 if rest else 7.5, height), layout="constrained")
    grid = figure.add_gridspec(
        max(1, len(rest)), 2 if rest else 1, width_ratios=[3, 2] if rest else None
    )
    _draw_bars(figure.add_subplot(grid[:, 0]), *classes)
    for row, panel in enumerate(rest):
        _draw_bars(figure.add_subplot(grid[row, 1]), *panel)
    figure.axes[0].legend(
        frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2
    )
    return save_figure(figure, path)


def _draw_bars(axes: Axes, title: str, parts: Mapping[str, Mapping[str, int]]) -> None:
    names = list(next(iter(parts.values())))
    positions, ends = np.arange(len(names)), np.zeros(len(names))
    for part, counts in parts.items():
        widths = np.array([counts[name] for name in names])
        axes.barh(positions, widths, left=ends, height=0.72, color=COLORS[part], label=part)
        ends += widths
    for position, end in zip(positions, ends, strict=True):
        axes.annotate(
            f"{end:.0f}",
            (end, position),
            (4, 0),
            textcoords="offset points",
            va="center",
            fontsize=8,
        )
    axes.set_yticks(positions, names, fontsize=9)
    axes.invert_yaxis()
    axes.set_xlim(0, ends.max() * 1.12 or 1)
    axes.set_title(f"images by {title}", loc="left", fontsize=10)
    _tidy(axes)


def _draw_ages(parts: Mapping[str, Mapping[int, int]], bands: tuple[int, int], path: Path) -> Path:
    """Bars for each year, side by side, because a split by image has people in both parts.

    Lines mark the ages where a class begins.
    """
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    axes = figure.add_subplot()
    width = 0.9 / len(parts)
    for position, (part, ages) in enumerate(parts.items()):
        left = np.array(list(ages)) - 0.45 + position * width
        axes.bar(
            left, list(ages.values()), width=width, align="edge", color=COLORS[part], label=part
        )
    for band in bands:
        axes.axvline(band - 0.5, color="0.35", linestyle="--", linewidth=1)
        axes.annotate(
            f"from {band}",
            (band - 0.5, 1),
            (3, -3),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=8,
            color="0.35",
        )
    axes.margins(x=0.01, y=0.2)
    axes.set_xlabel("age in years")
    axes.set_title("people by age", loc="left", fontsize=10)
    axes.legend(frameon=False, loc="lower right", bbox_to_anchor=(1, 1), ncols=2, borderaxespad=0.2)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    _tidy(axes)
    return save_figure(figure, path)


def _tidy(axes: Axes) -> None:
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(length=0)
