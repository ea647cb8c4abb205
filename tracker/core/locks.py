"""The one lock between processes, a file that the system frees when its holder dies."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
from pathlib import Path

from tracker.training.files import translate_os_errors


class FileLock:
    """A POSIX record lock: freed by the system when the process ends, and not inherited by forked
    workers."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = -1

    def acquire(self, *, wait: bool = True) -> bool:
        """Take the lock; False when another process has it and `wait` is False."""
        with translate_os_errors(self._path, "lock"):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o666)
            try:
                fcntl.lockf(self._fd, fcntl.LOCK_EX if wait else fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(self._fd)
                self._fd = -1
                return False
        return True

    def release(self) -> None:
        """Free the lock; nothing happens when it is not held."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def find_holder(self) -> int | None:
        """The process that holds the lock; None when it is free, or held by this process."""
        layout, place = (
            ("hhqqi", 4) if sys.platform == "linux" else ("qqihh", 2)
        )  # struct flock of Linux, BSD, macOS
        values = [0] * 5
        values[layout.index("h")] = fcntl.F_WRLCK
        with translate_os_errors(self._path, "read"), self._path.open("rb+") as file:
            found = struct.unpack(
                layout, fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(layout, *values))
            )
        return None if found[layout.index("h")] == fcntl.F_UNLCK else int(found[place])

    def __enter__(self) -> FileLock:
        self.acquire()
        return self

    def __exit__(self, *exception: object) -> None:
        self.release()
