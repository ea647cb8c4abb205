"""The competition's metrics where they are shown: which way is better, which have a column, how a
score is typed in.

What is computed here is in the registry, tracker/training/metrics.py. Which names may be logged,
and how MLflow writes them, is in tracker/core/metric_names.py.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from tracker.training.metrics import METRICS, find_kind

if TYPE_CHECKING:
    from tracker.workspace.competition import Competition, Metric


# before the name of a metric in a summary: its last logged value, where another was better
LAST = "last/"

SPLITS = ("public", "private", "overall", "val", "train")

COLUMNS = (
    "loss",
    "accuracy",
    "f1",
)  # those that have columns of the ledger, older than the registry

NO_PUBLIC_SCORE = "no SOTA yet: no submission has a public score"

SHORT_OPTIONS = {
    "f1": "f1",
    "accuracy": "acc",
}  # --public-f1, --public-acc; any other is --public NAME=X

# A word of a name that says how wrong something is.
_LOSS = re.compile(
    r".*(loss|errors?|entropy|perplexity)|err|nll|bce|r?msl?e|mae|s?mape|brier|ece|wer|cer|eer|fid",
    re.IGNORECASE,
)


def higher_is_better(declared: Sequence[Metric], name: str) -> bool:
    """Whether more is better of `val/f1`, `val/f1/cat`, `public_f1`, `val_loss` or `loss`.

    A metric that tracker.toml declares has its direction there, whatever it is measured on; of
    others, less is better where the name is that of a loss or an error.
    """
    name = name.removeprefix(LAST)
    own = strip_split(name)
    directions = {metric.name: metric.higher_is_better for metric in declared}
    for candidate in (
        name,
        own,
        own.partition("/")[0],
    ):  # the last: without the class of val/f1/cat
        if candidate in directions:
            return directions[candidate]
    computed = METRICS.get(own.partition("/")[0])
    return computed.higher_is_better if computed else not is_loss(own)


def strip_split(name: str) -> str:
    """The metric of a figure: `f1` of `val/f1` and of `public_f1`."""
    split, separator, rest = name.partition("/")
    if not separator:
        split, separator, rest = name.partition("_")
    return rest if separator and split in SPLITS else name


def is_loss(name: str) -> bool:
    """Whether a metric's name says that less of it is better: `log_loss`, `top5-error`, `RMSE`."""
    return any(_LOSS.fullmatch(word) for word in re.split(r"[^A-Za-z]+", name))


def choose_metrics(competition: Competition, measured: Collection[str]) -> list[str]:
    """Which of the `measured` validation figures (`f1`, not `val/f1`) stand beside scores: the
    competition's metrics.

    Where none of these was measured, what training measured stands there, under its own name.
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
    """The command that records a score of the deciding metric, or one of every metric."""
    metrics = competition.metrics if every else (competition.primary,)
    words = [f"tracker score {'N' if number is None else number}"]
    for metric in metrics:
        short = SHORT_OPTIONS.get(metric.name)
        words.append(f"--{split}-{short} X" if short else f"--{split} {metric.name}=X")
    return " ".join(words)


def metric_title(metric: Metric) -> str:
    """The metric in words."""
    computed = find_kind(metric.kind)
    return computed.title if computed else metric.name


def list_measured(summaries: Iterable[Mapping[str, float | None]]) -> set[str]:
    """The validation figures, without `val/`, that one of the runs knows."""
    known = {name for summary in summaries for name, value in summary.items() if value is not None}
    return {name.removeprefix("val/") for name in known if name.startswith("val/")}


def rank_metric_column(name: str, primary: str) -> int:
    """When a validation figure leaves: the deciding metric last, accuracy and other metrics before
    the loss."""
    if name == primary:
        return 1
    return 4 if name == "loss" else 6
