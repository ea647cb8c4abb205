"""Copies run folders to MLflow and TensorBoard; the only module that imports mlflow.

Everything is replayed from the run folder and the ledger: points by (metric, step), files by size and time, scores
by submission. Copying twice changes nothing, and what could not be copied is copied the next time.
"""

from __future__ import annotations

import json
import math
import sqlite3
import sys
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tracker.errors import TrackerError
from tracker.ledger.read import Note, Submission, list_notes, list_submissions_of
from tracker.metric_names import from_chart_name, to_chart_name, to_mlflow_name
from tracker.mirror import ANSWER_S, STATE_NAME, find_problem, note_away
from tracker.relocation import follow_workspace, is_own_store
from tracker.runs import FileLock, RunRecord, from_utc_text, load_config, load_run, read_new_points, utc_now
from tracker.settings import limit_requests, quiet_libraries
from tracker.tensorboard_log import EventFile
from tracker.training.atomic import TEMPORARY, write_json
from tracker.training.libraries import require
from tracker.training.metrics import METRICS, first_metric, list_monitors
from tracker.training.tables import flatten
from tracker.workspace import Workspace

BATCH = 1000  # metrics a request, MLflow's limit
BULK = 20_000  # metrics a transaction where the store is a database that we write ourselves
SAVE_S = 1.0  # how often the state is saved while many points are sent
BUSY_S = 20.0  # for another process to let go of the SQLite file, as MLflow waits
RETRY_AFTER_S = (0.5, 1.0)  # in a command, which somebody waits for
COPIED_TAG = "tracker.copied_at"  # the older of two is found by it
TAG_PREFIX = "tracker."
CHARTS_TAG = "tracker.chart_names"  # its curves are named for the order of the charts; older copies have none
IDENTITY_TAGS = ("tracker.uid", COPIED_TAG, CHARTS_TAG)  # set when the copy is made
TOLD_LIMIT = 200
METRIC_COLUMNS = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}  # of MLflow's table
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
FOLDERS = ("figures", "files")  # of a loop of one's own: all that is in them
VIEW_KEY = "tracker"  # of the view of the runs table that `tracker ui` opens: MLflow keeps shared views in such tags
VIEW_TAG = f"mlflow.sharedViewState.{VIEW_KEY}"
REPORT_TAGS = {"tracker.kind": "report"}
STATUS = {"running": "RUNNING", "finished": "FINISHED", "failed": "FAILED"}


class Point(NamedTuple):
    """A line of metrics.jsonl: the byte where it ends, time in ms since 1970, step, values by MLflow's names."""

    at: int
    stamp: int
    step: int
    values: dict[str, float]


class MlflowError(TrackerError):
    """MLflow could not be reached or refused something; what was not copied is copied later."""


class MlflowAwayError(MlflowError):
    """No MLflow server answers."""


class RunCopy:
    """One run's copy in MLflow and TensorBoard; `mlflow.json` in the run folder keeps how far it has come.

    One process at a time works on it. Whatever answer of MLflow is lost, the next push repeats what may not have
    arrived, and what has arrived stays as it is: points by key, step, time and value, files by size and time.
    """

    def __init__(self, workspace: Workspace, name: str, client: Any = None) -> None:
        self._workspace = workspace
        self._folder = workspace.runs_dir / name
        self._client = client or connect(workspace)
        self._table = _find_metrics_table(workspace)
        self._state: dict[str, Any] = {}
        self._saved_at = 0.0
        self._settled = False  # whether this process has looked for the run in MLflow since the last error
        self._seen: set[tuple[str, int]] = set()
        self._offset = 0
        self._names: dict[str, str] = {}
        self._charts = False  # whether the curves in MLflow are named for the order of its charts
        self._board = EventFile(self._folder / "tensorboard")

    def push(self) -> RunRecord:
        """Copy what is new; raises MlflowError."""
        with FileLock(self._workspace.lock_dir / f"{self._folder.name}.copy.lock"):
            record = load_run(self._workspace.runs_dir, self._folder.name)
            self._state = self._load_state()
            if self._state.get("offset", 0) < self._offset:  # another process began anew, with the older of two runs
                self._seen, self._offset = set(), 0
            try:
                self._push(record)
            except BaseException as error:
                self._settled, self._seen, self._offset = False, set(), 0  # look at everything again
                if self._state:
                    self._save_state()  # some of the points may have arrived
                if isinstance(error, _mlflow_errors()):
                    raise _translate(self._workspace, error) from error
                raise
        return record

    def _push(self, record: RunRecord) -> None:
        if record.archived_at and (self._state.get("away") == "yes" or "run_id" not in self._state):
            return
        if self._state.get("away") and not record.archived_at:
            self._take_back()
        run_id = self._find_run(record)
        if not run_id:
            return
        self._push_content(run_id, record)
        if record.archived_at and self._state.get("away") != "yes":
            self._put_away(str(self._state["run_id"]))

    def _push_content(self, run_id: str, record: RunRecord) -> None:
        self._push_params(run_id, record)
        self._push_points(run_id)
        if record.status != "running":
            self._push_files(run_id)
        wanted = self._describe(record)
        if self._state.get("described") == wanted:
            return
        self._push_description(run_id, record, wanted)
        self._settled = record.status == "running"
        if self._find_run(record) != run_id:  # a second one has come up: the older one stays
            self._push(record)

    def _put_away(self, run_id: str) -> None:
        """Mark the run as deleted, which takes it out of MLflow's lists; its copy is whole by now.

        Whether it was asked for is kept first: a deletion whose answer was lost must not read as one by a person.
        """
        from mlflow.exceptions import MlflowException

        self._save_state(away="asked")
        try:
            self._client.delete_run(run_id)
        except MlflowException as error:
            if error.error_code != "PERMISSION_DENIED":
                raise
            self._say("MLflow does not let this user delete runs: the archived run stays in its lists")
        self._save_state(away="yes")

    def _take_back(self) -> None:
        """Restore the run; one that `mlflow gc` has removed since is copied anew from the run folder."""
        run_id = str(self._state["run_id"])
        if self._is_deleted(run_id):
            self._client.restore_run(run_id)
        self._save_state(away="")
        self._settled = False

    def _load_state(self) -> dict[str, Any]:
        """What was copied before to this tracking server; the place in TensorBoard's files holds for any server."""
        try:
            state: Any = json.loads((self._folder / STATE_NAME).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):
            return {}
        if not isinstance(state, dict):
            return {}
        local = {"board": state.get("board", state.get("offset", 0)), "figures": state.get("figures", {})}
        uri = state.get("tracking_uri")
        return state if uri == self._workspace.shown_mlflow_uri or is_own_store(self._workspace, uri) else local

    def _save_state(self, **changes: Any) -> None:
        self._state = {**self._state, **changes, "tracking_uri": self._workspace.shown_mlflow_uri}
        write_json(self._folder / STATE_NAME, self._state)
        self._saved_at = time.monotonic()

    def _say(self, text: str) -> None:
        """A line in the log of the copy, once in the life of a run."""
        told = self._state.get("told", [])
        if text not in told and len(told) < TOLD_LIMIT:
            print(f"{self._folder.name}: {text}", file=sys.stderr, flush=True)
            self._save_state(told=[*told, text])

    def _find_run(self, record: RunRecord) -> str:
        """The run of this uid, created if there is none; empty when it was deleted in MLflow."""
        known = self._state.get("run_id", "")
        if known and self._settled:
            return str(known)
        if self._state.get("away") == "asked" and self._is_deleted(known):
            self._save_state(away="yes")
            return ""
        experiment = ensure_experiment(self._client, self._workspace)
        run = _find_one(self._client, experiment, "tracker.uid", record.uid, known=known)
        if run is None and known and self._is_deleted(known):
            self._say(f"it was deleted in MLflow and stays so; delete {STATE_NAME} in its folder to copy it again")
            return ""
        run = run or self._client.create_run(
            experiment,
            start_time=_milliseconds(record.created_at),
            run_name=record.name,
            tags={"tracker.uid": record.uid, "mlflow.user": record.author, COPIED_TAG: utc_now(), CHARTS_TAG: "1"},
        )
        self._charts = CHARTS_TAG in run.data.tags
        if run.info.run_id != known:  # nothing of what is known holds for it
            self._state = {key: value for key, value in self._state.items() if key in ("board", "figures", "told")}
            self._seen, self._offset = set(), 0
            self._save_state(experiment_id=experiment, run_id=run.info.run_id)
        self._settled = True
        return str(run.info.run_id)

    def _is_deleted(self, run_id: str) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            return bool(self._client.get_run(run_id).info.lifecycle_stage == "deleted")
        except MlflowException as error:
            if error.error_code == "RESOURCE_DOES_NOT_EXIST":
                return False
            raise

    def _push_params(self, run_id: str, record: RunRecord) -> None:
        from mlflow.entities import Param

        stat = (self._folder / "config.toml").stat()
        version = [stat.st_size, stat.st_mtime_ns]
        if self._state.get("params") in (True, version):  # True: by an earlier version of this program
            return
        config = flatten(load_config(self._workspace.runs_dir, record.name))
        params = [Param(self._name(key), _clean_text(str(value))) for key, value in config.items()]
        for part in _batches(params, 100):
            self._log_batch(run_id, "params", part)
        self._save_state(params=version)

    def _push_points(self, run_id: str) -> None:
        """Copy new complete lines of metrics.jsonl; a step logged again after a resume is copied once."""
        size = BULK if self._table is not None else BATCH
        points: list[Point] = []
        count = 0
        for at, line in read_new_points(self._folder / "metrics.jsonl", self._offset):
            if point := self._read_point(at, line):
                points.append(point)
                count += len(point.values)
            if count >= size:
                self._send(run_id, points, at)
                points, count = [], 0
            self._offset = at
        if self._offset > min(self._state.get("offset", 0), self._state.get("board", 0)):
            self._send(run_id, points, self._offset)
            self._save_state()

    def _read_point(self, at: int, line: Mapping[str, Any] | None) -> Point | None:
        """A line of metrics.jsonl without what was there before; None when nothing is left, or it makes no sense."""
        if line is None or line["time"] < 0:
            self._say("torn lines, and points whose step or time makes no sense, are not copied")
            return None
        step, stamp = int(line["step"]), round(line["time"] * 1000)
        values = {key: value for key, value in line["values"].items() if (key, step) not in self._seen}
        self._seen.update((key, step) for key in values)
        return Point(at, stamp, step, {self._name(key): value for key, value in values.items()}) if values else None

    def _name(self, key: str) -> str:
        """A name as MLflow takes it; one that changes is told once."""
        name = self._names.get(key)
        if name is None:
            self._names[key] = name = to_mlflow_name(key)
            if name != key:
                self._say(f"MLflow does not take the name {key!a}: it is {name} there")
        return name

    def _send(self, run_id: str, points: list[Point], at: int) -> None:
        """Send the points up to byte `at` of metrics.jsonl, to MLflow and to TensorBoard what each does not have."""
        from mlflow.entities import Metric

        sent, shown = self._state.get("offset", 0), self._state.get("board", 0)
        new = [self._place(point) for point in points if point.at > sent]
        if self._table is not None and sum(len(point.values) for point in new) > BATCH:
            last = {key: point for point in new for key in point.values}
            _insert_points(self._table, run_id, new, but=last)
            pairs = list(last.items())  # MLflow finds out which value is the latest
        else:
            pairs = [(key, point) for point in new for key in point.values]
        metrics = [Metric(key, point.values[key], point.stamp, point.step) for key, point in pairs]
        for part in _batches(metrics, BATCH):
            self._log_batch(run_id, "metrics", part)
        for point in points:
            if point.at > shown:
                self._board.add_point(point.values, step=point.step, time_s=point.stamp / 1000)
        self._board.flush()
        self._state |= {"offset": max(at, sent), "board": max(at, shown)}
        if time.monotonic() - self._saved_at > SAVE_S:
            self._save_state()

    def _place(self, point: Point) -> Point:
        """The point with the names that its run in MLflow has: those of an older copy stay as they are."""
        if not self._charts:
            return point
        return point._replace(values={to_chart_name(key): value for key, value in point.values.items()})

    def _log_batch(self, run_id: str, kind: str, items: list[Any]) -> None:
        """Log a batch; what MLflow refuses is left out and told, so that it cannot keep the rest from being copied."""
        from mlflow.exceptions import MlflowException

        try:
            self._client.log_batch(run_id, **{kind: items})
        except MlflowException as error:
            refused = error.error_code in ("INVALID_PARAMETER_VALUE", "BAD_REQUEST")
            if not refused or self._client.get_run(run_id).info.lifecycle_stage != "active":
                raise
            if len(items) == 1:
                self._say(f"MLflow refuses {kind[:-1]} {items[0].key}: {_first_line(error)}")
                return
            for part in (items[: len(items) // 2], items[len(items) // 2 :]):
                self._log_batch(run_id, kind, part)

    def _push_files(self, run_id: str) -> None:
        done, shown = dict(self._state.get("files", {})), dict(self._state.get("figures", {}))
        sizes: dict[str, int] = {}
        for name in self._list_files():
            path = self._folder / name
            stat = path.stat()
            signature = [stat.st_size, stat.st_mtime_ns]
            sizes[name] = stat.st_size
            if path.suffix == ".png" and shown.get(name) != signature:
                self._board.add_figure(path, name.removesuffix(".png"))
                shown[name] = signature
            if done.get(name) != signature:
                self._client.log_artifact(run_id, str(path), _folder_of(name))
                done[name] = signature
                self._save_state(files=done, figures=shown, whole=False)
        if not self._state.get("whole", True):
            self._check_files(run_id, sizes)

    def _list_files(self) -> list[str]:
        """The files to copy, by their paths in the run folder."""
        own = [self._folder / name for name in FILES]
        for folder in FOLDERS:
            own += sorted((self._folder / folder).rglob("*"))
        whole = [path for path in own if path.is_file() and not TEMPORARY.fullmatch(path.name)]
        return [path.relative_to(self._folder).as_posix() for path in whole]

    def _check_files(self, run_id: str, sizes: Mapping[str, int]) -> None:
        """Files whose upload was cut off are uploaded again by the next push; raises MlflowError when there are any."""
        there: dict[str, int | None] = {}
        for folder in {_folder_of(name) for name in sizes}:
            there |= {file.path: file.file_size for file in self._client.list_artifacts(run_id, folder)}
        torn = [name for name, size in sizes.items() if name not in there or there[name] not in (size, None)]
        kept = {name: signature for name, signature in self._state["files"].items() if name not in torn}
        self._save_state(files=kept, whole=not torn)
        if torn:
            where = self._workspace.shown_mlflow_uri
            raise MlflowError(f"MLflow at {where}: {', '.join(torn)} did not arrive as a whole")

    def _describe(self, record: RunRecord) -> list[Any]:
        """Tags, metrics and status that MLflow shows of the run, as JSON holds them."""
        submissions = list_submissions_of(self._workspace, record)
        remarks = list_notes(self._workspace).get(record.uid, [])
        tags, metrics = describe_run(self._workspace, record, submissions, remarks)
        wanted: list[Any] = json.loads(json.dumps([tags, metrics, record.status]))
        return wanted

    def _push_description(self, run_id: str, record: RunRecord, wanted: list[Any]) -> None:
        """Status, description, best metrics, submission and scores."""
        from mlflow.entities import Metric, RunTag

        tags, metrics, _ = wanted
        data = self._client.get_run(run_id).data
        there = data.metrics
        now = round(time.time() * 1000)
        stamps = dict(self._state.get("stamps", {}))
        for key, value in metrics.items():
            if there.get(key) != value and stamps.get(key, [None])[0] != value:
                stamps[key] = [value, now]
        self._save_state(stamps=stamps)  # before it is sent: repeated, it is the same point
        changed = {key: stamps[key] for key, value in metrics.items() if there.get(key) != value}
        self._log_batch(run_id, "metrics", [Metric(key, value, stamp, 0) for key, (value, stamp) in changed.items()])
        for part in _batches([RunTag(key, _clean_text(str(value))) for key, value in tags.items()], 100):
            self._log_batch(run_id, "tags", part)
        for key in self._find_stale(data.tags, tags):
            self._client.delete_tag(run_id, key)
        if record.status == "running":
            self._client.update_run(run_id, status="RUNNING")
        else:
            end = _milliseconds(record.finished_at or record.heartbeat)
            self._client.set_terminated(run_id, STATUS.get(record.status, "KILLED"), end_time=end)
        self._save_state(described=wanted)

    def _find_stale(self, there: Mapping[str, str], wanted: Mapping[str, str]) -> list[str]:
        """Tags of ours that say nothing any more, as the error of a run that was resumed; other people's tags stay."""
        before = (self._state.get("described") or [{}])[0]
        ours = [key for key in there if key in before or (key.startswith(TAG_PREFIX) and key not in IDENTITY_TAGS)]
        return [key for key in ours if key not in wanted]


def _folder_of(name: str) -> str | None:
    """The folder of a file in the run folder; None for one that lies in no folder of its own."""
    return name.rpartition("/")[0] or None


def describe_run(
    workspace: Workspace, record: RunRecord, submissions: Iterable[Submission], remarks: Iterable[Note] = ()
) -> tuple[dict[str, str], dict[str, float]]:
    """The MLflow tags and metrics that say what a run is, where it stands and what the leaderboard said."""
    tags = {
        "tracker.status": record.status,
        "tracker.kind": record.kind,
        "tracker.parent": record.parent or "",
        "tracker.error": record.error,
        "tracker.tags": ", ".join(record.tags),
        **{f"tracker.fingerprint.{name}": value or "" for name, value in record.fingerprints.items()},
        **{to_mlflow_name(f"tracker.fact.{name}"): str(value) for name, value in record.facts.items()},
    }
    measured = [f"val/{metric.name}" for metric in workspace.competition.metrics]
    # tags: as metrics they would be charts of one bar
    best = dict.fromkeys([*list_monitors(), "train/loss", *measured])
    tags |= {f"best/{name}": f"{value:.4g}" for name in best if (value := record.summary.get(name)) is not None}
    if record.best_epoch is not None:
        tags["tracker.best_epoch"] = str(record.best_epoch)
    metrics = {}
    notes = [record.note] if record.note else []
    for row in submissions:
        notes.append(f"**Submission {row.number}**: {row.memo}")
        tags["submission"] = str(row.number)
        declared = {metric.name: metric for metric in workspace.competition.metrics}
        for name, value in row.scores.items():
            metric = declared.get(name.partition("_")[2])  # it may have left tracker.toml since
            tags[to_mlflow_name(name)] = metric.render(value) if metric else str(value)
            metrics[to_mlflow_name(name)] = value  # a metric, by which the runs table is sorted
    notes += [f"**{note.time[:10]}, {note.author}**: {note}" for note in remarks]
    tags["mlflow.note.content"] = "\n\n".join(notes)
    return {key: value for key, value in tags.items() if value}, metrics


def connect(workspace: Workspace) -> Any:
    """A client of the workspace's tracking server, its database made if need be.

    Raises MlflowError, or MissingLibraryError without mlflow.
    """
    require("mlflow")
    quiet_libraries()
    limit_requests()
    check_reachable(workspace)
    from mlflow import MlflowClient

    try:
        # two processes that migrate an empty database at once break it
        with FileLock(workspace.lock_dir / "mlflow.lock"):
            if done := follow_workspace(workspace):
                print(done, file=sys.stderr)
            client = MlflowClient(tracking_uri=workspace.mlflow_uri)
            client.search_experiments(max_results=1)
    except _mlflow_errors() as error:
        raise _translate(workspace, error) from error
    return client


def ensure_experiment(client: Any, workspace: Workspace) -> str:
    """The id of the competition's experiment; raises MLflow's own errors."""
    primary = workspace.competition.primary
    tags = {
        "mlflow.experiment.primaryMetric.name": f"public_{primary.name}",
        "mlflow.experiment.primaryMetric.greaterIsBetter": str(primary.higher_is_better),
    }
    return _ensure_experiment(
        client, workspace, workspace.competition.name, {**tags, VIEW_TAG: describe_view(workspace)}
    )


def describe_view(workspace: Workspace) -> str:
    """The runs table as `tracker ui` opens it, in MLflow's words: the best public score first, and the columns.

    The validation column is a tag, the value of the best epoch: MLflow's column of a metric has its last value.
    """
    primary = workspace.competition.primary
    score = f"metrics.`public_{primary.name}`"
    validated = [primary.name] if primary.name in METRICS else [primary.name, first_metric()]  # its own, and training's
    columns = [f"tags.`best/val/{name}`" for name in validated]
    columns += [score, "tags.`submission`", "attributes.`Description`"]
    order = {"orderByKey": score, "orderByAsc": not primary.higher_is_better}
    return json.dumps({**order, "selectedColumns": columns, "columnOrder": ["attributes.`Run Name`", *columns]})


def _ensure_experiment(client: Any, workspace: Workspace, name: str, tags: Mapping[str, str]) -> str:
    with FileLock(workspace.lock_dir / "mlflow.lock"):
        found = client.get_experiment_by_name(name)
        if found is not None:
            view = tags.get(VIEW_TAG)
            if view is not None and found.tags.get(VIEW_TAG) != view:  # made before there was one, or another metric
                client.set_experiment_tag(found.experiment_id, VIEW_TAG, view)
            return str(found.experiment_id)
        local = not workspace.mlflow_uri.startswith("http")
        location = (workspace.root / "mlartifacts").as_uri() if local else None
        kind = {"mlflow.experimentKind": "custom_model_development"}  # else the page opens as one for language models
        return str(client.create_experiment(name, artifact_location=location, tags={**kind, **tags}))


def fetch_run(
    workspace: Workspace, run_id: str, target: Path
) -> tuple[dict[str, str], list[tuple[dict[str, float], int]]]:
    """Parameters and (values, step) points of any run, its files downloaded to `target`; raises MlflowError."""
    client = connect(workspace)
    try:
        run = client.get_run(run_id)
        charts = CHARTS_TAG in run.data.tags
        names = {key: from_chart_name(key) for key in run.data.metrics} if charts else {}
        by_step: dict[int, dict[str, float]] = {}
        for key in run.data.metrics:
            for metric in client.get_metric_history(run_id, key):
                by_step.setdefault(metric.step, {})[names.get(key, key)] = metric.value
        if client.list_artifacts(run_id):
            client.download_artifacts(run_id, "", str(target))
    except _mlflow_errors() as error:
        raise _translate(workspace, error) from error
    return dict(run.data.params), [(by_step[step], step) for step in sorted(by_step)]


def keep_report(workspace: Workspace, files: Mapping[str, str], *, about: str) -> None:
    """Put the texts of `files` into the run `report`, over what was there; raises MlflowError.

    It lies in an experiment of its own, "<competition> report", and not among the runs, as older versions had it: that
    one is deleted. A team on one server shares it, so that there is one however often and by whomever it is made.
    """
    client = connect(workspace)
    try:
        experiment = _ensure_experiment(client, workspace, f"{workspace.competition.name} report", {})
        with FileLock(workspace.lock_dir / "report.copy.lock"):
            run = _find_one(client, experiment, "tracker.kind", "report")
            run = run or client.create_run(experiment, run_name="report", tags={**REPORT_TAGS, COPIED_TAG: utc_now()})
            for name, text in files.items():
                client.log_text(run.info.run_id, text, name)
            client.set_tag(run.info.run_id, "mlflow.note.content", f"{about}\n\nThe files are among the artifacts.")
            client.set_terminated(run.info.run_id)
            if older := _find_one(client, ensure_experiment(client, workspace), "tracker.kind", "report"):
                client.delete_run(older.info.run_id)
    except _mlflow_errors() as error:
        raise _translate(workspace, error) from error


def sync_run(workspace: Workspace, name: str, client: Any = None) -> RunRecord:
    """Copy one run; an answer that was lost is asked for again. Raises MlflowError."""
    copy = RunCopy(workspace, name, client)
    for pause_s in RETRY_AFTER_S:
        started = time.monotonic()
        try:
            return copy.push()
        except MlflowError:
            if time.monotonic() - started > ANSWER_S:
                raise  # it hangs; a second time would take as long
            time.sleep(pause_s)
            check_reachable(workspace)
    return copy.push()


def _find_one(client: Any, experiment: str, tag: str, value: str, *, known: str = "") -> Any:
    """The run with this tag, None if there is none; of several the oldest stays and the others are deleted.

    An answer that was lost can leave two, when the request goes through after all.
    """
    found = client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'")
    found.sort(
        key=lambda run: (
            run.info.start_time or 0,
            run.data.tags.get(COPIED_TAG, ""),
            run.info.run_id != known,
            run.info.run_id,
        )
    )
    for run in found[1:]:
        client.delete_run(run.info.run_id)
    return found[0] if found else None


def _find_metrics_table(workspace: Workspace) -> Any:
    """MLflow's table of points where the store is a SQLite file, and has the columns that we know; else None."""
    if not workspace.mlflow_uri.startswith("sqlite:"):
        return None
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import NullPool, create_engine

    table = SqlMetric.__table__
    if {column.name for column in table.columns} != METRIC_COLUMNS:
        return None
    return table, create_engine(workspace.mlflow_uri, poolclass=NullPool, connect_args={"timeout": BUSY_S})


def _insert_points(found: Any, run_id: str, points: Iterable[Point], *, but: Mapping[str, Point]) -> None:
    """Points as MLflow writes them, in one transaction, without those in `but`; what is there stays.

    MLflow's own interface takes six times as long (bench/points.py).
    """
    from sqlalchemy import insert

    table, engine = found
    largest = sys.float_info.max
    rows = [
        {
            "run_uuid": run_id,
            "key": key,
            "value": 0.0 if math.isnan(value) else max(-largest, min(largest, value)),
            "timestamp": point.stamp,
            "step": point.step,
            "is_nan": math.isnan(value),
        }
        for point in points
        for key, value in point.values.items()
        if but[key] is not point
    ]
    with engine.begin() as connection:
        connection.execute(insert(table).prefix_with("OR IGNORE"), rows)


def check_reachable(workspace: Workspace) -> None:
    """A quick look whether a server answers at all, noted for the other runs; raises MlflowAwayError."""
    problem = find_problem(workspace)
    note_away(workspace, problem)
    if problem:
        raise MlflowAwayError(problem)


def _mlflow_errors() -> tuple[type[BaseException], ...]:
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    # an answer that was cut off is no JSON, or not what MLflow's client expects
    return MlflowException, RequestException, SQLAlchemyError, sqlite3.Error, OSError, json.JSONDecodeError, ParseError


def _translate(workspace: Workspace, error: BaseException) -> MlflowError:
    return MlflowError(f"MLflow at {workspace.shown_mlflow_uri}: {_first_line(error)}")


def _clean_text(text: str) -> str:
    """A text that every database takes."""
    return text.replace("\0", "\ufffd").encode("utf-8", "replace").decode("utf-8")


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _milliseconds(text: str) -> int:
    return round(from_utc_text(text).timestamp() * 1000)


def _batches(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
