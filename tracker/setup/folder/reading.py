"""A competition folder while it is read: its files, what was said, what has been found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracker.setup.folder.tables import Match, Table, list_above, load_table, match_images
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.image_index import ImageIndex
from tracker.training.numbers import render_count

SHOWN = 5  # line numbers of a kind of problem that are named


@dataclass(frozen=True, kw_only=True)
class Given:
    """What was said on the command line; "" for what is to be found."""

    train_dir: str = ""
    eval_dir: str = ""
    labels: str = ""
    sample: str = ""
    eval_table: str = ""
    id_column: str = ""
    label_column: str = ""
    label_id: str = ""
    name_column: str = ""
    image_table: str = ""
    image_id: str = ""
    ending: str = ""
    group: str | None = None
    data_format: str = ""
    target: str = ""
    answer: str = ""
    classes: Sequence[str] = ()
    metrics: Sequence[str] = ()


@dataclass
class Reading:
    """The folder's files, and what has been found so far."""

    folder: Path
    given: Given
    images: ImageIndex
    tables: list[Table]
    why: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    matches: dict[Path, list[Match]] = field(default_factory=dict)
    with_doubled: bool = False

    def match(self, table: Table) -> list[Match]:
        """The columns of a table that name images, best first."""
        if table.path not in self.matches:
            columns = table.rarely_doubled if self.with_doubled else table.unique
            self.matches[table.path] = match_images(self.images, table, columns)
        return self.matches[table.path]

    def look_for_doubled(self) -> None:
        """From now on, tables in which many images are listed twice name images, too."""
        self.with_doubled = True
        self.matches.clear()

    def show(self, path: Path | str) -> str:
        """A path as people read it: relative to the folder."""
        absolute = self.folder / path
        if absolute == self.folder:
            return "the folder itself"
        return (
            absolute.relative_to(self.folder).as_posix()
            if absolute.is_relative_to(self.folder)
            else str(absolute)
        )

    def choose(self, key: str, text: str) -> Table | None:
        """The table that was given, relative to the folder or to where the command runs."""
        if not text:
            return None
        path = find_path(self.folder, text)
        self.why[key] = "as given"
        known = [table for table in self.tables if table.path == path]
        return known[0] if known else load_table(path)

    def add_rows(self, table: Table, rows: Sequence[int], what: str) -> None:
        """Add a problem of some rows, with the numbers of the first lines."""
        if rows:
            lines = ", ".join(table.lines[row] for row in rows[:SHOWN])
            more = f" and {len(rows) - SHOWN:,} more" if len(rows) > SHOWN else ""
            word = "line" if len(rows) == 1 else "lines"
            place = self.show(table.path)
            self.problems.append(
                f"{render_count(len(rows), 'row')} {what} ({place}, {word} {lines}{more})"
            )


def find_path(folder: Path, text: str) -> Path:
    """A path that was typed: as it stands, or else relative to the competition folder."""
    path = Path(text).expanduser()
    return path.resolve() if path.exists() else folder / path


def find_given_folder(reading: Reading, text: str) -> str:
    """A folder that was typed, relative to the competition folder; raises ConfigError."""
    path = find_path(reading.folder, text).resolve()
    if not path.is_dir() or not path.is_relative_to(reading.folder):
        raise ConfigError(f"{text} is no folder in {reading.folder}", hint="check --data")
    return "" if path == reading.folder else path.relative_to(reading.folder).as_posix()


def need_column(table: Table, name: str) -> str:
    column = table.find_column(name)
    if not column:
        raise DataError(
            f"{table.path} has no column {name}", hint=f"its columns: {', '.join(table.columns)}"
        )
    return column


def has_image(images: ImageIndex, cell: str, folder: str) -> bool:
    return bool(cell) and any(folder in list_above(image.folder) for image in images.find(cell))
