"""Reads ledger.db.sql: its statements for each database, and the columns of its tables.

Every list of columns in the program comes from here.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MAX_INTEGER = 2**31 - 1  # of an INTEGER column in PostgreSQL

# in a checkout this is a link to the file at the top
SCHEMA_FILE = Path(__file__).resolve().parent.parent / "ledger.db.sql"


@dataclass(frozen=True, kw_only=True)
class SchemaColumn:
    """A column of the schema.

    `kind` is INTEGER, TEXT or DOUBLE PRECISION; `references` is `table.column` or "".
    """

    name: str
    kind: str
    required: bool
    primary: bool
    unique: bool
    references: str


@cache
def load_tables(path: Path = SCHEMA_FILE) -> dict[str, tuple[SchemaColumn, ...]]:
    """{table: columns} in the order of the schema. SQLite parses the text, in two milliseconds."""
    with closing(sqlite3.connect(":memory:")) as connection:
        for statement in load_schema("sqlite", path):
            connection.execute(statement)
        names = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY rowid"
        ).fetchall()
        return {name: _read_columns(connection, name) for (name,) in names}


def _read_columns(connection: sqlite3.Connection, table: str) -> tuple[SchemaColumn, ...]:
    keys = connection.execute(
        'SELECT "from", "table", "to" FROM pragma_foreign_key_list(?)', [table]
    )
    references = {name: f"{other}.{key}" for name, other, key in keys}
    sql = (
        "SELECT i.name FROM pragma_index_list(?) l, pragma_index_info(l.name) i WHERE l.origin"
        " = 'u'"
    )
    unique = {name for (name,) in connection.execute(sql, [table])}
    rows = connection.execute('SELECT name, type, "notnull", pk FROM pragma_table_info(?)', [table])
    return tuple(
        SchemaColumn(
            name=name,
            kind=kind,
            required=bool(required),
            primary=bool(primary),
            unique=name in unique,
            references=references.get(name, ""),
        )
        for name, kind, required, primary in rows
    )


def list_columns(table: str, *, kind: str = "", end: str = "") -> tuple[str, ...]:
    """The names of a table's columns without `seq`, which belongs to the chain.

    `kind` and `end` select those of a type or with an ending.
    """
    return tuple(
        column.name
        for column in load_tables()[table]
        if column.name != "seq" and kind in ("", column.kind) and column.name.endswith(end)
    )


def load_schema(dialect: str, path: Path = SCHEMA_FILE) -> list[str]:
    """The statements of ledger.db.sql for a database."""
    _, *sections = path.read_text(encoding="utf-8").split("-- section: ")
    by_name = dict(section.split("\n", 1) for section in sections)
    if dialect == "postgresql":  # psycopg runs many statements at once
        return [by_name["tables"], by_name["postgresql"]]
    statements, pending = [], ""
    for line in (by_name["tables"] + by_name["sqlite"]).splitlines(keepends=True):
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending)
            pending = ""
    return statements
