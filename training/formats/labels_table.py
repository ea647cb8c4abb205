"""Format csv: a table of images and what each has: a class, several, a number or 0/1 columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import DataError
from tracker.training.formats.format import (
    IMAGES,
    PLAIN_DEFAULTS,
    PLAIN_INIT_KEYS,
    Format,
    TrainingFolder,
)
from tracker.training.tables import read_table

if TYPE_CHECKING:
    from tracker.training.formats.samples import Sample

MOST_DIGITS = 5  # of the number of a class: every number from 0 on is one
TABLE = "labels.csv"  # in train_dir, where data.labels names no other


def _detect(folder: Path | None, table: Path | None) -> bool:
    return table is not None or (folder is not None and os.path.lexists(folder / TABLE))


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    path = table or folder / TABLE
    labels = {label for (label,) in read_table(path, (column,))}
    if not labels:
        raise DataError(f"{path} has no rows: which classes are there?")
    if all(label.isdecimal() for label in labels):
        longest = max(labels, key=lambda label: (len(label), label))
        if len(longest.lstrip("0")) > MOST_DIGITS:
            raise DataError(
                f"{path}: {longest[:20]} in column {column} is too large for the number of a class",
                hint="competition.label_column names the column of the classes; where the numbers"
                " are what is predicted: competition.target = number",
            )
        return {"classes": [str(number) for number in range(max(map(int, labels)) + 1)]}
    return {"classes": sorted(labels), "answers": "name"}


def _read(source: TrainingFolder) -> list[Sample]:
    from tracker.training.formats.table_rows import read_rows

    return read_rows(source, source.labels or source.folder / TABLE)


LABELS_TABLE = Format(
    name="csv",
    detect=_detect,
    suggest_classes=_suggest_classes,
    read=_read,
    defaults=PLAIN_DEFAULTS,
    init_keys=PLAIN_INIT_KEYS,
    only_keys=("data.labels",),
    images_folder=IMAGES,
)
