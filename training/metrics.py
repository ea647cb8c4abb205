"""The registry of metrics: everything that this program knows of each.

METRICS are measured for every run that predicts classes, and have intervals and tests. COMPETITION
metrics are measured where tracker.toml asks for them. Whoever scores, compares or shows predictions
asks this registry, and names no metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.training import scorers
from tracker.training.numbers import is_whole

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]
    FromCounts = Callable[["Counts"], Floats]
    FromProbabilities = Callable[[NDArray[np.int64], NDArray[Any]], float]

GIVEN = "given"  # the kind of a competition's metric that is not computed here
FUNCTION = "function"  # the kind of a metric that is a Python function of the judge


class Counts(NamedTuple):
    """Images of each class [..., classes]: actual, predicted, and predicted right (`hits`).

    The axes before the last are resamples and sides; the counts may be weighted.
    """

    actual: Floats
    hits: Floats
    predicted: Floats


class ComputedMetric(NamedTuple):
    """A metric that is computed here, from `Counts`, from probabilities or from an `Outcome`.

    Probabilities are [images, classes], labels [images]. `needs` has the parts of an outcome of
    which one must be known; `averages` and `weightings` are what the metric's average and weights
    may be. `name` is that of figures (val/NAME) and
    of a metric of tracker.toml, `kind` the latter's kind. `title` stands in sentences, `label` and
    `short` where there is less room. `by_class` gives val/NAME/CLASS. `aliases` are what other
    programs call it. `of_images` is true of a share of the images, which moves by whole images.
    """

    name: str
    kind: str
    title: str
    label: str
    short: str
    percent: bool = False
    of_images: bool = False
    higher_is_better: bool = True
    low: float = 0.0
    high: float = 1.0
    from_counts: FromCounts | None = None
    from_outcome: scorers.Scorer | None = None
    needs: tuple[str, ...] = ("decided",)
    averages: tuple[str, ...] = ()
    weightings: tuple[str, ...] = ()
    from_probabilities: FromProbabilities | None = None
    by_class: FromCounts | None = None
    aliases: tuple[str, ...] = ()

    @property
    def span(self) -> float:
        """How far two scores can be from each other."""
        return self.high - self.low

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
            from_outcome=scorers.f_beta,
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
            of_images=True,
            from_counts=accuracy,
            from_outcome=scorers.accuracy,
            aliases=(
                *("acc", "acc1", "top1", "top_1", "top1_acc", "top1_accuracy", "prec1"),
                *("acc_1", "prec_1", "accuracy_top1", "accuracy_top_1", "accuracy_score"),
            ),
        ),
    )
}


INFINITE = float("inf")
AVERAGES = ("macro", "micro", "weighted", "samples", "binary")

# Measured where a competition asks for them; the first column of the documents' table.
COMPETITION: dict[str, ComputedMetric] = {
    metric.kind: metric
    for metric in (
        ComputedMetric(
            name="f_beta",
            kind="f_beta",
            title="F-beta",
            label="F-beta",
            short="F-beta",
            from_outcome=scorers.f_beta,
            averages=AVERAGES,
        ),
        ComputedMetric(
            name="balanced_accuracy",
            kind="balanced_accuracy",
            title="balanced accuracy",
            label="balanced accuracy",
            short="bal. acc.",
            percent=True,
            from_outcome=scorers.balanced_accuracy,
        ),
        ComputedMetric(
            name="mcc",
            kind="mcc",
            title="Matthews correlation",
            label="MCC",
            short="MCC",
            low=-1.0,
            from_outcome=scorers.matthews,
        ),
        ComputedMetric(
            name="kappa",
            kind="kappa",
            title="kappa",
            label="kappa",
            short="kappa",
            low=-1.0,
            from_outcome=scorers.kappa,
            weightings=("", "linear", "quadratic"),
        ),
        ComputedMetric(
            name="log_loss",
            kind="log_loss",
            title="log loss",
            label="log loss",
            short="log loss",
            higher_is_better=False,
            high=INFINITE,
            from_outcome=scorers.log_loss,
            needs=("scores",),
        ),
        ComputedMetric(
            name="roc_auc",
            kind="roc_auc",
            title="ROC AUC",
            label="ROC AUC",
            short="AUC",
            from_outcome=scorers.roc_auc,
            needs=("scores",),
            averages=("macro", "micro", "weighted", "samples"),
        ),
        ComputedMetric(
            name="average_precision",
            kind="average_precision",
            title="average precision",
            label="average precision",
            short="AP",
            from_outcome=scorers.average_precision,
            needs=("scores",),
            averages=("macro", "micro", "weighted", "samples"),
        ),
        ComputedMetric(
            name="map",
            kind="map_at_k",
            title="mean average precision",
            label="MAP@k",
            short="MAP@k",
            from_outcome=scorers.map_at_k,
            needs=("ranked", "scores"),
        ),
        ComputedMetric(
            name="rmse",
            kind="rmse",
            title="RMSE",
            label="RMSE",
            short="RMSE",
            higher_is_better=False,
            high=INFINITE,
            from_outcome=scorers.rmse,
        ),
        ComputedMetric(
            name="mae",
            kind="mae",
            title="MAE",
            label="MAE",
            short="MAE",
            higher_is_better=False,
            high=INFINITE,
            from_outcome=scorers.mae,
        ),
        ComputedMetric(
            name="r2",
            kind="r2",
            title="R2",
            label="R2",
            short="R2",
            low=-INFINITE,
            from_outcome=scorers.r2,
        ),
    )
}

ALIASES = {"qwk": "kappa_quadratic", "auc": "roc_auc", "logloss": "log_loss"}
# What other names of metrics mean: a kind and its parameters.
SHORT_NAMES: dict[str, tuple[str, dict[str, Any]]] = {
    "f1_macro": ("macro_f1", {}),
    "f1_micro": ("f_beta", {"average": "micro"}),
    "f1_weighted": ("f_beta", {"average": "weighted"}),
    "f1_samples": ("f_beta", {"average": "samples"}),
    "f1_binary": ("f_beta", {"average": "binary"}),
    "f2": ("f_beta", {"average": "macro", "beta": 2.0}),
    "kappa_linear": ("kappa", {"weights": "linear"}),
    "kappa_quadratic": ("kappa", {"weights": "quadratic"}),
}


# What tables and other programs call them, beside ComputedMetric.aliases: {short name: spellings}.
SPELLINGS: dict[str, tuple[str, ...]] = {
    "f1_macro": ("f1", *METRICS["f1"].aliases),
    "accuracy": METRICS["accuracy"].aliases,
    "f1_micro": ("micro_f1", "micro_f1_score", "f1_score_micro"),
    "f1_weighted": ("weighted_f1", "weighted_f1_score", "f1_score_weighted"),
    "f1_samples": ("samples_f1", "sample_f1", "f1_score_samples"),
    "log_loss": ("multi_log_loss", "m_log_loss", "binary_log_loss", "multiclass_log_loss"),
    "roc_auc": ("auc", "auroc", "auc_roc", "roc_auc_score", "area_under_roc"),
    "average_precision": ("ap", "pr_auc", "auprc", "average_precision_score"),
    "balanced_accuracy": ("bal_acc", "balanced_acc", "bacc", "balanced_accuracy_score"),
    "mcc": ("matthews", "matthews_corrcoef", "matthews_correlation"),
    "kappa": ("cohen_kappa", "cohens_kappa", "cohen_kappa_score"),
    "kappa_quadratic": ("qwk", "quadratic_kappa", "quadratic_weighted_kappa", "weighted_kappa"),
    "rmse": ("root_mean_squared_error", "rmse_score"),
    "mae": ("mean_absolute_error",),
    "r2": ("r2_score", "r_squared"),
}


def list_spellings(name: str, kind: str, parameters: scorers.Parameters) -> set[str]:
    """What a metric of tracker.toml may be called, in small letters and digits only."""
    names = {_squeeze(name)}
    for short, others in SPELLINGS.items():
        group = set(map(_squeeze, (short, *others)))
        known = read_short_name(short)
        assert known is not None  # noqa: S101
        same = known[0] == kind and scorers.Parameters(**known[1]) == parameters
        if same or _squeeze(name) in group:
            names |= group
    return names


def has_spelling(text: str, spellings: set[str]) -> bool:
    """Whether `Log-Loss`, `logLoss` or `log loss` is one of `list_spellings`."""
    return _squeeze(text) in spellings


def _squeeze(text: str) -> str:
    return "".join(letter for letter in text.lower() if letter.isalnum())


def read_short_name(name: str) -> tuple[str, dict[str, Any]] | None:
    """The kind and the parameters that a metric's name stands for; None for an unknown name."""
    name = ALIASES.get(name, name)
    if name in SHORT_NAMES:
        kind, parameters = SHORT_NAMES[name]
        return kind, dict(parameters)
    known = METRICS.get(name)
    if known is not None:
        return known.kind, {}
    if name in COMPETITION:
        return name, {}
    word, _, number = name.partition("@")
    if word == "map" and is_whole(number) and int(number) > 0:
        return "map_at_k", {"k": int(number)}
    return None


def list_short_names() -> tuple[str, ...]:
    """The names of metrics that are computed here, without the aliases."""
    own = [name for name in COMPETITION if name not in ("f_beta", "map_at_k")]
    return (*METRICS, *SHORT_NAMES, *own, "map@5")


def list_kinds() -> tuple[str, ...]:
    """The kinds of metrics that are computed here."""
    return (*(metric.kind for metric in METRICS.values()), *COMPETITION)


def first_metric() -> str:
    """The name of the most decisive metric."""
    return next(iter(METRICS))


def list_figures() -> tuple[str, ...]:
    """The curves of a run: the loss, then the metrics, the most decisive last."""
    return ("loss", *reversed(METRICS))


def is_validation_figure(name: str) -> bool:
    """Whether it is a validation metric of all classes: val/f1, but not val/f1/cat."""
    return name.startswith("val/") and name.count("/") == 1


def list_monitors() -> tuple[str, ...]:
    """The figures that may choose the best epoch, the most decisive first."""
    return (*(f"val/{name}" for name in METRICS), "val/loss")


def list_resampled() -> tuple[ComputedMetric, ...]:
    """The metrics of predicted classes, the most decisive first."""
    return tuple(metric for metric in METRICS.values() if metric.is_resampled)


def find_kind(kind: str) -> ComputedMetric | None:
    """The metric of a kind of tracker.toml; None for a kind that is not computed here."""
    first = next((metric for metric in METRICS.values() if metric.kind == kind), None)
    return first or COMPETITION.get(kind)


def is_resampled(kind: str) -> bool:
    """Whether predicted classes are enough for a metric of this kind of tracker.toml."""
    known = find_kind(kind)
    return known is not None and known.is_resampled


def score_counts(counts: Counts) -> Mapping[str, float]:
    """{name: value} of each metric of predicted classes, the most decisive last."""
    return {metric.name: float(metric.score(counts)) for metric in reversed(list_resampled())}
