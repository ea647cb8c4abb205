"""Teammates' runs in MLflow: those that are running, and the files of one that has ended."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.metric_names import to_chart_name, to_mlflow_name
from tracker.mirror.targets.mlflow_server import (
    CHARTS_TAG,
    HEARTBEAT_TAG,
    HOST_TAG,
    RECORD_TAG,
    connect,
    library_errors,
    list_artifact_sizes,
    translate,
)
from tracker.training.numbers import is_whole
from tracker.workspace.tracker_toml import Workspace

RUNNING = "tags.`tracker.status` = 'running'"
MAX_RUNNING = 1000
MAX_COPIES = 10


@dataclass(frozen=True, kw_only=True)
class RunningRun:
    """A run that has not ended: `run` is its name where it is made, `heartbeat` UTC or empty.

    `best` has its best validation figures so far, as texts.
    """

    uid: str
    run: str
    kind: str
    author: str
    host: str
    parent: str
    started_ms: int
    heartbeat: str
    best_epoch: int | None
    best: dict[str, str]


def list_running(workspace: Workspace) -> list[RunningRun]:
    """The runs of the competition that MLflow knows as running; raises MlflowError."""
    client = connect(workspace)
    try:
        runs = _search(client, workspace, RUNNING, MAX_RUNNING)
    except library_errors() as error:
        raise translate(workspace, error) from error
    return [_describe(run) for run in runs]


def read_running_curves(
    workspace: Workspace, metric: str, uids: Collection[str]
) -> dict[str, list[float]]:
    """{uid: the values of a metric so far, in their order} of running runs; raises MlflowError."""
    client = connect(workspace)
    curves = {}
    try:
        for run in _search(client, workspace, RUNNING, MAX_RUNNING):
            uid = run.data.tags.get("tracker.uid", "")
            name = to_mlflow_name(metric)
            if CHARTS_TAG in run.data.tags:
                name = to_chart_name(name)
            if uid in uids and name in run.data.metrics:
                points = client.get_metric_history(run.info.run_id, name)
                # a step that was logged again after a resume has only its last value
                by_step = {point.step: point.value for point in points}
                curves[uid] = [by_step[step] for step in sorted(by_step)]
    except library_errors() as error:
        raise translate(workspace, error) from error
    return curves


def read_running_points(
    workspace: Workspace, uids: Collection[str], curves: Collection[str]
) -> dict[str, dict[str, list[float]]]:
    """{uid: {metric: values}} of running runs; raises MlflowError.

    Of the metrics in `curves` all values so far in their order, of others the newest one.
    """
    client = connect(workspace)
    found: dict[str, dict[str, list[float]]] = {}
    try:
        for run in _search(client, workspace, RUNNING, MAX_RUNNING):
            uid = run.data.tags.get("tracker.uid", "")
            if uid not in uids:
                continue
            names = {name: [value] for name, value in run.data.metrics.items()}
            for metric in curves:
                there = to_mlflow_name(metric)
                if CHARTS_TAG in run.data.tags:
                    there = to_chart_name(there)
                if there in names:
                    points = client.get_metric_history(run.info.run_id, there)
                    by_step = {point.step: point.value for point in points}
                    names.pop(there)
                    names[metric] = [by_step[step] for step in sorted(by_step)]
            found[uid] = names
    except library_errors() as error:
        raise translate(workspace, error) from error
    return found


def _describe(run: Any) -> RunningRun:
    tags = run.data.tags
    best_epoch = tags.get("tracker.best_epoch", "")
    return RunningRun(
        uid=tags.get("tracker.uid", ""),
        run=run.info.run_name or "",
        kind=tags.get("tracker.kind", ""),
        author=tags.get("mlflow.user", ""),
        host=tags.get(HOST_TAG, ""),
        parent=tags.get("tracker.parent", ""),
        started_ms=run.info.start_time or 0,
        heartbeat=tags.get(HEARTBEAT_TAG, ""),
        best_epoch=int(best_epoch) if is_whole(best_epoch) else None,
        best={
            key.removeprefix("best/"): value
            for key, value in tags.items()
            if key.startswith("best/val/")
        },
    )


def _search(client: Any, workspace: Workspace, condition: str, limit: int) -> list[Any]:
    """The runs of the competition's experiment, also those that are hidden as archived."""
    from mlflow.entities import ViewType

    experiment = client.get_experiment_by_name(workspace.competition.name)
    if experiment is None:
        return []
    found: list[Any] = client.search_runs(
        [experiment.experiment_id],
        filter_string=condition,
        run_view_type=ViewType.ALL,
        max_results=limit,
    )
    return found


class RunFiles:
    """The files of one run in MLflow; its methods raise MlflowError."""

    def __init__(self, workspace: Workspace, uid: str) -> None:
        self._workspace = workspace
        self._client = connect(workspace)
        try:
            runs = _search(self._client, workspace, f"tags.`tracker.uid` = '{uid}'", MAX_COPIES)
        except library_errors() as error:
            raise translate(workspace, error) from error
        # of two copies, the one that is complete
        runs.sort(key=lambda run: RECORD_TAG not in run.data.tags)
        self._run: Any = runs[0] if runs else None

    @property
    def is_there(self) -> bool:
        """Whether MLflow has the run."""
        return self._run is not None

    @property
    def record_hash(self) -> str:
        """SHA-256 of record.json; empty in a copy of an earlier version."""
        return str(self._run.data.tags.get(RECORD_TAG, "")) if self._run is not None else ""

    def list_sizes(self) -> dict[str, int | None]:
        """{file: bytes} of the files of the run folder itself."""
        try:
            return list_artifact_sizes(self._client, self._run.info.run_id, [""])
        except library_errors() as error:
            raise translate(self._workspace, error) from error

    def download(self, name: str, folder: Path) -> Path:
        """Download a file into `folder`; its path there."""
        try:
            return Path(self._client.download_artifacts(self._run.info.run_id, name, str(folder)))
        except library_errors() as error:
            raise translate(self._workspace, error) from error
