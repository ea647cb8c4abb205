"""The mirror process: copies one run until its end. tracker/mirror/mirror.py starts it."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

from tracker.core.errors import TrackerError, render_error
from tracker.core.masking import mask_stderr
from tracker.core.sender import start_sender
from tracker.mirror.copy import RunCopy
from tracker.mirror.mirror import write_progress
from tracker.mirror.targets import TargetError
from tracker.run_folder.read import load_run
from tracker.workspace.tracker_toml import Workspace, load_workspace

POLL_S = 1.0  # curves elsewhere are this much behind
ATTEMPTS = 5  # after the end of the run: half a minute with the pauses between them
LONGEST_PAUSE = 30  # times POLL_S, after several failures


def copy_until_end(workspace: Workspace, name: str) -> None:
    """Copy a run until its end; raises TargetError when a target cannot be reached after that."""
    folder = workspace.runs_dir / name
    copy = RunCopy(workspace, name)
    failures = failures_after_end = 0
    write_progress(folder, connected=False)
    while True:
        ended = load_run(workspace.runs_dir, name).status != "running"
        try:
            # Noted before a target's library is imported, which takes seconds.
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
        # After a failure wait longer each time.
        pause_s = POLL_S * min(LONGEST_PAUSE, 2**failures) if failures else POLL_S
        _pause(workspace, name, pause_s, ended=ended)


def _pause(workspace: Workspace, name: str, seconds: float, *, ended: bool) -> None:
    """Sleep, but only until the end of the run."""
    deadline = time.monotonic() + seconds
    while (left := deadline - time.monotonic()) > 0:
        time.sleep(min(left, POLL_S))
        if not ended and load_run(workspace.runs_dir, name).status != "running":
            return


def main() -> int:
    """The mirror process: `python -m tracker.mirror.process WORKSPACE RUN`."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask_stderr()  # it is mirror.log, which others may read
    root, name = sys.argv[1:]
    try:
        workspace = load_workspace(Path(root))
        try:
            copy_until_end(workspace, name)
        finally:
            # It has seen the end of the run, also of one that was killed.
            start_sender(workspace.root)
    except TrackerError as error:
        print(render_error(error), file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
