"""SIGUSR1 asks a training to save last.pth at its next step: a scheduler sends it before it takes
the machine away."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

SAVE: signal.Signals | None = getattr(signal, "SIGUSR1", None)  # Windows has none


@dataclass
class SaveRequest:
    """Whether last.pth is to be saved at the next step.

    `asked` is set in the first process; the step's own messages tell the others, which set
    `agreed`. `on_saved` is called in the first process when it is done, and may raise. `signaled`
    says that SIGUSR1 has come, and stays.
    """

    asked: bool = False
    signaled: bool = False
    agreed: bool = False
    on_saved: Callable[[], None] = lambda: None

    def answer(self) -> None:
        """Last.pth is saved; calls `on_saved` where somebody has asked."""
        asked, self.asked, self.agreed = self.asked, False, False
        if asked:
            self.on_saved()


@contextmanager
def ask_by_signal(request: SaveRequest) -> Iterator[None]:
    """Within the block SIGUSR1 asks for a save, also one that was blocked and came before.

    It does nothing in a thread that gets no signals.
    """
    if SAVE is None or threading.current_thread() is not threading.main_thread():
        yield
        return

    def ask(*_: object) -> None:
        request.asked = request.signaled = True

    before = signal.signal(SAVE, ask) or signal.SIG_DFL
    mask = signal.pthread_sigmask(signal.SIG_UNBLOCK, {SAVE})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(SAVE, before)


@contextmanager
def block_saves() -> Iterator[None]:
    """What is started within the block does not get SIGUSR1, which would end it.

    Schedulers send it to all processes of a job.
    """
    if SAVE is None:
        yield
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {SAVE})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
