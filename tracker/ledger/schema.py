"""ledger.db.sql, read: its statements for each database."""

from __future__ import annotations

import sqlite3
from pathlib import Path

SCHEMA_FILE = Path(__file__).resolve().parent.parent / "ledger.db.sql"  # in a checkout a link to the one above


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
