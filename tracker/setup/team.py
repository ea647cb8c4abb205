"""A team's first machine and its members: .env, what of tracker.toml all share, and joining."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from secrets import token_hex
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from tracker.core.errors import LedgerError, TrackerError
from tracker.ledger.roles import build_url, find_group, make_password
from tracker.ledger.shared_settings import SharedSettings, read_shared, share
from tracker.training.errors import ConfigError, DataError
from tracker.training.tables import parse_toml
from tracker.workspace.leaderboard_kinds import LOCAL
from tracker.workspace.member_file import MEMBER, Member, find_author, write_member
from tracker.workspace.secrets_file import SECRETS, write_private, write_secrets
from tracker.workspace.shared_part import SAME_HOST, list_paths, render_shared
from tracker.workspace.tracker_toml import (
    TRACKER_TOML,
    Workspace,
    already_made,
    load_workspace,
    write_tracker_toml,
)

DOTENV = ".env"
DATABASE, POSTGRES_PORT, MLFLOW_PORT = "ledger", 5432, 5000
OWNER, ADMIN = "owner", "admin"
HERE = "127.0.0.1"
LOCAL_NAMES = ("localhost:*", "127.0.0.1:*")
EVERYWHERE = ("0.0.0.0", "::")  # noqa: S104 (published there only where --bind says so)
PASSWORDS = (  # of docker-compose.yml, each random
    "POSTGRES_PASSWORD",
    "LEDGER_OWNER_PASSWORD",
    "MLFLOW_DATABASE_PASSWORD",
    "BOARD_DATABASE_PASSWORD",
    "TRACKER_BOARD_PASSWORD",
    "MLFLOW_ADMIN_PASSWORD",
    "MLFLOW_SECRET_KEY",
)
S3_SECRET = "S3_SECRET_KEY"  # noqa: S105 (its name)
JOINED = """\
# A tracker workspace that joined a team. [data] and passwords are this machine's own; the rest is
# version {version} of what the owner shares. The command `tracker run options` lists keys.
"""


@dataclass(frozen=True)
class Address:
    """Where a team's PostgreSQL is."""

    host: str
    port: int = POSTGRES_PORT
    database: str = DATABASE

    @property
    def place(self) -> str:
        """HOST:PORT, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Secret:
    """What `tracker ledger grant` prints: a member's name and password."""

    name: str
    password: str


def parse_address(text: str) -> Address:
    """HOST, HOST:PORT or HOST:PORT/DATABASE; raises ConfigError, also for a password in it."""
    parts = urlsplit(f"//{text.partition('://')[2] or text}")
    try:
        port = parts.port or POSTGRES_PORT
    except ValueError:
        port = 0
    if "@" in parts.netloc:
        raise ConfigError(
            "the address of a team has no user and no password: the secret is asked for",
            hint="tracker join HOST",
        )
    name = parts.path.strip("/") or DATABASE
    if not port or not parts.hostname or not re.fullmatch(r"\w+", name):
        raise ConfigError(f"{text!r} is no address", hint="HOST or HOST:PORT, as in gpu1")
    return Address(parts.hostname, port, name)


def parse_secret(text: str) -> Secret:
    """NAME:PASSWORD; raises ConfigError, which does not repeat what was typed."""
    name, _, password = text.strip().partition(":")
    if not name or not password or re.search(r"\s", name + password):
        raise ConfigError(
            "that is not the secret of a member",
            hint="it has the form NAME:PASSWORD, as tracker ledger grant NAME printed it",
        )
    return Secret(name, password)


class TeamServer:
    """The passwords of a new server: in .env for compose, in the workspace for its owner."""

    def __init__(self, root: Path, address: Address, *, bind: str = HERE) -> None:
        """`address` is how the others reach it, `bind` where compose publishes it for all.

        Raises ConfigError where there is an .env, which has the passwords of a server.
        """
        self._path = root / DOTENV
        if self._path.exists() or self._path.is_symlink():
            raise ConfigError(
                f"{self._path} exists, and may have the only passwords of a server",
                hint="move it away, or make the workspace in another folder",
            )
        self._address = address
        self._bind = bind
        self._is_written = False
        self._passwords = {name: make_password() for name in PASSWORDS}
        # what Garage takes
        self._passwords[S3_SECRET] = token_hex(32)
        # not by the name for the others, which often means another address than the published one
        owner = replace(address, host=HERE if bind in EVERYWHERE else bind)
        self.ledger_url = f"postgresql+psycopg://{OWNER}@{owner.place}/{owner.database}"
        self.mlflow_uri = f"http://{_bracket(owner.host)}:{MLFLOW_PORT}"

    @property
    def is_open(self) -> bool:
        """Whether other machines reach it without a tunnel."""
        return self._bind != HERE

    def write(self, root: Path) -> None:
        """Write .env and the workspace's secrets; raises StorageError."""
        self._is_written = True
        write_private(self._path, self._render())
        owner = self._passwords["LEDGER_OWNER_PASSWORD"]
        admin = self._passwords["MLFLOW_ADMIN_PASSWORD"]
        write_secrets(
            root,
            {
                **list_secrets(self.ledger_url, OWNER, owner),
                "mlflow_uri": with_login(self.mlflow_uri, ADMIN, admin),
            },
        )

    def remove(self, root: Path) -> None:
        """Take away again what was written: the workspace was not made."""
        if not self._is_written:
            return
        self._path.unlink(missing_ok=True)
        (root / SECRETS).unlink(missing_ok=True)

    def _render(self) -> str:
        """The text of .env: what .env.example explains, filled in."""
        host = _bracket(self._address.host)
        hosts = (host, _bracket(self._bind)) if self._bind not in EVERYWHERE else (host,)
        names = dict.fromkeys((*(f"{name}:{MLFLOW_PORT}" for name in hosts), *LOCAL_NAMES))
        lines = [
            "# Passwords of docker-compose.yml: no other copy is kept. .env.example explains them.",
            *(f"{name}={password}" for name, password in self._passwords.items()),
            "# 0.0.0.0 lets other machines in; 127.0.0.1 only this one, others by an SSH tunnel.",
            f"TRACKER_BIND={self._bind}",
            f"TRACKER_POSTGRES_PORT={self._address.port}",
            f"MLFLOW_ALLOWED_HOSTS={','.join(names)}",
            f"MLFLOW_ALLOWED_ORIGINS=http://{host}:{MLFLOW_PORT}",
            f"TRACKER_BOARD_HOSTS={self._address.host}",
            f"TRACKER_TOML={_quote(self._path.with_name(TRACKER_TOML).resolve())}",
            f"TRACKER_RUNS={_quote(self._path.with_name('runs').resolve())}",
        ]
        return "\n".join(lines) + "\n"


def _quote(path: Path) -> str:
    """A path as a value in .env; in single quotes nothing but a quote has a meaning."""
    text = str(path)
    if re.fullmatch(r"[\w@%+:,./-]+", text):
        return text
    return "'" + text.replace("'", "\\'") + "'"


def _bracket(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def with_login(uri: str, name: str, password: str) -> str:
    """An http address with a user and a password."""
    parts = urlsplit(uri)
    login = f"{quote(name, safe='')}:{quote(password, safe='')}@"
    return urlunsplit(parts._replace(netloc=login + parts.netloc.rpartition("@")[2]))


def list_secrets(ledger_url: str, name: str, password: str) -> dict[str, str]:
    """The addresses of ledger and sweeps for secrets.toml."""
    sweeps = find_group(ledger_url).sweeps
    return {
        "ledger_url": build_url(ledger_url, user=name, password=password),
        "sweep_url": build_url(ledger_url, user=name, password=password, database=sweeps),
    }


# --- What all share ---


def share_settings(workspace: Workspace) -> tuple[int, bool]:
    """Put the shared part of tracker.toml into the ledger, if it changed; returns its version, and
    whether that is new."""
    author = find_author(workspace.root)
    return share(workspace.ledger_url, render_shared(workspace), author=author)


# --- Joining ---


def join_team(
    root: Path,
    address: Address,
    secret: Secret,
    *,
    data: Path | None = None,
    solution: Path | None = None,
) -> Workspace:
    """Make a workspace of a team: its shared settings, this machine's data, the member's secret.

    Without `data` it has no images, which a laptop needs for nothing but training. Raises
    ConfigError, DataError, StorageError or LedgerError, and leaves nothing then.
    """
    if (root / TRACKER_TOML).exists():
        raise already_made(root)
    bare = f"postgresql+psycopg://{address.place}/{address.database}"
    url = build_url(bare, user=secret.name, password=secret.password)
    shared = read_shared(url)
    if not shared.version:
        raise LedgerError(
            "the owner of this ledger has not shared the settings of the team yet",
            hint=f"in the owner's workspace: tracker ledger grant {secret.name}",
        )
    tables = read_shared_tables(shared)
    tables["data"] = _place_data(tables.get("data", {}), data)
    if solution is not None:
        tables["leaderboard"] = {"kind": LOCAL.name, "solution": str(solution.resolve())}
    mlflow_uri = place_mlflow(tables, address.host)
    tables["ledger"] = {"url": build_url(bare, user=secret.name)}
    tables["mlflow"] = {"tracking_uri": mlflow_uri} if mlflow_uri else {}
    secrets = list_secrets(bare, secret.name, secret.password)
    if mlflow_uri:
        secrets["mlflow_uri"] = with_login(mlflow_uri, secret.name, secret.password)

    def prepare(workspace: Workspace) -> None:
        write_secrets(workspace.root, secrets)
        write_member(workspace.root, Member(secret.name, shared.version))

    try:
        made = write_tracker_toml(root, render_joined(tables, shared), prepare=prepare)
    except TrackerError:
        if not (root / TRACKER_TOML).exists():
            for name in (SECRETS, MEMBER):
                (root / name).unlink(missing_ok=True)
        raise
    return load_workspace(made.root)  # with the secrets


def render_joined(tables: Mapping[str, Any], shared: SharedSettings) -> str:
    """The text of a member's tracker.toml."""
    import tomli_w

    return JOINED.format(version=shared.version) + "\n" + tomli_w.dumps(tables)


def read_shared_tables(shared: SharedSettings) -> dict[str, Any]:
    """The tables of a version; raises LedgerError for a text that is no TOML."""
    try:
        return parse_toml(shared.text)
    except ValueError as error:
        raise LedgerError(
            f"version {shared.version} of the team's settings is no TOML: {error}",
            hint="its owner shares them again: tracker ledger share",
        ) from error


def _place_data(shared: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:
    """Section [data] with the paths of this machine; without a folder, without paths."""
    keys = list_paths(shared)
    if folder is None:
        return {key: value for key, value in shared.items() if key not in keys}
    base = folder.expanduser().resolve()
    if not keys:
        raise ConfigError(
            "--data: the team's settings name no images",
            hint="without --data; then set [data] in tracker.toml",
        )
    paths = {key: base / str(shared[key]) for key in keys}
    missing = [str(shared[key]) for key in keys if not paths[key].exists()]
    if missing:
        raise DataError(
            f"{base} has no {', no '.join(missing)}",
            hint="--data is the folder that has them, as on the owner's machine",
        )
    return {**shared, **{key: str(path) for key, path in paths.items()}}


def place_mlflow(tables: Mapping[str, Any], host: str) -> str:
    """The tracking server's address from here, where the team's host is `host`, without a password;
    empty without a server."""
    shared = str(tables.get("mlflow", {}).get("tracking_uri", ""))
    return shared.replace(SAME_HOST, _bracket(host))


def list_lacking(workspace: Workspace) -> Sequence[str]:
    """The files that the shared settings name and a member gets from the owner by hand."""
    names = [metric.function.partition(":")[0] for metric in workspace.competition.metrics]
    return sorted({name for name in names if name and not workspace.resolve(name).is_file()})
