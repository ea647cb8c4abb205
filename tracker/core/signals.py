"""SIGTERM and its like end a run as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from tracker.training.watch import name_signal

REPEAT_INTERRUPT_S = (
    10.0  # by then a KeyboardInterrupt that was not swallowed has ended the loop and its processes
)


class Signals:
    """What a `terminate_as_interrupt` block knows of the signals that end it; `received` names the
    first of them.

    After the first all are ignored, for the process is about to end: an impatient second Ctrl-C
    must not break what records the first. With `repeat`, KeyboardInterrupt is raised again until
    `ignore` is called: a destructor or a callback may swallow it, and the run would go on.
    """

    def __init__(self, numbers: Iterable[signal.Signals], *, repeat: bool) -> None:
        self.received = ""
        self._repeat = repeat
        self._pid = os.getpid()
        self._before = {number: signal.getsignal(number) for number in numbers}
        for number in self._before:
            signal.signal(number, self._interrupt)

    def ignore(self) -> None:
        """Ignore them from now on."""
        self._ignore_all()
        self._stop_repeating()

    def find_cause(self, error: BaseException) -> BaseException:
        """What ended the block: the signal, where one came, whatever other processes' ends or a
        library made of it."""
        return KeyboardInterrupt(self.received) if self.received else error

    def restore(self) -> None:
        """Handle them as before the block, unless one has come."""
        self._stop_repeating()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop_repeating(self) -> None:
        if self._repeat:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ignore_all(self) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)
        # torch's raises, and a loader process may end now; not SIG_DFL: Python complains when one
        # is on its way
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a loader process that has been forked a moment ago
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = name_signal(number)
        self._ignore_all()
        self._before.clear()
        if self._repeat:
            signal.signal(signal.SIGALRM, self._raise_again)
            signal.setitimer(signal.ITIMER_REAL, REPEAT_INTERRUPT_S, REPEAT_INTERRUPT_S)
        raise KeyboardInterrupt(self.received)

    def _raise_again(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            raise KeyboardInterrupt(self.received)


class NoSignals(Signals):
    """The same in a thread that gets no signals."""

    def __init__(self) -> None:
        self.received = ""

    def ignore(self) -> None:
        """Nothing."""


@contextmanager
def terminate_as_interrupt(*also: signal.Signals, repeat: bool = False) -> Iterator[Signals]:
    """SIGTERM, and those in `also`, are like Ctrl-C in this block: what was begun is ended,
    recorded as interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield NoSignals()
        return
    signals = Signals((signal.SIGINT, signal.SIGTERM, *also), repeat=repeat)
    try:
        yield signals
    finally:
        signals.restore()
