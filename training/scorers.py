"""Metrics of whole tables of true and predicted values, computed by scikit-learn.

training/metrics.py has their names and what is known of each. Only MAP@k is written here:
scikit-learn has no metric of ranked lists of classes.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.training.errors import DataError, first_line

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Scorer = Callable[["Outcome", "Parameters"], float]

# Rows whose sum is nearer to 1 are used as they are; others are divided by it, as judges do.
SUM_TOLERANCE = 1e-6


class Parameters(NamedTuple):
    """What a metric of tracker.toml says beside its kind; each metric uses some of them."""

    average: str = "macro"
    beta: float = 1.0
    k: int = 5
    weights: str = ""


class Outcome(NamedTuple):
    """True and predicted values of the same images.

    `truth` has class numbers [images], 0 and 1 [images, classes], or numbers [images]. `decided`
    has the predicted values in the same form, `scores` a number for each class [images, classes],
    `ranked` class numbers [images, k], the best first and -1 where there are fewer. None stands for
    what the answers do not say. `ids` [images] are for a judge's own function alone.
    """

    classes: int
    truth: NDArray[Any]
    decided: NDArray[Any] | None = None
    scores: NDArray[np.float64] | None = None
    ranked: NDArray[np.int64] | None = None
    ids: NDArray[Any] | None = None


def compute(scorer: Scorer, outcome: Outcome, parameters: Parameters) -> float:
    """The value of a metric; raises DataError where it is not defined for these images."""
    import numpy as np

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an undefined metric is reported below
            value = float(scorer(outcome, parameters))
    except ValueError as error:
        raise DataError(first_line(error)) from error
    if not np.isfinite(value):
        raise DataError(
            f"not defined for these {len(outcome.truth)} images: is every class among them?"
        )
    return value


def accuracy(outcome: Outcome, parameters: Parameters) -> float:
    """Share of images whose answer is right as a whole."""
    from sklearn.metrics import accuracy_score

    return float(accuracy_score(outcome.truth, outcome.decided))


def balanced_accuracy(outcome: Outcome, parameters: Parameters) -> float:
    """Mean recall of the classes that occur."""
    from sklearn.metrics import balanced_accuracy_score

    return float(balanced_accuracy_score(outcome.truth, outcome.decided))


def f_beta(outcome: Outcome, parameters: Parameters) -> float:
    """F-beta over all classes; 0 for a class that is neither true nor predicted."""
    from sklearn.metrics import fbeta_score

    options: dict[str, Any] = {"average": parameters.average, "zero_division": 0}
    if outcome.truth.ndim == 1 and parameters.average != "binary":
        options["labels"] = list(range(outcome.classes))
    return float(fbeta_score(outcome.truth, outcome.decided, beta=parameters.beta, **options))


def matthews(outcome: Outcome, parameters: Parameters) -> float:
    """Matthews correlation coefficient, -1 to 1."""
    from sklearn.metrics import matthews_corrcoef

    return float(matthews_corrcoef(outcome.truth, outcome.decided))


def kappa(outcome: Outcome, parameters: Parameters) -> float:
    """Cohen's kappa: without weights, or with linear or quadratic ones."""
    from sklearn.metrics import cohen_kappa_score

    labels = list(range(outcome.classes))
    weights = parameters.weights or None
    return float(cohen_kappa_score(outcome.truth, outcome.decided, weights=weights, labels=labels))


def log_loss(outcome: Outcome, parameters: Parameters) -> float:
    """Log loss of probabilities; the mean of the columns where an image has several labels.

    Rows that do not sum to 1 are divided by their sum.
    """
    import numpy as np
    from sklearn.metrics import log_loss as sklearn_log_loss

    scores = _require(outcome.scores)
    if outcome.truth.ndim == 2:
        losses = [
            sklearn_log_loss(outcome.truth[:, column], scores[:, column], labels=[0, 1])
            for column in range(scores.shape[1])
        ]
        return float(np.mean(losses))
    sums = scores.sum(axis=1, keepdims=True)
    is_uneven = np.abs(sums - 1) > SUM_TOLERANCE
    scores = np.where(is_uneven & (sums > 0), scores / np.where(sums > 0, sums, 1), scores)
    labels = list(range(outcome.classes))
    return float(sklearn_log_loss(outcome.truth, scores, labels=labels))


def roc_auc(outcome: Outcome, parameters: Parameters) -> float:
    """Area under the ROC curve: of the second class of two, otherwise averaged over the columns."""
    from sklearn.metrics import roc_auc_score

    truth, scores = _columns(outcome)
    return float(roc_auc_score(truth, scores, average=parameters.average))


def average_precision(outcome: Outcome, parameters: Parameters) -> float:
    """Average precision: of the second class of two, otherwise averaged over the columns."""
    from sklearn.metrics import average_precision_score

    truth, scores = _columns(outcome)
    return float(average_precision_score(truth, scores, average=parameters.average))


def map_at_k(outcome: Outcome, parameters: Parameters) -> float:
    """Mean average precision of the first k answers; a class that is named twice counts once.

    Source: the evaluation page of Kaggle's Expedia contest (mean of precision at each right place,
    divided by the number of true classes, at most k).
    """
    import numpy as np

    return float(np.mean(list_precisions(outcome, parameters)))


def list_precisions(outcome: Outcome, parameters: Parameters) -> list[float]:
    """The average precision of the first k answers of each image."""
    import numpy as np

    ranked = outcome.ranked
    if ranked is None and outcome.scores is not None:
        ranked = np.argsort(-outcome.scores, axis=1, kind="stable")
    assert ranked is not None  # noqa: S101  (`find_missing` has looked)
    truth = outcome.truth
    if truth.ndim == 1:
        truth = np.arange(outcome.classes) == truth[:, None]
    precisions = []
    for row, labels in zip(ranked.tolist(), truth.astype(bool), strict=True):
        listed = list(dict.fromkeys(row))[: parameters.k]
        hits, total = 0, 0.0
        for place, label in enumerate(listed, start=1):
            if label >= 0 and labels[label]:
                hits += 1
                total += hits / place
        wanted = min(int(labels.sum()), parameters.k)
        precisions.append(total / wanted if wanted else 0.0)
    return precisions


def rmse(outcome: Outcome, parameters: Parameters) -> float:
    """Root of the mean squared error."""
    from sklearn.metrics import root_mean_squared_error

    return float(root_mean_squared_error(outcome.truth, outcome.decided))


def mae(outcome: Outcome, parameters: Parameters) -> float:
    """Mean absolute error."""
    from sklearn.metrics import mean_absolute_error

    return float(mean_absolute_error(outcome.truth, outcome.decided))


def r2(outcome: Outcome, parameters: Parameters) -> float:
    """Coefficient of determination; 1 at best, below 0 where the mean would do better."""
    from sklearn.metrics import r2_score

    return float(r2_score(outcome.truth, outcome.decided))


def _require(scores: NDArray[np.float64] | None) -> NDArray[np.float64]:
    assert scores is not None  # noqa: S101  (`find_missing` has looked)
    return scores


def _columns(outcome: Outcome) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Truth as 0 and 1, and scores: [images] of the second class of two, else [images, classes]."""
    import numpy as np

    scores = _require(outcome.scores)
    if outcome.truth.ndim == 2:
        return outcome.truth, scores
    if outcome.classes == 2:
        return outcome.truth, scores[:, 1]
    return (np.arange(outcome.classes) == outcome.truth[:, None]).astype(np.int64), scores
