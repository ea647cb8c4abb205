"""Write files as a whole or not at all; read only regular files.

Writing uses a temporary file, fsync and a rename.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import stat
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tracker.training.errors import StorageError
from tracker.training.machine import host_name

TEMPORARY = re.compile(r"\..+\.(?:([0-9a-f]{8})-)?([0-9]+)\.[0-9a-f]{8}\.tmp")  # host, process
OLD_S = 3600.0  # a file that does not name its host is left over when it is older than that
WINDOWS = os.name == "nt"
REPLACE_S = 2.0  # on Windows, for a file that somebody reads
NAME_BYTES = 200  # of a file's name, in that of its temporary file
KINDS = {
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
    stat.S_IFDIR: "a folder",
}


class NotAFileError(OSError):
    """A path from the user is no readable file; the text of the error is the reason alone."""

    def __str__(self) -> str:
        return self.strerror or ""


def check_regular(path: Path) -> os.stat_result:
    """The stat of a regular file, through links; call it before you open a path from the user.

    Raises OSError, and NotAFileError where it is a link to nothing or no file: reading a named pipe
    waits for ever.
    """
    try:
        status = path.stat()
    except FileNotFoundError:
        if path.is_symlink():
            raise NotAFileError(
                errno.EINVAL, f"a link to {path.readlink()}, which is not there", str(path)
            ) from None
        raise
    if not stat.S_ISREG(status.st_mode):
        kind = KINDS.get(stat.S_IFMT(status.st_mode), "something else")
        raise NotAFileError(errno.EINVAL, f"{kind}, not a file", str(path))
    return status


@contextmanager
def translate_os_errors(path: Path, doing: str) -> Iterator[None]:
    """Turn an OSError about `path` into a StorageError that says what to do."""
    try:
        yield
    except OSError as error:
        raise storage_error(error, path, doing) from error


def storage_error(error: OSError, path: Path, doing: str) -> StorageError:
    """The StorageError for an OSError about `path`."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        hint = "free some space on that disk; nothing that was written before is lost"
    elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
        hint = "check the permissions of that folder, or work in another one"
    elif error.errno == errno.ENOENT and doing == "write" and not path.parent.exists():
        hint = f"make the folder {path.parent} first"
    else:
        hint = ""
    return StorageError(f"cannot {doing} {path}: {error.strerror or error}", hint=hint)


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it replaces `path` when the block succeeds.

    When the block fails, the temporary file is removed. Raises StorageError when the disk is full
    or the folder cannot be written, and for a folder, a pipe or a device.
    """
    if path.exists() and not path.is_file():
        kind = "a folder" if path.is_dir() else "no ordinary file"
        raise StorageError(f"cannot write {path}: it is {kind}", hint="give the name of a file")
    if not path.parent.is_dir():
        code = errno.ENOTDIR if path.parent.exists() else errno.ENOENT
        raise storage_error(OSError(code, os.strerror(code)), path, "write")
    name = os.fsdecode(os.fsencode(path.name)[:NAME_BYTES])  # the system takes 255 bytes
    temporary = path.with_name(f".{name}.{_host_mark()}-{os.getpid()}.{os.urandom(4).hex()}.tmp")
    with translate_os_errors(path, "write"):
        try:
            yield temporary
            # Windows forces only a file that is open for writing to the disk.
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
            _replace(temporary, path)
            _sync_folder(path.parent)
        finally:
            temporary.unlink(missing_ok=True)


def _replace(temporary: Path, path: Path) -> None:
    """Rename a file over another one.

    On Windows that is refused while somebody reads the other one: tried again for a moment.
    """
    deadline = time.monotonic() + REPLACE_S
    while True:
        try:
            temporary.replace(path)
        except PermissionError:
            if not WINDOWS or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files in `folder` that killed processes of this machine left."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            match = TEMPORARY.fullmatch(entry.name)
            if match and _is_left_over(Path(entry.path), match[1], int(match[2])):
                with contextlib.suppress(OSError):
                    Path(entry.path).unlink()


def _is_left_over(path: Path, host: str | None, process: int) -> bool:
    if host is None:  # of an earlier version
        return time.time() - path.lstat().st_mtime > OLD_S and not _is_running(process)
    return host == _host_mark() and not _is_running(process)


def _is_running(process: int) -> bool:
    if WINDOWS:  # signal 0 is no question there, it ends the process
        import psutil

        return bool(psutil.pid_exists(process))
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _host_mark() -> str:
    """This machine in eight digits.

    The number of a process means nothing on another machine or in another container.
    """
    return f"{zlib.crc32(host_name().encode()):08x}"


def write_bytes(path: Path, content: bytes) -> None:
    """Write `content` to `path` as a whole or not at all; raises StorageError."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        file.write(content)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 to `path` as a whole or not at all; raises StorageError."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON to `path` as a whole or not at all; raises StorageError."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` durable; Windows cannot open a folder, and needs it not."""
    if WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
