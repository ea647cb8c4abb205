"""Find the table with a model's predictions in a folder: never a solution, sample or labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tracker.core.errors import TrackerError
from tracker.leaderboards import build_leaderboard
from tracker.training.tables import read_columns
from tracker.workspace.data import list_competition_ids
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Workspace

# Words in the names of files that a competition provides, or that are made from those.
PROVIDED = re.compile(
    r"(?:^|[^a-z])(?:solutions?|samples?|truth|gt|answer_?keys?|labels?|train|info)(?:[^a-z]|$)"
)
REFUSED = "was not taken as predictions"
MAX_COLUMNS = 6  # that a remark names: an answer may have one for each of many classes


def choose_predictions(
    files: Sequence[Path], workspace: Workspace
) -> tuple[Path | None, list[str]]:
    """The CSV with the competition's id and answer columns, and remarks.

    Of several, one with the competition's ids is taken, then the newest. Solutions, samples and
    labels are not taken: they are known by name, by a column Usage or by content; a remark says so.
    """
    competition = workspace.competition
    columns = (competition.id_column, *competition.value_columns)
    # Tables with the right columns that a model may have made.
    remarks, candidates = [], []
    for path in files:
        if path.suffix.lower() != ".csv" or not _has_columns(path, columns):
            continue
        if reason := _explain_refusal(path, workspace):
            remarks.append(f"{path.name} {REFUSED}: {reason}")
        else:
            candidates.append(path)
    if not candidates:
        more = f" and {len(columns) - MAX_COLUMNS} more" if len(columns) > MAX_COLUMNS else ""
        named = ", ".join(columns[:MAX_COLUMNS]) + more
        remarks.append(f"no CSV with predictions (columns {named}): the run cannot be submitted")
        return None, remarks
    # Of those, the newest with the right ids.
    ids = _list_ids(workspace)
    fitting = [path for path in candidates if ids is None or _read_ids(path, workspace) == ids]
    chosen = max(fitting or candidates, key=lambda path: path.stat().st_mtime)
    if len(candidates) > 1:
        remarks.append(
            f"{len(candidates)} prediction tables, {chosen.name} was taken (the newest that fits)"
        )
    return chosen, remarks


def _has_columns(path: Path, columns: Sequence[str]) -> bool:
    try:
        next(read_columns(path, columns), None)
    except TrackerError:
        return False  # another table
    return True


def _explain_refusal(path: Path, workspace: Workspace) -> str:
    """Why a table cannot be a model's predictions; empty when it can."""
    name = path.stem.lower()
    if PROVIDED.search(name) and "pred" not in name:
        return "by its name it is a solution, a sample or labels (rename it if a model made it)"
    if _has_columns(path, ("Usage",)):
        return "it has a column Usage, as a solution has"
    fingerprint = _fingerprint(path, workspace)
    for other in _list_provided(workspace):
        if fingerprint and _fingerprint(other, workspace) == fingerprint:
            return f"its content is that of {workspace.relative(other)}"
    return ""


def _list_provided(workspace: Workspace) -> list[Path]:
    """The solution, and files with such names in the workspace and beside the data."""
    folders = {workspace.root}
    for key in ("eval_dir", "train_dir"):
        if text := workspace.data.get(key):
            folder = workspace.resolve(str(text))
            folders |= {folder, folder.parent}
    solution = build_leaderboard(workspace).find_solution()
    provided = {*workspace.leaderboard_files, *([solution] if solution else ())}
    for folder in folders:
        provided.update(path for path in folder.glob("*.csv") if PROVIDED.search(path.stem.lower()))
    return sorted(provided)


def _fingerprint(path: Path, workspace: Workspace) -> str:
    try:
        return load_answers(path, workspace.competition).fingerprint
    except TrackerError:
        return ""


def _read_ids(path: Path, workspace: Workspace) -> set[str] | None:
    try:
        return set(load_answers(path, workspace.competition).ids)
    except TrackerError:
        return None


def _list_ids(workspace: Workspace) -> set[str] | None:
    """The competition's ids, None where they are not known."""
    try:
        ids = list_competition_ids(workspace, {})
    except TrackerError:
        return None
    return None if ids is None else set(ids)
