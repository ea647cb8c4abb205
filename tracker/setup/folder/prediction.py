"""The images to predict: their folder, their ids, and the table that has their file names."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from tracker.setup.folder.columns import Ids
from tracker.setup.folder.reading import Reading, find_given_folder, has_image
from tracker.setup.folder.tables import (
    Match,
    Table,
    choose_folder,
    find_ending,
    match_column,
)


@dataclass(frozen=True)
class Prediction:
    folder: Path | None = None
    table: Path | None = None
    id_column: str = ""
    name_column: str = ""
    ids: int = 0
    found: int = 0
    names: Sequence[str] = ()
    endings: Counter[str] = field(default_factory=Counter)


def find_prediction(
    reading: Reading, sample: Table | None, id_column: str, ids: Ids | None
) -> Prediction:
    """The folder of the images to predict, and the table that maps ids to their names."""
    table = sample or _find_eval_table(reading, id_column)
    chosen = reading.choose("data.eval_table", reading.given.eval_table)
    if table is None and chosen is None:
        return _guess_eval_folder(reading)
    if table is None:
        return _map_ids(reading, None, id_column, ids) or Prediction()
    own = match_column(reading.images, table, id_column)
    if chosen is None and own.found == own.rows > 0:
        return _build_prediction(reading, table, own)
    mapped = _map_ids(reading, table, id_column, ids)
    if mapped is not None:
        return mapped
    if own.found:
        return _build_prediction(reading, table, own)
    reading.notes.append(
        f"no image has an id of {table.name}: training works, predicting does not (--eval-dir DIR"
        " says where the images to predict are)"
    )
    return Prediction(ids=len(table.lines))


def _find_eval_table(reading: Reading, id_column: str) -> Table | None:
    """Without a sample, a table of the images to predict, named so."""
    for table in reading.tables:
        if re.match(r"test|eval", table.name, re.IGNORECASE) and table.find_column(id_column):
            return table
    return None


def _map_ids(
    reading: Reading,
    sample: Table | None,
    id_column: str,
    ids: Ids | None,
) -> Prediction | None:
    """The table that has the sample's ids and a file name for each."""
    wanted = set(sample.columns[id_column]) if sample else set()
    chosen = reading.choose("data.eval_table", reading.given.eval_table)
    for table in [chosen] if chosen else reading.tables:
        if table is sample:
            continue
        column = next(
            (name for name, cells in table.columns.items() if wanted and wanted <= set(cells)), ""
        )
        matches = [match for match in reading.match(table) if match.column != column]
        preferred = [match for match in matches if ids and match.column == ids.name_column]
        if (column or chosen) and (matches or preferred):
            match = (preferred or matches)[0]
            asked = _keep_rows(table, column, wanted) if column else table
            if asked is not table:  # it has the images of training, too
                match = match_column(reading.images, asked, match.column)
            found = _build_prediction(reading, asked, match)
            reading.why.setdefault(
                "data.eval_table", f"{match.column} has the file names of the ids"
            )
            if ids and ids.name_column not in ("", match.column):
                reading.problems.append(
                    f"file names are in column {ids.name_column} for training and in"
                    f" {match.column} of {reading.show(table.path)} for predicting: call them alike"
                )
            count = len(wanted) or len(table.lines)
            return replace(
                found, table=table.path, id_column=column, name_column=match.column, ids=count
            )
    return None


def _keep_rows(table: Table, column: str, wanted: set[str]) -> Table:
    """The rows of a table whose id is wanted; the table itself where all are."""
    rows = [row for row, cell in enumerate(table.columns[column]) if cell in wanted]
    if len(rows) == len(table.lines):
        return table
    columns = {name: [cells[row] for row in rows] for name, cells in table.columns.items()}
    return Table(table.path, columns, [table.lines[row] for row in rows])


def _build_prediction(reading: Reading, table: Table, match: Match) -> Prediction:
    given = reading.given
    folder, rivals = choose_folder(reading.images, match, training=False)
    if given.eval_dir:
        folder, rivals = find_given_folder(reading, given.eval_dir), []
    if rivals:
        shown = ", ".join(reading.show(name) for name in rivals)
        reading.notes.append(
            f"images to predict are read from {reading.show(folder)}; {shown} would do as well"
            " (--eval-dir DIR takes another)"
        )
    cells = table.columns[match.column]
    missing = [row for row, cell in enumerate(cells) if not has_image(reading.images, cell, folder)]
    reading.add_rows(table, missing, "to predict without an image")
    reading.why["data.eval_dir"] = (
        "as given" if given.eval_dir else f"it has the images of {table.name}"
    )
    return Prediction(
        folder=reading.folder / folder,
        ids=len(cells),
        found=len(cells) - len(missing),
        names=cells,
        endings=find_ending(reading.images, folder, cells),
    )


def _guess_eval_folder(reading: Reading) -> Prediction:
    """Without any table, a folder that is named so."""
    if reading.given.eval_dir:
        name = find_given_folder(reading, reading.given.eval_dir)
        reading.why["data.eval_dir"] = "as given"
    else:
        named = [
            folder
            for folder in reading.images.folders
            if re.match(r"test|eval", folder, re.IGNORECASE)
        ]
        if not named:
            return Prediction()
        name = named[0]
        reading.why["data.eval_dir"] = "its name says so"
    count = reading.images.folders.get(name, 0)
    return Prediction(folder=reading.folder / name, ids=count, found=count)
