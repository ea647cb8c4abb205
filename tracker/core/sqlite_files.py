"""Open SQLite files for reading: a journal that a killed writer left is rolled back before."""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from pathlib import Path
from urllib.parse import quote


def open_read_only(path: Path, *, timeout_s: float) -> sqlite3.Connection:
    """A connection that changes nothing; it waits so long for a writer. Raises sqlite3.Error.

    SQLite refuses to read a file with a hot journal ("attempt to write a readonly database") where
    it may not write: so such a journal is rolled back first, as the next writer would do it.
    """
    uri = f"file:{quote(str(path))}"
    if Path(f"{path}-journal").exists():
        # a read-only folder: the caller gets SQLite's error
        with (
            suppress(sqlite3.Error),
            closing(sqlite3.connect(f"{uri}?mode=rw", uri=True, timeout=timeout_s)) as writer,
        ):
            writer.execute("SELECT count(*) FROM sqlite_master")
    return sqlite3.connect(f"{uri}?mode=ro", uri=True, timeout=timeout_s)
