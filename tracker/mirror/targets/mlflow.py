"""A run's copy in MLflow. After a lost answer the next push repeats what may not have arrived.

What has arrived does not change: points are known by key, step, time and value, files by size and
time.
"""

from __future__ import annotations

import hashlib
import math
import sys
import tempfile
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.clock import from_utc_text, utc_now
from tracker.core.config_diff import render_change
from tracker.core.errors import TrackerError
from tracker.core.metric_names import to_chart_name, to_mlflow_name
from tracker.ledger.records import Note, Submission
from tracker.mirror import MANIFEST
from tracker.mirror.targets import Point, RunInfo, Target, describe_text
from tracker.mirror.targets import mlflow_server as server
from tracker.mirror.targets.mlflow_archive import delete_run, is_deleted, restore_run
from tracker.mirror.targets.mlflow_heads import HEADS_TAG, merge_heads
from tracker.mirror.targets.mlflow_server import (
    CHANGED_TAG,
    CHARTS_TAG,
    COPIED_TAG,
    HEARTBEAT_TAG,
    HOST_TAG,
    RECORD_TAG,
    STATE_NAME,
    find_one,
    list_artifact_sizes,
)
from tracker.mirror.targets.mlflow_store import find_metrics_table, insert_points
from tracker.mirror.targets.mlflow_users import check_login
from tracker.mirror.targets.mlflow_view import ensure_experiment
from tracker.run_folder.record import OPEN, WAITING, RunRecord
from tracker.training.errors import first_line
from tracker.training.metrics import list_monitors
from tracker.training.numbers import render_digits
from tracker.workspace.mlflow_paths import is_own_store
from tracker.workspace.tracker_toml import Workspace

BATCH = 1000  # metrics a request, MLflow's limit
BULK = 20_000  # metrics a transaction, when we write to the database ourselves
TAG_PREFIX = "tracker."
# set when the copy is created, or only added to
IDENTITY_TAGS = ("tracker.uid", COPIED_TAG, CHARTS_TAG, HEADS_TAG)
STATUS = {
    "running": "RUNNING",
    "finished": "FINISHED",
    "failed": "FAILED",
    **dict.fromkeys(WAITING, "SCHEDULED"),
}
LARGEST = sys.float_info.max
LONGEST_TAG = 5000  # characters that MLflow takes


class MlflowTarget(Target):
    """A run in the competition's experiment; `mlflow.json` in the run folder has its id."""

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
        # Whether this process has looked for the run in MLflow since the last error.
        self._settled = False
        self._names: dict[str, str] = {}
        self._refused: set[str] = set()  # metrics of which MLflow does not take a value
        # Whether the curves in MLflow have names that sort its charts.
        self._charts = False

    @classmethod
    def check_reachable(cls, workspace: Workspace) -> None:
        """Ask the server, and note the answer for other runs; raises MlflowUnreachableError."""
        server.check_reachable(workspace)

    @classmethod
    def check_login(cls, workspace: Workspace) -> None:
        """Ask with user and password, where there are any; raises MlflowError."""
        check_login(workspace)

    @classmethod
    def connect(cls, workspace: Workspace) -> Any:
        """MLflow's client."""
        return server.connect(workspace)

    @classmethod
    def find_outage(cls, workspace: Workspace) -> str:
        """Why the server did not answer the last time; empty if it did."""
        return server.find_outage(workspace)

    @classmethod
    def note_no_answer(cls, workspace: Workspace) -> None:
        """Note for other runs that the server has not answered yet."""
        server.note_outage(
            workspace, f"MLflow at {workspace.shown_mlflow_uri} has not answered yet"
        )

    def load_state(self) -> None:
        """Read the state, unless it is about another tracking server."""
        super().load_state()
        uri = self.state.get("tracking_uri")
        if uri != self.workspace.shown_mlflow_uri and not is_own_store(self.workspace, uri):
            self.state.forget()

    def start(self, record: RunRecord) -> bool:
        """Find or create the run; False when it was deleted in MLflow, or archived and hidden."""
        hidden = self.state.get("away") == "yes" or "run_id" not in self.state.values
        if record.archived_at and hidden:
            return False
        if self.state.get("away") and not record.archived_at:
            # One that MLflow has removed since is copied again.
            restore_run(self._client, str(self.state.get("run_id")))
            self.state.save(away="")
            self._settled = False
        self._run_id = self._find_run(record)
        return bool(self._run_id)

    def fail(self) -> None:
        """Look for the run again at the next push."""
        self._settled = False

    def translate(self, error: BaseException) -> TrackerError | None:
        """Errors of MLflow and its libraries as an MlflowError."""
        if not isinstance(error, server.library_errors()):
            return None
        return server.translate(self.workspace, error)

    def params(self, values: Mapping[str, Any]) -> None:
        """Log the config, a hundred keys a request, MLflow's limit."""
        from mlflow.entities import Param

        params = [Param(self._name(key), _clean_text(str(value))) for key, value in values.items()]
        for part in _batches(params, 100):
            self._log_batch("params", part)

    def points(self, batch: Sequence[Point]) -> None:
        """Log points through MLflow's interface; many at once directly to its database file."""
        from mlflow.entities import Metric

        new = [point._replace(values=self._rename(point.values)) for point in batch]
        if self._table is not None and sum(len(point.values) for point in new) > BATCH:
            # The last point of each metric goes through MLflow, which keeps the latest value.
            last = {key: point for point in new for key in point.values}
            insert_points(self._table, self._run_id, new, exclude=last)
            pairs = list(last.items())
        else:
            pairs = [(key, point) for point in new for key in point.values]
        metrics = [
            Metric(key, point.values[key], point.time_ms, point.step) for key, point in pairs
        ]
        for part in _batches(metrics, BATCH):
            self._log_batch("metrics", part)
        if self._table is None:  # a server; our own database answers for itself
            self._check_arrival(metrics)

    def _check_arrival(self, metrics: Sequence[Any]) -> None:
        """Raise MlflowError if the server answered and did not keep the last point of a metric.

        One request: the latest value of each metric. Where that is another, as after a step that
        was logged late, the metric's history is asked for.
        """
        last = {one.key: one for one in metrics if one.key not in self._refused}
        there = self._client.get_run(self._run_id).data.metrics
        lost = []
        for key, one in last.items():
            if _is_same(there.get(key), one.value):
                continue
            history = self._client.get_metric_history(self._run_id, key) if key in there else []
            kept = [point.value for point in history if point.step == one.step]
            if not any(_is_same(value, one.value) for value in kept):
                lost.append(key)
        if lost:
            raise server.MlflowError(
                f"MLflow at {self.workspace.shown_mlflow_uri} answered, and did not keep the points"
                f" of {', '.join(sorted(lost))}",
                hint="look at the server's disk and log; tracker sync sends them again",
            )

    def artifact(self, path: Path, name: str) -> None:
        """Log a file, in the same folder as in the run folder."""
        self._client.log_artifact(self._run_id, str(path), server.folder_of(name))

    def find_incomplete(self, sizes: Mapping[str, int]) -> list[str]:
        """Files whose upload was cut off."""
        sizes_there = list_artifact_sizes(self._client, self._run_id, sizes)
        incomplete = []
        for name, size in sizes.items():
            # None: some stores do not know the size.
            if name not in sizes_there or sizes_there[name] not in (size, None):
                incomplete.append(name)
        return incomplete

    def find_changed(self, hashes: Mapping[str, str], *, skip: Collection[str] = ()) -> list[str]:
        """Files that are missing on the server or are not what was copied there."""
        run_id = str(self.state.get("run_id", ""))
        sizes = list_artifact_sizes(self._client, run_id, hashes) if run_id else {}
        changed = [name for name in hashes if name not in sizes]
        for name in [name for name in hashes if name in sizes and name not in skip]:
            with tempfile.TemporaryDirectory() as folder:
                path = self._client.download_artifacts(run_id, name, folder)
                with Path(path).open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != hashes[name]:
                changed.append(name)
        if MANIFEST in hashes and MANIFEST not in changed:
            tags = self._client.get_run(run_id).data.tags
            if tags.get(RECORD_TAG) != hashes[MANIFEST]:  # nobody could pull the run
                changed.append(MANIFEST)
        return changed

    def summarize(self, info: RunInfo) -> list[Any]:
        """The tags, metrics and status of the run in MLflow."""
        tags, metrics = describe_run(info.workspace, info.record, info.submissions, info.notes)
        if info.head_keys:
            tags[HEADS_TAG] = " ".join(info.head_keys)
        if sha := self.state.get("record"):
            tags[RECORD_TAG] = sha
        return [tags, metrics, info.record.status]

    def describe(self, info: RunInfo, summary: list[Any]) -> None:
        """Send status, description, best metrics, submission and scores."""
        from mlflow.entities import Metric, RunTag

        run_id, record = self._run_id, info.record
        tags, metrics, _ = summary
        data = self._client.get_run(run_id).data
        if HEADS_TAG in tags:
            tags = {**tags, HEADS_TAG: merge_heads(data.tags.get(HEADS_TAG, ""), tags[HEADS_TAG])}
        # A changed metric gets the current time. That is saved before it is sent: a repeated push
        # then sends the same point.
        now = round(time.time() * 1000)
        stamps = dict(self.state.get("stamps", {}))
        for key, value in metrics.items():
            if data.metrics.get(key) != value and stamps.get(key, [None])[0] != value:
                stamps[key] = [value, now]
        self.state.save(stamps=stamps)
        changed = {
            key: stamps[key] for key, value in metrics.items() if data.metrics.get(key) != value
        }
        self._log_batch(
            "metrics", [Metric(key, value, time_ms, 0) for key, (value, time_ms) in changed.items()]
        )
        run_tags = [RunTag(key, _clean_text(str(value))) for key, value in tags.items()]
        for part in _batches(run_tags, 100):
            self._log_batch("tags", part)
        there = self._client.get_run(run_id).data.tags
        if lost := {tag.key for tag in run_tags} - set(there) - self._refused:
            raise server.MlflowError(
                f"MLflow at {self.workspace.shown_mlflow_uri} answered, and did not keep"
                f" {', '.join(sorted(lost))}",
                hint="look at the server's disk and log; tracker sync sends them again",
            )
        for key in self._find_stale(data.tags, tags):
            self._client.delete_tag(run_id, key)
        if record.status in OPEN:
            self._client.update_run(run_id, status=STATUS[record.status])
        else:
            end = _milliseconds(record.finished_at or record.heartbeat)
            self._client.set_terminated(run_id, STATUS.get(record.status, "KILLED"), end_time=end)
        self._settled = record.status == "running"

    def is_settled(self, record: RunRecord) -> bool:
        """Whether there is no second run, of which the older one would stay."""
        return self._find_run(record) == self._run_id

    def archive(self, record: RunRecord) -> None:
        """Hide the run from MLflow's lists; its copy is complete.

        The state says "asked" before the deletion. If the answer is lost, the deletion then does
        not look like one by a person.
        """
        if self.state.get("away") == "yes":
            return
        self.state.save(away="asked")
        if not delete_run(self._client, str(self.state.get("run_id"))):
            self.log_once(
                "MLflow does not allow this user to delete runs: the archived run stays visible"
            )
        self.state.save(away="yes")

    def _find_run(self, record: RunRecord) -> str:
        """The id of the run with this uid, created if missing; empty if deleted in MLflow."""
        known = self.state.get("run_id", "")
        if known and self._settled:
            return str(known)
        # A deletion of our own whose answer was lost.
        if self.state.get("away") == "asked" and is_deleted(self._client, known):
            self.state.save(away="yes")
            return ""
        experiment = ensure_experiment(self._client, self.workspace)
        run = find_one(self._client, experiment, "tracker.uid", record.uid, known=known)
        if run is None and known and is_deleted(self._client, known):
            self.log_once(
                f"it was deleted in MLflow and is not copied again; to copy it, delete"
                f" {self.state_name} in its folder"
            )
            return ""
        # Create it when there is none.
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
        if run.info.run_id != known:  # the state is about another run
            self.state.forget(keep=["told"])
            self.state.save(experiment_id=experiment, run_id=run.info.run_id)
        self._settled = True
        return str(run.info.run_id)

    def _name(self, key: str) -> str:
        """A name that MLflow accepts; a message says once when it is another."""
        name = self._names.get(key)
        if name is None:
            self._names[key] = name = to_mlflow_name(key)
            if name != key:
                self.log_once(f"MLflow does not accept the name {key!a}: it is called {name} there")
        return name

    def _rename(self, values: Mapping[str, float]) -> dict[str, float]:
        """Values by the names in MLflow; a copy of an earlier version keeps its own."""
        renamed = {self._name(key): value for key, value in values.items()}
        if not self._charts:
            return renamed
        return {to_chart_name(key): value for key, value in renamed.items()}

    def _log_batch(self, kind: str, items: list[Any]) -> None:
        """Log a batch; an item that MLflow refuses is left out, with a message."""
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
                self._refused.add(items[0].key)
                return
            # Halve the batch until the refused item is alone.
            middle = len(items) // 2
            for part in (items[:middle], items[middle:]):
                self._log_batch(kind, part)

    def _find_stale(self, there: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
        """Our tags that are outdated, as the error of a resumed run; other people's tags stay."""
        before = (self.state.get("described") or [{}])[0]
        stale = []
        for key in there:
            is_ours = key in before or key.startswith(TAG_PREFIX)
            if is_ours and key not in wanted and key not in IDENTITY_TAGS:
                stale.append(key)
        return stale


def describe_run(
    workspace: Workspace,
    record: RunRecord,
    submissions: Sequence[Submission],
    notes: Sequence[Note] = (),
) -> tuple[dict[str, str], dict[str, float]]:
    """The MLflow tags and metrics of a run: what it is, its status, and its leaderboard scores."""
    tags = {
        "tracker.status": record.status,
        "tracker.kind": record.kind,
        "tracker.parent": record.parent or "",
        "tracker.error": record.error,
        "tracker.tags": ", ".join(record.tags),
        HOST_TAG: record.host,
    }
    if record.status == "running":
        # to the minute: each change is a request
        tags[HEARTBEAT_TAG] = record.heartbeat[:16] + ":00.000000Z"
    for name, fingerprint in record.fingerprints.items():
        tags[f"tracker.fingerprint.{name}"] = fingerprint or ""
    for name, fact in record.facts.items():
        tags[to_mlflow_name(f"tracker.fact.{name}")] = str(fact)[:LONGEST_TAG]
    # Best values are tags: as metrics they would be charts with one bar.
    competition = [f"val/{metric.name}" for metric in workspace.competition.metrics]
    for name in dict.fromkeys([*list_monitors(), "train/loss", *competition]):
        best = record.summary.get(name)
        if best is not None:
            tags[f"best/{name}"] = render_digits(best, 4)
    if record.best_epoch is not None:
        tags["tracker.best_epoch"] = str(record.best_epoch)
    # Scores are tags for people and metrics to sort the runs table by.
    metrics = {}
    declared = {metric.name: metric for metric in workspace.competition.metrics}
    for row in submissions:
        tags["submission"] = str(row.number)
        if row.config_diff is not None:
            tags[CHANGED_TAG] = render_change(row.config_diff, row.not_known)
        for name, value in row.scores.items():
            metric = declared.get(name.partition("_")[2])  # None if tracker.toml lost it since
            tags[to_mlflow_name(name)] = metric.render(value) if metric else str(value)
            metrics[to_mlflow_name(name)] = value
    tags["mlflow.note.content"] = describe_text(record, submissions, notes)
    return {key: value for key, value in tags.items() if value}, metrics


def _clean_text(text: str) -> str:
    """A text that every database accepts."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _milliseconds(text: str) -> int:
    return round(from_utc_text(text).timestamp() * 1000)


def _is_same(there: float | None, sent: float) -> bool:
    """Whether a value is the one that was sent; MLflow has the largest float for infinity."""
    if there is None or math.isnan(sent):
        return there is not None and math.isnan(there)
    return math.isclose(there, max(-LARGEST, min(LARGEST, sent)), rel_tol=1e-9)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
