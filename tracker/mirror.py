"""The mirror process: copies a run folder to MLflow and TensorBoard while the run goes on, and after it.

It is a process of its own, so that importing and feeding MLflow never takes a moment from the training loop, and so
that the death of the trainer itself is copied too.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tracker.settings import get_seconds, quiet_libraries
from tracker.workspace import Workspace

LOG_NAME = "mirror.log"


class Mirror:
    """Starts the mirror process of one run and waits for it at the end."""

    def __init__(self, workspace: Workspace, run: str) -> None:
        self._workspace = workspace
        self._run = run
        self._log = workspace.runs_dir / run / LOG_NAME
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process in a session of its own: Ctrl-C ends the training, not the copying."""
        quiet_libraries()
        command = [sys.executable, "-P", "-m", "tracker.mlflow_log", str(self._workspace.root), self._run]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self) -> str:
        """Wait until everything is copied; returns the reason when it is not, else an empty text."""
        if self._process is None:
            return "not started"
        try:
            code = self._process.wait(timeout=get_seconds("TRACKER_MLFLOW_WAIT_S"))
        except subprocess.TimeoutExpired:
            return "still copying"
        return "" if code == 0 else last_line(self._log)


def describe_lag(reason: str) -> str:
    """The line that says why MLflow does not have everything yet; nothing is lost by it."""
    return f"MLflow is behind ({reason}): tracker sync brings it up to date"


def last_line(log: Path) -> str:
    """The last line of a log, or a word when there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"
