"""The processes of a run watch each other: none waits for a dead one or continues alone.

A thread waits in a collective inside torch, where no signal reaches it. So another thread looks
after the followers and after signals, and ends what the first cannot.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import AuthenticationError
from types import TracebackType

from tracker.training.errors import TrainingError

POLL_S = 0.1  # between two looks: short for a person, and next to no work
SIGNAL_S = 1.0  # a signal that was sent to all processes reaches this one within this time
FREE_S = 5.0  # a signal frees the main thread within this time, unless it is in a collective
GIVE_UP_S = 15.0  # the end of the other processes frees it within this time
TAIL_LINES = 50  # of stderr: a traceback with its error at the end
LOADER, TERMINATED = "DataLoader worker", "signal: Terminated"  # torch's words
SHARER = "multiprocessing.resource_sharer"
_ERROR = re.compile(
    r"(?:\[rank\d+\]: ?)?((?:process \d+: |[\w.]*(?:Error|Exception|Interrupt)\b).*)"
)


class Worker:
    """Another process of this run.

    Its stderr is passed on, and the last lines are remembered.
    """

    def __init__(self, rank: int, process: subprocess.Popen[bytes]) -> None:
        self.process = process
        self._rank = rank
        self._tail: deque[str] = deque(maxlen=TAIL_LINES)
        self._reader = threading.Thread(
            target=self._read, name=f"stderr of process {rank}", daemon=True
        )
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr  # noqa: S101  (it is a pipe)
        with self.process.stderr as pipe:
            for line in pipe:
                text = line.decode(errors="replace")
                self._tail.append(text.strip())
                with suppress(OSError, ValueError):
                    sys.stderr.write(text)

    def kill(self) -> None:
        """End the process, if it still runs."""
        self.process.kill()
        self.process.wait()
        self._reader.join(timeout=SIGNAL_S)

    def describe_end(self) -> str:
        """How it ended, and the last error that it wrote."""
        self._reader.join(timeout=SIGNAL_S)  # its loader processes may keep the pipe open
        code = self.process.returncode
        how = f"exit code {code}" if code >= 0 else f"killed by {signal.Signals(-code).name}"
        lines = [line for line in self._tail if line]
        matches = [match for line in lines if (match := _ERROR.match(line))]
        errors = [match[1] for match in matches]
        reason = (errors or lines or [""])[-1]
        end = f"process {self._rank} of this run ended unexpectedly ({how})"
        return f"{end}: {reason}" if reason else end


class ProcessWatch:
    """Within the block, a thread watches `workers` and signals.

    `failure` says how the first of the workers ended, and `terminated` whether by SIGTERM: then
    somebody stops the run. When a follower is lost, the others are
    killed, which frees the main thread from a collective. Where it does not, or where a signal does
    not, `on_stuck` gets the reason, in the watching thread, and the process ends.
    """

    def __init__(self, on_stuck: Callable[[BaseException], None]) -> None:
        self.workers: list[Worker] = []
        self.failure = ""
        self.terminated = False
        self._on_stuck = on_stuck
        self._working = True
        self._cause: BaseException | None = None
        self._over = threading.Event()
        self._pipe = (-1, -1)  # gets the number of each signal at once, wherever the main thread is
        self._pipe_before = -1
        self._ends = {signal.SIGINT, signal.SIGTERM}
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def __enter__(self) -> ProcessWatch:
        if threading.current_thread() is threading.main_thread():
            self._pipe = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
            self._pipe_before = signal.set_wakeup_fd(self._pipe[1], warn_on_full_buffer=False)
            self._ends -= list_blocked()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._thread.join()
        if self._pipe != (-1, -1):
            signal.set_wakeup_fd(self._pipe_before)
            for descriptor in self._pipe:
                os.close(descriptor)

    def finish(self, wait_s: float) -> None:
        """The work is done: wait for the workers to end.

        Raises TrainingError when one does not end in time.
        """
        self._working = False
        for worker in self.workers:
            try:
                worker.process.wait(timeout=wait_s)
            except subprocess.TimeoutExpired:
                raise TrainingError(
                    f"another process has not ended {wait_s:.0f} s after the work was done"
                ) from None

    def kill(self) -> None:
        """End the workers; after an error, the block must end within GIVE_UP_S seconds."""
        self._working = False
        self._cause = self._cause or sys.exc_info()[1]
        for worker in self.workers:
            worker.kill()

    def _run(self) -> None:
        while self._cause is None:
            if self._over.wait(POLL_S):
                return
            self._look()
        if isinstance(self._cause, KeyboardInterrupt) and self._over.wait(FREE_S):
            return
        for worker in self.workers:
            worker.process.kill()
        if self._over.wait(GIVE_UP_S):
            return
        self._on_stuck(self._cause)
        usual = 130 if isinstance(self._cause, KeyboardInterrupt) else 1
        os._exit(getattr(self._cause, "exit_code", usual))

    def _look(self) -> None:
        ended = [worker for worker in self.workers if worker.process.poll()]
        if ended and self._working:
            self.terminated = ended[0].process.returncode == -signal.SIGTERM
            self.failure = ended[0].describe_end()
            self._cause = (
                KeyboardInterrupt(name_signal(signal.SIGTERM))
                if self.terminated
                else TrainingError(self.failure)
            )
        with suppress(OSError):  # nothing to read
            numbers = os.read(self._pipe[0], 1000)
            received = [number for number in numbers if number in self._ends]
            if received:
                self._cause = KeyboardInterrupt(name_signal(received[0]))


def list_blocked() -> set[signal.Signals]:
    """The signals that this thread has blocked, because somebody else waits for them."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows
        return set()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    return {number for number in blocked if isinstance(number, signal.Signals)}


def name_signal(number: int) -> str:
    """The name of a signal in a run's record."""
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name


def is_loader_end(error: BaseException) -> bool:
    """Whether torch raised this because a loader process ended unexpectedly.

    Where it ended while it handed over a batch, that is what the broken connection raises.
    """
    if isinstance(error, RuntimeError):
        return LOADER in str(error) or "items of ancdata" in str(error)
    if not isinstance(error, OSError | EOFError):
        return False
    return any(
        frame.f_code.co_name == "_try_get_data"
        for frame, _ in traceback.walk_tb(error.__traceback__)
    )


def is_loader_terminated(error: BaseException) -> bool:
    """Whether SIGTERM ended a loader process, by torch's words or by the exit codes it left.

    Then somebody stops the run; a lack of memory sends SIGKILL.
    """
    codes = _list_exit_codes(error)
    if -signal.SIGTERM in codes and -signal.SIGKILL not in codes:
        return True
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, RuntimeError) and LOADER in str(cause) and TERMINATED in str(cause):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def _list_exit_codes(error: BaseException) -> set[int | None]:
    """Of the loader processes that torch found gone without having heard their signal.

    On a busy machine it looks before it is told, and says only "exited unexpectedly". A connection
    that broke names no process: then all that have ended count.
    """
    pids = set(re.findall(r"\d+", str(error)))
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code.co_name == "_try_get_data":
            workers = getattr(frame.f_locals.get("self"), "_workers", ())
            named = {worker.exitcode for worker in workers if str(worker.pid) in pids}
            return named or {worker.exitcode for worker in workers}
    return set()


def is_lost_reader(error: BaseException) -> bool:
    """Whether the process that was about to take a batch of this loader process has gone.

    A thread of multiprocessing hands batches over, and gives this error to sys.excepthook. It says
    nothing: that process was stopped, or it failed and has an error of its own.
    """
    if not isinstance(error, OSError | EOFError | AuthenticationError):
        return False
    frames = traceback.walk_tb(error.__traceback__)
    return any(frame.f_globals.get("__name__") == SHARER for frame, _ in frames)


def ignore_lost_reader() -> None:
    """In a loader process: print nothing when the process that it loads for has gone."""
    hook_before = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not is_lost_reader(error):
            hook_before(kind, error, trace)

    sys.excepthook = hook


def end_with(parent: int) -> None:
    """End this process when its parent has ended.

    A collective could wait for minutes, for nobody.
    """

    def wait() -> None:
        while os.getppid() == parent:
            time.sleep(POLL_S)
        os._exit(1)

    threading.Thread(target=wait, name="end with the first process", daemon=True).start()
