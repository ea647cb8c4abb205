"""SIGTERM while a training loop of one's own has a run open: it ends the loop as Ctrl-C would."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tracker.training.watch import name_signal

NAME = name_signal(signal.SIGTERM)


class Termination:
    """Of one open run: SIGTERM raises KeyboardInterrupt in the main thread, and `received` says
    that it came.

    A handler of somebody else stays, and decides what SIGTERM does: Lightning's calls this one as
    well.
    """

    def __init__(self) -> None:
        self.received = False
        self.ending = False
        self.pid = os.getpid()
        if (
            threading.current_thread() is threading.main_thread()
            and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        ):
            signal.signal(signal.SIGTERM, _interrupt)
        _OPEN.append(self)

    @contextmanager
    def end(self) -> Iterator[None]:
        """While the block writes how the run ended a signal waits; then SIGTERM is what it was
        before the run."""
        before, self.ending = self.received, True
        try:
            yield
        finally:
            if self in _OPEN:
                _OPEN.remove(self)
            if not _find_open():
                _restore()
            if self.received and not before:
                os.kill(self.pid, signal.SIGTERM)


_OPEN: list[Termination] = []


def _find_open() -> list[Termination]:
    """Those of this process, not of the one that it was forked from."""
    return [each for each in _OPEN if each.pid == os.getpid()]


def has_open_run() -> bool:
    """Whether this process has a run open."""
    return bool(_find_open())


def _restore() -> None:
    if (
        threading.current_thread() is threading.main_thread()
        and signal.getsignal(signal.SIGTERM) == _interrupt
    ):
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, _frame: FrameType | None) -> None:
    found = _find_open()
    if not found:  # a loader process, or a library has put this handler back after the run
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)
        return
    for each in found:
        each.received = True
    if not any(each.ending for each in found):
        raise KeyboardInterrupt(NAME)
