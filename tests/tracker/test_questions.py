"""What cannot be taken back is asked first in a terminal, and never in a script."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, run_in_terminal, run_tracker
from tests.workspaces import make_run, make_workspace
from tracker.ledger.read import list_submissions
from tracker.submit import submit
from tracker.workspace import Workspace, load_workspace


@pytest.fixture
def limited(tmp_path: Path) -> Workspace:
    """A local leaderboard that takes two submissions in 24 hours; one was sent."""
    competition = {"daily_limit": 2, "quota_window": "rolling"}
    workspace = make_workspace(tmp_path / "ws", competition=competition)
    make_run(workspace, "0000000110")
    submit(workspace, "exp1", "a")
    make_run(workspace, "0000011110", note="a larger model")
    return workspace


def type_in(workspace: Workspace, text: str, *words: str) -> str:
    return run_in_terminal(*words, cwd=workspace.root, width=200, typed=text, **NO_MLFLOW)


def test_the_last_submission_is_asked_for_in_a_terminal(limited: Workspace) -> None:
    said = type_in(limited, "n\n", "submit", "--memo", "b")
    assert "it is the last one of these 24 hours: submit exp2 (a larger model)? [y/N]" in said
    assert "nothing was submitted" in said
    assert len(list_submissions(limited)) == 1
    refused = type_in(limited, "", "submit", "exp1", "--memo", "b")  # a duplicate takes none: no question
    assert "duplicate" in refused
    assert "[y/N]" not in refused
    said = type_in(limited, "y\n", "submit", "--memo", "b")
    assert "exp2: new SOTA: public f1" in said
    assert "that was the last one" in said


def test_the_last_submission_needs_no_answer_in_a_script_or_with_yes(limited: Workspace) -> None:
    lines = run_tracker("submit", "--memo", "b", cwd=limited.root, **NO_MLFLOW).stdout.splitlines()
    assert lines[0].startswith("new SOTA: public f1")
    said = type_in(make_second(limited), "", "submit", "--memo", "c", "--yes")
    assert "equal to SOTA" in said
    assert "[y/N]" not in said


def make_second(workspace: Workspace) -> Workspace:
    """One more submission is free, and one more run there to be sent."""
    text = (workspace.root / "tracker.toml").read_text().replace("daily_limit = 2", "daily_limit = 3")
    (workspace.root / "tracker.toml").write_text(text)
    make_run(workspace, "0000001110")
    return workspace


def test_reveal_asks_in_a_terminal_and_says_what_it_did(limited: Workspace) -> None:
    said = type_in(limited, "n\n", "leaderboard", "reveal")
    assert "open the private scores of submission 1? It cannot be undone [y/N]" in said
    assert "nothing was opened" in said
    assert not any(name.startswith("private_") for row in list_submissions(limited) for name in row.scores)
    lines = run_tracker("leaderboard", "reveal", cwd=limited.root, **NO_MLFLOW).stdout.splitlines()
    assert lines[0] == "opened the private scores of submission 1; the ledger keeps them"
    again = type_in(limited, "", "leaderboard", "reveal")
    assert "no private score was sealed" in again
    assert "[y/N]" not in again


def test_a_submission_after_the_reveal_says_why_it_has_no_private_score(limited: Workspace) -> None:
    before = run_tracker("leaderboard", cwd=limited.root).stdout
    run_tracker("leaderboard", "reveal", cwd=limited.root, **NO_MLFLOW)
    said = run_tracker("submit", "--memo", "b", cwd=limited.root, **NO_MLFLOW).stdout
    reason = "no private score of 2: submitted after the private scores were opened"
    assert reason in said
    assert reason in run_tracker("leaderboard", cwd=limited.root).stdout
    assert "no private score" not in before
    done = run_tracker("score", "1", "--private-f1", "0.5", cwd=limited.root, ok=False)
    assert "reveal" not in done.stderr


def test_a_local_leaderboard_is_never_said_to_take_typed_scores(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    for words in (["sota"], ["select"], ["check", "sota"]):
        done = run_tracker(*words, cwd=workspace.root, ok=False)
        assert done.stderr.endswith('  try: tracker submit R --memo "what is new"\n')


def test_people_read_times_in_the_zone_of_the_competition_and_programs_utc(tmp_path: Path) -> None:
    said = run_tracker(
        "init", "ws", "--classes", "cat,dog", "--time-zone", "Asia/Seoul", "--deadline", "2021-01-01T10:00",
        "--no-pretrained", cwd=tmp_path,
    )  # fmt: skip
    assert said.stderr.startswith("warning: the deadline 2021-01-01 10:00 (Asia/Seoul) has passed: every submission")
    workspace = load_workspace(tmp_path / "ws")
    record = make_run(workspace)
    seoul = dt.datetime.fromisoformat(record.created_at) + dt.timedelta(hours=9)
    listed = run_tracker("runs", cwd=workspace.root).stdout
    assert "created (Asia/Seoul)" in listed
    assert f"{seoul:%Y-%m-%d %H:%M}" in listed
    assert f"{seoul:%Y-%m-%d %H:%M:%S}" in run_tracker("show", "exp1", cwd=workspace.root).stdout
    (row,) = json.loads(run_tracker("runs", "--json", cwd=workspace.root).stdout)
    assert row["created_at"] == record.created_at
    assert "time (Asia/Seoul)" in run_tracker("ledger", "history", cwd=workspace.root).stdout
