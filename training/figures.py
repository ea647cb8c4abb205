"""Figures of a run as PNG files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from training.probabilities import Kept
from training.scores import confusion_matrix
from training.sheets import RIGHT, WRONG, Tile, draw_sheet, save_figure

CARDS = 24
Curve = Mapping[int, tuple[int, float]]  # step: (epoch, value)


@dataclass(frozen=True)
class Card:
    """A photograph in a grid: what it shows, what was guessed, and how sure the model was (0 to 1)."""

    path: Path
    name: str
    truth: str
    guess: str
    sure: float


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
    return save_figure(figure, path)


def draw_validation(kept: Kept, paths: Mapping[str, Path], folder: Path) -> list[Path]:
    """confusion.png, and images.png: photographs with truth and guess, the wrong ones first; `paths` by image id."""
    assert kept.labels is not None  # noqa: S101  (the validation set has labels)
    guesses = kept.probabilities.argmax(1).astype(np.int64)
    confusion = confusion_matrix(kept.labels, guesses, len(kept.classes))
    sure = kept.probabilities.max(1)
    order = np.lexsort((np.where(guesses == kept.labels, sure, -sure), guesses == kept.labels))
    cards = [
        Card(paths[kept.ids[i]], kept.ids[i], kept.classes[kept.labels[i]], kept.classes[guesses[i]], float(sure[i]))
        for i in order[:CARDS]
    ]
    return [
        draw_confusion(confusion, kept.classes, folder / "confusion.png"),
        draw_cards(cards, folder / "images.png"),
    ]


def draw_cards(cards: Sequence[Card], path: Path) -> Path:
    """Photographs in a grid, the frame green where the guess is right and red where it is wrong."""
    tiles = []
    for card in cards:
        right = card.truth == card.guess
        words = card.truth if right else f"{card.truth}\nguessed {card.guess}"
        frame = RIGHT if right else WRONG
        tiles.append(Tile(card.path, f"{words}  {card.sure:.2f}", card.name[-30:], frame))
    return draw_sheet(tiles, path)


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
    return save_figure(figure, path)
