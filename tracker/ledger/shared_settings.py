"""The part of the owner's tracker.toml that the whole team has, as versions in the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from tracker.core.clock import utc_now
from tracker.core.errors import LedgerError
from tracker.core.settings import get_author
from tracker.ledger.columns import ROLES_VERSION
from tracker.ledger.connection import libpq_url, open_reader, translate_postgres

_NEWEST = "SELECT version, text, sha256 FROM shared_settings ORDER BY version DESC LIMIT 1"


@dataclass(frozen=True)
class SharedSettings:
    """A version of the shared part: TOML, from 1 on; 0 and no text where nothing was shared."""

    version: int
    text: str


def read_shared(url: str) -> SharedSettings:
    """The newest version; raises LedgerError for a text that is not the one that was shared."""
    with open_reader(url) as query:
        schema = query("SELECT max(version) AS version FROM migrations", {})[0]["version"]
        rows = query(_NEWEST, {}) if schema >= ROLES_VERSION else []
    if not rows:
        return SharedSettings(0, "")
    row = rows[0]
    if _hash(row["text"]) != row["sha256"]:
        raise LedgerError(
            f"version {row['version']} of the team's settings was changed in the ledger",
            hint="its owner shares them again: tracker ledger grant NAME",
        )
    return SharedSettings(row["version"], row["text"])


def share(url: str, text: str) -> int:
    """Add a version, unless the newest one has this text; returns the number of the newest.

    Only the owner may. Raises LedgerError.
    """
    import psycopg

    before = read_shared(url)
    if before.version and before.text == text:
        return before.version
    row = (before.version + 1, text, _hash(text), get_author(), utc_now())
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10) as connection:
            connection.execute("INSERT INTO shared_settings VALUES (%s, %s, %s, %s, %s)", row)
    except psycopg.Error as error:
        raise translate_postgres(error, url) from error
    return before.version + 1


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
