"""The ledger's read-only connection, its schema version and its errors.

It does without SQLAlchemy, so that commands start fast. Nothing here can write: SQLite is opened
with mode=ro, PostgreSQL in a read-only session.
"""

from __future__ import annotations

import json
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tracker.core.errors import LedgerError, TrackerError
from tracker.core.first_read import notify_read
from tracker.core.sqlite_files import open_read_only
from tracker.ledger.columns import load_steps, read_version
from tracker.training.errors import StorageError, first_line, mask_secrets
from tracker.training.libraries import require

SCHEMA_VERSION = read_version()
# What schema 3 added concerns the roles of a PostgreSQL: a ledger of schema 2 opens as before.
OPENS_FROM = max([2, *load_steps()])
# what an upgrade by a step of migrations.py writes into the table migrations
MIGRATION_NAMES = {2: "imported submissions", 3: "roles"}
FIRST_NAME = "first schema"  # what version 0.1 wrote into a new ledger
SQLITE = "sqlite:///"  # before the path of a ledger's file
BUSY_TIMEOUT_S = 60.0  # a wait for other writers; each needs milliseconds, a slow disk seconds
Row = dict[str, Any]
Query = Callable[[str, Mapping[str, Any]], list[Row]]


class Reader:
    """Asks the ledger at one moment: called, it is a `Query`."""

    def __init__(self, cursor: Any, to_style: Callable[[str], str]) -> None:
        self._cursor, self._to_style = cursor, to_style

    def __call__(self, sql: str, parameters: Mapping[str, Any]) -> list[Row]:
        rows = self.list_tuples(sql, parameters)
        names = [column[0] for column in self._cursor.description]
        return [dict(zip(names, row, strict=True)) for row in rows]

    def list_tuples(self, sql: str, parameters: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """The rows without the names of their columns: for very many."""
        self._cursor.execute(self._to_style(sql), dict(parameters))
        rows: list[tuple[Any, ...]] = self._cursor.fetchall()
        return rows


def read_rows(url: str, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """The rows of one query with `:name` parameters; raises LedgerError or StorageError."""
    with open_reader(url) as query:
        return query(sql, parameters or {})


@contextmanager
def open_reader(url: str, *, anew: bool = False) -> Iterator[Reader]:
    """For queries with `:name` parameters, which all see the ledger at the same moment.

    With `anew` it is the moment of this call, also inside `one_moment`. Raises LedgerError when
    the ledger is missing, foreign, newer or older, StorageError when it cannot be read.
    """
    if url in _held.queries and not anew:
        with _translate_errors(url):
            yield _held.queries[url]
        return
    with _connect(url) as (cursor, to_style):
        query = Reader(cursor, to_style)
        check_version(query("SELECT max(version) AS version FROM migrations", {})[0]["version"])
        notify_read(url, query)
        yield query


class _Held(threading.local):
    """The ledgers that this thread reads at one moment, by their addresses."""

    def __init__(self) -> None:
        self.queries: dict[str, Reader] = {}


_held = _Held()


@contextmanager
def one_moment(url: str) -> Iterator[None]:
    """Every `open_reader` of this ledger inside sees the same moment, over one connection.

    What a list and its marks are made of belongs together then, and a server gives one connection
    instead of ten. A row that is written inside is not seen there. Raises as `open_reader` does.
    """
    with open_reader(url) as query:
        if url in _held.queries:
            yield
            return
        _held.queries[url] = query
        try:
            yield
        finally:
            del _held.queries[url]


@contextmanager
def _connect(url: str) -> Iterator[tuple[Any, Any]]:
    """(cursor in a read-only transaction, function that turns `:name` into the driver's style)."""
    if url.startswith(SQLITE):
        path = Path(url.removeprefix(SQLITE))
        if not path.is_file():
            raise missing_ledger_error(path)
        with _translate_errors(url):
            connection = open_read_only(path, timeout_s=BUSY_TIMEOUT_S)
            try:
                connection.execute("BEGIN")
                yield connection.cursor(), str
            finally:
                connection.close()
        return
    require("psycopg")
    import psycopg

    with (
        _translate_errors(url),
        psycopg.connect(libpq_url(url), connect_timeout=10) as server,
    ):
        server.read_only = True
        server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
        yield server.cursor(), lambda sql: re.sub(r"(?<!:):(\w+)", r"%(\1)s", sql)


@contextmanager
def _translate_errors(url: str) -> Iterator[None]:
    """Raise the database's errors as LedgerError or StorageError."""
    if url.startswith(SQLITE):
        try:
            yield
        except (sqlite3.Error, UnicodeDecodeError) as error:
            raise translate_sqlite(error, Path(url.removeprefix(SQLITE))) from error
        return
    import psycopg

    try:
        yield
    except psycopg.Error as error:
        raise translate_postgres(error, url) from error


def parse_column(text: str) -> Any:
    """The value of a column that has JSON; raises LedgerError for a damaged one."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise LedgerError(
            f"a row of the ledger is damaged: {first_line(error)}",
            hint="tracker ledger verify names the row; tracker ledger restore makes a ledger of a"
            " backup",
        ) from error


def check_version(version: int | None) -> None:
    """Raise LedgerError unless the ledger has a schema that this program uses as it is."""
    check_not_newer(version)
    if version is not None and version < OPENS_FROM:
        raise LedgerError(
            f"the ledger has schema {version}, this program needs {SCHEMA_VERSION}",
            hint="tracker ledger upgrade makes a backup and updates it",
        )


def check_not_newer(version: int | None) -> None:
    """Raise LedgerError unless the database is a ledger that this program can read or upgrade."""
    if version is None:
        raise foreign_database_error()
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {version}, this program knows {SCHEMA_VERSION}",
            hint="update this program: git pull in its checkout, then pip install .",
        )


def foreign_database_error() -> LedgerError:
    """The error for a database without the tables of a ledger."""
    return LedgerError(
        "this database is not a tracker ledger",
        hint="check ledger.url in tracker.toml; tracker ledger init makes one in an empty database",
    )


def missing_ledger_error(path: Path) -> LedgerError:
    """The error for a missing ledger file, which is never replaced by an empty one silently."""
    hint = "restore it from a backup; for a new empty one: tracker ledger init"
    if logs := find_logs(path):
        hint = (
            f"its log {logs[0].name} is still there and may have its newest rows: put ledger and"
            f" log back together, or {hint}"
        )
    return LedgerError(f"no ledger at {path}", hint=hint)


def refuse_leftover_logs(path: Path) -> None:
    """Raise LedgerError when logs of a lost ledger are next to the `path` of a new one."""
    logs = find_logs(path)
    # checked in this order, because another process makes the ledger before its log
    if logs and not path.exists():
        raise LedgerError(
            f"{logs[0]} belongs to a ledger that is gone: SQLite would mix it into the new ledger,"
            " or delete it",
            hint=(
                f"first move away all files named {path.name}-*; they may have rows of the lost"
                " ledger"
            ),
        )


def find_logs(path: Path) -> list[Path]:
    """SQLite's log files next to a ledger file."""
    logs = [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]
    return [log for log in logs if log.exists()]


def translate_sqlite(error: sqlite3.Error | UnicodeDecodeError, path: Path) -> TrackerError:
    """SQLite's error as LedgerError or StorageError.

    Of a damaged database even the text of the error may be no text: a UnicodeDecodeError.
    """
    text = "malformed" if isinstance(error, UnicodeDecodeError) else str(error)
    if "no such table: migrations" in text:
        return foreign_database_error()
    if "not a database" in text or "malformed" in text:
        return LedgerError(
            f"{path} is not a readable ledger: {text}", hint="restore it from a backup"
        )
    if "locked" in text:
        return LedgerError(
            f"{path} is locked by another program", hint="close it there and try again"
        )
    if "full" in text or "disk I/O" in text:
        return StorageError(
            f"cannot write {path}: {text}",
            hint="check the disk, or free some space; the ledger is unchanged",
        )
    if "readonly" in text or "unable to open" in text:
        return StorageError(
            f"cannot use {path}: {text}", hint="check the permissions of the file and its folder"
        )
    return LedgerError(f"{path}: {text}")


def translate_postgres(error: Exception, url: str) -> TrackerError:
    """psycopg's error as LedgerError, without the password."""
    if 'relation "migrations" does not exist' in str(error):
        return foreign_database_error()
    text = first_line(error)
    hint = (
        "check host and port, that the server runs, and that it is open to this machine: its owner"
        " sets TRACKER_BIND, as init --team HOST --bind does"
    )
    if "permission denied" in text or "must be owner" in text or "row-level security" in text:
        hint = "members read and add rows; only the owner of the ledger may do this"
    elif "authentication failed" in text:
        hint = _explain_new_secret(url)
    return LedgerError(f"ledger {mask_secrets(url)}: {text}", hint=hint)


def _explain_new_secret(url: str) -> str:
    """What a member types whose secret is not valid, or not any more."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port not in (None, 5432) else ""
    place = f"{parts.netloc.rpartition('@')[2].removesuffix(f':{parts.port}')}{port}"
    place += parts.path if parts.path != "/ledger" else ""
    name = unquote(parts.username or "NAME")
    return (
        f"ask the owner for a new secret (tracker ledger grant {name}), and give it to: tracker"
        f" join {place}"
    )


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL in libpq's form."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)
