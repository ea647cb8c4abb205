"""A line through pairs of scores, its outliers, what a new point may be, and rank correlation."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Floats: TypeAlias = "Sequence[float] | NDArray[np.float64]"
CONFIDENCE = 0.95
FEW_POINTS = 10  # points; fewer are called few, and none of them is called far off
MIN_TO_RANK = 3  # points, as for a line
MIN_ORDERED = 5  # points in exactly one order: by chance 1 of 120, so that says something
MIN_OUTLIER_SD = 2.0  # residual standard deviations
MANY_POINTS = 1000  # from here on, sums may tell that one point changes nothing
ROUNDING = 1e-6  # more than rounding makes of a sum of squares


@dataclass(frozen=True, kw_only=True)
class Line:
    """Least squares: y = intercept + slope * x. `residual_sd` has n - 2 degrees of freedom."""

    n: int
    slope: float
    intercept: float
    residual_sd: float
    mean_x: float
    spread_x: float  # sum of squared distances from mean_x

    def predict(self, x: float) -> tuple[float, float, float]:
        """The value at x, and the interval of 95 % of new points at x (Student's t, n - 2)."""
        value = self.intercept + self.slope * x
        leverage = 1 / self.n + (x - self.mean_x) ** 2 / self.spread_x
        half_width = self._half_width(1 + leverage)
        return value, value - half_width, value + half_width

    def separates(self, x: float, other: float) -> bool:
        """Whether new points at two values of x differ by more than chance.

        At 95 %, by Student's t with n - 2 degrees of freedom.
        """
        return abs(self.slope * (x - other)) > self._half_width(
            2 + (x - other) ** 2 / self.spread_x
        )

    def _half_width(self, variances: float) -> float:
        """Half the 95 % interval for `variances` times the variance of a residual."""
        return (
            _t_quantile((1 + CONFIDENCE) / 2, self.n - 2) * self.residual_sd * math.sqrt(variances)
        )


@dataclass(frozen=True, kw_only=True)
class RankCorrelation:
    """Spearman's rho with its 95 % interval.

    The interval is None with too few points, or if all are in the same order.
    """

    rho: float
    low: float | None
    high: float | None


def describe_rank(rank: RankCorrelation | None, count: int, *, points: int | None = None) -> str:
    """Spearman's rho of `count` submissions with its interval, or why there is none.

    Where fewer `points` count, as some are duplicates, rho and its interval each say their number.
    """
    if count < MIN_TO_RANK:
        return f"no rank correlation: it needs three submissions, there are {count}"
    if rank is None:
        return "no rank correlation: all have the same score on one side"
    every = of = ""
    if points is not None and points < count:
        every, of = f" of all {count}, each with its rank", f" of {points} points"
    if rank.low is None:
        return f"Spearman {rank.rho:.3f}{every}, no interval"
    return f"Spearman {rank.rho:.3f}{every}, 95 % interval{of} {rank.low:.3f} to {rank.high:.3f}"


def fit_line(x: Floats, y: Floats) -> Line | None:
    """The line through three or more points; None for fewer, or if all have the same x."""
    if len(x) < MIN_TO_RANK:
        return None  # before numpy is loaded: `check` asks with few submissions, too
    import numpy as np

    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    if np.ptp(xs) == 0:
        return None
    mean_x, mean_y = float(xs.mean()), float(ys.mean())
    spread = float(((xs - mean_x) ** 2).sum())
    slope = float(((xs - mean_x) * (ys - mean_y)).sum()) / spread
    intercept = mean_y - slope * mean_x
    squares = float(((ys - intercept - slope * xs) ** 2).sum())
    return Line(
        n=len(xs),
        slope=slope,
        intercept=intercept,
        residual_sd=math.sqrt(squares / (len(xs) - 2)),
        mean_x=mean_x,
        spread_x=spread,
    )


def find_outliers(line: Line, x: Floats, y: Floats) -> list[tuple[int, float]]:
    """(index, distance in `residual_sd`) of the points that do not fit the line.

    Externally studentized residuals against Student's t with n - 3 degrees of freedom; Bonferroni
    keeps the chance to name any point of a good line at 5 %. The distance is the one that a reader
    can compute from the printed line. A point nearer than MIN_OUTLIER_SD is never an outlier, nor
    is any of fewer than FEW_POINTS points.
    """
    if line.n < FEW_POINTS or line.residual_sd == 0:
        return []
    import numpy as np

    limit = _t_quantile(1 - (1 - CONFIDENCE) / (2 * line.n), line.n - 3)
    distances = (
        np.asarray(y, np.float64) - line.intercept - line.slope * np.asarray(x, np.float64)
    ) / line.residual_sd
    is_outlier = np.abs(studentize(line, x, y)) > limit
    return [
        (int(index), float(distances[index]))
        for index in np.flatnonzero(is_outlier & (np.abs(distances) > MIN_OUTLIER_SD))
    ]


def studentize(line: Line, x: Floats, y: Floats) -> NDArray[np.float64]:
    """Each point's distance from the line through the others, in its own standard deviations."""
    import numpy as np

    xs, ys = np.asarray(x, np.float64), np.asarray(y, np.float64)
    residuals = ys - line.intercept - line.slope * xs
    free = 1 - 1 / line.n - (xs - line.mean_x) ** 2 / line.spread_x  # 1 - leverage
    squares = line.residual_sd**2 * (line.n - 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        without = np.sqrt((squares - residuals**2 / free) / (line.n - 3))
        distances: NDArray[np.float64] = np.nan_to_num(
            residuals / (without * np.sqrt(free)), nan=0.0
        )
    return distances


def spearman(x: Floats, y: Floats) -> float | None:
    """Spearman's rho, ties with their mean rank; None if a side is constant or has one point."""
    return None if len(x) < 2 else _correlate(rank_values(x), rank_values(y))


def _correlate(a: NDArray[np.float64], b: NDArray[np.float64]) -> float | None:
    """The correlation of ranks; None if a side is constant."""
    import numpy as np

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return min(1.0, max(-1.0, float(np.corrcoef(a, b)[0, 1])))


def rank_correlation(x: Floats, y: Floats, *, distinct: int) -> RankCorrelation | None:
    """Spearman's rho with its interval; None if a side is constant or has fewer than two points.

    The interval is Fisher's with the variance (1 + rho^2 / 2) / (n - 3) of Bonett and Wright
    (2000), Sample size requirements for estimating Pearson, Kendall and Spearman correlations; n is
    the number of `distinct` points.
    """
    rho = spearman(x, y)
    return None if rho is None else _find_interval(rho, distinct)


def _find_interval(rho: float, distinct: int) -> RankCorrelation:
    if distinct < 4 or 1 - abs(rho) < 1e-12:
        return RankCorrelation(rho=rho, low=None, high=None)
    half_width = 1.959963984540054 * math.sqrt((1 + rho**2 / 2) / (distinct - 3))
    middle = math.atanh(rho)
    return RankCorrelation(
        rho=rho, low=math.tanh(middle - half_width), high=math.tanh(middle + half_width)
    )


def show_agreement(ranks: NDArray[np.float64], others: NDArray[np.float64]) -> bool:
    """Whether the interval of the correlation of ranks of distinct points leaves out none at all.

    Points that are all in the same order have no interval: five of them are enough.
    """
    rho = _correlate(ranks, others)
    if rho is None:
        return False
    rank = _find_interval(rho, len(ranks))
    if rank.low is None:
        return rank.rho > 0 and len(ranks) >= MIN_ORDERED
    return rank.low > 0


def drop_rank(ranks: NDArray[np.float64], index: int) -> NDArray[np.float64]:
    """The ranks that the other points have without one of them: nothing is sorted again."""
    import numpy as np

    own, others = ranks[index], np.delete(ranks, index)
    left: NDArray[np.float64] = others - (others > own) - 0.5 * (others == own)
    return left


def hold_without(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    ranks: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> NDArray[np.bool_]:
    """For each point, by x, whether the others surely have a line that rises and tells its
    outermost two apart, and ranks that agree; where it is not sure, they have to be looked at.

    Sums without a point follow from those with it. Without it, the rank of any other is lower by 1
    at most, so the sums of ranks change by no more than is taken off here.
    """
    import numpy as np

    n = len(xs)
    surely = np.zeros(n, np.bool_)
    if n < MANY_POINTS:
        return surely
    dx, dy = xs - xs.mean(), ys - ys.mean()
    kept = n / (n - 1)
    all_squares = float((dy**2).sum())
    spread = (dx**2).sum() - kept * dx**2
    width = xs[-1] - xs[0]
    with np.errstate(divide="ignore", invalid="ignore"):
        slope = ((dx * dy).sum() - kept * dx * dy) / spread
        left = all_squares - kept * dy**2 - slope**2 * spread
        residual_sd = np.sqrt((np.maximum(left, 0) + ROUNDING * all_squares) / (n - 3))
        half = residual_sd * np.sqrt(2 + width**2 / spread)
    half *= _t_quantile((1 + CONFIDENCE) / 2, n - 3)
    surely = (slope > 0) & (slope * width > (1 + ROUNDING) * half)
    surely[[0, -1]] = False  # without these the line is shorter
    return surely if _surely_agree(*ranks) else np.zeros(n, np.bool_)


def _surely_agree(a: NDArray[np.float64], b: NDArray[np.float64]) -> bool:
    """Whether ranks agree whichever point is left out, by a bound on what that changes."""
    import numpy as np

    n = len(a)
    da, db = a - a.mean(), b - b.mean()
    sizes = float(np.abs(da).max()), float(np.abs(db).max())
    # sums of products of values that change by 1 at most, without one product
    change = n * (sizes[0] + sizes[1] + 1) + 2 * sizes[0] * sizes[1]
    most = [
        float((d**2).sum()) + n * (2 * size + 1) for d, size in zip((da, db), sizes, strict=True)
    ]
    lowest = (float((da * db).sum()) - change) / math.sqrt(most[0] * most[1])
    low = _find_interval(lowest, n - 1).low if lowest > 0 else None
    return low is not None and low > ROUNDING


def rank_values(values: Floats) -> NDArray[np.float64]:
    """Ranks from 1; equal values have their mean rank."""
    import numpy as np

    _, position, counts = np.unique(
        np.asarray(values, np.float64), return_inverse=True, return_counts=True
    )
    ends = np.cumsum(counts)
    ranks: NDArray[np.float64] = (ends - (counts - 1) / 2)[position]
    return ranks


@lru_cache(maxsize=64)
def _t_quantile(share: float, degrees: int) -> float:
    from scipy.special import stdtrit

    return float(stdtrit(degrees, share))
