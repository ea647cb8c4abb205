"""Where the output of a command goes: its terminal, file or pipe, and a log once nothing can be
written there.

A training must not end because a window was closed. On SIGHUP, or when a write to stdout or stderr
fails, both go on in a log, as they do from the beginning in a command that `Child` starts:
`.tracker/output/PID.log` until there is a run folder, its `output.log` from then on.
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
from tracker.training.files import translate_os_errors
from tracker.workspace.competition import Workspace

OUTPUT_NAME = "output.log"
_CONTROLS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|[\r\x1b]")  # what draws a progress bar


class Output:
    """stdout and stderr of this process; `log` is where they go when nothing can be written where
    they were."""

    def __init__(self, pending: Path) -> None:
        self.log = pending
        self.end_hint = f"kill {os.getpid()} ends it"
        self.in_log = _is_file(1, pending)
        self._pending = pending
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal may come while this thread has it

    def move(self, reason: str) -> None:
        """Let both go to the log from now on, and say so there; nothing happens when they do so
        already."""
        with self._lock:
            if self.in_log:
                return
            self.in_log = True
            mine = (
                os.getpid() == self._pid
            )  # a loader process moves its own output, and says nothing
            if mine:
                _write_if_possible(2, f"{reason}: output goes on in {self.log}\n")
            with suppress(OSError):
                self._redirect()
            if mine:
                _write_if_possible(
                    2, f"{utc_now()} {reason}: output goes on here; {self.end_hint}\n"
                )

    def attach_folder(self, folder: Path, end_hint: str, *, resumed: str = "") -> None:
        """The log is output.log of this folder from now on; what the pending log has is moved
        there.

        The line `resumed` comes between it and what an earlier process has left there. Raises
        StorageError. Output that is not in a log has none there either: an older one is put aside.
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
    """A text stream of which no write fails: what cannot be written goes to the log, or is lost."""

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
        """Hand on what was written."""
        try:
            self.stream.flush()
        except (OSError, ValueError) as error:
            self._recover(error, "")

    def _recover(self, error: Exception, text: str) -> None:
        if self.output.in_log or isinstance(error, BlockingIOError):
            return  # not even the log takes it, or a slow reader does not yet
        with suppress(OSError, ValueError):
            if self._terminal:
                self._forget()
            reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
            self.output.move(f"the terminal, file or pipe takes no more output ({reason})")
            self.stream.write(_CONTROLS.sub("", text) if self._terminal else "")
            self.stream.flush()

    def _forget(self) -> None:
        """Drop what the stream still holds: a step of a progress bar is no line of a log."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)
        self.stream.flush()


@contextmanager
def outlive_terminal(workspace: Workspace) -> Iterator[Output]:
    """No closed terminal, broken pipe or full disk behind stdout or stderr ends the block; inside
    another, it is that.

    A SIGHUP that is ignored (nohup) or handled by the caller stays so.
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
    hangup = in_main and signal.getsignal(signal.SIGHUP) == signal.SIG_DFL
    if hangup:
        signal.signal(signal.SIGHUP, lambda *_: output.move("the terminal was closed (SIGHUP)"))
    if lost and all(_is_file(number, Path(os.devnull)) for number in lost):
        output.move("stdout or stderr was closed")
    try:
        yield output
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        sys.stdout, sys.stderr = cast("tuple[TextIO, TextIO]", before)
        if hangup:
            signal.signal(signal.SIGHUP, signal.SIG_DFL)


def notify(line: str) -> None:
    """A line for the user on stderr, where it can be written."""
    with suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)


def pending_log_path(workspace: Workspace, pid: int) -> Path:
    """The log of a command in the background before it has a run folder."""
    return workspace.lock_dir / "output" / f"{pid}.log"


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def _write_if_possible(descriptor: int, text: str) -> None:
    """Write a line unless nobody takes it now; a signal handler must neither wait nor use a stream
    that is in use."""
    with suppress(OSError, ValueError):
        if select.select([], [descriptor], [], 0)[1]:
            os.write(descriptor, text.encode())


def _open_standard(descriptor: int) -> TextIO:
    """A stream for a descriptor that was closed when Python started, and where another file may be
    now."""
    if _is_file(descriptor, Path(os.devnull)):  # cli.py took it
        return os.fdopen(
            descriptor, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False
        )
    return Path(os.devnull).open("w", encoding="utf-8", errors="backslashreplace")
