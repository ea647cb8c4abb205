"""How metrics are shown: their direction, their columns, and the command that records a score.

The registry of computed metrics is tracker/training/metrics.py. Which names may be logged, and how
MLflow writes them, is in tracker/core/metric_names.py.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tracker.core.metric_names import OF_BATCHES, SYSTEM_PREFIX
from tracker.training.metrics import METRICS, find_kind, has_spelling, list_spellings

if TYPE_CHECKING:
    from tracker.workspace.tracker_toml import Competition, Metric


# the prefix of a metric's last logged value in a summary, if another value was better
LAST = "last/"

SPLITS = ("public", "private", "overall", "val", "train")

COLUMNS = ("loss", "accuracy", "f1")  # metrics with their own columns in the ledger

NO_PUBLIC_SCORE = "no SOTA yet: no submission has a public score"

# --public-f1 and --public-acc; any other metric is --public NAME=X
SHORT_OPTIONS = {"f1": "f1", "accuracy": "acc"}

# Words of metric names that measure an error: lower is better.
_LOSS = re.compile(
    r".*(loss|errors?|entropy|perplexity)|err|nll|bce|r?msl?e|mae|s?mape|brier|ece|wer|cer|eer|fid",
    re.IGNORECASE,
)

# Words of logged names that measure no quality: settings of the training, and its speed.
_NO_SCORE = re.compile(
    r"(?:\w+/)?(?:lr|learning_?rate|grad_norm|weight_decay|momentum)(?![a-z0-9])"
    r"|.*(?:_runtime|_per_second|_compilation_time|images_per_s)$",
    re.IGNORECASE,
)
_OF_TRAINING = re.compile(r"(?:train|training|trn)[/_.\- ]", re.IGNORECASE)


FLOAT_NOISE = 1e-6  # relative; other programs compute their figures in float32


def are_equal(a: float, b: float, *, samples: int = 0) -> bool:
    """Whether two validation or training figures are equal but for how they were computed.

    `samples`: the figures are shares of that many images, equal below half an image.
    """
    if math.isclose(a, b, rel_tol=FLOAT_NOISE, abs_tol=1e-12):
        return True
    return samples > 0 and abs(a - b) < 0.5 / samples


def are_same(name: str, a: float, b: float, *, samples: int = 0) -> bool:
    """`are_equal` for `val/f1` or `train/loss`; the scores of a leaderboard count as they are.

    `samples` are the validation images, 0 where they are not known.
    """
    if "/" not in name:
        return a == b
    computed = METRICS.get(name.removeprefix("val/"))
    is_share = computed is not None and computed.of_images
    return are_equal(a, b, samples=samples if is_share else 0)


def higher_is_better(declared: Sequence[Metric], name: str) -> bool:
    """Whether higher is better for `val/f1`, `val/f1/cat`, `public_f1`, `val_loss` or `loss`.

    A metric that tracker.toml declares has the same direction on every split. For any other one,
    lower is better if its name is that of a loss or an error.
    """
    name = name.removeprefix(LAST)
    own = strip_split(name)
    without_class = own.partition("/")[0]  # f1 of val/f1/cat
    directions = {metric.name: metric.higher_is_better for metric in declared}
    for candidate in (name, own, without_class):
        if candidate in directions:
            return directions[candidate]
    computed = METRICS.get(without_class)
    return computed.higher_is_better if computed else not is_loss(own)


def strip_split(name: str) -> str:
    """The metric's name without its split: `f1` for `val/f1` and for `public_f1`."""
    split, separator, rest = name.partition("/")
    if not separator:
        split, separator, rest = name.partition("_")
    return rest if separator and split in SPLITS else name


def is_loss(name: str) -> bool:
    """Whether a metric's name means that lower is better: `log_loss`, `top5-error`, `RMSE`."""
    return any(_LOSS.fullmatch(word) for word in re.split(r"[^A-Za-z]+", name))


def find_declared(competition: Competition, text: str) -> Metric | None:
    """The metric of the competition that a table calls `text`: `logloss`, `AUC`, `qwk`.

    None where none is called so, or more than one.
    """
    exact = [metric for metric in competition.metrics if metric.name == text]
    found = exact or [
        metric
        for metric in competition.metrics
        if has_spelling(text, list_spellings(metric.name, metric.kind, metric.parameters))
    ]
    return found[0] if len(found) == 1 else None


def deciding_first(competition: Competition) -> list[Metric]:
    """The competition's metrics, the deciding one first."""
    return sorted(competition.metrics, key=lambda metric: metric is not competition.primary)


def choose_metrics(competition: Competition, measured: Collection[str]) -> list[str]:
    """The `measured` validation metrics (`f1`, not `val/f1`) that are shown next to scores.

    These are the competition's metrics. If none of them was measured, they are those of training.
    """
    own = [metric.name for metric in competition.metrics if metric.name in measured]
    return own or [name for name in METRICS if name in measured]


def render_score_command(
    competition: Competition,
    number: int | None = None,
    *,
    split: str = "public",
    every: bool = False,
) -> str:
    """The command that records a score of the primary metric, or of every metric with `every`."""
    metrics = competition.metrics if every else (competition.primary,)
    parts = ["tracker score", "N" if number is None else str(number)]
    for metric in metrics:
        short = SHORT_OPTIONS.get(metric.name)
        parts.append(f"--{split}-{short} X" if short else f"--{split} {metric.name}=X")
    return " ".join(parts)


def describe_limits(metric: Metric) -> str:
    """What values the metric can have: `between 0 and 1`, `at least 0`."""
    known = find_kind(metric.kind)
    low, high = (known.low, known.high) if known else (-math.inf, math.inf)
    if math.isinf(high):
        return "any number" if math.isinf(low) else f"at least {low:g}"
    return f"at most {high:g}" if math.isinf(low) else f"between {low:g} and {high:g}"


def metric_title(metric: Metric) -> str:
    """The metric's title for people."""
    computed = find_kind(metric.kind)
    return computed.title if computed else metric.name


def list_measured(summaries: Iterable[Mapping[str, float | None]]) -> set[str]:
    """The validation metrics, without `val/`, that at least one of the runs has."""
    measured: set[str] = set()
    for summary in summaries:
        for name, value in summary.items():
            if value is not None and name.startswith("val/"):
                measured.add(name.removeprefix("val/"))
    return measured


def rank_metric_column(name: str, primary: str) -> int:
    """`Column.leaves` of a validation metric: the primary one is hidden last, others first."""
    if name == primary:
        return 1
    return 4 if name == "loss" else 6


def is_no_score(name: str) -> bool:
    """Whether no run is better by a logged value: `lr`, `train/grad_norm`, `eval_runtime`."""
    return _NO_SCORE.match(name) is not None


def list_model_metrics(summary: Mapping[str, float | None]) -> dict[str, float | None]:
    """A run's figures for people: without those of the machine and of single batches.

    The loop here keeps them out of its summary; an own loop, and so a run that was adopted, may
    have logged them.
    """
    return {
        name: value
        for name, value in summary.items()
        if not name.removeprefix(LAST).startswith(SYSTEM_PREFIX)
        and name.removeprefix(LAST) not in OF_BATCHES
    }


def is_of_training(name: str) -> bool:
    """Whether a logged name does not stand among validation metrics: `train/f1`, `lr-SGD/pg1`."""
    return _OF_TRAINING.match(name) is not None or is_no_score(name)
