"""A run folder of this program, from another workspace: all that it has becomes part of the run."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.config_diff import is_elsewhere, name_elsewhere
from tracker.core.errors import TrackerError
from tracker.ledger.team_runs import find_run_by_uid
from tracker.run_folder.members import list_member_names, read_member_uids, replace_members
from tracker.run_folder.read import list_runs, load_run
from tracker.run_folder.record import MARKS, OPEN, RunRecord
from tracker.training.files import atomic_path
from tracker.training.predict import DECISION
from tracker.training.tables import parse_toml_value, read_toml
from tracker.workflows.own_loop.active_run import FIGURES, FILES, ActiveRun
from tracker.workspace.tracker_toml import Workspace

RECORD, CONFIG, POINTS = "run.json", "config.toml", "metrics.jsonl"
WEIGHTS, PREDICTIONS = "best.pth", "predictions.csv"
SCORES = ("validation.npz", "probabilities.npz")
# What the new run writes itself, and what follows from the rest.
OWN = (RECORD, CONFIG, POINTS, WEIGHTS, PREDICTIONS, ".lock", ".lock.held", MARKS)
OWN_COPIES = ("mlflow.json", "mirror.json", "mirror.log", "tensorboard.json", ".killed.json")
LEFT_FOLDERS = ("tensorboard",)
TAKEN_FILES = (*SCORES, DECISION, "env.json", "output.log")
TAKEN_FOLDERS = (FIGURES, FILES)
ADOPTION = ("adopted_from", "adopted_content", "adopted_files", "adopted_at", "times_from")


@dataclass(frozen=True)
class Original:
    """A run of another workspace: its record, its files to copy, and those that are left."""

    folder: Path
    record: RunRecord
    config: dict[str, Any]
    copied: Sequence[Path]
    left: Sequence[str]

    def file(self, name: str) -> Path | None:
        """A file of the run folder; None without it."""
        path = self.folder / name
        return path if path.is_file() else None

    @property
    def used(self) -> list[Path]:
        """The files that the run is made from."""
        own = (RECORD, CONFIG, POINTS, WEIGHTS, PREDICTIONS)
        return sorted([*filter(None, map(self.file, own)), *self.copied])


def find_original(folder: Path) -> Original | None:
    """The run whose folder this is; None for the folder of another program."""
    if not (folder / RECORD).is_file() or not (folder / CONFIG).is_file():
        return None
    try:
        record = load_run(folder.parent, folder.name)
    except TrackerError:
        return None
    copied, left = [], []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        top, *below = path.relative_to(folder).parts
        if top in (*OWN, *OWN_COPIES, *LEFT_FOLDERS):
            continue
        is_picture = path.suffix == ".png"
        if top in TAKEN_FOLDERS if below else (top in TAKEN_FILES or is_picture):
            copied.append(path)
        else:
            left.append(f"{top}/" if below else top)
    names = list(dict.fromkeys(left))
    return Original(folder, record, read_toml(folder / CONFIG), copied, names)


def take_over(run: ActiveRun, original: Original) -> list[str]:
    """Copy the files of the original, and have its record say what was measured; remarks."""
    record, remarks = original.record, []
    for path in original.copied:
        target = run.folder / path.relative_to(original.folder)
        if path.name in SCORES and (problem := _check_scores(path)):
            remarks.append(f"{path.name} was not taken: {problem}")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        with atomic_path(target) as temporary:
            shutil.copyfile(path, temporary)
    facts = {name: value for name, value in record.facts.items() if name not in ADOPTION}
    about = {"run": record.name, "uid": record.uid, "author": record.author, "host": record.host}
    run.add_facts({**facts, **{f"adopted_{name}": value for name, value in about.items()}})
    weights = None
    if best := original.file(WEIGHTS):
        weights, problem = _copy_weights(run, best)
        remarks += [problem] if problem else []
    run.take_over(record, weights)
    if original.left:
        remarks.append(f"not taken: {', '.join(original.left)}")
    return [*remarks, *_describe_end(record)]


def find_end(record: RunRecord) -> tuple[str, str]:
    """Status and reason that the adopted run has: those of the original.

    Of one that goes on there, what was copied is the run up to an interruption.
    """
    if record.status in OPEN:
        return "interrupted", f"adopted while it was {record.status} there"
    return record.status, record.error


def _describe_end(record: RunRecord) -> Iterator[str]:
    """That the original did not finish."""
    if record.status != "finished":
        verb = "had" if record.status == "failed" else "was"
        after = f" after epoch {record.epoch}" if record.epoch else ""
        reason = f" ({record.error})" if record.error else ""
        yield f"{record.name} {verb} {record.status}{after} there{reason}"


def _check_scores(path: Path) -> str:
    """Why a file of probabilities cannot be read; empty where it can."""
    from tracker.training.predict.probabilities import load_probabilities

    try:
        load_probabilities(path)
    except TrackerError as error:
        return str(error)
    return ""


def _copy_weights(run: ActiveRun, path: Path) -> tuple[str | None, str]:
    """The fingerprint of the copied weights, or a remark that they cannot be read."""
    from tracker.training.run.infer import load_weights

    run.add_file(path)
    try:
        return load_weights(path)[1], ""
    except TrackerError as error:
        return None, str(error)


def is_adopted(record: RunRecord) -> bool:
    """Whether a run was adopted, whatever its status was there; not one that was only begun."""
    facts = record.facts
    return "adopted_from" in facts and (record.status == "finished" or "adopted_at" in facts)


def find_same(workspace: Workspace, uid: str) -> str:
    """The run here that is the run `uid`, or was adopted from it; empty without one."""
    for record in list_runs(workspace.runs_dir):
        is_original = record.status == "finished" and record.uid == uid
        if is_original or (is_adopted(record) and record.facts.get("adopted_uid") == uid):
            return record.name
    return ""


def link_adopted(
    workspace: Workspace, config: dict[str, Any], original: Original | None
) -> tuple[dict[str, Any], dict[str, Any]]:
    """The config of an adopted ensemble with the names of members that are here, and its facts.

    The others are named as runs of another workspace. A config without members stays as it is.
    """
    table = config.get("ensemble")
    if isinstance(table, dict) and isinstance(table.get("members"), str):  # of MLflow
        listed = parse_toml_value(table["members"])
        config = replace_members(config, listed if isinstance(listed, list) else [])
    names = list_member_names(config)
    if not names:
        return config, {}
    uids = read_member_uids(original.record.facts if original else {}, len(names))
    here: dict[str, RunRecord] = {}
    for record in reversed(list_runs(workspace.runs_dir)):
        here.update({str(record.facts.get("adopted_uid") or record.uid): record})
        here[record.uid] = record
    linked, known = [], []
    for name, uid in zip(names, uids, strict=True):
        found = here.get(uid) if uid else None
        pulled = None if found else find_run_by_uid(workspace, name, uid)
        other = name if is_elsewhere(name) else name_elsewhere(name, uid)
        linked.append(found.name if found else pulled or other)
        known.append(found.uid if found else uid)
    facts = {"members": known} if None not in known else {}
    return replace_members(config, linked), facts
