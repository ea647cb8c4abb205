"""What is known of a submitted job: whether it waits, runs or is gone, and how it is taken back."""

from __future__ import annotations

import json
import os
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tracker.core.clock import from_utc_text
from tracker.core.errors import TrackerError
from tracker.run_folder.read import load_run
from tracker.run_folder.record import WAITING, RunRecord
from tracker.run_folder.recorder import settle_waiting
from tracker.training.errors import first_line
from tracker.workspace.slurm_options import LOCAL
from tracker.workspace.tracker_toml import Workspace

JOB_NAME = "slurm.json"  # in the folder of a run: its job
ASK_S = 20.0  # for squeue and scancel
CLOCK_S = 60.0  # between the start of a process and the time that was written down for it


@dataclass(frozen=True, kw_only=True)
class SubmittedJob:
    """A job: its number at Slurm, or the process that runs it here, and when it was submitted."""

    executor: str
    number: str
    submitted: str

    @property
    def title(self) -> str:
        """What people call it."""
        return f"Slurm job {self.number}" if self.executor == "slurm" else f"job {self.number} here"

    @property
    def stop_command(self) -> str:
        """What ends it, whatever it does."""
        return f"scancel {self.number}" if self.executor == "slurm" else f"kill -INT {self.number}"


def read_job(folder: Path) -> SubmittedJob | None:
    """The job of a run; None where it has none, or where its file is damaged."""
    try:
        return SubmittedJob(**json.loads((folder / JOB_NAME).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def settle_gone(workspace: Workspace) -> None:
    """Give each run that waits for a job that is gone its true status: interrupted.

    Nothing changes while Slurm gives no answer.
    """
    for path in workspace.runs_dir.glob(f"exp*/{JOB_NAME}"):
        name = path.parent.name
        with suppress(TrackerError):
            job = read_job(path.parent)
            waits = load_run(workspace.runs_dir, name).status in WAITING
            if waits and job and is_queued(job) is False:
                text = f"{job.title} has left the queue"
                settle_waiting(workspace.runs_dir, name, "interrupted", error=text)


def stop_waiting(workspace: Workspace, name: str, *, reason: str) -> RunRecord:
    """Take a run's job out of the queue, and record that; the record of a run that has begun
    meanwhile is that of a running one."""
    job = read_job(workspace.runs_dir / name)
    record = settle_waiting(workspace.runs_dir, name, "interrupted", error=reason)
    if record.status == "interrupted" and job:
        _cancel(job)
    return record


def is_queued(job: SubmittedJob) -> bool | None:
    """Whether a job runs or waits; None where that is unknown."""
    if job.executor == LOCAL:
        return _is_alive(job)
    done = _ask("squeue", "--noheader", "--format=%i", f"--jobs={job.number}")
    if done is None or (done.returncode and "Invalid job id" not in done.stderr):
        return None
    return bool(done.stdout.strip())


def _cancel(job: SubmittedJob) -> None:
    if job.executor == LOCAL:
        if _is_alive(job):
            import signal

            os.kill(int(job.number), signal.SIGINT)
        return
    done = _ask("scancel", job.number)
    if done is None or done.returncode:
        why = first_line(RuntimeError(done.stderr)) if done else "no scancel here"
        raise TrackerError(f"{job.title} may still be in the queue: {why}", hint=job.stop_command)


def _is_alive(job: SubmittedJob) -> bool:
    import psutil

    with suppress(psutil.Error):
        process = psutil.Process(int(job.number))
        age = float(process.create_time()) - from_utc_text(job.submitted).timestamp()
        return abs(age) < CLOCK_S and process.status() != psutil.STATUS_ZOMBIE
    return False


def _ask(*command: str) -> subprocess.CompletedProcess[str] | None:
    """The answer of a program of Slurm; None where there is none."""
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=ASK_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
