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

from tracker.comparison.duplicates import find_duplicates
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

# Share of a score's variance that all submissions have in common, where no answers are known.
SHARED_VARIANCE = 0.5
MAX_COMPARED = 20  # submissions whose answers are compared with each other
CHANCE = 1.96  # standard deviations of a difference; what is within them is told by nothing (95 %)
MIN_TO_SHRINK = 4  # submissions that could be the best: James and Stein's estimate needs them
MIN_PRIVATE_SCORES = 8  # public and private scores that are needed to see the noise in them


@dataclass(frozen=True, kw_only=True)
class SampleSizes:
    """The numbers of public and of private images, None if unknown, and their source."""

    public: int | None
    private: int | None
    source: str


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


def estimate_noise(
    workspace: Workspace,
    looks: Sequence[Submission],
    metric: Metric,
    sample: SampleSizes,
    *,
    use_private: bool = True,
) -> tuple[float, str] | None:
    """Standard deviation of a public score's own noise, and its source; None if it is unknown.

    Measured by private scores where enough submissions that could be the best have one; otherwise
    `estimate_public_noise`.
    """
    if not looks:
        return None
    possible = list_possible_best(workspace, looks, metric, sample)
    gaps = [
        row.scores[f"private_{metric.name}"] - row.scores[f"public_{metric.name}"]
        for row in possible
        if f"private_{metric.name}" in row.scores
    ]
    if use_private and len(gaps) >= MIN_PRIVATE_SCORES:
        return _measure_noise(gaps, sample)
    noise = estimate_public_noise(workspace, looks, metric, sample)
    if noise is None or not (use_private and gaps):
        return noise
    few = (
        f"; not measured by private scores, as {len(gaps)} of those that could be the best have one"
        f" and {MIN_PRIVATE_SCORES} are needed"
    )
    return noise[0], noise[1] + few


def _measure_noise(gaps: Sequence[float], sample: SampleSizes) -> tuple[float, str]:
    """Noise of a public score by private less public scores of the same submissions.

    A difference has no skill in it: its variance is that of m public and of k private images, so k
    / (m + k) of it is public noise, a half where the numbers are unknown. What all have in common
    (an easier private part) is in their mean and counts as no noise.
    """
    import numpy as np

    public = 0.5
    if sample.public and sample.private:
        public = sample.private / (sample.public + sample.private)
    source = (
        f"the private minus the public scores of the {len(gaps)} that could be the best"
        f" ({render_share(public)} of their variance is public noise)"
    )
    return float(np.std(gaps, ddof=1)) * math.sqrt(public), source


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
    without = f"; without {join_numbers(weak)}, too far below the best public score" if weak else ""
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
    # One answer file alone differs from none.
    why = "no other that could be the best" if len(looks) == 1 else "no answers known"
    source = (
        f"{sample.public} public images, half of the variance assumed to be shared ({why}){without}"
    )
    return math.sqrt((1 - SHARED_VARIANCE) * middle * (1 - middle) / sample.public), source


@dataclass(frozen=True, kw_only=True)
class PairNoise:
    """How far chance alone takes the public scores of two submissions apart (95 %).

    `differing` is the share of images that two answer differently, `public` the number of public
    images, `usual` the noise of a single score where answers are unknown. Where `public` is None or
    0, noise is unknown, and every gap counts as it is.
    """

    differing: Mapping[tuple[int, int], float]
    public: int | None
    usual: float

    def can_tell(self, number: int, other: int, gap: float) -> bool:
        """Whether a gap is beyond chance."""
        if not self.public:
            return gap > 0
        share = self.differing.get((min(number, other), max(number, other)))
        noise = math.sqrt(2) * self.usual if share is None else math.sqrt(share / self.public)
        return gap > CHANCE * noise


def compare_public_scores(
    workspace: Workspace, looks: Sequence[Submission], metric: Metric, sample: SampleSizes
) -> PairNoise:
    """The noise of public scores, pair by pair; unknown where a metric is not one of right and
    wrong answers."""
    if not looks or not sample.public or not is_resampled(metric.kind):
        return PairNoise(differing={}, public=None, usual=0.0)
    ranked = _rank_public(looks, metric)
    best = ranked[0].scores[f"public_{metric.name}"]
    middle = min(1.0, max(0.0, abs(best)))
    answers = load_answers_of(workspace, [row.number for row in ranked[:MAX_COMPARED]])
    return PairNoise(
        differing=compare_answers(answers),
        public=sample.public,
        usual=math.sqrt((1 - SHARED_VARIANCE) * middle * (1 - middle) / sample.public),
    )


def _rank_public(looks: Sequence[Submission], metric: Metric) -> list[Submission]:
    """The best public score first, of equal ones the earliest."""
    sign = -1.0 if metric.higher_is_better else 1.0
    return sorted(looks, key=lambda row: sign * row.scores[f"public_{metric.name}"])


def list_possible_best(
    workspace: Workspace, looks: Sequence[Submission], metric: Metric, sample: SampleSizes
) -> list[Submission]:
    """The submissions that could be the best: below the best public score by no more than chance.

    That is 1.96 standard deviations of the difference of the two scores (95 %). All of them where
    the metric is not computed from right and wrong answers, or the number of images is unknown.
    """
    noise_of = compare_public_scores(workspace, looks, metric, sample)
    if not noise_of.public:
        return [*looks]
    best = _rank_public(looks, metric)[0]
    name = f"public_{metric.name}"
    possible = []
    for row in looks:
        gap = abs(best.scores[name] - row.scores[name])
        if not noise_of.can_tell(row.number, best.number, gap):
            possible.append(row)
    return possible


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
