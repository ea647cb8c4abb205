"""The part of the owner's tracker.toml that is right on every machine of a team."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from tracker.training.config import list_options
from tracker.training.tables import read_toml
from tracker.workspace.leaderboard_kinds import DEFAULT, KINDS
from tracker.workspace.leaderboard_kinds import list_options as list_board_options
from tracker.workspace.tracker_toml import TRACKER_TOML, Workspace

SAME_HOST = "{host}"  # in the shared address of MLflow
LOCAL_SECTIONS = ("ledger", "mlflow", "data", "leaderboard")


def render_shared(workspace: Workspace) -> str:
    """The part of tracker.toml that is right on every machine, as TOML without any password.

    Paths of data are relative to the folder that has them all, which `join --data` names elsewhere.
    A leaderboard that needs a file of this machine is shared as one whose scores are typed in.
    """
    import tomli_w

    raw = read_toml(workspace.root / TRACKER_TOML)
    shared = {name: table for name, table in raw.items() if name not in LOCAL_SECTIONS}
    shared["data"] = _make_relative(workspace, raw.get("data", {}))
    shared["leaderboard"] = _share_leaderboard(workspace)
    if workspace.shown_mlflow_uri.startswith(("http://", "https://")):
        shared["mlflow"] = {"tracking_uri": _share_mlflow(workspace)}
    return tomli_w.dumps(shared)


def _share_mlflow(workspace: Workspace) -> str:
    """The tracking server's address; its host is SAME_HOST if the ledger is there, too.

    That host may have another name elsewhere, as through a tunnel.
    """
    parts = urlsplit(workspace.shown_mlflow_uri)
    if parts.hostname != urlsplit(workspace.ledger_url).hostname:
        return workspace.shown_mlflow_uri
    port = f":{parts.port}" if parts.port else ""
    return urlunsplit(parts._replace(netloc=SAME_HOST + port))


def list_paths(data: Mapping[str, Any]) -> list[str]:
    """The keys of [data] that are set and name a file or a folder of one machine."""
    places = [name for name, known in list_options().items() if known.metadata["place"]]
    return [key for key, value in data.items() if value and f"data.{key}" in places]


def _make_relative(workspace: Workspace, data: Mapping[str, Any]) -> dict[str, Any]:
    keys = list_paths(data)
    paths = {key: workspace.resolve(str(data[key])) for key in keys}
    if not paths:
        return dict(data)
    parents = {str(path.parent) for path in paths.values()}
    base = os.path.commonpath(parents)
    relative = {key: Path(os.path.relpath(path, base)).as_posix() for key, path in paths.items()}
    return {**data, **relative}


def _share_leaderboard(workspace: Workspace) -> dict[str, str]:
    if KINDS[workspace.leaderboard].knows_solution:
        return {"kind": DEFAULT.name}
    paths = [option.key for option in list_board_options() if option.is_path]
    options = {
        key: value for key, value in workspace.leaderboard_options.items() if key not in paths
    }
    return {"kind": workspace.leaderboard, **options}
