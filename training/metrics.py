"""The registry of metrics: METRICS has everything that this program knows of each metric.

Training logs each entry. Whoever scores, compares or shows predictions asks this registry, and
names no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    FromCounts = Callable[["Counts"], Floats]
    FromProbabilities = Callable[[NDArray[np.int64], NDArray[Any]], float]

GIVEN = "given"  # the kind of a competition's metric that is not computed here


@dataclass(frozen=True)
class Counts:
    """Images of each class [..., classes]: actual, predicted, and predicted right (`hits`).

    The axes before the last are resamples and sides; the counts may be weighted.
    """

    actual: Floats
    hits: Floats
    predicted: Floats


@dataclass(frozen=True, kw_only=True)
class ComputedMetric:
    """A metric that is computed here, from `Counts` or from probabilities.

    Probabilities are [images, classes], labels [images]. `name` is that of figures (val/NAME) and
    of a metric of tracker.toml, `kind` the latter's kind. `title` stands in sentences, `label` and
    `short` where there is less room. `by_class` gives val/NAME/CLASS. `aliases` are what other
    programs call it.
    """

    name: str
    kind: str
    title: str
    label: str
    short: str
    percent: bool = False
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    from_counts: FromCounts | None = None
    from_probabilities: FromProbabilities | None = None
    by_class: FromCounts | None = None
    aliases: tuple[str, ...] = ()

    @property
    def is_resampled(self) -> bool:
        """Whether the predicted classes are enough to compute it.

        Such a metric scores submissions, and has intervals and tests.
        """
        return self.from_counts is not None

    def score(self, counts: Counts) -> Floats:
        """The metric [...] of counts [..., classes]; only of one that `is_resampled`."""
        assert self.from_counts is not None  # noqa: S101
        return self.from_counts(counts)


def f1_by_class(counts: Counts) -> Floats:
    """2 TP / (2 TP + FP + FN) of each class; 0 for a class that is neither true nor predicted."""
    import numpy as np

    both = counts.actual + counts.predicted
    f1: Floats = np.divide(2 * counts.hits, both, out=np.zeros_like(both), where=both > 0)
    return f1


def macro_f1(counts: Counts) -> Floats:
    """Mean of `f1_by_class` over all classes."""
    mean: Floats = f1_by_class(counts).mean(axis=-1)
    return mean


def accuracy(counts: Counts) -> Floats:
    """Share of correct predictions; 0 when there are none."""
    import numpy as np

    hits, total = counts.hits.sum(axis=-1), counts.actual.sum(axis=-1)
    share: Floats = np.divide(hits, total, out=np.zeros_like(total), where=total > 0)
    return share


# The most decisive first: it judges where the competition's own metric is not computed here.
METRICS: dict[str, ComputedMetric] = {
    metric.name: metric
    for metric in (
        ComputedMetric(
            name="f1",
            kind="macro_f1",
            title="macro F1",
            label="F1",
            short="F1",
            from_counts=macro_f1,
            by_class=f1_by_class,
            aliases=(
                "f1_score",
                "f1score",
                "macro_f1",
                "f1_macro",
                "macro_f1_score",
                "f1_score_macro",
            ),
        ),
        ComputedMetric(
            name="accuracy",
            kind="accuracy",
            title="accuracy",
            label="accuracy",
            short="acc.",
            percent=True,
            from_counts=accuracy,
            aliases=(
                *("acc", "acc1", "top1", "top_1", "top1_acc", "top1_accuracy", "prec1"),
                *("acc_1", "prec_1", "accuracy_top1", "accuracy_top_1", "accuracy_score"),
            ),
        ),
    )
}


def first_metric() -> str:
    """The name of the most decisive metric."""
    return next(iter(METRICS))


def list_figures() -> tuple[str, ...]:
    """The curves of a run: the loss, then the metrics, the most decisive last."""
    return ("loss", *reversed(METRICS))


def list_monitors() -> tuple[str, ...]:
    """The figures that may choose the best epoch, the most decisive first."""
    return (*(f"val/{name}" for name in METRICS), "val/loss")


def list_resampled() -> tuple[ComputedMetric, ...]:
    """The metrics of predicted classes, the most decisive first."""
    return tuple(metric for metric in METRICS.values() if metric.is_resampled)


def find_kind(kind: str) -> ComputedMetric | None:
    """The metric of a kind of tracker.toml; None for a kind that is not computed here."""
    return next((metric for metric in METRICS.values() if metric.kind == kind), None)


def is_resampled(kind: str) -> bool:
    """Whether predicted classes are enough for a metric of this kind of tracker.toml."""
    known = find_kind(kind)
    return known is not None and known.is_resampled


def is_better(figure: str, new: float, old: float) -> bool:
    """Whether `new` of one of `list_monitors` beats `old` (a tie does not)."""
    known = METRICS.get(figure.removeprefix("val/"))
    higher = known is not None and known.higher_is_better  # less of a loss is better
    return new > old if higher else new < old


def score_counts(counts: Counts) -> Mapping[str, float]:
    """{name: value} of each metric of predicted classes, the most decisive last."""
    return {metric.name: float(metric.score(counts)) for metric in reversed(list_resampled())}
