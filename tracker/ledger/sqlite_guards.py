"""The catalog of a SQLite ledger compared with ledger.db.sql, and whether its file is whole.

Nothing here trusts the catalog's own columns: with writable_schema a trigger can be kept under
another type or name, and an index can be pointed at an empty page.
"""

from __future__ import annotations

import re
import sqlite3
from collections import Counter
from contextlib import closing
from functools import cache
from typing import Any, NamedTuple

from tracker.ledger.columns import load_schema
from tracker.ledger.connection import Query

# of ANALYZE, which whoever owns the file may run: SQLite's planner reads them, nothing else
_STATISTICS = ("sqlite_stat1", "sqlite_stat4")
_USERS_OWN = re.compile(r"CREATE (VIEW|INDEX) ")  # a view, or an index that refuses no row
# Each row of the table is looked up in the index; a row that the index lacks can be sent twice.
_NOT_IN_INDEX = (
    "SELECT count(*) AS n FROM submissions a NOT INDEXED WHERE a.{column} IS NOT NULL AND NOT"
    " EXISTS (SELECT 1 FROM submissions b INDEXED BY {index} WHERE b.{column} = a.{column} AND"
    " b.seq = a.seq)"
)
_UNIQUE_INDEXES = {
    "number": "sqlite_autoindex_submissions_1",
    "predictions_fingerprint": "sqlite_autoindex_submissions_2",
}


class _Entry(NamedTuple):
    """A row of the catalog."""

    kind: str
    name: str
    table: str
    sql: str


def check_catalog(query: Query) -> str:
    """The problem of the first table, index, trigger or view; empty without one."""
    sql = "SELECT type, name, tbl_name, sql FROM sqlite_master"
    actual = [_read_entry(row) for row in query(sql, {})]
    expected = {entry.name: entry for entry in _list_expected()}
    names = Counter(entry.name for entry in actual)
    for entry in sorted(actual):
        if names[entry.name] > 1:
            return f"the catalog has {entry.name} {names[entry.name]} times: rows can be changed"
        if entry.name not in expected and not _is_users_own(entry):
            return (
                f"the {entry.kind} {entry.name} is not one of the ledger's: it may change or drop"
                " rows"
            )
    by_name = {entry.name: entry for entry in actual}
    for name in sorted(expected):
        if by_name.get(name) != expected[name]:
            what = "is not as in ledger.db.sql" if name in by_name else "is missing"
            if expected[name].kind == "index":
                return f"the index {name} {what}"
            return f"the guard {name} {what}: rows can be changed"
    return ""


@cache
def _list_expected() -> tuple[_Entry, ...]:
    """The catalog of a new ledger, as SQLite itself makes it from ledger.db.sql."""
    with closing(sqlite3.connect(":memory:")) as connection:
        connection.row_factory = sqlite3.Row
        for statement in load_schema("sqlite"):
            connection.execute(statement)
        rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
    return tuple(_read_entry(row) for row in rows)


def _read_entry(row: Any) -> _Entry:
    sql = " ".join(str(row["sql"] or "").split()).rstrip("; ")
    return _Entry(str(row["type"]), str(row["name"]), str(row["tbl_name"]), sql)


def _is_users_own(entry: _Entry) -> bool:
    """Whether an entry that is not the ledger's can neither change nor refuse a row.

    Its text counts: SQLite reads the text, whatever the catalog calls it.
    """
    if entry.name in _STATISTICS:
        return entry.sql.startswith(f"CREATE TABLE {entry.name}(")
    match = _USERS_OWN.match(entry.sql)
    is_hidden = entry.name.startswith("sqlite_")
    return not is_hidden and match is not None and match[1].lower() == entry.kind


def check_unique_indexes(query: Query) -> str:
    """Why a unique index of the submissions cannot be trusted; empty where it can.

    Milliseconds: it reads no answers. An emptied index would let the same predictions in twice.
    """
    for column, index in _UNIQUE_INDEXES.items():
        lost = query(_NOT_IN_INDEX.format(column=column, index=index), {})[0]["n"]
        if lost:
            return (
                f"the unique index of submissions.{column} lacks {lost} of its rows: predictions"
                " could be sent twice"
            )
    return ""


def check_integrity(query: Query) -> str:
    """What SQLite says of its file: every page, and whether each index has the table's rows."""
    found = [str(row["integrity_check"]) for row in query("PRAGMA integrity_check(3)", {})]
    lines = " ".join("; ".join(found).split())
    return "" if lines == "ok" else f"the file is damaged: {lines}"
