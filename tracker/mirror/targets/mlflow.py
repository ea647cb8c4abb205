"""A run's copy in MLflow. Whatever answer of it is lost, the next push repeats what may not have
arrived.

What has arrived stays as it is: points by key, step, time and value, files by size and time.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.clock import from_utc_text, utc_now
from tracker.core.metric_names import to_chart_name, to_mlflow_name
from tracker.ledger.records import Note, Submission
from tracker.mirror.targets import Point, RunInfo, Target, describe_text
from tracker.mirror.targets import mlflow_server as server
from tracker.mirror.targets.mlflow_archive import delete_run, is_deleted, restore_run
from tracker.mirror.targets.mlflow_server import CHARTS_TAG, COPIED_TAG, STATE_NAME, find_one
from tracker.mirror.targets.mlflow_store import find_metrics_table, insert_points
from tracker.mirror.targets.mlflow_view import ensure_experiment
from tracker.runs.record import RunRecord
from tracker.training.errors import TrackerError, first_line
from tracker.training.metrics import list_monitors
from tracker.workspace.competition import Workspace
from tracker.workspace.relocation import is_own_store

BATCH = 1000  # metrics a request, MLflow's limit
BULK = 20_000  # metrics a transaction where the store is a database that we write ourselves
TAG_PREFIX = "tracker."
IDENTITY_TAGS = ("tracker.uid", COPIED_TAG, CHARTS_TAG)  # set when the copy is made
STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class MlflowTarget(Target):
    """A run of the competition's experiment; `mlflow.json` in the run folder names it."""

    title = "MLflow"
    state_name = STATE_NAME
    library = "mlflow"

    def __init__(self, workspace: Workspace, folder: Path, connection: Any) -> None:
        super().__init__(workspace, folder, connection)
        self.state.fixed = {"tracking_uri": workspace.shown_mlflow_uri}
        self._client = connection
        self._table = find_metrics_table(workspace)
        self.batch = BULK if self._table is not None else BATCH
        self._run_id = ""
        self._settled = (
            False  # whether this process has looked for the run in MLflow since the last error
        )
        self._names: dict[str, str] = {}
        self._charts = False  # whether the curves in MLflow are named for the order of its charts

    @classmethod
    def check_reachable(cls, workspace: Workspace) -> None:
        """Ask the server, and note for other runs whether it answers; raises MlflowUnreachableError."""
        server.check_reachable(workspace)

    @classmethod
    def connect(cls, workspace: Workspace) -> Any:
        """MLflow's client."""
        return server.connect(workspace)

    @classmethod
    def find_outage(cls, workspace: Workspace) -> str:
        """Why the server did not answer the last time, empty when it did."""
        return server.find_outage(workspace)

    @classmethod
    def note_no_answer(cls, workspace: Workspace) -> None:
        """Tell other runs that the server has not answered yet."""
        server.note_outage(
            workspace, f"MLflow at {workspace.shown_mlflow_uri} has not answered yet"
        )

    def load_state(self) -> None:
        """What was copied before to this tracking server; what went to another one does not hold
        here."""
        super().load_state()
        uri = self.state.get("tracking_uri")
        if uri != self.workspace.shown_mlflow_uri and not is_own_store(self.workspace, uri):
            self.state.forget()

    def start(self, record: RunRecord) -> bool:
        """Find the run, or create it; False when it was deleted in MLflow, or is archived and put
        away."""
        if record.archived_at and (
            self.state.get("away") == "yes" or "run_id" not in self.state.values
        ):
            return False
        if self.state.get("away") and not record.archived_at:
            restore_run(self._client, str(self.state.get("run_id")))  # a removed one is copied anew
            self.state.save(away="")
            self._settled = False
        self._run_id = self._find_run(record)
        return bool(self._run_id)

    def fail(self) -> None:
        """Look for the run again."""
        self._settled = False

    def translate(self, error: BaseException) -> TrackerError | None:
        """Errors of MLflow and what it stands on."""
        return (
            server.translate(self.workspace, error)
            if isinstance(error, server.library_errors())
            else None
        )

    def params(self, values: Mapping[str, Any]) -> None:
        """The config, a hundred keys a request."""
        from mlflow.entities import Param

        params = [Param(self._name(key), _clean_text(str(value))) for key, value in values.items()]
        for part in _batches(params, 100):
            self._log_batch("params", part)

    def points(self, batch: Sequence[Point]) -> None:
        """Points through MLflow's interface; many at once straight into its database, where that is
        a file."""
        from mlflow.entities import Metric

        new = [point._replace(values=self._place(point.values)) for point in batch]
        if self._table is not None and sum(len(point.values) for point in new) > BATCH:
            last = {key: point for point in new for key in point.values}
            insert_points(self._table, self._run_id, new, exclude=last)
            pairs = list(last.items())  # MLflow finds out which value is the latest
        else:
            pairs = [(key, point) for point in new for key in point.values]
        metrics = [
            Metric(key, point.values[key], point.time_ms, point.step) for key, point in pairs
        ]
        for part in _batches(metrics, BATCH):
            self._log_batch("metrics", part)

    def artifact(self, path: Path, name: str) -> None:
        """A file, in the folder that it has in the run folder."""
        self._client.log_artifact(self._run_id, str(path), _folder_of(name))

    def find_incomplete(self, sizes: Mapping[str, int]) -> list[str]:
        """Files whose upload was cut off."""
        there: dict[str, int | None] = {}
        for folder in {_folder_of(name) for name in sizes}:
            there |= {
                file.path: file.file_size
                for file in self._client.list_artifacts(self._run_id, folder)
            }
        return [
            name
            for name, size in sizes.items()
            if name not in there or there[name] not in (size, None)
        ]

    def summarize(self, info: RunInfo) -> list[Any]:
        """Tags, metrics and status that MLflow shows of the run."""
        tags, metrics = describe_run(info.workspace, info.record, info.submissions, info.notes)
        return [tags, metrics, info.record.status]

    def describe(self, info: RunInfo, summary: list[Any]) -> None:
        """Status, description, best metrics, submission and scores."""
        from mlflow.entities import Metric, RunTag

        run_id, record = self._run_id, info.record
        tags, metrics, _ = summary
        data = self._client.get_run(run_id).data
        there = data.metrics
        now = round(time.time() * 1000)
        stamps = dict(self.state.get("stamps", {}))
        for key, value in metrics.items():
            if there.get(key) != value and stamps.get(key, [None])[0] != value:
                stamps[key] = [value, now]
        self.state.save(stamps=stamps)  # before it is sent: repeated, it is the same point
        changed = {key: stamps[key] for key, value in metrics.items() if there.get(key) != value}
        self._log_batch(
            "metrics", [Metric(key, value, time_ms, 0) for key, (value, time_ms) in changed.items()]
        )
        for part in _batches(
            [RunTag(key, _clean_text(str(value))) for key, value in tags.items()], 100
        ):
            self._log_batch("tags", part)
        for key in self._find_stale(data.tags, tags):
            self._client.delete_tag(run_id, key)
        if record.status == "running":
            self._client.update_run(run_id, status="RUNNING")
        else:
            end = _milliseconds(record.finished_at or record.heartbeat)
            self._client.set_terminated(run_id, STATUS.get(record.status, "KILLED"), end_time=end)
        self._settled = record.status == "running"

    def is_settled(self, record: RunRecord) -> bool:
        """Whether no second run has come up, of which the older one stays."""
        return self._find_run(record) == self._run_id

    def archive(self, record: RunRecord) -> None:
        """Take the run out of MLflow's lists; its copy is whole by now.

        Whether it was asked for is kept first: a deletion whose answer was lost must not read as
        one by a person.
        """
        if self.state.get("away") == "yes":
            return
        self.state.save(away="asked")
        if not delete_run(self._client, str(self.state.get("run_id"))):
            self.log_once(
                "MLflow does not let this user delete runs: the archived run stays in its lists"
            )
        self.state.save(away="yes")

    def _find_run(self, record: RunRecord) -> str:
        """The run of this uid, created if there is none; empty when it was deleted in MLflow."""
        known = self.state.get("run_id", "")
        if known and self._settled:
            return str(known)
        if self.state.get("away") == "asked" and is_deleted(self._client, known):
            self.state.save(away="yes")
            return ""
        experiment = ensure_experiment(self._client, self.workspace)
        run = find_one(self._client, experiment, "tracker.uid", record.uid, known=known)
        if run is None and known and is_deleted(self._client, known):
            self.log_once(
                f"it was deleted in MLflow and stays so; delete {self.state_name} in its folder to"
                " copy it again"
            )
            return ""
        run = run or self._client.create_run(
            experiment,
            start_time=_milliseconds(record.created_at),
            run_name=record.name,
            tags={
                "tracker.uid": record.uid,
                "mlflow.user": record.author,
                COPIED_TAG: utc_now(),
                CHARTS_TAG: "1",
            },
        )
        self._charts = CHARTS_TAG in run.data.tags
        if run.info.run_id != known:  # nothing of what is known holds for it
            self.state.forget(keep=["told"])
            self.state.save(experiment_id=experiment, run_id=run.info.run_id)
        self._settled = True
        return str(run.info.run_id)

    def _name(self, key: str) -> str:
        """A name as MLflow takes it; one that changes is told once."""
        name = self._names.get(key)
        if name is None:
            self._names[key] = name = to_mlflow_name(key)
            if name != key:
                self.log_once(f"MLflow does not take the name {key!a}: it is {name} there")
        return name

    def _place(self, values: Mapping[str, float]) -> dict[str, float]:
        """Values by the names that its run in MLflow has: those of an older copy stay as they are."""
        named = {self._name(key): value for key, value in values.items()}
        return (
            {to_chart_name(key): value for key, value in named.items()} if self._charts else named
        )

    def _log_batch(self, kind: str, items: list[Any]) -> None:
        """Log a batch; what MLflow refuses is left out and told, so that it cannot keep the rest
        from being copied."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(self._run_id, **{kind: items})
        except MlflowException as error:
            refused = error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
            if not refused or self._client.get_run(self._run_id).info.lifecycle_stage != "active":
                raise
            if len(items) == 1:
                self.log_once(
                    f"MLflow refuses {kind[:-1]} {items[0].key}: {first_line(error)[:300]}"
                )
                return
            for part in (items[: len(items) // 2], items[len(items) // 2 :]):
                self._log_batch(kind, part)

    def _find_stale(self, there: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
        """Tags of ours that say nothing any more, as the error of a run that was resumed; other
        people's tags stay."""
        before = (self.state.get("described") or [{}])[0]
        ours = [
            key
            for key in there
            if key in before or (key.startswith(TAG_PREFIX) and key not in IDENTITY_TAGS)
        ]
        return [key for key in ours if key not in wanted]


def _folder_of(name: str) -> str | None:
    """The folder of a file in the run folder; None for one that lies in no folder of its own."""
    return name.rpartition("/")[0] or None


def describe_run(
    workspace: Workspace,
    record: RunRecord,
    submissions: Sequence[Submission],
    notes: Sequence[Note] = (),
) -> tuple[dict[str, str], dict[str, float]]:
    """The MLflow tags and metrics that say what a run is, where it stands and what the leaderboard
    said."""
    tags = {
        "tracker.status": record.status,
        "tracker.kind": record.kind,
        "tracker.parent": record.parent or "",
        "tracker.error": record.error,
        "tracker.tags": ", ".join(record.tags),
        **{
            f"tracker.fingerprint.{name}": value or ""
            for name, value in record.fingerprints.items()
        },
        **{
            to_mlflow_name(f"tracker.fact.{name}"): str(value)
            for name, value in record.facts.items()
        },
    }
    measured = [f"val/{metric.name}" for metric in workspace.competition.metrics]
    # tags: as metrics they would be charts of one bar
    best = dict.fromkeys([*list_monitors(), "train/loss", *measured])
    tags |= {
        f"best/{name}": f"{value:.4g}"
        for name in best
        if (value := record.summary.get(name)) is not None
    }
    if record.best_epoch is not None:
        tags["tracker.best_epoch"] = str(record.best_epoch)
    metrics = {}
    for row in submissions:
        tags["submission"] = str(row.number)
        declared = {metric.name: metric for metric in workspace.competition.metrics}
        for name, value in row.scores.items():
            metric = declared.get(name.partition("_")[2])  # it may have left tracker.toml since
            tags[to_mlflow_name(name)] = metric.render(value) if metric else str(value)
            metrics[to_mlflow_name(name)] = value  # a metric, by which the runs table is sorted
    tags["mlflow.note.content"] = describe_text(record, submissions, notes)
    return {key: value for key, value in tags.items() if value}, metrics


def _clean_text(text: str) -> str:
    """A text that every database takes."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _milliseconds(text: str) -> int:
    return round(from_utc_text(text).timestamp() * 1000)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
