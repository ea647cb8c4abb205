"""`diff` and `check` decide by the competition's metric, whatever an image has."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import cohen_kappa_score, log_loss, roc_auc_score

from tests.support.workspaces import begin_run, make_run
from tracker.comparison.diff import RunDiff, diff_runs
from tracker.comparison.evidence import Evidence
from tracker.comparison.leaderboard_noise import SampleSizes
from tracker.comparison.private_scores import (
    LabeledOutcomes,
    LabeledPredictions,
    load_labeled_predictions,
)
from tracker.comparison.selection import select_final
from tracker.comparison.verdict import write_verdict
from tracker.console.diff import list_sections, render_markdown
from tracker.ledger.read import list_submissions
from tracker.setup.init import init_workspace
from tracker.submission.headlines import judge_gain
from tracker.submission.scores import score as record_score
from tracker.submission.submit import submit
from tracker.training.predict.probabilities import (
    Predictions,
    load_probabilities,
    save_probabilities,
    select,
)
from tracker.training.scorers import Outcome
from tracker.workspace.tracker_toml import Metric, Workspace

IMAGES = 300
IDS = tuple(f"v{number:03d}.png" for number in range(IMAGES))
CLASSES = ("a", "b", "c")
RNG = np.random.default_rng(0)
LABELS = np.arange(IMAGES) % 3
ONE_HOT = np.eye(3)[LABELS]
MANY = np.stack([np.arange(IMAGES) % 2, np.arange(IMAGES) % 3 > 0, np.arange(IMAGES) % 5 > 2], 1)
NUMBERS = 1000 + 100 * RNG.standard_normal((IMAGES, 1))
NOISE = RNG.standard_normal((2, IMAGES, 3))


def make_workspace(root: Path, metrics: list[str], **competition: Any) -> Workspace:
    given = {"id_column": "id", "label_column": "label", **competition}
    return init_workspace(root, data={}, competition=given, metrics=metrics)


def keep(
    workspace: Workspace, values: Any, labels: Any, *, classes: tuple[str, ...] = CLASSES
) -> str:
    """A run with these values of the validation images."""
    name = make_run(workspace).name
    predictions = Predictions(IDS, np.asarray(values, np.float32), classes, labels=labels)
    save_probabilities(workspace.runs_dir / name / "validation.npz", predictions)
    return name


def softmax(logits: Any) -> Any:
    scores = np.exp(logits)
    return scores / scores.sum(axis=1, keepdims=True)


def diff(workspace: Workspace) -> RunDiff:
    return diff_runs(workspace, "exp1", "exp2", resamples=500)


def make_classes(root: Path, metrics: list[str], **competition: Any) -> Workspace:
    """exp2 is better: its scores are less noisy."""
    workspace = make_workspace(root, metrics, classes=list(CLASSES), **competition)
    for noise in (2.5, 1.0):
        keep(workspace, softmax(2 * ONE_HOT + noise * NOISE[0]), LABELS)
    return workspace


def test_a_lower_log_loss_is_better_and_the_verdict_says_so(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    found = diff(workspace)
    assert found.verdict[1].startswith("exp2 is better by 0.")
    assert "lower is better" in found.verdict[1]
    assert found.statistics is not None
    assert list(found.statistics.metrics) == ["f1", "accuracy", "log_loss"]
    result = found.to_dict()["statistics"]["log_loss"]
    scores = softmax(2 * ONE_HOT + 2.5 * NOISE[0]).astype(np.float32).astype(float)
    scores /= scores.sum(axis=1, keepdims=True)
    assert result["a"] == pytest.approx(log_loss(LABELS, scores), abs=1e-6)
    assert (result["better"], result["delta"] < 0) == ("b", True)
    assert (result["higher_is_better"], result["title"], result["resamples"]) == (
        False,
        "log loss",
        500,
    )
    assert "log loss (lower is better)" in render_markdown(found)


@pytest.mark.parametrize("metric", ["kappa_quadratic", "mcc", "roc_auc", "map@2"])
def test_the_metric_of_the_competition_decides_over_macro_f1(tmp_path: Path, metric: str) -> None:
    target = "ordered" if metric == "kappa_quadratic" else "class"
    workspace = make_classes(tmp_path / "ws", [metric, "f1"], target=target)
    found = diff(workspace)
    assert found.statistics is not None
    title = found.statistics.metrics[metric].title
    assert title in found.verdict[1]
    assert "exp2 is better" in found.verdict[1]
    assert found.moves["validation"]


def test_runs_with_several_labels_an_image_are_compared(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "ws", ["roc_auc"], classes=list(CLASSES), target="labels", answer="columns"
    )
    scores = [1 / (1 + np.exp(-(2 * MANY - 1 + noise * NOISE[0]))) for noise in (3.0, 1.0)]
    for values in scores:
        keep(workspace, values, MANY.astype(np.int64))
    found = diff(workspace)
    assert found.verdict[1].startswith("exp2 is better by ")
    assert found.statistics is not None
    assert found.statistics.mcnemar is None
    expected = roc_auc_score(MANY, scores[1].astype(np.float32), average="macro")
    assert found.statistics.metrics["roc_auc"].b == pytest.approx(expected, abs=1e-12)
    assert found.moves["validation"] == []
    assert "McNemar" not in render_markdown(found)
    assert found.to_dict()["statistics"]["mcnemar"] is None


def test_numbers_are_compared_by_their_errors(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", ["rmse", "mae"], target="number", answer="number")
    for error in (200, 100):
        keep(workspace, NUMBERS + error * NOISE[0][:, :1], NUMBERS, classes=())
    found = diff(workspace)
    assert "exp2 is better by " in found.verdict[1]
    assert "RMSE" in found.verdict[1]
    assert "lower is better" in found.verdict[1]
    assert found.statistics is not None
    assert found.statistics.metrics["rmse"].delta == pytest.approx(-100, rel=0.1)
    sections = list_sections(found, everything=True, width=100)
    lines = [line for section in sections for line in section.lines]
    assert "RMSE, MAE: 500 resamples" in lines


def test_a_kept_decision_is_the_one_that_is_compared(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "ws", ["kappa_quadratic"], classes=list(CLASSES), target="ordered"
    )
    scores = softmax(ONE_HOT + NOISE[0])
    names = [keep(workspace, scores, LABELS) for _ in range(2)]
    (workspace.runs_dir / names[1] / "decision.json").write_text(
        '{"rule": "cuts", "values": [0.9, 1.1], "note": ""}'
    )
    found = diff(workspace)
    assert found.statistics is not None
    result = found.statistics.metrics["kappa_quadratic"]
    expected = np.searchsorted([0.9, 1.1], scores.astype(np.float32) @ np.arange(3), side="right")
    assert result.a == pytest.approx(
        cohen_kappa_score(LABELS, scores.argmax(axis=1), weights="quadratic")
    )
    assert result.b == pytest.approx(cohen_kappa_score(LABELS, expected, weights="quadratic"))
    # the metrics of every run, and the images that changed, are of the same classes
    assert found.statistics.metrics["accuracy"].b == pytest.approx((expected == LABELS).mean())
    changed = int((expected != scores.argmax(axis=1)).sum())
    assert sum(move.images for move in found.moves["validation"]) == changed


def test_runs_that_err_on_the_same_images_in_other_ways_are_not_called_equal(
    tmp_path: Path,
) -> None:
    workspace = make_workspace(tmp_path / "ws", ["accuracy"], classes=list(CLASSES))
    errs = np.arange(IMAGES) < 60
    for step in (1, 2):
        guesses = np.where(errs, (LABELS + step) % 3, LABELS)
        keep(workspace, np.eye(3)[guesses], LABELS)
    found = diff(workspace)
    assert found.statistics is not None
    assert found.statistics.metrics["accuracy"].smallest is None
    assert found.verdict[1] == (
        "accuracy 0.8000 in both, however the 300 samples of the validation set are drawn"
    )
    metric = workspace.competition.primary
    told = judge_gain(found.statistics, metric, is_gain=True)
    same = "accuracy is the same, however the validation images are drawn"
    assert told == f", no difference at all ({same})"


def test_the_images_own_order_and_that_of_the_runs_change_no_figure(tmp_path: Path) -> None:
    """Weights are drawn image by image: in another order they would be other weights."""
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    path = workspace.runs_dir / "exp2" / "validation.npz"
    save_probabilities(path, select(load_probabilities(path), list(range(IMAGES))[::-1]))
    there, back = (
        diff_runs(workspace, *runs, resamples=500).statistics
        for runs in (("exp1", "exp2"), ("exp2", "exp1"))
    )
    assert there is not None
    assert back is not None
    assert there == back.mirror()


def test_check_calls_a_gain_real_by_the_metric_itself(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    found = diff(workspace).statistics
    assert found is not None
    metric = workspace.competition.primary
    assert judge_gain(found, metric, is_gain=True).startswith(", real (p = 0.00")
    assert "say the opposite" in judge_gain(found, metric, is_gain=False)


def test_possible_private_scores_vary_as_those_of_drawn_images(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    outcomes, losses = [], []
    for noise in (2.5, 1.0):
        scores = softmax(2 * ONE_HOT + noise * NOISE[0])
        outcomes.append(Outcome(classes=3, truth=LABELS, scores=scores))
        losses.append(-np.log(scores[np.arange(IMAGES), LABELS]))
    panel = LabeledOutcomes([1, 2], outcomes, 100, "")
    drawn = panel.resample_scores(workspace.competition.primary)
    assert drawn.shape == (2000, 2)
    for column, loss in enumerate(losses):
        assert drawn[:, column].mean() == pytest.approx(loss.mean(), rel=0.02)
        assert drawn[:, column].std() == pytest.approx(loss.std() / 10, rel=0.08)


def test_select_draws_the_validation_images_of_any_metric_and_knows_its_direction(
    tmp_path: Path,
) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    given = {"id": ["x.png", "y.png"]}
    for number, name in enumerate(("exp1", "exp2")):
        table = given | {word: [0.2 + 0.1 * number, 0.3] for word in CLASSES}
        path = workspace.runs_dir / name / "predictions.csv"
        pd.DataFrame(table).to_csv(path, index=False)
        submit(workspace, name, "m", even_if_similar=True)
        record_score(workspace, number + 1, {("public", "log_loss"): 0.5 + 0.01 * number})
    for name in ("exp1", "exp2"):
        regroup(workspace, name, PATIENTS, "patient")
    rows = list_submissions(workspace)
    sample = SampleSizes(public=100, private=100, source="")
    labeled, _ = load_labeled_predictions(workspace, rows, {}, sample, needed=[1, 2])
    assert labeled is not None
    scores = labeled.resample_scores(workspace.competition.primary)
    assert (scores[:, 1] < scores[:, 0]).mean() > 0.95
    found = select_final(workspace, 1).simulation
    assert found is not None
    assert found.source == "300 validation images, resampled to 1 by patient (38 groups)"
    assert found.possible == pytest.approx(scores.min(axis=1).mean(), rel=0.1)


def test_labels_of_another_kind_than_the_target_are_said(tmp_path: Path) -> None:
    workspace = make_workspace(
        tmp_path / "ws", ["roc_auc"], classes=list(CLASSES), target="labels", answer="columns"
    )
    for _ in range(2):
        keep(workspace, softmax(NOISE[0]), LABELS)
    found = diff(workspace)
    assert found.statistics is None
    assert found.problem == "the validation labels do not fit the competition's target (labels)"


def test_folds_are_compared_by_the_metric_of_the_competition(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    for noise in (2.5, 1.0):
        keep_folds(workspace, noise)
    found = diff_runs(workspace, "exp5", "exp8", resamples=200)
    assert found.folds is not None
    assert list(found.folds) == ["f1", "accuracy", "log_loss"]
    assert any(line.startswith("over 2 folds: log loss -") for line in found.verdict)
    assert any(line.endswith("better in 2 of them") for line in found.verdict)


def keep_folds(workspace: Workspace, noise: float) -> None:
    """Two runs of one fold each, and their ensemble."""
    scores = softmax(2 * ONE_HOT + noise * NOISE[1])
    members = []
    for fold in range(2):
        config: Mapping[str, Any] = {"data.fold": fold, "data.folds": 2}
        name = make_run(workspace, config=config).name
        part = np.arange(IMAGES) % 2 == fold
        ids = tuple(np.array(IDS)[part])
        save_probabilities(
            workspace.runs_dir / name / "validation.npz",
            Predictions(ids, scores[part].astype(np.float32), CLASSES, labels=LABELS[part]),
        )
        members.append(name)
    recorder = begin_run(workspace, kind="ensemble", config={"ensemble": {"members": members}})
    predictions = Predictions(IDS, scores.astype(np.float32), CLASSES, labels=LABELS)
    save_probabilities(recorder.folder / "validation.npz", predictions)
    recorder.finish("finished")


# --- Groups of images (data.group) ---

PATIENTS = tuple(f"p{number // 8}" for number in range(IMAGES))  # 38 of up to 8 images


def regroup(workspace: Workspace, name: str, groups: tuple[str, ...], called: str) -> None:
    path = workspace.runs_dir / name / "validation.npz"
    kept = replace(load_probabilities(path), groups=groups, group_name=called)
    save_probabilities(path, kept)


def test_diff_resamples_whole_patients_where_both_runs_have_them(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    singly = diff(workspace).statistics
    regroup(workspace, "exp1", PATIENTS, "patient")
    regroup(workspace, "exp2", tuple(f"x{name}" for name in PATIENTS), "patient")
    found = diff(workspace)
    assert found.statistics is not None
    assert singly is not None
    assert (singly.units, singly.unit) == (300, "")
    assert (found.statistics.units, found.statistics.unit) == (38, "patient")
    assert "resampled by patient (38 groups)" in found.verdict
    assert found.to_dict()["statistics"]["unit"] == "patient"
    assert found.statistics.metrics["f1"].low != singly.metrics["f1"].low
    assert found.statistics.metrics["log_loss"].low != singly.metrics["log_loss"].low
    gain = judge_gain(found.statistics, workspace.competition.primary, is_gain=True)
    assert gain.endswith("; by patient, 38 groups)")
    full = [
        line for part in list_sections(found, everything=True, width=100) for line in part.lines
    ]
    assert any(line.endswith("resamples, by patient (38 groups)") for line in full)


def test_diff_says_why_groups_are_not_drawn_and_that_few_are_rough(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    regroup(workspace, "exp1", PATIENTS, "patient")
    found = diff(workspace)
    expected = "resampled image by image, because exp2 saved no groups of its images (patient)"
    assert found.verdict[2].startswith(expected)
    regroup(workspace, "exp2", tuple(f"p{number // 9}" for number in range(IMAGES)), "patient")
    found = diff(workspace)
    assert "because exp1 and exp2 have different groups: " in found.verdict[2]
    assert found.statistics is not None
    assert found.statistics.units == IMAGES
    for name in ("exp1", "exp2"):
        regroup(workspace, name, tuple(f"p{number % 5}" for number in range(IMAGES)), "patient")
    line = "resampled by patient (5 groups): fewer than 10 groups, so the interval is rough"
    assert diff(workspace).verdict[2] == line
    for name in ("exp1", "exp2"):
        regroup(workspace, name, ("p",) * IMAGES, "patient")
    problem = diff(workspace).problem
    assert problem == "all validation images are of one patient: nothing to resample"
    for name in ("exp1", "exp2"):  # every image alone: nothing is said
        regroup(workspace, name, IDS, "patient")
    assert not [line for line in diff(workspace).verdict if "resampled" in line]


def test_select_draws_whole_patients_for_possible_private_scores(tmp_path: Path) -> None:
    workspace = make_classes(tmp_path / "ws", ["log_loss"], answer="columns")
    scores = softmax(2 * ONE_HOT + 2.5 * NOISE[0])[::8].repeat(8, axis=0)  # alike in a patient
    labels = LABELS[::8].repeat(8)
    owners = np.arange(38).repeat(8)
    outcome = Outcome(classes=3, truth=labels, scores=scores)
    panel = LabeledOutcomes([1], [outcome], 100, "", owners)
    metric = workspace.competition.primary
    loss = -np.log(scores[np.arange(304), labels])
    assert panel.resample_scores(metric).std() == pytest.approx(
        loss.std() / 100**0.5 * 8**0.5, rel=0.1
    )
    wrong = scores.argmax(axis=1)
    classes = LabeledPredictions([1], labels, wrong[None], 3, 100, True, "", owners)
    by_image = LabeledPredictions([1], labels, wrong[None], 3, 100, True, "")
    accuracy = Metric(name="accuracy", kind="accuracy")
    spread = classes.resample_scores(accuracy).std() / by_image.resample_scores(accuracy).std()
    assert spread == pytest.approx(8**0.5, rel=0.12)


def test_a_judges_own_function_is_tested_on_few_drawn_resamples(tmp_path: Path) -> None:
    (tmp_path / "ws").mkdir()
    (tmp_path / "ws" / "judge.py").write_text(
        "def cost(truth, predictions):\n"
        "    return (truth['label'] != predictions['label']).mean()\n"
    )
    workspace = make_classes(tmp_path / "ws", ["judge.py:cost:lower"])
    found = diff(workspace)
    assert found.statistics is not None
    cost, accuracy = (found.statistics.metrics[name] for name in ("cost", "accuracy"))
    assert (cost.a, cost.b) == pytest.approx((1 - accuracy.a, 1 - accuracy.b))
    assert (cost.resamples, cost.better, cost.title) == (200, "b", "cost")
    assert found.verdict[1].startswith("exp2 is better by")


def test_images_with_other_answers_are_not_counted_as_the_lead(tmp_path: Path) -> None:
    """Two answers differ and one image decides: 9 of 320 once read as a lead of nine."""
    workspace = make_workspace(
        tmp_path / "ws", ["accuracy"], classes=list(CLASSES), public_share=0.5
    )
    public = {"public_accuracy": {"a": 0.5, "b": 0.50625, "delta": 0.00625, "better": "b"}}
    line = write_verdict(
        workspace.competition,
        ("exp1", "exp2"),
        config={},
        not_known=(),
        metrics=public,
        validation={},
        not_comparable={},
        evidence=Evidence(problem="none saved"),
        predictions={"equal_share": 311 / 320, "changed": 9, "total": 320},
    )[-1]
    assert line == (
        "public accuracy 0.5000 -> 0.5063: exp2 is ahead; the answers to 9 of 320 images differ"
        " (public and private together, about 4 of them public); by public accuracy the runs are"
        " about 1 image apart; not tested for chance"
    )
