"""Tracker commands in processes that are forked where a new interpreter would import torch and timm
for four seconds.

A server process imports them once and forks for each command: the command is a process of its own
with its own folder, environment, pipes and signals, and may be killed like any other. What tests
the start of the program itself (imports, entry points, several interpreters at once) starts
interpreters: `run_tracker` in tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TextIO

import pytest

COMMANDS, WORKER = "tracker.cli", "tracker.training.run.worker"
MIRROR = "tracker.mirror.process"
# an environment variable: module:function that each forked process calls first, see `call_first`
FIRST = "FORKS_FIRST"
# what a process imports that copies to MLflow: two seconds
MLFLOW = ("mlflow.tracking.client", "mlflow.store.tracking.sqlalchemy_store")
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900
IMPORTED = (
    *(
        "tracker.cli",
        "tracker.workflows.train",
        "tracker.workflows.infer",
        "tracker.workflows.folds",
        "tracker.submission.submit",
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
        self._lock = threading.Lock()

    def poll(self) -> int | None:
        """The exit code, minus the signal's number for a killed one, None while it runs."""
        with self._lock:  # a thread may watch it
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

    def __init__(self, connection: socket.socket, folder: Path, pid: int) -> None:
        self._connection = connection
        self._folder = folder
        self.pid = pid  # of the server, the parent of all that it forks

    def start(
        self,
        *words: str | Path,
        cwd: Path,
        module: str = COMMANDS,
        imports: Sequence[str] = (),
        gate: Path | None = None,
        writes_to: int | None = None,
        session: bool = False,
        deaf: bool = False,
        spares: int = 0,
        workers: int = 0,
        mirrors: int = 0,
        **env: str,
    ) -> Child:
        """A tracker command in the background, with pipes for its output; it begins once the file
        `gate` is there.

        `module`: this module with the words instead, as `python -P -m` runs it; `imports`: modules
        that the server imports first, once, since several of its processes need them;
        `writes_to`: a file for its output instead, or a terminal, which is then its own, and
        nothing to `communicate`;
        `session`: it is the first process of a session, as it is with a terminal; `deaf`: SIGHUP is
        ignored, as under nohup. So many of the commands that it starts in the background as
        `spares` says are forked as well, from processes that wait from its beginning on, and so
        many of the other processes of a run as `workers` says: they are called "worker"; and of
        those that copy to MLflow as `mirrors` says.
        """
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        call = {
            "module": module,
            "imports": list(imports),
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "env": {**os.environ, **env},
            "gate": str(gate or cwd),
            "session": session or (writes_to is not None and os.isatty(writes_to)),
            "deaf": deaf,
            "spares": spares,
            "workers": workers,
            "mirrors": mirrors,
        }
        ends = [out_end, err_end] if writes_to is None else [writes_to, writes_to]
        send_call(self._connection, call, ends)
        os.close(out_end)
        os.close(err_end)
        pid = int.from_bytes(self._connection.recv(4), "big")
        child = Child(pid, (os.fdopen(out), os.fdopen(err)), self._folder / str(pid))
        if writes_to is not None:
            child.stdout.close()
            child.stderr.close()
        return child

    def run(
        self,
        *words: str | Path,
        cwd: Path,
        ok: bool = True,
        spares: int = 0,
        mirrors: int = 0,
        imports: Sequence[str] = (),
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """A tracker command to its end; with `ok`, its exit code must be 0."""
        child = self.start(*words, cwd=cwd, spares=spares, mirrors=mirrors, imports=imports, **env)
        stdout, stderr = child.communicate()
        code = child.wait()
        assert not ok or code == 0, f"{words}: exit {code}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, code, stdout, stderr)


@pytest.fixture(scope="session")
def forks() -> Iterator[Forks]:
    """The server of this test process; it ends with it."""
    with serving_forks() as found:
        yield found


@contextlib.contextmanager
def serving_forks() -> Iterator[Forks]:
    """The server while the block runs."""
    ours, theirs = socket.socketpair()
    with tempfile.TemporaryDirectory() as name, ours:
        command = [sys.executable, "-P", __file__, str(theirs.fileno()), name]
        server = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        theirs.close()
        yield Forks(ours, Path(name), server.pid)
        ours.shutdown(
            socket.SHUT_RDWR
        )  # a loader process that is still there has a copy of it: closing ends nothing
        server.wait(LIMIT_S)


@pytest.fixture
def forked_workers(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other processes of a run that this process trains are forked, children of the server."""
    from tracker.training import processes

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> Child:
        assert command[-2] == WORKER
        child = forks.start(str(forks.pid), cwd=Path.cwd(), module=WORKER, **env)
        child.stdout.close()
        child.stderr = child.stderr.detach()  # the watch reads bytes
        return child

    names = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(processes, "subprocess", names)


# --- The server ---


def send_call(connection: socket.socket, call: dict[str, object], files: list[int]) -> None:
    """Hand over what is to be run, and its open files."""
    message = json.dumps(call).encode()
    socket.send_fds(connection, [len(message).to_bytes(4, "big")], files)
    connection.sendall(message)


def receive_call(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """The next call and its open files; the call is empty when the other end has gone."""
    head, files, _, _ = socket.recv_fds(connection, 4, 3)
    if not head:
        return {}, []
    size, message = int.from_bytes(head, "big"), b""
    while len(message) < size:
        message += connection.recv(size - len(message))
    call: dict[str, Any] = json.loads(message)
    return call, list(files)


def serve(connection: socket.socket, folder: Path) -> None:
    """Fork for each call until the client goes; write the exit code of what ended to a file called
    after it."""
    for name in IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # what is never collected is never copied
    signal.signal(signal.SIGCHLD, lambda *_: note_ended(folder))
    while True:
        call, files = receive_call(connection)
        if not call:
            os._exit(0)  # libraries complain of what is frozen
        for name in call["imports"]:
            importlib.import_module(name)
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            keep_spares(call["spares"])
            keep_workers(call["workers"])
            keep_mirrors(call["mirrors"])
            become(call, files)
        for file in files:
            os.close(file)
        connection.sendall(pid.to_bytes(4, "big"))


def note_ended(folder: Path) -> None:
    """Write down the exit codes of all children that have ended."""
    with contextlib.suppress(ChildProcessError):
        while (ended := os.waitpid(-1, os.WNOHANG))[0]:
            pid, status = ended
            (folder / f"{pid}.new").write_text(str(os.waitstatus_to_exitcode(status)))
            (folder / f"{pid}.new").rename(folder / str(pid))


def become(call: dict[str, Any], files: list[int]) -> None:
    """Be the process of a command, and end with it."""
    take_streams(files, session=call["session"], deaf=call["deaf"])
    os.chdir(call["cwd"])
    os.environ.clear()
    os.environ.update(call["env"])
    sys.argv = ["tracker", *call["words"]]
    if call["module"] == WORKER:
        Path("/proc/self/comm").write_text("worker")
    gate = Path(call["gate"])
    while not gate.exists():
        time.sleep(0.001)
    code = 1
    try:
        call_first(call["module"])
        run(call["module"])
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


def run(module: str) -> None:
    """What `python -m` does with a module; the command line's is imported already."""
    if module != COMMANDS:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
        return
    from tracker import cli

    cli.main()


def call_first(module: str) -> None:
    """Call the function that the environment names, with the name of the module that runs then: as
    sitecustomize would, it can change what the process stands on."""
    if name := os.environ.get(FIRST):
        first, _, function = name.partition(":")
        getattr(importlib.import_module(first), function)(module)


def take_streams(files: list[int], *, session: bool, deaf: bool) -> None:
    """Write to these files; a terminal is read too, and is from now on the terminal of this
    process."""
    if session:
        os.setsid()
        signal.signal(signal.SIGHUP, signal.SIG_IGN if deaf else signal.SIG_DFL)
    for number, file in enumerate(files[:2], start=1):
        os.dup2(file, number)
    if os.isatty(1):
        fcntl.ioctl(1, termios.TIOCSCTTY, 0)
        os.dup2(1, 0)
        sys.stdin = open(0, closefd=False)  # noqa: SIM115
        # an interpreter that starts at a terminal writes whole lines
        sys.stdout = open(1, "w", closefd=False, buffering=1)  # noqa: SIM115
    for file in files:
        os.close(file)


# --- What a forked command starts in the background
# -----------------------------------------------------------------------------


class Spare:
    """A process that waits to become a command of its parent; as subprocess.Popen has it."""

    def __init__(self, pid: int, connection: socket.socket) -> None:
        self.pid = pid
        self.connection = connection
        self.stdin: Any = None
        self.stderr: Any = None
        self._code: int | None = None

    def begin(self, words: list[str], cwd: Path | None, output: int) -> Spare:
        """Be `tracker WORDS` after a line on stdin; end when it is closed without one."""
        self._send(words, cwd or Path.cwd(), COMMANDS, dict(os.environ), [output, output])
        return self

    def work(self, words: list[str], env: dict[str, str]) -> Spare:
        """Be another process of a run at once; its stderr is a pipe."""
        reads, writes = os.pipe()
        nothing = os.open(os.devnull, os.O_WRONLY)
        self._send(words, Path.cwd(), WORKER, env, [nothing, writes])
        os.close(nothing)
        os.close(writes)
        self.stderr = os.fdopen(reads, "rb")
        self.stdin.write(b"\n")
        self.stdin.close()
        return self

    def copy(self, words: list[str], log: int) -> Spare:
        """Be the process that copies a run, at once."""
        self._send(words, Path.cwd(), MIRROR, dict(os.environ), [log, log])
        self.stdin.write(b"\n")
        self.stdin.close()
        return self

    def _send(
        self, words: list[str], cwd: Path, module: str, env: dict[str, str], outputs: list[int]
    ) -> None:
        reads, writes = os.pipe()
        call = {
            "module": module,
            "words": words,
            "cwd": str(cwd),
            "env": env,
            "gate": "/",
            "session": False,
            "deaf": False,
        }
        send_call(self.connection, call, [*outputs, reads])
        self.connection.close()
        os.close(reads)
        self.stdin = os.fdopen(writes, "wb")

    @property
    def returncode(self) -> int | None:
        """As Popen.returncode."""
        return self._code

    def poll(self) -> int | None:
        """As Popen.poll."""
        if self._code is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self._code = os.waitstatus_to_exitcode(status) if pid else None
        return self._code

    def wait(self, timeout: float = LIMIT_S) -> int:
        """As Popen.wait."""
        deadline = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(WORKER, timeout)
            time.sleep(0.005)
        return code

    def send_signal(self, number: int) -> None:
        """As Popen.send_signal."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """As Popen.terminate."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """As Popen.kill."""
        self.send_signal(signal.SIGKILL)


def keep_spares(count: int) -> None:
    """Fork processes that become the commands which this one will start in the background.

    They are there before this process has opened or remembered anything, as a new interpreter
    would be, and end with it when they are not needed.
    """
    from tracker.jobs import background

    spares = fork_spares(count)

    def start(command: list[str], **options: Any) -> Any:
        if not spares:
            return subprocess.Popen(command, **options)
        words = command[command.index("tracker.cli") + 1 :]
        return spares.pop(0).begin(words, options["cwd"], options["stdout"].fileno())

    if count:
        names = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
        background.subprocess = names  # type: ignore[assignment]


def keep_workers(count: int) -> None:
    """Fork processes that become the other processes of the run which this one will train."""
    from tracker.training import processes

    spares = fork_spares(count)

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        assert command[-2] == WORKER
        return spares.pop(0).work(command[-1:], env)

    if count:
        names = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
        processes.subprocess = names  # type: ignore[assignment]


def keep_mirrors(count: int) -> None:
    """Fork processes that become those which copy the runs of this one."""
    from tracker.mirror import mirror

    spares = fork_spares(count)

    def start(command: list[str], **options: Any) -> Any:
        assert command[-3] == MIRROR
        return spares.pop(0).copy(command[-2:], options["stdout"].fileno())

    if count:
        names = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
        mirror.subprocess = names  # type: ignore[assignment]


def fork_spares(count: int) -> list[Spare]:
    """So many children that wait for what they are to be."""
    spares: list[Spare] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            for other in (ours, *(spare.connection for spare in spares)):
                other.close()
            wait_as_spare(theirs)
        theirs.close()
        spares.append(Spare(pid, ours))
    return spares


def wait_as_spare(connection: socket.socket) -> None:
    """Wait for the command, then for the line on stdin; end if one of them does not come."""
    os.setsid()
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # whoever reads the output of the parent does not wait for this one
        os.dup2(nothing, number)
    call, files = receive_call(connection)
    if not call or not os.read(files[2], 1):
        os._exit(1)
    become(call, files)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    serve(socket.socket(fileno=int(sys.argv[1])), Path(sys.argv[2]))
