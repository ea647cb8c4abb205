"""probabilities.npz and predictions.csv: the predictions of a run, on disk."""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tracker.training.errors import DataError
from tracker.training.files import atomic_path
from tracker.training.metrics import METRICS, ComputedMetric, Counts
from tracker.training.scores import confusion_matrix, count_classes

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True)
class Predictions:
    """Probabilities or numbers [images, outputs] and the ids of the images.

    Class names, labels and logits where they are known. Labels are class numbers [images], or
    values [images, outputs] where an image has several classes or a number. `groups` has the group
    of each image (its patient, its place) where images of one group are alike, and `group_name` is
    what a group is called; both are empty where images stand for themselves.
    """

    ids: tuple[str, ...]
    probabilities: NDArray[np.float32]
    classes: tuple[str, ...] = ()
    labels: NDArray[Any] | None = None
    logits: NDArray[np.float32] | None = None
    groups: tuple[str, ...] = ()
    group_name: str = ""

    @property
    def has_classes(self) -> bool:
        """Whether each image is labeled with exactly one class."""
        return self.labels is not None and np.ndim(self.labels) == 1


def save_probabilities(path: Path, predictions: Predictions) -> None:
    """Write probabilities.npz or validation.npz as a whole or not at all; raises StorageError."""
    arrays: dict[str, Any] = {
        "ids": np.array(predictions.ids),
        "classes": np.array(predictions.classes),
        "probabilities": predictions.probabilities,
        "logits": predictions.logits,
        "labels": predictions.labels,
        "groups": np.array(predictions.groups) if predictions.groups else None,
        "group_name": np.array(predictions.group_name) if predictions.groups else None,
    }
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file, **{name: array for name, array in arrays.items() if array is not None}
        )


def align(members: Sequence[Predictions], names: Sequence[str]) -> list[Predictions]:
    """The members with the images in the order of the first one.

    Raises DataError when images or classes differ.
    """
    first = members[0]
    aligned = []
    for member, name in zip(members, names, strict=True):
        if member.classes != first.classes:
            raise DataError(
                f"{name} and {names[0]} have different classes",
                hint="members must know the same classes",
            )
        if set(member.ids) != set(first.ids):
            shared = len(set(member.ids) & set(first.ids))
            raise DataError(
                f"{name} and {names[0]} predicted different images: {shared} of"
                f" {len(first.ids)} are shared"
            )
        position = {image: index for index, image in enumerate(member.ids)}
        aligned.append(select(member, [position[image] for image in first.ids]))
    return aligned


def select(predictions: Predictions, positions: Sequence[int]) -> Predictions:
    """The images at these positions, in this order."""
    order = np.array(positions, dtype=np.int64)
    return Predictions(
        ids=tuple(predictions.ids[position] for position in positions),
        probabilities=predictions.probabilities[order],
        classes=predictions.classes,
        labels=None if predictions.labels is None else predictions.labels[order],
        logits=None if predictions.logits is None else predictions.logits[order],
        groups=tuple(predictions.groups[position] for position in positions)
        if predictions.groups
        else (),
        group_name=predictions.group_name,
    )


def measure_classes(
    validation: Predictions, guesses: NDArray[np.int64] | None = None
) -> dict[str, float]:
    """val/NAME of each metric of METRICS, the most decisive last, then val/f1/CLASS.

    Each image must be labeled with a class. `guesses` are the decided class numbers [images], by
    default the most probable ones.
    """
    assert validation.labels is not None  # noqa: S101
    if guesses is None:
        guesses = validation.probabilities.argmax(1).astype(np.int64)
    confusion = confusion_matrix(validation.labels, guesses, validation.probabilities.shape[1])
    counts = count_classes(confusion)
    values = {
        f"val/{name}": _compute(METRICS[name], counts, validation) for name in reversed(METRICS)
    }
    for metric in METRICS.values():
        if metric.by_class is not None:
            by_class = zip(validation.classes, metric.by_class(counts), strict=True)
            values |= {f"val/{metric.name}/{name}": float(value) for name, value in by_class}
    return values


def _compute(metric: ComputedMetric, counts: Counts, validation: Predictions) -> float:
    if metric.from_probabilities is None:
        return float(metric.score(counts))
    assert validation.labels is not None  # noqa: S101
    return metric.from_probabilities(validation.labels, validation.probabilities)


def load_probabilities(path: Path) -> Predictions:
    """Read probabilities.npz or validation.npz; raises DataError when missing or damaged."""
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as file:
            predictions = Predictions(
                ids=tuple(str(name) for name in file["ids"]),
                probabilities=file["probabilities"],
                classes=tuple(str(name) for name in file["classes"]) if "classes" in file else (),
                labels=file.get("labels"),
                logits=file.get("logits"),
                groups=tuple(str(name) for name in file["groups"]) if "groups" in file else (),
                group_name=str(file["group_name"]) if "group_name" in file else "",
            )
    except FileNotFoundError:
        part, call = "evaluation set", "run.save_probabilities"
        if path.name == "validation.npz":
            part, call = "validation images", "run.save_validation"
        raise DataError(
            f"no such file: {path}, the probabilities of the {part}",
            hint=f"train again; a training loop of your own saves them with {call}",
        ) from None
    except _READ_ERRORS as error:
        raise DataError(f"cannot read {path}: {error or type(error).__name__}") from error
    if not _is_consistent(predictions):
        raise DataError(f"cannot read {path}: its arrays do not match")
    return predictions


# Errors of numpy and zipfile about a damaged file, also one that seems encrypted or huge.
_READ_ERRORS = (
    *(
        OSError,
        ValueError,
        LookupError,
        EOFError,
        TypeError,
        AttributeError,
        RuntimeError,
        MemoryError,
    ),
    *(OverflowError, SyntaxError, zlib.error, zipfile.BadZipFile),
)


def _is_consistent(predictions: Predictions) -> bool:
    """Whether there is a row for each id and a column for each class."""
    shape = np.shape(predictions.probabilities)
    numbers = [predictions.probabilities] + [
        part for part in (predictions.labels, predictions.logits) if part is not None
    ]
    return (
        len(shape) == 2
        and all(isinstance(part, np.ndarray) and part.dtype.kind in "fiu" for part in numbers)
        and all(len(predictions.ids) == np.shape(part)[:1][0] for part in numbers if np.ndim(part))
        and len(predictions.classes) in (0, shape[1])
        and len(predictions.groups) in (0, len(predictions.ids))
        and (
            predictions.labels is None
            or np.ndim(predictions.labels) == 1
            or np.shape(predictions.labels) == shape
        )
        and (predictions.logits is None or np.shape(predictions.logits) == shape)
    )
