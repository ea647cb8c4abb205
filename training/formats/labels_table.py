"""Format csv: a table of images and what each has: a class, several, a number or 0/1 columns."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

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

TABLE = "labels.csv"  # in train_dir, where data.labels names no other


def _detect(folder: Path | None, table: Path | None) -> bool:
    return table is not None or (folder is not None and os.path.lexists(folder / TABLE))


def _suggest_classes(folder: Path, table: Path | None, column: str) -> dict[str, Any]:
    labels = {label for (label,) in read_table(table or folder / TABLE, (column,))}
    if all(label.isdecimal() for label in labels):
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
