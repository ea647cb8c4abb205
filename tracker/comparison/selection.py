"""Which submissions to choose at the end: good by public score and validation, and not all wrong on
the same images.

The set is chosen whose best member has the highest expected private score. Private scores that the
ledger has are told beside the choice and never used for it; a sealed solution's private answers are
not read.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from tracker.comparison.cv_lb import explain_unused, relate_validation
from tracker.comparison.leaderboard_noise import (
    Sample,
    compare_answers,
    count_sample,
    estimate_noise,
    list_looks,
    load_answers_of,
)
from tracker.comparison.splits import Panel, draw_normal, load_panel
from tracker.ledger.read import find_figure, list_noted, list_submissions
from tracker.ledger.records import Submission
from tracker.ledger.resolve import name_first_score
from tracker.training.errors import ConfigError, TrackerError
from tracker.workspace.competition import Metric, Workspace
from tracker.workspace.metrics import NO_PUBLIC_SCORE

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracker.comparison.statistics.regression import Line

CONTENDERS = 12  # by expected score; sets are searched among these


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A submission that may be chosen; `expected` is its public score, moved to what its validation
    makes of it. `unused` says why its validation score moves nothing."""

    number: int
    run: str | None
    public: float
    validation: float | None
    by_validation: float | None
    expected: float
    unused: str = ""


@dataclass(frozen=True, kw_only=True)
class Simulated:
    """A set of submissions in simulated splits: how often it held the best private one, and its
    best on average."""

    numbers: Sequence[int]
    holds_best: float
    mean_best: float


@dataclass(frozen=True, kw_only=True)
class Simulation:
    """The choice beside simply the best public scores; `possible` is the mean private score of the
    best of all.

    `used` says whether the choice rests on it; `left_out` has why submissions are not `among`, with
    their numbers.
    """

    source: str
    used: bool
    among: Sequence[int]
    left_out: Mapping[str, Sequence[int]]
    draws: int
    chosen: Simulated
    by_public: Simulated
    possible: float


@dataclass(frozen=True, kw_only=True)
class Hindsight:
    """Who led on private, where the ledger has private scores; `scores` has those that it has by
    number."""

    leader: int
    score: float
    chosen: bool
    scores: Mapping[int, float]


@dataclass(frozen=True, kw_only=True)
class Selection:
    """The choice, best first. `differing` is the share of images on which two contenders' answers
    differ.

    `lucky` has the best public ones that are not chosen because validation shows others to be
    better; `instead_of`
    is whose place the best public one took because validation cannot tell the two apart.
    """

    metric: str
    chosen: Sequence[int]
    contenders: Sequence[Contender]
    differing: Mapping[str, float]
    repeats: Sequence[int]
    own_sd: float | None
    noise_source: str
    sample: Sample
    simulation: Simulation | None
    private: Hindsight | None
    lucky: Sequence[int]
    instead_of: int | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def select_final(workspace: Workspace, count: int, *, public_images: int = 0) -> Selection:
    """Choose `count` submissions; raises ConfigError for a count below 1, TrackerError when nothing
    is scored."""
    if count < 1:
        raise ConfigError(f"-n {count}: expected 1 or more")
    metric, rows = workspace.competition.primary, list_submissions(workspace)
    rejected = list_noted(workspace, "rejected")
    valid = [row for row in rows if row.number not in rejected]
    looks = list_looks(valid, metric.name)
    if not looks:
        raise TrackerError(NO_PUBLIC_SCORE, hint=name_first_score(workspace))
    sample = count_sample(workspace, given=public_images)
    noise = estimate_noise(workspace, looks, metric, sample)
    own_sd, noise_source = noise or (None, "")
    everyone = expect_private(workspace, looks, metric, own_sd)
    contenders = everyone[: max(CONTENDERS, count + 1)]
    answers = load_answers_of(workspace, [item.number for item in contenders])
    differing = compare_answers(answers)
    private = _model(contenders, differing, metric, own_sd, sample)
    apart = _find_apart(workspace, looks, contenders, metric)
    places = _choose(private, contenders, count)
    by_public = _best_public(contenders, len(places), metric)
    chosen, instead_of = _favor_public(contenders, places, by_public[0], apart, differing)
    by_number = {row.number: row for row in looks}
    candidates, needed = [by_number[item.number] for item in contenders], [*chosen, *by_public]
    panel = (
        load_panel(workspace, candidates, answers, sample, needed=needed)
        if len(contenders) > count
        else None
    )
    scored = [row.number for row in rows if f"public_{metric.name}" in row.scores]
    return Selection(
        metric=metric.name,
        chosen=chosen,
        contenders=contenders,
        differing={f"{a},{b}": share for (a, b), share in differing.items()},
        repeats=[row.number for row in valid if row not in looks and row.number in scored],
        own_sd=own_sd,
        noise_source=noise_source,
        sample=sample,
        simulation=_simulate(
            panel,
            private=private,
            contenders=contenders,
            chosen=chosen,
            by_public=by_public,
            metric=metric,
            behind=[item.number for item in everyone[len(contenders) :]],
            rejected=[number for number in scored if number in rejected],
        ),
        private=_look_back(looks, chosen, metric),
        lucky=_find_lucky(by_public, chosen, apart),
        instead_of=instead_of,
    )


def expect_private(
    workspace: Workspace, looks: Sequence[Submission], metric: Metric, own_sd: float | None
) -> list[Contender]:
    """Every look with the score to expect of it, the best first.

    Where a line through submissions of its own validation scheme says what a validation score is
    worth, the public score counts by how much of the scatter about the line is skill: s^2 / (s^2 +
    own_sd^2), a half when unknown.
    """
    relations = relate_validation(workspace, looks, metric.name)
    found = []
    for row in looks:
        public, validation = (
            row.scores[f"public_{metric.name}"],
            find_figure(workspace, row, "val", metric.name),
        )
        relation, guess, expected = relations.get(row.number), None, public
        unused = ""
        if validation is not None:
            unused = explain_unused(workspace, row, relation)
        if relation is not None and relation.line and validation is not None and not unused:
            guess = metric.clip(relation.line.predict(validation)[0])
            expected = guess + _weigh(relation.line, own_sd) * (public - guess)
        found.append(
            Contender(
                number=row.number,
                run=row.run,
                public=public,
                validation=validation,
                by_validation=guess,
                expected=expected,
                unused=unused,
            )
        )
    sign = -1.0 if metric.higher_is_better else 1.0
    return sorted(found, key=lambda item: (sign * item.expected, item.number))


def _weigh(line: Line, own_sd: float | None) -> float:
    """How much of the scatter about the line is skill."""
    if own_sd is None:
        return 0.5
    skill = max(0.0, line.residual_sd**2 - own_sd**2)
    return skill / (skill + own_sd**2)


def _model(
    contenders: Sequence[Contender],
    differing: Mapping[tuple[int, int], float],
    metric: Metric,
    own_sd: float | None,
    sample: Sample,
) -> NDArray[np.float64] | None:
    """Private scores [draws, contenders], the higher the better, as the expected ones with normal
    noise.

    Two scores differ by noise of variance d (1 / m + 1 / k) for a share d of differing answers, m
    public and k private images; where answers are unknown, as if all differed alike. None without
    an idea of the noise. Only scores from 0 to 1 have one (estimate_noise), and few images do not
    lead beyond.
    """
    if own_sd is None or sample.public is None:
        return None
    hidden = 1 + sample.public / (sample.private or sample.public)
    numbers = [item.number for item in contenders]
    squares = np.zeros((len(numbers), len(numbers)))
    for (i, a), (j, b) in combinations(enumerate(numbers), 2):
        share = differing.get((min(a, b), max(a, b)))
        variance = 2 * own_sd**2 if share is None else share / sample.public
        squares[i, j] = squares[j, i] = variance * hidden
    sign = 1.0 if metric.higher_is_better else -1.0
    drawn = draw_normal([sign * item.expected for item in contenders], squares)
    return np.clip(drawn, min(sign, 0.0), max(sign, 0.0))


def _choose(
    private: NDArray[np.float64] | None, contenders: Sequence[Contender], count: int
) -> list[int]:
    """Places of the set whose best member is best on average, the best expected ones where nothing
    is simulated.

    Another set than the best expected ones must be better by three standard errors of the
    simulation.
    """
    usual = list(range(min(count, len(contenders))))
    if private is None:
        return usual
    base, chosen, most = private[:, usual].max(axis=1), usual, 0.0
    for places in combinations(range(len(contenders)), len(usual)):
        gain = private[:, list(places)].max(axis=1) - base
        mean, error = float(gain.mean()), float(gain.std()) / math.sqrt(len(gain))
        if mean > max(most, 3 * error):
            chosen, most = list(places), mean
    return chosen


def _find_apart(
    workspace: Workspace,
    looks: Sequence[Submission],
    contenders: Sequence[Contender],
    metric: Metric,
) -> set[tuple[int, int]]:
    """(better, worse) of the contenders that validation tells apart, by the line of their common
    scheme."""
    relations = relate_validation(workspace, looks, metric.name)
    found = set()
    for better, worse in combinations(contenders, 2):  # the best expected first
        relation = relations.get(better.number)
        if relation is None or relation.line is None or relation is not relations.get(worse.number):
            continue
        known = [item.validation for item in (better, worse) if item.by_validation is not None]
        if (
            len(known) == 2
            and None not in known
            and relation.line.tells_apart(known[0] or 0.0, known[1] or 0.0)
        ):
            found.add((better.number, worse.number))
    return found


def _favor_public(
    contenders: Sequence[Contender],
    places: Sequence[int],
    best: int,
    apart: Collection[tuple[int, int]],
    differing: Mapping[tuple[int, int], float],
) -> tuple[list[int], int | None]:
    """The chosen numbers, with the best public one among them where validation cannot tell it from
    a chosen one.

    It takes the place of the one that is most like it, or expected least, of those that are
    expected to be better.
    """
    order = [item.number for item in contenders]
    chosen = [order[place] for place in places]
    if best in chosen:
        return chosen, None
    rivals = [
        number
        for number in chosen
        if order.index(number) < order.index(best) and (number, best) not in apart
    ]
    if not rivals:
        return chosen, None
    nearest = min(
        reversed(rivals),
        key=lambda number: differing.get((min(number, best), max(number, best)), math.inf),
    )
    chosen = [best if number == nearest else number for number in chosen]
    return sorted(chosen, key=order.index), nearest


def _find_lucky(
    by_public: Sequence[int], chosen: Sequence[int], apart: Collection[tuple[int, int]]
) -> list[int]:
    """The best public ones than which validation shows every other chosen one to be better."""
    others = [number for number in chosen if number not in by_public]
    passed = [number for number in by_public if number not in chosen]
    return [number for number in passed if all((other, number) in apart for other in others)]


def _best_public(contenders: Sequence[Contender], count: int, metric: Metric) -> list[int]:
    sign = -1.0 if metric.higher_is_better else 1.0
    ranked = sorted(contenders, key=lambda item: (sign * item.public, item.number))
    return [item.number for item in ranked[:count]]


def _simulate(
    panel: Panel | None,
    *,
    private: NDArray[np.float64] | None,
    contenders: Sequence[Contender],
    chosen: Sequence[int],
    by_public: Sequence[int],
    metric: Metric,
    behind: Sequence[int],
    rejected: Sequence[int],
) -> Simulation | None:
    """By real predictions where there are any, else by the model, else (or when all are chosen) not
    at all."""
    if len(chosen) == len(contenders):
        return None
    sign = 1.0 if metric.higher_is_better else -1.0
    if panel is not None:
        numbers, scores, source = panel.numbers, panel.draw_private(metric), panel.source
    elif private is not None:
        numbers, scores, source = (
            [item.number for item in contenders],
            private,
            "a model of the noise",
        )
    else:
        return None

    left_out = {
        "rejected by a note": rejected,
        f"not among the {len(contenders)} best by expected score": behind,
        "without predictions on the same validation images": (
            {item.number for item in contenders} - {*numbers}
        ),
    }

    def look(wanted: Sequence[int]) -> Simulated:
        places = [numbers.index(number) for number in wanted]
        best = scores[:, places].max(axis=1)
        holds = float((best >= scores.max(axis=1)).mean())
        return Simulated(numbers=wanted, holds_best=holds, mean_best=sign * float(best.mean()))

    return Simulation(
        source=source,
        used=panel is None,
        among=numbers,
        left_out={reason: sorted(who) for reason, who in left_out.items() if who},
        draws=len(scores),
        chosen=look(chosen),
        by_public=look(by_public),
        possible=sign * float(scores.max(axis=1).mean()),
    )


def _look_back(
    looks: Sequence[Submission], chosen: Sequence[int], metric: Metric
) -> Hindsight | None:
    """Who led on private, by the scores that the ledger has; None when it has none."""
    known = {
        row.number: row.scores[f"private_{metric.name}"]
        for row in looks
        if f"private_{metric.name}" in row.scores
    }
    if not known:
        return None
    best = max if metric.higher_is_better else min
    leader = best(known, key=lambda number: known[number])
    return Hindsight(leader=leader, score=known[leader], chosen=leader in chosen, scores=known)
