"""The runs of everybody: those in the ledger, and those that are running, which MLflow knows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from tracker.core.clock import from_utc_text, to_utc_text, utc_now
from tracker.core.errors import TrackerError
from tracker.ledger.team_runs import FINGERPRINTS, RUNNING, IndexedRun, TeamRuns, read_pulled
from tracker.mirror.pull import is_alone
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import RUN_NAME, TEAM, RunRecord, is_pulled
from tracker.training.files import write_json
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.mirror.targets.mlflow_team import RunningRun

ASK_AGAIN_S = 60.0
SILENT_S = 300.0  # heartbeats come once a minute; clocks differ, and a copy may be behind
HERE, COPY = "here", "copy"


@dataclass(frozen=True, kw_only=True)
class TeamRun:
    """A run of the team: `name` is its name in this workspace, `run` where it was made.

    `place` is here, copy (it was pulled) or empty. A running run has a `heartbeat` (UTC); it is
    `silent` when the last one is minutes old. `metrics` are those of the best epoch.
    """

    name: str
    run: str
    uid: str
    author: str
    host: str
    kind: str
    status: str
    place: str
    created_at: str
    finished_at: str | None
    heartbeat: str | None
    silent: bool
    best_epoch: int | None
    metrics: Mapping[str, float | None]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Team:
    """The runs of everybody, newest first.

    `asked_at` is when MLflow was asked for the running ones, None where it never answered;
    `problem` says why they are unknown or old.
    """

    runs: Sequence[TeamRun]
    asked_at: str | None
    problem: str


def list_team(workspace: Workspace) -> Team:
    """The runs in the ledger and those that are running; MLflow is asked at most once a minute.

    Raises LedgerError. Without an answer of MLflow its last one is used, and `problem` says so.
    """
    elsewhere, asked_at, problem = _find_running(workspace)
    own = [record for record in list_runs(workspace.runs_dir) if record.uid]
    running = {run.uid: run for run in elsewhere if RUN_NAME.fullmatch(run.run)}
    for record in own:  # the folders here are newer than what MLflow knows of them
        running.pop(record.uid, None)
    beats = {uid: run.heartbeat for uid, run in running.items()}
    indexed = [_index_running(run) for run in running.values()]
    for record in own:
        if record.status == "running":
            beats[record.uid] = record.heartbeat
            indexed.append(_index_record(record))
    ended = {run.uid: run.finished_at or "" for run in TeamRuns(workspace).runs}
    # one that is in the ledger runs again (--resume), or MLflow is behind
    alive = [run for run in indexed if run.uid not in ended or ended[run.uid] < beats[run.uid]]
    runs = TeamRuns(workspace, alive).runs
    here = {record.uid for record in own}
    pulled = read_pulled(workspace)
    entries = [_describe(run, beats.get(run.uid), _find_place(run, here, pulled)) for run in runs]
    entries.sort(key=lambda entry: (entry.created_at, entry.name), reverse=True)
    return Team(runs=entries, asked_at=asked_at, problem=problem)


def ask_for_running(workspace: Workspace) -> None:
    """Let names that mean a running run of a teammate be known; MLflow is asked once a minute."""
    _find_running(workspace)


def read_team_curves(
    workspace: Workspace, runs: Sequence[TeamRun], metric: str
) -> dict[str, list[float]]:
    """{uid: the values of a metric so far} of teammates' running runs; raises MlflowError."""
    from tracker.mirror.targets.mlflow_team import read_running_curves

    return read_running_curves(workspace, metric, {run.uid for run in runs})


def _find_place(run: IndexedRun, here: set[str], pulled: Mapping[str, tuple[str, int]]) -> str:
    if run.uid in here and not is_pulled(run.name):
        return HERE
    return COPY if run.uid in pulled else ""


def _describe(run: IndexedRun, heartbeat: str | None, place: str) -> TeamRun:
    is_running = run.status == "running"
    return TeamRun(
        name=run.name,
        run=run.run,
        uid=run.uid,
        author=run.author,
        host=run.host,
        kind=run.kind,
        status=run.status,
        place=place,
        created_at=run.created_at,
        finished_at=run.finished_at,
        heartbeat=heartbeat if is_running else None,
        silent=is_running and _is_silent(heartbeat or ""),
        best_epoch=run.best_epoch,
        metrics=run.summary,
    )


def _is_silent(heartbeat: str) -> bool:
    try:
        beat = from_utc_text(heartbeat)
    except ValueError:
        return True  # a copy of an earlier version has none
    return (dt.datetime.now(dt.UTC) - beat).total_seconds() > SILENT_S


def _index_record(record: RunRecord) -> IndexedRun:
    return IndexedRun(
        seq=0,
        run=record.name,
        path="",
        fingerprints=dict.fromkeys(FINGERPRINTS),
        summary=record.summary,
        **{name: getattr(record, name) for name in _SAME},
    )


_SAME = (
    *("uid", "kind", "status", "parent", "author", "host"),
    *("created_at", "finished_at", "best_epoch"),
)


def _index_running(run: RunningRun) -> IndexedRun:
    summary: dict[str, float | None] = {}
    for name, text in run.best.items():
        with suppress(ValueError):
            summary[name] = float(text)
    return IndexedRun(
        seq=0,
        uid=run.uid,
        run=run.run,
        kind=run.kind,
        status="running",
        parent=run.parent or None,
        author=run.author,
        host=run.host,
        created_at=to_utc_text(dt.datetime.fromtimestamp(run.started_ms / 1000, dt.UTC)),
        finished_at=None,
        best_epoch=run.best_epoch,
        summary=summary,
        fingerprints=dict.fromkeys(FINGERPRINTS),
        path="",
    )


# --- what MLflow says, at most once a minute


def _find_running(workspace: Workspace) -> tuple[list[RunningRun], str | None, str]:
    """(the running runs, when MLflow said so, why they are old or unknown)."""
    if is_alone(workspace):
        return [], utc_now(), ""
    known, asked_at = _read_cache(workspace)
    if asked_at and _age_s(asked_at) < ASK_AGAIN_S:
        return known, asked_at, ""
    try:
        known = _ask(workspace)
    except TrackerError as error:
        since = "running runs of others are not known"
        if asked_at:
            since = f"running runs are those of {workspace.competition.local_time(asked_at)}"
        return known, asked_at, f"{error}: {since}"
    asked_at = utc_now()
    folder = workspace.root / TEAM
    folder.mkdir(parents=True, exist_ok=True)
    content = {"asked_at": asked_at, "uri": workspace.shown_mlflow_uri}
    write_json(folder / RUNNING, {**content, "runs": [asdict(run) for run in known]})
    return known, asked_at, ""


def _ask(workspace: Workspace) -> list[RunningRun]:
    from tracker.mirror.targets.mlflow_team import list_running

    return list_running(workspace)


def _read_cache(workspace: Workspace) -> tuple[list[RunningRun], str | None]:
    from tracker.mirror.targets.mlflow_team import RunningRun

    try:
        raw = parse_json((workspace.root / TEAM / RUNNING).read_text(encoding="utf-8"))
        if raw["uri"] != workspace.shown_mlflow_uri:
            return [], None
        _age_s(raw["asked_at"])
        return [RunningRun(**run) for run in raw["runs"]], raw["asked_at"]
    except (OSError, ValueError, TypeError, LookupError):
        return [], None


def _age_s(text: str) -> float:
    return abs((dt.datetime.now(dt.UTC) - from_utc_text(text)).total_seconds())
