"""Every reader of a ledger learns of a row that was changed under its old hash."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.ledger_rows import add, change
from tests.support.workspaces import make_workspace
from tracker.commands.table import app
from tracker.ledger import chain, integrity
from tracker.ledger.connection import one_moment
from tracker.ledger.integrity import CHECKED_FILE, check_integrity
from tracker.ledger.transfer import copy_ledger, restore_ledger
from tracker.workspace.tracker_toml import Workspace

FORGED = "UPDATE scores SET value = 0.99 WHERE seq = 2"
CHANGED = "row 2 (score of submission 1) was changed after it was written"
WARNING = f"{CHANGED}: a score of submission 1 may be false"


@pytest.fixture(autouse=True)
def settled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests do not wait until a file is old enough to be noted, and each is a new process."""
    integrity._found.clear()
    monkeypatch.setattr(integrity, "SETTLED_NS", 0)


def refuse_to_hash(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_query: object) -> None:
        raise AssertionError("the rows were hashed")

    monkeypatch.setattr(chain, "find_row_problems", fail)


def ledger_file(workspace: Workspace) -> Path:
    return Path(workspace.ledger_url.removeprefix("sqlite:///"))


def test_a_changed_row_is_found_and_named_with_the_submission_whose_score_it_is(
    ledger_url: str, tmp_path: Path
) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    add(workspace, "0", 0.5)
    add(workspace, "1", 0.6)
    assert check_integrity(workspace, in_full=True).problem == ""
    change(workspace.ledger_url, FORGED)
    assert check_integrity(workspace, in_full=True).warning == WARNING
    is_sqlite = workspace.ledger_url.startswith("sqlite")  # elsewhere only the owner can do this
    assert check_integrity(workspace).warning == (WARNING if is_sqlite else "")
    change(workspace.ledger_url, "UPDATE submissions SET memo = 'x' WHERE seq = 3")
    problem = check_integrity(workspace, in_full=True).problem
    assert problem == f"{CHANGED}, and so is 1 other row"


def test_verify_hashes_the_rows_once_and_notes_it_for_the_next_commands(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace, "0", 0.5)
    monkeypatch.chdir(workspace.root)
    refuse_to_hash(monkeypatch)
    done = CliRunner().invoke(app, ["ledger", "verify"], catch_exceptions=False)
    assert done.exit_code == 0
    assert check_integrity(workspace).problem == ""
    integrity._found.clear()  # another process
    assert check_integrity(workspace).problem == ""
    change(workspace.ledger_url, FORGED)
    with pytest.raises(AssertionError):
        check_integrity(workspace)


def test_a_file_that_nobody_has_written_to_is_not_hashed_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace, "0", 0.5)
    assert check_integrity(workspace).problem == ""
    copy_ledger(workspace.ledger_url, workspace.root / "backup.db")  # a reader changes nothing
    with monkeypatch.context() as patch:
        refuse_to_hash(patch)
        assert check_integrity(workspace).problem == ""
        with pytest.raises(AssertionError):
            check_integrity(workspace, anew=True)
        add(workspace, "1")
        with pytest.raises(AssertionError):
            check_integrity(workspace)
    integrity._found.clear()  # another process
    change(workspace.ledger_url, FORGED)
    assert check_integrity(workspace).warning == WARNING
    integrity._found.clear()
    refuse_to_hash(monkeypatch)
    assert check_integrity(workspace).warning == WARNING  # a false row is not hashed again either


def test_a_change_behind_a_time_that_was_set_back_is_found(workspace: Workspace) -> None:
    add(workspace, "0", 0.5)
    assert check_integrity(workspace).problem == ""
    path = ledger_file(workspace)
    before = path.stat()
    change(workspace.ledger_url, FORGED)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size
    assert check_integrity(workspace).warning == WARNING


def test_a_change_during_one_moment_is_not_noted_as_whole(workspace: Workspace) -> None:
    add(workspace, "0", 0.5)
    with one_moment(workspace.ledger_url):
        change(workspace.ledger_url, FORGED)
        assert check_integrity(workspace).warning == WARNING
    assert check_integrity(workspace).warning == WARNING


def test_what_was_just_written_is_not_noted_and_a_damaged_note_is_none(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace, "0", 0.5)
    note = workspace.state_dir / CHECKED_FILE
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "SETTLED_NS", 10**15)
        assert check_integrity(workspace).problem == ""
        assert not note.exists()
    for text in ("", "[1]", '{"ledger": 3}', note.name):
        note.write_text(text)
        integrity._found.clear()  # another process
        assert check_integrity(workspace).problem == ""
    assert '"rows": []' in note.read_text()


def test_a_missing_guard_is_found_and_restore_makes_it_again(workspace: Workspace) -> None:
    add(workspace, "0", 0.5)
    path = ledger_file(workspace)
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("DROP TRIGGER chain_no_delete")
    missing = "the guard chain_no_delete is missing: rows can be changed"
    assert check_integrity(workspace).problem == missing
    copy_ledger(workspace.ledger_url, workspace.root / "copy.db")
    for file in path.parent.glob("ledger.db*"):
        file.unlink()
    assert restore_ledger(workspace.root / "copy.db", workspace.ledger_url) == 2
    assert check_integrity(workspace).problem == ""


def test_a_large_ledger_is_checked_where_that_is_worth_seconds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(workspace, "0", 0.5)
    change(workspace.ledger_url, FORGED)
    monkeypatch.setattr(integrity, "MOST_ROWS", 1)
    found = check_integrity(workspace)
    assert (found.problem, found.unchecked) == ("", 2)
    assert check_integrity(workspace, in_full=True).problem == CHANGED
    assert check_integrity(workspace).problem == CHANGED  # known now


@pytest.mark.parametrize("words", ["sota", "leaderboard", "tree", "report", "audit"])
def test_reading_commands_warn_of_a_false_score(workspace: Workspace, words: str) -> None:
    add(workspace, "0", 0.5)
    change(workspace.ledger_url, FORGED)
    done = run_tracker(*words.split(), cwd=workspace.root, **NO_MLFLOW)
    assert f"warning: the ledger was changed: {WARNING}" in done.stderr
    assert done.stderr.count("the ledger was changed") == 1
    if words == "report":
        assert f"<bdi>{WARNING}" in (workspace.root / "report.html").read_text()


def test_select_says_first_that_a_score_may_be_false(workspace: Workspace) -> None:
    for letter, value in (("0", 0.5), ("1", 0.6), ("a", 0.7)):
        add(workspace, letter, value)
    change(workspace.ledger_url, FORGED)
    done = run_tracker("select", cwd=workspace.root, **NO_MLFLOW)
    first = f"this choice may be wrong, because the ledger was changed: {WARNING}"
    assert " ".join(done.stdout.split()).startswith(first)
    done = run_tracker("select", "--json", cwd=workspace.root, **NO_MLFLOW)
    assert f'"ledger_problem": "{WARNING}"' in done.stdout


def test_nothing_is_noted_of_a_young_file_whose_times_are_whole_seconds(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may change once more within that second, and look as before."""
    read_state = integrity._read_state

    def read_seconds(url: str) -> list[object]:
        version, *files = read_state(url)
        second = integrity.SECOND_NS
        return [version, *([*f[:2], *(at // second * second for at in f[2:])] for f in files)]

    add(workspace, "0", 0.5)
    monkeypatch.setattr(integrity, "COARSE_NS", 10**15)
    note = workspace.state_dir / CHECKED_FILE
    with monkeypatch.context() as patch:
        patch.setattr(integrity, "_read_state", read_seconds)
        assert check_integrity(workspace).problem == ""
        assert not note.exists()
    assert check_integrity(workspace).problem == ""
    assert note.exists()
