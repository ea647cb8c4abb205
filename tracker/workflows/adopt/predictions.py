"""Which table of a folder has a model's predictions: never a solution, a sample or a file of
labels."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from tracker.core.errors import TrackerError
from tracker.training.config import DataConfig
from tracker.training.data.data import list_eval_ids
from tracker.training.tables import read_columns
from tracker.workspace.competition import Workspace
from tracker.workspace.data import build_task
from tracker.workspace.predictions import load_answers

# Words in the name of a file that is given out by a competition, or made from it.
GIVEN_OUT = re.compile(
    r"(?:^|[^a-z])(?:solutions?|samples?|truth|gt|answer_?keys?|labels?|train|info)(?:[^a-z]|$)"
)


def choose_predictions(
    files: Sequence[Path], workspace: Workspace
) -> tuple[Path | None, list[str]]:
    """The CSV that has the competition's two columns; with several, one with its ids, then the
    newest; and remarks.

    A table that is a solution, a sample or labels, by its name, a column Usage or its content, is
    left out and named.
    """
    competition = workspace.competition
    columns = (competition.id_column, competition.label_column)
    remarks, found = [], []
    for path in files:
        if path.suffix.lower() != ".csv" or not _has_columns(path, columns):
            continue
        if reason := _why_not(path, workspace):
            remarks.append(f"{path.name} was not taken as predictions: {reason}")
        else:
            found.append(path)
    if not found:
        remarks.append(
            f"no CSV with predictions in columns {', '.join(columns)}: it cannot be submitted"
        )
        return None, remarks
    ids = _list_ids(workspace)
    fitting = [path for path in found if ids is None or _ids_of(path, workspace) == ids]
    chosen = max(fitting or found, key=lambda path: path.stat().st_mtime)
    if not fitting:
        remarks.append(
            f"{chosen.name} has other ids than the competition: it cannot be submitted as it is"
        )
    if len(found) > 1:
        remarks.append(
            f"{len(found)} prediction tables, {chosen.name} was taken (the newest that fits)"
        )
    return chosen, remarks


def _has_columns(path: Path, columns: Sequence[str]) -> bool:
    try:
        next(read_columns(path, columns), None)
    except TrackerError:
        return False  # another table
    return True


def _why_not(path: Path, workspace: Workspace) -> str:
    """Why a table is no model's predictions; empty where nothing speaks against it."""
    name = path.stem.lower()
    if GIVEN_OUT.search(name) and "pred" not in name:
        return "by its name it is a solution, a sample or labels (rename it if a model made it)"
    if _has_columns(path, ("Usage",)):
        return "it has a column Usage, as a solution has"
    prints = {
        workspace.relative(other): _fingerprint(other, workspace)
        for other in _list_given_out(workspace)
    }
    own = _fingerprint(path, workspace)
    return next(
        (f"its content is that of {other}" for other, one in prints.items() if own and one == own),
        "",
    )


def _list_given_out(workspace: Workspace) -> list[Path]:
    """The solution, and what lies in the workspace and beside the data under such names."""
    folders = {workspace.root}
    for key in ("eval_dir", "train_dir"):
        if text := workspace.data.get(key):
            folder = workspace.resolve(str(text))
            folders |= {folder, folder.parent}
    found = {
        path
        for folder in folders
        for path in folder.glob("*.csv")
        if GIVEN_OUT.search(path.stem.lower())
    }
    found.update(workspace.leaderboard_files)
    return sorted(found)


def _fingerprint(path: Path, workspace: Workspace) -> str:
    try:
        return load_answers(path, workspace.competition).fingerprint
    except TrackerError:
        return ""


def _ids_of(path: Path, workspace: Workspace) -> set[str] | None:
    try:
        return set(load_answers(path, workspace.competition).ids)
    except TrackerError:
        return None


def _list_ids(workspace: Workspace) -> set[str] | None:
    """The competition's ids, None where they are not known."""
    folder = workspace.data.get("eval_dir")
    if not folder:
        return None
    try:
        return set(
            list_eval_ids(
                DataConfig(eval_dir=str(folder)), build_task(workspace), root=workspace.root
            )
        )
    except TrackerError:
        return None
