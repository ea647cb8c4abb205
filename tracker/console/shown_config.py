"""What of a run's config `show` shows: what differs from its parent, or from what a new run would
take."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracker.console.runs import ShownConfig
from tracker.core.config_diff import ENSEMBLE
from tracker.core.errors import TrackerError
from tracker.run_folder.read import load_config
from tracker.run_folder.record import RunRecord
from tracker.training.config import Config, config_to_dict, format_defaults, merge
from tracker.training.tables import flatten
from tracker.workspace.tracker_toml import Workspace


def choose_config(
    workspace: Workspace,
    record: RunRecord,
    config: Mapping[str, Mapping[str, Any]],
    *,
    full: bool = False,
) -> ShownConfig:
    """The keys that differ, and from what; with `full`, all of them.

    Of another program's run and of the user's own loop all are shown: the defaults are not theirs.
    A key that only the parent has was given up, where the run has the section; an ensemble has none
    of a training's.
    """
    own = flatten(config)
    if full:
        return ShownConfig(own, full=True)
    if record.uid and not record.fingerprints.get("data") and "ensemble" not in config:
        return ShownConfig(own)
    name, tables = _find_base(workspace, record, config)
    base = {key: value for key, value in flatten(tables).items() if key.partition(".")[0] in config}
    keys = [*own, *(key for key in base if key not in own and name == record.parent)]
    keys = [key for key in keys if not key.startswith(ENSEMBLE)]  # it is told in words
    differing = {key: own.get(key) for key in keys if own.get(key) != base.get(key)}
    return ShownConfig(differing, base_name=name, base=base, left_out=len(keys) - len(differing))


def list_defaults(workspace: Workspace) -> tuple[dict[str, Any], set[str]]:
    """The defaults of a new run by dotted key, and the keys that tracker.toml sets."""
    tables = merge(
        config_to_dict(Config()), format_defaults(workspace.defaults), workspace.defaults
    )
    return flatten(tables), set(flatten(workspace.defaults))


def _find_base(
    workspace: Workspace, record: RunRecord, config: Mapping[str, Mapping[str, Any]]
) -> tuple[str, Mapping[str, Any]]:
    """The parent's config, where it is here and of the same kind; else the workspace's defaults."""
    if record.parent and "ensemble" not in config:
        try:
            return record.parent, load_config(workspace.runs_dir, record.parent)
        except TrackerError:
            pass  # its folder is gone
    given = merge(workspace.defaults, {"data": {"format": config.get("data", {}).get("format")}})
    return "the defaults", merge(
        config_to_dict(Config()), format_defaults(given), workspace.defaults
    )
