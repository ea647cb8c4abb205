"""Combine the probabilities of several models: votes and averages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tracker.training.errors import ConfigError
from tracker.training.metrics import macro_f1
from tracker.training.predict.probabilities import Predictions, align
from tracker.training.scores import confusion_matrix, count_classes

ROUNDS = 50  # so that weights are as fine as 2 percent
METHODS = ("hard", "soft", "weighted", "rank")
Probabilities = NDArray[np.float32]


def check_method(method: str, weights: Sequence[float]) -> None:
    """Raise ConfigError for an unknown method, or weights that it does not use."""
    if method not in METHODS:
        raise ConfigError(f"method {method}: expected one of {', '.join(METHODS)}")
    if (method == "weighted") != bool(weights):
        raise ConfigError(
            "weights and method weighted go together", reason="weights need their method"
        )


def combine(
    method: str, members: Sequence[Probabilities], weights: Sequence[float] = ()
) -> Probabilities:
    """Scores [images, classes]; the highest is the answer.

    `members` are [images, classes] each, with the same order of images. hard: votes; a tie goes to
    the class with the greater sum of probabilities, then to the first member's choice among the
    tied. soft: mean. weighted: mean by `weights`. rank: mean over members of each image's rank
    within a class, which ignores how confident a model is as a whole. Raises ConfigError for an
    unknown method or wrong weights.
    """
    check_method(method, weights)
    stacked = np.stack([member.astype(np.float64) for member in members])
    if method == "hard":
        return _vote(stacked).astype(np.float32)
    if method == "rank":
        ranks = stacked.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        stacked = ranks / max(1, stacked.shape[1] - 1)
    mean: NDArray[np.float64] = np.average(
        stacked, axis=0, weights=_check_weights(weights, len(members))
    )
    return mean.astype(np.float32)


def combine_validation(
    members: Sequence[Predictions], method: str, weights: Sequence[float] = ()
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
        scores = combine(method, [member.probabilities for member in members], weights)
        return replace(first, probabilities=scores, logits=None)
    ids = list(itertools.chain.from_iterable(member.ids for member in members))
    if len(set(ids)) < len(ids):
        return None
    return replace(
        first,
        ids=tuple(ids),
        probabilities=np.concatenate([member.probabilities for member in members]),
        labels=np.concatenate([np.asarray(member.labels) for member in members]),
        logits=None,
    )


def search_weights(members: Sequence[Predictions]) -> list[float]:
    """Weights with the best macro F1 on the validation images that all members share.

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
    stacked = np.stack([member.probabilities.astype(np.float64) for member in members])
    counts, total = np.zeros(len(members)), np.zeros(stacked.shape[1:])
    best, chosen = (-1.0, -math.inf), counts
    # each round adds the member that helps most; the best round counts
    for _ in range(ROUNDS):
        scores = [_score(total + each, labels) for each in stacked]
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


def _score(total: NDArray[np.float64], labels: NDArray[np.int64]) -> tuple[float, float]:
    """Macro F1, then the mean log share of the true class, which decides ties."""
    confusion = confusion_matrix(labels, total.argmax(1).astype(np.int64), total.shape[1])
    shares = total[np.arange(len(labels)), labels] / total.sum(1)
    return float(macro_f1(count_classes(confusion))), float(np.log(shares.clip(1e-12)).mean())


def _check_weights(weights: Sequence[float], count: int) -> Sequence[float] | None:
    if not weights:
        return None
    if len(weights) != count or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ConfigError(f"weights: expected {count} numbers of at least 0, not all 0")
    return weights


def _vote(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
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
    shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
    return shares
