"""What members of a team may do in the ledger's PostgreSQL, and what they may not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import psycopg
import pytest

from tests.support.ledger_rows import add, draft
from tests.support.servers import PostgresServer
from tests.support.workspaces import make_workspace
from tracker.core.errors import LedgerError, RefusedError
from tracker.jobs.sweep_storage import open_storage
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import libpq_url
from tracker.ledger.read import list_submissions
from tracker.ledger.roles import build_url, find_group, grant_member, make_password, revoke_member
from tracker.ledger.shared_settings import read_shared, share
from tracker.ledger.team_runs import TeamRuns
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

TABLES = ("migrations", "chain", "runs", "submissions", "scores", "notes", "shared_settings")
OWNER = "owner"


@pytest.fixture(scope="module")
def owners(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A team's ledger as the compose file makes it: its owner may make roles, and is no
    superuser."""
    url = postgres_server.create_database()
    name = url.rpartition("/")[2]
    owner, secret = f"{name}_{OWNER}", make_password()
    with psycopg.connect(libpq_url(url), autocommit=True) as admin:
        admin.execute(f"CREATE ROLE {owner} LOGIN CREATEROLE CREATEDB PASSWORD '{secret}'".encode())
        admin.execute(f"ALTER DATABASE {name} OWNER TO {owner}".encode())
    owners_url = build_url(url, user=owner, password=secret)
    workspace = make_workspace(tmp_path_factory.mktemp("team") / "ws", ledger_url=owners_url)
    add(workspace, "0", 0.5)
    return workspace


@pytest.fixture(scope="module")
def member(owners: Workspace) -> Workspace:
    """The owner's workspace with mina's rights."""
    return join(owners, "mina")


def join(owners: Workspace, name: str) -> Workspace:
    secret = make_password()
    # roles belong to the whole server, which other tests use, too
    role = f"{name}.{find_group(owners.ledger_url).role}".replace("_members", "")
    assert grant_member(owners.ledger_url, role, secret)
    url = build_url(owners.ledger_url, user=role, password=secret)
    return replace(owners, ledger_url=url)


def run_as(workspace: Workspace, *statements: str) -> None:
    with psycopg.connect(libpq_url(workspace.ledger_url)) as connection:
        for statement in statements:
            connection.execute(statement.encode())


FORBIDDEN = [
    *(f"UPDATE {table} SET {column} = {column}" for table, column in {
        "migrations": "name", "chain": "hash", "runs": "name", "submissions": "memo",
        "scores": "value", "notes": "text", "shared_settings": "text",
    }.items()),
    *(f"DELETE FROM {table}" for table in TABLES),
    *(f"TRUNCATE {table} CASCADE" for table in TABLES),
    *(f"DROP TABLE {table} CASCADE" for table in TABLES),
    *(f"ALTER TABLE {table} DISABLE TRIGGER ALL" for table in TABLES),
    *(f"ALTER TABLE {table} DISABLE ROW LEVEL SECURITY" for table in TABLES),
    "INSERT INTO migrations VALUES (9, 'schema 9', '2026-01-01T00:00:00.000000Z')",
    "INSERT INTO shared_settings VALUES (9, '', '', '', '')",
    "DROP TRIGGER scores_no_change ON scores",
    "DROP POLICY scores_add ON scores",
    "CREATE POLICY mine ON scores FOR UPDATE USING (true)",
    "CREATE TRIGGER mine BEFORE INSERT ON scores FOR EACH ROW EXECUTE FUNCTION refuse_change()",
    "CREATE INDEX mine ON scores (value)",
    "CREATE RULE mine AS ON INSERT TO scores DO INSTEAD NOTHING",
    "ALTER TABLE scores ADD COLUMN mine TEXT",
    "ALTER TABLE scores OWNER TO CURRENT_USER",
    "CREATE OR REPLACE VIEW latest_scores AS SELECT 1",
    "DROP VIEW latest_scores CASCADE",
    "CREATE OR REPLACE FUNCTION refuse_gap() RETURNS trigger LANGUAGE plpgsql AS"
    " $$ BEGIN RETURN NEW; END $$",
    "CREATE FUNCTION mine() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "DROP FUNCTION refuse_change() CASCADE",
    "CREATE TABLE mine (x INT)",
    "CREATE TEMPORARY TABLE chain (seq INT, hash TEXT)",
    "CREATE SCHEMA mine",
    "SET session_replication_role = replica",
    "SET row_security = off; UPDATE scores SET value = 1",
    "CREATE ROLE mine LOGIN",
    "ALTER ROLE CURRENT_USER CREATEROLE",
    "GRANT UPDATE ON scores TO CURRENT_USER; UPDATE scores SET value = 1",
    "COPY scores FROM PROGRAM 'true'",
]  # fmt: skip


def test_a_member_changes_nothing(member: Workspace) -> None:
    """In each table of the ledger, in its schema, and for its own role."""
    for statement in FORBIDDEN:
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            run_as(member, statement)
            pytest.fail(statement)
    assert verify_ledger(member.ledger_url).problem == ""


def test_what_was_granted_by_mistake_changes_no_row_either(
    owners: Workspace, member: Workspace
) -> None:
    role = find_group(owners.ledger_url).role
    run_as(owners, f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}")
    for statement in (
        "UPDATE scores SET value = 1",
        "DELETE FROM notes",
        "UPDATE shared_settings SET text = ''",
    ):
        with psycopg.connect(libpq_url(member.ledger_url)) as connection:
            assert connection.execute(statement.encode()).rowcount == 0
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="row-level security"):
        run_as(member, "INSERT INTO migrations VALUES (9, 'schema 9', 'now')")
    join(owners, "leo")  # each grant puts the rights of the group right
    with pytest.raises(psycopg.errors.InsufficientPrivilege, match="permission denied"):
        run_as(member, "UPDATE scores SET value = 1")


def test_a_member_submits_scores_notes_and_reads_everything(member: Workspace) -> None:
    number = add(member, "1", 0.75)
    with open_ledger(member) as ledger:
        ledger.append_run(replace(draft().record, uid="mina"), {}, "runs/exp1")
        ledger.append_note(kind="note", text="from a member", submission=number)
    assert [row.number for row in list_submissions(member)][-1] == number
    assert "mina" in TeamRuns(member).by_uid
    assert verify_ledger(member.ledger_url).problem == ""


def test_members_share_the_tables_of_a_sweep(owners: Workspace, member: Workspace) -> None:
    database = find_group(owners.ledger_url).sweeps
    other = join(owners, "sweeper")
    urls = [
        workspace.ledger_url.rpartition("/")[0] + f"/{database}" for workspace in (member, other)
    ]
    first, second = (open_storage(url, Path()) for url in urls)
    import optuna

    study = optuna.create_study(storage=first, study_name="s")
    trial = study.ask()
    optuna.load_study(storage=second, study_name="s").tell(trial.number, 0.5)
    assert study.best_value == 0.5
    for storage in (first, second):
        assert isinstance(storage, optuna.storages.RDBStorage)
        storage.remove_session()
        storage.engine.dispose()


def test_a_revoked_member_is_out_and_its_rows_stay(owners: Workspace) -> None:
    gone = join(owners, "gone")
    number = add(gone, "2")
    name = gone.ledger_url.split("//")[1].partition(":")[0]
    with psycopg.connect(libpq_url(gone.ledger_url)) as open_one:
        open_one.execute("SELECT 1 FROM chain")
        open_one.rollback()
        revoke_member(owners.ledger_url, name)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            open_one.execute("SELECT 1 FROM chain")
    with pytest.raises(LedgerError, match="authentication failed"):
        list_submissions(gone)
    assert [row.number for row in list_submissions(owners)][-1] == number
    with pytest.raises(RefusedError, match="is not a member"):
        revoke_member(owners.ledger_url, name)


def test_grant_again_gives_a_new_password_and_the_old_one_is_refused(owners: Workspace) -> None:
    old = join(owners, "again")
    name = old.ledger_url.split("//")[1].partition(":")[0]
    secret = make_password()
    assert not grant_member(owners.ledger_url, name, secret)
    new = build_url(owners.ledger_url, user=name, password=secret)
    assert verify_ledger(new).problem == ""
    with pytest.raises(LedgerError, match="authentication failed") as caught:
        list_submissions(old)
    assert "tracker ledger grant" in caught.value.hint


def test_only_the_owner_grants_and_no_other_role_is_taken(
    owners: Workspace, member: Workspace, workspace: Workspace
) -> None:
    with pytest.raises(RefusedError, match="is not the owner"):
        grant_member(member.ledger_url, "leo", make_password())
    with pytest.raises(ConfigError, match="the team's server uses it itself"):
        grant_member(owners.ledger_url, "tracker", make_password())  # the superuser
    owner = owners.ledger_url.split("//")[1].partition(":")[0]
    with pytest.raises(RefusedError, match="not a member of this ledger"):
        grant_member(owners.ledger_url, owner, make_password())
    with pytest.raises(ConfigError, match="no roles"):
        grant_member(workspace.ledger_url, "leo", make_password())
    with pytest.raises(ConfigError, match="cannot be the name"):
        grant_member(owners.ledger_url, "x; DROP", make_password())
    with pytest.raises(ConfigError, match="at least 12"):
        grant_member(owners.ledger_url, "leo", "short")


def test_shared_settings_have_versions_that_members_read(
    owners: Workspace, member: Workspace
) -> None:
    assert read_shared(member.ledger_url).version == 0
    assert share(owners.ledger_url, "a = 1\n", author="kim") == (1, True)
    assert share(owners.ledger_url, "a = 1\n", author="kim") == (1, False)
    assert share(owners.ledger_url, "a = 2\n", author="kim") == (2, True)
    found = read_shared(member.ledger_url)
    assert (found.version, found.text) == (2, "a = 2\n")
    with pytest.raises(RefusedError, match="only the owner"):
        share(member.ledger_url, "a = 3\n", author="mina")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):  # and so says the database
        run_as(member, "INSERT INTO shared_settings VALUES (3, 'a = 3', 'other', 'x', 'now')")
    run_as(owners, "INSERT INTO shared_settings VALUES (3, 'a = 3', 'other', 'x', 'now')")
    with pytest.raises(LedgerError, match="version 3 of the team's settings was changed"):
        read_shared(member.ledger_url)
