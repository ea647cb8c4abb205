"""The mirror process: follows one run to its end and copies it; see tracker/mirror/mirror.py, which
starts it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from tracker.core.errors import TrackerError, render_error
from tracker.mirror.copy import RunCopy
from tracker.mirror.mirror import write_progress
from tracker.mirror.targets import TargetError
from tracker.runs.read import load_run
from tracker.workspace.competition import Workspace, load_workspace

POLL_S = 1.0
ATTEMPTS = 5  # after the end of the run


def follow(workspace: Workspace, name: str) -> None:
    """Copy a run until it has ended; raises TargetError when a target stays out of reach after
    that."""
    folder = workspace.runs_dir / name
    copy = RunCopy(workspace, name)
    failures = failures_after_end = 0
    write_progress(folder, connected=False)
    while True:
        ended = load_run(workspace.runs_dir, name).status != "running"
        try:
            # said before a target's library is imported, which takes seconds
            if copy.push(lambda: write_progress(folder, connected=True)).status != "running":
                return
            write_progress(folder, connected=True)
            failures = 0
        except TargetError as error:
            write_progress(folder, connected=copy.is_open, problem=str(error))
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


def main() -> int:
    """Entry of the mirror process: `python -m tracker.mirror.process WORKSPACE RUN`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    root, name = sys.argv[1:]
    try:
        follow(load_workspace(Path(root)), name)
    except TrackerError as error:
        print(render_error(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
