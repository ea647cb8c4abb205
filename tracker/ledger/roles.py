"""The roles of a PostgreSQL ledger: its owner, and members who read and add rows and nothing else.

What members may do is granted once, to a group; each member is a login role in that group. The
group also owns the database of sweeps, for Optuna makes and changes tables there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from tracker.core.errors import LedgerError, RefusedError
from tracker.ledger.columns import ROLES_VERSION, load_tables
from tracker.ledger.connection import (
    SCHEMA_VERSION,
    libpq_url,
    read_rows,
    translate_postgres,
)
from tracker.training.errors import ConfigError
from tracker.training.libraries import require

if TYPE_CHECKING:
    import psycopg

NAME = re.compile(r"[a-z][a-z0-9_.-]{0,40}")
PASSWORD_BYTES = 24  # 32 letters, digits, - and _
# Roles of PostgreSQL, users of MLflow, and what its client and SQL take for something else; `board`
# is a member, with whose login the board asks MLflow.
TAKEN = frozenset(
    {
        *("admin", "mlflow", "owner", "postgres", "reader", "root", "tracker"),
        *("all", "current_user", "none", "public", "session_user"),
    }
)
LEAST_PASSWORD = 12  # what MLflow takes
_PLACE = "SELECT current_database() AS database, current_schema() AS schema"
_OWNS = (
    "SELECT bool_and(pg_has_role(relowner, 'USAGE')) AS owns FROM pg_class WHERE relkind = 'r' AND"
    " relnamespace = current_schema()::regnamespace"
)
_RIGHTS = (
    "SELECT has_schema_privilege(%(group)s, current_schema(), 'CREATE') AS schema,"
    " has_database_privilege(%(group)s, current_database(), 'TEMPORARY') AS temporary,"
    " has_database_privilege(%(group)s, current_database(), 'CREATE') AS database"
)


@dataclass(frozen=True)
class Group:
    """The members of a ledger: the role that has their rights, and their database of sweeps."""

    role: str
    sweeps: str


def make_password() -> str:
    """A random password, which needs no quoting in a URL, a shell or a .env file."""
    import secrets  # it loads OpenSSL

    return secrets.token_urlsafe(PASSWORD_BYTES)


def check_member_name(name: str) -> None:
    """Raise ConfigError for a name that a login role or a user of MLflow cannot have."""
    if not NAME.fullmatch(name) or name.startswith("pg_"):
        raise ConfigError(
            f"{name!r} cannot be the name of a member",
            hint="a small letter first, then small letters, digits, _ . and -, as in mina",
        )
    if name in TAKEN:
        raise ConfigError(
            f"{name} cannot be the name of a member: the team's server uses it itself",
            hint="choose another name, as in mina",
        )


def check_password(password: str) -> None:
    """Raise ConfigError for a password that is too short, or has spaces or control characters."""
    if len(password) < LEAST_PASSWORD or not re.fullmatch(r"[!-~]+", password):
        raise ConfigError(
            f"a password has at least {LEAST_PASSWORD} letters, digits and signs, and no spaces",
            hint="without --password-stdin a random one is made",
        )


def find_group(url: str) -> Group:
    """The group of the ledger at `url`, by the name of its database."""
    database = urlsplit(libpq_url(url)).path.strip("/") or "ledger"
    return Group(role=f"{database}_members", sweeps=f"{database}_sweeps")


def grant_member(url: str, name: str, password: str) -> bool:
    """Make the login role of a member, or give it a new password; True for a new member.

    Everybody else's right to make tables in the ledger's database is taken away. Raises ConfigError
    for a ledger in SQLite or a name that cannot be one, RefusedError where the role is not a member
    of this ledger, LedgerError where the database refuses.
    """
    check_member_name(name)
    check_password(password)
    group = find_group(url)
    with _connect(url) as connection:
        _check_owner(connection)
        with connection.transaction():
            _make_group(connection, group)
            is_new = _make_login(connection, group, name, password)
            _check_rights(connection, group)
        _make_sweeps(connection, group)
        _enter_sweeps_as_group(connection, group, name)
    return is_new


def revoke_member(url: str, name: str, *, before: Callable[[], None] = lambda: None) -> None:
    """Drop the login role of a member; the rows that it added stay.

    `before` is called once it is known to be a member: where it raises, the role stays, and the
    same command again completes it.

    Raises RefusedError where there is no such member, and as `grant_member`.
    """
    group = find_group(url)
    with _connect(url) as connection:
        _check_owner(connection)
        if not _is_member(connection, group, name):
            raise RefusedError(
                f"{name} is not a member of this ledger",
                hint="tracker ledger members lists them",
            )
        before()
        with connection.transaction():
            _run(connection, "REVOKE {} FROM {}", group.role, name)
            _run(connection, "DROP ROLE {}", name)


def list_members(url: str) -> list[str]:
    """The names of the members; raises LedgerError, and ConfigError for a ledger in SQLite."""
    group = find_group(url)
    members = (
        "SELECT m.rolname AS name FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid"
        " JOIN pg_roles m ON m.oid = a.member WHERE g.rolname = :role AND m.rolcanlogin"
        " AND m.rolname <> (SELECT r.rolname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba"
        " WHERE d.datname = current_database()) ORDER BY 1"
    )
    return [str(row["name"]) for row in read_rows(url, members, {"role": group.role})]


def owns_ledger(url: str) -> bool:
    """Whether the user of this URL owns the ledger's tables.

    Raises LedgerError, and ConfigError for a ledger in SQLite.
    """
    _refuse_sqlite(url)
    return bool(read_rows(url, _OWNS)[0]["owns"])


def _refuse_sqlite(url: str) -> None:
    if url.startswith("sqlite"):
        raise ConfigError(
            "a SQLite ledger has no roles: whoever may write the file may do everything",
            hint="tracker init --team HOST makes a ledger for a team",
        )


@contextmanager
def _connect(url: str) -> Iterator[psycopg.Connection[Any]]:
    """A connection to the ledger that commits each statement; raises ConfigError or LedgerError."""
    _refuse_sqlite(url)
    require("psycopg")
    import psycopg

    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10, autocommit=True) as connection:
            yield connection
    except psycopg.Error as error:
        raise translate_postgres(error, url) from error


def _ask(connection: psycopg.Connection[Any], sql: str, *values: Any) -> Any:
    """The first value of the first row; None without one."""
    row = connection.execute(sql.encode(), values).fetchone()
    return row[0] if row else None


def _run(connection: psycopg.Connection[Any], statement: str, *names: str) -> None:
    """A statement with quoted names in the place of its {}."""
    from psycopg import sql

    connection.execute(sql.SQL(statement).format(*map(sql.Identifier, names)))


def _check_owner(connection: psycopg.Connection[Any]) -> None:
    """Raise LedgerError unless the ledger has roles and this is a role that may grant them."""
    version = _ask(connection, "SELECT max(version) FROM migrations")
    if version is None or version < ROLES_VERSION:
        raise LedgerError(
            f"the ledger has schema {version}: roles came with schema {SCHEMA_VERSION}",
            hint="tracker ledger upgrade makes a backup and updates it",
        )
    who = _ask(connection, "SELECT current_user")
    if not _ask(connection, _OWNS):
        raise RefusedError(
            f"{who} is not the owner of this ledger: only the owner grants and revokes",
            hint="ask who ran tracker init --team",
        )
    if not _ask(
        connection,
        "SELECT rolsuper OR rolcreaterole FROM pg_roles WHERE rolname = current_user",
    ):
        raise LedgerError(
            f"{who} may not make roles in this PostgreSQL",
            hint=f'as its administrator: ALTER ROLE "{who}" CREATEROLE CREATEDB',
        )


def _exists(connection: psycopg.Connection[Any], role: str) -> bool:
    return bool(_ask(connection, "SELECT 1 FROM pg_roles WHERE rolname = %s", role))


def _is_member(connection: psycopg.Connection[Any], group: Group, name: str) -> bool:
    """Whether the role was made by grant: its owner and those above it are no members."""
    found = _ask(
        connection,
        "SELECT m.rolcanlogin AND NOT (m.rolsuper OR m.rolcreaterole OR m.rolcreatedb OR"
        " m.rolbypassrls) FROM pg_auth_members a JOIN pg_roles g ON g.oid = a.roleid JOIN"
        " pg_roles m ON m.oid = a.member WHERE g.rolname = %s AND m.rolname = %s",
        group.role,
        name,
    )
    return bool(found)


def _make_group(connection: psycopg.Connection[Any], group: Group) -> None:
    """The group with the rights of members, and no others whatever was granted before."""
    if not _exists(connection, group.role):
        _run(connection, "CREATE ROLE {} NOLOGIN", group.role)
    place = connection.execute(_PLACE).fetchone()
    assert place is not None  # noqa: S101 (a query without FROM has one row)
    database, schema = place
    # a table of a member's own could take the place of the ledger's in the text of a trigger
    _run(connection, "REVOKE CREATE, TEMPORARY ON DATABASE {} FROM PUBLIC", database)
    _run(connection, "REVOKE CREATE ON SCHEMA {} FROM PUBLIC", schema)
    _run(connection, "REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM PUBLIC", schema)
    _run(connection, "REVOKE ALL ON ALL TABLES IN SCHEMA {} FROM {}", schema, group.role)
    _run(connection, "GRANT CONNECT ON DATABASE {} TO {}", database, group.role)
    _run(connection, "GRANT USAGE ON SCHEMA {} TO {}", schema, group.role)
    _run(connection, "GRANT SELECT ON ALL TABLES IN SCHEMA {} TO {}", schema, group.role)
    for table in load_tables():
        if table != "migrations":  # a row there would lock everyone out
            _run(connection, "GRANT INSERT ON {}.{} TO {}", schema, table, group.role)


def _make_login(
    connection: psycopg.Connection[Any], group: Group, name: str, password: str
) -> bool:
    """The role of a member with this password; True when it is new."""
    is_new = not _exists(connection, name)
    if not is_new and not _is_member(connection, group, name):
        raise RefusedError(
            f"PostgreSQL has a role {name} that is not a member of this ledger",
            hint="choose another name",
        )
    from psycopg import sql

    # encrypted here: the server's log may keep statements
    secret = connection.pgconn.encrypt_password(
        password.encode(), name.encode(), b"scram-sha-256"
    ).decode()
    role = sql.Identifier(name)
    statement = "CREATE ROLE {} LOGIN PASSWORD {}" if is_new else "ALTER ROLE {} PASSWORD {}"
    connection.execute(sql.SQL(statement).format(role, sql.Literal(secret)))
    if is_new:
        _run(connection, "GRANT {} TO {}", group.role, name)
    return is_new


def _check_rights(connection: psycopg.Connection[Any], group: Group) -> None:
    """Raise LedgerError where members could make tables after all; the transaction is undone."""
    row = connection.execute(_RIGHTS, {"group": group.role}).fetchone()
    if row and any(row):
        raise LedgerError(
            "members could make tables in the ledger's database, because its owner is another role",
            hint="as the owner of the database: REVOKE CREATE, TEMPORARY ON DATABASE ... FROM"
            " PUBLIC; REVOKE CREATE ON SCHEMA public FROM PUBLIC",
        )


def _make_sweeps(connection: psycopg.Connection[Any], group: Group) -> None:
    """The database of sweeps, where every member may make tables; CREATE needs no transaction."""
    if _ask(connection, "SELECT 1 FROM pg_database WHERE datname = %s", group.sweeps):
        return
    who = _ask(connection, "SELECT current_user")
    if not _ask(connection, "SELECT pg_has_role(current_user, %s, 'MEMBER')", group.role):
        _run(connection, "GRANT {} TO {}", group.role, who)  # an owner of another role's database
    _run(connection, "CREATE DATABASE {} OWNER {}", group.sweeps, group.role)
    _run(connection, "REVOKE ALL ON DATABASE {} FROM PUBLIC", group.sweeps)


def _enter_sweeps_as_group(connection: psycopg.Connection[Any], group: Group, name: str) -> None:
    """Tables that one member makes there belong to all."""
    _run(
        connection,
        "ALTER ROLE {} IN DATABASE {} SET role = {}",
        name,
        group.sweeps,
        group.role,
    )


def build_url(url: str, *, user: str, password: str = "", database: str = "") -> str:
    """The ledger's URL for another user, or another database of the same server."""
    parts = urlsplit(libpq_url(url))
    host = parts.netloc.rpartition("@")[2]
    secret = f":{quote(password, safe='')}" if password else ""
    name = database or parts.path.strip("/")
    return f"postgresql+psycopg://{quote(user, safe='')}{secret}@{host}/{name}"
