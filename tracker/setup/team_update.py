"""What the owner has changed in the team's settings since this workspace joined.

Three texts are compared: the version that this workspace has, the newest one, and tracker.toml.
What only the owner changed is taken; what both changed stays as it is here, and is named.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from tracker.core.errors import TrackerError
from tracker.ledger.shared_settings import SharedSettings, read_shared
from tracker.setup.team import (
    Address,
    Secret,
    list_secrets,
    parse_address,
    place_mlflow,
    read_shared_tables,
    render_joined,
    with_login,
)
from tracker.training.errors import ConfigError
from tracker.training.files import write_text
from tracker.training.tables import read_toml
from tracker.workspace.member_file import Member, read_member, write_member
from tracker.workspace.secrets_file import read_secrets, write_secrets
from tracker.workspace.shared_part import list_paths
from tracker.workspace.tracker_toml import TRACKER_TOML, Workspace, load_workspace

BEFORE = ".tracker/tracker-before-{version}.toml"
MLFLOW = ("mlflow", "tracking_uri")
_JOINED = re.compile(r"^# version (\d+) of what the owner shares\.", re.MULTILINE)
Path_ = tuple[str, ...]  # of a key: section, key, and keys below


@dataclass(frozen=True)
class Change:
    """A key of tracker.toml with its value here and that of the team; None: it is not set."""

    key: str
    here: Any
    team: Any


@dataclass(frozen=True)
class Update:
    """The version that a workspace has now, and what became of the changes.

    `before` is the copy of the earlier tracker.toml, None where nothing was written.
    """

    version: int
    taken: tuple[Change, ...] = ()
    kept: tuple[Change, ...] = ()
    before: Path | None = None


def update_settings(workspace: Workspace) -> Update:
    """Bring the shared part of tracker.toml up to the newest version.

    Raises ConfigError where the workspace joined no team, or where the new settings are wrong here,
    which leaves tracker.toml as it was; LedgerError or StorageError.
    """
    member = _find_member(workspace)
    newest = read_shared(workspace.ledger_url)
    if newest.version <= member.settings:
        return Update(newest.version)
    base = read_shared(workspace.ledger_url, version=member.settings)
    tables = read_toml(workspace.root / TRACKER_TOML)
    earlier, later = (_localize(workspace, shared) for shared in (base, newest))
    taken, kept = _merge(tables, earlier, later)
    before = _write(workspace, tables, newest) if taken else None
    if any(change.key == ".".join(MLFLOW) for change in taken):
        _write_login(workspace, tables)
    write_member(workspace.root, Member(member.name, newest.version))
    return Update(newest.version, taken, (*kept, *_list_moved(tables, base, newest)), before)


def is_of_team(workspace: Workspace, address: Address) -> bool:
    """Whether a member's workspace has its ledger at this address."""
    url = urlsplit(_read_ledger_url(workspace))
    if not _joined(workspace) or not url.hostname:
        return False
    here = parse_address(url.netloc.rpartition("@")[2] + url.path)
    return here == address


def renew_secret(workspace: Workspace, secret: Secret) -> None:
    """Put a member's new secret into secrets.toml, which alone is written, once the ledger takes
    it.

    Raises ConfigError for the secret of somebody else, LedgerError or StorageError.
    """
    member = _find_member(workspace)
    if secret.name != member.name:
        raise ConfigError(
            f"this is the workspace of {member.name}, and the secret is that of {secret.name}",
            hint=f"tracker join HOST DIR makes a workspace of {secret.name} in another folder",
        )
    url = _read_ledger_url(workspace)
    secrets = list_secrets(url, secret.name, secret.password)
    read_shared(secrets["ledger_url"])
    table = read_toml(workspace.root / TRACKER_TOML).get("mlflow", {})
    uri = str(table.get(MLFLOW[1], ""))
    if uri.startswith(("http://", "https://")):
        secrets["mlflow_uri"] = with_login(uri, secret.name, secret.password)
    write_secrets(workspace.root, secrets)


def _read_ledger_url(workspace: Workspace) -> str:
    """The address in tracker.toml, which has no password; the environment may have another."""
    return str(read_toml(workspace.root / TRACKER_TOML).get("ledger", {}).get("url", ""))


def render_change(value: Any) -> str:
    """A value as people read it."""
    return "not set" if value is None else json.dumps(value, ensure_ascii=False, default=str)


def _find_member(workspace: Workspace) -> Member:
    """The member of this workspace; one that joined with an earlier tracker says the version in
    the head of tracker.toml."""
    if member := _joined(workspace):
        return member
    raise ConfigError(
        "this workspace joined no team: there is nothing to update",
        hint="tracker join HOST DIR makes one that does; the owner's own has tracker ledger share",
    )


def _joined(workspace: Workspace) -> Member | None:
    """The member of this workspace, None where it joined no team."""
    if member := read_member(workspace.root):
        return member
    text = (workspace.root / TRACKER_TOML).read_text(encoding="utf-8")
    found = _JOINED.search(text)
    user = urlsplit(workspace.ledger_url).username
    return Member(unquote(user), int(found[1])) if found and user else None


def _localize(workspace: Workspace, shared: SharedSettings) -> dict[Path_, Any]:
    """The values of a version as they are on this machine, without the paths of data."""
    tables = read_shared_tables(shared) if shared.version else {}
    data = tables.get("data", {})
    tables["data"] = {key: data[key] for key in data if key not in list_paths(data)}
    if uri := place_mlflow(tables, _find_host(workspace)):
        tables["mlflow"] = {MLFLOW[1]: uri}
    return dict(_flatten(tables))


def _find_host(workspace: Workspace) -> str:
    return parse_address(urlsplit(workspace.ledger_url).netloc.rpartition("@")[2]).host


def _flatten(table: Mapping[str, Any], above: Path_ = ()) -> Iterator[tuple[Path_, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, (*above, key))
        else:
            yield (*above, key), value


def _merge(
    tables: dict[str, Any], earlier: Mapping[Path_, Any], later: Mapping[Path_, Any]
) -> tuple[tuple[Change, ...], tuple[Change, ...]]:
    """Take into `tables` what only the team has changed; what was taken, and what was not."""
    here = dict(_flatten(tables))
    taken, kept = [], []
    for path in sorted({*earlier, *later}):
        old, new, own = earlier.get(path), later.get(path), here.get(path)
        if new in (old, own):
            continue
        change = Change(".".join(path), own, new)
        if own == old:
            _set(tables, path, new)
            taken.append(change)
        else:
            kept.append(change)
    return tuple(taken), tuple(kept)


def _set(tables: dict[str, Any], path: Path_, value: Any) -> None:
    """Set a key, or take it away for None."""
    *above, key = path
    for name in above:
        tables = tables.setdefault(name, {})
    if value is None:
        tables.pop(key, None)
    else:
        tables[key] = value


def _list_moved(
    tables: Mapping[str, Any], base: SharedSettings, newest: SharedSettings
) -> list[Change]:
    """Files and folders of data that have another name in the team now; the member says where
    they are."""
    here = tables.get("data", {})
    pairs = [
        read_shared_tables(one).get("data", {}) if one.version else {} for one in (base, newest)
    ]
    old, new = pairs
    keys = list_paths(new)
    return [
        Change(f"data.{key}", here.get(key), new[key]) for key in keys if old.get(key) != new[key]
    ]


def _write(workspace: Workspace, tables: Mapping[str, Any], shared: SharedSettings) -> Path:
    """Write tracker.toml if it can be read; returns the earlier file's copy."""
    path = workspace.root / TRACKER_TOML
    text = path.read_text(encoding="utf-8")
    before = workspace.root / BEFORE.format(version=shared.version)
    write_text(before, text)
    write_text(path, render_joined(tables, shared))
    try:
        load_workspace(workspace.root)
    except TrackerError as error:
        write_text(path, text)
        raise ConfigError(
            f"version {shared.version} of the team's settings does not fit this tracker: {error}",
            hint="a newer tracker may know them; tracker.toml is as it was",
        ) from error
    return before


def _write_login(workspace: Workspace, tables: Mapping[str, Any]) -> None:
    """Let the member's secret be for the MLflow of tracker.toml, which has moved."""
    secrets = read_secrets(workspace.root)
    uri = str(tables["mlflow"].get(MLFLOW[1], ""))
    login = urlsplit(workspace.ledger_url)
    user, password = unquote(login.username or ""), unquote(login.password or "")
    secrets["mlflow_uri"] = with_login(uri, user, password) if uri else ""
    write_secrets(workspace.root, secrets)
