"""Rows of a ledger, without a run folder behind them, and what its owner can do to them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from tracker.ledger.append import Draft, open_ledger
from tracker.ledger.chain import TABLES, row_hash
from tracker.ledger.columns import load_schema
from tracker.ledger.connection import open_reader
from tracker.run_folder.record import RunRecord
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace


def draft(letter: str = "0", *, memo: str = "m", config: dict[str, Any] | None = None) -> Draft:
    """A submission of ten equal answers."""
    record = RunRecord(
        name="exp1", uid="u1", summary={"val/f1": 0.5, "train/loss": 0.1}, best_epoch=3
    )
    answers = Answers.of({f"i{number}.png": letter for number in range(10)})
    return Draft(
        record=record,
        config=config or {"optim": {"lr": 0.1}},
        memo=memo,
        answers=answers,
        file="f.csv",
    )


def add(workspace: Workspace, letter: str, f1: float | None = None, **options: Any) -> int:
    with open_ledger(workspace) as ledger:
        number = ledger.append_submission(draft(letter, **options), workspace.competition).number
        if f1 is not None:
            ledger.append_missing(number, {("public", "f1"): f1})
    return number


def change(url: str, *statements: str) -> None:
    """What somebody with full rights does: guards and foreign keys off, the statements, and all on
    again."""
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        if engine.dialect.name == "sqlite":
            select = "SELECT name FROM sqlite_master WHERE type = 'trigger'"
            for name in connection.exec_driver_sql(select).scalars().all():
                connection.exec_driver_sql(f"DROP TRIGGER {name}")
        else:
            connection.exec_driver_sql("SET session_replication_role = replica")
        for statement in statements:
            connection.exec_driver_sql(statement)
        if engine.dialect.name == "sqlite":
            for statement in load_schema("sqlite"):
                if "CREATE TRIGGER" in statement:
                    connection.exec_driver_sql(statement)
    engine.dispose()


def rewrite(url: str, *statements: str) -> None:
    """What an owner does who knows the program: the statements, then numbers and hashes anew."""
    change(url, *statements)
    tables = dict(TABLES)
    with open_reader(url) as query:
        chain = query("SELECT * FROM chain ORDER BY seq", {})
        rows = {kind: query(f"SELECT * FROM {table}", {}) for kind, table in tables.items()}
    contents = {row["seq"]: row for kind in tables for row in rows[kind]}
    updates, previous = [], ""
    for seq, link in enumerate(chain, 1):
        row = {name: value for name, value in contents[link["seq"]].items() if name != "seq"}
        new = {"seq": seq, "kind": link["kind"], "previous": previous}
        digest = row_hash(new, row)
        old = link["seq"]
        updates += [
            f"UPDATE chain SET seq = {seq}, previous = '{previous}', hash = '{digest}' WHERE seq ="
            f" {old}",
            f"UPDATE {tables[link['kind']]} SET seq = {seq} WHERE seq = {old}",
        ]
        previous = digest
    change(url, *updates)
