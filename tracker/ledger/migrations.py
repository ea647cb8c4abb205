"""Upgrades an older ledger to this program's schema: a backup, then steps in one transaction.

What a schema adds stands in its section of ledger.db.sql and is applied from there. `STEPS` has the
other changes, those of what exists. Neither changes after its release: it must lead from its schema
to the next one, whatever the tables look like today. tests/assets has a ledger of each old schema.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Mapping
from pathlib import Path

import sqlalchemy as sa

from tracker.core.clock import to_utc_text, utc_now
from tracker.core.errors import LedgerError
from tracker.ledger.append import MIGRATIONS, WRITER_LOCK, open_engine
from tracker.ledger.columns import load_roles, load_steps
from tracker.ledger.connection import MIGRATION_NAMES, SCHEMA_VERSION, check_not_newer
from tracker.ledger.transfer import copy_ledger


def m002_imported_submissions(connection: sa.Connection) -> None:
    """Imported rows have no author and no time; their other columns are stored as notes."""
    unknown = ("run", "run_uid", "author", "host", "submitted_at")
    old = "('note', 'rejected', 'revealed')"
    new = "('note', 'sent', 'rejected', 'revealed', 'imported')"
    if connection.dialect.name == "postgresql":
        for name in unknown:
            connection.exec_driver_sql(f"ALTER TABLE submissions ALTER COLUMN {name} DROP NOT NULL")
        connection.exec_driver_sql("ALTER TABLE notes DROP CONSTRAINT notes_kind_check")
        connection.exec_driver_sql(
            f"ALTER TABLE notes ADD CONSTRAINT notes_kind_check CHECK (kind IN {new})"
        )
    else:
        texts = {f"{name:24} TEXT    NOT NULL": f"{name:24} TEXT" for name in unknown}
        _edit_sqlite_schema(connection, "submissions", texts)
        _edit_sqlite_schema(connection, "notes", {old: new})
    connection.exec_driver_sql("CREATE INDEX scores_by_value ON scores (split, metric, value)")


def m003_roles(connection: sa.Connection) -> None:
    """Row-level security and the table of shared settings, where there are roles at all."""
    if connection.dialect.name == "postgresql":
        connection.exec_driver_sql(load_roles(), execution_options={"no_parameters": True})


STEPS: Mapping[int, Callable[[sa.Connection], None]] = {
    2: m002_imported_submissions,
    3: m003_roles,
}


def upgrade_ledger(url: str, *, backup: Path) -> tuple[int, int]:
    """Upgrade the ledger at `url`; returns (schema before, schema after). Writes `backup` first.

    Raises LedgerError for a foreign or newer ledger, StorageError when the backup cannot be
    written; then the ledger is unchanged.
    """
    with open_engine(url) as engine:
        before = _read_version(engine)
        if before == SCHEMA_VERSION:
            return before, before
        copy_ledger(url, backup)
        with engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITER_LOCK)))
            # under the lock: another process may have upgraded it during the backup
            before = int(
                connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar_one()
            )
            for version in range(before + 1, SCHEMA_VERSION + 1):
                row = {"version": version, "name": _apply_step(connection, version)}
                connection.execute(sa.insert(MIGRATIONS).values(**row, applied_at=utc_now()))
            _check_sqlite(connection)
            connection.commit()
    return before, SCHEMA_VERSION


def _apply_step(connection: sa.Connection, version: int) -> str:
    """Lead from the schema before to `version`; returns the step's name for the ledger."""
    if version in STEPS:
        STEPS[version](connection)
        return MIGRATION_NAMES[version]
    for statement in load_steps()[version]:
        connection.exec_driver_sql(statement)
    return f"schema {version}"


def default_backup(root: Path) -> Path:
    """The default path of a backup: in the workspace, with the time in its name."""
    moment = to_utc_text(dt.datetime.now(dt.UTC))[:19].replace(":", "")
    return root / f"ledger-backup-{moment}.db"


def _read_version(engine: sa.Engine) -> int:
    with engine.connect() as connection:
        version = connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar()
    check_not_newer(version)
    assert version is not None  # noqa: S101  (check_not_newer raised)
    return int(version)


def _edit_sqlite_schema(connection: sa.Connection, table: str, texts: Mapping[str, str]) -> None:
    """Loosen constraints of a table in place (sqlite.org/lang_altertable.html, section 7)."""
    select = sa.text("SELECT sql FROM sqlite_master WHERE type = 'table' AND name = :name")
    sql = connection.execute(select, {"name": table}).scalar_one()
    for old, new in texts.items():
        if old not in sql:
            raise LedgerError(
                f"the table {table} is not as in schema 1", hint="restore the ledger from a backup"
            )
        sql = sql.replace(old, new)
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    update = sa.text("UPDATE sqlite_master SET sql = :sql WHERE type = 'table' AND name = :name")
    connection.execute(update, {"sql": sql, "name": table})
    connection.exec_driver_sql(f"PRAGMA schema_version = {int(version) + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")


def _check_sqlite(connection: sa.Connection) -> None:
    if connection.dialect.name == "sqlite":
        result = connection.exec_driver_sql("PRAGMA integrity_check").scalar_one()
        if result != "ok":
            raise LedgerError(
                f"the upgrade was undone: {result}", hint="the backup has the ledger as it was"
            )
