"""A competition whose metrics are not F1 and accuracy: every hint, column and direction comes from
tracker.toml."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.workspaces import IMAGES, make_workspace
from tracker.comparison.advice import advise
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import diff_runs
from tracker.comparison.submission_rows import submission_to_json
from tracker.console.runs import print_runs, render_end
from tracker.console.submissions import print_leaderboard
from tracker.core.errors import TrackerError
from tracker.core.list_marks import Marks
from tracker.leaderboards.local import compute_metric
from tracker.ledger.read import get_submission, list_validation_scores
from tracker.ledger.resolve import resolve_run
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown
from tracker.run_folder.read import list_runs, load_run
from tracker.submission.examine import check
from tracker.submission.scores import score
from tracker.submission.submit import _render_message, submit
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.judge_function import Judged
from tracker.workspace.metrics import (
    NO_PUBLIC_SCORE,
    higher_is_better,
    is_loss,
    render_score_command,
)
from tracker.workspace.tracker_toml import DEFAULT_METRICS, Competition, Metric, Workspace

ANSWERS = ("0000011110", "0000011111", "0000111110")


@pytest.fixture
def other(tmp_path: Path) -> Workspace:
    """A competition of two metrics that tracker cannot compute, of which less is better of the
    first."""
    return make_workspace(
        tmp_path / "ws", solution=None, leaderboard="manual", metrics=["rmse:lower", "auc"]
    )


def make_own_run(workspace: Workspace, answers: str, **figures: float) -> str:
    """A run of somebody's own loop with these validation figures in two epochs."""
    with begin({"optim": {"lr": 0.1}, "val_fold": 0}, root=workspace.root, follow=False) as run:
        for epoch in (1, 2):
            run.log(
                {f"val/{name}": value for name, value in figures.items()}, step=epoch, epoch=epoch
            )
        run.set_summary({f"val/{name}": value for name, value in figures.items()})
        run.save_predictions({f"i{number}.png": answers[number] for number in range(IMAGES)})
    return run.name


# --- Which way is better ---

DECLARED = (
    Metric(name="rmse", higher_is_better=False),
    Metric(name="odd_loss"),
    Metric(name="auc"),
)


@pytest.mark.parametrize(
    "name", ["val/rmse", "train/rmse", "public_rmse", "private_rmse", "val_rmse", "val/rmse/cat"]
)
def test_a_declared_metric_has_its_direction_wherever_it_was_measured(name: str) -> None:
    assert not higher_is_better(DECLARED, name)
    assert higher_is_better((Metric(name="rmse"),), name)


def test_the_declared_direction_decides_before_the_name() -> None:
    assert higher_is_better(DECLARED, "val/odd_loss")
    assert not higher_is_better(DECLARED, "val/other_loss")


@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("val/loss", True),
        ("val/log_loss", True),
        ("val/logloss", True),
        ("train/cross_entropy", True),
        ("val/top5-error", True),
        ("val/RMSE", True),
        ("val/NLL", True),
        ("val/f1", False),
        ("val/f1/error-free", True),
        ("val/accuracy", False),
        ("val/glossiness", False),
        ("val/terrain", False),
    ],
)
def test_a_metric_that_nobody_declared_is_judged_by_its_name(name: str, loss: bool) -> None:
    if not name.startswith("val/f1/"):
        assert is_loss(name) == loss
    assert higher_is_better(DEFAULT_METRICS, name) == (not loss or name.startswith("val/f1"))


def test_compare_and_diff_take_a_lower_rmse_for_better(other: Workspace) -> None:
    make_own_run(other, ANSWERS[0], rmse=0.5, auc=0.9, brier=0.2)
    make_own_run(other, ANSWERS[1], rmse=0.4, auc=0.8, brier=0.1)
    found = compare_runs(other, ["exp1", "exp2"], each=True)
    assert found.metrics == ["val/rmse", "val/auc", "val/brier"]
    assert found.best == {"val/rmse": 1, "val/auc": 0, "val/brier": 1}
    assert [row.runs for row in compare_runs(other, [], sort="val/rmse", each=True).rows] == [
        ["exp2"],
        ["exp1"],
    ]
    diff = diff_runs(other, "exp1", "exp2")
    assert {name: item["better"] for name, item in diff.metrics.items()} == {
        "val/rmse": "b",
        "val/auc": "a",
        "val/brier": "b",
    }
    assert any("val RMSE 0.5000 -> 0.4000, exp2 is ahead" in line for line in diff.verdict)
    assert list(diff.curves) == ["val/rmse", "val/auc"]


def test_a_score_of_a_metric_that_is_declared_no_more_is_still_compared(other: Workspace) -> None:
    for answers, rmse in zip(ANSWERS[:2], (0.5, 0.4), strict=True):
        number = submit(other, make_own_run(other, answers, rmse=rmse), "m")[0].number
        score(other, number, {("public", "rmse"): rmse})
    toml = other.root / "tracker.toml"
    text = toml.read_text().replace('name = "rmse"', 'name = "auc2"')
    toml.write_text(text.replace('primary_metric = "rmse"', 'primary_metric = "auc2"'))
    printed = run_tracker("diff", "exp1", "exp2", "--json", cwd=other.root, **NO_MLFLOW).stdout
    assert json.loads(printed)["metrics"]["public_rmse"]["better"] == "b"


def test_advice_follows_the_declared_direction() -> None:
    curves = {
        "val/mcd": {epoch: (epoch, value) for epoch, value in enumerate((3.0, 1.0, 2.0), start=1)}
    }
    lower = advise(curves, monitor="val/mcd", metrics=[Metric(name="mcd", higher_is_better=False)])
    higher = advise(curves, monitor="val/mcd", metrics=[Metric(name="mcd")])
    assert lower is not None
    assert higher is not None
    assert (lower.best_epoch, higher.best_epoch) == (2, 1)


# --- Hints ---


def test_the_hint_after_submit_is_a_command_that_works(other: Workspace) -> None:
    make_own_run(other, ANSWERS[0], rmse=0.5)
    printed = run_tracker("submit", "exp1", "--memo", "m", cwd=other.root, **NO_MLFLOW).stdout
    hint = printed[printed.index("tracker score ") :].splitlines()[0]
    assert hint == "tracker score 1 --public rmse=X --public auc=X"
    assert not re.search(r"\bf1\b", printed)  # a fingerprint may have these two letters
    assert "accuracy" not in printed
    scored = run_tracker(*shlex.split(hint.replace("=X", "=0.5"))[1:], cwd=other.root, **NO_MLFLOW)
    assert "0.5000" in scored.stdout
    assert get_submission(other, 1).scores == {"public_rmse": 0.5, "public_auc": 0.5}


def test_a_competition_of_f1_and_accuracy_keeps_its_short_options() -> None:
    competition = Competition(name="c", classes=("a", "b"))
    assert (
        render_score_command(competition, 3, every=True)
        == "tracker score 3 --public-f1 X --public-acc X"
    )
    assert render_score_command(competition, split="private") == "tracker score N --private-f1 X"


@pytest.mark.parametrize("words", [["sota"], ["select"], ["show", "sota"]])
def test_no_sota_is_said_in_one_sentence_with_a_hint_that_fits(
    other: Workspace, words: list[str]
) -> None:
    submit(other, make_own_run(other, ANSWERS[0], rmse=0.5), "m")
    done = run_tracker(*words, cwd=other.root, ok=False, **NO_MLFLOW)
    assert done.returncode in (1, 2)
    assert done.stderr == f"error: {NO_PUBLIC_SCORE}\n  try: tracker score N --public rmse=X\n"


def test_audit_and_report_say_it_in_the_same_words(other: Workspace) -> None:
    assert NO_PUBLIC_SCORE in run_tracker("audit", cwd=other.root, **NO_MLFLOW).stdout
    submit(other, make_own_run(other, ANSWERS[0], rmse=0.5), "m")
    assert (
        render_markdown(build_report(other)).count(NO_PUBLIC_SCORE) == 2
    )  # at the top, and under the timeline


def test_a_score_command_without_scores_names_the_metrics(other: Workspace) -> None:
    submit(other, make_own_run(other, ANSWERS[0], rmse=0.5), "m")
    with pytest.raises(ConfigError) as caught:
        score(other, 1, {})
    assert caught.value.hint == "tracker score 1 --public rmse=X --public auc=X"
    with pytest.raises(TrackerError):
        resolve_run(other, "sota")


# --- Columns ---


def heads(text: str) -> list[str]:
    """The column heads of the first table in a text."""
    return [part.strip() for part in text.strip().splitlines()[0].split("  ") if part.strip()]


def test_runs_and_leaderboard_have_the_columns_of_the_competition(
    other: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own_run(other, ANSWERS[0], rmse=0.5, f1=0.7, loss=0.3)
    submit(other, "exp1", "m")
    print_runs(list_runs(other.runs_dir), {}, {}, other.competition)
    assert [head for head in heads(capsys.readouterr().out) if "/" in head] == [
        "val/rmse",
        "val/loss",
    ]
    row = get_submission(other, 1)
    validation = list_validation_scores(other, [row])
    print_leaderboard([row], other.competition, validation, marks=Marks())
    printed = capsys.readouterr().out
    assert heads(printed)[2:5] == ["public rmse", "public auc", "val rmse"]  # none private yet
    assert "val f1" not in printed
    shown = submission_to_json(row, other.competition, validation, sota=None, was=False)
    assert (shown["val_rmse"], shown["val_auc"], shown["val_f1"]) == (0.5, None, 0.7)
    assert (
        render_end(load_run(other.runs_dir, "exp1"), other.competition)
        == "exp1 finished: val rmse 0.5000"
    )


def test_what_training_measured_is_shown_where_none_of_the_metrics_was(
    other: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_own_run(other, ANSWERS[0], f1=0.7, accuracy=0.6)
    print_runs(list_runs(other.runs_dir), {}, {}, other.competition)
    assert [head for head in heads(capsys.readouterr().out) if "/" in head] == [
        "val/f1",
        "val/accuracy",
    ]


def test_the_report_has_the_columns_of_the_competition(other: Workspace) -> None:
    submit(other, make_own_run(other, ANSWERS[0], rmse=0.5, f1=0.7, loss=0.3), "m")
    assert [column.name for column in build_report(other).columns] == ["val RMSE", "val loss"]


def test_check_compares_the_validation_of_the_competition(other: Workspace) -> None:
    submit(other, make_own_run(other, ANSWERS[0], rmse=0.5), "m")
    score(other, 1, {("public", "rmse"): 0.6})
    make_own_run(other, ANSWERS[2], rmse=0.4)
    assert check(other, "exp2").validation == {"val_rmse": [0.5, 0.4], "val_loss": [None, None]}


def test_a_leaderboard_is_told_the_deciding_validation_score(other: Workspace) -> None:
    row, _ = submit(other, make_own_run(other, ANSWERS[0], rmse=0.5, f1=0.7), "new head")
    assert _render_message(other, row) == "exp1 (0.5000): new head"
    row, _ = submit(other, make_own_run(other, ANSWERS[2], f1=0.7), "another")
    assert _render_message(other, row) == "exp2: another"


def test_a_kind_that_cannot_be_computed_is_never_taken_for_accuracy(tmp_path: Path) -> None:
    competition = Competition(classes=("cat", "dog"))
    metric = Metric(name="kappa", kind="quadratic_kappa")
    with pytest.raises(ConfigError, match="cannot compute kappa"):
        compute_metric(metric, Judged(["a"], ["0"], ["0"], competition), tmp_path)
