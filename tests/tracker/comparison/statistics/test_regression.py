"""Lines, ranks and intervals agree with SciPy and statsmodels, and hold what they promise."""

from __future__ import annotations

import numpy as np
import pytest

from tracker.comparison.statistics.regression import (
    MANY_POINTS,
    describe_rank,
    drop_rank,
    find_outliers,
    fit_line,
    hold_without,
    rank_correlation,
    rank_values,
    show_agreement,
    studentize,
)


@pytest.fixture(scope="module")
def pairs() -> tuple[list[float], list[float]]:
    rng = np.random.default_rng(3)
    x = np.round(rng.normal(0.8, 0.05, 25), 2)
    return list(x), list(np.round(0.1 + 0.8 * x + rng.normal(0, 0.02, 25), 3))


def test_line_prediction_and_residuals_equal_statsmodels(
    pairs: tuple[list[float], list[float]],
) -> None:
    import statsmodels.api as sm

    x, y = pairs
    line = fit_line(x, y)
    assert line is not None
    model = sm.OLS(y, sm.add_constant(x)).fit()
    assert (line.intercept, line.slope) == pytest.approx(tuple(model.params), abs=1e-9)
    assert line.residual_sd == pytest.approx(np.sqrt(model.scale), abs=1e-9)
    for new in (0.7, 0.8, 0.95):
        frame = model.get_prediction([[1.0, new]]).summary_frame(alpha=0.05)
        wanted = frame.loc[0, ["mean", "obs_ci_lower", "obs_ci_upper"]]
        assert line.predict(new) == pytest.approx(tuple(wanted), abs=1e-6)
    assert studentize(line, x, y) == pytest.approx(
        model.get_influence().resid_studentized_external, abs=1e-6
    )


def test_a_point_far_off_is_an_outlier_as_statsmodels_says(
    pairs: tuple[list[float], list[float]],
) -> None:
    import statsmodels.api as sm

    x, y = list(pairs[0]), list(pairs[1])
    y[7] += 0.12
    line = fit_line(x, y)
    assert line is not None
    test = sm.OLS(y, sm.add_constant(x)).fit().outlier_test()
    assert (
        [place for place, _ in find_outliers(line, x, y)]
        == list(np.flatnonzero(test[:, 2] < 0.05))
        == [7]
    )


def test_rank_correlation_equals_scipy(pairs: tuple[list[float], list[float]]) -> None:
    from scipy.stats import spearmanr

    found = rank_correlation(*pairs, distinct=25)
    assert found is not None
    assert found.rho == pytest.approx(spearmanr(*pairs).statistic, abs=1e-12)
    assert found.low is not None
    assert found.high is not None
    assert found.low < found.rho < found.high


def test_what_cannot_be_told_is_none() -> None:
    assert fit_line([1, 2], [1, 2]) is None
    assert fit_line([1, 1, 1], [1, 2, 3]) is None
    assert rank_correlation([1, 1, 1], [1, 2, 3], distinct=3) is None
    perfect = rank_correlation([1, 2, 3, 4, 5], [2, 3, 4, 5, 6], distinct=5)
    assert perfect is not None
    assert perfect.rho == pytest.approx(1.0)
    assert perfect.low is None
    line = fit_line([1, 2, 3, 4], [1, 2, 3, 4])
    assert line is not None
    assert find_outliers(line, [1, 2, 3, 4], [1, 2, 3, 4]) == []


def test_intervals_hold_95_of_100_times() -> None:
    rng = np.random.default_rng(11)
    rounds, n, held_line, held_rank = 2000, 20, 0, 0
    truth = 6 / np.pi * np.arcsin(0.7 / 2)  # Spearman's rho of a normal pair with correlation 0.7
    for _ in range(rounds):
        x = rng.normal(size=n + 1)
        y = 0.7 * x + np.sqrt(1 - 0.7**2) * rng.normal(size=n + 1)
        line, rank = fit_line(x[:n], y[:n]), rank_correlation(x[:n], y[:n], distinct=n)
        assert line is not None
        assert rank is not None
        assert rank.low is not None
        assert rank.high is not None
        _, low, high = line.predict(float(x[n]))
        held_line += low <= y[n] <= high
        held_rank += rank.low <= truth <= rank.high
    assert held_line / rounds == pytest.approx(0.95, abs=0.02)
    assert held_rank / rounds == pytest.approx(0.95, abs=0.02)


def test_a_distance_from_the_line_is_in_the_residual_standard_deviation_that_is_printed(
    pairs: tuple[list[float], list[float]],
) -> None:
    x, y = list(pairs[0]), list(pairs[1])
    y[7] += 0.12
    line = fit_line(x, y)
    assert line is not None
    ((_, distance),) = find_outliers(line, x, y)
    assert distance == pytest.approx((y[7] - line.intercept - line.slope * x[7]) / line.residual_sd)


def test_of_few_points_none_is_far_off() -> None:
    x, y = [0.1, 0.2, 0.3, 0.4, 0.5], [0.1001, 0.2, 0.25, 0.4001, 0.5]
    line = fit_line(x, y)
    assert line is not None
    assert abs(studentize(line, x, y)).max() > 100, "far from the line through the four others"
    assert find_outliers(line, x, y) == []


def test_two_points_are_told_apart_where_the_line_is_sure_enough() -> None:
    rng = np.random.default_rng(5)
    x = rng.uniform(0.6, 0.9, 12)
    line = fit_line(list(x), list(0.8 * x + rng.normal(0, 0.02, 12)))
    assert line is not None
    assert not line.separates(0.80, 0.81)
    assert line.separates(0.65, 0.9)
    chance = []
    for _ in range(2000):
        y = 0.8 * x + rng.normal(0, 0.02, 12)
        fitted = fit_line(list(x), list(y))
        assert fitted is not None
        chance.append(abs(rng.normal(0, 0.02) - rng.normal(0, 0.02)) > fitted._half_width(2))
    assert 0.03 < np.mean(chance) < 0.07


def test_four_different_scores_have_a_rank_correlation_and_three_equal_ones_a_reason() -> None:
    x, y = [0.1, 0.2, 0.3, 0.4], [0.1, 0.3, 0.2, 0.4]
    words = describe_rank(rank_correlation(x, y, distinct=4), 4)
    assert words == "Spearman 0.800, 95 % interval -0.819 to 0.998"
    equal = rank_correlation([0.1, 0.2, 0.3], [0.5, 0.5, 0.5], distinct=3)
    assert describe_rank(equal, 3) == "no rank correlation: all have the same score on one side"
    assert describe_rank(None, 2) == (
        "no rank correlation: it needs three submissions, there are 2"
    )


def test_ranks_without_one_point_are_those_of_the_others(
    pairs: tuple[list[float], list[float]],
) -> None:
    values = np.asarray(pairs[0])
    assert len(set(values)) < len(values)  # equal ones share a rank
    for index in range(len(values)):
        left = drop_rank(rank_values(values), index)
        assert left.tolist() == rank_values(np.delete(values, index)).tolist()


def test_of_very_many_points_sums_say_no_more_than_the_others_do() -> None:
    """Lines from a flat one to one beyond doubt, with ties and a point far off: what is said to
    hold surely does hold when the others are fitted without that point."""
    rng, said = np.random.default_rng(7), []
    for slope in (0.0, 0.06, 0.1, 1.0, 4.0):
        xs = np.sort(rng.normal(size=MANY_POINTS).round(1))
        ys = slope * xs + rng.normal(size=MANY_POINTS).round(1)
        ys[-1] += 40 * (slope == 0.1)
        ranks = (rank_values(xs), rank_values(ys))
        held = hold_without(xs, ys, ranks)
        said.append(int(held.sum()))
        for index in {0, 1, MANY_POINTS - 1, *map(int, rng.integers(MANY_POINTS, size=20))}:
            left = np.delete(xs, index), np.delete(ys, index)
            line = fit_line(*left)
            assert line is not None
            rises = line.slope > 0 and line.separates(left[0][0], left[0][-1])
            shown = rises and show_agreement(*(drop_rank(each, index) for each in ranks))
            assert shown or not held[index], (slope, index)
    assert said[0] == said[1] == 0, said
    assert said[-1] == MANY_POINTS - 2, said
    few = (np.arange(9.0), np.arange(9.0))
    assert not hold_without(*few, few).any()
