"""What a job of Slurm runs: one run, or a worker of a sweep. submitit calls these on the machine of
the job, in a process of its own."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

from tracker.core.errors import InterruptedByUserError, PreemptedError, TrackerError, render_error
from tracker.core.settings import find_job
from tracker.core.signals import Preempted
from tracker.run_folder.event_texts import describe_end
from tracker.run_folder.output import outlive_terminal
from tracker.run_folder.read import load_run
from tracker.run_folder.record import STALE_HEARTBEAT_S
from tracker.run_folder.recorder import settle_waiting
from tracker.run_folder.stop_note import take_stop_note
from tracker.training.libraries import translate_import_errors
from tracker.training.saves import SAVE, SaveRequest
from tracker.workspace.tracker_toml import Workspace, load_workspace

NEEDED = "the scheduler needs the machine"
Requeue = Callable[[int, FrameType | None], Any]


@dataclass(frozen=True)
class TrainJob:
    """Trains the run `run` of the workspace at `root`, from where it is."""

    root: str
    run: str

    def __call__(self) -> None:
        """Train to the end, or until the machine is needed: then the job goes back into the
        queue."""
        requeue = _find_requeue()
        workspace = load_workspace(Path(self.root))
        with outlive_terminal(workspace) as output:
            output.begin_in(workspace.runs_dir / self.run)
            code = self._train(workspace)
        if code is None:
            self._go_back(workspace, requeue)
        if code:
            raise SystemExit(code)

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same job."""
        return _delay(self)

    def _train(self, workspace: Workspace) -> int | None:
        """The exit code; None when the machine is needed."""
        runs_dir = workspace.runs_dir
        try:
            saving = SaveRequest()
            saving.on_saved = partial(_leave, saving)
            _save_at_termination(saving)
            with translate_import_errors():
                from tracker.workflows.train import resume

                _wait_for_silence(workspace, self.run)
                resume(workspace, self.run, job=find_job(), saving=saving)
            print(describe_end(load_run(runs_dir, self.run)))
        except PreemptedError as error:
            print(f"{self.run} is saved: {error}", file=sys.stderr)
            return None
        except KeyboardInterrupt:  # before the run has begun
            reason, _ = take_stop_note(runs_dir / self.run)
            settle_waiting(runs_dir, self.run, "interrupted", error=reason or "Ctrl-C")
            return InterruptedByUserError.exit_code
        except TrackerError as error:
            settle_waiting(runs_dir, self.run, "failed", error=str(error))
            kind = "" if isinstance(error, InterruptedByUserError) else "error: "
            print(f"{kind}{render_error(error)}", file=sys.stderr)
            return error.exit_code
        except Exception as error:
            problem = f"{type(error).__name__}: {error}"
            settle_waiting(runs_dir, self.run, "failed", error=problem)
            raise
        return 0

    def _go_back(self, workspace: Workspace, requeue: Requeue) -> None:
        """Put the job back into the queue, which ends this process; or say that it is not there."""
        try:
            requeue(SAVE or 0, None)
        except Exception as error:
            problem = f"the job did not go back into the queue: {error}"
            settle_waiting(workspace.runs_dir, self.run, "interrupted", error=problem)
            raise


@dataclass(frozen=True)
class SweepJob:
    """A worker of the sweep `file` of the workspace at `root`, beside others."""

    root: str
    file: str

    def __call__(self) -> None:
        """Train trials until none is left, or until the machine is needed: then the trial is saved
        and given back, and the job goes back into the queue."""
        from tracker.jobs.sweep import run_sweep
        from tracker.jobs.views import print_sweep

        requeue = _find_requeue()
        workspace = load_workspace(Path(self.root))
        received: list[int] = []

        def interrupt(number: int, _: FrameType | None) -> None:
            received.append(number)
            signal.signal(number, signal.SIG_IGN)
            raise Preempted(NEEDED)

        signal.signal(SAVE or 0, interrupt)
        try:
            print_sweep(run_sweep(workspace, Path(self.file), join=True))
        except (KeyboardInterrupt, InterruptedByUserError) as error:
            if received:
                requeue(received[0], None)
            raise SystemExit(InterruptedByUserError.exit_code) from error
        except TrackerError as error:
            print(f"error: {render_error(error)}", file=sys.stderr)
            raise SystemExit(error.exit_code) from error

    def checkpoint(self) -> Any:
        """What submitit puts back into the queue: the same job."""
        return _delay(self)


def _wait_for_silence(workspace: Workspace, run: str) -> None:
    """Wait until a run no longer looks as if it ran: its machine was switched off a moment ago."""
    deadline = time.monotonic() + 2 * STALE_HEARTBEAT_S
    while load_run(workspace.runs_dir, run).status == "running" and time.monotonic() < deadline:
        time.sleep(1)


def _leave(saving: SaveRequest) -> None:
    """Last.pth is saved: end the run, if that was SIGUSR1.

    Slurm sends SIGTERM before it ends a job, and puts the job back itself if somebody else needs
    the machine; a job that ends before that does not come back.
    """
    if saving.signaled:
        raise PreemptedError(NEEDED)


def _save_at_termination(saving: SaveRequest) -> None:
    """From now on neither SIGTERM nor SIGUSR1 ends this process or one that it starts, and SIGTERM
    asks for a save."""

    def ask(number: int, _: FrameType | None = None) -> None:
        saving.asked, saving.signaled = True, saving.signaled or number == SAVE

    def wait() -> None:
        while True:
            ask(signal.sigwait({signal.SIGTERM}))

    # Libraries may have threads that block nothing: the handlers are for them.
    for number in (SAVE or 0, signal.SIGTERM):
        signal.signal(number, ask)
    signal.pthread_sigmask(signal.SIG_BLOCK, {SAVE or 0, signal.SIGTERM})
    threading.Thread(target=wait, name="SIGTERM", daemon=True).start()


def _find_requeue() -> Requeue:
    """What submitit does at SIGUSR1: it puts the job back into the queue and ends the process."""
    assert SAVE is not None  # noqa: S101  (there is no Slurm on Windows)
    handler = signal.getsignal(SAVE)
    if not callable(handler):
        raise TrackerError("this is no job of submitit")
    return handler


def _delay(job: Any) -> Any:
    from submitit.helpers import DelayedSubmission

    return DelayedSubmission(job)
