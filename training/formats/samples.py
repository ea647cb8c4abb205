"""Images as plain data, which the other modules pass to each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from tracker.training.scorers import Outcome, Parameters

if TYPE_CHECKING:
    from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class TaskMetric:
    """A metric of the competition that is computed from true and predicted values.

    `function` is the judge's own one, of an `Outcome`, where the kind is a function; it raises
    DataError or ConfigError where it fails. It can be pickled: processes share the task.
    """

    name: str
    kind: str
    higher_is_better: bool
    parameters: Parameters = field(default_factory=Parameters)
    function: Callable[[Outcome], float] | None = None


@dataclass(frozen=True, kw_only=True)
class Task:
    """The task of a competition: its classes, and the columns and answers of its files.

    `target` is what an image has, as in competition.target.
    `answer` is what a row of predictions.csv says, in `columns`; `metrics` are those of the
    competition that are computed here, the deciding one first. `held_out` are {id: SHA-256 of the
    file} of labeled images that are predicted and never trained or validated on.
    """

    classes: tuple[str, ...]
    id_column: str
    label_column: str
    answer_words: tuple[str, ...]
    target: str = "class"
    answer: str = "class"
    answer_columns: tuple[str, ...] = ()
    top_k: int = 5
    metrics: tuple[TaskMetric, ...] = ()
    held_out: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Person:
    """The person in a photograph, after label fixes; age in years."""

    id: str
    gender: str
    age: int


@dataclass(frozen=True)
class LabelValues(Sequence[float]):
    """A number between 0 and 1 for each of `size` classes, of which only those above 0 are held.

    An image has few of thousands of classes. `places` are the indices of those classes, rising;
    `shares` their numbers, () where each is 1.
    """

    size: int
    places: tuple[int, ...]
    shares: tuple[float, ...] = ()

    @classmethod
    def of_dense(cls, values: Sequence[float]) -> LabelValues:
        """The same numbers, which were all written out."""
        places = tuple(index for index, value in enumerate(values) if value)
        shares = tuple(float(values[index]) for index in places)
        return cls(len(values), places, () if all(share == 1 for share in shares) else shares)

    def list_pairs(self) -> list[tuple[int, float]]:
        """(class, number) of those above 0."""
        return list(zip(self.places, self.shares or [1.0] * len(self.places), strict=True))

    def __len__(self) -> int:
        return self.size

    def __iter__(self) -> Iterator[float]:
        dense = [0.0] * self.size
        for place, share in self.list_pairs():
            dense[place] = share
        return iter(dense)

    @overload
    def __getitem__(self, index: int) -> float: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[float]: ...
    def __getitem__(self, index: int | slice) -> float | Sequence[float]:
        return list(self)[index]


def stack_dense(values: Sequence[Sequence[float]]) -> NDArray[Any]:
    """The values of several samples, all written out: float32 [images, outputs]."""
    import numpy as np

    if not values or not isinstance(values[0], LabelValues):
        return np.array(values, dtype=np.float32)
    stacked = np.zeros((len(values), len(values[0])), dtype=np.float32)
    for row, held in zip(stacked, values, strict=True):
        if isinstance(held, LabelValues):
            row[list(held.places)] = held.shares or 1.0
        else:
            row[:] = held
    return stacked


class Sample(NamedTuple):  # made in a third of a frozen dataclass's time
    """A training image in `file`; a split by profile does not divide a `group`.

    `label` is the index of its class. Where an image has several classes or a number, `values` has
    0 or 1 for each class (`LabelValues`) or the number, and `label` is only what a split is
    stratified by.
    `fold` is that of data.fold_file, None without one.
    """

    id: str
    file: str  # a Path takes four times the memory of its text, and there may be a million
    label: int
    group: str
    person: Person | None = None
    values: Sequence[float] = ()
    fold: int | None = None

    @property
    def path(self) -> Path:
        """The file as a path."""
        return Path(self.file)


class EvalImage(NamedTuple):
    """An image to predict, in `file`."""

    id: str
    file: str

    @property
    def path(self) -> Path:
        """The file as a path."""
        return Path(self.file)


@dataclass(frozen=True)
class LoadedData:
    """The checked data of a run.

    `fingerprint` covers ids, labels and `hashes`, the SHA-256 by image file. `notes` are
    sentences for the user: what was left out, and what lies beside the images. `balance` is one
    about how even the split is.
    """

    train: tuple[Sample, ...]
    val: tuple[Sample, ...]
    eval: tuple[EvalImage, ...]
    fingerprint: str
    hashes: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    balance: str = ""


@dataclass(frozen=True)
class DataReport:
    """The result of a check of the data; `data` only where there are no `problems`.

    `excludable` are (path, reason) of the training images that are left out and of those that would
    have to be;
    `broken` is how many of them are the latter.
    """

    problems: tuple[str, ...]
    excludable: tuple[tuple[str, str], ...]
    broken: int
    notes: tuple[str, ...]
    data: LoadedData | None = None
