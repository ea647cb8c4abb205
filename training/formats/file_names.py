"""Format file_names: the class is in the file name, as in cat.0.jpg or great_pyrenees_12.jpg."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.formats.format import (
    IMAGE_SUFFIXES,
    PLAIN_DEFAULTS,
    PLAIN_INIT_KEYS,
    Format,
    TrainingFolder,
    split_suffix,
)

if TYPE_CHECKING:
    from tracker.training.formats.samples import Sample

NUMBERED = r"(?P<name>.*?[^\W\d_].*?)[ ._-]*\d+"
EDGE = r"[^\W\d_]"  # a letter: a class's name ends where none follows
FEWEST = 2  # images of a class, on average


def find_classes(stems: Sequence[str]) -> list[str]:
    """The class of each file name, which is the name without its number; [] where that is none.

    There are at least two classes, with two images each on average.
    """
    matches = [re.fullmatch(NUMBERED, stem) for stem in stems]
    names = [match["name"] for match in matches if match]
    different = set(names)
    if len(names) < len(stems) or not 2 <= len(different) <= len(stems) / FEWEST:
        return []
    return names


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    stems = [
        path.stem
        for path in folder.iterdir()
        if path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
    ]
    names = find_classes(stems)
    if not names:
        raise DataError(
            f"the file names in {folder} are not a class and a number, as in cat.0.jpg",
            reason="unknown format",
        )
    return {"classes": sorted(set(names)), "answers": "name"}


def _find_class(stem: str, classes: Sequence[str]) -> int | None:
    """The class that a file name begins with; of several, the longest."""
    fitting = [
        index
        for index, name in enumerate(classes)
        if stem.startswith(name) and not re.match(EDGE, stem[len(name) : len(name) + 1])
    ]
    return max(fitting, key=lambda index: len(classes[index]), default=None)


def _read(source: TrainingFolder) -> list[Sample]:
    from tracker.training.formats.samples import Sample

    samples = []
    shown = ", ".join(source.task.classes[:6])
    for name in source.listing.list_files(source.folder):
        file = str(source.folder / name)
        stem, suffix = split_suffix(name.rpartition("/")[2])
        label = _find_class(stem, source.task.classes)
        if suffix.lower() not in IMAGE_SUFFIXES:
            suffixes = ", ".join(sorted(IMAGE_SUFFIXES))
            source.listing.add_problem(name, file, f"not an image ({suffixes})")
        elif label is None:
            source.listing.add_problem(name, file, f"its name begins with no class ({shown})")
        else:
            samples.append(Sample(name, file, label, name))
    return samples


FILE_NAMES = Format(
    name="file_names",
    detect=lambda folder, table: False,  # asked for by name, or found by tracker init --data
    suggest_classes=_suggest_classes,
    read=_read,
    defaults=PLAIN_DEFAULTS,
    init_keys=PLAIN_INIT_KEYS,
)
