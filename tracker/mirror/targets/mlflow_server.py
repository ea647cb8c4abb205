"""The workspace's MLflow: whether it answers, a client of it, its errors, and any run read from it."""

from __future__ import annotations

import http.client
import json
import sqlite3
import ssl
import sys
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

from tracker.core.locks import FileLock
from tracker.core.metric_names import from_chart_name
from tracker.core.settings import limit_requests, quiet_libraries
from tracker.mirror import targets as mirror_targets
from tracker.mirror.targets import TargetError, TargetUnreachableError, read_state
from tracker.training.errors import first_line
from tracker.training.files import write_json
from tracker.training.libraries import require
from tracker.workspace.competition import Workspace
from tracker.workspace.relocation import follow_workspace

STATE_NAME = "mlflow.json"  # in the run folder
AWAY_NAME = (  # in the workspace: ten runs need not find out one by one that it is away
    "mlflow-away.json"
)
COPIED_TAG = "tracker.copied_at"  # the older of two is found by it
CHARTS_TAG = (  # its curves are named for the order of the charts; older copies have none
    "tracker.chart_names"
)


class MlflowError(TargetError):
    """MLflow could not be reached or refused something; what was not copied is copied later."""


class MlflowUnreachableError(MlflowError, TargetUnreachableError):
    """No MLflow server answers."""


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
    except library_errors() as error:
        raise translate(workspace, error) from error
    return client


def check_reachable(workspace: Workspace) -> None:
    """A quick look whether a server answers at all, noted for the other runs; raises
    MlflowUnreachableError."""
    problem = find_problem(workspace)
    note_outage(workspace, problem)
    if problem:
        raise MlflowUnreachableError(problem)


def find_problem(workspace: Workspace) -> str:
    """Why nothing can be copied to the tracking server, after a quick look; empty when it answers."""
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
        known_later = isinstance(
            error.reason, ConnectionResetError | ssl.SSLError
        )  # MLflow's client tells these
        problem = "" if known_later else f"does not answer: {error.reason}"
    except TimeoutError:
        problem = f"does not answer within {mirror_targets.ANSWER_S:.0f} s"
    except (http.client.HTTPException, ConnectionError):
        pass  # it is there; whether it works, MLflow's client tells
    return problem and f"MLflow at {address} {problem}"


def note_outage(workspace: Workspace, problem: str) -> None:
    """Tell other runs of the workspace that the tracking server does not answer; empty: it answers."""
    path = workspace.lock_dir / AWAY_NAME
    if problem:
        path.parent.mkdir(exist_ok=True)
        write_json(path, {"tracking_uri": workspace.shown_mlflow_uri, "problem": problem})
    else:
        path.unlink(missing_ok=True)


def find_outage(workspace: Workspace) -> str:
    """Why the tracking server did not answer the last time, empty when it did."""
    noted = read_state(workspace.lock_dir / AWAY_NAME)
    return (
        str(noted.get("problem", ""))
        if noted.get("tracking_uri") == workspace.shown_mlflow_uri
        else ""
    )


def fetch_run(
    workspace: Workspace, run_id: str, target: Path
) -> tuple[dict[str, str], list[tuple[dict[str, float], int]], list[float]]:
    """Parameters, (values, step) points and times of any run, its files downloaded to `target`;
    raises MlflowError.

    The times are when it began and, where MLflow knows, when it ended, in seconds since 1970.
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
    times = [at / 1000 for at in (run.info.start_time, run.info.end_time) if at]
    return dict(run.data.params), [(by_step[step], step) for step in sorted(by_step)], times


def find_one(client: Any, experiment: str, tag: str, value: str, *, known: str = "") -> Any:
    """The run with this tag, None if there is none; of several the oldest stays and the others are
    deleted.

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


def library_errors() -> tuple[type[BaseException], ...]:
    from google.protobuf.json_format import ParseError  # type: ignore[import-untyped]
    from mlflow.exceptions import MlflowException
    from requests.exceptions import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    # an answer that was cut off is no JSON, or not what MLflow's client expects
    return (
        MlflowException,
        RequestException,
        SQLAlchemyError,
        sqlite3.Error,
        OSError,
        json.JSONDecodeError,
        ParseError,
    )


def translate(workspace: Workspace, error: BaseException) -> MlflowError:
    return MlflowError(f"MLflow at {workspace.shown_mlflow_uri}: {first_line(error)[:300]}")
