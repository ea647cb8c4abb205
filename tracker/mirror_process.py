"""The mirror process: follows one run to its end and copies it; see tracker/mirror.py, which starts it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from tracker.errors import TrackerError, render_error
from tracker.mirror import write_progress
from tracker.mlflow_log import MlflowError, RunCopy, check_reachable
from tracker.runs import load_run
from tracker.workspace import Workspace, load_workspace

POLL_S = 1.0
ATTEMPTS = 5  # after the end of the run


def follow(workspace: Workspace, name: str) -> None:
    """Copy a run until it has ended; raises MlflowError when MLflow stays out of reach after that."""
    folder = workspace.runs_dir / name
    copy: RunCopy | None = None
    failures = failures_after_end = 0
    write_progress(folder, connected=False)
    while True:
        ended = load_run(workspace.runs_dir, name).status != "running"
        try:
            if copy is None:
                check_reachable(workspace)
                write_progress(folder, connected=True)  # before MLflow is imported, which takes seconds
                copy = RunCopy(workspace, name)
            if copy.push().status != "running":
                return
            write_progress(folder, connected=True)
            failures = 0
        except MlflowError as error:
            write_progress(folder, connected=copy is not None, problem=str(error))
            failures += 1
            failures_after_end += ended
            if failures_after_end >= ATTEMPTS:
                raise
        _pause(workspace, name, POLL_S * min(30, 2**failures) if failures else POLL_S, ended=ended)


def _pause(workspace: Workspace, name: str, seconds: float, *, ended: bool) -> None:
    """Sleep, but not beyond the end of the run."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        time.sleep(min(left, POLL_S))
        if not ended and load_run(workspace.runs_dir, name).status != "running":
            return


def _main() -> int:
    """Entry of the mirror process: `python -m tracker.mirror_process WORKSPACE RUN`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root, name = sys.argv[1:]
    try:
        follow(load_workspace(Path(root)), name)
    except TrackerError as error:
        print(render_error(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
