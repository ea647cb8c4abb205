"""The output of a command: to its terminal, file or pipe, and to a log when that fails.

A training must not end because a window was closed. On SIGHUP, or when a write to stdout or stderr
fails, both streams continue in a log. A command that `Child` starts writes to it from the
beginning. The log is `.tracker/output/PID.log` until there is a run folder, then `output.log` in
that folder.
"""

from __future__ import annotations

import os
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TextIO, cast

from tracker.core.clock import utc_now
from tracker.core.signals import HANGUP
from tracker.training.files import translate_os_errors
from tracker.workspace.tracker_toml import Workspace

OUTPUT_NAME = "output.log"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x1b]")  # escape codes of progress bars


class Output:
    """stdout and stderr of this process; `log` is the file to which they go when writing fails."""

    def __init__(self, pending: Path) -> None:
        self.log = pending
        self.end_hint = f"kill {os.getpid()} ends it"
        self.in_log = _is_file(1, pending)
        self._pending = pending
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal may come while this thread has it

    def redirect_to_log(self, reason: str) -> None:
        """Redirect both streams to the log, with a line about it; does nothing the second time."""
        with self._lock:
            if self.in_log:
                return
            self.in_log = True
            # a loader process redirects its own output too, but without a message
            is_main = os.getpid() == self._pid
            if is_main:
                _write_if_possible(2, f"{reason}: output continues in {self.log}\n")
            with suppress(OSError):
                self._redirect()
            if is_main:
                line = f"{utc_now()} {reason}: output continues here; {self.end_hint}\n"
                _write_if_possible(2, line)

    def begin_in(self, folder: Path) -> None:
        """Write to output.log of a run folder that is there already, from the beginning on."""
        with self._lock:
            self.log, self.in_log = folder / OUTPUT_NAME, True
            with translate_os_errors(self.log, "write"):
                self._redirect()

    def attach_folder(self, folder: Path, end_hint: str, *, resumed: str = "") -> None:
        """Use output.log of this run folder as the log; the pending log's lines move there.

        The line `resumed` separates them from what an earlier process wrote there. If the output is
        not in a log, an older output.log is renamed, because it belongs to an earlier process.
        Raises StorageError.
        """
        target = folder / OUTPUT_NAME
        with self._lock, translate_os_errors(target, "write"):
            before, self.log, self.end_hint = self.log, target, end_hint
            if not self.in_log:
                if target.exists():
                    target.rename(folder / f"output-before-{int(time.time())}.log")
                return
            folder.mkdir(parents=True, exist_ok=True)
            for stream in (sys.stdout, sys.stderr):
                stream.flush()
            if before == self._pending and before.exists():
                with target.open("ab") as log:
                    log.write(f"{resumed}\n".encode() if resumed and log.tell() else b"")
                    log.write(before.read_bytes())
                self._redirect()
                before.unlink()
            elif before == target:
                sys.stdout.write(f"{resumed}\n" if resumed else "")
            else:
                self._redirect()

    def _redirect(self) -> None:
        try:
            self.log.parent.mkdir(parents=True, exist_ok=True)
            log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        except OSError:
            log = os.open(os.devnull, os.O_WRONLY)
        for descriptor in (1, 2):
            os.dup2(log, descriptor)
        os.close(log)


class Stream:
    """A text stream whose writes never fail: what cannot be written goes to the log, or is lost."""

    def __init__(self, stream: TextIO, output: Output) -> None:
        self.stream = stream
        self.output = output
        self._terminal = stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write a text; returns its length."""
        try:
            self.stream.write(text)
        except UnicodeEncodeError:
            coding = self.stream.encoding
            self.write(text.encode(coding, "backslashreplace").decode(coding))
        except (OSError, ValueError) as error:
            self._recover(error, text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        """Write several texts."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Flush the stream."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._recover(error, "")

    def _recover(self, error: Exception, text: str) -> None:
        if self.output.in_log or isinstance(error, BlockingIOError):
            return  # writing to the log failed too, or a slow reader is not ready yet
        with suppress(OSError, ValueError):
            if self._terminal:
                self._discard_buffer()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            message = f"the terminal, file or pipe accepts no more output ({reason})"
            self.output.redirect_to_log(message)
            self.stream.write(_CONTROLS.sub("", text) if self._terminal else "")
            self.stream.flush()

    def _discard_buffer(self) -> None:
        """Drop the stream's buffer: a part of a progress bar does not belong in a log."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        self.stream.flush()


@contextmanager
def outlive_terminal(workspace: Workspace) -> Iterator[Output]:
    """In this block a closed terminal, a broken pipe or a full disk does not end the process.

    Yields the `Output`; a block inside another one yields the outer block's. A SIGHUP that is
    ignored (nohup) or handled by the caller stays so.
    """
    if isinstance(sys.stderr, Stream):
        yield sys.stderr.output
        return
    output = Output(pending_log_path(workspace, os.getpid()))
    before: tuple[TextIO | None, TextIO | None] = (sys.stdout, sys.stderr)
    lost = [number for number, stream in enumerate(before, start=1) if stream is None]
    streams = [stream or _open_standard(number) for number, stream in enumerate(before, start=1)]
    sys.stdout, sys.stderr = (cast("TextIO", Stream(stream, output)) for stream in streams)
    in_main = threading.current_thread() is threading.main_thread()
    hangups = [number for number in HANGUP if signal.getsignal(number) == signal.SIG_DFL]
    hangups = hangups if in_main else []
    closed = "the terminal was closed (SIGHUP)"
    for number in hangups:
        signal.signal(number, lambda *_: output.redirect_to_log(closed))
    if lost and all(_is_file(number, Path(os.devnull)) for number in lost):
        output.redirect_to_log("stdout or stderr was closed")
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", before)
        for number in hangups:
            signal.signal(number, signal.SIG_DFL)


def notify(line: str) -> None:
    """Print a line for the user on stderr; nothing happens if that fails."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def pending_log_path(workspace: Workspace, pid: int) -> Path:
    """The path of a background command's log before it has a run folder."""
    return workspace.state_dir / "output" / f"{pid}.log"


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _write_if_possible(descriptor: int, text: str) -> None:
    """Write a line if that is possible without waiting.

    A signal handler must not wait, and must not use a stream that is in use.
    """
    with suppress(OSError, ValueError):
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, text.encode())


def _open_standard(descriptor: int) -> TextIO:
    """A stream for a descriptor that was closed at the start; another file may use it now."""
    if _is_file(descriptor, Path(os.devnull)):  # cli.py opened /dev/null there
        return os.fdopen(
            descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
    return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
