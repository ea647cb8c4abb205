"""Paired statistics agree with the references, hold their coverage, and do not see what is not
there."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
import pytest
import scipy.stats
from numpy.typing import NDArray
from sklearn.metrics import accuracy_score, f1_score
from statsmodels.stats.contingency_tables import mcnemar

from tracker.comparison.statistics.decision import (
    ALPHA,
    COVERAGE,
    HALF_WIDTH,
    POWER,
    RESAMPLES,
    SMALLEST_FOUND,
    decide_answer,
)
from tracker.comparison.statistics.paired import (
    PairedComparison,
    compare_predictions,
    corrected_fold_test,
    exact_mcnemar,
)

Integers = NDArray[np.int64]
SIZES = np.array([150, 90, 60, 30, 12, 6])
CLASSES = len(SIZES)
TRUTH = np.repeat(np.arange(CLASSES), SIZES)
PAIRS = 400
FEW = 500  # resamples of a simulated pair


def draw_pair(
    rng: np.random.Generator, skill_a: float, skill_b: float
) -> tuple[Integers, Integers]:
    """Guesses of two runs that err on the same images more often than not, as runs do."""
    shared, own = rng.random(len(TRUTH)), rng.random(len(TRUTH))
    same = rng.random(len(TRUTH)) < 0.6
    wrong = rng.integers(0, CLASSES, (2, len(TRUTH)))
    a = np.where(shared < skill_a, TRUTH, wrong[0])
    b = np.where(np.where(same, shared, own) < skill_b, TRUTH, np.where(same, wrong[0], wrong[1]))
    return a, b


def expected_f1(skill: float) -> float:
    """Macro F1 of the expected counts of such a run."""
    hits = SIZES * (skill + (1 - skill) / CLASSES)
    guesses = SIZES * skill + (1 - skill) * SIZES.sum() / CLASSES
    return float((2 * hits / (SIZES + guesses)).mean())


class Simulated(NamedTuple):
    """What the statistics said about many pairs of known skill."""

    called_different: int
    covered_f1: float
    covered_accuracy: float


def simulate(pairs: int, skill_a: float, skill_b: float) -> Simulated:
    f1 = expected_f1(skill_b) - expected_f1(skill_a)
    accuracy = (skill_b - skill_a) * (1 - 1 / CLASSES)
    found = [
        compare_predictions(
            TRUTH,
            *draw_pair(np.random.default_rng([2026, n]), skill_a, skill_b),
            CLASSES,
            resamples=FEW,
            seed=n,
        )
        for n in range(pairs)
    ]
    return Simulated(
        sum(pair.metrics["f1"].better is not None for pair in found),
        sum(pair.metrics["f1"].low <= f1 <= pair.metrics["f1"].high for pair in found) / pairs,
        sum(
            pair.metrics["accuracy"].low <= accuracy <= pair.metrics["accuracy"].high
            for pair in found
        )
        / pairs,
    )


@pytest.fixture(scope="module")
def pair() -> PairedComparison:
    return compare_predictions(TRUTH, *draw_pair(np.random.default_rng(3), 0.7, 0.75), CLASSES)


# --- Coverage ---


def test_two_runs_of_equal_skill_are_called_different_in_at_most_5_of_100_pairs() -> None:
    found = simulate(PAIRS, 0.75, 0.75)
    assert found.called_different <= 0.05 * PAIRS
    assert found.covered_f1 == pytest.approx(0.95, abs=0.02)
    assert found.covered_accuracy == pytest.approx(0.95, abs=0.02)


def test_the_interval_of_a_real_difference_has_its_coverage() -> None:
    found = simulate(PAIRS, 0.7, 0.76)
    assert found.covered_f1 == pytest.approx(0.95, abs=0.02)
    assert found.covered_accuracy == pytest.approx(0.95, abs=0.02)
    assert found.called_different > 0.3 * PAIRS


def test_a_difference_of_the_detectable_size_is_found_four_times_of_five() -> None:
    # at this skill the pairs differ on as many images as a detectable size of 0.067 supposes
    better = 0.7804
    pairs = [draw_pair(np.random.default_rng([5, number]), 0.7, better) for number in range(200)]
    found = [
        compare_predictions(TRUTH, a, b, CLASSES, resamples=FEW).metrics["accuracy"]
        for a, b in pairs
    ]
    real = (better - 0.7) * (1 - 1 / CLASSES)
    assert np.median([pair.smallest for pair in found]) == pytest.approx(real, rel=0.03)
    # so few resamples have large errors of their own; what is promised holds for the usual number
    answers = [
        decide_answer(pair.delta, (pair.high - pair.low) / 2, pair.p, RESAMPLES) for pair in found
    ]
    assert answers.count("real") / len(pairs) == pytest.approx(0.8, abs=0.1)


@pytest.mark.parametrize(
    ("delta", "half_width", "p", "draws", "answer"),
    [
        (0.0, 0.0, 1.0, 10_000, "equal"),
        (0.05, 0.04, 0.01, 10_000, "real"),
        (-0.05, 0.04, 0.01, 10_000, "real"),
        (0.05, 0.04, 0.01, 200, "real"),
        (0.02, 0.04, 0.3, 10_000, "not shown"),
        (0.05, 0.04, 0.2, 10_000, "too close to call"),  # only the interval says so
        (0.02, 0.04, 0.01, 10_000, "too close to call"),  # only the swap test says so
        (0.05, 0.04, 0.028, 10_000, "too close to call"),  # p is 0.0246 to 0.0314
        (0.05, 0.04, 0.028, 1_000_000, "real"),
        (0.0405, 0.04, 0.01, 10_000, "too close to call"),  # the end is -0.0001 to 0.0011
        (0.0407, 0.04, 0.01, 10_000, "real"),
        (0.0395, 0.04, 0.2, 10_000, "too close to call"),
        (0.02, 0.04, 0.031, 10_000, "too close to call"),
    ],
)
def test_real_is_what_both_tests_say_and_other_draws_could_not_undo(
    delta: float, half_width: float, p: float, draws: int, answer: str
) -> None:
    assert decide_answer(delta, half_width, p, draws) == answer


# --- References ---


def test_scores_equal_scikit_learn(pair: PairedComparison) -> None:
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    assert pair.metrics["f1"].a == pytest.approx(f1_score(TRUTH, a, average="macro"), abs=1e-12)
    assert pair.metrics["f1"].b == pytest.approx(f1_score(TRUTH, b, average="macro"), abs=1e-12)
    assert pair.metrics["accuracy"].delta == pytest.approx(
        accuracy_score(TRUTH, b) - accuracy_score(TRUTH, a), abs=1e-12
    )


def test_a_class_that_nobody_has_or_guesses_counts_0() -> None:
    truth = np.array([0, 0, 1, 1])
    assert compare_predictions(truth, truth, truth, 4, resamples=FEW).metrics["f1"].a == 0.5


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (3, 3), (12, 4), (301, 262), (2, 2000)])
def test_mcnemar_equals_statsmodels(counts: tuple[int, int]) -> None:
    only_a, only_b = counts
    expected = mcnemar([[10, only_a], [only_b, 7]], exact=True).pvalue if sum(counts) else 1.0
    assert exact_mcnemar(only_a, only_b).p == pytest.approx(expected, abs=1e-12)


def test_no_interval_ends_beyond_what_two_scores_can_differ_by() -> None:
    truth = np.array([0, 0, 0, 1, 1, 1])
    guess = np.array([0, 0, 1, 1, 1, 1])
    paired = compare_predictions(truth, 1 - truth, guess, 2)
    for found in (*paired.metrics.values(), *paired.mirror().metrics.values()):
        assert max(abs(found.low), abs(found.high)) == 1.0
    folds = corrected_fold_test([0.0, 0.5], [0.9, 1.0], span=1.0)
    assert (folds.low, folds.high) == (-1.0, 1.0)


def test_the_fold_test_is_the_paired_t_test_with_the_variance_of_overlapping_training_sets() -> (
    None
):
    a, b = [0.71, 0.74, 0.69, 0.75, 0.70], [0.73, 0.75, 0.72, 0.75, 0.71]
    plain = scipy.stats.ttest_rel(b, a)
    found = corrected_fold_test(a, b)
    assert found.t == pytest.approx(
        plain.statistic * math.sqrt((1 / 5) / (1 / 5 + 1 / 4)), abs=1e-9
    )
    assert found.p == pytest.approx(2 * scipy.stats.t.sf(abs(found.t), 4), abs=1e-9)
    reach = scipy.stats.t.ppf(0.975, 4) * found.delta / found.t
    assert (found.low, found.high) == pytest.approx(
        (found.delta - reach, found.delta + reach), abs=1e-9
    )
    assert corrected_fold_test(a, a).p == 1.0


def test_the_standard_error_is_the_one_that_theory_has_for_accuracy() -> None:
    """The variance of a stratified mean: few images a cell, many, classes of two beside one of 40,
    mostly gains."""
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    many = [np.tile(part, 40) for part in (TRUTH, a, b)]
    label = np.arange(80) % 40 * (np.arange(80) % 2)
    small = [label, np.where(np.arange(80) < 40, label, 39), np.where(np.arange(80) % 3, label, 38)]
    apart = [
        np.arange(100) % 2,
        (np.arange(100) + (np.arange(100) < 70)) % 2,
        (np.arange(100) + 1) % 2,
    ]
    apart[2][20:] = apart[0][20:]
    for truth, first, second in ((TRUTH, a, b), many, small, apart):
        gains = (second == truth).astype(float) - (first == truth)
        variance = sum(
            (truth == label).mean() ** 2
            * gains[truth == label].var(ddof=1)
            / (truth == label).sum()
            for label in np.unique(truth)
        )
        found = compare_predictions(truth, first, second, 40).metrics["accuracy"]
        assert found.high - found.low == pytest.approx(2 * 1.959964 * math.sqrt(variance), rel=0.03)


def test_the_standard_error_is_that_of_drawing_image_by_image() -> None:
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    rng = np.random.default_rng(0)
    deltas = []
    for _ in range(1500):
        drawn = np.concatenate(
            [rng.choice(np.flatnonzero(c == TRUTH), n) for c, n in enumerate(SIZES)]
        )
        scores = [f1_by_hand(TRUTH[drawn], guess[drawn]) for guess in (a, b)]
        deltas.append(scores[1] - scores[0])
    found = compare_predictions(TRUTH, a, b, CLASSES).metrics["f1"]
    assert found.high - found.low == pytest.approx(
        2 * 1.959964 * np.std(deltas), rel=0.1
    )  # (n - 1)/n in small classes


def f1_by_hand(truth: Integers, guess: Integers) -> float:
    """Macro F1, quicker than scikit-learn's."""
    hits = np.bincount(truth[truth == guess], minlength=CLASSES)
    both = np.bincount(truth, minlength=CLASSES) + np.bincount(guess, minlength=CLASSES)
    return float((2 * hits / both).mean())


def test_the_swap_test_agrees_with_mcnemar_on_accuracy(pair: PairedComparison) -> None:
    assert pair.metrics["accuracy"].p == pytest.approx(pair.mcnemar.p, abs=0.02)


# --- What is drawn ---


def test_the_same_seed_gives_the_same_numbers(pair: PairedComparison) -> None:
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    assert compare_predictions(TRUTH, a, b, CLASSES) == pair
    assert (
        compare_predictions(TRUTH, a, b, CLASSES, seed=1).metrics["f1"].low
        != pair.metrics["f1"].low
    )


def test_photographs_of_one_person_are_no_more_evidence_than_one() -> None:
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    once = compare_predictions(TRUTH, a, b, CLASSES)
    people = [f"p{number // 4}" for number in range(4 * len(TRUTH))]
    four = compare_predictions(
        *(np.repeat(part, 4) for part in (TRUTH, a, b)), CLASSES, groups=people
    )
    loose = compare_predictions(*(np.repeat(part, 4) for part in (TRUTH, a, b)), CLASSES)
    assert (four.samples, four.units) == (4 * len(TRUTH), len(TRUTH))
    assert four.metrics["f1"].high - four.metrics["f1"].low == pytest.approx(
        once.metrics["f1"].high - once.metrics["f1"].low, rel=0.05
    )
    assert loose.metrics["f1"].high - loose.metrics["f1"].low == pytest.approx(
        (once.metrics["f1"].high - once.metrics["f1"].low) / 2, rel=0.08
    )


def test_people_unlike_all_others_are_drawn_too() -> None:
    """Each person has another set of classes: strata of one would leave nothing to chance."""
    a, b = draw_pair(np.random.default_rng(3), 0.7, 0.75)
    order = np.random.default_rng(0).permutation(len(TRUTH))
    people = [f"p{number // 9}" for number in range(len(TRUTH))]
    found = compare_predictions(TRUTH[order], a[order], b[order], CLASSES, groups=people)
    alone = compare_predictions(TRUTH, a, b, CLASSES)
    assert found.metrics["f1"].high - found.metrics["f1"].low == pytest.approx(
        alone.metrics["f1"].high - alone.metrics["f1"].low, rel=0.5
    )


def test_equal_guesses_are_no_difference() -> None:
    a, _ = draw_pair(np.random.default_rng(3), 0.7, 0.7)
    found = compare_predictions(TRUTH, a, a, CLASSES, resamples=FEW)
    assert (
        found.metrics["f1"].delta,
        found.metrics["f1"].p,
        found.metrics["f1"].smallest,
        found.metrics["f1"].better,
    ) == (0, 1, None, None)


@pytest.mark.parametrize("per_class", [1, 20])
def test_a_run_that_fails_on_whole_classes_is_not_called_equal(per_class: int) -> None:
    truth = np.repeat(np.arange(10), per_class)
    found = compare_predictions(truth, truth, np.zeros_like(truth), 10, resamples=FEW)
    for difference in found.metrics.values():
        assert (difference.answer, difference.better) == ("real", "a")
        assert difference.low < difference.delta < difference.high < 0
        assert difference.smallest is not None


def test_one_image_shows_nothing() -> None:
    found = compare_predictions(np.array([0]), np.array([0]), np.array([1]), 2, resamples=FEW)
    assert found.metrics["accuracy"].answer == "not shown"


def test_swapping_the_runs_turns_the_signs() -> None:
    a, b = draw_pair(np.random.default_rng(3), 0.6, 0.8)
    there, back = (
        compare_predictions(TRUTH, *sides, CLASSES, resamples=2000) for sides in ((a, b), (b, a))
    )
    assert (there.metrics["f1"].better, back.metrics["f1"].better) == ("b", "a")
    assert there.metrics["f1"].low == pytest.approx(-back.metrics["f1"].high, abs=0.005)
    assert (there.mcnemar.only_a, there.mcnemar.only_b) == (
        back.mcnemar.only_b,
        back.mcnemar.only_a,
    )


def test_the_standard_errors_are_those_of_coverage_alpha_and_power() -> None:
    find = NormalDist().inv_cdf
    assert find((1 + COVERAGE) / 2) == HALF_WIDTH
    assert find(1 - ALPHA / 2) + find(POWER) == SMALLEST_FOUND
