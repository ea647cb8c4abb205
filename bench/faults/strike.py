"""In the process that is to be struck: it counts its own steps, and the fault comes at one of them.

A step is what the main thread does next to a file of the workspace: open it for writing, write to
an open one, rename, remove, or run a statement of SQL; for a loader process, open a photograph. So
a fault comes at the same place on a slow machine and on a quick one. Between a process and its
parent there are files in the folder of the plan: `struck` says that the fault has come, and where;
`go` lets a process go on that waits; `acknowledged` has the points that were written; `alive` is
locked while one of the processes lives.
"""

from __future__ import annotations

import ctypes
import datetime as dt
import fcntl
import json
import os
import re
import signal
import sqlite3
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from sqlite3 import dbapi2
from typing import Any

VARIABLE = "FAULT_PLAN"
PAUSE_LIMIT_S = 60.0
CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND = 1, 32, 4096
PAGE = 4096
TEMPORARY = re.compile(r"\.(.+)\.[0-9a-f]{8}-[0-9]+\.[0-9a-f]{8}\.tmp")
PHOTOGRAPH = ".png"

_real_write, _real_connect = os.write, sqlite3.connect
_real_time, _real_datetime = time.time, dt.datetime


def begin(module: str) -> None:
    """Count from here on; the environment has the plan. Called before the command."""
    plan = json.loads(os.environ[VARIABLE])
    if plan["keeper"]:
        enter_namespaces(plan["keeper"])
    if plan["kaggle"]:
        turn_to_kaggle(plan["kaggle"])
    # held as long as this process lives, and those that it forks
    fcntl.flock(os.open(Path(plan["folder"], "alive"), os.O_RDWR | os.O_CREAT), fcntl.LOCK_SH)
    Counter(plan, find_role(module, sys.argv)).install()


def find_role(module: str, words: list[str]) -> str:
    """What a process is for its command: mirror, queue, trainer or command."""
    if module == "tracker.mirror.process":
        return "mirror"
    known = {("run", "queue"): "queue", ("run", "train"): "trainer"}
    return known.get(tuple(words[1:3]), "command")


class Counter:
    """Counts the steps of a process, and strikes once in all processes of a plan."""

    def __init__(self, plan: dict[str, Any], role: str) -> None:
        self._plan = plan
        self._role = role
        self._root = str(plan["root"]) + os.sep
        self._folder = Path(plan["folder"])
        self._steps = 0
        self._busy = False
        self._acknowledged = os.open(
            self._folder / "acknowledged", os.O_WRONLY | os.O_CREAT | os.O_APPEND
        )

    def install(self) -> None:
        """Begin to count, in this process and in the loader processes that it forks."""
        sys.addaudithook(self._audit)
        os.write = self._write
        sqlite3.connect = dbapi2.connect = self._connect  # type: ignore[assignment]
        os.register_at_fork(after_in_child=self._become_loader)
        if self._plan["at"] == 0:
            self._step("begin", "")

    def _become_loader(self) -> None:
        self._role, self._steps = "loader", 0

    def _audit(self, event: str, values: tuple[Any, ...]) -> None:
        if event == "open":
            self._open(values[0], values[2])
        elif event == "os.rename":
            self._step("rename", values[1])
        elif event in ("os.remove", "os.mkdir", "os.truncate"):
            self._step(event.removeprefix("os."), values[0])

    def _connect(self, *places: Any, **options: Any) -> sqlite3.Connection:
        connection = _real_connect(*places, **options)
        connection.set_trace_callback(lambda text: self._step("sql", self._root + text[:40]))
        return connection

    def _open(self, path: Any, flags: int) -> None:
        writes = flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        if self._role == "loader":
            if not writes and str(path).endswith(PHOTOGRAPH):
                self._step("read", path)
        elif writes:
            self._step("open", path, flags)

    def _write(self, file: int, data: Any) -> int:
        name = "/"
        with suppress(OSError):
            name = str(Path(f"/proc/self/fd/{file}").readlink())
        half = lambda: _real_write(file, bytes(data)[: len(data) // 2])  # noqa: E731
        self._step("write", name, half=half)
        done = _real_write(file, data)
        if name.endswith("/metrics.jsonl") and 1 < done == len(data):  # no end of a torn line
            line = json.dumps([name.removeprefix(self._root), bytes(data).decode()])
            _real_write(self._acknowledged, line.encode() + b"\n")
        return done

    def _step(self, kind: str, path: Any, flags: int = 0, half: Any = None) -> None:
        """Count a step, and strike if it is the one of the plan."""
        if self._busy or not isinstance(path, str | bytes | os.PathLike):
            return
        path = os.path.abspath(os.fsdecode(path)) if path else self._root  # noqa: PTH100
        if not path.startswith(self._root):
            return
        if threading.current_thread() is not threading.main_thread():
            return
        self._steps += 1
        plan = self._plan
        if plan["count"] and self._role == plan["role"]:
            (self._folder / "steps").write_text(str(self._steps))
        if self._role != plan["role"] or self._steps < plan["at"] or plan["at"] < 0:
            return
        if plan["act"] == "term" and kind == "sql":
            return  # an exception in SQLite's callback is dropped: at the next step
        self._busy = True
        try:
            if self._claim(kind, path):
                self._act(plan["act"], path, flags, half)
        finally:
            self._busy = False

    def _claim(self, kind: str, path: str) -> bool:
        """Say that and where the fault comes; False where it has come already."""
        name = TEMPORARY.sub(r"\1", path.removeprefix(self._root)).replace("\n", " ")
        try:
            with (self._folder / "struck").open("x") as file:
                file.write(f"{self._role}, step {self._steps}: {kind} {name}".strip())
        except FileExistsError:
            return False
        return True

    def _act(self, act: str, path: str, flags: int, half: Any) -> None:
        if act == "kill":
            die(path, flags, half)
        elif act == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif act == "pause":
            wait_for(self._folder / "go")
        elif act == "full":
            fill_disk(self._plan["filler"], pages_left=self._plan["amount"])
        elif act == "readonly":
            make_read_only(self._plan["root"])
        elif act == "clock":
            set_clock_back(self._plan["amount"])
        else:
            raise ValueError(act)


def die(path: str, flags: int, half: Any) -> None:
    """End as by a power cut: half a write is done, and a file that is opened is empty."""
    if half is not None:
        half()
    elif flags & os.O_CREAT:
        with suppress(OSError):
            os.close(os.open(path, flags, 0o666))
    os.kill(os.getpid(), signal.SIGKILL)


def wait_for(path: Path) -> None:
    """Wait until the parent has made a file."""
    deadline = time.monotonic() + PAUSE_LIMIT_S
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def fill_disk(filler: str, *, pages_left: int) -> None:
    """Write a file until the disk has so many pages left."""
    state = os.statvfs(Path(filler).parent)
    size = max(0, state.f_bavail * state.f_frsize - pages_left * PAGE)
    with open(filler, "wb") as file:  # noqa: PTH123
        if size:
            os.posix_fallocate(file.fileno(), 0, size)


def set_clock_back(seconds: float) -> None:
    """From now on this process reads an earlier time; the times of files stay the system's."""

    class Kind(type):
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, _real_datetime)

    class Earlier(_real_datetime, metaclass=Kind):
        @classmethod
        def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:
            return _real_datetime.fromtimestamp(_real_time() - seconds, tz)

    real_ns = time.time_ns
    time.time = lambda: _real_time() - seconds
    time.time_ns = lambda: real_ns() - int(seconds * 1e9)
    dt.datetime = Earlier  # type: ignore[misc]


def turn_to_kaggle(port: int) -> None:
    """Let the official client talk to the server on this port."""
    from kagglesdk import kaggle_env

    from tracker.leaderboards import kaggle

    kaggle_env._env_to_endpoint[kaggle_env.KaggleEnv.PROD] = f"http://127.0.0.1:{port}"
    kaggle.POLL_S = 0.01


# --- Namespaces: a process of its own kind keeps them, `disk.py` starts it ---


def enter_namespaces(pid: int) -> None:
    """See the file systems that this process sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    folder = Path.cwd()
    for name, kind in (("user", CLONE_NEWUSER), ("mnt", CLONE_NEWNS)):
        with open(f"/proc/{pid}/ns/{name}", "rb") as file:  # noqa: PTH123
            check(libc.setns(file.fileno(), kind), f"setns {name}")
    os.chdir(folder)


def make_read_only(root: str) -> None:
    """Nothing below a folder can be opened for writing; what is open stays so."""
    libc = ctypes.CDLL(None, use_errno=True)
    name = os.fsencode(root)
    check(libc.mount(name, name, None, MS_BIND, None), "mount")
    check(libc.mount(None, name, None, MS_BIND | MS_REMOUNT | MS_RDONLY, None), "mount")


def check(code: int, what: str) -> None:
    """Raise OSError for a call of the C library that failed."""
    if code:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
