"""Checks that a ledger's database still has the guards of ledger.db.sql against changed rows."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.core.clock import WRITTEN
from tracker.ledger import postgres_guards, sqlite_guards
from tracker.ledger.connection import (
    FIRST_NAME,
    MIGRATION_NAMES,
    OPENS_FROM,
    SCHEMA_VERSION,
    Query,
    Row,
    open_reader,
)

# A ledger that is restored gets its tables, indexes and triggers from ledger.db.sql.
RENEW_GUARDS = (
    "its rows can be taken into a ledger with all guards: tracker ledger backup copy.db, move"
    " ledger.db and its logs away, tracker ledger restore copy.db"
)


def check_guards(url: str) -> str:
    """The problem of the first guard that is missing or not as in ledger.db.sql; empty without one.

    Guards are the triggers, the indexes and the conditions of the tables; the views must show what
    the tables have. A foreign trigger, rule, policy or child table is a problem too, because it may
    change, hide, drop or add rows. Raises LedgerError when the ledger cannot be read.
    """
    is_sqlite = url.startswith("sqlite")
    with open_reader(url) as query:
        if problem := check_catalog(query, is_sqlite=is_sqlite):
            return problem
        # SQLite stores the texts of views: they were compared
        return (
            sqlite_guards.check_integrity(query)
            if is_sqlite
            else postgres_guards.check_views(query)
        )


def check_before_submission(query: Query, *, is_sqlite: bool) -> str:
    """The part of `check_guards` that takes milliseconds, asked before a submission is added.

    With it the same predictions cannot come in twice, even through a damaged unique index.
    """
    problem = check_catalog(query, is_sqlite=is_sqlite)
    if problem or not is_sqlite:
        return problem
    return sqlite_guards.check_unique_indexes(query)


def check_catalog(query: Query, *, is_sqlite: bool) -> str:
    """The problem of the first entry of the database's catalog, or of the table migrations."""
    rows = query("SELECT version, name, applied_at FROM migrations ORDER BY version", {})
    if problem := _check_migrations(rows):
        return problem
    if is_sqlite:
        return sqlite_guards.check_catalog(query)
    return postgres_guards.check_catalog(query, version=rows[-1]["version"])


def _check_migrations(rows: Sequence[Row]) -> str:
    """The problem of the table that says which schema the ledger has.

    A new ledger has one row, and each upgrade has added one.
    """
    versions = [row["version"] for row in rows]
    is_whole = bool(versions) and versions == list(range(versions[0], versions[-1] + 1))
    if not is_whole or not OPENS_FROM <= versions[-1] <= SCHEMA_VERSION:
        return f"the table migrations has the versions {versions}, not those up to {SCHEMA_VERSION}"
    for row in rows:
        version = row["version"]
        names = [MIGRATION_NAMES.get(version, f"schema {version}")]
        if version == versions[0]:  # the ledger was made with it
            names = [f"schema {version}", FIRST_NAME]
        if row["name"] not in names or not WRITTEN.fullmatch(str(row["applied_at"])):
            return f"the row {version} of the table migrations was changed"
    return ""
