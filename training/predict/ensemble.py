"""Combine the predictions of several models: votes, averages, and weights that are searched."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.training.config import EvalConfig
from tracker.training.errors import ConfigError
from tracker.training.formats.samples import Task, TaskMetric
from tracker.training.metrics import COMPETITION, METRICS, find_kind, first_metric
from tracker.training.numbers import render_count
from tracker.training.predict.decide import build_outcome, compute_metric, plain_decision
from tracker.training.predict.probabilities import Predictions, align
from tracker.training.scorers import Outcome
from tracker.training.scores import confusion_matrix, count_classes
from tracker.training.targets import TARGETS

ROUNDS = 50  # so that weights are as fine as 2 percent
METHODS = ("hard", "soft", "geometric", "weighted", "rank")
OTHER_NAMES = {"mean": "soft", "greedy": "weighted"}  # greedy: weighted without given weights
Probabilities = NDArray[np.float32]
Floats = NDArray[np.float64]


def read_method(method: str, weights: Sequence[float], target: str = "class") -> str:
    """The name of a method here: `soft` for mean, `weighted` for greedy.

    Raises ConfigError for an unknown method, weights that it does not use, and a method that does
    not fit what an image has.
    """
    name = OTHER_NAMES.get(method, method)
    if name not in METHODS:
        known = ", ".join((*METHODS, *OTHER_NAMES))
        raise ConfigError(f"method {method}: expected one of {known}")
    if name != "weighted" and weights:
        raise ConfigError(
            "weights and method weighted go together", reason="weights need their method"
        )
    if method == "greedy" and weights:
        raise ConfigError("method greedy searches the weights", hint="give none")
    if name == "hard" and not TARGETS[target].is_class:
        raise ConfigError(
            f"method hard is a vote for one class, and the target is {target!r}",
            hint="method soft is the mean",
        )
    if name == "rank" and target == "number":
        raise ConfigError(
            "method rank gives places from 0 to 1, not numbers of the target",
            hint="method soft is the mean",
        )
    return name


def combine(
    method: str,
    members: Sequence[Probabilities],
    weights: Sequence[float] = (),
    target: str = "class",
) -> Probabilities:
    """Probabilities, scores or numbers [images, outputs] of the ensemble.

    `members` are [images, outputs] each, with the same order of images. hard: votes; a tie goes to
    the class with the greater sum of probabilities, then to the first member's choice among the
    tied. soft: mean. geometric: geometric mean, for probabilities scaled so that the classes of an
    image (of several labels: having a label and not having it) sum to 1. weighted: mean by
    `weights`. rank: mean over members of each image's rank within an output, 0 to 1, which ignores
    how confident a model is as a whole; equal values share the mean rank. Raises ConfigError for
    an unknown method, one that does not fit the target, or wrong weights.
    """
    method = read_method(method, weights, target)
    stacked = np.stack([member.astype(np.float64) for member in members])
    if method == "hard":
        return _vote(stacked).astype(np.float32)
    if method == "geometric":
        return _mean_geometrically(stacked, target).astype(np.float32)
    if method == "rank":
        from scipy.stats import rankdata

        stacked = (rankdata(stacked, axis=1) - 1) / max(1, stacked.shape[1] - 1)
    if method == "weighted":
        _check_weights(weights, len(members))
    mean: Floats = np.average(stacked, axis=0, weights=weights or None)
    return mean.astype(np.float32)


def combine_validation(
    members: Sequence[Predictions],
    method: str,
    weights: Sequence[float] = (),
    target: str = "class",
) -> Predictions | None:
    """The ensemble's predictions for validation images that no member was trained on.

    Members with the same validation images are combined. Members of different folds have different
    images; each gives its own out-of-fold predictions. None when it is neither.
    """
    if any(member.labels is None for member in members):
        return None
    members = _align_if_same(members)
    first = members[0]
    if _share_images(members):
        scores = combine(method, [member.probabilities for member in members], weights, target)
        return replace(first, probabilities=scores, logits=None)
    ids = list(itertools.chain.from_iterable(member.ids for member in members))
    if len(set(ids)) < len(ids):
        return None
    is_grouped = all(member.groups and member.group_name == first.group_name for member in members)
    groups = itertools.chain.from_iterable(member.groups for member in members if is_grouped)
    return replace(
        first,
        ids=tuple(ids),
        probabilities=np.concatenate([member.probabilities for member in members]),
        labels=np.concatenate([np.asarray(member.labels) for member in members]),
        logits=None,
        groups=tuple(groups),
        group_name=first.group_name if is_grouped else "",
    )


def find_search_metric(task: Task) -> TaskMetric:
    """The metric that weights are searched for.

    It is the deciding one of the competition, or the next that is computed here. Without any it is
    macro F1 of classes, the log loss of several labels, and the RMSE of numbers.
    """
    if task.metrics:
        return task.metrics[0]
    if task.target == "number":
        known = COMPETITION["rmse"]
    elif TARGETS[task.target].is_class:
        known = METRICS[first_metric()]
    else:
        known = COMPETITION["log_loss"]
    return TaskMetric(name=known.name, kind=known.kind, higher_is_better=known.higher_is_better)


def search_weights(
    members: Sequence[Predictions], task: Task, config: EvalConfig | None = None
) -> list[float]:
    """Weights with the best `find_search_metric` on the validation images that all members share.

    Evaluation images are not read. Members are added one by one, with replacement, always the one
    that helps most; a weight is how often a member was taken (Caruana et al. 2004, Ensemble
    selection from libraries of models). Raises ConfigError when the members were validated on
    different images.
    """
    members = _align_if_same(members)
    labels = members[0].labels if members else None
    if labels is None or not _share_images(members):
        raise ConfigError(
            "weights cannot be searched: the members were validated on different images",
            reason="weights must be given",
        )
    score = _build_score(members[0], task, config or EvalConfig())
    stacked = np.stack([member.probabilities.astype(np.float64) for member in members])
    counts, total = np.zeros(len(members)), np.zeros(stacked.shape[1:])
    best, chosen = (-math.inf, -math.inf), np.ones(len(members))
    # each round adds the member that helps most; the best round counts
    for count in range(1, ROUNDS + 1):
        scores = [score((total + each) / count) for each in stacked]
        index = scores.index(max(scores))
        counts[index] += 1
        total += stacked[index]
        if scores[index] > best:
            best, chosen = scores[index], counts.copy()
    return [float(count) for count in chosen]


def _align_if_same(members: Sequence[Predictions]) -> Sequence[Predictions]:
    """The members in the order of the first one, if all have the same images; else unchanged."""
    if not members or any(set(member.ids) != set(members[0].ids) for member in members):
        return members
    return align(members, [""] * len(members))


def _share_images(members: Sequence[Predictions]) -> bool:
    """Whether all were validated on the same images with the same labels."""
    first = members[0]
    return all(
        m.ids == first.ids and np.array_equal(np.asarray(m.labels), np.asarray(first.labels))
        for m in members
    )


def _build_score(
    first: Predictions, task: Task, config: EvalConfig
) -> Callable[[Floats], tuple[float, float]]:
    """The metric of a mean [images, outputs], more is better; then what decides ties.

    Ties of classes go to the greater mean log probability of the true class.
    """
    metric, decision = find_search_metric(task), plain_decision(task, config)
    sign = 1 if metric.higher_is_better else -1
    labels = np.asarray(first.labels)

    def score(mean: Floats) -> tuple[float, float]:
        averaged = replace(first, probabilities=mean)  # type: ignore[arg-type]
        value = _compute(metric, build_outcome(averaged, task, decision))
        if math.isnan(value):
            return -math.inf, -math.inf
        if labels.ndim != 1:
            return sign * value, 0.0
        shares = mean[np.arange(len(labels)), labels] / mean.sum(1)
        return sign * value, float(np.log(shares.clip(1e-12)).mean())

    return score


def _compute(metric: TaskMetric, outcome: Outcome) -> float:
    """`compute_metric`, by counting where that is enough: it is much quicker."""
    computed = find_kind(metric.kind)
    if computed is None or not computed.is_resampled or outcome.truth.ndim != 1:
        return compute_metric(metric, outcome)
    decided: Any = outcome.decided
    counts = count_classes(confusion_matrix(outcome.truth, decided, outcome.classes))
    return float(computed.score(counts))


def _mean_geometrically(stacked: Floats, target: str) -> Floats:
    if target == "number":
        if stacked.min() <= 0:
            raise ConfigError(
                f"method geometric needs numbers above 0, found {stacked.min():g}",
                hint="method soft is the mean",
            )
        return np.asarray(np.exp(np.log(stacked).mean(axis=0)))
    if target == "labels":
        gap = _mean_log(1 - stacked) - _mean_log(stacked)
        return np.asarray(1 / (1 + np.exp(gap)))
    product = np.exp(_mean_log(stacked))
    return np.asarray(product / product.sum(axis=1, keepdims=True))


def _mean_log(stacked: Floats) -> Floats:
    """The mean logarithm over members; a 0 counts as the smallest probability of a model."""
    return np.asarray(np.log(stacked.clip(np.finfo(np.float32).tiny)).mean(axis=0))


def _check_weights(weights: Sequence[float], count: int) -> None:
    if not weights:
        raise ConfigError(
            "weights and method weighted go together", reason="weights need their method"
        )
    if len(weights) != count:
        given = render_count(len(weights), "weight")
        raise ConfigError(f"got {given} for {count} members, expected one for each")
    if min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        shown = ", ".join(f"{weight:g}" for weight in weights)
        raise ConfigError(f"weights {shown}: expected numbers of at least 0, not all 0")


def count_tied_votes(members: Sequence[Probabilities]) -> int:
    """The images for which several classes have the most votes; `members` as for `combine`."""
    choices = np.stack([member.argmax(axis=1) for member in members])
    votes = np.zeros(members[0].shape)
    for chosen in choices:
        votes[np.arange(len(chosen)), chosen] += 1
    most = votes == votes.max(axis=1, keepdims=True)
    return int((most.sum(axis=1) > 1).sum())


def _vote(stacked: Floats) -> Floats:
    """Shares of the votes; the winner of a tie gets half a vote more.

    That changes no other order. `stacked` is [members, images, classes].
    """
    count, images, classes = stacked.shape
    choices = stacked.argmax(axis=2)
    votes = np.zeros((images, classes))
    first = np.zeros((images, classes))
    rows = np.arange(images)
    for index, chosen in enumerate(choices):
        votes[rows, chosen] += 1
        first[rows, chosen] = np.maximum(first[rows, chosen], count - index)
    # a tie goes to the larger sum of probabilities, then to the first member's choice
    tied = votes == votes.max(axis=1, keepdims=True)
    sums = np.where(tied, stacked.sum(axis=0), -1.0)
    tied &= sums == sums.max(axis=1, keepdims=True)
    winner = np.where(tied, first, -1.0).argmax(axis=1)
    votes[rows, winner] += 0.5
    shares: Floats = votes / votes.sum(axis=1, keepdims=True)
    return shares
