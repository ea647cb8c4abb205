"""One examination of a candidate: check prints it, submit writes it, and what others can change is
asked again."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.read import list_submissions
from tracker.submission.examine import build_check_report, check, examine
from tracker.submission.submit import submit, submit_examined
from tracker.workspace.tracker_toml import Workspace


def list_copies(workspace: Workspace) -> list[Path]:
    """The files kept of submissions."""
    return sorted(workspace.submissions_dir.glob("*"))


def test_check_is_the_examination_that_submit_writes(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011101", config={"optim.lr": 0.25})
    submit(workspace, "exp1", "first")
    examination = examine(workspace, "exp2")
    assert (
        build_check_report(workspace, examination).to_dict() == check(workspace, "exp2").to_dict()
    )
    assert examination.find_refusal() is None
    row, _ = submit_examined(workspace, examination, "second")
    assert (row.number, row.run, row.sota) == (2, "exp2", 1)
    assert row.config_diff == examination.config_diff
    assert row.predictions_fingerprint == examination.candidate.answers.fingerprint


def test_what_others_submit_after_the_examination_is_asked_again(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011110")
    examination = examine(workspace, "exp2")
    submit(workspace, "exp1", "a teammate's, the same predictions")
    kept = list_copies(workspace)
    with pytest.raises(DuplicateError, match="the same predictions are submission 1"):
        submit_examined(workspace, examination, "too late")
    assert len(list_submissions(workspace)) == 1
    assert list_copies(workspace) == kept


def test_a_quota_spent_after_the_examination_is_asked_again(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", competition={"daily_limit": 1})
    make_run(workspace, "0000011110")
    make_run(workspace, "1110011101")
    examination = examine(workspace, "exp2")
    submit(workspace, "exp1", "the last one of today")
    kept = list_copies(workspace)
    with pytest.raises(RefusedError, match="the one submission of today is spent"):
        submit_examined(workspace, examination, "too late")
    assert len(list_submissions(workspace)) == 1
    assert list_copies(workspace) == kept


def test_predictions_that_change_after_the_examination_are_not_sent(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    examination = examine(workspace, "exp1")
    path = examination.candidate.path
    path.write_text(path.read_text().replace("i0.png,0", "i0.png,1"))
    with pytest.raises(RefusedError, match="was changed after it was examined"):
        submit_examined(workspace, examination, "m")
    assert list_submissions(workspace) == []
    assert list_copies(workspace) == []


def test_a_duplicate_is_named_before_a_spent_quota_and_a_similar_submission(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "ws", competition={"daily_limit": 2, "similar_share": 0.9}
    )
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011111")
    submit(workspace, "exp1", "a")
    similar = examine(workspace, "exp2")
    assert "of the predictions are those of submission 1" in str(similar.find_refusal())
    assert similar.find_refusal(even_if_similar=True) is None
    submit(workspace, "exp2", "b", even_if_similar=True)
    again = examine(workspace, "exp2")
    assert None not in (again.duplicate, again.quota_refusal, again.similar_refusal)
    assert again.find_refusal() is again.duplicate


def test_submit_says_each_figure_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)
    make_run(workspace, "0000011110")
    make_run(workspace, "0000000001", config={"optim.lr": 0.25}, f1=0.75)
    submit(workspace, "exp1", "first")
    shown = (
        CliRunner()
        .invoke(app, ["submit", "exp2", "--memo", "second"], catch_exceptions=False)
        .stdout
    )
    assert [line for line in shown.splitlines() if line.startswith("public f1 ")] != []
    assert shown.count("change to SOTA") == 1
    assert shown.count("val_f1") == 1
    assert "memo" not in shown
