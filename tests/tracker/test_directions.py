"""A competition whose metric is an error: every view shows it, and less of it is better."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from tracker.commands.table import app
from tracker.comparison.compare import compare_runs
from tracker.comparison.selection import select_final
from tracker.comparison.tree import build_family
from tracker.ledger.read import list_submissions, list_validation_scores
from tracker.ledger.submission_table import (
    export_table,
    import_table,
    read_submission_table,
    render_summary,
)
from tracker.mirror.targets.mlflow_view import describe_views
from tracker.report.charts import title_axis
from tracker.report.data import build_report
from tracker.report.page import render_page
from tracker.setup.init import init_workspace
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.metrics import describe_limits, find_declared
from tracker.workspace.tracker_toml import Workspace

IMAGES = 40
IDS = [f"{number:03}" for number in range(IMAGES)]
RNG = np.random.default_rng(4)
TRUTH = RNG.normal(50, 20, IMAGES).round(2)
NOISE = RNG.normal(0, 1, IMAGES)
ERRORS = (9.0, 5.0, 7.0)  # of exp1, exp2 and exp3
VALIDATION = RNG.normal(50, 20, (30, 1))


def make_contest(root: Path, *metrics: str, **competition: Any) -> Workspace:
    """A workspace without images; scores are typed in."""
    root.mkdir(exist_ok=True)
    competition = {"id_column": "id", "label_column": "age", **competition}
    return init_workspace(root, data={}, competition=competition, metrics=metrics)


@pytest.fixture(scope="module")
def regression(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Three runs that were submitted: exp2 has the lowest error, exp1 the highest."""
    workspace = make_contest(
        tmp_path_factory.mktemp("contest") / "ws", "rmse", "r2", target="number", answer="number"
    )
    for size in ERRORS:
        with begin({"lr": size}, root=workspace.root, follow=False) as run:
            for epoch in range(1, 13):  # best in epoch 6, then worse and worse
                values = {"val/rmse": size + abs(epoch - 6) / 10, "train/loss": 1 / epoch}
                run.log(values, step=epoch, epoch=epoch)
            run.save_validation(
                [f"v{number}" for number in range(30)], VALIDATION, VALIDATION + size
            )
            run.save_predictions(dict(zip(IDS, TRUTH + size * NOISE, strict=True)))
        row, _ = submit(workspace, run.name, f"error of {size:g}")
        score(workspace, row.number, {("public", "rmse"): size, ("public", "r2"): 1 / size})
    return workspace


@pytest.fixture
def show(regression: Workspace, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """What a command prints."""
    monkeypatch.chdir(regression.root)

    def run_command(*words: str) -> str:
        done = CliRunner().invoke(app, list(words))
        assert done.exit_code == 0, done.output
        return done.output

    return run_command


def test_compare_stars_the_lower_error_on_validation_and_leaderboard(
    regression: Workspace,
) -> None:
    found = compare_runs(regression, ["exp1", "exp2", "exp3"])
    assert [row.runs[0] for row in found.rows] == ["exp1", "exp2", "exp3"]
    best = {name: found.rows[index].runs[0] for name, index in found.best.items()}
    assert best["val/rmse"] == best["public_rmse"] == "exp2"
    assert best["val/r2"] == "exp2"  # of which more is better


def test_lists_show_the_metric_of_the_competition_and_no_empty_columns(
    show: Callable[..., str],
) -> None:
    for words in (("runs",), ("leaderboard",), ("tree",), ("show", "exp2"), ("compare",)):
        text = show(*words)
        assert "5.000" in text, words
        for other in ("f1", "accuracy"):
            assert other not in text, words
    assert "val/rmse" in show("runs") and "val rmse" in show("leaderboard")
    ordered = show("runs", "--sort", "val/rmse")
    assert re.findall("^exp.", ordered, re.MULTILINE) == ["exp2", "exp3", "exp1"]


def test_advice_reads_the_error_in_its_direction(show: Callable[..., str]) -> None:
    text = show("show", "exp2")
    assert "Overfitting: val/rmse was best in epoch 6 of 12" in text


def test_the_tree_has_the_validation_error_of_each_run(regression: Workspace) -> None:
    scores = [node.scores for node in build_family(regression).nodes]
    assert [each["val_rmse"] for each in scores] == list(ERRORS)


def test_the_report_names_the_error_and_says_that_less_is_better(regression: Workspace) -> None:
    page = render_page(build_report(regression))
    assert "validation RMSE (lower is better)" in page
    assert "became SOTA with this public RMSE (submission, lower is better)" in page
    assert "macro F1" not in page and "val_f1" not in page
    metric = regression.competition.metric("r2")
    assert title_axis("public_r2", metric) == "public R2"


def test_the_view_in_mlflow_has_the_metrics_of_the_competition(regression: Workspace) -> None:
    view = describe_views(regression)["Leaderboard"]
    assert view["selectedColumns"][3:5] == ["tags.`best/val/rmse`", "tags.`best/val/r2`"]
    assert "tags.`best/val/f1`" not in view["selectedColumns"]
    assert view["orderByAsc"] is True


def test_select_takes_the_lower_errors_and_says_how_numbers_differ(
    regression: Workspace, show: Callable[..., str]
) -> None:
    assert list(select_final(regression, 2).chosen) == [2, 3]
    text = show("select")
    assert "% of the images" not in text
    assert "their answers differ by at most" in text


def test_predictions_that_differ_by_a_billionth_are_not_called_0_percent_equal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = make_contest(tmp_path / "ws", "rmse", target="number", answer="number")
    names = []
    for shift in (0.0, 1e-9):
        with begin({"shift": shift}, root=workspace.root, follow=False) as run:
            run.save_predictions(dict(zip(IDS, TRUTH + shift, strict=True)))
        names.append(run.name)
    monkeypatch.chdir(workspace.root)
    submit(workspace, names[0], "first")
    for words in (("diff", *names), ("check", names[1])):
        text = CliRunner().invoke(app, list(words)).output
        assert "% equal" not in text
        assert "by at most 1e-09" in text or "by at most 1.000e-09" in text, text


SPELLED = {
    "rmse": ("RMSE", "root_mean_squared_error"),
    "log_loss": ("logloss", "LogLoss", "log loss"),
    "roc_auc": ("auc", "AUROC", "roc-auc"),
    "kappa_quadratic": ("qwk", "quadratic_weighted_kappa"),
    "f1_macro": ("f1", "macro_f1"),
    "f1": ("f1_macro", "F1-score"),
    "map@5": ("map5", "MAP@5"),
    "logloss:lower": ("log_loss", "logloss"),
}


@pytest.mark.parametrize("declared", list(SPELLED))
def test_usual_spellings_of_the_declared_metric_are_known(tmp_path: Path, declared: str) -> None:
    answer = {"map@5": "ranked", "log_loss": "columns", "roc_auc": "columns"}.get(declared, "class")
    target = "number" if declared == "rmse" else "class"
    answer = "number" if declared == "rmse" else answer
    competition = make_contest(
        tmp_path, declared, classes=("a", "b", "c"), target=target, answer=answer
    ).competition
    (metric,) = competition.metrics
    for text in SPELLED[declared]:
        assert find_declared(competition, text) == metric
    assert find_declared(competition, "dice") is None


def test_the_limits_of_a_metric_are_its_own(tmp_path: Path) -> None:
    names = ("f1", "mcc", "rmse", "r2", "dice")
    metrics = make_contest(tmp_path / "ws", *names, target="ordered").competition.metrics
    assert [describe_limits(metric) for metric in metrics] == [
        "between 0 and 1",
        "between -1 and 1",
        "at least 0",
        "at most 1",
        "any number",
    ]


def write_table(path: Path, **columns: list[Any]) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))
    return path


def test_an_imported_table_has_the_validation_scores_of_the_declared_metrics(
    tmp_path: Path,
) -> None:
    workspace = make_contest(
        tmp_path / "ws", "log_loss", "rmse", answer="columns", classes=("a", "b")
    )
    path = write_table(
        tmp_path / "old.csv",
        memo=["first", "second", "third", "fourth"],
        public_logloss=[0.5, 0.4, 0.3, 0.2],
        val_logloss=[0.6, 0.5, 0.4, 0.25],
        val_RMSE=[3, "", 1, 0.5],
        val_dice=[0.1, 0.2, 0.3, 0.4],
    )
    table = read_submission_table(path, workspace.competition)
    assert "training and validation: val_log_loss, val_rmse" in render_summary(table)
    assert "stored with the rows: val_dice" in render_summary(table)
    import_table(workspace, table)
    rows = list_submissions(workspace)
    assert [row.scores["public_log_loss"] for row in rows] == [0.5, 0.4, 0.3, 0.2]
    scores = list_validation_scores(workspace, rows)
    assert scores[1] == {"log_loss": 0.6, "rmse": 3.0}
    assert scores[2] == {"log_loss": 0.5}
    family = {node.name: node.scores for node in build_family(workspace).nodes}
    assert family["s4"]["val_log_loss"] == 0.25
    found = compare_runs(workspace, ["s1..s4"], each=True)
    assert found.rows[found.best["val/log_loss"]].runs[0] == "s4"
    relation = next(item for item in build_report(workspace).relations if item.x == "val_log_loss")
    assert len(relation.points) == 4
    # the exported table comes back as it was
    export_table(workspace, tmp_path / "all.csv")
    other = make_contest(tmp_path / "ws2", "log_loss", "rmse", answer="columns", classes=("a", "b"))
    import_table(other, read_submission_table(tmp_path / "all.csv", other.competition))
    assert list_validation_scores(other, list_submissions(other)) == scores


def test_two_columns_for_one_metric_are_refused(tmp_path: Path) -> None:
    workspace = make_contest(tmp_path / "ws", "log_loss", answer="columns", classes=("a", "b"))
    path = write_table(tmp_path / "old.csv", memo=["m"], val_logloss=[0.6], val_log_loss=[0.5])
    with pytest.raises(ConfigError) as caught:
        read_submission_table(path, workspace.competition)
    assert "a second column with val_log_loss" in str(caught.value.problems)
