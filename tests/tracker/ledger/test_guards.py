"""`ledger verify` compares the whole catalog of the database, and a damaged one takes no
submission."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.support.ledger_rows import add, change
from tests.support.servers import PostgresServer
from tests.support.workspaces import make_workspace
from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.workspace.tracker_toml import Workspace

UNIQUE = "sqlite_autoindex_submissions_2"


def rewrite_catalog(workspace: Workspace, *statements: str) -> None:
    """What somebody with the file can do: the catalog is a table like others."""
    with closing(sqlite3.connect(workspace.root / "ledger.db")) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def empty_unique_index(workspace: Workspace, name: str = UNIQUE) -> None:
    """Point the index at the empty page of another one, which then is in the catalog no more."""
    rewrite_catalog(workspace, "CREATE TABLE other (x TEXT UNIQUE)")
    rewrite_catalog(
        workspace,
        "UPDATE sqlite_master SET rootpage = (SELECT rootpage FROM sqlite_master WHERE name ="
        f" 'sqlite_autoindex_other_1') WHERE name = '{name}'",
        "DELETE FROM sqlite_master WHERE tbl_name = 'other'",
    )


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "UPDATE migrations SET name = 'schema 9'",
            "the row 3 of the table migrations was changed",
        ),
        (
            "UPDATE migrations SET applied_at = 'yesterday'",
            "the row 3 of the table migrations was changed",
        ),
        (
            "INSERT INTO migrations VALUES (0, 'schema 0', '2026-01-01T00:00:00.000000Z')",
            "the table migrations has the versions [0, 3], not those up to 3",
        ),
        ("DROP INDEX scores_by_value", "the index scores_by_value is missing"),
        (
            "CREATE UNIQUE INDEX one ON scores (submission)",
            "the index one is not one of the ledger's: it may ",
        ),
    ],
)
def test_a_changed_row_of_migrations_and_a_changed_index_are_named(
    ledger_url: str, tmp_path: Path, statement: str, problem: str
) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    add(workspace, "0", 0.5)
    change(workspace.ledger_url, statement)
    assert verify_ledger(workspace.ledger_url).problem.startswith(problem)


@pytest.mark.parametrize(
    ("statement", "name"),
    [
        (
            "INSERT INTO sqlite_master VALUES ('trigger', 'sqlite_x', 'scores', 0, 'CREATE TRIGGER"
            " sqlite_x BEFORE INSERT ON scores BEGIN SELECT RAISE(IGNORE); END')",
            "the trigger sqlite_x is not one of the ledger's",
        ),
        (
            "UPDATE sqlite_master SET name = 'sqlite_y', sql = replace(sql, 'notes_no_update',"
            " 'sqlite_y') WHERE name = 'notes_no_update'",
            "the trigger sqlite_y is not one of the ledger's",
        ),
    ],
)
def test_a_trigger_that_the_catalog_hides_is_found(
    workspace: Workspace, statement: str, name: str
) -> None:
    add(workspace, "0", 0.5)
    rewrite_catalog(workspace, statement)
    assert verify_ledger(workspace.ledger_url).problem.startswith(name)


@pytest.mark.parametrize("name", [UNIQUE, "sqlite_autoindex_submissions_1"])
def test_an_emptied_unique_index_is_found_and_takes_no_submission(
    workspace: Workspace, name: str
) -> None:
    add(workspace, "0", 0.5)
    empty_unique_index(workspace, name)
    assert "the file is damaged: " in verify_ledger(workspace.ledger_url).problem
    for letter in "01":
        with pytest.raises(RefusedError) as refused:
            add(workspace, letter)
        # what the index of fingerprints still finds is a duplicate, whatever the other one lacks
        if letter == "1" or name == UNIQUE:
            assert re.search(r"lacks 1 of its rows.*nothing was added", str(refused.value))
        else:
            assert isinstance(refused.value, DuplicateError)
    rewrite_catalog(workspace, "REINDEX")
    with pytest.raises(DuplicateError):
        add(workspace, "0")


def test_a_missing_guard_takes_no_submission(ledger_url: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    is_sqlite = workspace.ledger_url.startswith("sqlite")
    engine = sa.create_engine(workspace.ledger_url)
    with engine.begin() as connection:
        drop = "notes_no_update" if is_sqlite else "notes_no_change ON notes"
        connection.exec_driver_sql(f"DROP TRIGGER {drop}")
    engine.dispose()
    with pytest.raises(RefusedError, match=r"the guard notes_no_.* is missing"):
        add(workspace, "0")


def test_views_and_indexes_of_the_owners_own_are_no_problem(workspace: Workspace) -> None:
    add(workspace, "0", 0.5)
    with closing(sqlite3.connect(workspace.root / "ledger.db")) as connection:
        connection.execute("CREATE VIEW mine AS SELECT number, memo FROM submissions")
        connection.execute("CREATE INDEX by_author ON submissions (author)")
        connection.execute("ANALYZE")
    assert verify_ledger(workspace.ledger_url).problem == ""


def test_zero_that_became_minus_zero_is_found(workspace: Workspace) -> None:
    """SQLite itself writes -0.0 as 0.0: only a column without its type takes it."""
    add(workspace, "0", 0.0)
    declared, untyped = "value       DOUBLE PRECISION NOT NULL", "value       BLOB NOT NULL"
    swap = "UPDATE sqlite_master SET sql = replace(sql, '{}', '{}') WHERE name = 'scores'"
    rewrite_catalog(workspace, swap.format(declared, untyped))
    change(workspace.ledger_url, "UPDATE scores SET value = (SELECT -1e-300 * 1e-300)")
    rewrite_catalog(workspace, swap.format(untyped, declared))
    assert verify_ledger(workspace.ledger_url).problem == (
        "row 2 (score of submission 1) was changed after it was written"
    )


def test_a_score_of_minus_zero_is_stored_as_zero(ledger_url: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    add(workspace, "0")
    with open_ledger(workspace) as ledger:
        ledger.append_missing(1, {("public", "f1"): -0.0})
    assert verify_ledger(workspace.ledger_url).problem == ""


@pytest.mark.parametrize(
    ("statement", "problem"),
    [
        (
            "ALTER TABLE scores DROP CONSTRAINT scores_submission_fkey",
            "the guard scores_submission_fkey is missing",
        ),
        (
            "ALTER TABLE scores DROP CONSTRAINT scores_split_check, ADD CONSTRAINT"
            " scores_split_check CHECK (split IN ('public', 'private', 'overall') OR true)",
            "the guard scores_split_check is not as",
        ),
        (
            "UPDATE pg_index SET indisready = false WHERE indexrelid ="
            " 'submissions_predictions_fingerprint_key'::regclass",
            "the index submissions_predictions_fingerprint_key is not as",
        ),
        (
            "UPDATE pg_trigger SET tgenabled = 'D' WHERE tgisinternal AND tgrelid ="
            " 'scores'::regclass",
            "the foreign keys of scores are switched off",
        ),
        (
            "ALTER TABLE submissions DISABLE ROW LEVEL SECURITY",
            "the row-level security of submissions is not as",
        ),
        (
            "CREATE POLICY hide ON submissions USING (number > 1)",
            "the policy hide on submissions is not one of the ledger's",
        ),
        ("DROP POLICY scores_read ON scores", "the policy scores_read on scores is missing"),
        (
            "ALTER POLICY runs_read ON runs USING (author <> 'mina')",
            "the policy runs_read on runs is not as",
        ),
        (
            "DROP POLICY runs_read ON runs; CREATE POLICY runs_read ON runs USING (true)",
            "the policy runs_read on runs is not as",
        ),
        (
            "DROP TRIGGER shared_settings_no_change ON shared_settings",
            "the guard shared_settings_no_change is missing",
        ),
    ],
)
def test_the_catalog_of_postgresql_is_compared(
    postgres_server: PostgresServer, tmp_path: Path, statement: str, problem: str
) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=postgres_server.create_database())
    change(workspace.ledger_url, "SELECT 1")
    assert verify_ledger(workspace.ledger_url).problem == ""
    change(workspace.ledger_url, statement)
    assert verify_ledger(workspace.ledger_url).problem.startswith(problem)
    with pytest.raises(RefusedError, match="nothing was added"):
        add(workspace, "0")
