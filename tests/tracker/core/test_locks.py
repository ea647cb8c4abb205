"""The lock between processes, by the system's record locks and, as on Windows, by filelock."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tracker.core import locks
from tracker.core.locks import FileLock, is_locked

LIMIT_S = 60
# As every earlier version locks, without a line of today's program.
EARLIER = """
import fcntl, os, sys
file = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o666)
fcntl.lockf(file, fcntl.LOCK_EX)
"""
ON_WINDOWS = """
import sys
from pathlib import Path
from tracker.core import locks
locks.fcntl = None
lock = locks.FileLock(Path(sys.argv[1]))
lock.acquire()
"""


@contextmanager
def start_holder(program: str, path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that has the lock at `path`; it is killed at the end of the block."""
    command = [sys.executable, "-c", f"{program}\nprint(flush=True)\nsys.stdin.read()", str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout and holder.stdout.readline()
            yield holder
        finally:
            holder.kill()


@pytest.mark.parametrize("program", [EARLIER, ON_WINDOWS], ids=["earlier", "windows"])
def test_a_lock_of_another_process_excludes_until_kill_9(
    program: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / ".lock"
    if program == ON_WINDOWS:
        monkeypatch.setattr(locks, "fcntl", None)
    lock = FileLock(path)
    with start_holder(program, path) as holder:
        assert not lock.acquire(wait=False)
        assert is_locked(path)
        assert lock.find_holder() == holder.pid
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait(LIMIT_S)
        assert lock.find_holder() is None
        assert is_locked(path) is False
        assert lock.acquire(wait=False)
        assert lock.find_holder() is None  # it is this process
        lock.release()
        assert is_locked(path) is False


def test_a_lock_that_cannot_be_made_is_unknown_with_and_without_fcntl(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_bytes(b"")
    assert is_locked(tmp_path / "file" / ".lock") is None
    monkeypatch.setattr(locks, "fcntl", None)
    assert is_locked(tmp_path / "file" / ".lock") is None
