"""Which submissions to choose at the end, by public score, validation and their agreement.

The chosen set is the one whose best member has the highest expected private score: good submissions
that are not wrong on the same images. Private scores in the ledger are shown beside the choice and
never used for it. The private answers of a sealed solution are not read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tracker.comparison.expected_scores import Contender, estimate_expected_scores
from tracker.comparison.leaderboard_noise import (
    PairNoise,
    SampleSizes,
    compare_answers,
    count_public_images,
    list_distinct_scored,
    load_answers_of,
)
from tracker.comparison.private_scores import (
    Labeled,
    draw_correlated_scores,
    load_labeled_predictions,
    predict_variances,
)
from tracker.core.errors import TrackerError
from tracker.core.list_marks import FLATTERED
from tracker.ledger.read import list_submissions
from tracker.ledger.records import Submission
from tracker.ledger.resolve import render_first_score_command
from tracker.run_folder.read import look_once
from tracker.training.errors import ConfigError
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.metrics import NO_PUBLIC_SCORE
from tracker.workspace.predictions import Answers, diff_answers
from tracker.workspace.tracker_toml import Metric, Workspace

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracker.comparison.score_relation import ScoreRelation

# Of the simulation, and of the validation images that it draws from: below, nothing differs.
STANDARD_ERRORS = 3.0
MAX_CONTENDERS = 12  # by expected score; sets are searched among these
TOO_FAR_BELOW = "too far below the best public score"


@dataclass(frozen=True, kw_only=True)
class SimulatedSet:
    """A set of submissions in simulated private parts.

    `holds_best` is how often it held the best one, `mean_best` the mean score of its best member.
    """

    numbers: Sequence[int]
    holds_best: float
    mean_best: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The choice beside the best public scores; `possible` is the mean score of the best of all.

    `used` says whether the choice is based on it. `left_out` has {reason: numbers} of the
    submissions that are not in `among`. `error` is the standard error of the difference of the
    choice's `mean_best` from that of the best public ones; on validation images it includes that
    there are no more of them. `favored` is the set of as many whose
    best member is best on average: the choice, unless it is beaten by three standard errors.
    `not_real` says why real predictions are not what is resampled.
    """

    source: str
    used: bool
    among: Sequence[int]
    left_out: Mapping[str, Sequence[int]]
    draws: int
    chosen: SimulatedSet
    by_public: SimulatedSet
    possible: float
    favored: SimulatedSet
    error: float = 0.0
    not_real: str = ""

    def find_gain(self) -> float:
        """By how much the choice's better one is better than that of the best public ones.

        Negative where it is worse, in any metric; 0 within three standard errors.
        """
        gaps = [abs(self.possible - item.mean_best) for item in (self.by_public, self.chosen)]
        gain = gaps[0] - gaps[1]
        return gain if abs(gain) > STANDARD_ERRORS * self.error else 0.0

    def is_public_more_often_best(self) -> bool:
        """Whether the best public ones hold the best of all more often, beyond chance."""
        shares = [self.by_public.holds_best, self.chosen.holds_best]
        variance = sum(share * (1 - share) for share in shares) / self.draws
        return shares[0] - shares[1] > STANDARD_ERRORS * math.sqrt(variance)


@dataclass(frozen=True, kw_only=True)
class PrivateLeader:
    """The best private score in the ledger; `scores` has all known private scores by number."""

    leader: int
    score: float
    chosen: bool
    scores: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The choice, best first.

    `contenders` have the expected scores that decided, by the noise `own_sd`: known private scores
    have no part in either, though `leaderboard cv-lb` measures noise by them.
    `differing` is the share of images on which the answers of two contenders differ. `lucky` has
    the best public ones that are not chosen because validation shows others to be better. The best
    public one took the place of `instead_of` because validation cannot separate the two.
    `unscored` have no public score yet, so they cannot be chosen. `validates_best` has the best
    validation score of the contenders for which there are too few points to count it. Where
    answers are numbers, `greatest` has the greatest difference of two contenders.

    `set_aside` have a flattered validation score and stand behind honest ones that cannot be told
    from them. `untold` are not chosen, though their public score differs from that of the worst
    chosen one by no more than chance.
    """

    metric: str
    chosen: Sequence[int]
    contenders: Sequence[Contender]
    differing: Mapping[str, float]
    repeats: Sequence[int]
    own_sd: float | None
    noise_source: str
    sample: SampleSizes
    simulation: Simulation | None
    private: PrivateLeader | None
    lucky: Sequence[int]
    instead_of: int | None
    unscored: Sequence[int] = ()
    set_aside: Sequence[int] = ()
    untold: Sequence[int] = ()
    as_good: Sequence[int] = ()
    validates_best: int | None = None
    greatest: Mapping[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json; `greatest` only where answers are numbers."""
        plain = asdict(self)
        if not self.greatest:
            del plain["greatest"]
        return plain


def select_final(workspace: Workspace, count: int, *, public_images: int = 0) -> Selection:
    """Choose `count` submissions.

    Raises ConfigError for a count below 1, TrackerError if nothing is scored.
    """
    if count < 1:
        raise ConfigError(f"-n {count}: expected 1 or more")
    with look_once(workspace.runs_dir):
        return _select(workspace, count, public_images)


def _select(workspace: Workspace, count: int, public_images: int) -> Selection:
    # Candidates: scored, no duplicates. What was rejected has no score.
    metric, rows = workspace.competition.primary, list_submissions(workspace)
    looks = list_distinct_scored(rows, metric.name)
    if not looks:
        raise TrackerError(NO_PUBLIC_SCORE, hint=render_first_score_command(workspace))
    # What each of them may score on the private images. Private scores have no say.
    sample = count_public_images(workspace, given=public_images)
    found = estimate_expected_scores(workspace, rows, sample, use_private=False)
    contenders = [*found.contenders][: max(MAX_CONTENDERS, count + 1)]
    answers = load_answers_of(workspace, [item.number for item in contenders])
    differing = compare_answers(answers)
    set_aside = _list_set_aside(contenders, found.noise_of, metric, count)
    candidates = _list_candidates(contenders, set_aside, found.possible, count)
    private = _simulate_private_scores(candidates, differing, metric, found.own_sd, sample)
    # The best set, with the best public score in it unless validation speaks against it.
    separated = _find_separated(candidates, found.relations)
    indexes = _choose(private, candidates, count)
    by_public = _best_public(candidates, len(indexes), metric)
    chosen, instead_of = _include_best_public(
        candidates, indexes, by_public[0], separated, differing
    )
    as_good = _list_as_good(private, candidates, chosen)
    # How well that choice would have done on images with known labels.
    compared = {*found.possible, *chosen, *by_public}
    rivals = [item for item in candidates if item.number in compared]
    labeled, not_real = None, ""
    if len(rivals) > count:
        by_number = {row.number: row for row in looks}
        labeled, not_real = load_labeled_predictions(
            workspace,
            [by_number[item.number] for item in rivals],
            answers,
            sample,
            needed=[*chosen, *by_public],
        )
    if private is not None:
        private = private[:, [candidates.index(item) for item in rivals]]
    scored = {row.number for row in rows if f"public_{metric.name}" in row.scores}
    distinct = {row.number for row in looks}
    return Selection(
        metric=metric.name,
        chosen=chosen,
        contenders=contenders,
        differing={f"{a},{b}": share for (a, b), share in differing.items()},
        repeats=[n for n in (row.number for row in rows) if n in scored and n not in distinct],
        own_sd=found.own_sd,
        noise_source=found.source,
        sample=sample,
        simulation=_simulate(
            labeled,
            private=private,
            contenders=rivals,
            chosen=chosen,
            by_public=by_public,
            metric=metric,
            not_real=not_real,
            left_out=_list_left_out(found.contenders, contenders, rivals, set_aside),
        ),
        private=_find_private_leader(looks, chosen, metric),
        lucky=_find_lucky(by_public, chosen, separated),
        instead_of=instead_of,
        set_aside=set_aside,
        untold=_list_untold(contenders, chosen, found.possible, found.noise_of, metric),
        as_good=as_good,
        validates_best=_find_best_validation(contenders, found.relations, metric),
        unscored=[row.number for row in rows if row.number not in scored and not row.is_rejected],
        greatest={
            f"{a},{b}": distance
            for (a, b), distance in _compare_numbers(workspace, answers).items()
        },
    )


def _list_set_aside(
    contenders: Sequence[Contender], noise_of: PairNoise, metric: Metric, count: int
) -> list[int]:
    """The flattered submissions that stand behind as many honest ones as are wanted.

    An honest one goes before a flattered one that is not better than it by more than chance.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    honest = [item for item in contenders if item.unused != FLATTERED]
    aside = []
    for item in contenders:
        if item.unused != FLATTERED:
            continue
        before = 0
        for other in honest:
            gaps = (item.public - other.public, item.expected - other.expected)
            gap = max(sign * value for value in gaps)
            before += not noise_of.can_tell(item.number, other.number, gap)
        if before >= count:
            aside.append(item.number)
    return aside


def _list_candidates(
    contenders: Sequence[Contender],
    set_aside: Collection[int],
    possible: Collection[int],
    count: int,
) -> list[Contender]:
    """The honest ones that could be the best, by public score or by their validation.

    Where they are too few, as many of the others as are wanted: the best expected ones, for none of
    these will be the best.
    """
    honest = [item for item in contenders if item.number not in set_aside]
    strong = []
    for item in honest:
        if item.number in possible or item.by_validation is not None:
            strong.append(item)
    weak = [item for item in honest if item not in strong][: max(0, count - len(strong))]
    return [item for item in honest if item in strong or item in weak]


def _list_left_out(
    every: Sequence[Contender],
    contenders: Sequence[Contender],
    rivals: Sequence[Contender],
    set_aside: Collection[int],
) -> dict[str, list[int]]:
    """{reason: numbers} of the submissions that are not compared with the choice."""
    behind = f"not among the {len(contenders)} best by expected score"
    reasons: dict[str, list[int]] = {behind: [], FLATTERED: [], TOO_FAR_BELOW: []}
    near, compared = ({item.number for item in group} for group in (contenders, rivals))
    for item in every:
        if item.number not in near:
            reasons[behind].append(item.number)
        elif item.number in set_aside:
            reasons[FLATTERED].append(item.number)
        elif item.number not in compared:
            reasons[TOO_FAR_BELOW].append(item.number)
    return reasons


def _list_untold(
    contenders: Sequence[Contender],
    chosen: Sequence[int],
    possible: Collection[int],
    noise_of: PairNoise,
    metric: Metric,
) -> list[int]:
    """Those that are not chosen and that public scores do not tell from the worst chosen one.

    Who is too far below to be the best is none of them, unless that chosen one is, too.
    """
    sign = 1.0 if metric.higher_is_better else -1.0
    worst = min(
        (item for item in contenders if item.number in chosen), key=lambda item: sign * item.public
    )
    untold = []
    for item in contenders:
        if worst.number in possible and item.number not in possible:
            continue
        gap = abs(worst.public - item.public)
        if item.number not in chosen and not noise_of.can_tell(worst.number, item.number, gap):
            untold.append(item.number)
    return untold


def _compare_numbers(
    workspace: Workspace, answers: Mapping[int, Answers]
) -> dict[tuple[int, int], float]:
    """The greatest difference of two submissions, by their numbers; empty where answers are no
    numbers."""
    if not find_answer_kind(workspace.competition).is_number:
        return {}
    greatest = {}
    for a, b in combinations(sorted(answers), 2):
        distance = diff_answers(answers[a], answers[b], workspace.competition).greatest
        if distance is not None:
            greatest[a, b] = distance
    return greatest


def _find_best_validation(
    contenders: Sequence[Contender], relations: Mapping[int, ScoreRelation], metric: Metric
) -> int | None:
    """The best by validation in the largest scheme that has too few points to count it."""
    waiting = {
        item.number: item.validation
        for item in contenders
        if item.undecided and item.validation is not None
    }
    if not waiting:
        return None
    largest = max((relations[number] for number in waiting), key=lambda relation: relation.n)
    known = {number: value for number, value in waiting.items() if number in largest.numbers}
    best = max if metric.higher_is_better else min
    return best(known, key=lambda number: known[number])


def _simulate_private_scores(
    contenders: Sequence[Contender],
    differing: Mapping[tuple[int, int], float],
    metric: Metric,
    own_sd: float | None,
    sample: SampleSizes,
) -> NDArray[np.float64] | None:
    """Private scores [draws, contenders], higher is better: the expected ones with normal noise.

    None if the noise is unknown (`predict_variances`). Only scores from 0 to 1 have a known noise
    (estimate_public_noise), so the draws are cut off there.
    """
    if own_sd is None or sample.public is None:
        return None
    shares = {item.number: item.skill for item in contenders}
    squares = predict_variances(shares, differing, own_sd, sample)
    sign = 1.0 if metric.higher_is_better else -1.0
    drawn = draw_correlated_scores([sign * item.expected for item in contenders], squares)
    return np.clip(drawn, min(sign, 0.0), max(sign, 0.0))


def _choose(
    private: NDArray[np.float64] | None, contenders: Sequence[Contender], count: int
) -> list[int]:
    """Indexes of the set whose best member is best on average.

    Without a simulation, the best expected ones. The best public one is in it where no validation
    score speaks.
    """
    usual = list(range(min(count, len(contenders))))
    if private is None:
        return usual
    is_public_alone = all(item.by_validation is None for item in contenders)
    return _find_best_set(private, usual, kept=usual[:1] if is_public_alone else ())


def _find_best_set(
    scores: NDArray[np.float64],
    usual: Sequence[int],
    *,
    uncertainty: float = 0.0,
    kept: Collection[int] = (),
) -> list[int]:
    """Indexes of the set whose best member is best on average in scores [draws, contenders].

    Another set than the `usual` one must be better by three standard errors; `uncertainty` is the
    variance of a mean that more draws do not lessen, as a share of that of a single draw. Of sets
    that are not told apart by as much the first is taken: its members stand first. `kept` are in
    every set.
    """
    bests = {}
    for indexes in combinations(range(scores.shape[1]), len(usual)):
        if {*kept} <= {*indexes}:
            bests[indexes] = scores[:, list(indexes)].max(axis=1)
    base = scores[:, list(usual)].max(axis=1)
    better = [best for best in bests.values() if _is_beyond_error(best - base, uncertainty)]
    if not better:
        return list(usual)
    most = max(better, key=lambda best: float(best.mean()))
    equals = (
        indexes for indexes, best in bests.items() if not _is_beyond_error(most - best, uncertainty)
    )
    return list(next(equals))


def _is_beyond_error(gain: NDArray[np.float64], uncertainty: float = 0.0) -> bool:
    """Whether a gain [draws] is above 0 by three standard errors."""
    error = float(gain.std()) * math.sqrt(1 / len(gain) + uncertainty)
    return float(gain.mean()) > STANDARD_ERRORS * error


def _list_as_good(
    private: NDArray[np.float64] | None, contenders: Sequence[Contender], chosen: Sequence[int]
) -> list[int]:
    """Who could take the place of the last chosen one: the simulation tells the two sets apart by
    less than three standard errors."""
    if private is None or len(chosen) == len(contenders):
        return []
    order = [item.number for item in contenders]
    rest = [order.index(number) for number in chosen[:-1]]
    own = private[:, [*rest, order.index(chosen[-1])]].max(axis=1)
    equals = []
    for place, number in enumerate(order):
        gain = private[:, [*rest, place]].max(axis=1) - own
        if number not in chosen and not _is_beyond_error(gain) and not _is_beyond_error(-gain):
            equals.append(number)
    return equals


def _find_separated(
    contenders: Sequence[Contender], relations: Mapping[int, ScoreRelation]
) -> set[tuple[int, int]]:
    """(better, worse) of the contenders that validation separates, by the line of their scheme."""
    pairs = set()
    for better, worse in combinations(contenders, 2):  # the best expected first
        relation = relations.get(better.number)
        if relation is None or relation.line is None or relation is not relations.get(worse.number):
            continue
        known = [item.validation for item in (better, worse) if item.by_validation is not None]
        if (
            len(known) == 2
            and None not in known
            and relation.line.separates(known[0] or 0.0, known[1] or 0.0)
        ):
            pairs.add((better.number, worse.number))
    return pairs


def _include_best_public(
    contenders: Sequence[Contender],
    indexes: Sequence[int],
    best: int,
    separated: Collection[tuple[int, int]],
    differing: Mapping[tuple[int, int], float],
) -> tuple[list[int], int | None]:
    """The chosen numbers with the best public one, unless validation shows others to be better.

    It replaces the chosen one with the most similar answers, or the lowest expected score, among
    those that are expected to be better. Returns the replaced number, too. Where validation has no
    say about one of the two, their expected scores decide.
    """
    order = [item.number for item in contenders]
    judged = {item.number for item in contenders if item.by_validation is not None}
    chosen = [order[index] for index in indexes]
    if best in chosen:
        return chosen, None
    rivals = [
        number
        for number in chosen
        if order.index(number) < order.index(best)
        and {number, best} <= judged
        and (number, best) not in separated
    ]
    if not rivals:
        return chosen, None

    def find_difference(number: int) -> float:
        return differing.get((min(number, best), max(number, best)), math.inf)

    nearest = min(reversed(rivals), key=find_difference)
    chosen = [best if number == nearest else number for number in chosen]
    return sorted(chosen, key=order.index), nearest


def _find_lucky(
    by_public: Sequence[int], chosen: Sequence[int], separated: Collection[tuple[int, int]]
) -> list[int]:
    """The best public ones that are worse by validation than every other chosen one."""
    others = [number for number in chosen if number not in by_public]
    passed = [number for number in by_public if number not in chosen]
    lucky = []
    for number in passed:
        if all((other, number) in separated for other in others):
            lucky.append(number)
    return lucky


def _best_public(contenders: Sequence[Contender], count: int, metric: Metric) -> list[int]:
    sign = -1.0 if metric.higher_is_better else 1.0
    ranked = sorted(contenders, key=lambda item: sign * item.public)  # ties: as expected
    return [item.number for item in ranked[:count]]


def _simulate(
    labeled: Labeled | None,
    *,
    private: NDArray[np.float64] | None,
    contenders: Sequence[Contender],
    chosen: Sequence[int],
    by_public: Sequence[int],
    metric: Metric,
    not_real: str,
    left_out: Mapping[str, Sequence[int]],
) -> Simulation | None:
    """Compare the choice with the best public scores.

    By real predictions if there are any, otherwise by the model. None without both, or if all are
    chosen.
    """
    if len(chosen) == len(contenders):
        return None
    sign = 1.0 if metric.higher_is_better else -1.0
    if labeled is not None:
        numbers, source = labeled.numbers, labeled.source
        scores = sign * labeled.resample_scores(metric)  # more is better, as in the model
    elif private is not None:
        numbers = [item.number for item in contenders]
        scores, source = private, "a model of the noise"
    else:
        return None

    unscored = {item.number for item in contenders} - {*numbers}
    flattered = {item.number for item in contenders if item.unused == FLATTERED} & unscored
    reasons = {reason: [*members] for reason, members in left_out.items()}
    reasons[FLATTERED] += flattered
    reasons["without predictions on the same validation images"] = [*(unscored - flattered)]

    def draw_best(wanted: Sequence[int]) -> NDArray[np.float64]:
        best: NDArray[np.float64] = scores[:, [numbers.index(n) for n in wanted]].max(axis=1)
        return best

    def evaluate(wanted: Sequence[int]) -> SimulatedSet:
        best = draw_best(wanted)
        holds = float((best >= scores.max(axis=1)).mean())
        return SimulatedSet(numbers=wanted, holds_best=holds, mean_best=sign * float(best.mean()))

    gain = draw_best(chosen) - draw_best(by_public)  # in the same draws
    uncertainty = labeled.uncertainty if labeled is not None else 0.0
    usual = [numbers.index(number) for number in chosen]
    favored = _find_best_set(scores, usual, uncertainty=uncertainty)
    return Simulation(
        source=source,
        used=labeled is None,
        among=numbers,
        left_out={reason: sorted(members) for reason, members in reasons.items() if members},
        draws=len(scores),
        chosen=evaluate(chosen),
        by_public=evaluate(by_public),
        possible=sign * float(scores.max(axis=1).mean()),
        favored=evaluate([numbers[index] for index in favored]),
        not_real="" if labeled is not None else not_real,
        error=float(gain.std()) * math.sqrt(1 / len(gain) + uncertainty),
    )


def _find_private_leader(
    looks: Sequence[Submission], chosen: Sequence[int], metric: Metric
) -> PrivateLeader | None:
    """The best private score in the ledger; None if it has none."""
    known = {
        row.number: row.scores[f"private_{metric.name}"]
        for row in looks
        if f"private_{metric.name}" in row.scores
    }
    if not known:
        return None
    best = max if metric.higher_is_better else min
    score = best(known.values())
    leaders = [number for number, value in known.items() if value == score]
    leader = next((number for number in leaders if number in chosen), leaders[0])  # a tie leads not
    return PrivateLeader(leader=leader, score=score, chosen=leader in chosen, scores=known)
