"""Finished runs that have already trained what a new run would: all of it, or the first epochs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracker.core.errors import AlreadyTrainedError, TrackerError
from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.run_folder.environment import collect_code
from tracker.run_folder.points import parse_point
from tracker.run_folder.read import list_runs, load_config
from tracker.run_folder.record import RunRecord
from tracker.training.config_fingerprint import (
    config_fingerprint,
    is_same_training,
    old_trajectory_fingerprint,
    trajectory_fingerprint,
)
from tracker.training.files import atomic_path, translate_os_errors
from tracker.workspace.tracker_toml import Workspace

CHECKPOINTS = ("best.pth", "validation.npz", "last.pth")
POINTS = "metrics.jsonl"


def find_reusable_run(
    workspace: Workspace, config: Mapping[str, Any], data: str
) -> RunRecord | None:
    """The finished run with the most epochs that this config would repeat, or None.

    Raises AlreadyTrainedError when a run has the same config, data and code: training it again
    would give nothing new.
    """
    code = collect_code(workspace.root)
    longest: RunRecord | None = None
    for record in list_runs(workspace.runs_dir):
        same = record.fingerprints.get("data") == data and record.fingerprints.get("code") == code
        if not same or record.kind != "train" or record.status != "finished":
            continue
        try:
            earlier = load_config(workspace.runs_dir, record.name)
        except TrackerError:
            continue
        # The recorded fingerprint may be of a version that counted more keys.
        if is_same_training(earlier, config):
            raise AlreadyTrainedError(record.name)
        folder = workspace.runs_dir / record.name
        longer = longest is None or record.epoch > longest.epoch
        if longer and _can_continue(folder, record, earlier, config):
            longest = record
    return longest


def _can_continue(
    folder: Path, record: RunRecord, earlier: Mapping[str, Any], config: Mapping[str, Any]
) -> bool:
    """Whether training from scratch would reach this run's last epoch, and all its files exist."""
    if not _shares_trajectory(record, earlier, config) or not decides_alike(earlier, config):
        return False
    if record.epoch > config["train"]["epochs"]:
        return False
    # With less patience, training from scratch might have stopped before.
    patience = config["train"]["patience"]
    if patience and not 0 < earlier["train"]["patience"] <= patience:
        return False
    return all((folder / name).is_file() for name in (*CHECKPOINTS, POINTS))


def decides_alike(earlier: Mapping[str, Any], config: Mapping[str, Any]) -> bool:
    """Whether validation is measured, and the best epoch chosen, by the same decision."""
    keys = []
    for tables in (earlier, config):
        section = tables.get("eval", {})
        keys.append((float(section.get("threshold", 0.5)), section.get("decide") == "expected"))
    return keys[0] == keys[1]


def _shares_trajectory(
    record: RunRecord, earlier: Mapping[str, Any], config: Mapping[str, Any]
) -> bool:
    """Whether both configs give the same weights epoch by epoch.

    A run of an earlier version has another fingerprint, which knows only its own folders.
    """
    if record.fingerprints.get("config") == config_fingerprint(earlier):
        return trajectory_fingerprint(earlier) == trajectory_fingerprint(config)
    return old_trajectory_fingerprint(earlier) == old_trajectory_fingerprint(config)


def copy_progress(source: Path, target: Path) -> None:
    """Copy what a run needs to continue from another's last epoch; raises StorageError."""
    for name in CHECKPOINTS:
        with atomic_path(target / name) as temporary:
            shutil.copyfile(source / name, temporary)
    # Appended, not replaced: the new run's recorder has this file open.
    with translate_os_errors(target / POINTS, "write"), (target / POINTS).open("ab") as file:
        lines = (source / POINTS).read_bytes().splitlines(keepends=True)
        file.writelines(line for line in lines if not _is_system_point(line))


def _is_system_point(line: bytes) -> bool:
    """Whether it has only system metrics, which belong to the machine of the other run."""
    point = parse_point(line)
    return point is not None and all(key.startswith(SYSTEM_PREFIX) for key in point["values"])
