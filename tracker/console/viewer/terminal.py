"""The terminal while the viewer has it: its keys one by one, its screen, and how it was before."""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from types import FrameType, TracebackType
from typing import Any, Protocol

from tracker.console.viewer.keys import SEQUENCES, SINGLE, KeyReader

ENTER = "\x1b[?1049h\x1b[?25l\x1b[?7l\x1b[2J"  # the other screen, no cursor, no line that wraps
LEAVE = "\x1b[0m\x1b[?7h\x1b[?25h\x1b[?1049l"
SEQUENCE_S = 0.05  # between the bytes of one key
POLL_S = 0.05  # Windows tells of no key by itself


class Terminal:
    """In this block the viewer has the terminal; at its end it is as before, whatever happened.

    What others print to stderr meanwhile comes when it is over.
    """

    def __init__(self) -> None:
        self._input = _open_input()
        self._shown: list[str] = []
        self._size = (0, 0)
        self._stderr = sys.stderr
        self._said = io.StringIO()
        self._handlers: dict[int, Any] = {}

    def __enter__(self) -> Terminal:
        self._input.begin()
        try:
            self._handle("SIGWINCH", lambda *_: self.wake())
            self._handle("SIGTSTP", self._suspend)
            sys.stderr = self._said
            _write(ENTER)
        except BaseException:
            self._restore()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._restore()

    def _restore(self) -> None:
        try:
            with contextlib.suppress(OSError):  # a terminal that was closed
                _write(LEAVE)
        finally:
            self._input.end()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        sys.stderr = self._stderr
        if said := self._said.getvalue():
            with contextlib.suppress(OSError):
                sys.stderr.write(said)

    def _handle(self, name: str, handler: Callable[[int, FrameType | None], Any]) -> None:
        """Handle a signal, where the system and the thread have it."""
        number = getattr(signal, name, None)
        if number is not None and threading.current_thread() is threading.main_thread():
            self._handlers[number] = signal.signal(number, handler)

    def _suspend(self, number: int, _frame: FrameType | None) -> None:
        """Ctrl-Z: the shell gets its terminal, and the screen comes back with `fg`."""
        _write(LEAVE)
        self._input.end()
        handler = signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # it stops here
        signal.signal(number, handler)
        self._input.begin()
        _write(ENTER)
        self._shown = []
        self.wake()

    def wake(self) -> None:
        """End the wait for keys, from any thread."""
        self._input.wake()

    def wait(self) -> list[str]:
        """Wait for keys, for `wake` or for another size; the keys."""
        return self._input.read()

    def measure(self) -> tuple[int, int]:
        """The columns and rows of the terminal now."""
        try:
            size = os.get_terminal_size(sys.stdout.fileno())
        except OSError:
            size = shutil.get_terminal_size()
        return size.columns or 80, size.lines or 24

    def show(self, lines: Sequence[str], size: tuple[int, int]) -> None:
        """Draw the lines that changed; all of them where the size has changed."""
        before = self._shown if size == self._size else []
        # before the write: a Ctrl-Z during it empties the list, and all is drawn again
        self._shown, self._size = list(lines), size
        if text := render_changes(before, lines):
            _write(text)


def render_changes(before: Sequence[str], after: Sequence[str]) -> str:
    """What makes one screen of the other: the changed lines, each at its place."""
    parts = [] if before else ["\x1b[2J"]
    for row, line in enumerate(after):
        if row >= len(before) or before[row] != line:
            parts.append(f"\x1b[{row + 1};1H\x1b[0m{line}\x1b[0m\x1b[K")
    return "".join(parts)


def _write(text: str) -> None:
    """Write past Python's buffer, which a signal's handler must not enter a second time."""
    output = sys.stdout
    data = text.encode(output.encoding or "utf-8", "replace")
    while data:
        data = data[os.write(output.fileno(), data) :]


class _Input(Protocol):
    """Where keys come from."""

    def begin(self) -> None:
        """Take keys one by one, without an echo."""

    def end(self) -> None:
        """As it was before."""

    def wake(self) -> None:
        """End a `read` that waits."""

    def read(self) -> list[str]:
        """The next keys; none after `wake`. `q` where the terminal has gone."""


def _open_input() -> _Input:
    try:
        importlib.import_module("termios")
    except ImportError:  # Windows
        return _WindowsInput()
    return _PosixInput()


class _PosixInput:
    """Keys by termios; with a stdin that is no terminal there are none."""

    def __init__(self) -> None:
        is_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._fd = sys.stdin.fileno() if is_terminal else None
        self._before: list[Any] | None = None
        self._reader = KeyReader()
        self._awake, self._alarm = os.pipe()
        os.set_blocking(self._alarm, False)

    def begin(self) -> None:
        import termios
        import tty

        if self._fd is not None:
            self._before = termios.tcgetattr(self._fd)
            tty.setcbreak(self._fd, termios.TCSANOW)  # keeps what was typed before

    def end(self) -> None:
        import termios

        if self._fd is not None and self._before is not None:
            with contextlib.suppress(termios.error):  # a terminal that was closed
                termios.tcsetattr(self._fd, termios.TCSANOW, self._before)
            self._before = None

    def wake(self) -> None:
        with contextlib.suppress(BlockingIOError):  # it is awake
            os.write(self._alarm, b"!")

    def read(self) -> list[str]:
        import select

        sources = [self._awake] if self._fd is None else [self._awake, self._fd]
        seconds = SEQUENCE_S if self._reader.is_waiting else None
        ready, _, _ = select.select(sources, [], [], seconds)
        if not ready:
            return self._reader.flush()
        if self._awake in ready:
            os.read(self._awake, 4096)
        if self._fd is None or self._fd not in ready:
            return []
        try:
            data = os.read(self._fd, 4096)
        except OSError:
            data = b""
        return self._reader.feed(data) if data else ["q"]


class _WindowsInput:
    """Keys by msvcrt, asked for again and again."""

    def __init__(self) -> None:
        self._msvcrt: Any = importlib.import_module("msvcrt")
        self._is_terminal = sys.stdin is not None and sys.stdin.isatty()
        self._alarm = threading.Event()

    def begin(self) -> None:
        os.system("")  # noqa: S605 - lets an older console understand escape codes

    def end(self) -> None:
        """Keys are echoed again by whoever reads them next."""

    def wake(self) -> None:
        self._alarm.set()

    def read(self) -> list[str]:
        end = time.monotonic() + 1.0  # another size is seen a second later
        while time.monotonic() < end:
            if self._is_terminal and self._msvcrt.kbhit():
                text = self._msvcrt.getwch()
                if text in ("\x00", "\xe0"):
                    return read_windows_key(text + self._msvcrt.getwch())
                if text == "\x03":
                    raise KeyboardInterrupt
                return read_windows_key(text)
            if self._alarm.wait(POLL_S):
                self._alarm.clear()
                break
        return []


def read_windows_key(text: str) -> list[str]:
    """The key of what `getwch` gave: one character, or two for a cursor key."""
    if len(text) == 2:
        return [SEQUENCES[text]] if text in SEQUENCES else []
    return ["escape"] if text == "\x1b" else [SINGLE.get(text, text)]
