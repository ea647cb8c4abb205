"""Backup and restore: what lies in the way is never overwritten, mixed in or half-written."""

from __future__ import annotations

import resource
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.ledger_rows import add
from tests.support.servers import PostgresServer
from tracker.core.errors import LedgerError
from tracker.ledger.append import create_ledger
from tracker.ledger.read import list_submissions
from tracker.ledger.transfer import copy_ledger, restore_ledger
from tracker.training.errors import StorageError
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def backup(workspace: Workspace, tmp_path: Path) -> Path:
    """A backup of a ledger with one submission and its score."""
    add(workspace, "0", 0.5)
    copy_ledger(workspace.ledger_url, tmp_path / "b.db")
    return tmp_path / "b.db"


@pytest.mark.parametrize("end", ["-wal", "-shm", "-journal"])
def test_nothing_is_restored_beside_the_log_of_a_lost_ledger(
    workspace: Workspace, backup: Path, end: str
) -> None:
    path = workspace.root / "ledger.db"
    path.unlink()
    log = path.with_name(path.name + end)
    log.write_bytes(b"rows of the lost ledger")
    with pytest.raises(
        LedgerError, match=rf"ledger\.db{end} belongs to a ledger that is gone"
    ) as caught:
        restore_ledger(backup, workspace.ledger_url)
    assert "move away all files" in caught.value.hint
    with pytest.raises(LedgerError, match="belongs to a ledger that is gone"):
        copy_ledger(f"sqlite:///{backup}", path)
    with pytest.raises(LedgerError, match="belongs to a ledger that is gone"):
        create_ledger(workspace.ledger_url)
    assert log.read_bytes() == b"rows of the lost ledger"
    assert not path.exists()


def test_a_missing_ledger_whose_log_is_left_is_told_so(workspace: Workspace, backup: Path) -> None:
    path = workspace.root / "ledger.db"
    path.with_name("ledger.db-wal").write_bytes(b"rows")
    path.unlink()
    with pytest.raises(LedgerError, match="no ledger at") as caught:
        list_submissions(workspace)
    assert "ledger.db-wal" in caught.value.hint


@pytest.mark.parametrize("wrong", ["text", "foreign", "gap"])
def test_what_cannot_be_restored_leaves_an_empty_postgresql_empty(
    postgres_server: PostgresServer, backup: Path, wrong: str
) -> None:
    url = postgres_server.create_database()
    if wrong == "text":
        backup.write_text("not a database, but long enough to have been one" * 100)
    else:
        with sqlite3.connect(backup) as connection:
            connection.execute("DROP TRIGGER chain_no_update")
            connection.execute(
                "DROP TABLE migrations" if wrong == "foreign" else "UPDATE chain SET previous = 'x'"
            )
        connection.close()
    with pytest.raises(LedgerError) as caught:
        restore_ledger(backup, url)
    assert postgres_server.password not in str(caught.value)
    engine = sa.create_engine(url)
    assert sa.inspect(engine).get_table_names() == []
    engine.dispose()


def test_without_room_a_backup_and_a_restore_say_so_and_leave_nothing(
    workspace: Workspace, backup: Path, tmp_path: Path
) -> None:
    (tmp_path / "new").mkdir()
    target = tmp_path / "new" / "c.db"
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (20_000, before[1])
    )  # the system writes no byte beyond it
    try:
        with pytest.raises(StorageError, match=r"c\.db"):
            copy_ledger(workspace.ledger_url, target)
        with pytest.raises(StorageError, match=r"c\.db"):
            restore_ledger(backup, f"sqlite:///{target}")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert list(target.parent.iterdir()) == []


def test_a_backup_of_another_program_s_database_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("CREATE TABLE things (a)")
    connection.close()
    with pytest.raises(LedgerError, match=r"other\.db"):
        copy_ledger(f"sqlite:///{tmp_path / 'other.db'}", tmp_path / "b.db")
    assert not (tmp_path / "b.db").exists()
