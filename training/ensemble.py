"""Several models' probabilities made one answer: votes and averages over the same images and classes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from training.errors import ConfigError
from training.probabilities import Kept
from training.scores import accuracy, confusion_matrix, macro_f1

METHODS = ("hard", "soft", "weighted", "rank")
Probabilities = NDArray[np.float32]


def combine(method: str, members: Sequence[Probabilities], weights: Sequence[float] = ()) -> Probabilities:
    """Scores [images, classes] whose greatest is the answer; `members` are [images, classes] each, in the same order.

    hard: votes; a tie goes to the class with the greater sum of probabilities, then to the first member's choice among
    the tied. soft: mean. weighted: mean by `weights`. rank: mean over members of each image's rank within a class,
    which ignores how confident a model is as a whole. Raises ConfigError for an unknown method or wrong weights.
    """
    if method not in METHODS:
        raise ConfigError(f"--method {method}: expected one of {', '.join(METHODS)}")
    if (method == "weighted") != bool(weights):
        raise ConfigError("--weights belong to --method weighted", hint="--method weighted --weights 2,1,1")
    stacked = np.stack([member.astype(np.float64) for member in members])
    if method == "hard":
        return _vote(stacked).astype(np.float32)
    if method == "rank":
        ranks = stacked.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")
        stacked = ranks / max(1, stacked.shape[1] - 1)
    mean: NDArray[np.float64] = np.average(stacked, axis=0, weights=_check_weights(weights, len(members)))
    return mean.astype(np.float32)


def measure(members: Sequence[Kept], method: str, weights: Sequence[float]) -> dict[str, float]:
    """val/f1 and val/accuracy of the ensemble; empty when the members were validated on different images."""
    first = members[0]
    for member in members:
        if member.ids != first.ids or member.labels is None or first.labels is None:
            return {}
        if not np.array_equal(member.labels, first.labels):
            return {}
    assert first.labels is not None  # noqa: S101  (returned above)
    scores = combine(method, [member.probabilities for member in members], weights)
    confusion = confusion_matrix(first.labels, scores.argmax(1).astype(np.int64), scores.shape[1])
    return {"val/f1": macro_f1(confusion), "val/accuracy": accuracy(confusion)}


def _check_weights(weights: Sequence[float], count: int) -> Sequence[float] | None:
    if not weights:
        return None
    if len(weights) != count or min(weights) < 0 or not 0 < sum(weights) < float("inf"):
        raise ConfigError(f"--weights: expected {count} numbers of at least 0, not all 0")
    return weights


def _vote(stacked: NDArray[np.float64]) -> NDArray[np.float64]:
    """Shares of the votes, the winner of a tie lifted by a part of a vote that changes no other order.

    `stacked` is [members, images, classes].
    """
    count, images, classes = stacked.shape
    choices = stacked.argmax(axis=2)
    votes = np.zeros((images, classes))
    first = np.zeros((images, classes))
    rows = np.arange(images)
    for place, chosen in enumerate(choices):
        votes[rows, chosen] += 1
        first[rows, chosen] = np.maximum(first[rows, chosen], count - place)
    tied = votes == votes.max(axis=1, keepdims=True)
    sums = np.where(tied, stacked.sum(axis=0), -1.0)
    tied &= sums == sums.max(axis=1, keepdims=True)
    winner = np.where(tied, first, -1.0).argmax(axis=1)
    votes[rows, winner] += 0.5
    shares: NDArray[np.float64] = votes / votes.sum(axis=1, keepdims=True)
    return shares
