"""SIGTERM and similar signals end a run as Ctrl-C does."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType

from tracker.training.watch import list_blocked, name_signal

# Windows has none of it.
HANGUP: tuple[signal.Signals, ...] = (signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ()
# Within this time a KeyboardInterrupt that nobody swallowed has ended the loop and its processes.
REPEAT_INTERRUPT_S = 10.0


def keep_interruptible() -> None:
    """Let Ctrl-C interrupt a wait for a process again, after a library was imported.

    mlflow imports polars where it is installed, and polars takes SIGINT by a handler after which
    the kernel goes on waiting (SA_RESTART), so that Python never learns of it.
    """
    if hasattr(signal, "siginterrupt"):  # Windows does not restart calls
        signal.siginterrupt(signal.SIGINT, True)


@contextmanager
def sigterm_as_interrupt() -> Iterator[None]:
    """In this block SIGTERM raises KeyboardInterrupt("SIGTERM"); a second one ends the process.

    Ctrl-C stays as it is. For a command that has something to say when it is ended; what trains
    takes `terminate_as_interrupt`. Whoever ignores or blocks SIGTERM keeps that.
    """
    term = signal.SIGTERM
    here = threading.current_thread() is threading.main_thread()
    if not here or term in list_blocked() or signal.getsignal(term) is not signal.SIG_DFL:
        yield
        return

    own = os.getpid()

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        signal.signal(term, signal.SIG_DFL)
        if os.getpid() != own:  # a process that was forked in the block
            os.kill(os.getpid(), term)
        raise KeyboardInterrupt(name_signal(term))

    signal.signal(term, interrupt)
    try:
        yield
    finally:
        signal.signal(term, signal.SIG_DFL)


class Preempted(KeyboardInterrupt):
    """A scheduler needs the machine: what trains is to save and to end."""


class Signals:
    """The signal handlers of a `terminate_as_interrupt` block; `received` is the first signal.

    After the first signal all others are ignored: a second Ctrl-C must not stop the code that
    records the first. With `repeat`, KeyboardInterrupt is raised again until `ignore` is called,
    because a destructor or a callback may swallow it, and then the run would continue. A signal
    that is blocked stays with whoever waits for it.
    """

    def __init__(self, numbers: Iterable[signal.Signals], *, repeat: bool) -> None:
        self.received = ""
        self._repeat = repeat and hasattr(signal, "setitimer")  # Windows has no timer
        self._pid = os.getpid()
        free = set(numbers) - list_blocked()
        self._before = {number: signal.getsignal(number) for number in free}
        for number in self._before:
            signal.signal(number, self._interrupt)

    def ignore(self) -> None:
        """Ignore the signals from now on."""
        self._ignore_all()
        self._stop_repeating()

    def find_cause(self, error: BaseException) -> BaseException:
        """What ended the block: the signal if there was one, otherwise `error`.

        A library, or another process that ended, may have turned the signal into another error.
        """
        return KeyboardInterrupt(self.received) if self.received else error

    def restore(self) -> None:
        """Restore the earlier handlers, unless a signal was received."""
        self._stop_repeating()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop_repeating(self) -> None:
        if self._repeat:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ignore_all(self) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        if not hasattr(signal, "SIGCHLD"):  # Windows
            return
        self._before[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)
        # torch's handler raises when a loader process ends, which may happen now; with SIG_DFL
        # Python would complain about a signal that is already on its way
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a loader process that was forked a moment ago
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
    """The same for a thread that gets no signals."""

    def __init__(self) -> None:
        self.received = ""

    def ignore(self) -> None:
        """Do nothing."""


@contextmanager
def terminate_as_interrupt(*also: signal.Signals, repeat: bool = False) -> Iterator[Signals]:
    """In this block SIGTERM and the signals in `also` raise KeyboardInterrupt, as Ctrl-C does.

    So what was begun ends in order and is recorded as interrupted.
    """
    if threading.current_thread() is not threading.main_thread():
        yield NoSignals()
        return
    signals = Signals((signal.SIGINT, signal.SIGTERM, *also), repeat=repeat)
    try:
        yield signals
    finally:
        signals.restore()
