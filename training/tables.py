"""Read CSV, TOML, JSON and YAML; errors name the file and the problem."""

from __future__ import annotations

import csv
import io
import itertools
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import itemgetter
from pathlib import Path
from typing import Any

from tracker.training.errors import ConfigError, DataError, StorageError
from tracker.training.files import check_regular, write_text

LINE = "\n"  # a column of read_table that no file has: the number of the row's (last) line
# Levels of nested tables and lists; no config file or result of a program has more.
DEEPEST = 100
TOO_DEEP = f"tables or lists are nested more than {DEEPEST} deep"
DOTTED = re.compile(  # a key of more parts than that
    rf"""(?<![\w-])(?:(?:[\w-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+\.[ \t]*+){{{DEEPEST}}}"""
)
LARGEST = 1_000_000  # values of a YAML text with its aliases written out
PART = 500  # rows read at once: they fit in the processor's cache

# A cell may be long, as the mask of a large image or packed answers; Python's limit is 131,072.
csv.field_size_limit(1 << 30)


def read_table(path: Path, columns: Sequence[str], /, **defaults: str) -> list[tuple[str, ...]]:
    """The rows of a CSV: the values of `columns`, without blanks around them.

    The column LINE is the line number. A column with a default may be missing. Raises DataError
    when the file or another column is missing, or one of them is there twice.
    """
    rows: list[tuple[str, ...]] = []
    for part in read_columns(path, columns, **defaults):
        rows += zip(*part, strict=True)
    return rows


def read_columns(
    path: Path, columns: Sequence[str], /, **defaults: str
) -> Iterator[list[list[str]]]:
    """Like `read_table`, but in parts and column by column.

    It takes a third of the time of reading row by row, and little memory.
    """
    with _open_table(path) as (names, reader):
        _check_header(path, names, columns, defaults)
        rows_left: Iterator[list[str]] = reader
        header = [LINE, *names] if LINE in columns else names
        if LINE in columns:
            rows_left = ([str(reader.line_num), *row] for row in reader if row)
        positions = {name: header.index(name) for name in columns if name in header}
        last = max(positions.values())
        while part := list(itertools.islice(rows_left, PART)):
            rows = [row for row in part if row]  # without blank lines
            # rows that end early get empty cells
            if min(map(len, rows), default=len(header)) <= last:
                rows = [row + [""] * len(header) for row in rows]
            yield [_take_column(rows, positions.get(name), defaults.get(name)) for name in columns]


def read_header(path: Path) -> list[str]:
    """The names of the columns of a CSV as they stand there; raises DataError."""
    with _open_table(path) as (header, _):
        return header


@contextmanager
def _open_table(path: Path) -> Iterator[tuple[list[str], Any]]:
    """The column names of a CSV and the reader of its rows; raises DataError."""
    try:
        check_regular(path)
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter=_find_delimiter(file.readline()))
            file.seek(0)
            yield [name.strip() for name in next(reader, [])], reader
    except FileNotFoundError:
        raise DataError(f"no such file: {path}") from None
    except OSError as error:
        raise DataError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DataError(
            f"cannot read {path}: it is no UTF-8 text ({error})", hint="save it again as UTF-8"
        ) from error
    except csv.Error as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _find_delimiter(line: str) -> str:
    """What stands between the columns of a table, by its first line: a comma, else ; or a tab."""
    bare = re.sub(r'"[^"]*"', "", line)
    return next((mark for mark in (",", ";", "\t") if mark in bare), ",")


def _check_header(
    path: Path, header: Sequence[str], columns: Sequence[str], defaults: Mapping[str, str]
) -> None:
    """Raise DataError when a wanted column is missing, or is there twice."""
    twice = [name for name in columns if header.count(name) > 1]
    if twice:
        raise DataError(
            f"{path} has two columns {', '.join(twice)}", hint="remove or rename one of them"
        )
    absent = [name for name in columns if name not in {*header, *defaults, LINE}]
    if absent:
        known = f"its columns: {', '.join(header) or 'none'}"
        raise DataError(f"{path} has no column {', '.join(absent)}", hint=known)


def _take_column(rows: Sequence[list[str]], position: int | None, default: str | None) -> list[str]:
    """The cells of one column without blanks around them; the default where there is no column."""
    if position is None:
        return [default or ""] * len(rows)
    # map and itemgetter take a third less time than a comprehension, and a table may be long
    return list(map(str.strip, map(itemgetter(position), rows)))


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a CSV as a whole or not at all; raises StorageError."""
    write_text(path, render_table(columns, rows))


def render_table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """The text of a CSV, with its header."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file; raises StorageError or ConfigError."""
    try:
        check_regular(path)
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError as error:
        raise StorageError(f"no such file: {path}") from error
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error


def read_given_toml(path: Path) -> dict[str, Any]:
    """`read_toml` of a file that the user named: DataError where it is not there."""
    if not path.exists() and not path.is_symlink():
        raise DataError(f"no such file: {path}")
    return read_toml(path)


def parse_toml(text: str) -> dict[str, Any]:
    """The tables of a TOML text; raises ValueError, in one line."""
    if (known := _STATEMENTS.parse(text)) is not None:
        return known
    if DOTTED.search(text):  # tomllib takes time and memory by the square of a key's parts
        raise ValueError(TOO_DEEP)
    tables: dict[str, Any] = _parse_shallow(tomllib.loads, text)
    return tables


class _Statements:
    """The statements of earlier TOML texts, each with its value.

    The configs of many runs differ in few lines, and tomllib takes half a millisecond for one: here
    each different statement is parsed once, by tomllib.
    """

    FIRST = 8  # texts that are parsed as a whole: for few, splitting does not pay
    MOST = 50_000
    HEADER = re.compile(r"\[([A-Za-z0-9_-]+)\]\s*")
    START = re.compile(r"\n(?=[A-Za-z0-9_\[-])")  # of a statement; lists go on with blanks or ]

    def __init__(self) -> None:
        self.texts = 0
        # {text of a statement: (key, value)}; of a header: (its name, None)
        self.known: dict[str, tuple[str, Any]] = {}

    def parse(self, text: str) -> dict[str, Any] | None:
        """The tables of a text of `[section]` and `key = value`; None for any other text."""
        self.texts += 1
        if self.texts <= self.FIRST or '"""' in text or "'''" in text:
            return None
        if len(self.known) > self.MOST:
            self.known.clear()
        tables: dict[str, Any] = {}
        table: dict[str, Any] | None = None
        for part in self.START.split(text):
            found = self.known.get(part) or self._learn(part)
            if found is None:
                return None
            key, value = found
            if part[0] == "[":
                if key in tables:
                    return None
                table = tables[key] = {}
            elif table is None or key in table:
                return None
            else:
                table[key] = value.copy() if type(value) is list else value
        return tables

    def _learn(self, part: str) -> tuple[str, Any] | None:
        """What one statement says; None where it is more than a name and a plain value."""
        if part.startswith("["):
            header = self.HEADER.fullmatch(part)
            found = (header[1], None) if header else None
        else:
            found = self._parse_pair(part)
        if found is not None:
            self.known[part] = found
        return found

    def _parse_pair(self, part: str) -> tuple[str, Any] | None:
        if DOTTED.search(part):
            return None
        try:
            pairs = list(tomllib.loads(part).items())
        except (ValueError, RecursionError):
            return None
        if len(pairs) != 1:
            return None
        items = pairs[0][1] if isinstance(pairs[0][1], list) else [pairs[0][1]]
        return None if any(isinstance(item, dict | list) for item in items) else pairs[0]


_STATEMENTS = _Statements()


def check_depth(value: Any) -> None:
    """Raise ValueError for tables and lists nested so deeply that Python would fail with them."""
    level = [value]
    for _ in range(DEEPEST):
        below: list[Any] = []
        for item in level:
            if isinstance(item, dict):
                below.extend(item.values())
            elif isinstance(item, list):
                below.extend(item)
        if not below:
            return
        level = below
    raise ValueError(TOO_DEEP)


def parse_json(text: str | bytes) -> Any:
    """The value of a JSON text; raises ValueError, in one line."""
    return _parse_shallow(json.loads, text)


def _parse_shallow(parse: Callable[[Any], Any], text: str | bytes) -> Any:
    """What `parse` makes of a text; raises ValueError where that is nested too deeply."""
    try:
        value = parse(text)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    check_depth(value)
    return value


def parse_yaml(text: str | bytes) -> Any:
    """The value of a YAML text, of plain types; raises ValueError, in one line.

    Aliases can make a few lines stand for more values than any memory holds: they are counted
    before any is made.
    """
    import yaml

    loader = None
    try:
        loader = yaml.SafeLoader(text)
        node = loader.get_single_node()
        if node is None:
            return None
        if _count_values(node, {}, 0) > LARGEST:
            raise ValueError(f"its aliases stand for more than {LARGEST:,} values")
        return loader.construct_document(node)
    except RecursionError as error:
        raise ValueError(TOO_DEEP) from error
    except (yaml.YAMLError, LookupError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(" ".join(str(error).split()) or type(error).__name__) from error
    finally:
        if loader is not None:
            loader.dispose()


def _count_values(node: Any, known: dict[int, int], depth: int) -> int:
    """The number of values in a YAML node; raises ValueError when it is too deep or recursive."""
    if depth > DEEPEST:
        raise ValueError(TOO_DEEP)
    if id(node) not in known:
        known[id(node)] = LARGEST + 1  # met again before it is counted: it is within itself
        below = itertools.chain.from_iterable(node.value) if node.id == "mapping" else node.value
        children = below if node.id in ("mapping", "sequence") else ()
        known[id(node)] = 1 + sum(_count_values(child, known, depth + 1) for child in children)
    return known[id(node)]


def parse_toml_value(text: str) -> Any:
    """A TOML number, truth value, list or quoted text; anything else is the text itself."""
    try:
        table = parse_toml(f"value = {text}")
    except ValueError:  # no TOML, or an integer that Python refuses
        return text
    value = table["value"]
    return value if len(table) == 1 and isinstance(value, bool | int | float | str | list) else text


def flatten(values: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables as one dict of dotted keys."""
    return {f"{s}.{k}": v for s, table in values.items() for k, v in table.items()}
