"""SQLite files that a writer left in the middle of a transaction, by kill -9 or on a full disk."""

from __future__ import annotations

import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.ledger_rows import draft
from tracker.core.sqlite_files import open_read_only
from tracker.ledger.append import open_ledger
from tracker.ledger.read import list_submissions
from tracker.workspace.mlflow_paths import update_moved_paths
from tracker.workspace.tracker_toml import Workspace

JOURNAL = "-journal"


def leave_in_transaction(path: Path) -> None:
    """Have a file as a writer leaves it that dies when it has written half of a transaction."""
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("PRAGMA journal_mode = DELETE")
        writer.execute("PRAGMA cache_size = 1")  # pages go to the file before the commit
        writer.execute("BEGIN")
        writer.execute("CREATE TABLE half (text)")
        writer.executemany("INSERT INTO half VALUES (?)", [("x" * 2000,)] * 50)
        shutil.copy(path, path.with_name("copy"))
        shutil.copy(f"{path}{JOURNAL}", path.with_name(f"copy{JOURNAL}"))
    path.with_name("copy").rename(path)
    path.with_name(f"copy{JOURNAL}").rename(f"{path}{JOURNAL}")


def test_a_journal_that_a_dead_writer_left_is_rolled_back_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "a ?.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE whole (text)")
    leave_in_transaction(path)
    with closing(open_read_only(path, timeout_s=5)) as reader:
        assert reader.execute("SELECT name FROM sqlite_master").fetchall() == [("whole",)]
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("DROP TABLE whole")
    assert not Path(f"{path}{JOURNAL}").exists()


def test_the_ledger_and_mlflow_are_read_after_a_writer_died(
    workspace: Workspace, mlflow_db: Path
) -> None:
    with open_ledger(workspace) as ledger:
        ledger.append_submission(draft(), workspace.competition)
    database = workspace.root / "mlflow.db"
    shutil.copy(mlflow_db, database)
    for path in (workspace.root / "ledger.db", database):
        leave_in_transaction(path)
    assert [row.number for row in list_submissions(workspace)] == [1]
    (workspace.state_dir / "location.json").unlink()
    assert update_moved_paths(workspace) == ""
    assert not list(workspace.root.glob(f"*{JOURNAL}"))
