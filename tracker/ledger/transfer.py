"""Whole ledgers from one database to another: backup and restore, row by row with their hashes.

A backup is a SQLite ledger, whatever the database it came from: it can be read, verified and worked with as it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from tracker.errors import LedgerError
from tracker.ledger.append import METADATA, MIGRATIONS, create_ledger, open_engine
from tracker.ledger.read import check_not_newer, find_logs, missing_ledger
from training.atomic import atomic_path, translate_os_errors

BATCH = 1000


def copy_ledger(url: str, target: Path) -> int:
    """Copy the ledger at `url` to a SQLite file as of one moment, while others write; returns the rows copied.

    Raises LedgerError when the source is missing or foreign, StorageError when `target` cannot be written; an existing
    file is not replaced.
    """
    _refuse_existing(target)
    with atomic_path(target) as temporary:
        if url.startswith("sqlite:///"):
            count = _copy_file(Path(url.removeprefix("sqlite:///")), temporary)
        else:
            with translate_os_errors(target, "write"):
                temporary.touch()
            create_ledger(f"sqlite:///{temporary}")
            count = _copy_rows(url, f"sqlite:///{temporary}")
        _set_journal(temporary, "DELETE")  # one file, nothing of it in a log beside it
    return count


def restore_ledger(source: Path, url: str) -> int:
    """Copy a backup into the empty place at `url`; returns the rows copied. Raises LedgerError when it is not empty."""
    if not source.is_file():
        raise missing_ledger(source)
    if url.startswith("sqlite:///"):
        target = Path(url.removeprefix("sqlite:///"))
        _refuse_existing(target)
        with open_engine(f"sqlite:///{source}"):
            pass  # a foreign file is refused here
        with atomic_path(target) as temporary:
            count = _copy_file(source, temporary)
            _set_journal(temporary, "WAL")
        return count
    if not create_ledger(url):
        raise LedgerError("there is a ledger already", hint="restore into an empty database")
    return _copy_rows(f"sqlite:///{source}", url)


def _refuse_existing(target: Path) -> None:
    if target.exists():
        raise LedgerError(f"{target} exists", hint="choose another name, or move it away first")
    if logs := find_logs(target):
        raise LedgerError(
            f"{logs[0]} is left of another ledger and would be mixed into this one",
            hint="move it away first, with all that begin with that name; it may hold rows of the lost ledger",
        )


def _copy_file(source: Path, target: Path) -> int:
    """SQLite's own online backup: a whole copy of one moment."""
    import sqlite3

    if not source.is_file():
        raise missing_ledger(source)
    with _closing(sqlite3.connect(source)) as old, _closing(sqlite3.connect(target)) as new:
        old.backup(new)
        return int(new.execute("SELECT count(*) FROM chain").fetchone()[0])


@contextmanager
def _closing(connection: Any) -> Iterator[Any]:
    try:
        yield connection
    finally:
        connection.close()


def _copy_rows(source: str, target: str) -> int:
    """All rows in one transaction on each side."""
    count = 0
    with open_engine(source) as old, open_engine(target) as new:
        level = "SERIALIZABLE" if old.dialect.name == "sqlite" else "REPEATABLE READ"
        with old.connect().execution_options(isolation_level=level) as reading, new.begin() as writing:
            check_not_newer(reading.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar())
            for table in METADATA.sorted_tables:
                if table is MIGRATIONS:
                    continue  # the new ledger has its own
                order = next(iter(table.primary_key))
                rows = reading.execution_options(stream_results=True).execute(sa.select(table).order_by(order))
                for part in rows.mappings().partitions(BATCH):
                    writing.execute(sa.insert(table), [dict(row) for row in part])
                    count += len(part) * (table.name == "chain")
    return count


def _set_journal(path: Path, mode: str) -> None:
    import sqlite3

    with _closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute(f"PRAGMA journal_mode = {mode}")
