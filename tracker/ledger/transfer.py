"""Copies whole ledgers between databases: backup and restore, row by row with their hashes.

A backup is always a SQLite ledger: it can be read, verified and used as it is.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tracker.core.errors import LedgerError
from tracker.ledger.append import (
    METADATA,
    MIGRATIONS,
    create_tables,
    open_engine,
    translate_ledger_errors,
)
from tracker.ledger.connection import (
    SCHEMA_VERSION,
    SQLITE,
    check_not_newer,
    missing_ledger_error,
    open_reader,
    refuse_leftover_logs,
    translate_sqlite,
)
from tracker.ledger.guards import check_before_submission
from tracker.training.errors import DataError, StorageError
from tracker.training.files import atomic_path, translate_os_errors

ROWS_PER_BATCH = 1000  # rows in memory at a time


def copy_ledger(url: str, target: Path) -> int:
    """Copy the ledger at `url` to a SQLite file while others write; returns the rows copied.

    The copy has the rows of one moment. Raises LedgerError when the source is missing or foreign or
    `target` exists, StorageError when `target` cannot be written.
    """
    _refuse_existing(target)
    source = Path(url.removeprefix("sqlite:///"))
    with atomic_path(target) as temporary, _translate_errors(source, target):
        if url.startswith("sqlite:///"):
            count = _copy_file(source, temporary)
        else:
            with translate_os_errors(target, "write"):
                temporary.touch()
            count = _copy_rows(url, f"sqlite:///{temporary}")
        _set_journal(temporary, "DELETE")  # a backup is one file, without a log next to it
    return count


def restore_ledger(source: Path, url: str) -> int:
    """Copy a backup to a new ledger at `url`; returns the rows copied.

    A backup whose guards are missing gives a ledger with all guards, and the same rows.
    Raises DataError for no such file, LedgerError when something is there already.
    """
    if not source.exists():
        raise DataError(f"no such file: {source}", hint="FILE is what tracker ledger backup wrote")
    if not source.is_file():
        raise missing_ledger_error(source)
    with open_engine(f"sqlite:///{source}"):
        pass  # a foreign file is refused here
    if url.startswith("sqlite:///"):
        target = Path(url.removeprefix("sqlite:///"))
        _refuse_existing(target)
        with atomic_path(target) as temporary, _translate_errors(source, target):
            if _lacks_guards(source):
                with translate_os_errors(target, "write"):
                    temporary.touch()
                count = _copy_rows(f"{SQLITE}{source}", f"{SQLITE}{temporary}")
            else:
                count = _copy_file(source, temporary)
            _set_journal(temporary, "WAL")
        return count
    return _copy_rows(f"sqlite:///{source}", url)


def _lacks_guards(source: Path) -> bool:
    """Whether a backup of this schema was made of a ledger without all its guards."""
    with open_engine(f"{SQLITE}{source}") as engine, engine.connect() as connection:
        version = connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar()
    if version != SCHEMA_VERSION:
        return False
    with open_reader(f"{SQLITE}{source}") as query:
        return bool(check_before_submission(query, is_sqlite=True))


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise LedgerError(f"{target} exists", hint="choose another name, or move the file away")
    refuse_leftover_logs(target)


@contextmanager
def _translate_errors(source: Path, target: Path) -> Iterator[None]:
    """Translate SQLite's errors: disk errors are about `target`, all others about `source`."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:
        translated = translate_sqlite(error, target)
        if not isinstance(translated, StorageError):
            translated = translate_sqlite(error, source)
        raise translated from error


def _copy_file(source: Path, target: Path) -> int:
    """Copy with SQLite's online backup, which has the rows of one moment."""
    if not source.is_file():
        raise missing_ledger_error(source)
    with closing(sqlite3.connect(source)) as old, closing(sqlite3.connect(target)) as new:
        old.backup(new)
        return int(new.execute("SELECT count(*) FROM chain").fetchone()[0])


def _copy_rows(source: str, target: str) -> int:
    """Copy all rows, in one transaction on each side; the target's one makes the tables too."""
    count = 0
    with create_tables(target, migrations=_read_migrations(source)) as writing:
        if writing is None:
            raise LedgerError(
                "the database already has a ledger", hint="restore into an empty database"
            )
        for table, rows in _read_rows(source):
            writing.execute(sa.insert(table), rows)
            if table.name == "chain":  # it has one row for each row of the other tables
                count += len(rows)
    return count


def _read_migrations(url: str) -> list[dict[str, Any]]:
    """The rows of a ledger of this program's schema: a copy was made when the original was.

    None of an older ledger, whose copy has the new schema.
    """
    with open_engine(url) as engine, translate_ledger_errors(url), engine.connect() as connection:
        rows = connection.execute(sa.select(MIGRATIONS).order_by(MIGRATIONS.c.version)).mappings()
        migrations = [dict(row) for row in rows]
    is_current = bool(migrations) and migrations[-1]["version"] == SCHEMA_VERSION
    return migrations if is_current else []


def _read_rows(url: str) -> Iterator[tuple[sa.Table, list[dict[str, Any]]]]:
    """(table, some of its rows) at one moment; a row comes after the rows that it refers to."""
    with open_engine(url) as engine, translate_ledger_errors(url), engine.connect() as connection:
        level = "SERIALIZABLE" if engine.dialect.name == "sqlite" else "REPEATABLE READ"
        connection.execution_options(isolation_level=level, stream_results=True)
        check_not_newer(connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar())
        for table in METADATA.sorted_tables:
            if table is MIGRATIONS:
                continue  # create_tables has written them
            # an older ledger lacks the columns that later schemas added
            there = {column["name"] for column in sa.inspect(connection).get_columns(table.name)}
            columns = [column for column in table.columns if column.name in there]
            rows = connection.execute(sa.select(*columns).order_by(*table.primary_key))
            for part in rows.mappings().partitions(ROWS_PER_BATCH):
                yield table, [dict(row) for row in part]


def _set_journal(path: Path, mode: str) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute(f"PRAGMA journal_mode = {mode}")
