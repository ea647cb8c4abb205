"""Tracker commands in processes that are forked where a new interpreter would import torch and timm
for four seconds.

A server process imports them once and forks for each command: the command is a process of its own
with its own folder, environment, pipes and signals, and may be killed like any other. What tests
the start of the program itself (imports, entry points, several interpreters at once) starts
interpreters: `run_tracker` in tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900
IMPORTED = (
    *(
        "tracker.cli",
        "tracker.workflows.train",
        "tracker.workflows.infer",
        "tracker.workflows.folds",
        "tracker.submissions.submit",
        "tracker.ledger.append",
    ),
    *(
        "tracker.comparison.diff",
        "tracker.images.explain",
        "tracker.images.suspects",
        "tracker.training.run.loop",
    ),
    *(
        "tracker.training.pictures.figures",
        "matplotlib.backends.backend_agg",
        "torch._dynamo",
        "timm",
        "albumentations",
        "matplotlib.figure",
        "psutil",
    ),
)


class Child:
    """A command that runs; as subprocess.Popen has it."""

    def __init__(self, pid: int, pipes: tuple[TextIO, TextIO], status: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout, self.stderr = pipes
        self._status = status

    def poll(self) -> int | None:
        """The exit code, minus the signal's number for a killed one, None while it runs."""
        if self.returncode is None and self._status.exists():
            self.returncode = int(self._status.read_text())
            self._status.unlink()
        return self.returncode

    def wait(self, timeout: float = LIMIT_S) -> int:
        """Wait for the end; raises TimeoutError."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self.pid} runs for more than {timeout} s")
            time.sleep(0.005)
        return code

    def communicate(self, timeout: float = LIMIT_S) -> tuple[str, str]:
        """Wait for the end; what it wrote since the last look. A process that it started may hold
        the pipes open."""
        texts = ["", ""]

        def read(number: int, pipe: TextIO) -> None:
            with pipe:
                texts[number] = pipe.read()

        pipes = enumerate((self.stdout, self.stderr))
        readers = [threading.Thread(target=read, args=pair, daemon=True) for pair in pipes]
        for reader in readers:
            reader.start()
        self.wait(timeout)
        for reader in readers:
            reader.join(timeout)
        return texts[0], texts[1]

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The server's client."""

    def __init__(self, connection: socket.socket, folder: Path) -> None:
        self._connection = connection
        self._folder = folder

    def start(self, *words: str | Path, cwd: Path, gate: Path | None = None, **env: str) -> Child:
        """A tracker command in the background, with pipes for its output; it begins once the file
        `gate` is there."""
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        call = {
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "env": {**os.environ, **env},
            "gate": str(gate or cwd),
        }
        message = json.dumps(call).encode()
        socket.send_fds(self._connection, [len(message).to_bytes(4, "big")], [out_end, err_end])
        self._connection.sendall(message)
        os.close(out_end)
        os.close(err_end)
        pid = int.from_bytes(self._connection.recv(4), "big")
        return Child(pid, (os.fdopen(out), os.fdopen(err)), self._folder / str(pid))

    def run(
        self, *words: str | Path, cwd: Path, ok: bool = True, **env: str
    ) -> subprocess.CompletedProcess[str]:
        """A tracker command to its end; with `ok`, its exit code must be 0."""
        child = self.start(*words, cwd=cwd, **env)
        stdout, stderr = child.communicate()
        code = child.wait()
        assert not ok or code == 0, f"{words}: exit {code}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, code, stdout, stderr)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The server of this test process; it ends with it."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory() as name, ours:
        command = [sys.executable, "-P", __file__, str(theirs.fileno()), name]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        yield Forks(ours, Path(name))
        ours.shutdown(
            socket.SHUT_RDWR
        )  # a loader process that is still there has a copy of it: closing ends nothing
        server.wait(LIMIT_S)


# --- The server ---


def serve(connection: socket.socket, folder: Path) -> None:
    """Fork for each call until the client goes; write the exit code of what ended to a file called
    after it."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is never collected is never copied
    signal.signal(signal.SIGCHLD, lambda *_: note_ended(folder))
    while True:
        head, pipes, _, _ = socket.recv_fds(connection, 4, 2)
        if not head:
            os._exit(0)  # libraries complain of what is frozen
        size, message = int.from_bytes(head, "big"), b""
        while len(message) < size:
            message += connection.recv(size - len(message))
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            become(json.loads(message), pipes)
        for pipe in pipes:
            os.close(pipe)
        connection.sendall(pid.to_bytes(4, "big"))


def note_ended(folder: Path) -> None:
    """Write down the exit codes of all children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            (folder / f"{pid}.new").write_text(str(os.waitstatus_to_exitcode(status)))
            (folder / f"{pid}.new").rename(folder / str(pid))


def become(call: dict[str, object], pipes: list[int]) -> None:
    """Be the process of a command, and end with it."""
    from tracker import cli

    for number, pipe in enumerate(pipes, start=1):
        os.dup2(pipe, number)
        os.close(pipe)
    os.chdir(str(call["cwd"]))
    environment = call["env"]
    assert isinstance(environment, dict)
    os.environ.clear()
    os.environ.update(environment)
    words = call["words"]
    assert isinstance(words, list)
    sys.argv = ["tracker", *words]
    gate = Path(str(call["gate"]))
    while not gate.exists():
        time.sleep(0.001)
    code = 1
    try:
        cli.main()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:  # noqa: BLE001  (as the interpreter does before it exits with 1)
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
        os._exit(code)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
