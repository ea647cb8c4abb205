"""Tracker commands in processes that are forked where a new interpreter would import torch and timm
for four seconds.

A server process imports them once in a session of tests and forks for each command: the command is
a process of its own with its own folder, environment, pipes and signals, and may be killed like any
other. What tests the start of the program itself (imports, entry points, several interpreters at
once) starts interpreters: `run_interpreter` in tests/conftest.py.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import fcntl
import gc
import importlib
import json
import os
import pkgutil
import runpy
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import termios
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, NoReturn, TextIO

import pytest

COMMANDS, WORKER = "tracker.cli", "tracker.training.run.worker"
MIRROR = "tracker.mirror.process"
PROGRAM, TORCHRUN, MLFLOW = "", "torch.distributed.run", "mlflow"
JOB, TASK = "submitit.local._local", "submitit.core._submit"
NAMES = {WORKER: "worker", MIRROR: "mirror", JOB: "job", TASK: "task"}
# an environment variable: module:function that each forked process calls first, see `call_first`
FIRST = "FORKS_FIRST"
DRAWS = "FORKS_DRAWS"  # another one: forked runs draw their pictures
ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 900
POLL_S = 1.0
LARGE_PAGE, MADV_COLLAPSE = 2 << 20, 25
# what commands import from libraries, some of it only as they compute
DATABASES = (
    *("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg", "alembic.command"),
    "psycopg",  # at the first connection
)
TENSORBOARD = ("tensorboard.compat.proto.event_pb2", "tensorboard.summary.writer.record_writer")
LIBRARIES = (
    *("torch._dynamo", "torch.utils.serialization", "timm", "albumentations", "tomli_w", "psutil"),
    *("torch.distributed.run", "torch.distributed.elastic.agent.server.local_elastic_agent"),
    *("matplotlib.figure", "matplotlib.backends.backend_agg", "sklearn.metrics"),
    *("PIL.BmpImagePlugin", "PIL.GifImagePlugin", "PIL.JpegImagePlugin", "PIL.PpmImagePlugin"),
    *DATABASES,
    # what copies to TensorBoard and MLflow
    *TENSORBOARD,
    *("mlflow.tracking.client", "mlflow.store.tracking.sqlalchemy_store"),
    # and its server, which looks whether uvicorn has been imported before
    *("uvicorn", "mlflow.cli", "mlflow.server.fastapi_app"),
)
# rooms for libraries that not everybody has, and modules that are programs
NOT_IMPORTED = (
    *("tracker.fastai", "tracker.huggingface", "tracker.keras", "tracker.lightning"),
    *(MIRROR, WORKER),
)
# A process with torch and MLflow has 600 MB of its own: to fork and to end it takes 50 ms of CPU,
# one without them 10. Commands that need neither are forked from a server that has neither.
NOT_LIGHT = (*NOT_IMPORTED, "tracker.training.", "tracker.board", "tracker.jobs.sweep")
LIGHT_LIBRARIES = (
    *("numpy.random", "tomli_w", "psutil", "sklearn.metrics"),
    *DATABASES,
    *TENSORBOARD,
)
LIGHT = {
    *("runs", "show", "diff", "tree", "compare", "logs", "stop", "events", "check", "sota"),
    *("select", "audit", "--version", "--help"),
}
# these tell MLflow of it, which is quick where nothing listens
LIGHT_WITHOUT_MLFLOW = {
    *("submit", "score", "note", "tag", "archive", "unarchive", "leaderboard", "ledger"),
}


class Child:
    """A command that runs; as subprocess.Popen has it."""

    def __init__(self, pid: int, pipes: tuple[TextIO, TextIO], status: Path) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self.stdout, self.stderr = pipes
        self._status = status
        self._lock = threading.Lock()

    def __del__(self) -> None:
        """Close the pipes of a command that was only killed."""
        for pipe in (self.stdout, self.stderr):
            pipe.close()

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
        with contextlib.suppress(ProcessLookupError):  # it has ended
            watched = os.pidfd_open(self.pid)
            ends = select.poll()
            ends.register(watched, select.POLLIN)
            ends.poll(timeout * 1000)
            os.close(watched)
        while (code := self.poll()) is None:  # the server writes it down
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
        """Send a signal, unless it has ended, which the server may not have written down yet."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)


class Forks:
    """The server's client."""

    def __init__(
        self,
        connection: socket.socket,
        folder: Path,
        pid: int,
        address: str,
        light: socket.socket | None = None,
    ) -> None:
        self._connection = connection
        self._light = light
        self._folder = folder
        self._address = address
        self.pid = pid  # of the server, the parent of all that it forks

    def start(
        self,
        *words: str | Path,
        cwd: Path,
        module: str = COMMANDS,
        gate: Path | None = None,
        writes_to: int | None = None,
        session: bool = False,
        deaf: bool = False,
        spares: int = 0,
        workers: int = 0,
        ranks: int = 0,
        jobs: bool = False,
        machine: int = 0,
        **env: str,
    ) -> Child:
        """A tracker command in the background, with pipes for its output; it begins once the file
        `gate` is there.

        `module`: this module with the words instead, as `python -P -m` runs it, or a script, the
        first of the words, where it is PROGRAM;
        `writes_to`: a file for its output instead, or a terminal, which is then its own, and
        nothing to `communicate`;
        `session`: it is the first process of a session, as it is with a terminal; `deaf`: SIGHUP is
        ignored, as under nohup. So many of the commands that it starts in the background as
        `spares` says are forked as well, from processes that wait from its beginning on, and so
        many of the other processes of a run as `workers` says: they are called "worker"; or of
        those that torchrun starts as `ranks` says. The one that copies its run to MLflow is forked
        too, and called "mirror". `jobs`: what submitit's local executor starts is forked from the
        server of the session, and called "job" and "task"; so is the first training that a task
        starts. `machine`: it runs on the machine (tests/support/machines.py) of this process.
        Runs draw no pictures, unless the environment variable DRAWS is set.
        """
        out, out_end = os.pipe()
        err, err_end = os.pipe()
        call = {
            "module": module,
            "words": [str(word) for word in words],
            "cwd": str(cwd),
            "env": {**os.environ, **env},
            "gate": str(gate or cwd),
            "session": session or (writes_to is not None and os.isatty(writes_to)),
            "deaf": deaf,
            "spares": spares,
            "workers": workers,
            "ranks": ranks,
            "jobs": self._address if jobs else "",
            "machine": machine,
        }
        ends = [out_end, err_end] if writes_to is None else [writes_to, writes_to]
        connection = self._connection
        if self._light is not None and is_light(call):
            connection = self._light
        send_call(connection, call, ends)
        os.close(out_end)
        os.close(err_end)
        pid = int.from_bytes(connection.recv(4), "big")
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
        jobs: bool = False,
        machine: int = 0,
        **env: str,
    ) -> subprocess.CompletedProcess[str]:
        """A tracker command to its end; with `ok`, its exit code must be 0."""
        child = self.start(*words, cwd=cwd, spares=spares, jobs=jobs, machine=machine, **env)
        stdout, stderr = child.communicate()
        code = child.wait()
        assert not ok or code == 0, f"{words}: exit {code}\n{stdout}\n{stderr}"
        assert "Traceback" not in stderr
        return subprocess.CompletedProcess(words, code, stdout, stderr)


@pytest.fixture(scope="session")
def forks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Forks]:
    """The server of this test process, forked from the one that all test processes share."""
    from tests.conftest import made_once  # the server does without it

    with made_once(tmp_path_factory, "forks") as (folder, first):
        if first:
            start_server(folder)
    with connect(folder) as found:
        yield found


@contextlib.contextmanager
def serving_forks() -> Iterator[Forks]:
    """A server for a program that is no test, while the block runs."""
    with tempfile.TemporaryDirectory() as name:
        start_server(Path(name, "forks"))
        with connect(Path(name, "forks")) as found:
            yield found


@contextlib.contextmanager
def connect(folder: Path) -> Iterator[Forks]:
    """A server of this process alone, forked from the one that `start_server` has started."""
    address = (folder / "address").read_text()
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX) as connection,
        socket.socket(socket.AF_UNIX) as light,
    ):
        pid = ask_for_server(connection, address, Path(name))
        ask_for_server(light, find_light(address), Path(name))
        yield Forks(connection, Path(name), pid, address, light)
        for each in (connection, light):
            # a loader process that is still there has a copy of it: closing ends nothing
            each.shutdown(socket.SHUT_RDWR)


def ask_for_server(connection: socket.socket, address: str, folder: Path) -> int:
    """Connect to a server of the session, which forks one for this process; its number."""
    connection.connect(address)
    connection.sendall(str(folder).encode())
    return int.from_bytes(connection.recv(4), "big")


def find_light(address: str) -> str:
    """The address of the server beside that one which has neither torch nor MLflow."""
    return f"{address}-light"


def is_light(call: dict[str, Any]) -> bool:
    """Whether a command needs neither torch nor MLflow, and starts nothing that would be forked."""
    if call["module"] != COMMANDS or any(
        call[name] for name in ("spares", "workers", "ranks", "jobs", "machine")
    ):
        return False
    words, env = call["words"], call["env"]
    if env.get("TRACKER_MLFLOW_URI") == "http://127.0.0.1:9":
        return words[0] in LIGHT | LIGHT_WITHOUT_MLFLOW
    # runs of the team are fetched from MLflow
    return words[0] in LIGHT and not any("/" in word or word == "--team" for word in words)


def start_server(folder: Path) -> None:
    """Start the server of the session; it has imported what it needs when this returns."""
    folder.mkdir()
    # not in `folder`: an address has at most 107 letters
    address = Path(tempfile.mkdtemp(prefix="tracker-forks-")) / "address"
    (folder / "address").write_text(str(address))
    # the process of the whole session: that of this one ends earlier with pytest-xdist
    session = os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid()
    command = [sys.executable, "-P", __file__, str(address), str(session)]
    # large pages: a fork copies a fourth fewer entries of them
    tunables = [os.environ.get("GLIBC_TUNABLES", ""), "glibc.malloc.hugetlb=1"]
    env = {**os.environ, "GLIBC_TUNABLES": ":".join(filter(None, tunables))}
    subprocess.run(command, stdin=subprocess.DEVNULL, check=True, timeout=LIMIT_S, env=env)


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


@pytest.fixture
def forked_mirrors(forks: Forks, monkeypatch: pytest.MonkeyPatch) -> None:
    """What copies the runs of this process to MLflow is forked, a child of the server."""
    from tracker.mirror import mirror

    def start(command: list[str], *, stdout: IO[bytes], **_: Any) -> Child:
        assert command[-3] == MIRROR
        return forks.start(
            *command[-2:], cwd=Path.cwd(), module=MIRROR, writes_to=stdout.fileno(), session=True
        )

    names = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    monkeypatch.setattr(mirror, "subprocess", names)


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """The runs of this process draw nothing, as forked ones."""
    forgo_pictures(monkeypatch.setattr)


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


def offer(address: Path, session: int) -> None:
    """Import once what commands need and go to the background; fork a server for each test process
    that connects, until the process of the test session has ended."""
    heavy, light = listen(str(address)), listen(find_light(str(address)))
    import_rooms(NOT_LIGHT, LIGHT_LIBRARIES)
    if not os.fork():
        heavy.close()
        fork_servers(light, session)
    light.close()
    # what MLflow's server imports
    warnings.filterwarnings("ignore", message="starlette.middleware.wsgi is deprecated")
    import_rooms(NOT_IMPORTED, LIBRARIES)
    if os.fork():
        os._exit(0)  # libraries complain of what is frozen
    fork_servers(heavy, session, folder=address.parent)


def listen(address: str) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen()
    return listener


def import_rooms(without: tuple[str, ...], libraries: Sequence[str]) -> None:
    """Import all of tracker but what begins like that, and what it takes from libraries."""
    import tracker

    gc.disable()  # a fourth of the time would go into looking for garbage
    for module in pkgutil.walk_packages(tracker.__path__, "tracker."):
        if not module.name.startswith(without):
            importlib.import_module(module.name)
    for name in libraries:
        importlib.import_module(name)
    gc.freeze()  # what is never collected is never copied
    gc.enable()
    use_large_pages()


def use_large_pages() -> None:
    """Move what this process has in memory to pages of 2 MB, of which a fork copies 300 entries
    instead of 100,000: half of its time. A kernel that cannot leaves it as it is."""
    libc = ctypes.CDLL(None)
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    for line in Path("/proc/self/maps").read_text().splitlines():
        place, rights, *_, name = (*line.split(maxsplit=5), "")[:6]
        if not rights.startswith("rw") or name.startswith("/"):
            continue
        first, end = (int(text, 16) for text in place.split("-"))
        first = -(-first // LARGE_PAGE) * LARGE_PAGE
        if end - first >= LARGE_PAGE:
            libc.madvise(first, (end - first) // LARGE_PAGE * LARGE_PAGE, MADV_COLLAPSE)


def fork_servers(listener: socket.socket, session: int, *, folder: Path | None = None) -> NoReturn:
    """Fork a server for each test process that connects; at the end remove the folder."""
    while is_alive(session):
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, os.WNOHANG)  # a server has ended with its test process
        if not select.select([listener], [], [], POLL_S)[0]:
            continue
        connection = listener.accept()[0]
        if not os.fork():
            listener.close()
            serve(connection)
        connection.close()
    if folder is not None:
        shutil.rmtree(folder)
    os._exit(0)


def is_alive(pid: int) -> bool:
    """Whether there is a process of this number."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


def serve(connection: socket.socket) -> NoReturn:
    """Fork for each call until the client goes; write the exit code of what ended to a file called
    after it, in the folder that the client names."""
    folder = Path(connection.recv(4096).decode())
    connection.sendall(os.getpid().to_bytes(4, "big"))
    signal.signal(signal.SIGCHLD, lambda *_: note_ended(folder))
    while True:
        call, files = receive_call(connection)
        if not call:
            os._exit(0)
        pid = os.fork()
        if not pid:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            connection.close()
            if call["machine"]:
                from tests.support.machines import enter

                enter(call["machine"])
            for name, keep in KEEP.items():
                if call[name]:  # what they import may be heavy
                    keep(call[name], files)
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
    sys.argv = call["words"] if call["module"] == PROGRAM else ["tracker", *call["words"]]
    name_process(NAMES.get(call["module"], "tracker"))
    if DRAWS not in os.environ and "torch" in sys.modules:
        forgo_pictures(setattr)
    keep_others(call)
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
        if isinstance(end.code, str):
            print(end.code, file=sys.stderr)
    except BaseException as error:  # noqa: BLE001  (as the interpreter does before it exits with 1)
        sys.last_type, sys.last_value, sys.last_traceback = sys.exc_info()
        sys.excepthook(*sys.exc_info())
        if isinstance(error, KeyboardInterrupt):
            code = -signal.SIGINT
    finally:
        leave(code, is_script=call["module"] == PROGRAM)


def leave(code: int, *, is_script: bool) -> NoReturn:
    """End this process as an interpreter ends, with this exit code or by this signal."""
    if is_script:  # tracker ends what a script has left open
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError):
            stream.flush()
    if code == -signal.SIGINT:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    os._exit(code)


def forgo_pictures(set_value: Callable[[Any, str, Any], None]) -> None:
    """Let runs draw nothing: of a short training it is half of the time."""
    from tracker.training.pictures import figures
    from tracker.training.run import infer

    set_value(figures, "draw_curves", lambda *_: None)
    for module in (figures, infer):
        set_value(module, "draw_validation", lambda *_: [])


def name_process(name: str) -> None:
    """What `ps` and psutil call this process."""
    Path("/proc/self/comm").write_text(name)


def run(module: str) -> None:
    """What `python -m` does with a module, or `python` with a script; the module of the command
    line is imported already."""
    if module == PROGRAM:
        runpy.run_path(sys.argv[0], run_name="__main__")
        return
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

    def serve(self, module: str, words: list[str], env: dict[str, str]) -> Spare:
        """Be a server at once; its log goes to the stderr of its parent."""
        self._send(words, Path.cwd(), module, env, [2, 2])
        self.stdin.write(b"\n")
        self.stdin.close()
        return self

    def repeat(self, words: list[str], cwd: Path, env: dict[str, str], outputs: list[int]) -> Spare:
        """Be the training that repeats a run, at once."""
        self._send(words, cwd, COMMANDS, env, outputs)
        self.stdin.write(b"\n")
        self.stdin.close()
        return self

    def rank(self, command: list[str], env: dict[str, str]) -> Spare:
        """Be what torchrun starts, `python -u -m tracker.cli WORDS` or `python -u SCRIPT WORDS`, at
        once; it writes where its parent does."""
        words = command[2:]
        module = PROGRAM
        if words[:2] == ["-m", COMMANDS]:
            words, module = words[2:], COMMANDS
        self._send(words, Path.cwd(), module, env, [1, 2])
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


def keep_spares(count: int, files: list[int]) -> None:
    """Fork processes that become the commands which this one will start in the background.

    They are there before this process has opened or remembered anything, as a new interpreter
    would be, and end with it when they are not needed.
    """
    from tracker.jobs import background

    spares = fork_spares(count, files)

    def start(command: list[str], **options: Any) -> Any:
        if not spares:
            return subprocess.Popen(command, **options)
        words = command[command.index("tracker.cli") + 1 :]
        return spares.pop(0).begin(words, options["cwd"], options["stdout"].fileno())

    names = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE)
    background.subprocess = names  # type: ignore[assignment]


def keep_workers(count: int, files: list[int]) -> None:
    """Fork processes that become the other processes of the run which this one will train."""
    from tracker.training import processes

    spares = fork_spares(count, files)

    def start(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        assert command[-2] == WORKER
        return spares.pop(0).work(command[-1:], env)

    names = SimpleNamespace(Popen=start, PIPE=subprocess.PIPE, DEVNULL=subprocess.DEVNULL)
    processes.subprocess = names  # type: ignore[assignment]


def keep_ranks(count: int, files: list[int]) -> None:
    """Fork processes that become those which torchrun starts on this machine."""
    from torch.distributed.elastic.multiprocessing.subprocess_handler import subprocess_handler

    spares = fork_spares(count, files)

    def start(args: Sequence[str], *, env: dict[str, str], **_: Any) -> Any:
        return spares.pop(0).rank(list(args), env)

    subprocess_handler.Popen = start  # type: ignore[assignment,misc]


KEEP = {"spares": keep_spares, "workers": keep_workers, "ranks": keep_ranks}


def keep_others(call: dict[str, Any]) -> None:
    """Have that forked too which a command starts without being asked for it."""
    module, words = call["module"], call["words"]
    if address := call.get("jobs"):
        keep_jobs(address)
    if module == TASK:
        keep_spares(1, [])  # the trial of a sweep
    if words[:2] == ["run", "reproduce"]:
        keep_training()
    elif module in (PROGRAM, TASK) or starts_mirror(words):
        keep_mirror()
    if module == MLFLOW or words[:1] == ["ui"]:
        keep_server(module)


def keep_jobs(address: str) -> None:
    """Let the server of the session fork what submitit's local executor starts: a job, which
    outlives who asked for it, and the tasks of a job, one after the other."""
    from submitit.local import local  # not before: it reads the environment

    asked: list[socket.socket] = []  # a server ends when nobody has its connection anymore

    def start(command: list[str], *, env: dict[str, str], **options: Any) -> Child:
        module, *words = command[command.index("-m") + 1 :]
        folder = Path(tempfile.mkdtemp(dir=Path(address).parent))
        asked.append(socket.socket(socket.AF_UNIX))
        pid = ask_for_server(asked[-1], address, folder)
        forks = Forks(asked[-1], folder, pid, address)
        with Path(os.devnull).open("w") as nothing:
            output = options.get("stdout", nothing).fileno()
            cwd, session = Path.cwd(), module == JOB
            return forks.start(
                *words, cwd=cwd, module=module, writes_to=output, session=session, jobs=True, **env
            )

    local.subprocess = SimpleNamespace(Popen=start)  # type: ignore[assignment]


def keep_training() -> None:
    """Fork a process that becomes the training with which `tracker run reproduce` repeats a run."""
    from tracker.workflows import reproduce

    (spare,) = fork_spares(1)

    def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            asked = options["stderr"] is not None
            outputs = [out.fileno(), err.fileno() if asked else 2]
            words = command[command.index(COMMANDS) + 1 :]
            code = spare.repeat(words, options["cwd"], options["env"], outputs).wait(LIMIT_S)
            out.seek(0)
            err.seek(0)
            return subprocess.CompletedProcess(command, code, out.read(), err.read())

    names = SimpleNamespace(run=run, PIPE=subprocess.PIPE)
    reproduce.subprocess = names  # type: ignore[assignment]


def starts_mirror(words: list[str]) -> bool:
    """Whether a command begins a run by itself."""
    return words[:1] == ["run"] and words[1:2] not in (["queue"], ["sweep"])


def keep_mirror() -> None:
    """Fork a process that becomes the one which copies the first run of this one to MLflow; those
    of others are interpreters."""
    from tracker.mirror import mirror

    spares = fork_spares(1)

    def start(command: list[str], **options: Any) -> Any:
        assert command[-3] == MIRROR
        if not spares:
            return subprocess.Popen(command, **options)
        return spares.pop().copy(command[-2:], options["stdout"].fileno())

    names = SimpleNamespace(Popen=start, DEVNULL=subprocess.DEVNULL)
    mirror.subprocess = names  # type: ignore[assignment]


def keep_server(module: str) -> None:
    """Fork a process that becomes the server: MLflow's for `tracker ui`, uvicorn for MLflow's."""
    import mlflow.utils.process

    from tracker.mirror import ui

    (spare,) = fork_spares(1)

    def start_mlflow(command: list[str], **_: Any) -> Any:
        settings = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        return spare.serve(MLFLOW, command[command.index("server") :], {**os.environ, **settings})

    def start_uvicorn(command: list[str], *, env: dict[str, str], **_: Any) -> Any:
        return spare.serve("uvicorn", command[3:], env)

    if module == MLFLOW:
        names = SimpleNamespace(Popen=start_uvicorn)
        mlflow.utils.process.subprocess = names
    else:
        names = SimpleNamespace(Popen=start_mlflow, DEVNULL=subprocess.DEVNULL)
        ui.subprocess = names  # type: ignore[assignment]


def fork_spares(count: int, files: Sequence[int] = ()) -> list[Spare]:
    """So many children that wait for what they are to be, without these files of their parent."""
    spares: list[Spare] = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        pid = os.fork()
        if not pid:
            for other in (ours, *(spare.connection for spare in spares)):
                other.close()
            for file in files:
                os.close(file)
            wait_as_spare(theirs)
        theirs.close()
        spares.append(Spare(pid, ours))
    return spares


def wait_as_spare(connection: socket.socket) -> None:
    """Wait for the command, then for the line on stdin; end if one of them does not come."""
    os.setsid()
    name_process("spare")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in range(3):  # whoever reads the output of the parent does not wait for this one
        os.dup2(nothing, number)
    call, files = receive_call(connection)
    if not call or not os.read(files[2], 1):
        os._exit(1)
    become(call, files)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    offer(Path(sys.argv[1]), int(sys.argv[2]))
