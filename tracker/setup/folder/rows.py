"""Rows and images that training cannot use, with their line numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tracker.setup.folder.columns import Ids
from tracker.setup.folder.prediction import Prediction
from tracker.setup.folder.reading import Reading, has_image
from tracker.setup.folder.tables import Table, list_above
from tracker.training.numbers import render_count


def check_rows(
    reading: Reading, table: Table, ids: Ids, *, columns: Sequence[str], folder: str, target: str
) -> None:
    """Note the rows that training cannot use, by kind, and what is rare among the labels."""
    cells = table.columns[ids.name_column or ids.label_id]
    if target != "labels" or len(columns) > 1:
        empty = [
            row
            for row in range(len(cells))
            if not all(table.columns[name][row] for name in columns)
        ]
        reading.add_rows(table, empty, "without a label")
    twice = _list_doubled(table, ids)
    reading.add_rows(table, twice, "with an id that an earlier row has, too")
    missing = [row for row, cell in enumerate(cells) if not has_image(reading.images, cell, folder)]
    if ids.join:
        unnamed = [row for row in missing if not cells[row]]
        place = reading.show(ids.join.images.path)
        reading.add_rows(table, unnamed, f"without a file name in {place}")
        missing = [row for row in missing if cells[row]]
    reading.add_rows(table, missing, "whose image is not there")
    if target in ("class", "binary", "ordered") and len(columns) == 1:
        counts = Counter(cell for cell in table.columns[columns[0]] if cell)
        single = [word for word, count in counts.items() if count == 1]
        if single:
            shown = ", ".join(sorted(single)[:3])
            verb = "has" if len(single) == 1 else "have"
            reading.notes.append(
                f"{render_count(len(single), 'class', 'classes')} {verb} a single image ({shown}):"
                " it is trained on and never validated"
            )


def _list_doubled(table: Table, ids: Ids) -> list[int]:
    """The rows whose id an earlier line has; an id may have several images in one line."""
    first: dict[str, str] = {}
    doubled: dict[str, int] = {}
    for row, name in enumerate(table.columns[ids.label_id]):
        line = table.lines[row]
        if first.setdefault(name, line) != line:
            doubled.setdefault(line, row)
    return list(doubled.values())


def note_unlabeled(
    reading: Reading, train: str, prediction: Prediction, cells: Sequence[str]
) -> None:
    """Note the images of the training folder that have neither a label nor are to be predicted."""
    named = {Path(cell.replace("\\", "/")).name for cell in (*cells, *prediction.names)}
    alone = [
        image.relative
        for images in reading.images.by_stem.values()
        for image in images
        if train in list_above(image.folder)
        and image.stem not in named
        and image.stem + image.suffix not in named
    ]
    apart = prediction.folder and (reading.folder / train) in (
        prediction.folder,
        *prediction.folder.parents,
    )
    if alone and not (apart and prediction.folder != reading.folder / train):
        reading.problems.append(
            f"{render_count(len(alone), 'image')} of {reading.show(train)} without a row in the"
            f" label table ({', '.join(alone[:3])}{' ...' if len(alone) > 3 else ''})"
        )
