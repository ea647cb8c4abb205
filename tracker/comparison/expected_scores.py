"""The private score to expect of each submission: its public score without its likely luck.

The one place that knows it: `leaderboard cv-lb` says it of the best public score, `select` of all.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tracker.comparison.leaderboard_noise import (
    MIN_TO_SHRINK,
    PairNoise,
    SampleSizes,
    compare_public_scores,
    estimate_noise,
    list_distinct_scored,
    list_possible_best,
)
from tracker.comparison.score_relation import explain_unused, is_undecided, relate_cv_to_public
from tracker.core.list_marks import FLATTERED
from tracker.ledger.read import find_metric_value
from tracker.ledger.records import Submission
from tracker.workspace.tracker_toml import Metric, Workspace

if TYPE_CHECKING:
    from tracker.comparison.score_relation import ScoreRelation
    from tracker.comparison.statistics.regression import Line


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A submission that may be chosen.

    `by_validation` is the score that its validation predicts, `expected` lies between it and
    `public`. Without it, `expected` lies between `public` and the middle of the others, so that the
    expected scores of all are on one scale. `skill` is how much of the distance of `public` from
    that goal is kept, 0 to 1: as much of the public noise is left in `expected`. `luck` is how much
    better `public` is than `expected`, in any metric; below 0 for bad luck. `unused` says why its
    validation score predicts nothing; `undecided` where that is not refuted either, for its scheme
    has too few points to tell. `run_name` is its run for people of this workspace.
    """

    number: int
    run: str | None
    public: float
    validation: float | None
    by_validation: float | None
    expected: float
    unused: str = ""
    undecided: bool = False
    luck: float = 0.0
    run_name: str | None = None
    skill: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ExpectedScores:
    """All distinct scored submissions as `contenders`, the best expected one first.

    `possible` are those that could be the best by their public score (`list_possible_best`).
    `own_sd` is the noise of a single score, from `source`; None if unknown. `is_estimated` says
    whether luck was estimated: otherwise each expected score is the public one.
    """

    contenders: Sequence[Contender]
    possible: Sequence[int]
    own_sd: float | None
    source: str
    is_estimated: bool
    noise_of: PairNoise
    relations: Mapping[int, ScoreRelation]


@dataclass(frozen=True, kw_only=True)
class SelectionBias:
    """How much of the best public score `score` of submission `best` is luck.

    `luck` is how much better `score` is than `expected`, the private score to expect; both None
    where luck cannot be estimated. It lies between `low` (all differences are skill) and `high`
    (the submissions `among`, which could be the best, are equally good: their mean is expected).
    `looks` submissions were scored. `own_sd` is the noise of a single score, from `source`.
    `private` is the private score of the best one where it is known. `equal` are others with the
    same public score.
    """

    metric: str
    best: int
    score: float
    looks: int
    own_sd: float | None
    source: str
    low: float
    high: float
    among: Sequence[int]
    luck: float | None
    expected: float | None
    private: float | None
    contender: Contender
    equal: Sequence[int] = ()


def estimate_selection_bias(
    workspace: Workspace, rows: Sequence[Submission], sample: SampleSizes
) -> SelectionBias | None:
    """How much of the best primary public score is luck.

    None with fewer than two distinct scores, or if neither a noise nor validation tells it.
    """
    metric = workspace.competition.primary
    looks = {row.number: row for row in list_distinct_scored(rows, metric.name)}
    if len(looks) < 2:
        return None
    found = estimate_expected_scores(workspace, rows, sample)
    if found.own_sd is None and not found.is_estimated:
        return None
    sign = 1.0 if metric.higher_is_better else -1.0
    best = max(found.contenders, key=lambda item: sign * item.public)  # of a tie the first
    possible = set(found.possible)
    among = [item for item in found.contenders if item.number in possible]
    middle = float(np.mean([item.public for item in among]))
    return SelectionBias(
        metric=metric.name,
        best=best.number,
        score=best.public,
        looks=len(looks),
        own_sd=found.own_sd,
        source=found.source,
        low=min(0.0, best.luck),
        high=max(sign * (best.public - middle), best.luck),
        among=sorted(found.possible),
        luck=best.luck if found.is_estimated else None,
        expected=best.expected if found.is_estimated else None,
        private=looks[best.number].scores.get(f"private_{metric.name}"),
        contender=best,
        equal=sorted(
            item.number
            for item in found.contenders
            if item.public == best.public and item is not best
        ),
    )


def estimate_expected_scores(
    workspace: Workspace,
    rows: Sequence[Submission],
    sample: SampleSizes,
    *,
    use_private: bool = True,
) -> ExpectedScores:
    """The expected private score of each distinct scored submission of the primary metric.

    An established line moves each public score towards what validation predicts, by how much of the
    scatter around the line is noise: own_sd^2 / (s^2 + own_sd^2), a half if unknown. What has no
    such prediction is moved by the same share to the middle of those that have one. Without any
    line, `_shrink_all`. `use_private` says whether private scores may tell how large the noise is.
    """
    metric = workspace.competition.primary
    looks = list_distinct_scored(rows, metric.name)
    relations = relate_cv_to_public(workspace, rows, metric.name)
    possible = [row.number for row in list_possible_best(workspace, looks, metric, sample)]
    could_be_best = set(possible)
    noise = estimate_noise(workspace, looks, metric, sample, use_private=use_private)
    own_sd, source = noise or (None, "")
    contenders = [_predict(workspace, row, metric, relations.get(row.number)) for row in looks]
    has_line = any(item.by_validation is not None for item in contenders)
    contenders = _put_on_one_scale(contenders, relations, metric, own_sd, could_be_best)
    return ExpectedScores(
        contenders=_rank(contenders, relations, metric),
        possible=possible,
        own_sd=own_sd,
        source=source,
        is_estimated=has_line or (own_sd is not None and len(possible) >= MIN_TO_SHRINK),
        noise_of=compare_public_scores(workspace, looks, metric, sample),
        relations=relations,
    )


def _rank(
    contenders: Sequence[Contender], relations: Mapping[int, ScoreRelation], metric: Metric
) -> list[Contender]:
    """The best expected one first; of scores that are the same, honest ones, then the earliest.

    Those of one scheme stand together, the best validation first, where nothing refutes it.
    """
    sign = -1.0 if metric.higher_is_better else 1.0
    ties: dict[tuple[float, int | None], int] = {}
    order: dict[int, tuple[float, float, bool, int, float, int]] = {}
    for item in contenders:
        relation, place, figure = relations.get(item.number), item.number, 0.0
        if item.undecided and relation is not None and item.validation is not None:
            place = ties.setdefault((item.public, relation.scheme), item.number)
            figure = sign * item.validation
        is_flattered = item.unused == FLATTERED
        scores = (sign * item.expected, sign * item.public)
        order[item.number] = (*scores, is_flattered, place, figure, item.number)
    return sorted(contenders, key=lambda item: order[item.number])


def _predict(
    workspace: Workspace, row: Submission, metric: Metric, relation: ScoreRelation | None
) -> Contender:
    """A submission with what its validation predicts; its public score is what is expected yet."""
    public = row.scores[f"public_{metric.name}"]
    validation = find_metric_value(workspace, row, "val", metric.name)
    predicted = None
    unused = explain_unused(workspace, row, relation) if validation is not None else ""
    if relation is not None and relation.line and validation is not None and not unused:
        predicted = metric.clip(relation.line.predict(validation)[0])
    return Contender(
        number=row.number,
        run=row.run,
        run_name=row.run_name,
        public=public,
        validation=validation,
        by_validation=predicted,
        expected=public,
        unused=unused,
        undecided=relation is not None and bool(unused) and is_undecided(relation),
    )


def _put_on_one_scale(
    contenders: Sequence[Contender],
    relations: Mapping[int, ScoreRelation],
    metric: Metric,
    own_sd: float | None,
    possible: Collection[int],
) -> list[Contender]:
    """The contenders with their expected scores: each is moved to what it is without its luck."""
    moved = [item for item in contenders if item.by_validation is not None]
    if not moved:
        return _shrink_all(contenders, metric, own_sd, possible)
    middle = float(np.median([item.public for item in moved]))
    largest = max((relations[item.number] for item in moved), key=lambda found: found.points)
    placed = []
    for item in contenders:
        goal, line = middle, largest.line
        if item.by_validation is not None:
            goal, line = item.by_validation, relations[item.number].line
        assert line is not None  # noqa: S101  (it predicts)
        skill = _skill_share(line, own_sd)
        expected = goal + skill * (item.public - goal)
        placed.append(_place(item, metric.clip(expected), skill, metric))
    return placed


def _place(item: Contender, expected: float, skill: float, metric: Metric) -> Contender:
    """The contender with its expected score, and with its luck."""
    sign = 1.0 if metric.higher_is_better else -1.0
    return replace(item, expected=expected, skill=skill, luck=sign * (item.public - expected))


def _shrink_all(
    contenders: Sequence[Contender],
    metric: Metric,
    own_sd: float | None,
    possible: Collection[int],
) -> list[Contender]:
    """Expected scores by public scores alone, in their order.

    Those that could be the best are moved to their mean by James and Stein's estimate; what lies
    below them is moved as far as the lowest of them, so a weak one does not hide their noise.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    top = [sign * item.public for item in contenders if item.number in possible]
    edge, middle, share = min(top), float(np.mean(top)), estimate_skill(top, own_sd)
    placed = []
    for item in contenders:
        value = sign * item.public
        inner = max(value, edge)
        expected = item.public
        if share < 1:
            expected = metric.clip(sign * (middle + share * (inner - middle) + (value - inner)))
        placed.append(_place(item, expected, share, metric))
    return placed


def estimate_skill(scores: Sequence[float], own_sd: float | None) -> float:
    """How much of the distances of scores from their mean is skill, 0 to 1.

    1 - (k - 3) own_sd^2 / (their squared distances, summed): James and Stein's estimate, moved to
    the mean of the k scores (Efron and Morris 1975, Data analysis using Stein's estimator). All of
    it for fewer than four scores, or where the noise is unknown.
    """
    if own_sd is None or len(scores) < MIN_TO_SHRINK:
        return 1.0
    squares = float(np.square(np.asarray(scores) - np.mean(scores)).sum())
    noise = (len(scores) - 3) * own_sd**2
    return max(0.0, 1 - noise / squares) if squares > 0 else 0.0


def _skill_share(line: Line, own_sd: float | None) -> float:
    """How much of the scatter around the line is skill, from 0 to 1."""
    if own_sd is None:
        return 0.5
    skill = max(0.0, line.residual_sd**2 - own_sd**2)
    return skill / (skill + own_sd**2)
