"""Metrics of weighted images, for many weightings at once.

scikit-learn computes one weighting at a time. Here what does not depend on the weights is computed
once (losses, sorted scores), and each weighting is a few sums. The values are scikit-learn's with
`sample_weight`; a test compares them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tracker.training import scorers

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.training.scorers import Outcome, Parameters

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]


class Weighted(Protocol):
    """A metric of given images, as a function of their weights."""

    @property
    def size(self) -> int:
        """How many numbers a weighting costs."""

    def score(self, weights: Floats) -> Floats:
        """The metric [weightings] of weights [weightings, images]; NaN where undefined."""


def build_weighted(
    scorer: scorers.Scorer, outcome: Outcome, parameters: Parameters
) -> Weighted | None:
    """The metric of this scorer; None for one that only the scorer can compute."""
    build = BUILDERS.get(scorer)
    return build(outcome, parameters) if build else None


def find_swing(a: Weighted, b: Weighted) -> Floats | None:
    """How far each image [images] moves the difference a - b.

    After the predictions of some images are swapped, the difference is the sum of the swings, with
    minus for those images. None for a metric that does not add up so.
    """
    if isinstance(a, _Mean) and isinstance(b, _Mean):
        swing: Floats = (a.values - b.values) / len(a.values)
        return swing
    if isinstance(a, _Columns) and isinstance(b, _Columns):
        return _find_area_swing(a, b)
    return None


# --- Sums over images


@dataclass(frozen=True)
class _Mean:
    """The weighted mean of a value [images] of each image."""

    values: Floats

    @property
    def size(self) -> int:
        return len(self.values)

    def score(self, weights: Floats) -> Floats:
        mean: Floats = weights @ self.values / weights.sum(axis=1)
        return mean


@dataclass(frozen=True)
class _Sums:
    """A function of weighted sums [weightings, features] of features [images, features]."""

    features: Floats
    finish: Callable[[Floats], Floats]

    @property
    def size(self) -> int:
        return int(self.features.size)

    def score(self, weights: Floats) -> Floats:
        return self.finish(weights @ self.features)


def _accuracy(outcome: Outcome, parameters: Parameters) -> Weighted:
    right = outcome.truth == outcome.decided
    return _Mean((right.all(axis=1) if right.ndim == 2 else right).astype(float))


def _log_loss(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    import numpy as np

    scores = outcome.scores
    if scores is None:
        return None
    least = np.finfo(np.float64).eps
    if outcome.truth.ndim == 2:
        right = np.where(outcome.truth == 1, scores, 1 - scores)
        return _Mean(-np.log(np.clip(right, least, 1 - least)).mean(axis=1))
    right = scores[np.arange(len(scores)), outcome.truth]
    sums = scores.sum(axis=1)
    is_uneven = (np.abs(sums - 1) > scorers.SUM_TOLERANCE) & (sums > 0)
    right = np.where(is_uneven, right / np.where(sums > 0, sums, 1), right)
    return _Mean(-np.log(np.clip(right, least, 1 - least)))


def _map_at_k(outcome: Outcome, parameters: Parameters) -> Weighted:
    import numpy as np

    return _Mean(np.array(scorers.list_precisions(outcome, parameters)))


def _mae(outcome: Outcome, parameters: Parameters) -> Weighted:
    return _Mean(abs(_errors(outcome)))


def _rmse(outcome: Outcome, parameters: Parameters) -> Weighted:
    import numpy as np

    def finish(sums: Floats) -> Floats:
        root: Floats = np.sqrt(sums[:, 1] / sums[:, 0])
        return root

    errors = _errors(outcome)
    return _Sums(np.stack([np.ones_like(errors), errors**2], axis=1), finish)


def _r2(outcome: Outcome, parameters: Parameters) -> Weighted:
    import numpy as np

    def finish(sums: Floats) -> Floats:
        spread = sums[:, 3] - sums[:, 2] ** 2 / sums[:, 0]
        with np.errstate(divide="ignore", invalid="ignore"):
            share: Floats = 1 - sums[:, 1] / spread
        return share

    errors = _errors(outcome)
    truth = outcome.truth.astype(np.float64)
    centered = truth - truth.mean()  # no digits are lost to a large mean
    parts = [np.ones_like(errors), errors**2, centered, centered**2]
    return _Sums(np.stack(parts, axis=1), finish)


def _errors(outcome: Outcome) -> Floats:
    import numpy as np

    assert outcome.decided is not None  # noqa: S101  (a metric of decided values)
    errors: Floats = np.subtract(outcome.decided, outcome.truth, dtype=np.float64)
    return errors


# --- Classes


@dataclass(frozen=True)
class _Classes:
    """A function of the weighted numbers [weightings, classes] of each class.

    A cell is a true and a predicted class [cells] that occur together; `cell` is each image's.
    """

    cell: Integers
    truth: Integers
    decided: Integers
    classes: int
    finish: Callable[[_Counts], Floats]

    @property
    def size(self) -> int:
        return len(self.cell)

    def score(self, weights: Floats) -> Floats:
        cells = _sum_by(weights, self.cell, len(self.truth))
        hits = cells * (self.truth == self.decided)
        return self.finish(
            _Counts(
                actual=_sum_by(cells, self.truth, self.classes),
                predicted=_sum_by(cells, self.decided, self.classes),
                hits=_sum_by(hits, self.truth, self.classes),
                cells=cells,
                truth=self.truth,
                decided=self.decided,
            )
        )


@dataclass(frozen=True, kw_only=True)
class _Counts:
    """Weighted numbers [weightings, classes], and [weightings, cells] of the cells that occur."""

    actual: Floats
    predicted: Floats
    hits: Floats
    cells: Floats
    truth: Integers
    decided: Integers


def _sum_by(weights: Floats, index: Integers, size: int) -> Floats:
    """Sums [weightings, size] of the weights [weightings, entries] with each index."""
    import numpy as np

    order = np.argsort(index, kind="stable")
    present, starts = np.unique(index[order], return_index=True)
    sums = np.zeros((len(weights), size))
    sums[:, present] = np.add.reduceat(weights[:, order], starts, axis=1)
    return sums


def _divide(part: Floats, whole: Floats) -> Floats:
    """`part / whole`; 0 where the whole is 0."""
    import numpy as np

    share: Floats = np.divide(part, whole, out=np.zeros_like(part), where=whole > 0)
    return share


def _build_classes(outcome: Outcome, finish: Callable[[_Counts], Floats]) -> Weighted | None:
    import numpy as np

    if outcome.truth.ndim != 1 or outcome.decided is None:
        return None
    classes = max(outcome.classes, int(outcome.truth.max()) + 1, int(outcome.decided.max()) + 1)
    kinds, cell = np.unique(outcome.truth * classes + outcome.decided, return_inverse=True)
    return _Classes(cell, kinds // classes, kinds % classes, classes, finish)


def _balanced_accuracy(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    def finish(counts: _Counts) -> Floats:
        occurs = (counts.actual > 0).sum(axis=1)
        mean: Floats = _divide(counts.hits, counts.actual).sum(axis=1) / occurs
        return mean

    return _build_classes(outcome, finish)


def _matthews(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    import numpy as np

    def finish(counts: _Counts) -> Floats:
        total = counts.actual.sum(axis=1)
        shared = counts.hits.sum(axis=1) * total - (counts.actual * counts.predicted).sum(axis=1)
        spread_a = total**2 - (counts.actual**2).sum(axis=1)
        spread_b = total**2 - (counts.predicted**2).sum(axis=1)
        # rounding may leave a little below 0 of a spread that is 0
        product = np.maximum(spread_a, 0) * np.maximum(spread_b, 0)
        return _divide(shared, np.sqrt(product))

    return _build_classes(outcome, finish)


def _kappa(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    import numpy as np

    power = {"linear": 1, "quadratic": 2}.get(parameters.weights, 0)

    def find_cost(first: Integers, second: Integers) -> Floats:
        distance = np.abs(first - second).astype(np.float64)
        cost: Floats = distance**power if power else (distance > 0).astype(np.float64)
        return cost

    def finish(counts: _Counts) -> Floats:
        every = np.arange(counts.actual.shape[1])
        costs = find_cost(every[:, None], every[None])
        seen = counts.cells @ find_cost(counts.truth, counts.decided)
        chance = ((counts.actual @ costs) * counts.predicted).sum(axis=1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa: Floats = 1 - seen * counts.actual.sum(axis=1) / chance
        return kappa

    return _build_classes(outcome, finish)


def _f_beta(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    if outcome.decided is None:
        return None
    if outcome.truth.ndim == 2:
        return _f_beta_of_labels(outcome, parameters)

    def finish(counts: _Counts) -> Floats:
        return _average_f(counts.actual, counts.predicted, counts.hits, parameters)

    return None if parameters.average == "samples" else _build_classes(outcome, finish)


def _f_beta_of_labels(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    import numpy as np

    decided = np.asarray(outcome.decided, np.float64)
    parts = [outcome.truth.astype(np.float64), decided, outcome.truth * decided]
    if parameters.average == "samples":
        actual, predicted, hits = (part.sum(axis=1) for part in parts)
        return _Mean(_compute_f(actual, predicted, hits, parameters.beta))

    def finish(sums: Floats) -> Floats:
        actual, predicted, hits = np.split(sums, 3, axis=1)
        return _average_f(actual, predicted, hits, parameters)

    return None if parameters.average == "binary" else _Sums(np.hstack(parts), finish)


def _average_f(actual: Floats, predicted: Floats, hits: Floats, parameters: Parameters) -> Floats:
    if parameters.average == "micro":
        sums = [part.sum(axis=1) for part in (actual, predicted, hits)]
        return _compute_f(sums[0], sums[1], sums[2], parameters.beta)
    by_class = _compute_f(actual, predicted, hits, parameters.beta)
    if parameters.average == "binary":
        second: Floats = by_class[:, 1]
        return second
    if parameters.average == "weighted":
        return _divide((by_class * actual).sum(axis=1), actual.sum(axis=1))
    mean: Floats = by_class.mean(axis=1)
    return mean


def _compute_f(actual: Floats, predicted: Floats, hits: Floats, beta: float) -> Floats:
    return _divide((1 + beta**2) * hits, beta**2 * actual + predicted)


# --- Ranks


@dataclass(frozen=True)
class _Column:
    """One column of scores, each of an image; `is_true` [entries] is its truth."""

    image: Integers
    is_true: NDArray[np.bool_]
    scores: Floats


@dataclass(frozen=True)
class _Columns:
    """The average over columns, plain or weighted by the number of true images."""

    columns: Sequence[_Column]
    ranked: Sequence[_Area | _Precision]
    is_weighted: bool

    @property
    def size(self) -> int:
        return sum(len(column.scores) for column in self.columns)

    def score(self, weights: Floats) -> Floats:
        import numpy as np

        values = np.stack([ranked.score(weights) for ranked in self.ranked])
        if not self.is_weighted:
            mean: Floats = values.mean(axis=0)
            return mean
        shares = np.stack([weights @ _count_true(column, weights) for column in self.columns])
        average: Floats = (values * shares).sum(axis=0) / shares.sum(axis=0)
        return average


def _count_true(column: _Column, weights: Floats) -> Floats:
    """How many true entries each image [images] has in the column."""
    import numpy as np

    return np.bincount(column.image[column.is_true], minlength=weights.shape[1]).astype(np.float64)


def _build_columns(outcome: Outcome, parameters: Parameters, ranker: Any) -> Weighted | None:
    """One column for each class, one for all classes with "micro", that of the second of two."""
    import numpy as np

    if outcome.scores is None:
        return None
    truth, scores = outcome.truth, outcome.scores
    if truth.ndim == 1 and outcome.classes == 2:
        truth, scores = truth[:, None] == 1, scores[:, 1:]
    elif truth.ndim == 1:
        truth = np.arange(outcome.classes) == truth[:, None]
    truth = truth.astype(bool)
    image = np.arange(len(truth))
    if parameters.average == "samples" and truth.shape[1] > 1:
        return _Mean(_measure_rows(truth, scores, ranker))
    if parameters.average == "micro":
        every = np.repeat(image, truth.shape[1])
        columns = [_Column(every, truth.ravel(), scores.ravel())]
    else:
        pairs = zip(truth.T, scores.T, strict=True)
        columns = [_Column(image, is_true, values) for is_true, values in pairs]
    ranked = [ranker(column) for column in columns]
    return _Columns(columns, ranked, parameters.average == "weighted")


def _measure_rows(truth: NDArray[np.bool_], scores: Floats, ranker: Any) -> Floats:
    """The metric [images] of the columns of each image."""
    import numpy as np

    weights = np.ones((1, truth.shape[1]))
    columns = np.arange(truth.shape[1])
    values = [
        ranker(_Column(columns, is_true, row)).score(weights)[0]
        for is_true, row in zip(truth, scores, strict=True)
    ]
    return np.array(values)


class _Area:
    """The area under the ROC curve of one column: pairs of a true and an untrue image in order.

    The weight of the untrue images below each true one is a cumulative sum over the sorted scores.
    """

    def __init__(self, column: _Column) -> None:
        import numpy as np

        true, untrue = column.scores[column.is_true], column.scores[~column.is_true]
        order = np.argsort(untrue, kind="stable")
        self.true = column.image[column.is_true]
        self.untrue = column.image[~column.is_true][order]
        self.below = np.searchsorted(untrue[order], true, side="left")
        self.through = np.searchsorted(untrue[order], true, side="right")
        self.has_ties = not np.array_equal(self.below, self.through)

    def score(self, weights: Floats) -> Floats:
        import numpy as np

        sums = np.zeros((len(weights), len(self.untrue) + 1))
        np.cumsum(weights.take(self.untrue, axis=1), axis=1, out=sums[:, 1:])
        true = weights.take(self.true, axis=1)
        below = sums.take(self.below, axis=1)
        if self.has_ties:  # a tie is half in order
            below = (below + sums.take(self.through, axis=1)) / 2
        pairs = np.einsum("ij,ij->i", true, below)
        with np.errstate(divide="ignore", invalid="ignore"):
            area: Floats = pairs / (true.sum(axis=1) * sums[:, -1])
        return area


class _Precision:
    """The average precision of one column: the mean precision at its true images.

    The precision at an image is that of all images with its score or a higher one. Without a true
    image it is 0, as scikit-learn's.
    """

    def __init__(self, column: _Column) -> None:
        import numpy as np

        order = np.argsort(-column.scores, kind="stable")
        ranked, is_true = -column.scores[order], column.is_true[order]
        self.image = column.image[order]
        self.true = self.image[is_true]
        self.last = np.searchsorted(ranked, ranked[is_true], side="right") - 1
        self.last_true = np.searchsorted(ranked[is_true], ranked[is_true], side="right") - 1

    def score(self, weights: Floats) -> Floats:
        import numpy as np

        every = weights.take(self.image, axis=1).cumsum(axis=1).take(self.last, axis=1)
        true = weights.take(self.true, axis=1)
        hits = true.cumsum(axis=1).take(self.last_true, axis=1)
        # no weight so far: nothing to gain either
        precision = hits / np.maximum(every, np.finfo(np.float64).tiny)
        return _divide(np.einsum("ij,ij->i", true, precision), true.sum(axis=1))


def _roc_auc(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    return _build_columns(outcome, parameters, _Area)


def _average_precision(outcome: Outcome, parameters: Parameters) -> Weighted | None:
    return _build_columns(outcome, parameters, _Precision)


def _find_area_swing(a: _Columns, b: _Columns) -> Floats | None:
    """The swings of ROC AUC; None for average precision.

    With the untrue images of both sides counted below each true one, the mixed pairs of a swapped
    and an unswapped image cancel, so the difference is linear in what is swapped.
    """
    import numpy as np

    if not all(isinstance(ranked, _Area) for ranked in a.ranked):
        return None
    images = 1 + max(int(column.image.max()) for column in a.columns)
    shares = np.ones(len(a.columns))
    if a.is_weighted:
        shares = np.array([column.is_true.sum() for column in a.columns], dtype=np.float64)
    swing = np.zeros(images)
    for share, first, second in zip(shares / shares.sum(), a.columns, b.columns, strict=True):
        is_true = first.is_true
        gain = np.empty(len(is_true))
        untrue = np.sort(np.concatenate([first.scores[~is_true], second.scores[~is_true]]))
        true = np.sort(np.concatenate([first.scores[is_true], second.scores[is_true]]))
        gain[is_true] = _rank(untrue, first.scores[is_true]) - _rank(untrue, second.scores[is_true])
        gain[~is_true] = _rank(true, second.scores[~is_true]) - _rank(true, first.scores[~is_true])
        pairs = int(is_true.sum()) * int((~is_true).sum())
        swing += share * np.bincount(first.image, gain / (2 * pairs), minlength=images)
    return swing


def _rank(ordered: Floats, values: Floats) -> Floats:
    """How many of the ordered numbers are below each value; an equal one is half."""
    import numpy as np

    below = np.searchsorted(ordered, values, side="left")
    through = np.searchsorted(ordered, values, side="right")
    rank: Floats = (below + through) / 2
    return rank


Builder = Callable[["Outcome", "Parameters"], "Weighted | None"]

BUILDERS: dict[scorers.Scorer, Builder] = {
    scorers.f_beta: _f_beta,
    scorers.accuracy: _accuracy,
    scorers.balanced_accuracy: _balanced_accuracy,
    scorers.matthews: _matthews,
    scorers.kappa: _kappa,
    scorers.log_loss: _log_loss,
    scorers.roc_auc: _roc_auc,
    scorers.average_precision: _average_precision,
    scorers.map_at_k: _map_at_k,
    scorers.rmse: _rmse,
    scorers.mae: _mae,
    scorers.r2: _r2,
}
