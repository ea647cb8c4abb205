"""The running runs of teammates as they are watched: MLflow's heartbeats, newest values, curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.mirror.team import HERE, Team, TeamRun, list_team
from tracker.run_folder.running import GPU, LOSSES, SPEED, RunningRun
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class TeamView:
    """Teammates' running runs and those seen running before; `note` is when MLflow was asked,
    `problem` why something is not known.

    `values` has what a condition can ask for, by the run's key.
    """

    runs: Sequence[RunningRun] = ()
    note: str = ""
    problem: str = ""
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


class TeamWatcher:
    """Asks MLflow for what runs elsewhere. A run that has ended keeps the curves that it had."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._metric = f"val/{workspace.competition.primary_metric}"
        self._seen: dict[str, RunningRun] = {}

    def read(self) -> TeamView:
        """Ask once, and wait for the answer; raises LedgerError or MlflowError."""
        team = list_team(self._workspace)
        running = [run for run in team.runs if run.status == "running" and run.place != HERE]
        # without an answer of MLflow, what it said of the curves before is kept
        if running and not team.problem:
            self._read_points(running)
        known = {run.uid: run for run in team.runs}
        for uid, seen in self._seen.items():
            status = _find_status(known.get(uid))
            left_s = seen.left_s if status == "running" else None
            self._seen[uid] = replace(seen, status=status, left_s=left_s)
        values = {run.uid: {**run.to_dict(), **run.metrics} for run in team.runs}
        return TeamView(
            runs=list(self._seen.values()),
            note=self._render_note(team),
            problem=team.problem,
            values=values,
        )

    def _read_points(self, running: Sequence[TeamRun]) -> None:
        from tracker.mirror.targets.mlflow_team import read_running_points

        curves = (self._metric, *LOSSES, SPEED)
        points = read_running_points(self._workspace, {run.uid for run in running}, curves)
        for run in running:
            self._seen[run.uid] = self._build(run, points.get(run.uid, {}))

    def _build(self, run: TeamRun, points: Mapping[str, Sequence[float]]) -> RunningRun:
        curves = {}
        for name in (self._metric, *LOSSES, SPEED):
            numbered = enumerate(points.get(name, ()), start=1)  # one value for each epoch
            curves[name] = tuple(
                (epoch, value) for epoch, value in numbered if math.isfinite(value)
            )
        curves = {name: curve for name, curve in curves.items() if curve}
        curve = curves.get(self._metric, ())
        values = tuple(value for _, value in curve)
        best = max if higher_is_better(self._workspace.competition.metrics, self._metric) else min
        machine = {name for name in points if name.startswith(SYSTEM_PREFIX)}
        return RunningRun(
            name=run.name,
            epoch=max((part[-1][0] for part in curves.values()), default=run.best_epoch or 0),
            epochs=None,
            loss=_last(points, "train/loss"),
            metric=self._metric,
            value=values[-1] if values else None,
            best=best(values) if values else None,
            images_per_s=_last(points, SPEED),
            gpu_percent=_last(points, GPU),
            left_s=None,
            curve=values,
            curve_epochs=tuple(epoch for epoch, _ in curve),
            uid=run.uid,
            host=run.host,
            curves=curves,
            samples={name: tuple(points[name]) for name in (*machine, SPEED) if name in points},
        )

    def _render_note(self, team: Team) -> str:
        if not team.asked_at:
            return ""
        return f"team: as of {self._workspace.competition.local_time(team.asked_at, '%H:%M')}"


def _find_status(run: TeamRun | None) -> str:
    """Of a run that was seen running; one that nobody knows any more has ended."""
    if run is None:
        return "ended"
    return "silent" if run.silent else run.status


def _last(points: Mapping[str, Sequence[float]], name: str) -> float | None:
    values = points.get(name)
    return values[-1] if values else None
