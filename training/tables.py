"""CSV and TOML files, read whole with errors that name the file and what is wrong with it."""

from __future__ import annotations

import csv
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.errors import ConfigError, DataError, StorageError


def read_table(path: Path, columns: Sequence[str]) -> list[tuple[str, ...]]:
    """The values of `columns`, without blanks around them, of every row of a CSV; the first row is line 2.

    Raises DataError when the file or a column is missing.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            header = [name.strip() for name in next(reader, [])]
            rows = list(filter(None, reader))
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"cannot read {path}: {error}") from error
    absent = [name for name in columns if name not in header]
    if absent:
        raise DataError(f"{path} has no column {', '.join(absent)}", hint=f"its columns: {', '.join(header) or 'none'}")
    places = [header.index(name) for name in columns]
    if any(len(row) <= max(places) for row in rows):
        rows = [row + [""] * len(header) for row in rows]  # some are cut short
    # column by column: a third of the time of row by row
    return list(zip(*([row[place].strip() for row in rows] for place in places), strict=True))


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises StorageError or ConfigError."""
    try:
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
    except tomllib.TOMLDecodeError:
        return text
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, bool | int | float | str | list) else text


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one dict of dotted keys."""
    return {f"{s}.{k}": v for s, table in values.items() for k, v in table.items()}
