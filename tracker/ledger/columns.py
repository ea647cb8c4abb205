"""Reads ledger.db.sql: its version, its statements for each database, its tables' columns.

Every list of columns in the program comes from here.
"""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import NamedTuple

MAX_INTEGER = 2**31 - 1  # of an INTEGER column in PostgreSQL

# in a checkout this is a link to the file at the top
SCHEMA_FILE = Path(__file__).resolve().parent.parent / "ledger.db.sql"
ROLES_VERSION = 3  # the schema that added the section "roles"
_STEP = "schema "  # and a number: the section with what that schema added
# What a later schema may add: a default value would change the old rows, and so their hashes.
_ADDED = (
    r"ALTER TABLE (?P<table>\w+) ADD COLUMN (?P<column>\w+) (INTEGER|TEXT|DOUBLE PRECISION)"
    r"( REFERENCES \w+ \(\w+\))?;"
)
_INDEX = r"CREATE INDEX \w+ ON \w+ \([\w, ]+\);"


class SchemaColumn(NamedTuple):
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


def load_schema(
    dialect: str, path: Path = SCHEMA_FILE, *, version: int = ROLES_VERSION
) -> list[str]:
    """The statements of ledger.db.sql for a database.

    A ledger of a `version` before ROLES_VERSION has no section "roles".
    """
    by_name = _read_sections(path)
    added = [statement for step in load_steps(path).values() for statement in step]
    if dialect == "postgresql":  # psycopg runs many statements at once
        roles = [by_name["roles"]] if version >= ROLES_VERSION and "roles" in by_name else []
        return [by_name["tables"], *added, by_name["postgresql"], *roles]
    return [*_split_statements(by_name["tables"]), *added, *_split_statements(by_name["sqlite"])]


def load_roles(path: Path = SCHEMA_FILE) -> str:
    """The statements that schema 3 added to a PostgreSQL ledger."""
    return _read_sections(path)["roles"]


@cache
def load_steps(path: Path = SCHEMA_FILE) -> dict[int, tuple[str, ...]]:
    """{schema: the statements that lead to it from the one before}, the same for both databases.

    Raises ValueError for a statement that could change a row that exists.
    """
    steps = {}
    for name, text in _read_sections(path).items():
        if name.startswith(_STEP):
            statements = tuple(_split_statements(text))
            for statement in statements:
                if not re.fullmatch(_ADDED, statement) and not re.fullmatch(_INDEX, statement):
                    raise ValueError(
                        f"{path.name}, {name}: {statement!r}, expected ALTER TABLE ... ADD COLUMN"
                        " without constraint or default, or CREATE INDEX"
                    )
            steps[int(name.removeprefix(_STEP))] = statements
    return dict(sorted(steps.items()))


@cache
def list_added_columns(table: str, path: Path = SCHEMA_FILE) -> tuple[str, ...]:
    """The columns of a table that a later schema added: older rows were hashed without them."""
    names = []
    for statements in load_steps(path).values():
        for statement in statements:
            added = re.fullmatch(_ADDED, statement)
            if added and added["table"] == table:
                names.append(added["column"])
    return tuple(names)


def read_version(path: Path = SCHEMA_FILE) -> int:
    """The version in the first line of the schema."""
    with path.open(encoding="utf-8") as file:
        return int(file.readline().rpartition("version ")[2].rstrip(".\n"))


def _read_sections(path: Path) -> dict[str, str]:
    """{name: text} of the sections; their names stand at the beginning of a line."""
    _, *sections = path.read_text(encoding="utf-8").split("\n-- section: ")
    return dict(section.split("\n", 1) for section in sections)


def _split_statements(text: str) -> list[str]:
    """The statements of a text without the comments above them."""
    statements, pending = [], ""
    for line in text.splitlines(keepends=True):
        if not pending and (line.startswith("--") or not line.strip()):
            continue
        pending += line
        if sqlite3.complete_statement(pending):
            statements.append(pending.strip())
            pending = ""
    return statements
