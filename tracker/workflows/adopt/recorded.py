"""Recognize a log folder of a training that a callback or a loop recorded as a run already."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import RunRecord
from tracker.training.tables import parse_json
from tracker.workflows.adopt.curves import Point
from tracker.workspace.tracker_toml import Workspace

STATE = "trainer_state.json"  # of every checkpoint of Hugging Face's Trainer
STATE_KEY = "tracker_run"  # where tracker.huggingface writes the run into it
TOLERANCE = 1e-5  # TensorBoard keeps 32 bits of a number
LEAST_VALUES = 2  # of losses: one alone may be equal by chance


def find_recorded(
    workspace: Workspace, files: Sequence[Path], points: Sequence[Point]
) -> RunRecord | None:
    """The run that recorded the training of these files and points; None when there is none.

    A checkpoint of Hugging Face's Trainer names its run. Other logs are those of a run when every
    loss that both have, in every point, is equal.
    """
    uid = _read_uid(files)
    losses = _list_losses(points)
    for record in list_runs(workspace.runs_dir):
        is_own_loop = record.kind == "train" and not record.fingerprints.get("data")
        if not is_own_loop or "adopted_from" in record.facts:
            continue
        if uid and record.uid == uid:
            return record
        if not uid and losses and _has_losses(workspace.runs_dir / record.name, losses):
            return record
    return None


def _read_uid(files: Sequence[Path]) -> str:
    """The run that the newest checkpoint of Hugging Face's Trainer names; empty without one."""
    newest, uid = -1, ""
    for path in files:
        if path.name != STATE:
            continue
        try:
            state = parse_json(path.read_text(encoding="utf-8"))
            run = state["stateful_callbacks"][STATE_KEY]
            step, found = int(state["global_step"]), str(run["uid"])
        except (OSError, ValueError, OverflowError, TypeError, KeyError):
            continue
        if step > newest:
            newest, uid = step, found
    return uid


def _list_losses(points: Sequence[Point]) -> dict[str, list[float]]:
    """{name: values in the order of their steps} of every loss."""
    losses: dict[str, list[float]] = {}
    for values, _, _ in points:
        for name, value in values.items():
            if name.endswith("loss"):
                losses.setdefault(name, []).append(value)
    return losses


def _has_losses(folder: Path, losses: Mapping[str, Sequence[float]]) -> bool:
    """Whether a run has these very values, of all losses that it shares with them."""
    curves = read_curves(folder / "metrics.jsonl")
    shared = [name for name in losses if name in curves]
    for name in shared:
        recorded = [value for _, (_, value) in sorted(curves[name].items())]
        if len(recorded) != len(losses[name]):
            return False
        for one, other in zip(recorded, losses[name], strict=True):
            if one is None or not math.isclose(one, other, rel_tol=TOLERANCE):
                return False
    compared = {value for name in shared for value in losses[name]}
    return len(compared) >= LEAST_VALUES
