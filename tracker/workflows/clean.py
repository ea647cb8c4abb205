"""Free disk space: last.pth of finished runs, pixel caches, and best.pth files nobody needs.

Unfinished runs, predictions, probabilities and the ledger are never touched.
"""

from __future__ import annotations

import filecmp
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.clock import utc_now
from tracker.core.errors import TrackerError
from tracker.core.text import render_number
from tracker.ledger.read import list_newest_numbers
from tracker.mirror.targets.mlflow_server import STATE_NAME
from tracker.run_folder.marks import change_marks
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord
from tracker.training.files import translate_os_errors
from tracker.workspace.metrics import choose_metrics, higher_is_better, list_measured
from tracker.workspace.mlflow_paths import is_own_store
from tracker.workspace.tracker_toml import Workspace

LAST, CACHE, BEST, COPY = "last.pth", "pixel cache", "best.pth", "MLflow's copy of best.pth"


@dataclass(frozen=True, kw_only=True)
class FreeableFile:
    """A file that can be deleted; `what` is LAST, CACHE, BEST or COPY, `size` in bytes on disk.

    `own_loop`: the run was trained by the user's own script.
    """

    what: str
    path: Path
    run: str = ""
    size: int
    own_loop: bool = False


@dataclass(frozen=True, kw_only=True)
class CleanPlan:
    """The files that can be deleted; `protected` are runs whose best.pth stays, with the reason.

    `best` is the finished run with the best validation of those that have a best.pth, `best_score`
    says by which figure; both are empty where no checkpoint can be deleted. `num_caches` pixel
    caches stay: a running run has them open, or they were used last.
    """

    files: Sequence[FreeableFile]
    protected: Mapping[str, str]
    best: str = ""
    best_score: str = ""
    num_caches: int = 0

    @property
    def size(self) -> int:
        """Bytes."""
        return sum(item.size for item in self.files)


def plan_clean(workspace: Workspace, *, checkpoints: bool = False) -> CleanPlan:
    """The files that can be deleted; with `checkpoints`, also best.pth of unprotected runs.

    Raises LedgerError when the ledger cannot be read, and TrackerError when a run cannot be read:
    it may be an ensemble of runs whose checkpoints must stay.
    """
    records = list_runs(workspace.runs_dir)
    finished = [record for record in records if record.status == "finished"]
    files = [item for record in finished for item in _find_file(workspace, record, LAST)]
    caches, num_kept = _find_caches(workspace)
    files += caches
    protected: dict[str, str] = {}
    if checkpoints:
        protected = list_protected(workspace, records)
        for record in finished:
            if record.name not in protected:
                files += _find_copy(workspace, record)  # before the file that it is compared with
                files += _find_file(workspace, record, BEST)
    protected = {
        name: reason
        for name, reason in protected.items()
        if (workspace.runs_dir / name / BEST).is_file()
    }
    best, best_score = _find_best(workspace, finished) if checkpoints else ("", "")
    return CleanPlan(
        files=files,
        protected=protected,
        best=best,
        best_score=best_score,
        num_caches=num_kept,
    )


def _find_best(workspace: Workspace, finished: Sequence[RunRecord]) -> tuple[str, str]:
    """(the run with best.pth and the best validation, its figure), empty where none is known."""
    comp = workspace.competition
    with_file = [run for run in finished if (workspace.runs_dir / run.name / BEST).is_file()]
    measured = choose_metrics(comp, list_measured(run.summary for run in with_file))
    if not measured:
        return "", ""
    metric = comp.primary_metric if comp.primary_metric in measured else measured[0]
    name = f"val/{metric}"
    sign = 1 if higher_is_better(comp.metrics, name) else -1
    scores = {run.name: run.summary.get(name) for run in with_file}
    known = {run: score for run, score in scores.items() if score is not None}
    if not known:
        return "", ""
    best = max(known, key=lambda run: sign * known[run])
    return best, f"{name} {render_number(known[best])}"


def list_protected(workspace: Workspace, records: Sequence[RunRecord]) -> dict[str, str]:
    """The runs whose checkpoints must stay, with the reason; raises TrackerError.

    They are submitted, tagged or unfinished, or a run that stays is made from their weights.
    """
    if broken := [record.name for record in records if record.status == "broken"]:
        raise TrackerError(
            f"cannot read {broken[0]}: it is unknown which checkpoints it needs",
            hint=(
                f"tracker show {broken[0]} says what is wrong; tracker clean without --checkpoints"
                " frees the rest"
            ),
        )
    submitted = list_newest_numbers(workspace, [record.uid for record in records])
    by_uid = {record.uid: record.name for record in records if record.uid}
    # First the runs that stay for their own sake ...
    protected: dict[str, str] = {}
    for record in records:
        if record.uid in submitted:
            protected[record.name] = f"submission {submitted[record.uid]}"
        elif record.tags:
            protected[record.name] = f"tag {record.tags[0]}"
        elif record.status != "finished":
            protected[record.name] = record.status
        elif record.kind == "ensemble":
            protected[record.name] = "ensemble"
    # ... then the runs whose weights those need.
    for record in records:
        if record.name in protected:
            for name in _list_needed(workspace, record, by_uid):
                protected.setdefault(name, f"needed by {record.name}")
    return protected


def _list_needed(
    workspace: Workspace, record: RunRecord, by_uid: Mapping[str, str]
) -> Iterator[str]:
    """The runs that a run has its weights from: its source, or its members, and theirs in turn."""
    known = set(by_uid.values())
    seen: set[str] = set()
    pending = [record]
    while pending:
        current = pending.pop()
        names: list[str] = []
        if current.kind == "infer" and current.parent:
            names = [current.parent]
        if current.kind == "ensemble":
            # By name and by uid: either may be missing in a run of an earlier version.
            config = load_config(workspace.runs_dir, current.name)
            names = [str(name) for name in config.get("ensemble", {}).get("members", [])]
            names += [by_uid[uid] for uid in current.facts.get("members", []) if uid in by_uid]
        new = [name for name in dict.fromkeys(names) if name in known - seen]
        seen.update(new)
        yield from new
        pending += [load_run(workspace.runs_dir, name) for name in new]


def _find_file(workspace: Workspace, record: RunRecord, name: str) -> list[FreeableFile]:
    path = workspace.runs_dir / record.name / name
    if not path.is_file():
        return []
    own_loop = not record.fingerprints.get("data")  # of a training here it is known at its start
    size = path.stat().st_size
    return [FreeableFile(what=name, path=path, run=record.name, size=size, own_loop=own_loop)]


def _find_copy(workspace: Workspace, record: RunRecord) -> list[FreeableFile]:
    """MLflow's copy of best.pth, if it is in this workspace and equal to the one in the run."""
    folder = workspace.runs_dir / record.name
    try:
        state: Any = json.loads((folder / STATE_NAME).read_text(encoding="utf-8"))
        own = is_own_store(workspace, state.get("tracking_uri"))
        path = workspace.root / "mlartifacts" / str(state["run_id"]) / "artifacts" / BEST
        if not own or not (folder / BEST).is_file():
            return []
        if not filecmp.cmp(path, folder / BEST, shallow=False):
            return []
    except (OSError, ValueError, LookupError, AttributeError, RecursionError):
        return []
    return [FreeableFile(what=COPY, path=path, run=record.name, size=path.stat().st_size)]


def _find_caches(workspace: Workspace) -> tuple[list[FreeableFile], int]:
    """The pixel caches that can be deleted, and how many stay.

    Those that a running run has open stay, and the last one used: the next run is likely to use it.
    """
    from tracker.training.input.cache import list_caches, list_unused

    files = []
    for path in list_unused(workspace.state_dir):
        # Blocks of 512 bytes: a cache is a sparse file, its length is more than it takes.
        files.append(FreeableFile(what=CACHE, path=path, size=path.stat().st_blocks * 512))
    return files, max(0, len(list_caches(workspace.state_dir)) - len(files))


def free_files(
    workspace: Workspace, plan: CleanPlan, *, checkpoints: bool = False
) -> list[FreeableFile]:
    """Delete the files of a plan and return the deleted ones; the run records say so.

    A file that has come into use since the plan was made stays. Raises StorageError and the errors
    of `plan_clean`.
    """
    from tracker.training.input.cache import remove_unused

    current = plan_clean(workspace, checkpoints=checkpoints).files
    files = [item for item in plan.files if item in current]
    for name in dict.fromkeys(item.run for item in files if item.run):
        of_run = [item.what for item in files if item.run == name and item.what != COPY]
        _record_freed(workspace, name, of_run)
    deleted = []
    for item in files:
        if item.what == CACHE:
            if not remove_unused(item.path):
                continue
        else:
            with translate_os_errors(item.path, "remove"):
                item.path.unlink(missing_ok=True)
        deleted.append(item)
    return deleted


def _record_freed(workspace: Workspace, name: str, files: Iterable[str]) -> None:
    """Write to the record what is about to be deleted.

    Written afterwards, a crash in between would make the file look lost.
    """
    record = load_run(workspace.runs_dir, name)
    now = utc_now()
    change_marks(workspace, name, freed={**record.freed, **dict.fromkeys(files, now)})
