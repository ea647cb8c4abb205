"""SIGTERM while a training loop of one's own has a run open: it ends the loop as Ctrl-C would."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tracker.training.watch import name_signal

HAS_SIGCHLD = hasattr(signal, "SIGCHLD")  # Windows has none
SIGTERM_NAME = name_signal(signal.SIGTERM)


class Termination:
    """Of one open run: SIGTERM raises KeyboardInterrupt in the main thread and sets `received`.

    A handler that somebody else has set stays and decides what SIGTERM does; Lightning's also
    calls this one.
    """

    def __init__(self) -> None:
        self.received = False
        self.ending = False
        self.pid = os.getpid()
        if _is_main_thread() and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
            signal.signal(signal.SIGTERM, _interrupt)
        _OPEN.append(self)

    @contextmanager
    def end(self) -> Iterator[None]:
        """Hold signals back while the block writes how the run ended.

        After it SIGTERM does what it did before the run; one that came in the block is sent again.
        """
        received_before, self.ending = self.received, True
        try:
            yield
        finally:
            if self in _OPEN:
                _OPEN.remove(self)
            if not has_open_run():
                _restore()
            if self.received and not received_before:
                os.kill(self.pid, signal.SIGTERM)


_OPEN: list[Termination] = []


def _find_open() -> list[Termination]:
    """The open runs of this process, without those of the process that it was forked from."""
    return [termination for termination in _OPEN if termination.pid == os.getpid()]


def has_open_run() -> bool:
    """Whether this process has a run open."""
    return bool(_find_open())


def has_received_sigterm() -> bool:
    """Whether an open run of this process has got SIGTERM."""
    return any(termination.received for termination in _find_open())


@contextmanager
def ignore_loader_ends() -> Iterator[None]:
    """In the block no error is raised when a data loader's process ends.

    torch raises it wherever the main thread is; a stop ends loader processes, too, and must not
    break off the recording of the end.
    """
    before = signal.getsignal(signal.SIGCHLD) if HAS_SIGCHLD else None
    if not callable(before) or not _is_main_thread():
        yield
        return
    signal.signal(signal.SIGCHLD, _ignore)
    try:
        yield
    finally:
        signal.signal(signal.SIGCHLD, before)


def _ignore(_number: int, _frame: FrameType | None) -> None:
    """A handler, because Python complains of SIG_IGN when a signal is already on its way."""


def _is_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _restore() -> None:
    if _is_main_thread() and signal.getsignal(signal.SIGTERM) == _interrupt:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    open_runs = _find_open()
    # None in a loader process, and where a library sets this handler again after the run.
    if not open_runs:
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    for termination in open_runs:
        termination.received = True
    if HAS_SIGCHLD and callable(
        signal.getsignal(signal.SIGCHLD)
    ):  # as in ignore_loader_ends, until the end
        signal.signal(signal.SIGCHLD, _ignore)
    if not any(termination.ending for termination in open_runs):
        raise KeyboardInterrupt(SIGTERM_NAME)
