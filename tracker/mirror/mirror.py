"""Start the process that copies a run to MLflow and other trackers, and wait for it at the end.

It is a process of its own: loading and feeding those libraries takes no time from the training
loop, and it also copies the death of the trainer. `mirror.json` in the run folder says what it
does. Only tracker/mirror/targets/ knows which trackers there are.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tracker.core.settings import get_seconds, quiet_libraries
from tracker.mirror.targets import list_targets, name_remote, read_state
from tracker.run_folder.output import OUTPUT_NAME
from tracker.training.errors import mask_secrets
from tracker.training.files import write_json, write_text
from tracker.training.saves import block_saves
from tracker.workspace.tracker_toml import Workspace

LOG_NAME = "mirror.log"
PROGRESS_NAME = "mirror.json"
POLL_S = 0.1  # at the end of a run somebody waits
PATIENCE_S = 10.0  # without progress; a slow server takes 5 s for an answer
FIRST_PATIENCE_S = 3.0  # for the first answer of a server


class Mirror:
    """The mirror process of one run."""

    def __init__(self, workspace: Workspace, run: str) -> None:
        self._workspace = workspace
        self._run = run
        self._folder = workspace.runs_dir / run
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process, in a session of its own: Ctrl-C ends the training, not the copying."""
        quiet_libraries()
        (self._folder / PROGRESS_NAME).unlink(missing_ok=True)
        command = [
            sys.executable,
            "-P",
            "-m",
            "tracker.mirror.process",
            str(self._workspace.root),
            self._run,
        ]
        with (self._folder / LOG_NAME).open("ab") as log, block_saves():
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )

    def wait(self, meanwhile: Iterator[object] | None = None) -> str:
        """Wait while the copy makes progress, at most TRACKER_MLFLOW_WAIT_S.

        A step of `meanwhile`, short and optional work, is done instead of each pause.
        Returns what is not copied yet and what will do it; empty when everything is copied.
        """
        if self._process is None:
            return describe_lag("copying has not started")
        problem = self._wait(self._process, meanwhile or iter(()))
        if (code := self._process.poll()) is None:
            return (
                f"{name_remote()} behind ({problem}): copying continues in the background; tracker"
                " sync completes it if that fails"
            )
        if code == 0:
            return ""
        return describe_lag(last_line(self._folder / LOG_NAME))

    def _wait(self, process: subprocess.Popen[bytes], meanwhile: Iterator[object]) -> str:
        """Wait for the end of the process; returns the reason for ending the wait before."""
        started = moved = time.monotonic()
        limit_s = get_seconds("TRACKER_MLFLOW_WAIT_S")
        before: tuple[Any, ...] = ()
        targets = [target for target in list_targets() if target.remote]
        while process.poll() is None:
            progress = read_progress(self._folder)
            problem = progress.get("problem")
            if not problem and not progress.get("connected"):
                problem = self._find_outage()
            if problem:
                return str(problem)
            # Progress is a new message of the process, a new state file, or processor time.
            stamps = [_modified_ns(self._folder / target.state_name) for target in targets]
            state = (progress, stamps, _work_done(process.pid))
            now = time.monotonic()
            if state != before:
                before, moved = state, now
            unanswered_s = time.time() - _modified_ns(self._folder / PROGRESS_NAME) / 1e9
            if progress.get("connected") is False and unanswered_s > FIRST_PATIENCE_S:
                for target in targets:
                    target.note_no_answer(self._workspace)
            if now - moved > PATIENCE_S:
                return f"no progress for {PATIENCE_S:.0f} s"
            if now - started >= limit_s:
                return "still copying"
            if next(meanwhile, None) is None:
                time.sleep(POLL_S)
        return ""

    def _find_outage(self) -> str:
        """Why another run of the workspace got no answer; empty if it got one."""
        problems = [target.find_outage(self._workspace) for target in list_targets()]
        return next((problem for problem in problems if problem), "")


def write_progress(folder: Path, *, connected: bool, problem: str = "") -> None:
    """Tell the waiting process whether the mirror is connected, and what its problem is."""
    progress = {"connected": connected, "problem": mask_secrets(problem)}
    if read_progress(folder) != progress:
        write_json(folder / PROGRESS_NAME, progress)


def read_progress(folder: Path) -> dict[str, Any]:
    """The last state that the mirror wrote; empty before the first."""
    return read_state(folder / PROGRESS_NAME)


def describe_lag(reason: str) -> str:
    """The message that a copy does not have everything yet, and why; nothing is lost."""
    return f"{name_remote()} behind ({mask_secrets(reason)}): tracker sync brings it up to date"


def last_line(log: Path) -> str:
    """The last line of a log, or a text that says there is none."""
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    return lines[-1] if lines else "no reason given"


def clear_secrets(folder: Path) -> None:
    """Take the passwords out of what an earlier version wrote into a run folder, which others may
    read. Raises StorageError."""
    for name in (PROGRESS_NAME, LOG_NAME, OUTPUT_NAME):
        try:
            text = (folder / name).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if (masked := mask_secrets(text)) != text:
            write_text(folder / name, masked)


def _modified_ns(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def _work_done(pid: int) -> tuple[float, ...]:
    """Processor time and bytes read of a process.

    They change while it starts, and while it sends a large file.
    """
    import psutil

    try:
        process = psutil.Process(pid)
        used = process.cpu_times()
        read = process.io_counters().read_chars if hasattr(process, "io_counters") else 0
    except psutil.Error:
        return ()
    return used.user, used.system, float(read)
