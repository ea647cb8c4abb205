"""Rows of a ledger, without a run folder behind them."""

from __future__ import annotations

from typing import Any

from tracker.ledger.append import Draft, open_ledger
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
