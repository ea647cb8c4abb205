"""The rows of a table of labels as samples.

Ids are texts: 007 stays 007. Where the ids are no file names, data.ending or data.name_column say
what the images are called; subfolders are searched for them.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from tracker.training.errors import DataError
from tracker.training.formats.format import IMAGE_SUFFIXES, IMAGES, TrainingFolder, split_suffix
from tracker.training.formats.image_index import ANY, ImageIndex
from tracker.training.formats.image_names import ImageName, ImageNames
from tracker.training.formats.samples import LabelValues, Sample
from tracker.training.numbers import read_number
from tracker.training.tables import LINE, read_table

WHOLE_FLOAT = re.compile(r"(-?\d+)\.0+")  # class 3 as a float, which pandas writes beside gaps
FEW_LABELS = 4096  # different cells whose meaning is kept
STRATA = 10  # parts by quantile of which a split takes its share, for a number


def to_whole(word: str) -> str:
    """A class number without the zeros that a float has: 3.0 is 3; other words as they are."""
    match = WHOLE_FLOAT.fullmatch(word)
    return match[1] if match else word


@dataclass(frozen=True)
class ImageFinder:
    """Finds the images of ids below a folder; `ending` is data.ending."""

    folder: Path
    ending: str
    index: ImageIndex

    @classmethod
    def read(cls, folder: Path, ending: str) -> ImageFinder:
        """List a folder once; raises StorageError."""
        return cls(folder, ending, ImageIndex.read(folder))

    def find(self, text: str) -> str | None:
        """The file of the image of an id, a file name or a path; None where there is none."""
        usual = self.index.only.get(text if "." in text else text + self._bare_ending)
        return usual or self._find_unusual(text)

    def place(self, text: str) -> str:
        """The file of the image, or where it would be expected."""
        found = self.find(text)
        if found is not None:
            return found
        bare = split_suffix(text)[1].lower() not in IMAGE_SUFFIXES and self.ending != ANY
        return str(self.folder / (text + self.ending if bare else text))

    def _find_unusual(self, text: str) -> str | None:
        if text.startswith(("/", "../")) and (self.folder / text).is_file():
            return str(self.folder / text)
        found = self.index.find_one(text, self.ending)
        if found is not None:
            return str(self.folder / "_")[:-1] + found.relative  # without ./ where that is it
        # a suffix of its own, or a folder that is hidden
        return str(self.folder / text) if (self.folder / text).is_file() else None

    @cached_property
    def _bare_ending(self) -> str:
        """What a bare id lacks to be the name of an image; "" where more than that is asked."""
        return self.ending if self.ending.lower() in IMAGE_SUFFIXES else ""


def find_images(folder: Path) -> Path:
    """The folder with the images: `images` in it, where there is one."""
    return folder / IMAGES if (folder / IMAGES).is_dir() else folder


@dataclass(frozen=True)
class _Reader:
    """Turns the label cells of a row into (label, values); `word_of` has the index of a word."""

    target: str
    columns: Sequence[str]
    classes: Sequence[str]
    word_of: Mapping[str, int]

    def read(self, *cells: str) -> tuple[int, Sequence[float]]:
        """The class index and the values of a sample; raises ValueError with a reason."""
        if self.target == "number":
            value = read_number(cells[0])
            if math.isnan(value):
                raise ValueError(f"{cells[0]!r} is not a number" if cells[0] else "no label")
            return 0, (value,)
        if len(self.columns) > 1:
            return self._read_flags(cells)
        if self.target == "labels":
            found = {self._find(word) for word in cells[0].split()}
            return 0, LabelValues(len(self.classes), tuple(sorted(found)))
        if not cells[0]:
            raise ValueError("no label")
        return self._find(cells[0]), ()

    def _read_flags(self, cells: Sequence[str]) -> tuple[int, Sequence[float]]:
        values = tuple(read_number(cell) for cell in cells)
        wrong = next((cell for cell in cells if not 0 <= read_number(cell) <= 1), None)
        if wrong is not None:
            raise ValueError(f"label {wrong!r} is not between 0 and 1")
        if self.target == "labels":
            return 0, LabelValues.of_dense(values)
        if sorted(values)[-2:] != [0, 1]:
            raise ValueError(f"{sum(values):g} of the label columns are 1, expected one")
        return values.index(1), ()

    def _find(self, word: str) -> int:
        index = self.word_of.get(word)
        if index is None:
            index = self.word_of.get(to_whole(word))
        if index is None:
            raise ValueError(f"unknown label {word!r}")
        return index


def _build_reader(source: TrainingFolder) -> _Reader:
    task = source.task
    word_of = {name: label for label, name in enumerate(task.classes)}
    word_of |= {word: label for label, word in enumerate(task.answer_words)}
    columns = source.label_columns or (task.label_column,)
    if len(columns) > 1 and len(columns) != len(task.classes):
        raise DataError(
            f"data.label_columns has {len(columns)} columns for {len(task.classes)} classes",
            hint="one for each class, in the order of competition.classes",
        )
    return _Reader(task.target, columns, task.classes, word_of)


def read_rows(source: TrainingFolder, table: Path) -> list[Sample]:
    """The samples of a table; adds the rows that cannot be used to the problems, by line."""
    reader = _build_reader(source)
    # rows of one class are many, and their cells are read once; each number is another
    read = reader.read if reader.target == "number" else lru_cache(FEW_LABELS)(reader.read)
    finder = ImageFinder.read(find_images(source.folder), source.ending)
    names = ImageNames.read(source) if source.image_table else None
    ids = source.label_id or source.task.id_column
    file_names = "" if names else source.name_column
    groups = "" if names and names.has_groups else source.group
    wanted = (LINE, ids, file_names or ids, groups or ids, *reader.columns)
    samples: list[Sample] = []
    refused: list[str] = []  # file names of rows that cannot be used
    line_of: dict[str, str] = {}
    for line, name, file_name, group, *cells in read_table(table, wanted):
        if not name:
            source.listing.add_problem("", f"{table}:{line}", "no id")
            continue
        first = line_of.setdefault(name, line)
        try:
            label, values = read(*cells)
            if first != line:
                raise ValueError(f"{name} is listed twice, first in line {first}")
        except ValueError as error:
            place = f"{table}:{line}"
            source.listing.add_problem(name, place, str(error))
            of_id = names.images.get(name, []) if names else [ImageName(place, name, file_name)]
            refused += [image.file_name for image in of_id]
            continue
        if names is None:
            unit = group or name
            samples.append(Sample(name, finder.place(file_name), label, unit, values=values))
            continue
        for image in names.list_images(name, f"{table}:{line}", source.listing):
            file, unit = finder.place(image.file_name), image.group or group or name
            samples.append(Sample(image.id, file, label, unit, values=values))
    named = {sample.file for sample in samples} | {finder.place(text) for text in refused}
    source.listing.unlabeled += finder.index.list_others(named)
    return add_strata(samples, source.task.target)


def add_strata(samples: list[Sample], target: str) -> list[Sample]:
    """For several labels and for numbers, labels that a split can divide the samples by.

    Of several labels it is the rarest, and one more for samples without any; of a number its
    quantile.
    """
    if target == "labels":
        counts: Counter[int] = Counter()
        for sample in samples:
            counts.update(list_set(sample.values))
        return [
            sample._replace(
                label=min(
                    list_set(sample.values),
                    key=lambda index: (counts[index], index),
                    default=len(sample.values),
                ),
            )
            for sample in samples
        ]
    if target == "number":
        order = sorted(range(len(samples)), key=lambda index: samples[index].values[0])
        parts = min(STRATA, max(1, len(samples) // STRATA))
        for rank, index in enumerate(order):
            samples[index] = samples[index]._replace(label=rank * parts // len(samples))
    return samples


def list_set(values: Sequence[float]) -> list[int]:
    """The classes that a sample has."""
    if isinstance(values, LabelValues):
        return [index for index, value in values.list_pairs() if value >= 0.5]
    return [index for index, value in enumerate(values) if value >= 0.5]
