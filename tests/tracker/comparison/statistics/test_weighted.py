"""Each metric of weighted images has scikit-learn's value, and swaps add up as they are said to."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sklearn.metrics as reference
from hypothesis import given, settings
from hypothesis import strategies as some
from numpy.typing import NDArray

from tracker.comparison.statistics.weighted import BUILDERS, Weighted, build_weighted, find_swing
from tracker.training.metrics import find_kind, list_kinds
from tracker.training.scorers import Outcome, Parameters, list_precisions

Array = NDArray[Any]
AVERAGES = ("macro", "micro", "weighted")


def draw_classes(seed: int, images: int = 40, classes: int = 4) -> Outcome:
    """Images of each class, scores with ties, and decided classes that are not the best score."""
    rng = np.random.default_rng(seed)
    truth = np.concatenate([np.arange(classes), rng.integers(0, classes, images - classes)])
    scores = rng.integers(1, 8, (images, classes)).astype(np.float64)
    scores[np.arange(images), truth] += 2
    decided = np.where(rng.random(images) < 0.6, truth, rng.integers(0, classes, images))
    scores /= scores.sum(axis=1, keepdims=True)
    return Outcome(classes=classes, truth=truth, decided=decided, scores=scores)


def draw_labels(seed: int, images: int = 40, classes: int = 3) -> Outcome:
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, 2, (images, classes))
    truth[0], truth[1] = 0, 1
    scores = np.round(np.clip(0.3 * truth + 0.7 * rng.random(truth.shape), 0, 1), 1)
    return Outcome(classes=classes, truth=truth, decided=(scores >= 0.5).astype(int), scores=scores)


def draw_numbers(seed: int, images: int = 40) -> Outcome:
    rng = np.random.default_rng(seed)
    truth = 1e4 + 30 * rng.standard_normal(images)
    return Outcome(classes=0, truth=truth, decided=truth + 10 * rng.standard_normal(images))


def columns(outcome: Outcome) -> tuple[Array, Array]:
    assert outcome.scores is not None
    if outcome.truth.ndim == 2:
        return outcome.truth, outcome.scores
    if outcome.classes == 2:
        return outcome.truth, outcome.scores[:, 1]
    return np.eye(outcome.classes, dtype=int)[outcome.truth], outcome.scores


def expect(kind: str, outcome: Outcome, chosen: Parameters, weights: Array) -> float:
    """The value of scikit-learn."""
    truth, decided, scores = outcome.truth, outcome.decided, outcome.scores
    options: dict[str, Any] = {"sample_weight": weights}
    every = list(range(outcome.classes))
    if kind in ("roc_auc", "average_precision"):
        function = {"roc_auc": reference.roc_auc_score}.get(kind, reference.average_precision_score)
        return float(function(*columns(outcome), average=chosen.average, **options))
    if kind in ("macro_f1", "f_beta"):
        labels = None if truth.ndim == 2 or chosen.average == "binary" else every
        options |= {"average": chosen.average, "beta": chosen.beta, "labels": labels}
        return float(reference.fbeta_score(truth, decided, zero_division=0, **options))
    if kind == "log_loss":
        assert scores is not None
        if truth.ndim == 1:
            return float(reference.log_loss(truth, scores, labels=every, **options))
        pairs = zip(truth.T, scores.T, strict=True)
        return float(
            np.mean([reference.log_loss(*pair, labels=[0, 1], **options) for pair in pairs])
        )
    if kind == "map_at_k":
        return float(np.average(list_precisions(outcome, chosen), weights=weights))
    if kind == "kappa":
        options |= {"weights": chosen.weights or None, "labels": every}
    names = {
        "accuracy": "accuracy_score",
        "balanced_accuracy": "balanced_accuracy_score",
        "mcc": "matthews_corrcoef",
        "kappa": "cohen_kappa_score",
        "rmse": "root_mean_squared_error",
        "mae": "mean_absolute_error",
        "r2": "r2_score",
    }
    return float(getattr(reference, names[kind])(truth, decided, **options))


CLASS_CASES = [
    *(
        ("f_beta", Parameters(average=average, beta=beta))
        for average in AVERAGES
        for beta in (1, 2)
    ),
    *(("kappa", Parameters(weights=weights)) for weights in ("", "linear", "quadratic")),
    *((kind, Parameters(average=a)) for kind in ("roc_auc", "average_precision") for a in AVERAGES),
    *((kind, Parameters()) for kind in ("macro_f1", "accuracy", "balanced_accuracy", "mcc")),
    ("log_loss", Parameters()),
    ("map_at_k", Parameters(k=2)),
]
LABEL_CASES = [
    ("average_precision", Parameters(average="samples")),
    *(("f_beta", Parameters(average=average, beta=2)) for average in (*AVERAGES, "samples")),
    *((kind, Parameters(average=a)) for kind in ("roc_auc", "average_precision") for a in AVERAGES),
    *((kind, Parameters()) for kind in ("macro_f1", "accuracy", "log_loss", "map_at_k")),
]
BINARY_CASES = [
    ("f_beta", Parameters(average="binary", beta=0.5)),
    *((kind, Parameters()) for kind in ("roc_auc", "average_precision", "log_loss", "mcc")),
]
NUMBER_CASES = [(kind, Parameters()) for kind in ("rmse", "mae", "r2")]
CASES = [
    *((draw_classes, *case) for case in CLASS_CASES),
    *((draw_labels, *case) for case in LABEL_CASES),
    *((lambda seed: draw_classes(seed, classes=2), *case) for case in BINARY_CASES),
    *((draw_numbers, *case) for case in NUMBER_CASES),
]


def build(kind: str, outcome: Outcome, chosen: Parameters) -> Weighted | None:
    known = find_kind(kind)
    assert known is not None
    assert known.from_outcome is not None
    return build_weighted(known.from_outcome, outcome, chosen)


def test_every_metric_of_the_registry_has_a_weighted_form() -> None:
    known = [find_kind(kind) for kind in list_kinds()]
    assert set(BUILDERS) == {metric.from_outcome for metric in known if metric}


@pytest.mark.filterwarnings("ignore:No positive class")
@pytest.mark.parametrize(("draw", "kind", "chosen"), CASES)
@settings(max_examples=5, deadline=None)
@given(seed=some.integers(0, 2**32 - 1))
def test_a_weighted_metric_is_that_of_scikit_learn(
    draw: Any, kind: str, chosen: Parameters, seed: int
) -> None:
    outcome = draw(seed)
    rng = np.random.default_rng(seed)
    weights = rng.exponential(size=(3, len(outcome.truth)))
    weights[0] = 1
    weights[1] = rng.integers(0, 3, len(outcome.truth))
    weights[1, :4] = 1  # of each class at least one image, of each label one with and one without
    found = build(kind, outcome, chosen)
    assert found is not None
    expected = [expect(kind, outcome, chosen, row) for row in weights]
    assert found.score(weights) == pytest.approx(expected, rel=1e-12, abs=1e-12)


def stack(a: Outcome, b: Outcome) -> Outcome:
    assert a.scores is not None and b.scores is not None
    decided = np.concatenate([np.asarray(a.decided), np.asarray(b.decided)])
    return a._replace(
        truth=np.concatenate([a.truth, b.truth]),
        decided=decided,
        scores=np.concatenate([a.scores, b.scores]),
    )


@pytest.mark.parametrize("draw", [draw_classes, draw_labels])
@pytest.mark.parametrize("average", AVERAGES)
@pytest.mark.parametrize("kind", ["roc_auc", "log_loss"])
def test_swapped_predictions_move_the_difference_by_their_swings(
    draw: Any, kind: str, average: str
) -> None:
    first, chosen = draw(3), Parameters(average=average)
    rng = np.random.default_rng(0)
    second = first._replace(scores=np.round(first.scores + 0.1 * rng.random(first.scores.shape), 2))
    if first.truth.ndim == 1:
        sums = second.scores.sum(axis=1, keepdims=True)
        second = second._replace(scores=second.scores / sums)
    a, b, both = (build(kind, one, chosen) for one in (first, second, stack(first, second)))
    assert a and b and both
    swing = find_swing(a, b)
    assert swing is not None
    flips = rng.integers(0, 2, (6, len(first.truth)))
    flips[0] = 0
    one = both.score(np.hstack([1.0 - flips, flips]))
    other = both.score(np.hstack([flips, 1.0 - flips]))
    assert (1 - 2 * flips) @ swing == pytest.approx(one - other, abs=1e-12)


def test_an_area_without_true_images_is_undefined() -> None:
    outcome = draw_classes(1, classes=2)._replace(truth=np.zeros(40, dtype=int))
    found = build("roc_auc", outcome, Parameters())
    assert found is not None
    assert np.isnan(found.score(np.ones((1, 40)))).all()
