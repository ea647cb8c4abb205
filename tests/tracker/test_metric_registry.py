"""A metric that is added to the registry is in all that this program computes, and no other file
knows the metrics."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, hamming_loss, roc_auc_score

from tests.support.training_loop import CONFIG, train
from tests.support.validation import TRUTH, guess, keep
from tests.support.workspaces import make_run, make_workspace
from tests.training.conftest import folders
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import diff_runs
from tracker.comparison.private_scores import LabeledPredictions
from tracker.comparison.statistics.paired import compare_predictions
from tracker.console.diff import render_markdown
from tracker.ledger.read import get_submission, list_validation_scores
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.formats.samples import Task
from tracker.training.metrics import GIVEN, METRICS, ComputedMetric, Counts
from tracker.training.pictures.figures import draw_curves
from tracker.training.progress import list_shown
from tracker.training.targets import check_config
from tracker.workflows.own_loop.common_names import common_name
from tracker.workspace.metrics import choose_metrics, higher_is_better, metric_title
from tracker.workspace.tracker_toml import Workspace, load_workspace, parse_score

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["folders"]
ROOT = Path(__file__).parents[2]
# The registry, and what is older: columns of the ledger, options, and what the lack of
# train.monitor means.
HISTORY = {"metrics.py", "tracker_toml.py", "advice.py", "append.py", "queue.py"}
# Words that happen to be the same: a loss, a page's layout, a short name, how well models tell an
# attribute.
OTHER_MEANINGS = {
    "config.py",
    "config_reading.py",
    "losses.py",
    "metric_names.py",
    "submission_table.py",
    "suspects.py",
    "targets.py",
}


def balanced_accuracy(counts: Counts) -> NDArray[np.float64]:
    recall: NDArray[np.float64] = np.divide(
        counts.hits, counts.actual, out=np.zeros_like(counts.actual), where=counts.actual > 0
    )
    present = np.maximum((counts.actual > 0).sum(axis=-1), 1)
    mean: NDArray[np.float64] = recall.sum(axis=-1) / present
    return mean


def error_rate(counts: Counts) -> NDArray[np.float64]:
    rate: NDArray[np.float64] = 1 - counts.hits.sum(axis=-1) / counts.actual.sum(axis=-1)
    return rate


def area(labels: NDArray[np.int64], probabilities: NDArray[np.float32]) -> float:
    return float(roc_auc_score(labels, probabilities[:, 1]))


BALANCED = ComputedMetric(
    name="balanced_accuracy",
    kind="balanced_accuracy",
    title="balanced accuracy",
    label="balanced accuracy",
    short="bal. acc.",
    low=-1,
    from_counts=balanced_accuracy,
    aliases=("bacc",),
)
AREA = ComputedMetric(
    name="auc", kind="auc", title="AUC", label="AUC", short="AUC", from_probabilities=area
)
ERROR = BALANCED._replace(
    name="miss",
    kind="miss",
    title="misses",
    from_counts=error_rate,
    higher_is_better=False,
)


@pytest.fixture(autouse=True)
def more_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    for metric in (BALANCED, AREA, ERROR):
        monkeypatch.setitem(METRICS, metric.name, metric)


def make_scored_workspace(root: Path) -> Workspace:
    """A workspace of which the new metric decides, with two runs that kept their validation."""
    workspace = make_workspace(root, metrics=["balanced_accuracy", "miss", "f1"])
    for errors, answers in ((60, "0000011111"), (20, "0100011111")):
        record = make_run(workspace, answers, f1=1 - errors / 400)
        keep(workspace, record.name, guess(errors))
    return workspace


def test_training_logs_and_shows_a_new_metric(folders: Path) -> None:
    config = replace(CONFIG, train=replace(CONFIG.train, epochs=1))
    result, logger = train(config, folders, "a")
    known = {name for _, values in logger.points for name in values}
    assert {
        "train/balanced_accuracy",
        "val/balanced_accuracy",
        "train/miss",
        "val/miss",
        "val/auc",
    } <= known
    assert "train/auc" not in known  # no probabilities of training images are kept
    assert result.best.metrics["val/miss"] == pytest.approx(1 - result.best.metrics["val/accuracy"])
    assert "val/balanced_accuracy" in list_shown()
    curves = {"val/balanced_accuracy": {1: (1, 0.5), 2: (2, 0.6)}}
    assert draw_curves(curves, 2, folders / "curves.png").stat().st_size


def test_a_new_metric_may_choose_the_best_epoch() -> None:
    task = Task(classes=("a", "b"), id_column="id", label_column="ans", answer_words=("0", "1"))
    config = replace(CONFIG, train=replace(CONFIG.train, monitor="val/auc"))
    check_config(config, task)
    wrong = replace(CONFIG, train=replace(CONFIG.train, monitor="val/acu"))
    with pytest.raises(ConfigError, match=r"val/acu is not measured, expected one of .*val/auc"):
        check_config(wrong, task)


def test_the_local_leaderboard_scores_by_a_new_metric(tmp_path: Path) -> None:
    workspace = make_scored_workspace(tmp_path / "ws")
    assert workspace.competition.primary.kind == "balanced_accuracy"
    assert not workspace.competition.metric(
        "miss"
    ).higher_is_better  # from the registry: init was not told
    submit(workspace, "exp2", memo="one wrong")
    row = get_submission(load_workspace(workspace.root), 1)
    truth, answers = np.array([0, 0, 0, 1, 1]), np.array([0, 0, 0, 1, 1])
    assert row.scores["public_balanced_accuracy"] == pytest.approx(
        balanced_accuracy_score(truth, answers)
    )
    assert row.scores["public_miss"] == pytest.approx(hamming_loss(truth, answers))


def test_compare_and_the_report_have_a_new_metric(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    record = make_run(workspace, "0000011111")
    path = workspace.runs_dir / record.name / "run.json"
    path.write_text(
        path.read_text().replace('"val/f1": 0.5', '"val/f1": 0.5, "val/balanced_accuracy": 0.25', 1)
    )
    submit(workspace, "exp1", memo="first")
    assert "val/balanced_accuracy" in compare_runs(workspace, ["exp1"]).rows[0].metrics
    row = get_submission(workspace, 1)
    assert list_validation_scores(workspace, [row])[1]["balanced_accuracy"] == 0.25
    assert choose_metrics(replace(workspace.competition, metrics=()), ["balanced_accuracy"]) == [
        "balanced_accuracy"
    ]


def test_a_new_metric_has_paired_statistics_and_its_direction(tmp_path: Path) -> None:
    a, b = np.array(guess(60)), np.array(guess(20))
    found = compare_predictions(TRUTH, a, b, 2, resamples=500).metrics
    assert list(found) == ["f1", "accuracy", "balanced_accuracy", "miss"]
    assert found["balanced_accuracy"].b == pytest.approx(balanced_accuracy_score(TRUTH, b))
    assert (found["miss"].better, found["miss"].delta) == ("b", pytest.approx(-0.1))
    workspace = make_scored_workspace(tmp_path / "ws")
    diff = diff_runs(workspace, "exp1", "exp2", resamples=500)
    assert "balanced accuracy 0.8500 -> 0.9500" in diff.verdict[1]
    assert diff.to_dict()["statistics"]["miss"]["better"] == "b"
    assert "balanced accuracy" in render_markdown(diff)


def test_private_scores_of_a_new_metric_are_resampled(tmp_path: Path) -> None:
    metric = make_scored_workspace(tmp_path / "ws").competition.primary
    guesses = np.array([guess(60), guess(20)])
    scores = LabeledPredictions([1, 2], TRUTH, guesses, 2, len(TRUTH), False, "").resample_scores(
        metric
    )
    for column, row in enumerate(guesses):
        np.testing.assert_allclose(scores[:, column], balanced_accuracy_score(TRUTH, row))


def test_names_bounds_and_directions_come_from_the_registry(tmp_path: Path) -> None:
    competition = make_scored_workspace(tmp_path / "ws").competition
    assert metric_title(competition.primary) == "balanced accuracy"
    assert parse_score(competition.primary, "-0.5") == -0.5
    assert competition.primary.clip(-3) == -1
    assert not higher_is_better((), "val/miss")
    assert common_name("valid_auc") == "val/auc"
    text = (tmp_path / "ws" / "tracker.toml").read_text().replace("\n# ", " ")
    assert "One of: macro_f1, accuracy, balanced_accuracy, " in text


def list_texts(path: Path) -> set[str]:
    return {
        node.value
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant)
    }


def test_no_file_but_the_registry_names_the_metrics() -> None:
    names = {"f1", "accuracy", "macro_f1", "val/f1", "val/accuracy", "train/f1"}
    paths = [*(ROOT / "tracker").rglob("*.py"), *(ROOT / "training").rglob("*.py")]
    naming = {path.name for path in paths if names & list_texts(path)}
    assert naming <= HISTORY | OTHER_MEANINGS
    assert {metric.kind for metric in METRICS.values()}.isdisjoint({GIVEN})
