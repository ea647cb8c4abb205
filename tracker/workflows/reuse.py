"""Runs that have already done a new run's work: all of it, or its first epochs."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracker.core.errors import AlreadyTrainedError
from tracker.runs.environment import collect_code
from tracker.runs.points import SYSTEM_PREFIX, parse_point
from tracker.runs.read import list_runs, load_config
from tracker.runs.record import RunRecord
from tracker.training.config_fingerprint import (
    config_fingerprint,
    is_same_training,
    old_trajectory_fingerprint,
    trajectory_fingerprint,
)
from tracker.training.errors import TrackerError
from tracker.training.files import atomic_path, translate_os_errors
from tracker.workspace.competition import Workspace

CHECKPOINTS = ("best.pth", "validation.npz", "last.pth")
POINTS = "metrics.jsonl"


def find_earlier(workspace: Workspace, config: Mapping[str, Any], data: str) -> RunRecord | None:
    """The finished run with the most epochs that this config would repeat; None when there is none.

    Raises AlreadyTrainedError when a run has the same config, data and code: it would only be
    trained again.
    """
    code = collect_code(workspace.root)
    found: RunRecord | None = None
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
        if (found is None or record.epoch > found.epoch) and _leads_to(
            folder, record, earlier, config
        ):
            found = record
    return found


def _leads_to(
    folder: Path, record: RunRecord, earlier: Mapping[str, Any], config: Mapping[str, Any]
) -> bool:
    """Whether training from scratch would come by this run's last epoch, and its files are there to
    go on from."""
    patience = config["train"]["patience"]
    return (
        _shares_trajectory(record, earlier, config)
        and record.epoch <= config["train"]["epochs"]
        and (
            not patience or 0 < earlier["train"]["patience"] <= patience
        )  # else it might have stopped before
        and all((folder / name).is_file() for name in (*CHECKPOINTS, POINTS))
    )


def _shares_trajectory(
    record: RunRecord, earlier: Mapping[str, Any], config: Mapping[str, Any]
) -> bool:
    """Whether last.pth of a run may be gone on from; that of an earlier version knows only its own
    folders."""
    if record.fingerprints.get("config") == config_fingerprint(earlier):
        return trajectory_fingerprint(earlier) == trajectory_fingerprint(config)
    return old_trajectory_fingerprint(earlier) == old_trajectory_fingerprint(config)


def copy_progress(source: Path, target: Path) -> None:
    """Copy what a run needs to go on from another's last epoch; raises StorageError."""
    for name in CHECKPOINTS:
        with atomic_path(target / name) as temporary:
            shutil.copyfile(source / name, temporary)
    with (
        translate_os_errors(target / POINTS, "write"),
        (target / POINTS).open("ab") as file,
    ):  # open in the recorder
        lines = (source / POINTS).read_bytes().splitlines(keepends=True)
        file.writelines(line for line in lines if not _is_of_machine(line))


def _is_of_machine(line: bytes) -> bool:
    """Whether it is a point of the figures of the other run's machine."""
    point = parse_point(line)
    return point is not None and all(key.startswith(SYSTEM_PREFIX) for key in point["values"])
