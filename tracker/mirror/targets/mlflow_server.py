"""The workspace's MLflow: whether it answers, its client, its errors, and reading its runs."""

from __future__ import annotations

import http.client
import json
import logging
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracker.core.locks import FileLock
from tracker.core.metric_names import from_chart_name
from tracker.core.settings import limit_requests, quiet_libraries
from tracker.core.signals import keep_interruptible
from tracker.mirror import targets as mirror_targets
from tracker.mirror.targets import TargetError, TargetUnreachableError, read_state
from tracker.training.errors import StorageError, first_line
from tracker.training.files import atomic_path, write_json
from tracker.training.libraries import require
from tracker.workspace.mlflow_paths import find_database, update_moved_paths
from tracker.workspace.tracker_toml import Workspace

STATE_NAME = "mlflow.json"  # in the run folder
# In the workspace, so that ten runs do not find out one by one that the server is unreachable.
OUTAGE_NAME = "mlflow-away.json"
COPIED_TAG = "tracker.copied_at"  # tells which of two copies is older
# The curves have names that sort MLflow's charts; copies of earlier versions have no such tag.
CHARTS_TAG = "tracker.chart_names"
HOST_TAG = "tracker.host"
CHANGED_TAG = "changed against SOTA"  # of a submitted run: its config diff, on one line
HEARTBEAT_TAG = "tracker.heartbeat"  # of a running run: UTC to the minute
RECORD_TAG = "tracker.record"  # SHA-256 of the artifact record.json, which has those of the others


class MlflowError(TargetError):
    """MLflow could not be reached or refused something; what was not copied is copied later."""


class MlflowUnreachableError(MlflowError, TargetUnreachableError):
    """No MLflow server answers."""


def connect(workspace: Workspace) -> Any:
    """A client of the workspace's tracking server; its database is created if needed.

    Raises MlflowError, or MissingLibraryError without mlflow.
    """
    require("mlflow")
    quiet_libraries()
    limit_requests()
    check_reachable(workspace)
    from mlflow import MlflowClient

    keep_interruptible()
    # it prints a traceback of each error of its database, which is raised as well and told below
    logging.getLogger("mlflow.store.db.utils").setLevel(logging.CRITICAL)
    try:
        # Two processes that migrate an empty database at the same time would break it.
        with FileLock(workspace.state_dir / "mlflow.lock"):
            if message := update_moved_paths(workspace):
                print(message, file=sys.stderr)
            _create_database(workspace)
            client = MlflowClient(tracking_uri=workspace.mlflow_uri)
            client.search_experiments(max_results=1)
    except library_errors() as error:
        raise translate(workspace, error) from error
    return client


def _create_database(workspace: Workspace) -> None:
    """Make the SQLite file that MLflow is to keep, as a whole or not at all.

    MLflow cannot go on with a file whose tables were cut off, by a full disk or by kill -9.
    """
    database = find_database(workspace)
    if database is None or database.exists():
        return
    from mlflow.store.tracking import DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH
    from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

    with atomic_path(database) as temporary:
        store = SqlAlchemyStore(f"sqlite:///{temporary}", DEFAULT_LOCAL_FILE_AND_ARTIFACT_PATH)
        store.engine.dispose()


def check_reachable(workspace: Workspace) -> None:
    """Ask quickly whether a server answers, and note it for other runs.

    Raises MlflowUnreachableError.
    """
    problem = find_problem(workspace)
    note_outage(workspace, problem)
    if problem:
        raise MlflowUnreachableError(problem)


def find_problem(workspace: Workspace) -> str:
    """Why nothing can be copied to the tracking server, after one request; empty if it answers."""
    address = workspace.shown_mlflow_uri
    if not address.startswith(("http://", "https://")):
        return ""
    problem = ""
    try:
        page = f"{address.rstrip('/')}/health"
        urllib.request.urlopen(page, timeout=mirror_targets.ANSWER_S).close()  # noqa: S310
    except urllib.error.HTTPError as error:  # 401 and 404 are answers
        problem = f"answers {error.code} {error.reason}" if error.code >= 500 else ""
    except urllib.error.URLError as error:
        # MLflow's client gives a better message for these.
        reported_later = isinstance(error.reason, ConnectionResetError | ssl.SSLError)
        problem = "" if reported_later else f"does not answer: {error.reason}"
    except TimeoutError:
        problem = f"does not answer within {mirror_targets.ANSWER_S:.0f} s"
    except (http.client.HTTPException, ConnectionError):
        pass  # it is there; MLflow's client will say whether it works
    return problem and f"MLflow at {address} {problem}"


def note_outage(workspace: Workspace, problem: str) -> None:
    """Note for other runs why the tracking server does not answer; empty: it answers."""
    path = workspace.state_dir / OUTAGE_NAME
    # it only spares others a wait: a folder that cannot be written must not end a command
    with suppress(OSError, StorageError):
        if problem:
            path.parent.mkdir(exist_ok=True)
            write_json(path, {"tracking_uri": workspace.shown_mlflow_uri, "problem": problem})
        else:
            path.unlink(missing_ok=True)


def find_outage(workspace: Workspace) -> str:
    """Why the tracking server did not answer the last time; empty if it did."""
    outage = read_state(workspace.state_dir / OUTAGE_NAME)
    if outage.get("tracking_uri") != workspace.shown_mlflow_uri:
        return ""
    return str(outage.get("problem", ""))


def fetch_run(
    workspace: Workspace, run_id: str, target: Path
) -> tuple[dict[str, str], list[tuple[dict[str, float], int]], list[float], str]:
    """Parameters, (values, step) points, times and status of a run; its files go to `target`.

    The times are its beginning and, if MLflow has it, its end, in seconds since 1970. Raises
    MlflowError.
    """
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
    except library_errors() as error:
        raise translate(workspace, error) from error
    times = [time_ms / 1000 for time_ms in (run.info.start_time, run.info.end_time) if time_ms]
    points = [(by_step[step], step) for step in sorted(by_step)]
    return dict(run.data.params), points, times, str(run.info.status)


def find_one(client: Any, experiment: str, tag: str, value: str, *, known: str = "") -> Any:
    """The run with this tag, None if there is none.

    Of several the oldest stays and the others are deleted. There are two when the answer to a
    request was lost, but MLflow did create the run.
    """
    runs = client.search_runs([experiment], filter_string=f"tags.`{tag}` = '{value}'")
    runs.sort(
        key=lambda run: (
            run.info.start_time or 0,
            run.data.tags.get(COPIED_TAG, ""),
            run.info.run_id != known,
            run.info.run_id,
        )
    )
    for run in runs[1:]:
        client.delete_run(run.info.run_id)
    return runs[0] if runs else None


def folder_of(name: str) -> str | None:
    """The folder of a file below the run folder; None if it is in the run folder itself."""
    return name.rpartition("/")[0] or None


def list_artifact_sizes(client: Any, run_id: str, names: Iterable[str]) -> dict[str, int | None]:
    """{file: bytes} of the artifacts in the folders of `names`; None: the store does not know."""
    sizes: dict[str, int | None] = {}
    for folder in {folder_of(name) for name in names}:
        for file in client.list_artifacts(run_id, folder):
            sizes[file.path] = file.file_size
    return sizes


def library_errors() -> tuple[type[BaseException], ...]:
    """The errors that MLflow's client lets through, its own and those of its libraries."""
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    # The last two are for an answer that was cut off.
    return (
        MlflowException,
        RequestException,
        SQLAlchemyError,
        *(sqlite3.Error, UnicodeDecodeError),  # of a damaged database, even as an error's text
        OSError,
        json.JSONDecodeError,
        ParseError,
    )


def translate(workspace: Workspace, error: BaseException) -> MlflowError:
    """One of `library_errors` as an MlflowError, in one line."""
    return MlflowError(f"MLflow at {workspace.shown_mlflow_uri}: {first_line(error)[:300]}")
