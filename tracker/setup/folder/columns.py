"""Which table has the labels, in which columns, and which table is the sample submission."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker.setup.folder.joined import Join, find_join
from tracker.setup.folder.reading import Reading, need_column
from tracker.setup.folder.tables import Match, Table, match_column, plain
from tracker.training.errors import DataError
from tracker.training.tables import parse_json

LABEL_NAMES = (
    "label",
    "labels",
    "target",
    "class",
    "category",
    "categoryid",
    "y",
    "ans",
    "species",
)
NONE_FITS, ONLY_ONE, NEAR_NAME, SAME_NAME = range(4)  # how surely a column is the label
# Columns whose rows belong together, the surest first: an image of a patient tells of the others.
GROUPS = (
    r"patient|subject|person|participant|individual|owner",
    r"location|site|station|camera|farm|plot",
    r"seq|sequence|series|group|video|scene|session|case|study",
)
SMALLEST_GROUPING = 5  # different values from which a column groups images


def find_sample(reading: Reading) -> Table | None:
    """The sample submission: a table that is named so."""
    chosen = reading.choose("data.sample", reading.given.sample)
    if chosen:
        return chosen
    named = [
        table
        for table in reading.tables
        if re.search(r"sample|submission", table.name, re.IGNORECASE) and len(table.columns) > 1
    ]
    named.sort(key=lambda table: ("sample" not in table.name.lower(), len(table.path.parts)))
    if not named:
        return None
    reading.why["data.sample"] = "its name says so"
    if len(named) > 1:
        others = ", ".join(reading.show(table.path) for table in named[1:])
        reading.notes.append(
            f"{named[0].name} is taken as the sample, not {others} (--sample FILE takes another)"
        )
    return named[0]


def split_sample(reading: Reading, sample: Table | None) -> tuple[str, tuple[str, ...]]:
    """The id column of the sample, and the columns of the answer."""
    if sample is None:
        return reading.given.id_column or "id", ()
    names = list(sample.columns)
    id_column = sample.find_column(reading.given.id_column) if reading.given.id_column else ""
    if reading.given.id_column and not id_column:
        raise DataError(
            f"{sample.path} has no column {reading.given.id_column}",
            hint=f"its columns: {', '.join(names)}",
        )
    if not id_column:
        matches = reading.match(sample)
        speaking = [match.column for match in matches]
        unique = [name for name in names if name in sample.unique]
        id_column = next(iter([*speaking, *unique]), names[0])
        kind = "that names images" if speaking else "with another value in each row"
        reading.why["competition.id_column"] = f"the first column of {sample.name} {kind}"
    return id_column, tuple(name for name in names if name != id_column)


def find_label_table(reading: Reading, sample: Table | None) -> Table | None:
    """The table that names images and has the columns that the sample asks for."""
    chosen = reading.choose("data.labels", reading.given.labels)
    if chosen:
        return chosen
    if reading.given.data_format not in ("", "csv"):
        return None
    _, asked = split_sample(reading, sample)
    candidates = []
    for table in reading.tables:
        if table is sample:
            continue
        matches = reading.match(table)
        join = None if matches else find_join(reading, table, sample)
        if not matches and join is None:
            continue
        fitting, _ = match_label_columns(reading, join.table if join else table, asked, join)
        found = matches[0].found if matches else len(table.lines)
        said = bool(re.search(r"train|label", table.name, re.IGNORECASE))
        about_test = bool(re.match(r"test|eval", table.name, re.IGNORECASE))
        candidates.append(((fitting, join is None, said, not about_test, found), table))
    candidates = [entry for entry in candidates if entry[0][0] > NONE_FITS]
    if not candidates:
        return None
    candidates.sort(key=lambda entry: entry[0], reverse=True)
    best = candidates[0][1]
    direct = candidates[0][0][1]
    reading.why["data.labels"] = (
        "its rows name images, and it has the labels" if direct else "it has the labels"
    )
    rivals = [
        reading.show(table.path) for key, table in candidates[1:] if key[:3] == candidates[0][0][:3]
    ]
    if rivals:
        reading.notes.append(
            f"labels are read from {reading.show(best.path)}, not {', '.join(rivals)}"
            " (--labels FILE takes another)"
        )
    return best


def match_label_columns(
    reading: Reading, table: Table, asked: Sequence[str], join: Join | None = None
) -> tuple[int, tuple[str, ...]]:
    """The label columns of a table for the answer columns of the sample, and how surely.

    Of two joined tables, only that of the labels has labels.
    """
    given = reading.given.label_column
    if given:
        names = [table.find_column(name.strip()) for name in given.split(",")]
        return (SAME_NAME, tuple(names)) if all(names) else (NONE_FITS, ())
    own = [table.find_column(name) for name in asked]
    if asked and all(own):
        return SAME_NAME, tuple(own)
    ids = {match.column for match in reading.match(table)}
    if join:
        ids = {join.label_id, *(name for name in table.columns if name in join.images.columns)}
    rest = {name: cells for name, cells in table.columns.items() if name not in ids}
    near = _list_near(rest, asked)
    if near:
        return NEAR_NAME, (near[0],)
    named = [name for name in rest if plain(name) in LABEL_NAMES]
    if len(named) == 1 or (len(rest) == 1 and not _is_shared(reading, table, next(iter(rest)))):
        return ONLY_ONE, ((named or list(rest))[0],)
    flags = [name for name, cells in rest.items() if set(cells) <= {"0", "1", "0.0", "1.0"}]
    sure = not asked and len(flags) > 1
    return (ONLY_ONE, tuple(flags)) if sure else (NONE_FITS, ())


def _is_shared(reading: Reading, table: Table, column: str) -> bool:
    """Whether a column has ids by which another table says more of the same rows."""
    if column not in table.unique:
        return False
    known = set(table.columns[column])
    for other in reading.tables:
        same = other.find_column(column) if other is not table else ""
        if same and len(known & set(other.columns[same])) > len(known) / 2:
            return True
    return False


def _list_near(columns: Mapping[str, Sequence[str]], asked: Sequence[str]) -> list[str]:
    """The columns called nearly as the answer, or with the names of its columns as labels."""
    if len(asked) == 1:
        word = plain(asked[0])
        near = [
            name for name in columns if plain(name).startswith(word) or word.startswith(plain(name))
        ]
        return near if len(near) == 1 else []
    wanted = {plain(name) for name in asked}
    words = {name: {plain(cell) for cell in cells if cell} for name, cells in columns.items()}
    return [name for name, found in words.items() if found and found <= wanted]


@dataclass(frozen=True)
class Ids:
    """How rows of the label table name their images; with `join` by another table."""

    label_id: str
    match: Match
    name_column: str = ""
    join: Join | None = None


def find_ids(reading: Reading, table: Table, id_column: str, sample: Table | None) -> Ids:
    """The id column of the label table, and the column with file names where ids are none."""
    given = reading.given
    own_names = given.name_column and table.find_column(given.name_column)
    if given.image_table or not (own_names or reading.match(table)):
        join = find_join(reading, table, sample)
        if join is not None:
            match = match_column(reading.images, join.table, join.name_column)
            return Ids(join.label_id, match, join.name_column, join)
        if given.image_table:
            raise DataError(
                f"{given.image_table} does not name the images of {reading.show(table.path)}",
                hint="say by which columns: --label-id, --image-id and --name-column",
            )
    if given.label_id and not table.find_column(given.label_id):
        raise DataError(f"{table.path} has no column {given.label_id} (--label-id)")
    wanted = table.find_column(given.label_id or id_column)
    if given.name_column:
        match = match_column(reading.images, table, need_column(table, given.name_column))
        if not match.found:
            raise DataError(
                f"no image is named in column {given.name_column} of {table.path}",
                hint="name another column with --name-column",
            )
        return Ids(wanted or given.name_column, match, given.name_column)
    matches = reading.match(table)
    if not matches:
        raise DataError(
            f"no column of {reading.show(table.path)} names the images of {reading.folder}",
            hint="say which: --labels, --label-id or --name-column; where another table has the"
            " file names, --image-table",
        )
    own = [match for match in matches if match.column == wanted]
    if own and own[0].found == matches[0].found:
        return Ids(wanted, own[0])
    if wanted and wanted in table.unique:
        return Ids(wanted, matches[0], matches[0].column)
    return Ids(matches[0].column, matches[0])


def find_groups(table: Table, taken: set[str]) -> tuple[str, ...]:
    """The columns whose rows belong together, by name, the surest first."""
    found = []
    for words in GROUPS:
        for name, cells in table.columns.items():
            different = len(set(cells))
            if (
                name not in taken
                and re.search(words, name, re.IGNORECASE)
                and SMALLEST_GROUPING <= different < len(cells) * 0.9
                and name not in found
            ):
                found.append(name)
    return tuple(found)


def read_names(reading: Reading, others: set[Path]) -> list[Mapping[str, str]]:
    """The tables from a class number to its name: JSON objects and CSVs of two columns."""
    found: list[Mapping[str, str]] = []
    for path in sorted(reading.folder.glob("*.json")):
        try:
            raw = parse_json(path.read_bytes()) if path.stat().st_size < 2**24 else None
        except (OSError, ValueError):
            continue
        if isinstance(raw, dict) and all(isinstance(value, str | int) for value in raw.values()):
            pairs = {str(key): str(value) for key, value in raw.items()}
            found += [pairs, {value: key for key, value in pairs.items()}]
    for table in reading.tables:
        if len(table.columns) == 2 and table.path not in others and not reading.match(table):
            keys, values = table.columns.values()
            pairs = dict(zip(keys, values, strict=True))
            found += [pairs, {value: key for key, value in pairs.items()}]
    return [
        pairs
        for pairs in found
        if all(key.isdecimal() for key in pairs)
        and not any(value.isdecimal() for value in pairs.values())
    ]
