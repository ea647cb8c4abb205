"""Format csv: a table of image and label; the label is an answer word or a class name."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.formats.format import PLAIN_DEFAULTS, Format, TrainingFolder
from tracker.training.tables import LINE, read_table

if TYPE_CHECKING:
    from tracker.training.formats.samples import Sample

TABLE = "labels.csv"  # in train_dir, where data.labels names no other
IMAGES = "images"


def _detect(folder: Path | None, table: Path | None) -> bool:
    return table is not None or (folder is not None and os.path.lexists(folder / TABLE))


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    labels = {label for (label,) in read_table(table or folder / TABLE, (column,))}
    if all(label.isdecimal() for label in labels):
        return {"classes": [str(number) for number in range(max(map(int, labels)) + 1)]}
    return {"classes": sorted(labels), "answers": "name"}


def _read(source: TrainingFolder) -> list[Sample]:
    from tracker.training.formats.samples import Sample

    task, table = source.task, source.labels or source.folder / TABLE
    label_of = {name: label for label, name in enumerate(task.classes)}
    label_of |= {word: label for label, word in enumerate(task.answer_words)}
    images = source.folder / IMAGES if (source.folder / IMAGES).is_dir() else source.folder
    samples, seen = [], set()
    for line, name, word in read_table(table, (LINE, task.id_column, task.label_column)):
        if word not in label_of:
            source.listing.add_problem(name, f"{table}:{line}", f"unknown label {word!r}")
        elif name in seen:
            source.listing.add_problem(name, f"{table}:{line}", f"{name} is listed twice")
        else:
            samples.append(Sample(name, images / name, label_of[word], name))
        seen.add(name)
    return samples


LABELS_TABLE = Format(
    name="csv",
    detect=_detect,
    suggest_classes=_suggest_classes,
    read=_read,
    defaults=PLAIN_DEFAULTS,
    only_keys=("data.labels",),
    images_folder=IMAGES,
)
