"""The part of the owner's tracker.toml that the whole team has, as versions in the ledger."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from tracker.core.clock import utc_now
from tracker.core.errors import LedgerError, RefusedError
from tracker.ledger.columns import ROLES_VERSION
from tracker.ledger.connection import Query, libpq_url, open_reader, translate_postgres
from tracker.training.tables import parse_toml
from tracker.workspace.quota import describe_limits
from tracker.workspace.tracker_toml import Competition

_NEWEST = "SELECT version, text, sha256 FROM shared_settings ORDER BY version DESC LIMIT 1"
_ONE = "SELECT version, text, sha256 FROM shared_settings WHERE version = :version"


@dataclass(frozen=True)
class SharedSettings:
    """A version of the shared part: TOML, from 1 on; 0 and no text where nothing was shared."""

    version: int
    text: str


def read_shared(url: str, *, version: int | None = None) -> SharedSettings:
    """The newest version, or this one; raises LedgerError for a text that is not the one that was
    shared."""
    with open_reader(url) as query:
        sql = _NEWEST if version is None else _ONE
        rows = query(sql, {"version": version}) if _has_roles(query) else []
    if not rows:
        return SharedSettings(0, "")
    row = rows[0]
    if _hash(row["text"]) != row["sha256"]:
        raise LedgerError(
            f"version {row['version']} of the team's settings was changed in the ledger",
            hint="its owner shares them again: tracker ledger share",
        )
    return SharedSettings(row["version"], row["text"])


def apply_team_limit(query: Query, competition: Competition, *, on_server: bool) -> Competition:
    """The competition with the team's daily limit, where that is the stricter one.

    `query` reads the ledger; only one on a server has settings of a team.
    """
    if not on_server or not _has_roles(query):
        return competition
    rows = query(_NEWEST, {})
    limit = read_daily_limit(rows[0]["text"]) if rows else 0
    own = competition.daily_limit
    if not limit or 0 < own <= limit:
        return competition
    return replace(competition, daily_limit=limit)


def read_daily_limit(text: str) -> int:
    """The daily limit in a version of the shared settings; 0 where it sets none."""
    try:
        limit = parse_toml(text).get("competition", {}).get("daily_limit", 0)
    except (ValueError, AttributeError):
        return 0  # join --update says so
    return limit if isinstance(limit, int) and limit > 0 else 0


def explain_team_limit(shared: SharedSettings, competition: Competition) -> str:
    """That the team's daily limit counts where this workspace has a looser one; else empty."""
    limit, own = read_daily_limit(shared.text), competition.daily_limit
    return describe_limits(limit, own) if limit and not 0 < own <= limit else ""


def find_newer(url: str, query: Query, version: int) -> int:
    """The newest version, 0 unless it is newer than this one; `query` reads the ledger."""
    if url.startswith("sqlite:") or not _has_roles(query):
        return 0
    newest = query("SELECT max(version) AS version FROM shared_settings", {})[0]["version"] or 0
    return int(newest) if newest > version else 0


def _has_roles(query: Query) -> bool:
    rows = query("SELECT max(version) AS version FROM migrations", {})
    return bool(rows[0]["version"] >= ROLES_VERSION)


def share(url: str, text: str, *, author: str) -> tuple[int, bool]:
    """Add a version, unless the newest one has this text; returns the number of the newest, and
    whether it was added.

    Raises RefusedError for others than the owner, ConfigError for a ledger in SQLite, LedgerError.
    """
    import psycopg

    from tracker.ledger.roles import owns_ledger

    if not owns_ledger(url):
        raise RefusedError(
            "only the owner of this ledger shares settings with the team",
            hint="ask who ran tracker init --team",
        )
    before = read_shared(url)
    if before.version and before.text == text:
        return before.version, False
    row = (before.version + 1, text, _hash(text), author, utc_now())
    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10) as connection:
            connection.execute("INSERT INTO shared_settings VALUES (%s, %s, %s, %s, %s)", row)
    except psycopg.Error as error:
        raise translate_postgres(error, url) from error
    return before.version + 1, True


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
