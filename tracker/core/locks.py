"""The lock between processes: a file lock that the system frees when its holder dies."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path
from typing import Any

from tracker.training.errors import StorageError
from tracker.training.files import translate_os_errors
from tracker.training.numbers import is_whole

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

HELD_SUFFIX = ".held"  # where there is no fcntl: the file that is locked, beside the named one


class FileLock:
    """A POSIX record lock: the system frees it when the process ends; forks do not inherit it.

    On Windows the library filelock locks a file beside it, and the named file has the holder's
    process id: a locked file can neither be read nor copied there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1
        self._library: Any = None

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False when another process has it and `wait` is False."""
        with translate_os_errors(self._path, "lock"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            if fcntl is None:
                return self._acquire_by_library(wait=wait)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                self._fd = -1
                return False
        return True

    def release(self) -> None:
        """Free the lock; does nothing when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1
        if self._library is not None:
            self._library.release()
            self._library = None

    def find_holder(self) -> int | None:
        """The process id of the holder; None when the lock is free, or held by this process."""
        if fcntl is None:
            return self._read_holder()
        # struct flock of Linux, or of BSD and macOS: its fields, and the index of l_pid
        layout, pid_index = ("hhqqi", 4) if sys.platform == "linux" else ("qqihh", 2)
        type_index = layout.index("h")
        fields = [0] * 5
        fields[type_index] = fcntl.F_WRLCK
        with translate_os_errors(self._path, "read"), self._path.open("rb+") as file:
            reply = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *fields))
        holder = struct.unpack(layout, reply)
        return None if holder[type_index] == fcntl.F_UNLCK else int(holder[pid_index])

    def _acquire_by_library(self, *, wait: bool) -> bool:
        import filelock

        held = self._path.with_name(self._path.name + HELD_SUFFIX)
        # Another thread may release it.
        library = filelock.FileLock(held, timeout=-1 if wait else 0, thread_local=False)
        try:
            library.acquire()
        except filelock.Timeout:
            return False
        try:
            self._path.write_text(f"{os.getpid()}\n", encoding="ascii")
        except OSError:
            library.release()
            raise
        self._library = library
        return True

    def _read_holder(self) -> int | None:
        other = FileLock(self._path)
        if other.acquire(wait=False):
            other.release()
            return None
        with translate_os_errors(self._path, "read"):
            text = self._path.read_text(encoding="ascii", errors="replace").strip()
        return int(text) if is_whole(text) and int(text) != os.getpid() else None

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()


def is_locked(path: Path) -> bool | None:
    """Whether another process holds this lock; None where it cannot be tried: a read-only copy."""
    lock = FileLock(path)
    try:
        free = lock.acquire(wait=False)
    except StorageError:
        return None
    lock.release()
    return not free
