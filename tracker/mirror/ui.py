"""Serve the MLflow web page of the workspace, on this machine only."""

from __future__ import annotations

import shlex
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from urllib.parse import urlencode

from tracker.core.errors import InterruptedByUserError, TrackerError
from tracker.core.settings import quiet_libraries
from tracker.core.signals import HANGUP, terminate_as_interrupt
from tracker.training.errors import ConfigError
from tracker.training.libraries import require
from tracker.workspace.tracker_toml import Workspace

HOST = "127.0.0.1"
START_LIMIT_S = 120.0  # generous: a loaded machine takes long to import mlflow
STOP_LIMIT_S = 20.0  # for its worker, too, on a loaded machine


def open_ui(workspace: Workspace, *, port: int, browser: bool) -> None:
    """Serve until interrupted, then raise InterruptedByUserError.

    For a tracking server that runs elsewhere only its address is printed. Raises ConfigError when
    the port is in use.
    """
    if workspace.mlflow_uri.startswith("http"):
        print(f"MLflow runs at {workspace.mlflow_uri}", flush=True)
        _browse(workspace.mlflow_uri, browser)
        return
    require("mlflow", "flask")
    from tracker.workspace.mlflow_paths import open_readable_store

    port = _free_port(port)
    try:
        with terminate_as_interrupt(*HANGUP), open_readable_store(workspace) as served:
            _serve(served, _find_or_make_page(workspace, served), port=port, browser=browser)
    except KeyboardInterrupt:
        raise InterruptedByUserError("the MLflow page is closed", hint="tracker ui") from None


def _find_or_make_page(workspace: Workspace, served: Workspace) -> str:
    """The address of the competition's experiment, its runs sorted by leaderboard score.

    In a workspace that cannot be written a copy is served and nothing is created.
    """
    from tracker.mirror.targets.mlflow_server import connect
    from tracker.mirror.targets.mlflow_view import VIEW_KEY, ensure_experiment
    from tracker.workspace.mlflow_paths import find_experiment

    if served is workspace:
        # connect() migrates the database under its lock, before the server opens it.
        experiment = ensure_experiment(connect(workspace), workspace)
        return f"{experiment}/runs?{_query(viewStateShareKey=VIEW_KEY)}"
    print(
        f"{workspace.root} cannot be written: the page shows a copy of its MLflow database",
        file=sys.stderr,
    )
    return f"{find_experiment(served) or '0'}/runs?{_query(**_sort_by_score(workspace))}"


def _query(**view: str) -> str:
    """The query of an address; MLflow uses a shared view only when the query has no order."""
    return urlencode({"workflowType": "machine_learning", **view})


def _serve(workspace: Workspace, page: str, *, port: int, browser: bool) -> None:
    # Its log goes to stderr, stdout has only the address. Its own session: Ctrl-C comes to us, and
    # we end it quietly.
    process = subprocess.Popen(
        server_command(workspace, port),
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
        start_new_session=True,
    )
    try:
        url = f"http://{HOST}:{port}/#/experiments/{page}"
        _wait_until_up(process, port)
        print(f"{workspace.competition.name}: {url}   (Ctrl-C stops it)", flush=True)
        _browse(url, browser)
        if process.wait() != 0:
            raise TrackerError("the MLflow server stopped", hint="its last lines are above")
    finally:
        if process.poll() is None:
            process.terminate()
            process.wait(timeout=STOP_LIMIT_S)


def _sort_by_score(workspace: Workspace) -> dict[str, str]:
    """The order of the runs in a copied store, which may be older than the saved view."""
    primary = workspace.competition.primary
    return {
        "orderByKey": f"metrics.`public_{primary.name}`",
        "orderByAsc": str(not primary.higher_is_better).lower(),
    }


def server_command(workspace: Workspace, port: int) -> list[str]:
    """The command of an MLflow server for one person: loopback only, one worker, no job runner."""
    quiet_libraries()
    options = {
        "--backend-store-uri": workspace.mlflow_uri,
        "--default-artifact-root": (workspace.root / "mlartifacts").as_uri(),
        "--host": HOST,
        "--port": str(port),
        "--workers": "1",
        # uvicorn looks for modules in the current folder first, where the user's own code is
        "--uvicorn-opts": (
            f"--log-level warning --app-dir {shlex.quote(sysconfig.get_path('purelib'))}"
        ),
    }
    command = [sys.executable, "-P", "-W", "ignore", "-c", _LAUNCH, "server"]
    for option, value in options.items():
        command += [option, value]
    return command


# The job runner would take 230 MB for nothing. Processes that the server starts must not import
# from the current folder either.
_LAUNCH = (
    "import os, sys; os.environ['MLFLOW_SERVER_ENABLE_JOB_EXECUTION'] = 'false'; "
    "os.environ['PYTHONWARNINGS'] = 'ignore'; "  # its worker is a process of its own
    "os.environ['PYTHONSAFEPATH'] = '1'; "
    "from mlflow.cli import cli; sys.argv[0] = 'mlflow'; cli()"
)


def _free_port(wanted: int) -> int:
    """The port to use, any free one for 0; raises ConfigError when it is in use."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, wanted))
        except OSError as error:
            raise ConfigError(
                f"port {wanted} is in use", hint="tracker ui --port 0 chooses a free one"
            ) from error
        return int(probe.getsockname()[1])


def _wait_until_up(process: subprocess.Popen[bytes], port: int) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise TrackerError("the MLflow server did not start", hint="its last lines are above")
        try:
            with urllib.request.urlopen(f"http://{HOST}:{port}/health", timeout=2):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise TrackerError(f"the MLflow server did not answer within {START_LIMIT_S:.0f} s")


def _browse(url: str, browser: bool) -> None:
    if browser:
        import webbrowser

        webbrowser.open(url)
