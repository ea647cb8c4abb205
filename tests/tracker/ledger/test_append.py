"""The ledger on SQLite and on PostgreSQL: unique predictions, gapless numbers, nothing changed,
quota, races."""

from __future__ import annotations

import datetime as dt
import re
import sqlite3
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa

from tests.support.ledger_rows import add, draft
from tests.support.servers import PostgresServer, new_ledger_url
from tests.support.workspaces import make_run, make_workspace
from tracker.comparison.audit import audit
from tracker.comparison.marks import read_marks
from tracker.core.clock import to_utc_text
from tracker.core.errors import DuplicateError, LedgerError, RefusedError, UnknownRunError
from tracker.ledger.append import (
    CHAIN,
    CHAINED,
    METADATA,
    MIGRATIONS,
    RUNS,
    SUBMISSIONS,
    create_ledger,
    open_ledger,
)
from tracker.ledger.chain import canonical_json, row_hash
from tracker.ledger.columns import load_schema
from tracker.ledger.connection import read_rows
from tracker.ledger.historical import HistoricalSubmission
from tracker.ledger.history import list_history
from tracker.ledger.read import (
    find_duplicate,
    find_sota,
    get_submission,
    list_sota_numbers,
    list_submissions,
    read_clock,
)
from tracker.run_folder.read import load_config
from tracker.submission.examine import check
from tracker.training.errors import StorageError, mask_secrets
from tracker.workspace.tracker_toml import Metric, Workspace

LIMIT_S = 120


@pytest.fixture
def shared(ledger_url: str, tmp_path: Path) -> Workspace:
    """A workspace on a fresh ledger of either database."""
    return make_workspace(tmp_path / "ws", ledger_url=ledger_url)


def test_a_submission_is_read_back_whole(shared: Workspace) -> None:
    number = add(shared, "0", 0.76, memo='m with "quotes", <script>')
    row = get_submission(shared, number)
    assert (row.number, row.run, row.run_uid, row.memo) == (
        1,
        "exp1",
        "u1",
        'm with "quotes", <script>',
    )
    assert row.config == {"optim": {"lr": 0.1}}
    assert (row.val_f1, row.train_loss, row.val_loss, row.best_epoch) == (0.5, 0.1, None, 3)
    assert row.scores == {"public_f1": 0.76}
    assert row.submitted_at.endswith("Z")


def test_equal_predictions_are_refused_and_nothing_is_written(shared: Workspace) -> None:
    add(shared, "0", memo="the first")
    before = read_rows(shared.ledger_url, "SELECT count(*) AS n FROM chain")
    with pytest.raises(DuplicateError, match=r"submission 1 \(exp1: the first\)") as caught:
        add(shared, "0")
    assert caught.value.number == 1
    assert caught.value.exit_code == 3
    assert read_rows(shared.ledger_url, "SELECT count(*) AS n FROM chain") == before
    duplicate = find_duplicate(shared, draft("0").answers.fingerprint)
    assert duplicate is not None
    assert duplicate.number == 1


def test_a_blank_memo_is_refused_by_the_database(shared: Workspace) -> None:
    with pytest.raises(LedgerError):
        add(shared, "0", memo="  ")
    assert list_submissions(shared) == []


def test_config_diff_is_against_sota_at_that_moment(shared: Workspace) -> None:
    add(shared, "0", 0.5, config={"optim": {"lr": 0.1}})
    add(shared, "1", 0.4, config={"optim": {"lr": 0.2}})
    add(shared, "2", 0.6, config={"optim": {"lr": 0.3}})
    add(shared, "3", 0.6, config={"optim": {"lr": 0.3}, "data": {"workers": 3}})
    rows = list_submissions(shared)
    assert [row.sota for row in rows] == [None, 1, 1, 3]
    assert [row.config_diff for row in rows] == [
        None,
        {"optim.lr": [0.1, 0.2]},
        {"optim.lr": [0.1, 0.3]},
        {},
    ]
    best = find_sota(shared)
    assert best is not None
    assert best.number == 3
    assert list_sota_numbers(shared) == [1, 3]


def test_a_row_that_is_scored_late_was_sota_when_it_was_scored(shared: Workspace) -> None:
    values = {1: 0.8, 3: 0.85, 2: 0.9, 4: 0.7}
    for letter in "01234":
        add(shared, letter)
    with open_ledger(shared) as ledger:
        for number, value in values.items():
            ledger.append_missing(number, {("public", "f1"): value})
            newest = find_sota(shared)
            assert newest is not None
            assert (newest.number == number) is (number != 4)
    assert list_sota_numbers(shared) == audit(shared).sota_chain == [1, 3, 2]
    for since, expected in ((1, [1, 3, 2]), (2, [3, 2]), (3, [3]), (4, []), (5, [])):
        assert list_sota_numbers(shared, since=since) == expected
    assert list(read_marks(shared).then) == [1, 3, 2]
    assert list(read_marks(shared, numbers=[2, 4]).then) == [2]
    with open_ledger(shared) as ledger:  # a typing error is forgotten
        ledger.append_missing(3, {("public", "f1"): 0.75})
    assert list_sota_numbers(shared) == [1, 2]


def test_lower_is_better_turns_sota_round(shared: Workspace) -> None:
    metric = Metric(name="f1", higher_is_better=False)
    turned = replace(shared, competition=replace(shared.competition, metrics=(metric,)))
    for letter, value in (("0", 0.5), ("1", 0.7), ("2", 0.4)):
        add(turned, letter, value)
    best = find_sota(turned)
    assert best is not None
    assert best.number == 3
    assert list_sota_numbers(turned) == [1, 3]


def test_a_corrected_score_is_a_new_row_and_the_newest_counts(shared: Workspace) -> None:
    add(shared, "0", 0.9)
    add(shared, "1", 0.8)
    with open_ledger(shared) as ledger:
        ledger.append_missing(1, {("public", "f1"): 0.7, ("private", "f1"): 0.6})
    assert get_submission(shared, 1).scores == {"public_f1": 0.7, "private_f1": 0.6}
    assert len(read_rows(shared.ledger_url, "SELECT * FROM scores WHERE submission = 1")) == 3
    best = find_sota(shared)
    assert best is not None
    assert best.number == 2


def test_scores_need_a_submission(shared: Workspace) -> None:
    with open_ledger(shared) as ledger, pytest.raises(LedgerError, match=r"(?i)foreign key"):
        ledger.append_missing(7, {("public", "f1"): 0.5})
    with pytest.raises(UnknownRunError, match="no submission 7"):
        get_submission(shared, 7)


def test_a_run_is_indexed_once_for_each_ending(shared: Workspace) -> None:
    record = make_run(shared, status="interrupted")
    config = load_config(shared.runs_dir, record.name)
    with open_ledger(shared) as ledger:
        for status in ("interrupted", "interrupted", "finished", "finished"):
            ledger.append_run(replace(record, status=status), config, "runs/exp1")
    rows = read_rows(shared.ledger_url, "SELECT status FROM runs ORDER BY seq")
    assert [row["status"] for row in rows] == ["interrupted", "finished"]


def test_every_row_is_chained_by_a_hash_that_can_be_derived_again(shared: Workspace) -> None:
    add(shared, "0", 0.123456789012345)
    add(shared, "1", 0.1 + 0.2)
    with open_ledger(shared) as ledger:
        ledger.append_note(kind="note", text="a lesson", submission=1)
    previous = ""
    links = read_rows(shared.ledger_url, "SELECT * FROM chain ORDER BY seq")
    assert [link["kind"] for link in links] == [
        "submission",
        "score",
        "submission",
        "score",
        "note",
    ]
    for link in links:
        table = CHAINED[link["kind"]].name
        (row,) = read_rows(
            shared.ledger_url, f"SELECT * FROM {table} WHERE seq = :seq", {"seq": link["seq"]}
        )
        del row["seq"]
        assert link["previous"] == previous
        previous = link.pop("hash")
        assert row_hash(link, row) == previous


WRITES = {
    "update": "UPDATE {table} SET {column} = {column}",
    "delete": "DELETE FROM {table}",
}
COLUMNS = {
    "chain": "hash",
    "runs": "name",
    "submissions": "memo",
    "scores": "value",
    "notes": "text",
}


def fill(workspace: Workspace) -> None:
    """At least one row in every table."""
    add(workspace, "0", 0.5)
    record = make_run(workspace)
    with open_ledger(workspace) as ledger:
        ledger.append_run(record, {}, "runs/exp1")
        ledger.append_note(kind="note", text="t", submission=1)


def attempt(url: str, sql: str) -> None:
    """Run a statement as the owner of the database, past all our code."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(sql)
    finally:
        engine.dispose()


def dump(url: str) -> dict[str, list[dict[str, Any]]]:
    return {table: read_rows(url, f"SELECT * FROM {table}") for table in (*COLUMNS, "migrations")}


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def filled(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A ledger that nothing of what is tried on it may change."""
    folder = tmp_path_factory.mktemp("filled")
    workspace = make_workspace(folder / "ws", ledger_url=new_ledger_url(request, folder))
    fill(workspace)
    return workspace


@pytest.mark.parametrize("table", [*COLUMNS, "migrations"])
@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES.keys())
def test_the_database_refuses_to_change_or_delete_a_row(
    filled: Workspace, table: str, write: str
) -> None:
    before = dump(filled.ledger_url)
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        attempt(filled.ledger_url, write.format(table=table, column=COLUMNS.get(table, "name")))
    assert dump(filled.ledger_url) == before


@pytest.mark.parametrize("table", [*COLUMNS, "migrations"])
def test_the_database_refuses_to_replace_truncate_or_upsert(filled: Workspace, table: str) -> None:
    before = dump(filled.ledger_url)
    row = before[table][0]
    key = "version" if table == "migrations" else "seq"
    names, marks = ", ".join(row), ", ".join(_literal(value) for value in row.values())
    column = COLUMNS.get(table, "name")
    upsert = f"ON CONFLICT ({key}) DO UPDATE SET {column} = excluded.{column}"
    if filled.ledger_url.startswith("sqlite"):
        writes = [
            f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})",
            f"REPLACE INTO {table} VALUES ({marks})",
        ]
        writes.append(f"UPDATE OR REPLACE {table} SET {column} = 'x'")
    else:
        writes = [f"TRUNCATE {table} CASCADE", f"TRUNCATE {table}, chain CASCADE"]
    for sql in [*writes, f"INSERT INTO {table} ({names}) VALUES ({marks}) {upsert}"]:
        with pytest.raises(sa.exc.DBAPIError, match=r"append-only|foreign key constraint"):
            attempt(filled.ledger_url, sql.replace("%", "%%"))
    assert dump(filled.ledger_url) == before


def _literal(value: Any) -> str:
    if value is None:
        return "NULL"
    return "'" + value.replace("'", "''") + "'" if isinstance(value, str) else repr(value)


@pytest.mark.parametrize("column", ["number", "predictions_fingerprint"])
def test_sqlite_replaces_no_row_by_any_unique_key(workspace: Workspace, column: str) -> None:
    fill(workspace)
    before = dump(workspace.ledger_url)
    row = {
        **before["submissions"][0],
        "seq": 999,
        "number": 50,
        "predictions_fingerprint": "sha256:x",
    }
    row[column] = before["submissions"][0][column]
    names, values = ", ".join(row), ", ".join(_literal(value) for value in row.values())
    with pytest.raises(sa.exc.DBAPIError, match="append-only"):
        attempt(
            workspace.ledger_url, f"INSERT OR REPLACE INTO submissions ({names}) VALUES ({values})"
        )
    assert dump(workspace.ledger_url) == before


def test_the_chain_takes_no_row_with_a_gap_or_another_past(shared: Workspace) -> None:
    fill(shared)
    (last,) = read_rows(shared.ledger_url, "SELECT max(seq) AS seq FROM chain")
    for seq, previous in ((last["seq"] + 2, "x"), (last["seq"] + 1, "x")):
        with pytest.raises(sa.exc.DBAPIError, match="append-only"):
            attempt(
                shared.ledger_url, f"INSERT INTO chain VALUES ({seq}, 'note', '{previous}', 'h')"
            )


def test_the_daily_limit_refuses_and_tells_when_the_next_is_free(shared: Workspace) -> None:
    limited = replace(
        shared, competition=replace(shared.competition, daily_limit=2, time_zone="Asia/Seoul")
    )
    add(limited, "0")
    add(limited, "1")
    with pytest.raises(RefusedError, match="all 2 submissions of today are spent") as caught:
        add(limited, "2")
    assert "00:00 (Asia/Seoul)" in str(caught.value)
    assert [row.number for row in list_submissions(limited)] == [1, 2]
    with open_ledger(limited) as ledger:
        ledger.append_note(kind="rejected", text="wrong columns", submission=2)
    assert add(limited, "2") == 3


class Tomorrow(dt.datetime):
    """A clock that is a day ahead."""

    @classmethod
    def now(cls, tz: dt.tzinfo | None = None) -> dt.datetime:  # type: ignore[override]
        return dt.datetime.now(tz) + dt.timedelta(days=1)


def test_a_team_has_one_clock_the_servers(
    postgres_server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit = {"daily_limit": 1, "quota_window": "rolling"}
    limited = make_workspace(
        tmp_path / "ws", ledger_url=postgres_server.create_database(), competition=limit
    )
    add(limited, "0")
    for module in ("refusals", "read"):
        monkeypatch.setattr(
            f"tracker.ledger.{module}.dt", SimpleNamespace(datetime=Tomorrow, UTC=dt.UTC)
        )
    with pytest.raises(RefusedError, match="the one submission of today is spent"):
        add(limited, "1")
    assert read_clock(limited) - dt.datetime.now(dt.UTC) < dt.timedelta(hours=1)
    assert add(replace(limited, competition=replace(limited.competition, daily_limit=2)), "1") == 2
    first, second = list_submissions(limited)
    assert (
        str(first.submitted_at)[:10]
        <= str(second.submitted_at)[:10]
        <= f"{dt.datetime.now(dt.UTC):%Y-%m-%d}"
    )


def test_a_clock_behind_the_ledger_is_refused_until_one_of_the_two_is_put_right(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("tracker.ledger.refusals.dt", SimpleNamespace(datetime=Tomorrow, UTC=dt.UTC))
        add(workspace, "0")
    with pytest.raises(RefusedError, match="the clock of this machine is behind") as caught:
        add(workspace, "1")
    assert "set the clock" in caught.value.hint
    make_run(workspace, "0101010101")
    assert "the clock of this machine is behind" in check(workspace, "exp1").refusal
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="rejected", text="its clock was a day ahead", submission=1)
    assert add(workspace, "1") == 2


def test_submissions_of_the_future_are_told_and_not_counted(
    postgres_server: PostgresServer, tmp_path: Path
) -> None:
    limit = {"daily_limit": 1}
    limited = make_workspace(
        tmp_path / "ws", ledger_url=postgres_server.create_database(), competition=limit
    )
    later = {"submitted_at": to_utc_text(dt.datetime.now(dt.UTC) + dt.timedelta(days=3))}
    with open_ledger(limited) as ledger:
        ledger.append_historical(
            [HistoricalSubmission(number=1, memo="of a wrong clock", columns=later)],
            limited.competition,
        )
    add(limited, "0")
    words = r"the one submission of today is spent \(1 more are in the future"
    with pytest.raises(RefusedError, match=words):
        add(limited, "1")
    make_run(limited, "0101010101")
    report = check(limited, "exp1")
    assert re.match(words, report.refusal)
    assert report.quota.used == 1


def test_nothing_is_accepted_after_the_deadline(shared: Workspace) -> None:
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    closed = replace(shared, competition=replace(shared.competition, deadline=past))
    with pytest.raises(RefusedError, match="deadline passed"):
        add(closed, "0")
    assert list_submissions(closed) == []


def test_creating_a_ledger_twice_keeps_the_first(shared: Workspace) -> None:
    add(shared, "0")
    assert create_ledger(shared.ledger_url) is False
    assert len(list_submissions(shared)) == 1


def test_a_newer_ledger_is_refused_with_the_command_to_type(shared: Workspace) -> None:
    engine = sa.create_engine(shared.ledger_url)
    with engine.begin() as connection:
        row = {"version": 99, "name": "later", "applied_at": to_utc_text(dt.datetime.now(dt.UTC))}
        connection.execute(sa.insert(MIGRATIONS).values(**row))
    engine.dispose()
    with pytest.raises(LedgerError, match="schema 99") as caught:
        list_submissions(shared)
    assert "pip install ." in caught.value.hint
    with pytest.raises(LedgerError, match="schema 99"):
        add(shared, "0")


def test_a_foreign_database_is_refused_and_left_alone(
    ledger_url: str, workspace: Workspace
) -> None:
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE other (a INTEGER)")
    engine.dispose()
    foreign = replace(workspace, ledger_url=ledger_url)
    for use in (
        lambda: list_submissions(foreign),
        lambda: add(foreign, "0"),
        lambda: create_ledger(ledger_url),
    ):
        with pytest.raises(LedgerError, match="not a tracker ledger"):
            use()
    engine = sa.create_engine(ledger_url)
    assert sa.inspect(engine).get_table_names() == ["other"]
    engine.dispose()


def test_a_missing_ledger_is_never_replaced_by_an_empty_one(workspace: Workspace) -> None:
    path = Path(workspace.ledger_url.removeprefix("sqlite:///"))
    path.unlink()
    for use in (lambda: list_submissions(workspace), lambda: add(workspace, "0")):
        with pytest.raises(LedgerError, match="no ledger at"):
            use()
    assert not path.exists()


def test_a_file_that_is_no_database_is_refused(workspace: Workspace) -> None:
    path = Path(workspace.ledger_url.removeprefix("sqlite:///"))
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    for use in (lambda: list_submissions(workspace), lambda: add(workspace, "0")):
        with pytest.raises(LedgerError, match="not a readable ledger"):
            use()


def test_a_ledger_held_by_another_program_is_an_error_with_advice(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.ledger.append.BUSY_TIMEOUT_S", 0.2)
    other = sqlite3.connect(workspace.ledger_url.removeprefix("sqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(LedgerError, match="locked by another program"):
        add(workspace, "0")
    other.execute("ROLLBACK")
    other.close()


def test_a_full_disk_leaves_no_half_row(workspace: Workspace) -> None:
    add(workspace, "0")
    big = {"optim": {"lr": "x" * 200_000}}
    engine = sa.create_engine(workspace.ledger_url)
    with engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar_one()
    engine.dispose()

    def limit(connection: Any, _record: Any) -> None:
        connection.execute(f"PRAGMA max_page_count = {pages + 1}")

    sa.event.listen(sa.Engine, "connect", limit)
    try:
        with pytest.raises(StorageError, match="full"):
            add(workspace, "1", config=big)
    finally:
        sa.event.remove(sa.Engine, "connect", limit)
    assert [row.number for row in list_submissions(workspace)] == [1]
    assert add(workspace, "1", config=big) == 2


def test_a_server_out_of_reach_is_an_error_without_the_password(workspace: Workspace) -> None:
    url = "postgresql+psycopg://me:secret@127.0.0.1:1/none"
    away = replace(workspace, ledger_url=url)
    for use in (lambda: list_submissions(away), lambda: add(away, "0")):
        with pytest.raises(LedgerError) as caught:
            use()
        assert "secret" not in str(caught.value) + caught.value.hint
    assert mask_secrets(url) == "postgresql+psycopg://me:***@127.0.0.1:1/none"


def test_an_url_of_another_database_is_refused(workspace: Workspace) -> None:
    with pytest.raises(LedgerError, match="not understood"):
        add(replace(workspace, ledger_url="mysql://x/y"), "0")


def test_ledger_db_sql_and_the_table_objects_are_equal(ledger_url: str) -> None:
    create_ledger(ledger_url)
    engine = sa.create_engine(ledger_url)
    found = sa.inspect(engine)
    of_roles = set() if ledger_url.startswith("sqlite") else {"shared_settings"}
    assert set(found.get_table_names()) == {*METADATA.tables, *of_roles}
    for name, table in METADATA.tables.items():
        columns = {c["name"]: (_family(c["type"]), c["nullable"]) for c in found.get_columns(name)}
        assert columns == {c.name: (_family(c.type), c.nullable) for c in table.columns}, name
        assert list(columns) == [c.name for c in table.columns], name
        assert found.get_pk_constraint(name)["constrained_columns"] == [
            c.name for c in table.primary_key
        ], name
        unique = {tuple(item["column_names"]) for item in found.get_unique_constraints(name)}
        assert unique == {(c.name,) for c in table.columns if c.unique}, name
    engine.dispose()


def _family(kind: sa.types.TypeEngine[Any]) -> str:
    return "number" if isinstance(kind, sa.Float) else type(kind).__name__.lower()


def test_schema_sections_hold_whole_statements() -> None:
    statements = load_schema("sqlite")
    assert all(sqlite3.complete_statement(statement) for statement in statements)
    assert sum("CREATE TABLE" in statement for statement in statements) == 6
    assert len(load_schema("postgresql")) == 3


def test_canonical_json_is_sorted_and_exact() -> None:
    assert (
        canonical_json({"b": 0.1 + 0.2, "a": "\u00e9"}) == '{"a":"\u00e9","b":0.30000000000000004}'
    )
    assert {RUNS.name, SUBMISSIONS.name, CHAIN.name} <= set(METADATA.tables)


def test_history_shows_a_correction_beside_what_it_corrects(shared: Workspace) -> None:
    number = add(shared, "0", 0.76, memo="first")
    add(shared, "1", 0.5)
    with open_ledger(shared) as ledger:
        ledger.append_missing(number, {("public", "f1"): 0.7656})
        ledger.append_note(kind="note", text="typed wrong", submission=number)
    found = list_history(shared, submission=number)
    assert [(event.seq, event.kind, event.text) for event in found] == [
        (1, "submission", "exp1: first"),
        (2, "score", "public f1 0.7600"),
        (5, "score", "public f1 0.7656"),
        (6, "note", "note: typed wrong"),
    ]
    assert [event.seq for event in list_history(shared)] == [1, 2, 3, 4, 5, 6]
    assert [event.seq for event in list_history(shared, limit=2)] == [5, 6]


@pytest.mark.parametrize("name", ["q?x", "p%41x", "a#b c"])
def test_a_ledger_lies_in_its_workspace_whatever_the_folder_is_called(
    tmp_path: Path, name: str
) -> None:
    workspace = make_workspace(tmp_path / name, mlflow_uri="http://127.0.0.1:9")
    assert add(workspace, "0", 0.5) == 1
    assert len(list_submissions(workspace)) == 1
    assert (workspace.root / "ledger.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]
