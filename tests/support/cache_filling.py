"""Fills a cache of prepared images; the N-th write is cut by kill -9.

`python -m tests.support.cache_filling FOLDER [N]`
"""

from __future__ import annotations

import hashlib
import os
import signal
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tracker.training.input.cache import PixelCache, open_cache

SHAPE = (40, 50, 3)


def list_files(folder: Path) -> list[Path]:
    """The files that stand for photographs."""
    return sorted(folder.glob("*.txt"))


def draw(path: Path) -> NDArray[np.uint8]:
    """The picture that the head of a pipeline would make of this file."""
    seed = int(hashlib.sha256(path.read_bytes()).hexdigest()[:8], 16)
    return np.random.default_rng(seed).integers(0, 256, SHAPE, dtype=np.uint8)


def open_for(folder: Path, files: list[Path], key: str = "key") -> PixelCache:
    """The cache of these files."""
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}
    cache, note = open_cache(folder / "cache", key, SHAPE, hashes)
    assert cache is not None, note
    return cache


def keep(cache: PixelCache, path: Path) -> None:
    """Keep the picture of one file."""
    cache.store(str(path), np.fromfile(path, dtype=np.uint8), draw(path))


def die_at_write(number: int) -> None:
    """Write half of what the `number`-th write is to write, and die."""
    write, done = os.pwrite, 0

    def cut(file: int, content: memoryview, offset: int) -> int:
        nonlocal done
        done += 1
        if done < number:
            return write(file, content, offset)
        write(file, content.cast("B")[: content.nbytes // 2], offset)
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError

    os.pwrite = cut  # type: ignore[assignment]


def main() -> None:
    """Fill the cache in random order, as an epoch does."""
    folder = Path(sys.argv[1])
    if len(sys.argv) > 2:
        die_at_write(int(sys.argv[2]))
    files = list_files(folder)
    cache = open_for(folder, files)
    for index in np.random.default_rng().permutation(len(files)):
        if cache.find(str(files[index])) is None:
            keep(cache, files[index])


if __name__ == "__main__":
    main()
