"""Figures of a run as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.atomic import atomic_path

Curve = Mapping[int, tuple[int, float]]  # step: (epoch, value)


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str], path: Path) -> Path:
    """The confusion matrix [true, predicted] with counts, shaded by share of the true class."""
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    side = max(3.5, 0.45 * len(classes) + 2)
    figure = Figure(figsize=(side, side), layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(len(classes)), classes, rotation=45, ha="right")
    axes.set_yticks(range(len(classes)), classes)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    axes.set_title("validation images, best epoch")
    for (row, column), count in np.ndenumerate(confusion):
        colour = "white" if share[row, column] > 0.5 else "black"
        axes.text(column, row, str(count), ha="center", va="center", color=colour, fontsize=8)
    return _save(figure, path)


def draw_curves(curves: Mapping[str, Curve], best_epoch: int | None, path: Path) -> Path:
    """Loss, accuracy and macro F1 of training and validation by epoch, the best epoch marked."""
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    for place, name in enumerate(("loss", "accuracy", "f1"), start=1):
        axes = figure.add_subplot(1, 3, place)
        for part in ("train", "val"):
            points = curves.get(f"{part}/{name}", {})
            axes.plot(list(points), [value for _, value in points.values()], marker=".", label=part)
        if best_epoch is not None:
            axes.axvline(best_epoch, color="grey", linestyle="--", linewidth=1, label=f"best: epoch {best_epoch}")
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.legend()
    return _save(figure, path)


def _save(figure: Figure, path: Path) -> Path:
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")
    return path
