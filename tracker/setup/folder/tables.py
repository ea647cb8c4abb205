"""The tables of a competition folder, and which of their columns speak of images."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tracker.training.errors import DataError
from tracker.training.formats.format import IMAGE_SUFFIXES, split_suffix
from tracker.training.formats.image_index import ImageIndex
from tracker.training.tables import LINE, read_columns, read_header

SUFFIXES = (".csv", ".tsv")
LARGEST = 2**28  # bytes of a table that is read; no table of labels has more
LOOKED_AT = 400  # rows that tell whether a column may speak of images
UNNAMED = re.compile(r"(unnamed: \d+)?", re.IGNORECASE)  # the row numbers that pandas writes
SPEAKS = 0.5  # share of the rows with an image from which a column is about images


@dataclass(frozen=True)
class Table:
    """A table as text, by column; `lines` are the line numbers of its rows.

    Columns without a name are left out: they are the numbers of the rows.
    """

    path: Path
    columns: Mapping[str, Sequence[str]]
    lines: Sequence[str]

    @property
    def name(self) -> str:
        """The file's name, without its folders."""
        return self.path.name

    def find_column(self, name: str) -> str:
        """The column of this name, in capitals or not; empty when there is none."""
        if name in self.columns:
            return name
        same = [column for column in self.columns if plain(column) == plain(name)]
        return same[0] if len(same) == 1 else ""

    @cached_property
    def unique(self) -> frozenset[str]:
        """The columns whose values hardly ever repeat, as ids do not."""
        return self._list_different(0.9)

    @cached_property
    def rarely_doubled(self) -> frozenset[str]:
        """The columns in which most values come once, as ids of which some are listed twice."""
        return self._list_different(0.5)

    def _list_different(self, share: float) -> frozenset[str]:
        least = len(self.lines) * share
        return frozenset(name for name, cells in self.columns.items() if len(set(cells)) > least)


@dataclass(frozen=True)
class Match:
    """How many rows of a column have an image, and in which folders; "" is the whole folder."""

    column: str
    rows: int
    found: int
    folders: Mapping[str, int]

    @property
    def speaks(self) -> bool:
        """Whether the column is about images."""
        return self.rows > 0 and self.found >= self.rows * SPEAKS


def plain(name: str) -> str:
    """A column's name in small letters and digits only, to compare it with another."""
    return re.sub(r"[\W_]", "", name.casefold())


def list_tables(folder: Path) -> list[Path]:
    """The tables in a competition folder and in the folders there, by name."""
    places = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]
    found: list[Path] = []
    for place in places:
        with os.scandir(place) as entries:
            names = [entry.name for entry in entries if entry.name.lower().endswith(SUFFIXES)]
        found += [place / name for name in sorted(names) if not name.startswith(".")]
    return found


def load_table(path: Path) -> Table:
    """Read a table whole; raises DataError."""
    if path.is_file() and path.stat().st_size > LARGEST:
        raise DataError(f"{path} is too large for a table of labels")
    header = read_header(path)
    wanted = [
        name
        for name, times in Counter(header).items()
        if times == 1 and not UNNAMED.fullmatch(name)
    ]
    columns: dict[str, list[str]] = {name: [] for name in (LINE, *wanted)}
    for part in read_columns(path, tuple(columns)):
        for cells, more in zip(columns.values(), part, strict=True):
            cells.extend(more)
    lines = columns.pop(LINE)
    return Table(path, columns, lines)


def match_column(images: ImageIndex, table: Table, column: str) -> Match:
    """Compare a column with the images; of a long column a part is looked at first."""
    cells = table.columns[column]
    part = cells[:: max(1, len(cells) // LOOKED_AT)]
    if sum(1 for cell in part if images.find(cell)) < len(part) * SPEAKS / 2:
        return Match(column, len(cells), 0, {})
    found, folders = 0, Counter[str]()
    for cell in cells:
        places = images.find(cell) if cell else []
        found += bool(places)
        for folder in {above for image in places for above in list_above(image.folder)}:
            folders[folder] += 1
    return Match(column, len(cells), found, folders)


def list_above(folder: str) -> list[str]:
    """A relative folder and those around it: a/b, a and the whole, ""."""
    parts = folder.split("/") if folder else []
    return ["/".join(parts[:count]) for count in range(len(parts), -1, -1)]


def match_images(images: ImageIndex, table: Table, columns: Container[str]) -> list[Match]:
    """Which of the columns name an image in each row, best first; those as good in their order."""
    matches = [match_column(images, table, name) for name in table.columns if name in columns]
    return sorted((match for match in matches if match.speaks), key=lambda match: -match.found)


def choose_folder(images: ImageIndex, match: Match, *, training: bool) -> tuple[str, list[str]]:
    """The folder with the images of a column, and others that would do as well.

    It has most of them; of folders that have as many, the one whose name says so, then the one with
    fewest others.
    """
    totals = Counter[str]()
    for folder, count in images.folders.items():
        for above in list_above(folder):
            totals[above] += count
    most = max(match.folders.values())
    full = [folder for folder, count in match.folders.items() if count == most]
    # a folder around another that has the same images says less than that one
    full = [
        folder
        for folder in full
        if not any(
            other != folder and totals[other] == totals[folder] and folder in list_above(other)
            for other in full
        )
    ]
    ranked = sorted(
        full,
        key=lambda name: (-_says(name, training=training), totals[name], len(name), name),
    )
    rivals = [
        name
        for name in ranked[1:]
        if _says(name, training=training) == _says(ranked[0], training=training)
        and name not in list_above(ranked[0])
        and ranked[0] not in list_above(name)
    ]
    return ranked[0], rivals


def _says(folder: str, *, training: bool) -> int:
    """1 for a folder whose name says that it is the wanted one, -1 for the other, else 0."""
    test = bool(re.search(r"test|eval|valid|infer|predict|unlabel", folder, re.IGNORECASE))
    train = bool(re.search(r"train", folder, re.IGNORECASE))
    if test == train:
        return 0
    return 1 if train == training else -1


def find_ending(images: ImageIndex, folder: str, cells: Iterable[str]) -> Counter[str]:
    """What is to be added to the ids of images in a folder, by number of images."""
    endings = Counter[str]()
    for cell in cells:
        if split_suffix(cell)[1].lower() in IMAGE_SUFFIXES:
            continue
        for image in images.find(cell):
            if folder in list_above(image.folder):
                endings[image.suffix] += 1
                break
    return endings
