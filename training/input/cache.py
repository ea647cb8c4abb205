"""Images after the head of a pipeline, cached for later epochs and runs.

One sparse file for a set of images and a head: a table with a mark of 8 bytes for each image, then
the images, each from the start of a page. An image is written before its mark, and the mark is a
sum over the image: one that was being written when the process died, or that a power cut left
incomplete, does not fit its mark and is made again. Several processes may fill one file, for they
write the same.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import mmap
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

try:
    import fcntl
except ImportError:  # Windows: images are not cached there
    fcntl = None  # type: ignore[assignment]

HELD = "pixels.lock"  # locked by each run that is being set up
MAX_FILES = 4  # the file in use and the ones used last; older ones are removed
PAGE = mmap.PAGESIZE
CHECKSUM_BYTES = 8


class PixelCache:
    """uint8 images of one shape, by path; `hashes` are the SHA-256 of the checked files.

    Nothing goes wrong when the disk fills up: no more images are kept. Raises OSError when it
    cannot be opened.
    """

    def __init__(self, file: Path, shape: tuple[int, ...], hashes: Mapping[str, str]) -> None:
        self._arguments = (file, shape, hashes)
        self._shape = shape
        self._hashes = hashes
        self._slots = {digest: slot for slot, digest in enumerate(sorted(set(hashes.values())))}
        self._bytes = int(np.prod(shape))
        self._stride = _round_up(self._bytes, PAGE)
        self._start = _round_up(len(self._slots) * CHECKSUM_BYTES, PAGE)
        self._writable = True
        size = self._start + len(self._slots) * self._stride
        if fcntl is None or not hasattr(os, "posix_fallocate"):
            raise OSError(errno.ENOSYS, "this system has no sparse files that can be shared")
        self._file = _open_locked(file)
        if os.fstat(self._file).st_size < size:
            os.ftruncate(self._file, size)
        # on a full tmpfs, reading a hole through a map kills the process
        os.posix_fallocate(self._file, 0, self._start)
        self._map = mmap.mmap(self._file, size, prot=mmap.PROT_READ)
        self._checksums = np.frombuffer(self._map, dtype=np.uint64, count=len(self._slots))

    def __reduce__(
        self,
    ) -> tuple[type[PixelCache], tuple[Path, tuple[int, ...], Mapping[str, str]]]:
        return PixelCache, self._arguments

    def __del__(self) -> None:
        with contextlib.suppress(AttributeError, OSError):
            os.close(self._file)

    def find(self, path: str) -> NDArray[np.uint8] | None:
        """The cached image for `path`, read-only, or None."""
        slot = self._slots.get(self._hashes.get(path, ""))
        if slot is None or not self._checksums[slot]:
            return None
        offset = self._start + slot * self._stride
        pixels = np.frombuffer(self._map, dtype=np.uint8, count=self._bytes, offset=offset)
        if self._checksums[slot] != _checksum(pixels)[0]:
            return None
        return pixels.reshape(self._shape)

    def store(self, path: str, content: NDArray[np.uint8], image: NDArray[np.uint8]) -> None:
        """Store the prepared image of a file, unless the file has changed since it was checked."""
        slot = self._slots.get(self._hashes.get(path, ""))
        if slot is None or not self._writable or image.shape != self._shape:
            return
        if hashlib.sha256(content.data).hexdigest() != self._hashes[path]:
            return
        pixels = np.ascontiguousarray(image).reshape(-1)
        try:
            self._write(pixels, self._start + slot * self._stride)
            self._write(_checksum(pixels), slot * CHECKSUM_BYTES)
        except OSError:
            self._writable = False

    def _write(self, content: NDArray[Any], offset: int) -> None:
        """Write with a system call: writing to a map kills the process when the disk is full."""
        if os.pwrite(self._file, content.data, offset) != content.nbytes:
            raise OSError


def _open_locked(file: Path) -> int:
    """A descriptor of a file that nobody removes any more, made where it is not there."""
    while True:
        descriptor = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
        fcntl.flock(descriptor, fcntl.LOCK_SH)  # a locked file is not removed
        try:
            if os.path.samestat(os.fstat(descriptor), file.stat()):
                return descriptor
        except FileNotFoundError:
            pass
        os.close(descriptor)  # it was removed between the two calls


@contextlib.contextmanager
def hold_caches(folder: Path) -> Iterator[Callable[[], None]]:
    """In this block `list_unused` and `remove_unused` leave all caches in `folder` alone.

    For a run that reads and checks its images: which cache it will open is known afterwards. It
    gets a function that ends this earlier, once its caches are open.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            file = held.enter_context((folder / HELD).open("ab"))
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_SH)
        yield held.close


def _is_held(folder: Path) -> bool:
    """Whether a run that may need any of the caches in `folder` is being set up."""
    return (folder / HELD).exists() and not _is_unused(folder / HELD)


def open_cache(
    folder: Path, key: str, shape: tuple[int, ...], hashes: Mapping[str, str]
) -> tuple[PixelCache | None, str]:
    """The cache in `folder` for these images and a pipeline's key.

    Returns None and a sentence with the reason when images cannot be cached.
    """
    digests = sorted(set(hashes.values()))
    if not digests:
        return None, ""
    name = hashlib.sha256("\n".join([key, *digests]).encode()).hexdigest()[:16]
    file = folder / f"pixels-{name}.u8"
    needed = len(digests) * (_round_up(int(np.prod(shape)), PAGE) + CHECKSUM_BYTES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if not _make_room(folder, file, needed):
            return (
                None,
                (
                    f"images are not cached: they need {needed / 1e9:.1f} GB, more than half of"
                    f" the free space in {folder}"
                ),
            )
        cache = PixelCache(file, shape, hashes)
        os.utime(file)
    except OSError as error:
        return None, f"images are not cached: {folder}: {error.strerror}"
    return cache, ""


def _make_room(folder: Path, file: Path, needed: int) -> bool:
    """Remove unused files, oldest first, until few are left and `file` fits.

    It fits when it takes at most half of the free space.
    """
    others = sorted((other for other in folder.glob("pixels-*.u8") if other != file), key=_last_use)
    held = file.stat().st_blocks * 512 if file.exists() else 0

    def fits() -> bool:
        return (needed - held) * 2 <= shutil.disk_usage(folder).free

    for number, other in enumerate(others):
        if fits() and len(others) - number < MAX_FILES:
            break
        _remove_unlocked(other)  # also what a run may open soon: this one needs the room now
    return fits()


def _last_use(file: Path) -> float:
    try:
        return file.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def list_caches(folder: Path) -> list[Path]:
    """All caches, the one used last at the end."""
    return sorted(folder.glob("pixels-*.u8"), key=_last_use)


def list_unused(folder: Path) -> list[Path]:
    """The caches that no process uses, except the one used last; none while a run is set up."""
    if _is_held(folder):
        return []
    return [file for file in list_caches(folder)[:-1] if _is_unused(file)]


def _is_unused(file: Path) -> bool:
    if fcntl is None:
        return True
    try:
        with file.open("rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def remove_unused(file: Path) -> bool:
    """Remove a cache unless a process uses it or may soon; returns whether it was removed."""
    return not _is_held(file.parent) and _remove_unlocked(file)


def _remove_unlocked(file: Path) -> bool:
    """Remove a cache unless a process has it open; returns whether it was removed."""
    with contextlib.suppress(OSError), file.open("rb") as handle:
        if fcntl is not None:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        file.unlink()
        return True
    return False


def _checksum(pixels: NDArray[np.uint8]) -> NDArray[np.uint64]:
    """[1]: the sum of an image's 8-byte words and 1, modulo 2^64.

    Pages that were not written are zeros and change the sum.
    """
    whole = len(pixels) - len(pixels) % CHECKSUM_BYTES
    total: NDArray[np.uint64] = np.add.reduce(pixels[:whole].view(np.uint64), keepdims=True)
    total += np.add.reduce(pixels[whole:], dtype=np.uint64) + np.uint64(1)
    return total


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
