"""Old ledgers: refused by name, upgraded in one transaction after a backup, then equal to a new
one."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from tests.conftest import ROOT
from tests.support.servers import PostgresServer
from tests.support.workspaces import make_workspace
from tracker.core.errors import LedgerError
from tracker.ledger import migrations
from tracker.ledger.append import METADATA, create_ledger, open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.columns import SCHEMA_FILE, load_schema, load_steps
from tracker.ledger.connection import SCHEMA_VERSION, read_rows
from tracker.ledger.guards import check_guards
from tracker.ledger.migrations import STEPS, upgrade_ledger
from tracker.ledger.read import list_submissions
from tracker.ledger.transfer import copy_ledger, restore_ledger
from tracker.training.errors import DataError
from tracker.workspace.tracker_toml import Workspace

ASSETS = ROOT / "tests" / "assets"
OLD = sorted(ASSETS.glob("ledger_v*.db"))


@pytest.fixture(params=["sqlite", "postgresql"])
def old(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace with the ledger of schema 1 from tests/assets, on either database."""
    workspace = make_workspace(tmp_path / "ws")
    (workspace.root / "ledger.db").unlink()
    shutil.copy(ASSETS / "ledger_v1.db", workspace.root / "ledger.db")
    if request.param == "sqlite":
        return workspace
    return move_to_postgres(workspace, request.getfixturevalue("postgres_server"), version=1)


@pytest.fixture(params=["sqlite", "postgresql"])
def of_schema_2(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """A workspace with the ledger of schema 2, on either database."""
    workspace = make_workspace(tmp_path / "ws")
    shutil.copy(ASSETS / "ledger_v2.db", workspace.root / "ledger.db")
    if request.param == "sqlite":
        return workspace
    return move_to_postgres(workspace, request.getfixturevalue("postgres_server"), version=2)


def move_to_postgres(workspace: Workspace, server: PostgresServer, *, version: int) -> Workspace:
    """The workspace with the rows of its ledger in a PostgreSQL of the schema of their time."""
    url = server.create_database()
    copy_rows(workspace.root / "ledger.db", url, ASSETS / f"ledger_v{version}.sql")
    (workspace.root / "ledger.db").unlink()
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text().replace("sqlite:///ledger.db", url))
    from tracker.workspace.tracker_toml import load_workspace

    return load_workspace(workspace.root)


def copy_rows(source: Path, url: str, schema: Path) -> None:
    """The rows of an old SQLite ledger in a PostgreSQL that has the schema of its time."""
    engine = sa.create_engine(url)
    with engine.begin() as connection, sqlite3.connect(source) as rows:
        for script in load_schema("postgresql", schema):
            connection.exec_driver_sql(script, execution_options={"no_parameters": True})
        for table in METADATA.sorted_tables:
            cursor = rows.execute(f"SELECT * FROM {table.name} ORDER BY 1")
            names = [column[0] for column in cursor.description]
            for row in cursor:
                connection.execute(sa.insert(table).values(**dict(zip(names, row, strict=True))))
    rows.close()
    engine.dispose()


def catalogue(url: str) -> Any:
    """Everything that the database knows of its schema, in a form that can be compared."""
    if url.startswith("sqlite"):
        with sqlite3.connect(url.removeprefix("sqlite:///")) as connection:
            rows = connection.execute("SELECT type, name, sql FROM sqlite_master").fetchall()
        connection.close()
        return sorted((kind, name, " ".join((sql or "").split())) for kind, name, sql in rows)
    sql = [
        (
            "SELECT table_name AS t, column_name AS c, data_type AS d, is_nullable AS n FROM"
            " information_schema.columns WHERE table_schema = 'public' ORDER BY 1, ordinal_position"
        ),
        (
            "SELECT conname AS n, pg_get_constraintdef(oid) AS d FROM pg_constraint "
            "WHERE connamespace = 'public'::regnamespace ORDER BY 1"
        ),
        "SELECT indexdef AS d FROM pg_indexes WHERE schemaname = 'public' ORDER BY 1",
        (
            "SELECT tgname AS n, pg_get_triggerdef(oid) AS d FROM pg_trigger WHERE NOT tgisinternal"
            " ORDER BY 1"
        ),
        (
            "SELECT relname AS n, relrowsecurity AS d FROM pg_class WHERE relkind = 'r' AND"
            " relnamespace = 'public'::regnamespace ORDER BY 1"
        ),
        "SELECT policyname, tablename, cmd, qual, with_check FROM pg_policies ORDER BY 1",
    ]
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = [[tuple(row) for row in connection.exec_driver_sql(query)] for query in sql]
    engine.dispose()
    return found


def test_there_is_a_step_and_an_old_ledger_for_every_schema_before_this_one() -> None:
    assert sorted([*STEPS, *load_steps()]) == list(range(2, SCHEMA_VERSION + 1))
    assert [path.stem for path in OLD] == [
        f"ledger_v{version}" for version in range(1, SCHEMA_VERSION)
    ]


def test_an_old_ledger_is_refused_with_the_command_to_type(old: Workspace) -> None:
    with pytest.raises(LedgerError, match="schema 1, this program needs 3") as caught:
        list_submissions(old)
    assert "tracker ledger upgrade" in caught.value.hint
    with pytest.raises(LedgerError, match="schema 1"), open_ledger(old):
        pass


def test_an_upgraded_ledger_has_every_row_and_the_schema_of_a_new_one(
    old: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    backup = tmp_path / "backup.db"
    assert upgrade_ledger(old.ledger_url, backup=backup) == (1, 3)
    found = verify_ledger(old.ledger_url)
    assert (found.rows, found.problem) == (30, "")
    assert check_guards(old.ledger_url) == ""
    rows = list_submissions(old)
    assert [row.memo for row in rows] == [
        "lr 0.1, answers 0000111111",
        "lr 0.2, answers 0000011111",
        "lr 0.2, answers 0000011110",
    ]
    assert rows[0].scores["public_f1"] == 0.7656
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    if not old.ledger_url.startswith("sqlite"):
        fresh = request.getfixturevalue("postgres_server").create_database()
    create_ledger(fresh)
    assert catalogue(old.ledger_url) == catalogue(fresh)
    versions = read_rows(old.ledger_url, "SELECT version, name FROM migrations ORDER BY version")
    assert versions[1:] == [
        {"version": 2, "name": "imported submissions"},
        {"version": 3, "name": "roles"},
    ]
    with open_ledger(old) as ledger:
        ledger.append_note(kind="sent", text="elsewhere as 17", submission=1)
    assert verify_ledger(old.ledger_url).problem == ""


def test_a_ledger_of_schema_2_opens_as_before_and_is_upgraded_to_one_with_roles(
    of_schema_2: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    from tests.support.ledger_rows import add

    url = of_schema_2.ledger_url
    assert verify_ledger(url).problem == ""
    assert add(of_schema_2, "0001", 0.6) == 3
    assert verify_ledger(url).problem == ""
    assert upgrade_ledger(url, backup=tmp_path / "backup.db") == (2, 3)
    found = verify_ledger(url)
    assert (found.rows, found.problem) == (6, "")
    assert add(of_schema_2, "0011") == 4
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    if not url.startswith("sqlite"):
        fresh = request.getfixturevalue("postgres_server").create_database()
    create_ledger(fresh)
    assert catalogue(url) == catalogue(fresh)


# What CONTRIBUTING.md says of a new column: a section of the schema, and fields of the records.
NEXT = SCHEMA_VERSION + 1
NEW_COLUMNS = f"""-- section: schema {NEXT}

-- How long the training took.
ALTER TABLE runs ADD COLUMN duration_s DOUBLE PRECISION;
ALTER TABLE submissions ADD COLUMN duration_s DOUBLE PRECISION;
ALTER TABLE submissions ADD COLUMN rival INTEGER;
ALTER TABLE submissions ADD COLUMN reviewer TEXT;
ALTER TABLE notes ADD COLUMN topic TEXT;
CREATE INDEX submissions_by_reviewer ON submissions (reviewer);

-- section: sqlite
"""
USE_NEW_COLUMNS = """
import json, sys
from dataclasses import replace
from pathlib import Path
from tests.support.ledger_rows import draft
from tracker.ledger.append import METADATA, create_ledger, open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.historical import HistoricalSubmission
from tracker.ledger.migrations import upgrade_ledger
from tracker.ledger.read import list_submissions
from tracker.ledger.submission_table import export_table, read_submission_table
from tracker.ledger.transfer import copy_ledger
from tracker.workspace.tracker_toml import load_workspace

root, fresh = Path(sys.argv[1]), sys.argv[2]
workspace = load_workspace(root)
versions = upgrade_ledger(workspace.ledger_url, backup=root / "backup.db")
upgraded = verify_ledger(workspace.ledger_url)
made = draft("3")
with open_ledger(workspace) as ledger:
    ledger.append_run(replace(made.record, duration_s=7.5), {}, "runs/exp3")
    ledger.append_submission(
        replace(made, record=replace(made.record, duration_s=7.5)), workspace.competition
    )
    row = {"rival": 2, "reviewer": "kim"}
    typed = HistoricalSubmission(number=9, memo="typed in", columns=row)
    ledger.append_historical([typed], workspace.competition)
create_ledger(fresh)
export_table(workspace, root / "all.csv")
again = read_submission_table(root / "all.csv", workspace.competition)
names = ("number", "duration_s", "rival", "reviewer")
rows = list_submissions(workspace)
copy_ledger(workspace.ledger_url, root / "copy.db")
print(json.dumps({
    "versions": versions,
    "upgraded": [upgraded.rows, upgraded.problem],
    "backup": verify_ledger(workspace.ledger_url, head=upgraded.head).problem,
    "tables": {name: list(table.columns.keys())[-1] for name, table in METADATA.tables.items()},
    "rows": [[getattr(row, name) for name in names] for row in rows],
    "topics": [note.topic for row in rows for note in row.notes],
    "again": [again.rows[-1].columns[name] for name in ("rival", "reviewer")],
    "copied": verify_ledger(f"sqlite:///{root / 'copy.db'}").problem,
    "fresh": verify_ledger(fresh).problem,
}))
"""


def copy_program(target: Path) -> None:
    """The program with the two files edited that a new column needs."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "tracker", target / "tracker", symlinks=True, ignore=ignore)
    for name in ("training", "tests", "cli.py"):
        (target / name).symlink_to(ROOT / name)
    schema = SCHEMA_FILE.read_text().replace(f"version {SCHEMA_VERSION}.", f"version {NEXT}.", 1)
    (target / "ledger.db.sql").write_text(schema.replace("-- section: sqlite\n", NEW_COLUMNS))
    records = target / "tracker" / "ledger" / "records.py"
    fields = "    duration_s: float | None\n    rival: int | None\n    reviewer: str | None\n"
    text = records.read_text().replace("    file: str | None\n", f"    file: str | None\n{fields}")
    time = "    author: str\n    time: str\n"
    records.write_text(text.replace(time, f"{time}    topic: str | None\n"))


def test_a_column_added_as_documented_arrives_in_old_ledgers_in_tables_and_in_records(
    old: Workspace, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    copy_program(tmp_path / "program")
    fresh = f"sqlite:///{tmp_path / 'fresh.db'}"
    if not old.ledger_url.startswith("sqlite"):
        fresh = request.getfixturevalue("postgres_server").create_database()
    with sqlite3.connect(ASSETS / "ledger_v1.db") as connection:
        hashes = [row[0] for row in connection.execute("SELECT hash FROM chain ORDER BY seq")]
    connection.close()
    command = [sys.executable, "-c", USE_NEW_COLUMNS, str(old.root), fresh]
    done = subprocess.run(
        command,
        cwd=tmp_path / "program",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["versions"] == [1, NEXT]
    assert found["upgraded"] == [len(hashes), ""]
    assert (found["backup"], found["copied"], found["fresh"]) == ("", "", "")
    assert found["tables"]["submissions"] == "reviewer"
    assert (found["tables"]["runs"], found["tables"]["notes"]) == ("duration_s", "topic")
    assert found["rows"] == [
        *[[number, None, None, None] for number in (1, 2, 3)],
        [4, 7.5, None, None],
        [9, None, 2, "kim"],
    ]
    assert set(found["topics"]) <= {None}
    assert found["again"] == [2, "kim"]
    rows = read_chain(old.ledger_url)
    assert rows[: len(hashes)] == hashes
    assert len(rows) > len(hashes)
    assert catalogue(old.ledger_url) == catalogue(fresh)
    if old.ledger_url.startswith("sqlite"):  # the new column is under the hash, too
        check_changed_value_is_found(old.root / "ledger.db", tmp_path / "program")


def read_chain(url: str) -> list[str]:
    """The hashes of a ledger of any schema."""
    engine = sa.create_engine(url)
    with engine.connect() as connection:
        found = connection.exec_driver_sql("SELECT hash FROM chain ORDER BY seq").scalars().all()
    engine.dispose()
    return list(found)


def check_changed_value_is_found(ledger: Path, program: Path) -> None:
    with sqlite3.connect(ledger) as connection:
        connection.execute("DROP TRIGGER submissions_no_update")
        connection.execute("UPDATE submissions SET rival = 1 WHERE number = 1")
    connection.close()
    verify = (
        "import sys; from tracker.ledger.chain import verify_ledger;"
        " print(verify_ledger(sys.argv[1]).problem)"
    )
    done = subprocess.run(
        [sys.executable, "-c", verify, f"sqlite:///{ledger}"],
        cwd=program,
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "(submission 1) was changed after it was written" in done.stdout


def test_upgrading_twice_does_nothing_the_second_time(old: Workspace, tmp_path: Path) -> None:
    upgrade_ledger(old.ledger_url, backup=tmp_path / "one.db")
    assert upgrade_ledger(old.ledger_url, backup=tmp_path / "two.db") == (3, 3)
    assert not (tmp_path / "two.db").exists()


def test_of_two_upgrades_at_once_the_later_one_finds_nothing_to_do(
    old: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def copy_while_another_upgrades(url: str, target: Path) -> int:
        monkeypatch.setattr(migrations, "copy_ledger", copy_ledger)
        count = copy_ledger(url, target)
        assert upgrade_ledger(url, backup=tmp_path / "other.db") == (1, SCHEMA_VERSION)
        return count

    monkeypatch.setattr(migrations, "copy_ledger", copy_while_another_upgrades)
    found = upgrade_ledger(old.ledger_url, backup=tmp_path / "b.db")
    assert found == (SCHEMA_VERSION, SCHEMA_VERSION)
    assert verify_ledger(old.ledger_url).problem == ""


def test_the_backup_has_the_ledger_as_it_was(old: Workspace, tmp_path: Path) -> None:
    backup = tmp_path / "backup.db"
    upgrade_ledger(old.ledger_url, backup=backup)
    with sqlite3.connect(backup) as connection:
        hashes = [row[0] for row in connection.execute("SELECT hash FROM chain ORDER BY seq")]
    connection.close()
    assert hashes == [
        row["hash"] for row in read_rows(old.ledger_url, "SELECT hash FROM chain ORDER BY seq")
    ]


def test_a_step_that_fails_leaves_the_old_ledger_whole(
    old: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def half(connection: sa.Connection) -> None:
        STEPS[2](connection)
        raise LedgerError("the power went")

    before = catalogue(old.ledger_url)
    monkeypatch.setattr(migrations, "STEPS", {2: half})
    with pytest.raises(LedgerError, match="the power went"):
        upgrade_ledger(old.ledger_url, backup=tmp_path / "backup.db")
    assert catalogue(old.ledger_url) == before


def test_without_room_for_the_backup_nothing_is_upgraded(old: Workspace, tmp_path: Path) -> None:
    before = catalogue(old.ledger_url)
    taken = tmp_path / "taken.db"
    taken.write_text("mine")
    with pytest.raises(LedgerError, match=r"taken\.db exists"):
        upgrade_ledger(old.ledger_url, backup=taken)
    assert taken.read_text() == "mine"
    assert catalogue(old.ledger_url) == before


def test_a_backup_made_while_others_write_is_whole_and_restores_to_either_database(
    ledger_url: str, tmp_path: Path
) -> None:
    import threading

    from tests.support.ledger_rows import add

    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    stop = threading.Event()

    def write() -> None:
        for number in range(10_000):
            add(workspace, f"answer {number}", 0.5)
            if stop.is_set():
                return

    writer = threading.Thread(target=write)
    writer.start()
    try:
        counts = [
            copy_ledger(workspace.ledger_url, tmp_path / f"b{number}.db") for number in range(3)
        ]
    finally:
        stop.set()
        writer.join()
    assert counts == sorted(counts)
    for number, count in enumerate(counts):
        found = verify_ledger(f"sqlite:///{tmp_path / f'b{number}.db'}")
        assert (found.rows, found.problem) == (count, "")
    head = verify_ledger(workspace.ledger_url).head
    last = tmp_path / "last.db"
    copy_ledger(workspace.ledger_url, last)
    again = f"sqlite:///{tmp_path / 'again.db'}"
    restore_ledger(last, again)
    assert verify_ledger(again, head=head).problem == ""
    assert check_guards(again) == ""


def test_a_backup_restores_to_an_empty_postgresql_and_to_no_other(
    workspace: Workspace, postgres_server: PostgresServer, tmp_path: Path
) -> None:
    from tests.support.ledger_rows import add

    add(workspace, "0", 0.5)
    backup = tmp_path / "b.db"
    copy_ledger(workspace.ledger_url, backup)
    url = postgres_server.create_database()
    assert restore_ledger(backup, url) == 2
    assert verify_ledger(url).head == verify_ledger(workspace.ledger_url).head
    with pytest.raises(LedgerError, match="the database already has a ledger"):
        restore_ledger(backup, url)
    with pytest.raises(LedgerError, match="exists"):
        restore_ledger(backup, workspace.ledger_url)
    with pytest.raises(DataError, match="no such file"):
        restore_ledger(tmp_path / "nothing.db", f"sqlite:///{tmp_path}/n.db")
