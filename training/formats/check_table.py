"""What earlier checks of image files found, as a table on disk: columns of numbers, not objects.

The zip of numpy's columns has a checksum for each, so a torn or damaged table is noticed, and the
files are checked again.
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import StorageError
from tracker.training.files import write_bytes

if TYPE_CHECKING:
    from numpy.typing import NDArray

BETWEEN = "\0"  # which no file name has
DIGEST_BYTES = 32  # of SHA-256


def list_damages() -> tuple[type[Exception], ...]:
    """The errors of numpy, zipfile and json about a file that is no table."""
    import zipfile  # 1 ms that only a reader of the table needs
    import zlib

    usual = (OSError, ValueError, OverflowError, TypeError, LookupError, AttributeError, EOFError)
    return (*usual, RuntimeError, MemoryError, zipfile.BadZipFile, zlib.error)


@dataclass(frozen=True, slots=True)
class ImageCheck:
    """The result of a check; `problem` is empty when the image can be used.

    Size in bytes, mtime in nanoseconds; `sha256` is empty where the file could not be read.
    """

    size: int
    mtime_ns: int
    sha256: str
    problem: str


@dataclass(frozen=True)
class CheckTable:
    """The checks of `row_of`, {file: row}: int64 [n] and uint8 [n, 32]; problems by row."""

    row_of: Mapping[str, int] = field(default_factory=dict)
    sizes: Any = ()
    mtimes: Any = ()
    digests: Any = ()
    problems: Mapping[int, str] = field(default_factory=dict)

    @classmethod
    def read(cls, file: Path) -> CheckTable:
        """The table, or the JSON of earlier versions beside it; empty where both are damaged."""
        with suppress(*list_damages()):
            return _read_columns(file)
        with suppress(*list_damages()):
            raw: dict[str, dict[str, Any]] = json.loads(old_file(file).read_text(encoding="utf-8"))
            checks = {name: ImageCheck(**fields) for name, fields in raw.items()}
            _to_bytes([*checks, *(check.problem for check in checks.values())])  # as `save` does
            return _build(checks)
        return cls()

    def list_changed(self, files: Sequence[str]) -> list[str]:
        """The files that are not as they were when they were checked, or never were."""
        if not self.row_of:
            return list(files)
        row_of, changed = self.row_of, []
        sizes, mtimes = memoryview(self.sizes), memoryview(self.mtimes)  # whose items are ints
        for name in files:
            row = row_of.get(name)
            if row is None:
                changed.append(name)
                continue
            try:
                now = os.stat(name)  # noqa: PTH116  (a Path takes longer)
            except OSError:
                changed.append(name)
                continue
            same = sizes[row] == now.st_size and mtimes[row] == now.st_mtime_ns
            if not same or not stat.S_ISREG(now.st_mode):
                changed.append(name)
        return changed

    def list_digests(self, files: Iterable[str]) -> dict[str, str]:
        """The SHA-256 of files that are in the table, as hexadecimal digits."""
        digits, step = self.digests.tobytes().hex(), 2 * DIGEST_BYTES
        row_of = self.row_of
        starts = ((name, row_of[name] * step) for name in files)
        return {name: digits[start : start + step] for name, start in starts}

    def list_problems(self, files: Sequence[str]) -> dict[str, str]:
        """The problems of files that are in the table."""
        if not self.problems:
            return {}
        rows = ((name, self.row_of[name]) for name in files)
        return {name: self.problems[row] for name, row in rows if row in self.problems}

    def extend(self, checks: Mapping[str, ImageCheck]) -> CheckTable:
        """This table with the results of new checks in place of the earlier ones."""
        import numpy as np

        new = _build(checks)
        if not self.row_of:
            return new
        kept = [name for name in self.row_of if name not in checks]
        rows = np.array([self.row_of[name] for name in kept], dtype=np.int64)
        problems = {
            place: self.problems[row]
            for place, row in enumerate(rows.tolist())
            if row in self.problems
        }
        problems |= {len(kept) + row: text for row, text in new.problems.items()}
        return CheckTable(
            {name: row for row, name in enumerate([*kept, *new.row_of])},
            np.concatenate([self.sizes[rows], new.sizes]),
            np.concatenate([self.mtimes[rows], new.mtimes]),
            np.concatenate([self.digests[rows], new.digests]),
            problems,
        )

    def save(self, file: Path) -> None:
        """Write the table, and remove the JSON of earlier versions; nothing where that fails."""
        import numpy as np

        with suppress(OSError, StorageError):  # only time is lost
            file.parent.mkdir(parents=True, exist_ok=True)
            content = BytesIO()
            np.savez(
                content,
                files=_to_bytes(self.row_of),
                sizes=self.sizes,
                mtimes=self.mtimes,
                digests=self.digests,
                problem_rows=np.array(list(self.problems), dtype=np.int64),
                problems=_to_bytes(self.problems.values()),
            )
            write_bytes(file, content.getvalue())
            old_file(file).unlink(missing_ok=True)


def old_file(file: Path) -> Path:
    """Where earlier versions kept the same as JSON."""
    return file.with_suffix(".json")


def _read_columns(file: Path) -> CheckTable:
    """Raises one of `list_damages`."""
    import numpy as np

    with np.load(BytesIO(file.read_bytes()), allow_pickle=False) as columns:
        files = _to_texts(columns["files"])
        sizes, mtimes, digests = (columns[name] for name in ("sizes", "mtimes", "digests"))
        rows, texts = columns["problem_rows"].tolist(), _to_texts(columns["problems"])
    count = len(files)
    shapes = (sizes.shape, mtimes.shape, digests.shape)
    types = (sizes.dtype, mtimes.dtype, digests.dtype)
    if shapes != ((count,), (count,), (count, DIGEST_BYTES)):
        raise ValueError(f"columns of {shapes}")
    if types != (np.int64, np.int64, np.uint8):
        raise ValueError(f"columns of {types}")
    row_of = {name: row for row, name in enumerate(files)}
    return CheckTable(row_of, sizes, mtimes, digests, dict(zip(rows, texts, strict=True)))


def _build(checks: Mapping[str, ImageCheck]) -> CheckTable:
    """The table of the files that could be read: what is not there is looked for each time."""
    import numpy as np

    read = {name: check for name, check in checks.items() if check.sha256}
    digests = bytes.fromhex("".join(check.sha256 for check in read.values()))
    return CheckTable(
        {name: row for row, name in enumerate(read)},
        np.array([check.size for check in read.values()], dtype=np.int64),
        np.array([check.mtime_ns for check in read.values()], dtype=np.int64),
        np.frombuffer(digests, dtype=np.uint8).reshape(len(read), DIGEST_BYTES),
        {row: check.problem for row, check in enumerate(read.values()) if check.problem},
    )


def _to_bytes(texts: Iterable[str]) -> NDArray[Any]:
    import numpy as np

    joined = BETWEEN.join(texts)
    return np.frombuffer(joined.encode("utf-8", "surrogateescape"), dtype=np.uint8)


def _to_texts(content: NDArray[Any]) -> list[str]:
    joined = content.tobytes().decode("utf-8", "surrogateescape")
    return joined.split(BETWEEN) if joined else []
