"""A tracker command in a session of its own: it outlives the terminal, and its output is kept with
the run it makes.

The output is written to `.tracker/output/PID.log` until the run folder exists, and to its
`output.log` from then on.
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
from tracker.runs.output import find_pending
from tracker.runs.read import list_runs
from tracker.runs.record import RunRecord
from tracker.training.files import translate_os_errors
from tracker.workspace.competition import Workspace

POLL_S = 0.1
WAIT_FOR_START = (  # of sh: the command begins at a line on stdin, never when it is closed
    'read -r _ && exec "$@" < /dev/null'
)
CLOCK_S = 5.0  # a process started within that time of ours, with its number, is ours


class Child:
    """A command in the background: started here, or by a process that has died since (then without
    `process`)."""

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
        self._output = find_pending(workspace, pid)

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

        It begins when `before_start` has returned: whoever dies before, having kept no number, leaves no
        process behind.
        """
        quiet_libraries()
        folder = workspace.lock_dir / "output"
        started = utc_now()
        with translate_os_errors(folder, "write"):
            folder.mkdir(parents=True, exist_ok=True)
            pending = folder / f"{uuid.uuid4().hex}.log"
            with pending.open("ab") as log:
                process = subprocess.Popen(
                    # -P: not the code in the current folder
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
            with process.stdin as start_signal:
                pending.replace(find_pending(workspace, process.pid))
                child = cls(workspace, process.pid, started, process)
                before_start(child)
                start_signal.write(b"\n")
        return child

    def is_alive(self) -> bool:
        """Whether it still runs; another process that has its number by now does not count."""
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
        """Its exit code, negative for a signal; None while it runs and when it was not started
        here."""
        return None if self._process is None else self._process.poll()

    def wait_for_folder(self) -> bool:
        """Wait until its output goes to the folder of what it makes; False when it ended before."""
        while self._output.exists() and self.is_alive():
            time.sleep(POLL_S)
        return not self._output.exists()

    def wait_for_run(self) -> RunRecord | None:
        """The run that it makes or resumes, as soon as it does; None when it ended without one."""
        self.wait_for_folder()
        here = os.uname().nodename
        for record in list_runs(self._workspace.runs_dir):
            if (record.pid, record.host) == (self.pid, here) and record.heartbeat >= self.started:
                return record
        return None

    def take_output(self) -> str:
        """What it printed when it ended without a run."""
        try:
            text = self._output.read_text(encoding="utf-8", errors="replace")
            self._output.unlink()
        except FileNotFoundError:
            return ""
        return text

    def terminate(self) -> None:
        """Ask it to end; its run is then recorded as interrupted."""
        if self.is_alive():
            os.kill(self.pid, signal.SIGTERM)
