"""How noisy a leaderboard is, and how much of the best of many scores is luck.

The public images are a sample, so a score is skill plus noise. Noise that all submissions share
(easy or hard images) moves them together and does not change their order. Only the noise of each
single score makes the best one look better than it is.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

from tracker.comparison.audit import find_duplicates
from tracker.comparison.statistics.regression import fit_line
from tracker.core.errors import TrackerError
from tracker.core.text import join_numbers
from tracker.leaderboards import build_leaderboard
from tracker.ledger.read import list_packed_answers
from tracker.ledger.records import Submission
from tracker.training.errors import ConfigError
from tracker.training.metrics import is_resampled
from tracker.training.numbers import render_share
from tracker.training.tables import read_table
from tracker.workspace.predictions import Answers, Sketch, unpack, unpack_answers
from tracker.workspace.tracker_toml import Metric, Workspace

MIN_DRAWS, MAX_VALUES = 200, 60_000_000  # of more than 3,000 submissions: in seconds
VALUES_AT_ONCE = 1_000_000  # 8 MB: 20,000 draws of 1,000 submissions would be 160
NUM_DRAWS = 20_000  # the simulated mean is then exact to about a hundredth of own_sd
SEED = 0
# Share of a score's variance that all submissions have in common, where no answers are known.
SHARED_VARIANCE = 0.5
MAX_COMPARED = 20  # submissions whose answers are compared with each other
CHANCE = 1.96  # standard deviations of a difference; what is within them is told by nothing (95 %)
MIN_PRIVATE_SCORES = 8  # public and private scores that are needed to see the noise in them


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """The numbers of public and of private images, None if unknown, and their source."""

    public: int | None
    private: int | None
    source: str


@dataclass(frozen=True, kw_only=True)
class SelectionBias:
    """How much of the best public score after `looks` submissions is luck: `low` to `high`.

    `low` assumes that the scores are the true skills, `high` that all submissions are equally good.
    Both count the submissions `among` alone: those that could be the best (`list_possible_best`).
    `own_sd` is the noise of a single score, from `source`.
    """

    metric: str
    best: int
    score: float
    looks: int
    own_sd: float
    source: str
    low: float
    high: float
    among: Sequence[int] = ()


def count_public_images(workspace: Workspace, *, given: int = 0) -> SampleSizes:
    """The sizes of the public and the private part.

    As given, from the solution's Usage column, by competition.public_share, or halves. Only ids and
    usage of the solution are read, no answers. Raises ConfigError for a number below 0.
    """
    if given < 0:
        raise ConfigError(f"--public-images {given}: expected 1 or more")
    total = _count_images(workspace)
    if given:
        return SampleSizes(public=given, private=max(0, total - given) or None, source="as given")
    solution = build_leaderboard(workspace).find_solution()
    if solution is not None:
        rows = read_table(solution, (_id(workspace), "Usage"), Usage="Public")
        usages = [usage.lower() for _, usage in rows]
        return SampleSizes(
            public=usages.count("public"),
            private=usages.count("private") or None,
            source="solution",
        )
    if not total:
        return SampleSizes(public=None, private=None, source="")
    share = workspace.competition.public_share
    public = max(1, round(total * (share or 0.5)))
    source = f"{share:g} of {total} images"
    if not share:
        source = f"half of {total} images (assumed; set public_share)"
    return SampleSizes(public=public, private=total - public or None, source=source)


def _id(workspace: Workspace) -> str:
    return workspace.competition.id_column


def _count_images(workspace: Workspace) -> int:
    """The number of images to predict, from the newest known answers or info.csv; 0 if unknown."""
    packed = list_packed_answers(workspace)
    if packed:
        newest = unpack(packed[-1][2])
        return newest.images if isinstance(newest, Sketch) else len(newest.ids)
    eval_dir = str(workspace.data.get("eval_dir") or "")
    if not eval_dir:
        return 0
    try:
        return len(read_table(workspace.resolve(eval_dir) / "info.csv", (_id(workspace),)))
    except TrackerError:
        return 0


def list_distinct_scored(rows: Sequence[Submission], metric: str) -> list[Submission]:
    """Scored submissions without duplicates of an earlier one."""
    repeats = {item["number"] for item in find_duplicates(rows)}
    return [row for row in rows if f"public_{metric}" in row.scores and row.number not in repeats]


def estimate_selection_bias(
    workspace: Workspace, rows: Sequence[Submission], sample: SampleSizes
) -> SelectionBias | None:
    """How much of the best primary public score is luck.

    None with fewer than two distinct scores, or if the noise is unknown.
    """
    metric = workspace.competition.primary
    looks = list_distinct_scored(rows, metric.name)
    scores = [row.scores[f"public_{metric.name}"] for row in looks]
    noise = _estimate_noise_from_private(looks, metric.name) or estimate_public_noise(
        workspace, looks, metric, sample
    )
    if len(looks) < 2 or noise is None:
        return None
    own_sd, source = noise
    sign = 1.0 if metric.higher_is_better else -1.0
    best = max(range(len(looks)), key=lambda index: sign * scores[index])
    among = list_possible_best(workspace, looks, metric, sample)
    figures = [sign * row.scores[f"public_{metric.name}"] for row in among]
    return SelectionBias(
        metric=metric.name,
        best=looks[best].number,
        score=scores[best],
        looks=len(looks),
        own_sd=own_sd,
        source=source,
        low=expected_selection_bias(figures, own_sd),
        high=expected_selection_bias([0.0] * len(figures), own_sd),
        among=[row.number for row in among],
    )


def expected_selection_bias(skills: Sequence[float], own_sd: float) -> float:
    """Mean noise in the best score, where higher is better: simulated with a fixed seed."""
    import numpy as np

    rng, known = np.random.default_rng(SEED), np.asarray(skills)
    # Of very many submissions fewer draws are as exact: the best of them varies less.
    draws = max(MIN_DRAWS, min(NUM_DRAWS, MAX_VALUES // len(skills)))
    at_once = max(1, VALUES_AT_ONCE // len(skills))
    found = np.empty(draws)
    for start in range(0, draws, at_once):
        noise = rng.normal(0.0, own_sd, (min(at_once, draws - start), len(skills)))
        best = (known + noise).argmax(axis=1)
        found[start : start + len(noise)] = noise[np.arange(len(noise)), best]
    return float(found.mean())


def _estimate_noise_from_private(
    looks: Sequence[Submission], metric: str
) -> tuple[float, str] | None:
    """Noise from private against public scores, by the scatter around their line.

    The scatter is the noise of two parts of similar size.
    """
    pairs = [
        (row.scores[f"public_{metric}"], row.scores[f"private_{metric}"])
        for row in looks
        if f"private_{metric}" in row.scores
    ]
    if len(pairs) < MIN_PRIVATE_SCORES:
        return None
    line = fit_line([public for public, _ in pairs], [private for _, private in pairs])
    if line is None:
        return None
    source = (
        f"the scatter of {len(pairs)} private scores around their line (half of its variance is"
        " counted as public noise)"
    )
    return line.residual_sd / math.sqrt(2), source


def estimate_public_noise(
    workspace: Workspace, looks: Sequence[Submission], metric: Metric, sample: SampleSizes
) -> tuple[float, str] | None:
    """Standard deviation of a public score's own noise, and its source; no private scores are used.

    The scores of two submissions that differ on a share d of m images differ by noise of variance d
    / m at most, and half of it belongs to each. Without answers it is p (1 - p) / m less an assumed
    shared part. For macro F1 with rare classes both are too small. Only submissions that could be
    the best count: a weak one differs from all, and its noise decides nothing. None if m is
    unknown, or if the metric is not computed from right and wrong answers.
    """
    if not sample.public or not looks or not is_resampled(metric.kind):
        return None
    import numpy as np

    every = looks
    looks = list_possible_best(workspace, every, metric, sample)
    weak = sorted({row.number for row in every} - {row.number for row in looks})
    without = f"; without {join_numbers(weak)}, too far below to be the best" if weak else ""
    answers = load_answers_of(workspace, [row.number for row in looks[-MAX_COMPARED:]])
    shares = list(compare_answers(answers).values())
    if shares:
        source = (
            f"answers that differ on {render_share(float(np.mean(shares)))} of the images on"
            f" average, {sample.public} public images{without}"
        )
        return math.sqrt(float(np.mean(shares)) / (2 * sample.public)), source
    scores = [row.scores[f"public_{metric.name}"] for row in looks]
    middle = min(1.0, max(0.0, float(np.median(scores))))
    source = (
        f"{sample.public} public images, half of the variance assumed to be shared (no answers"
        f" known){without}"
    )
    return math.sqrt((1 - SHARED_VARIANCE) * middle * (1 - middle) / sample.public), source


def list_possible_best(
    workspace: Workspace, looks: Sequence[Submission], metric: Metric, sample: SampleSizes
) -> list[Submission]:
    """The submissions that could be the best: below the best public score by no more than chance.

    That is 1.96 standard deviations of the difference of the two scores (95 %). All of them where
    the metric is not computed from right and wrong answers, or the number of images is unknown.
    """
    if not sample.public or not is_resampled(metric.kind):
        return [*looks]
    sign = 1.0 if metric.higher_is_better else -1.0
    scores = {row.number: sign * row.scores[f"public_{metric.name}"] for row in looks}
    ranked = sorted(scores, key=lambda number: -scores[number])
    best = ranked[0]
    differing = compare_answers(load_answers_of(workspace, ranked[:MAX_COMPARED]))
    middle = min(1.0, max(0.0, abs(scores[best])))
    usual = math.sqrt((1 - SHARED_VARIANCE) * middle * (1 - middle) / sample.public)
    possible = []
    for row in looks:
        share = find_share(differing, row.number, best)
        noise = find_difference_noise(share, sample, usual) or 0.0
        if scores[best] - scores[row.number] <= CHANCE * noise:
            possible.append(row)
    return possible


def find_share(differing: Mapping[tuple[int, int], float], number: int, other: int) -> float | None:
    """The share of images on which two submissions answer differently, None if unknown."""
    return differing.get((min(number, other), max(number, other)))


def find_difference_noise(
    share: float | None, sample: SampleSizes, own_sd: float | None
) -> float | None:
    """The standard deviation of the difference of two public scores; None if it is unknown.

    By the share of different answers, otherwise by the noise of a single score.
    """
    if own_sd is None or not sample.public:
        return None
    return math.sqrt(2) * own_sd if share is None else math.sqrt(share / sample.public)


def compare_answers(answers: Mapping[int, Answers]) -> dict[tuple[int, int], float]:
    """Share of images with different answers, by pair of numbers, the lower number first.

    Only the images that all submissions have are counted.
    """
    import numpy as np

    numbers = sorted(answers)
    if len(numbers) < 2:
        return {}
    shared = set.intersection(*[set(answers[number].by_id) for number in numbers])
    if not shared:
        return {}
    columns = []
    for number in numbers:
        by_id = answers[number].by_id
        columns.append([by_id[name] for name in shared])
    table = np.array(columns)
    pairs = combinations(range(len(numbers)), 2)
    return {(numbers[i], numbers[j]): float((table[i] != table[j]).mean()) for i, j in pairs}


def load_answers_of(workspace: Workspace, numbers: Sequence[int]) -> dict[int, Answers]:
    """The answers of the given submissions, as far as the ledger has them; samples of sketches."""
    return {
        number: unpack_answers(text) for number, _, text in list_packed_answers(workspace, numbers)
    }
