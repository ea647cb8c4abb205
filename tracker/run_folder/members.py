"""The members of an ensemble by the names that they have here.

A config names them as the workspace that made the ensemble does; another workspace has other runs
of these names. A member is the run with the recorded uid, or it is not known here: its name is then
a text that no run has.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.config_diff import is_elsewhere, name_elsewhere
from tracker.run_folder.record import run_folder
from tracker.training.tables import parse_json


def list_member_names(config: Mapping[str, Any]) -> list[str]:
    """The members in a config; empty for a run that is no ensemble."""
    table = config.get("ensemble")
    names = table.get("members") if isinstance(table, Mapping) else None
    return [str(name) for name in names] if isinstance(names, list | tuple) else []


def replace_members(config: Mapping[str, Any], names: Sequence[str]) -> dict[str, Any]:
    """The config with other names of its members."""
    return {**config, "ensemble": {**config["ensemble"], "members": list(names)}}


def link_members(runs_dir: Path, name: str, config: dict[str, Any]) -> dict[str, Any]:
    """The config of run `name` with the names that its members have here.

    Runs of earlier versions have no uids of their members. Where such a run was adopted from
    another workspace, all its members are unknown.
    """
    names = list_member_names(config)
    if not names:
        return config
    facts = _read_record(run_folder(runs_dir, name)).get("facts")
    facts = facts if isinstance(facts, dict) else {}
    uids = read_member_uids(facts, len(names))
    adopted = "adopted_from" in facts
    linked = []
    for member, uid in zip(names, uids, strict=True):
        found = _read_record(run_folder(runs_dir, member)).get("uid") if uid else None
        is_other = (found is not None and found != uid) or (uid is None and adopted)
        is_renamed = is_other and not is_elsewhere(member)
        linked.append(name_elsewhere(member, uid) if is_renamed else member)
    return config if linked == names else replace_members(config, linked)


def read_member_uids(facts: Mapping[str, Any], count: int) -> list[str | None]:
    """The uids that the facts of an ensemble have of its members, in the order of its config."""
    uids = facts.get("members")
    if not isinstance(uids, list) or len(uids) != count:
        return [None] * count
    return [str(uid) for uid in uids]


def _read_record(folder: Path) -> dict[str, Any]:
    """run.json as it is; empty where it cannot be read."""
    try:
        raw = parse_json((folder / "run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return raw if isinstance(raw, dict) else {}
