"""CSV and TOML files, read whole with errors that name the file and what is wrong with it."""

from __future__ import annotations

import csv
import io
import itertools
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any

from tracker.training.atomic import check_regular, write_text
from tracker.training.errors import ConfigError, DataError, StorageError

LINE = "\n"  # a column of read_table that no file has: the number of the row's (last) line
PART = 500  # rows: they stay in the processor's cache


def read_table(path: Path, columns: Sequence[str], /, **defaults: str) -> list[tuple[str, ...]]:
    """The values of `columns`, without blanks around them, of every row of a CSV; LINE is its number.

    A column with a default may be missing. Raises DataError when the file or another column is missing, or one of them
    is there twice.
    """
    return [row for part in read_columns(path, columns, **defaults) for row in zip(*part, strict=True)]


def read_columns(path: Path, columns: Sequence[str], /, **defaults: str) -> Iterator[list[list[str]]]:
    """The same in parts, column by column: a third of the time of row by row, and little memory."""
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            if twice := [name for name in columns if header.count(name) > 1]:
                raise DataError(f"{path} has two columns {', '.join(twice)}", hint="take away or rename one of them")
            absent = [name for name in columns if name not in {*header, *defaults, LINE}]
            if absent:
                known = f"its columns: {', '.join(header) or 'none'}"
                raise DataError(f"{path} has no column {', '.join(absent)}", hint=known)
            rows_left: Iterator[list[str]] = reader
            if LINE in columns:
                header = [LINE, *header]
                rows_left = ([str(reader.line_num), *row] for row in reader if row)
            places = {name: header.index(name) for name in columns if name in header}
            last = max(places.values())
            while part := list(itertools.islice(rows_left, PART)):
                rows = list(filter(None, part))  # blank lines
                if min(map(len, rows), default=len(header)) <= last:
                    rows = [row + [""] * len(header) for row in rows]  # some are cut short
                yield [
                    list(map(str.strip, map(itemgetter(places[name]), rows)))
                    if name in places
                    else [defaults[name]] * len(rows)
                    for name in columns
                ]
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV as a whole or not at all; raises StorageError."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_text(path, text.getvalue())


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises StorageError or ConfigError."""
    try:
        check_regular(path)
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise StorageError(f"no such file: {path}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error


def parse_toml_value(text: str) -> Any:
    """A TOML number, truth value, list or quoted text; anything else is the text itself."""
    try:
        table = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):  # no TOML, or an integer or a nesting that Python refuses
        return text
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, bool | int | float | str | list) else text


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one dict of dotted keys."""
    return {f"{s}.{k}": v for s, table in values.items() for k, v in table.items()}
