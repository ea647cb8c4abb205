"""A table of labels whose images another table names, joined by an id that both have."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from tracker.setup.folder.reading import Reading, need_column
from tracker.setup.folder.tables import SPEAKS, Match, Table, match_column, plain


@dataclass(frozen=True)
class Join:
    """Two tables as one: `table` is that of the labels with a row for each image.

    Its columns `name_column` and those that only `images` has are of that table; a row of labels
    without an image keeps its place, and its file name is "". `several` where an id has more images
    than one.
    """

    table: Table
    images: Table
    label_id: str
    image_id: str
    name_column: str
    several: bool

    def explain(self) -> str:
        """Why the two tables belong together."""
        ids = self.label_id
        if self.image_id != ids:
            ids += f", called {self.image_id} there"
        most = "; an id has several images" if self.several else ""
        return f"{self.name_column} there has the file names of the ids ({ids}){most}"


@dataclass(frozen=True)
class _Pair:
    """The columns that have the same ids, and how many of the labels' are among the images'."""

    images: Table
    name: Match
    label_id: str
    image_id: str
    found: int


def find_join(reading: Reading, table: Table, sample: Table | None) -> Join | None:
    """The table that names the images of a table of labels; None where there is none.

    Of several the one that has most of the ids.
    """
    chosen = reading.choose("data.image_table", reading.given.image_table)
    pairs = [
        pair
        for images in ([chosen] if chosen else reading.tables)
        if images is not table and images is not sample
        for pair in _list_pairs(reading, table, images)
    ]
    enough = [pair for pair in pairs if pair.found >= max(1, len(table.lines) * SPEAKS)]
    if not enough:
        return None
    return _join(table, max(enough, key=lambda pair: (pair.found, pair.name.found)))


def _list_pairs(reading: Reading, table: Table, images: Table) -> Iterator[_Pair]:
    given = reading.given
    matches = reading.match(images)
    if given.name_column:
        column = images.find_column(given.name_column)
        matches = [match_column(reading.images, images, column)] if column else []
    if not matches or not matches[0].found:
        return
    name = matches[0]
    lefts = [need_column(table, given.label_id)] if given.label_id else sorted(table.unique)
    rights = [column for column in images.columns if column != name.column]
    if given.image_id:
        rights = [need_column(images, given.image_id)]
    for right in rights:
        known = set(images.columns[right])
        for left in lefts:
            cells = table.columns[left]
            found = sum(1 for cell in cells if cell in known)
            # numbers from 1 are in many columns; of other names, all ids must be there
            sure = found == len(cells) and not all(cell.isdecimal() for cell in cells)
            if plain(left) == plain(right) or given.image_id or sure:
                yield _Pair(images, name, left, right, found)


def _join(table: Table, pair: _Pair) -> Join:
    rows_of: Mapping[str, list[int]] = _index(pair.images.columns[pair.image_id])
    places: list[tuple[int, int]] = []  # the row of the labels and that of the image, -1 for none
    for row, cell in enumerate(table.columns[pair.label_id]):
        places += [(row, other) for other in rows_of.get(cell, [-1])]
    added = {
        name: cells for name, cells in pair.images.columns.items() if name not in table.columns
    }
    added[pair.name.column] = pair.images.columns[pair.name.column]
    columns = {name: [cells[row] for row, _ in places] for name, cells in table.columns.items()}
    for name, cells in added.items():
        columns[name] = ["" if other < 0 else cells[other] for _, other in places]
    lines = [table.lines[row] for row, _ in places]
    return Join(
        table=Table(table.path, columns, lines),
        images=pair.images,
        label_id=pair.label_id,
        image_id=pair.image_id,
        name_column=pair.name.column,
        several=any(len(rows) > 1 for rows in rows_of.values()),
    )


def _index(cells: Sequence[str]) -> dict[str, list[int]]:
    rows: dict[str, list[int]] = defaultdict(list)
    for row, cell in enumerate(cells):
        rows[cell].append(row)
    return dict(rows)
