"""A tracker command in the background: it survives the terminal.

Its output goes to `.tracker/output/PID.log` until the run folder exists, then to `output.log` in
that folder.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

from tracker.core.clock import from_utc_text, utc_now
from tracker.core.settings import quiet_libraries
from tracker.run_folder.output import pending_log_path
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import RunRecord
from tracker.training.files import translate_os_errors
from tracker.training.machine import host_name
from tracker.training.saves import block_saves
from tracker.workspace.tracker_toml import Workspace

POLL_S = 0.1  # somebody waits for the name of the run
# For sh: start the command after a line on stdin, and never when stdin is closed.
WAIT_FOR_START = 'read -r _ && exec "$@" < /dev/null'
# A process with the number of a child is the child if it started within this time of it. System
# clocks are rounded, and process numbers are not reused that fast.
CLOCK_S = 5.0


class Child:
    """A command in the background.

    `process` is None for one that was started by a process that has died since.
    """

    def __init__(
        self,
        workspace: Workspace,
        pid: int,
        started: str,
        process: subprocess.Popen[bytes] | None = None,
    ) -> None:
        self.pid = pid
        self.started = started
        self._workspace = workspace
        self._process = process
        self._output = pending_log_path(workspace, pid)

    @classmethod
    def start(
        cls,
        workspace: Workspace,
        arguments: Sequence[str],
        *,
        cwd: Path | None = None,
        before_start: Callable[[Child], None] = lambda _: None,
    ) -> Child:
        """Start `tracker ARGUMENTS`; closing the terminal or Ctrl-C there does not reach it.

        The command starts after `before_start` has returned. If this process dies before that, the
        command never starts, so no unknown process is left.
        """
        quiet_libraries()
        folder = workspace.state_dir / "output"
        started = utc_now()
        with translate_os_errors(folder, "write"):
            folder.mkdir(parents=True, exist_ok=True)
            pending = folder / f"{uuid.uuid4().hex}.log"
            with pending.open("ab") as log, block_saves():
                process = subprocess.Popen(
                    # -P: do not import from the current folder
                    [
                        "sh",
                        "-c",
                        WAIT_FOR_START,
                        "sh",
                        sys.executable,
                        "-P",
                        "-m",
                        "tracker.cli",
                        *arguments,
                    ],
                    cwd=cwd,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
            assert process.stdin  # noqa: S101  (it is a pipe)
            # The child starts at the line that is written last.
            with process.stdin as start_signal:
                pending.replace(pending_log_path(workspace, process.pid))
                child = cls(workspace, process.pid, started, process)
                before_start(child)
                start_signal.write(b"\n")
        return child

    def is_alive(self) -> bool:
        """Whether it still runs; another process that has got its number does not count."""
        if self._process is not None:
            return self._process.poll() is None
        import psutil

        try:
            process = psutil.Process(self.pid)
            age = float(process.create_time()) - from_utc_text(self.started).timestamp()
            return -CLOCK_S < age < CLOCK_S and process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            return False

    @property
    def exit_code(self) -> int | None:
        """Its exit code, negative for a signal; None if it runs or was not started here."""
        return None if self._process is None else self._process.poll()

    def wait_for_folder(self) -> bool:
        """Wait until its output goes to the folder of its run; False when it ended before."""
        while self._output.exists() and self.is_alive():
            time.sleep(POLL_S)
        return not self._output.exists()

    def wait_for_run(self) -> RunRecord | None:
        """Wait for the run that it makes or resumes; None when it ended without one."""
        self.wait_for_folder()
        here = host_name()
        for record in list_runs(self._workspace.runs_dir):
            if (record.pid, record.host) == (self.pid, here) and record.heartbeat >= self.started:
                return record
        return None

    def take_output(self) -> str:
        """Read and delete what it printed, if it ended without a run."""
        try:
            text = self._output.read_text(encoding="utf-8", errors="replace")
            self._output.unlink()
        except FileNotFoundError:
            return ""
        return text

    def terminate(self) -> None:
        """Send SIGTERM; its run is then recorded as interrupted."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
