"""Figures of a run as PNG files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from tracker.training.formats.samples import Task
from tracker.training.metrics import is_validation_figure, list_figures
from tracker.training.numbers import render_share
from tracker.training.pictures.sheets import (
    NARROWEST,
    RIGHT,
    WRONG,
    Legend,
    Tile,
    draw_sheet,
    fold_text,
    measure_text,
    save_figure,
)
from tracker.training.predict.probabilities import Predictions
from tracker.training.scores import confusion_matrix

PART_NAMES = {"train": "training", "val": "validation"}
MAX_PANELS = 6  # curves side by side that can still be read
MAX_BARS = 60  # classes in labels.png: more would be too high to look at
MAX_EXAMPLES = 24  # four rows of six: a sheet that fits on a screen
MOST_CLASSES = 120  # beyond, a confusion matrix with numbers would be too large to open
UNNUMBERED_SIDE = 20  # inches
LABEL_SIZE, SHORT_LABEL = 9, 1.6  # of class names: points, and inches that need no second line
EXAMPLES_LEGEND = Legend(
    {RIGHT: "the prediction is right", WRONG: "the prediction is wrong"},
    "Validation images, best epoch: wrong ones first. The number is the probability of the"
    " predicted class.",
)
Curve = Mapping[int, tuple[int, float]]  # step: (epoch, value)
Line = Sequence[tuple[int, float | None]]  # (epoch, value), None where it is no number


@dataclass(frozen=True)
class Example:
    """A photograph with its label, prediction and confidence (0 to 1)."""

    path: Path
    name: str
    label: str
    prediction: str
    confidence: float


def draw_confusion(confusion: NDArray[np.int64], classes: Sequence[str], path: Path) -> Path:
    """The confusion matrix [true, predicted]: counts, and the share of the true class in percent.

    The shading is that share, too: on the diagonal it is the recall. With more than MOST_CLASSES
    there are no numbers.
    """
    share = confusion / np.maximum(confusion.sum(1, keepdims=True), 1)
    count = len(classes)
    numbered = count <= MOST_CLASSES
    cell = min(1.0, max(3 / count, 0.47)) if numbered else max(UNNUMBERED_SIDE / count, 0.02)
    labels = _fold_classes(classes, cell)
    room = max(measure_text(label, LABEL_SIZE) for label in labels)
    side = cell * count
    figure = Figure(
        figsize=(max(side + room + 0.9, NARROWEST), side + room + 1.3), layout="constrained"
    )
    axes = figure.add_subplot()
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    step = max(1, round(1.4 * LABEL_SIZE / 72 / cell))
    positions = range(0, count, step)
    upright = 90 if max(measure_text(label, LABEL_SIZE) for label in labels) > cell else 0
    axes.set_xticks(
        positions, labels[::step], rotation=upright, fontsize=LABEL_SIZE, parse_math=False
    )
    axes.set_yticks(positions, labels[::step], fontsize=LABEL_SIZE, parse_math=False)
    axes.set_xlabel("predicted")
    axes.set_ylabel("true")
    figure.suptitle("validation images, best epoch\n% of the true class (recall)", fontsize=10)
    for row, column in np.argwhere(confusion) if numbered else ():
        text = f"{confusion[row, column]}\n{render_share(float(share[row, column]))}"
        color = "white" if share[row, column] > 0.5 else "black"
        axes.text(
            column,
            row,
            text,
            ha="center",
            va="center",
            color=color,
            fontsize=10 if cell > 0.8 else 6.5,
        )
    return save_figure(figure, path)


def _fold_classes(classes: Sequence[str], cell: float) -> list[str]:
    """Class names, wrapped to the lines that fit in a cell of this size in inches."""
    most = max(1, int(cell * 72 / (1.4 * LABEL_SIZE)))
    longest = max(measure_text(name, LABEL_SIZE) for name in classes)
    width = max(SHORT_LABEL, longest / most * 1.3)  # a line rarely ends at its limit
    return [fold_text(name, width, LABEL_SIZE) if most > 1 else name for name in classes]


def draw_validation(
    predictions: Predictions, paths: Mapping[str, Path], folder: Path, task: Task
) -> list[Path]:
    """The pictures of validation predictions, written to `folder`; `paths` by image id.

    confusion.png and images.png with the wrong predictions first where an image has one class;
    numbers.png where it has a number, and labels.png where it has several classes.
    """
    if task.target == "number":
        return [draw_numbers(predictions, folder / "numbers.png")]
    if task.target == "labels":
        return [draw_labels(predictions, folder / "labels.png")]
    assert predictions.labels is not None  # noqa: S101  (the validation set has labels)
    guesses = predictions.probabilities.argmax(1).astype(np.int64)
    confusion = confusion_matrix(predictions.labels, guesses, len(predictions.classes))
    return [
        draw_confusion(confusion, predictions.classes, folder / "confusion.png"),
        draw_examples(choose_examples(predictions, paths), folder / "images.png"),
    ]


def draw_numbers(predictions: Predictions, path: Path) -> Path:
    """Predicted against true numbers; points on the line are right."""
    assert predictions.labels is not None  # noqa: S101  (the validation set has labels)
    truth, guesses = predictions.labels[:, 0], predictions.probabilities[:, 0]
    figure = Figure(figsize=(5.5, 5.2), layout="constrained")
    axes = figure.subplots()
    ends = [float(min(truth.min(), guesses.min())), float(max(truth.max(), guesses.max()))]
    axes.plot(ends, ends, color="0.6", linewidth=1)
    axes.scatter(truth, guesses, s=12, alpha=0.6)
    axes.set_xlabel("true")
    axes.set_ylabel("predicted")
    axes.set_title(f"{len(truth):,} validation images")
    return save_figure(figure, path)


def draw_labels(predictions: Predictions, path: Path) -> Path:
    """Of each class: how many images have it, and how many the model gives at least 0.5."""
    assert predictions.labels is not None  # noqa: S101  (the validation set has labels)
    truth = predictions.labels > 0.5
    found = truth & (predictions.probabilities >= 0.5)
    wrong = ~truth & (predictions.probabilities >= 0.5)
    # the most frequent classes, the first at the top
    shown = np.argsort(-truth.sum(0), kind="stable")[:MAX_BARS][::-1]
    names = [predictions.classes[index] for index in shown]
    height = 1.6 + 0.3 * len(shown)
    figure = Figure(figsize=(7.5, height), layout="constrained")
    axes = figure.subplots()
    axes.barh(names, truth.sum(0)[shown], color="0.85", label="images with the label")
    axes.barh(names, found.sum(0)[shown], color="#2a7f62", height=0.5, label="found")
    axes.barh(names, -wrong.sum(0)[shown], color="#b5483a", height=0.5, label="given wrongly")
    axes.axvline(0, color="0.3", linewidth=0.8)
    axes.set_xlabel("validation images")
    axes.legend(loc="lower right", fontsize=8)
    return save_figure(figure, path)


def choose_examples(predictions: Predictions, paths: Mapping[str, Path]) -> list[Example]:
    """The photographs to look at: confident mistakes first, then uncertain right predictions."""
    assert predictions.labels is not None  # noqa: S101  (the validation set has labels)
    guesses, confidence = predictions.probabilities.argmax(1), predictions.probabilities.max(1)
    right = guesses == predictions.labels
    order = np.lexsort((np.where(right, confidence, -confidence), right))
    return [
        Example(
            paths[predictions.ids[i]],
            predictions.ids[i],
            predictions.classes[predictions.labels[i]],
            predictions.classes[guesses[i]],
            float(confidence[i]),
        )
        for i in order[:MAX_EXAMPLES]
    ]


def draw_examples(examples: Sequence[Example], path: Path) -> Path:
    """Photographs in a grid; a green frame for a right prediction, red for a wrong one."""
    tiles = []
    for example in examples:
        right = example.label == example.prediction
        title = f"true {example.label}\npredicted {example.prediction}  {example.confidence:.2f}"
        tiles.append(Tile(example.path, title, example.name, RIGHT if right else WRONG))
    return draw_sheet(tiles, path, legend=EXAMPLES_LEGEND)


def draw_curves(curves: Mapping[str, Curve], best_epoch: int | None, path: Path) -> Path:
    """Loss and metrics of training and validation by epoch; the best epoch is marked."""
    names = list_panels(curves)
    figure = Figure(figsize=(11 / 3 * len(names), 3.6), layout="constrained")
    for name, axes in _add_panels(figure, names):
        for part in ("train", "val"):
            points = curves.get(f"{part}/{name}", {})
            axes.plot(list(points), [value for _, value in points.values()], marker=".", label=part)
        if best_epoch is not None:
            axes.axvline(
                best_epoch,
                color="gray",
                linestyle="--",
                linewidth=1,
                label=f"best: epoch {best_epoch}",
            )
    figure.legend(
        *axes.get_legend_handles_labels(), loc="outside upper right", ncols=3, frameon=False
    )
    return save_figure(figure, path)


def draw_two_runs(
    names: Sequence[str],
    curves: Sequence[Mapping[str, Line]],
    best: Sequence[int | None],
    path: Path,
) -> Path:
    """The curves of two runs in the same axes: one color for each run, training dashed.

    A ring marks the best epoch.
    """
    panels = list_panels([*curves[0], *curves[1]])
    figure = Figure(figsize=(13 / 3 * len(panels), 4.2), layout="constrained")
    for name, axes in _add_panels(figure, panels):
        for index, run in enumerate(names):
            for part, style in (("train", "--"), ("val", "-")):
                line = curves[index].get(f"{part}/{name}", [])
                values = [np.nan if value is None else value for _, value in line]
                label = f"{run} {PART_NAMES[part]}"
                epochs = [epoch for epoch, _ in line]
                axes.plot(
                    epochs,
                    values,
                    style,
                    color=f"C{index}",
                    linewidth=1 if part == "train" else 1.8,
                    label=label,
                )
                if part == "val" and best[index] in epochs:
                    position = epochs.index(best[index] or 0)
                    axes.plot(
                        epochs[position],
                        values[position],
                        "o",
                        color=f"C{index}",
                        markersize=9,
                        fillstyle="none",
                    )
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, title="ring: best epoch")
    return save_figure(figure, path)


def list_panels(curves: Iterable[str]) -> list[str]:
    """What has axes of its own: the loss, then each metric of validation, MAX_PANELS at most.

    Without any metric of validation there are those that are measured of classes.
    """
    measured = {name.removeprefix("val/") for name in curves if is_validation_figure(name)}
    usual = list_figures()
    if not measured - {"loss"} or measured & {*usual[1:]}:
        measured |= {*usual}
    own = sorted(measured - {*usual})
    return ["loss", *(name for name in [*usual, *own] if name in measured - {"loss"})][:MAX_PANELS]


def _add_panels(figure: Figure, names: Sequence[str]) -> Iterator[tuple[str, Axes]]:
    """Axes side by side, for the loss and each metric by epoch."""
    for index, name in enumerate(names, start=1):
        axes = figure.add_subplot(1, len(names), index)
        axes.set_title(name)
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        yield name, axes
