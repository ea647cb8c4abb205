"""Copies run folders to MLflow and TensorBoard; the only module that imports mlflow.

Everything is replayed from the run folder and the ledger: points by (metric, step), files by size and time, scores
by submission. Copying twice changes nothing, and what could not be copied is copied the next time.
"""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tracker.errors import TrackerError
from tracker.ledger.read import Note, Submission, list_notes, list_submissions_of
from tracker.relocation import follow_workspace, is_own_store
from tracker.runs import FileLock, RunRecord, from_utc_text, load_config, load_run, read_new_points
from tracker.settings import quiet_libraries
from tracker.training.atomic import write_json
from tracker.training.tables import flatten
from tracker.workspace import Workspace, load_workspace

STATE_NAME = "mlflow.json"
BATCH = 1000  # metrics a request, MLflow's limit
POLL_S = 1.0
ATTEMPTS = 5
FILES = (
    "best.pth",
    "config.toml",
    "confusion.png",
    "curves.png",
    "env.json",
    "explain.png",
    "images.png",
    "metrics.jsonl",
    "predictions.csv",
    "probabilities.npz",
    "validation.npz",
)
BEST = ("val/f1", "val/accuracy", "val/loss", "train/loss")  # sortable in the runs table, where a curve's end is shown
REPORT_TAGS = {"tracker.kind": "report"}
STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class MlflowError(TrackerError):
    """MLflow could not be reached or refused something; what was not copied is copied later."""


class RunCopy:
    """One run's copy in MLflow and TensorBoard; `mlflow.json` in the run folder keeps how far it has come."""

    def __init__(self, workspace: Workspace, name: str) -> None:
        self._workspace = workspace
        self._folder = workspace.runs_dir / name
        self._client = connect(workspace)
        self._state = self._load_state()
        self._seen: set[tuple[str, int]] = set()
        self._offset = 0
        self._board: Any = None

    def push(self) -> RunRecord:
        """Copy what is new; raises MlflowError."""
        record = load_run(self._workspace.runs_dir, self._folder.name)
        try:
            run_id = self._state.get("run_id") or self._create(record)
            self._push_points(run_id)
            if record.status != "running":
                self._push_files(run_id)
            self._push_tags(run_id, record)
        except _mlflow_errors() as error:
            raise MlflowError(f"MLflow at {_safe_uri(self._workspace)}: {_first_line(error)}") from error
        return record

    def _load_state(self) -> dict[str, Any]:
        """What was copied before to this tracking server."""
        try:
            state: Any = json.loads((self._folder / STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(state, dict):
            return {}
        uri = state.get("tracking_uri")
        return state if uri == _safe_uri(self._workspace) or is_own_store(self._workspace, uri) else {}

    def _save_state(self, **changes: Any) -> None:
        self._state = {**self._state, **changes, "tracking_uri": _safe_uri(self._workspace)}
        write_json(self._folder / STATE_NAME, self._state)

    def _create(self, record: RunRecord) -> str:
        """Find the run by its uid or create it, with its config as parameters."""
        experiment = ensure_experiment(self._client, self._workspace)
        # the lock keeps two copiers of one run (mirror and sync) from creating it twice
        with FileLock(self._workspace.lock_dir / f"{record.name}.copy.lock"):
            found = self._client.search_runs(
                [experiment], filter_string=f"tags.`tracker.uid` = '{record.uid}'", max_results=1
            )
            if found:
                run_id = found[0].info.run_id
            else:
                created = self._client.create_run(
                    experiment,
                    start_time=_milliseconds(record.created_at),
                    run_name=record.name,
                    tags={"tracker.uid": record.uid, "mlflow.user": record.author},
                )
                run_id = created.info.run_id
            self._save_state(experiment_id=experiment, run_id=run_id)
        from mlflow.entities import Param

        config = flatten(load_config(self._workspace.runs_dir, record.name))
        params = [Param(key, str(value)) for key, value in config.items()]
        for part in _batches(params, 100):
            self._client.log_batch(run_id, params=part)
        return str(run_id)

    def _push_points(self, run_id: str) -> None:
        """Copy new complete lines of metrics.jsonl; a step logged again after a resume is copied once."""
        from mlflow.entities import Metric

        sent = int(self._state.get("offset", 0))
        metrics, at = [], self._offset
        for at, point in read_new_points(self._folder / "metrics.jsonl", self._offset):
            new = {k: v for k, v in point["values"].items() if (k, point["step"]) not in self._seen}
            self._seen.update((key, point["step"]) for key in new)
            if at > sent and new:
                stamp = round(point["time"] * 1000)
                metrics += [Metric(clean_key(k), v, stamp, point["step"]) for k, v in new.items()]
        self._offset = at
        if not metrics:
            return
        try:
            for part in _batches(metrics, BATCH):
                self._client.log_batch(run_id, metrics=part)
            self._write_events(metrics)
        except BaseException:
            self._seen, self._offset = set(), 0  # read again from the start at the next try
            raise
        self._save_state(offset=at)

    def _write_events(self, metrics: Iterable[Any]) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        board = self._open_board()
        for metric in metrics:
            value = Summary.Value(tag=metric.key, simple_value=metric.value)
            summary = Summary(value=[value])
            board.add_event(Event(wall_time=metric.timestamp / 1000, step=metric.step, summary=summary))
        board.flush()

    def _write_figure(self, path: Path) -> None:
        from PIL import Image
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as figure:
            width, height = figure.size
        picture = Summary.Image(height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes())
        summary = Summary(value=[Summary.Value(tag=path.stem, image=picture)])
        board = self._open_board()
        board.add_event(Event(wall_time=path.stat().st_mtime, step=0, summary=summary))
        board.flush()

    def _open_board(self) -> Any:
        from tensorboard.summary.writer.event_file_writer import EventFileWriter

        if self._board is None:
            self._board = EventFileWriter(str(self._folder / "tensorboard"))
        return self._board

    def _push_files(self, run_id: str) -> None:
        done = dict(self._state.get("files", {}))
        for name in FILES:
            path = self._folder / name
            if not path.is_file():
                continue
            stat = path.stat()
            signature = [stat.st_size, stat.st_mtime_ns]
            if done.get(name) != signature:
                self._client.log_artifact(run_id, str(path))
                if path.suffix == ".png":
                    self._write_figure(path)
                done[name] = signature
                self._save_state(files=done)

    def _push_tags(self, run_id: str, record: RunRecord) -> None:
        """Status, description, best metrics, submission and scores; only when they changed."""
        from mlflow.entities import Metric, RunTag

        submissions = list_submissions_of(self._workspace, record)
        remarks = list_notes(self._workspace).get(record.uid, [])
        tags, metrics = describe_run(self._workspace, record, submissions, remarks)
        wanted = json.loads(json.dumps([tags, metrics, record.status]))
        if self._state.get("described") == wanted:
            return
        stamp = _milliseconds(record.finished_at or record.heartbeat)
        self._client.log_batch(
            run_id,
            metrics=[Metric(key, value, stamp, 0) for key, value in metrics.items()],
            tags=[RunTag(key, str(value)) for key, value in tags.items()],
        )
        if record.status == "running":
            self._client.update_run(run_id, status="RUNNING")
        else:
            self._client.set_terminated(run_id, STATUS.get(record.status, "KILLED"), end_time=stamp)
        self._save_state(described=wanted)


def describe_run(
    workspace: Workspace, record: RunRecord, submissions: Iterable[Submission], remarks: Iterable[Note] = ()
) -> tuple[dict[str, str], dict[str, float]]:
    """The MLflow tags and metrics that say what a run is, where it stands and what the leaderboard said."""
    tags = {
        "tracker.status": record.status,
        "tracker.kind": record.kind,
        "tracker.parent": record.parent or "",
        "tracker.error": record.error,
        **{f"tracker.fingerprint.{name}": value or "" for name, value in record.fingerprints.items()},
        **{clean_key(f"tracker.fact.{name}"): str(value) for name, value in record.facts.items()},
    }
    metrics = {f"best/{k}": v for k in BEST if (v := record.summary.get(k)) is not None}
    if record.best_epoch is not None:
        metrics["best/epoch"] = float(record.best_epoch)
        tags["tracker.best_epoch"] = str(record.best_epoch)
    notes = [record.note] if record.note else []
    for row in submissions:
        notes.append(f"**Submission {row.number}**: {row.memo}")
        tags["submission"] = str(row.number)
        metrics["submission"] = float(row.number)
        for name, value in row.scores.items():
            metric = workspace.competition.metric(name.partition("_")[2])
            tags[name] = metric.render(value)
            metrics[name] = value
    notes += [f"**{note.time[:10]}, {note.author}**: {note}" for note in remarks]
    tags["mlflow.note.content"] = "\n\n".join(notes)
    return {key: value for key, value in tags.items() if value}, metrics


def connect(workspace: Workspace) -> Any:
    """A client of the workspace's tracking server, its database made if need be; raises MlflowError."""
    quiet_libraries()
    _check_reachable(workspace.mlflow_uri)
    from mlflow import MlflowClient

    try:
        # two processes that migrate an empty database at once break it
        with FileLock(workspace.lock_dir / "mlflow.lock"):
            if done := follow_workspace(workspace):
                print(done, file=sys.stderr)
            client = MlflowClient(tracking_uri=workspace.mlflow_uri)
            client.search_experiments(max_results=1)
    except _mlflow_errors() as error:
        raise MlflowError(f"MLflow at {_safe_uri(workspace)}: {_first_line(error)}") from error
    return client


def ensure_experiment(client: Any, workspace: Workspace) -> str:
    """The id of the competition's experiment; raises MLflow's own errors."""
    with FileLock(workspace.lock_dir / "mlflow.lock"):
        name = workspace.competition.name
        found = client.get_experiment_by_name(name)
        if found is not None:
            return str(found.experiment_id)
        local = not workspace.mlflow_uri.startswith("http")
        location = (workspace.root / "mlartifacts").as_uri() if local else None
        primary = workspace.competition.primary
        tags = {
            "mlflow.experimentKind": "custom_model_development",  # else the page opens as one for language models
            "mlflow.experiment.primaryMetric.name": f"public_{primary.name}",
            "mlflow.experiment.primaryMetric.greaterIsBetter": str(primary.higher_is_better),
        }
        return str(client.create_experiment(name, artifact_location=location, tags=tags))


def fetch_run(
    workspace: Workspace, run_id: str, target: Path
) -> tuple[dict[str, str], list[tuple[dict[str, float], int]]]:
    """Parameters and (values, step) points of any run, its files downloaded to `target`; raises MlflowError."""
    client = connect(workspace)
    try:
        run = client.get_run(run_id)
        by_step: dict[int, dict[str, float]] = {}
        for key in run.data.metrics:
            for metric in client.get_metric_history(run_id, key):
                by_step.setdefault(metric.step, {})[key] = metric.value
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", str(target))
    except _mlflow_errors() as error:
        raise MlflowError(f"MLflow at {_safe_uri(workspace)}: {_first_line(error)}") from error
    return dict(run.data.params), [(by_step[step], step) for step in sorted(by_step)]


def clean_key(name: str) -> str:
    """A metric name in the characters that MLflow allows."""
    return re.sub(r"[^\w\-. :/]", "_", name, flags=re.ASCII)


def keep_report(workspace: Workspace, files: Mapping[str, str], *, about: str) -> None:
    """Put the texts of `files` into the experiment's one run of kind `report`, over what was there; raises MlflowError.

    A team on one server shares that run, so that there is one report however often and by whomever it is made.
    """
    client = connect(workspace)
    try:
        experiment = ensure_experiment(client, workspace)
        with FileLock(workspace.lock_dir / "report.copy.lock"):
            found = client.search_runs([experiment], filter_string="tags.`tracker.kind` = 'report'", max_results=1)
            run = found[0] if found else client.create_run(experiment, run_name="report", tags=REPORT_TAGS)
            for name, text in files.items():
                client.log_text(run.info.run_id, text, name)
            client.set_tag(run.info.run_id, "mlflow.note.content", f"{about}\n\nThe files are among the artifacts.")
            client.set_terminated(run.info.run_id)
    except _mlflow_errors() as error:
        raise MlflowError(f"MLflow at {_safe_uri(workspace)}: {_first_line(error)}") from error


def sync_run(workspace: Workspace, name: str) -> RunRecord:
    """Copy one run once; raises MlflowError."""
    return RunCopy(workspace, name).push()


def follow(workspace: Workspace, name: str) -> None:
    """Copy a run until it has ended; raises MlflowError when MLflow stays out of reach after that."""
    copy: RunCopy | None = None
    failures = 0
    while True:
        try:
            copy = copy or RunCopy(workspace, name)
            if copy.push().status != "running":
                return
            failures = 0
        except MlflowError:
            failures += 1
            ended = load_run(workspace.runs_dir, name).status != "running"
            if ended and failures >= ATTEMPTS:
                raise
        time.sleep(POLL_S * min(30, 2**failures) if failures else POLL_S)


def _check_reachable(uri: str) -> None:
    """A quick look whether a server answers at all: MLflow's own retries take minutes."""
    import socket

    parts = urlsplit(uri)
    if parts.scheme not in ("http", "https"):
        return
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), timeout=5).close()
    except OSError as error:
        raise MlflowError(f"MLflow at {parts.hostname}:{port} does not answer: {error}") from error


def _mlflow_errors() -> tuple[type[BaseException], ...]:
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    return MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError


def _safe_uri(workspace: Workspace) -> str:
    """The tracking URI without user and password."""
    return re.sub(r"//[^/@]*@", "//", workspace.mlflow_uri)


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _milliseconds(text: str) -> int:
    return round(from_utc_text(text).timestamp() * 1000)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))


def _main() -> int:
    """Entry of the mirror process: `python -m tracker.mlflow_log WORKSPACE RUN`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root, name = sys.argv[1:]
    try:
        follow(load_workspace(Path(root)), name)
    except TrackerError as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
