"""The machine that this process runs on: its name, cores and memory, and what else trains there."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

NEW = ".new"
# Of glibc's malloc: from which size on memory is the system's again when it is freed, and how much
# may be free at the end of the heap. Versions before 2.35 take no more than 32 MB for the first.
MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
KEPT_BYTES, NO_LIMIT = (1 << 30, 1 << 25), -1
_trainings = [1]  # what runs here since the training of this process began, itself included


def host_name() -> str:
    """The machine's name in the network, asked for anew at each call.

    `platform.node` keeps its first answer; a forked process may be in another namespace.
    """
    return os.uname().nodename if hasattr(os, "uname") else platform.node()


def has_bfloat16() -> bool:
    """Whether this processor multiplies bfloat16 itself; False where that is not known."""
    return has_amx() or "avx512_bf16" in _read_processor("flags").split()


def has_amx() -> bool:
    """Whether this processor multiplies matrices of bfloat16 by AMX; False where not known."""
    return "amx_bf16" in _read_processor("flags").split()


def name_processor() -> str:
    """The processor's name, as Linux has it; empty elsewhere."""
    return _read_processor("model name")


def _read_processor(key: str) -> str:
    """A value of the first core in /proc/cpuinfo, which no function of torch's interface gives."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""
    lines = (line.partition(":") for line in text.splitlines())
    return next((value.strip() for name, _, value in lines if name.strip() == key), "")


def keep_memory() -> None:
    """Let this process keep freed memory for its next use, where malloc is glibc's.

    A training step on a CPU frees hundreds of megabytes, and the next one needs as many. By default
    tensors above 32 MB go back to the system each time, which then has to find and clear every page
    again. Results do not depend on it.
    """
    if sys.platform != "linux":
        return
    import ctypes  # 3 ms that only a training needs

    with suppress(AttributeError, OSError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        any(mallopt(MMAP_THRESHOLD, size) for size in KEPT_BYTES)  # the first that it takes
        mallopt(TRIM_THRESHOLD, NO_LIMIT)


def count_cores() -> int:
    """The cores that this process may use, on Linux; those of the machine elsewhere."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def count_trainings() -> int:
    """The trainings among which the cores are divided: those of this user on this host when the
    training of this process began. 1 where none has begun."""
    return _trainings[0]


def count_own_cores() -> int:
    """The cores for the training of this process, at least 1."""
    return max(1, count_cores() // count_trainings())


@contextmanager
def register_training() -> Iterator[None]:
    """Within the block, this process trains, and other trainings of this user on this host see it.

    Each is a locked file in one folder; the system frees the lock when a process dies. Where that
    is impossible (Windows, a read-only disk), a training counts as the only one.
    """
    descriptor = -1
    path = find_trainings_folder() / f"{os.getpid()}-{os.urandom(4).hex()}"
    with suppress(OSError):
        descriptor = _register(path)
        _trainings[0] = 1 + _count_others(path)
    try:
        yield
    finally:
        _trainings[0] = 1
        if descriptor >= 0:
            with suppress(OSError):
                path.unlink()
            os.close(descriptor)


def find_trainings_folder() -> Path:
    """Where the trainings of this user on this host are registered."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")  # noqa: TID251
    if runtime:
        return Path(runtime) / "tracker-trainings"
    import tempfile  # it loads what draws random names

    user = os.getuid() if hasattr(os, "getuid") else "user"
    return Path(tempfile.gettempdir()) / f"tracker-trainings-{user}"


def _register(path: Path) -> int:
    """Lock the file of this process; its descriptor. Raises OSError."""
    if fcntl is None:
        raise OSError("no record locks")
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if path.parent.is_symlink() or path.parent.stat().st_uid != os.getuid():
        raise PermissionError(f"{path.parent} is somebody else's")
    # It gets its name when it is locked: a file that nobody has locked is one of a dead process.
    unlocked = path.with_suffix(NEW)
    descriptor = os.open(unlocked, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        unlocked.replace(path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _count_others(own: Path) -> int:
    """The other files that are locked; those of dead processes are deleted."""
    others = 0
    for path in own.parent.iterdir():
        if path == own or path.suffix == NEW:  # closing our own would free its lock
            continue
        with suppress(FileNotFoundError), path.open("rb+") as file:
            try:
                fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                path.unlink()
            except BlockingIOError:
                others += 1
    return others
