"""`ledger verify` finds any change that the database's own guards were made to let through."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa
from typer.testing import CliRunner

from tests.support.ledger_rows import add, change
from tests.support.servers import PostgresServer
from tests.support.workspaces import make_workspace
from tracker.commands.table import app
from tracker.ledger import chain
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import (
    TABLES,
    _have_hashes,
    find_row_problems,
    read_head,
    row_hash,
    verify_ledger,
)
from tracker.ledger.columns import load_schema
from tracker.ledger.connection import Reader
from tracker.run_folder.record import RunRecord
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

Change = Callable[..., None]


@pytest.fixture
def filled(ledger_url: str, tmp_path: Path) -> Workspace:
    """Two submissions, three scores and a note: six rows."""
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    add(workspace, "0", 0.5, memo="first")
    add(workspace, "1", 0.6, memo="second")
    with open_ledger(workspace) as ledger:
        ledger.append_missing(1, {("private", "f1"): 0.55})
        ledger.append_note(kind="note", text="looks good", submission=2)
    return workspace


def test_an_untouched_ledger_agrees(filled: Workspace) -> None:
    found = verify_ledger(filled.ledger_url)
    assert (found.rows, found.problem) == (6, "")
    assert found.head == read_head(filled.ledger_url)
    assert found.head.startswith("6:")


def test_an_empty_ledger_agrees(ledger_url: str, tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", ledger_url=ledger_url)
    assert verify_ledger(workspace.ledger_url, head="0:").head == "0:"


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (
            ["UPDATE scores SET value = 0.99 WHERE seq = 2"],
            "row 2 (score of submission 1) was changed after it was written",
        ),
        (
            ["UPDATE submissions SET memo = 'better' WHERE number = 2"],
            "row 3 (submission 2) was changed after it was written",
        ),
        (
            ["UPDATE submissions SET val_f1 = NULL WHERE number = 1"],
            "row 1 (submission 1) was changed after it was written",
        ),
        (
            ["UPDATE notes SET text = 'bad' WHERE seq = 6"],
            "row 6 (note of submission 2) was changed after it was written",
        ),
        (["DELETE FROM scores WHERE seq = 5"], "row 5: its score is missing"),
        (
            ["DELETE FROM scores WHERE seq = 5", "DELETE FROM chain WHERE seq = 5"],
            "row 5 is missing",
        ),
        (
            ["UPDATE chain SET previous = 'x' WHERE seq = 4"],
            "row 4 (score of submission 2) does not follow row 3",
        ),
        (
            ["UPDATE chain SET hash = 'sha256:0' WHERE seq = 3"],
            "row 3 (submission 2) was changed after it was written",
        ),
        (["UPDATE chain SET kind = 'note' WHERE seq = 4"], "score 4 is not in the chain"),
        (
            [
                "INSERT INTO notes VALUES (9, 1, NULL, 'note', 'forged', 'eve',"
                " '2026-01-01T00:00:00.000000Z')"
            ],
            "note 9 is not in the chain",
        ),
        (
            [
                f"UPDATE scores SET seq = {new} WHERE seq = {old}"
                for old, new in ((2, 100), (4, 2), (100, 4))
            ],
            "row 2 (score of submission 2) was changed after it was written",
        ),
    ],
)
def test_the_first_row_that_does_not_agree_is_named(
    filled: Workspace, statements: list[str], problem: str
) -> None:
    change(filled.ledger_url, *statements)
    assert verify_ledger(filled.ledger_url).problem == problem


def test_a_missing_tail_is_found_by_a_head_that_was_kept(filled: Workspace) -> None:
    head = read_head(filled.ledger_url)
    change(filled.ledger_url, "DELETE FROM notes WHERE seq = 6", "DELETE FROM chain WHERE seq = 6")
    assert verify_ledger(filled.ledger_url).problem == ""
    assert (
        verify_ledger(filled.ledger_url, head=head).problem
        == f"row 6 of the head {head} was deleted; the ledger ends with row 5"
    )


def test_an_older_head_stays_valid_and_another_ledgers_does_not(
    filled: Workspace, tmp_path: Path
) -> None:
    head = read_head(filled.ledger_url)
    add(filled, "a")
    assert verify_ledger(filled.ledger_url, head=head).problem == ""
    assert "has another hash" in verify_ledger(filled.ledger_url, head="6:0123456789abcdef").problem


@pytest.mark.parametrize("head", ["6", "x:ab", "6:xyz", "6:", "-1:ab"])
def test_a_head_of_another_form_is_refused(filled: Workspace, head: str) -> None:
    with pytest.raises(ConfigError, match="expected a head that verify"):
        verify_ledger(filled.ledger_url, head=head)


NO_UPDATE = "CREATE TRIGGER scores_no_update BEFORE UPDATE ON scores BEGIN SELECT 1; END"
DROPPING = "CREATE TRIGGER lose BEFORE INSERT ON scores BEGIN SELECT RAISE(IGNORE); END"
NOTHING = (
    "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN"
    " NULL; END $$"
)
CHECK = "CHECK (length(trim(memo)) > 0)"
CALL = "EXECUTE FUNCTION refuse_gap()"
VIEWS = dict(re.findall(r"(?s)CREATE VIEW (\w+) AS(.*?);", "\n".join(load_schema("sqlite"))))
FORGED_SCORES = (
    f"CREATE VIEW latest_scores AS {VIEWS['latest_scores'].replace('s.value,', '0.99 AS value,')}"
)
RECORDS = f"CREATE VIEW score_records AS {VIEWS['score_records']}"
FORGED_RECORDS = RECORDS.replace("value > before_high", "value < before_high")


@pytest.mark.parametrize(
    ("sqlite", "postgresql", "problem"),
    [
        (
            ["DROP TRIGGER notes_no_update"],
            ["DROP TRIGGER notes_no_change ON notes"],
            r"the guard notes_no_\w+ is missing",
        ),
        (
            ["DROP TRIGGER scores_no_update", NO_UPDATE],
            ["ALTER TABLE scores DISABLE TRIGGER scores_no_change"],
            r"the guard scores_no_\w+ is not as in ledger.db.sql",
        ),
        (
            [DROPPING],
            [f"CREATE TRIGGER lose BEFORE INSERT ON scores FOR EACH ROW {CALL}"],
            "the trigger lose is not one",
        ),
        (
            [
                "DROP TRIGGER chain_no_gap",
                "CREATE TRIGGER chain_no_gap AFTER INSERT ON chain BEGIN SELECT 1; END",
            ],
            [
                "DROP TRIGGER chain_no_gap ON chain",
                f"CREATE TRIGGER chain_no_gap BEFORE UPDATE ON chain FOR EACH ROW {CALL}",
            ],
            "the guard chain_no_gap is not as",
        ),
        (
            [
                "PRAGMA writable_schema = ON",
                (
                    f"UPDATE sqlite_master SET sql = replace(sql, '{CHECK}', '') WHERE name ="
                    " 'submissions'"
                ),
            ],
            ["ALTER TABLE submissions DROP CONSTRAINT submissions_predictions_fingerprint_key"],
            r"the guard submissions\w* is ",
        ),
        (["DROP TRIGGER runs_no_delete"], [NOTHING], "the guard r"),
        (
            ["DROP VIEW latest_scores", FORGED_SCORES],
            ["DROP VIEW latest_scores CASCADE", FORGED_SCORES, RECORDS],
            r"the (guard|view) latest_scores ",
        ),
        (
            ["DROP VIEW score_records", FORGED_RECORDS],
            ["DROP VIEW score_records", FORGED_RECORDS],
            r"the (guard|view) score_records ",
        ),
        (
            ["DROP VIEW score_records"],
            ["DROP VIEW score_records"],
            "the guard score_records is missing",
        ),
    ],
)
def test_a_guard_that_was_taken_away_or_weakened_is_named(
    filled: Workspace, sqlite: list[str], postgresql: list[str], problem: str
) -> None:
    engine = sa.create_engine(filled.ledger_url)
    with engine.begin() as connection:
        for statement in sqlite if engine.dialect.name == "sqlite" else postgresql:
            connection.exec_driver_sql(statement)
    engine.dispose()
    assert re.match(problem, verify_ledger(filled.ledger_url).problem)


def test_an_edit_of_the_file_by_another_program_is_found(workspace: Workspace) -> None:
    add(workspace, "0", 0.5, memo="a memo to look for")
    path = workspace.root / "ledger.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = path.read_bytes()
    assert content.count(b"a memo to look for") == 1
    path.write_bytes(content.replace(b"a memo to look for", b"a memo to look fir"))
    assert (
        verify_ledger(workspace.ledger_url).problem
        == "row 1 (submission 1) was changed after it was written"
    )


def change_postgres(server: PostgresServer, tmp_path: Path, *statements: str) -> Workspace:
    """A ledger of two submissions with scores (rows 1 to 4) after an owner's statements."""
    workspace = make_workspace(tmp_path / "ws", ledger_url=server.create_database())
    add(workspace, "0", 0.5)
    add(workspace, "1", 0.6)
    change(workspace.ledger_url, *statements)
    return workspace


@pytest.mark.parametrize(
    ("statements", "problem"),
    [
        (
            [
                *(
                    f"ALTER TABLE scores {what}"
                    for what in ("DROP CONSTRAINT scores_pkey", "ALTER seq DROP NOT NULL")
                ),
                (
                    "INSERT INTO scores SELECT NULL, 1, split, metric, 0.99, author, scored_at FROM"
                    " scores WHERE seq = 2"
                ),
            ],
            "score without a seq is not in the chain",
        ),
        (
            [
                "ALTER TABLE scores DROP CONSTRAINT scores_pkey",
                (
                    "INSERT INTO scores SELECT seq, 1, split, metric, 0.99, author, scored_at FROM"
                    " scores WHERE seq = 2"
                ),
            ],
            "row 2: exists 2 times",
        ),
        (
            [
                "CREATE TABLE more () INHERITS (submissions)",
                "INSERT INTO more SELECT * FROM ONLY submissions WHERE seq = 1",
            ],
            "row 1: exists 2 times",
        ),
        (
            [
                "ALTER TABLE runs DROP CONSTRAINT runs_pkey, DROP CONSTRAINT runs_seq_fkey",
                (
                    "ALTER TABLE submissions DROP CONSTRAINT submissions_pkey, DROP CONSTRAINT"
                    " submissions_seq_fkey"
                ),
                "ALTER TABLE scores DROP CONSTRAINT scores_seq_fkey",
                "ALTER TABLE notes DROP CONSTRAINT notes_seq_fkey",
                "ALTER TABLE chain DROP CONSTRAINT chain_pkey, ALTER seq DROP NOT NULL",
                "INSERT INTO chain VALUES (NULL, 'note', 'x', 'x')",
            ],
            "the chain has 5 rows and ends with row 4",
        ),
        (
            ["ALTER TABLE notes DROP CONSTRAINT notes_pkey"],
            "the guard notes_pkey is missing: rows can be changed",
        ),
        (
            ["ALTER TABLE submissions ALTER number DROP NOT NULL"],
            "the guard submissions.number NOT NULL is missing: rows can be changed",
        ),
        (
            [
                "ALTER TABLE submissions DROP CONSTRAINT submissions_predictions_fingerprint_key",
                (
                    "ALTER TABLE submissions ADD CONSTRAINT submissions_predictions_fingerprint_key"
                    " UNIQUE (seq, memo)"
                ),
            ],
            (
                "the guard submissions_predictions_fingerprint_key is not as in ledger.db.sql:"
                " rows can be changed"
            ),
        ),
        (
            ["CREATE TABLE more () INHERITS (notes)"],
            "the table more on notes is not one of the ledger's: it may add or drop rows",
        ),
        (
            ["CREATE RULE lose AS ON INSERT TO scores DO INSTEAD NOTHING"],
            "the rule lose on scores is not one of the ledger's: it may add or drop rows",
        ),
    ],
)
def test_what_the_owner_of_a_postgresql_forged_is_named(
    postgres_server: PostgresServer, tmp_path: Path, statements: list[str], problem: str
) -> None:
    workspace = change_postgres(postgres_server, tmp_path, *statements)
    assert verify_ledger(workspace.ledger_url).problem == problem


@pytest.mark.parametrize("column", ["submission", "metric", "value", "scored_at"])
def test_a_value_that_became_bytes_was_changed(workspace: Workspace, column: str) -> None:
    add(workspace, "0", 0.5)
    change(workspace.ledger_url, f"UPDATE scores SET {column} = x'00ff' WHERE seq = 2")
    assert verify_ledger(workspace.ledger_url).problem.endswith("was changed after it was written")


def test_the_head_of_an_empty_ledger_says_that_it_has_no_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(make_workspace(tmp_path / "ws").root)
    done = CliRunner().invoke(app, ["ledger", "head"])
    assert (done.stdout, done.stderr) == ("0:\n", "the ledger has no row yet\n")


@pytest.mark.parametrize(
    "cells",
    [
        ('caf\u00e9 "q" \\ \n\x00\u2028 100%s', 1, 0.1 + 0.2),
        ("", -(2**62), -0.0),
        (None, None, None),
        ("1", 1, 1.0),
        ("1e400", 0, 1e-320),
        ("x", 0, float("inf")),
        ("x", True, 5e300),
        (b"x", 0, 0.5),
    ],
)
def test_the_quick_hash_accepts_what_row_hash_gives_and_nothing_else(
    cells: tuple[object, ...],
) -> None:
    row = dict(zip(("value", 'a "name" of 100%', "config"), cells, strict=True))
    names = sorted(row)
    link = {"seq": 7, "kind": "score", "previous": "sha256:\u00e9", "hash": ""}

    def agree(*pairs: tuple[dict[str, object], dict[str, object]]) -> bool:
        links = [tuple(one.values()) for one, _ in pairs]
        return _have_hashes("score", names, links, [tuple(r[n] for n in names) for _, r in pairs])

    if bytes in map(type, cells):  # row_hash raises TypeError, which verify takes for a change
        assert not agree((link, row))
        return
    own = {name: link[name] for name in ("seq", "kind", "previous")}
    link["hash"] = row_hash(own, row)
    # of infinity and of other types `_has_its_hash` decides
    is_usual = float("inf") not in cells and bool not in map(type, cells)
    assert agree((link, row)) == is_usual
    usual = {**row, "value": 1, 'a "name" of 100%': 0.5, "config": None}
    before = {**link, "seq": 6, "hash": row_hash({**own, "seq": 6}, usual)}
    assert agree((before, usual), (link, row)) == is_usual  # of a column with several types
    for name, value in row.items():
        other = 2 if value == 1 else 1
        assert not agree((before, usual), (link, {**row, name: other}))
    assert not agree(({**link, "seq": 8}, row))
    assert not agree(({**link, "previous": ""}, row))


@pytest.fixture
def bare(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    """A ledger with rows of all kinds and hardly any rule of the database: it takes most rows."""
    workspace = make_workspace(tmp_path / "ws")
    add(workspace, "0", 0.1 + 0.2, memo='a "memo" \\ 100%s \u2028')
    add(workspace, "1", 0.6, memo="second")
    with open_ledger(workspace) as ledger:
        for name in ("exp1", "exp2"):
            record = RunRecord(name=name, uid=name, author="j\u00f6", best_epoch=3)
            ledger.append_run(record, {"a": {"b": "\n"}}, f"/{name}")
        ledger.append_note(kind="note", text="looks good", submission=2)
        ledger.append_note(kind="note", text="looks bad", run_uid="exp1")
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        connection.execute("ATTACH ? AS ledger", [str(workspace.root / "ledger.db")])
        connection.execute("CREATE TABLE chain (seq INTEGER PRIMARY KEY, kind, previous, hash)")
        connection.execute("INSERT INTO chain SELECT * FROM ledger.chain")
        for table in TABLES.values():
            connection.execute(f"CREATE TABLE {table} AS SELECT * FROM ledger.{table}")
        connection.execute("DETACH ledger")
        yield connection


OTHER_CELLS = (
    "NULL",
    "x'00ff'",
    "'another'",
    "7",
    "0.25",
    "9e999",
    "coalesce({name}, '') || ' '",
    "coalesce({name}, '') || '\",\"seq\":1'",
    "{name} + 1",
    "{name} * 1.0000000000000002",
    "-{name}",
)


def list_changes(connection: sqlite3.Connection) -> Iterator[str]:
    """Statements that change a cell or a row of each table."""
    for table in ("chain", *TABLES.values()):
        cursor = connection.execute(f"SELECT * FROM {table} ORDER BY seq DESC LIMIT 1")
        names, row = [column[0] for column in cursor.description], cursor.fetchone()
        one = f"WHERE seq = {row[names.index('seq')]}"
        for name in names:
            for cell in OTHER_CELLS:
                yield f"UPDATE {table} SET {name} = {cell.format(name=name)} {one}"
        yield from (f"DELETE FROM {table} {which}" for which in (one, ""))
        for seq in ("seq", "0", "-1", "99", "NULL", "seq + 0.5"):
            cells = ", ".join(seq if name == "seq" else name for name in names)
            yield f"INSERT INTO {table} SELECT {cells} FROM {table} {one}"


def dump(connection: sqlite3.Connection) -> str:
    tables = [f"SELECT * FROM {table} ORDER BY seq" for table in ("chain", *TABLES.values())]
    return repr([connection.execute(sql).fetchall() for sql in tables])


@pytest.mark.parametrize("rows_per_chunk", [3, 100])
def test_each_change_is_found_and_named_as_by_a_look_at_each_row(
    bare: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, rows_per_chunk: int
) -> None:
    monkeypatch.setattr(chain, "ROWS_PER_CHUNK", rows_per_chunk)
    query = Reader(bare.cursor(), str)
    assert find_row_problems(query) == []
    whole, changed = dump(bare), 0
    for statement in list_changes(bare):
        bare.execute("BEGIN")
        with suppress(sqlite3.IntegrityError):  # the chain's numbers are numbers, each there once
            bare.execute(statement)
        found = find_row_problems(query)
        with monkeypatch.context() as slowly:
            slowly.setattr(chain, "_agree", lambda *_: False)
            assert found == find_row_problems(query), statement
        if dump(bare) != whole:
            assert found, statement
            changed += 1
        bare.execute("ROLLBACK")
    assert changed > 500


def rehash(connection: sqlite3.Connection, **forged: str) -> None:
    """Make all hashes anew; `forged` are `previous` of other rows, by the row as in `row3`."""
    query, previous = Reader(connection.cursor(), str), ""
    for link in query("SELECT seq, kind FROM chain ORDER BY seq", {}):
        previous = forged.get(f"row{link['seq']}", previous)
        (row,) = query(f"SELECT * FROM {TABLES[link['kind']]} WHERE seq = :seq", link)
        del row["seq"]
        digest = row_hash({**link, "previous": previous}, row)
        values = (previous, digest, link["seq"])
        connection.execute("UPDATE chain SET previous = ?, hash = ? WHERE seq = ?", values)
        previous = digest


@pytest.mark.parametrize("rows_per_chunk", [2, 3, 100])
def test_a_gap_and_a_row_of_another_chain_are_found_though_all_hashes_were_made_anew(
    bare: sqlite3.Connection, monkeypatch: pytest.MonkeyPatch, rows_per_chunk: int
) -> None:
    monkeypatch.setattr(chain, "ROWS_PER_CHUNK", rows_per_chunk)
    query = Reader(bare.cursor(), str)
    rehash(bare)
    assert find_row_problems(query) == []
    rehash(bare, row3="sha256:another")
    assert [problem.text for problem in find_row_problems(query)] == [
        "row 3 (submission 2) does not follow row 2"
    ]
    for table in ("chain", "submissions"):
        bare.execute(f"DELETE FROM {table} WHERE seq = 3")
    rehash(bare)
    assert [problem.text for problem in find_row_problems(query)] == ["row 3 is missing"]
