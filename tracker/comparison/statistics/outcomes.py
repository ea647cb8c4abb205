"""The paired bootstrap of any metric: two runs on the same images, with weights for the images.

Instead of drawing images, each resample gives every image a random weight of mean 1 (the Bayesian
bootstrap, Rubin 1981). No image has weight 0, so no metric loses a class on the way.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tracker.comparison.statistics.groups import number_groups
from tracker.comparison.statistics.paired import ROUNDING, Difference, summarize
from tracker.comparison.statistics.weighted import Weighted, build_weighted, find_swing
from tracker.training.errors import ConfigError, DataError
from tracker.training.metrics import find_kind
from tracker.training.scorers import Outcome, compute

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tracker.training.formats.samples import TaskMetric

    Floats = NDArray[np.float64]
    Integers = NDArray[np.int64]

RESAMPLES = 2_000  # the standard error is then exact to 2 %
FEWEST = 200  # of a costly metric; the standard error is then exact to 5 %
WORK = 100_000_000  # numbers that all resamples of a metric may cost: some seconds
BATCH_WORK = 400_000  # numbers at a time: they fit the cache
MANY = 100  # units of a stratum whose exponential weights have the right variance to 1 %


def compare_outcomes(
    a: Outcome,
    b: Outcome,
    metric: TaskMetric,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Difference | None:
    """The difference of two runs by a metric, on the same images with the same truth.

    `groups` names the group of each image: images of one group have one weight. Fewer resamples are
    taken where they would cost too much, or where only the metric's scorer can compute it. None
    where the metric is not defined for these images, or for most draws of them.
    """
    import numpy as np

    strata, owners = _find_strata(a, groups)
    if owners is None:  # images of a stratum stand together
        order = np.concatenate(strata)
        a, b = _select(a, order), _select(b, order)
    units = _Units(tuple(len(stratum) for stratum in strata), owners)
    test = _build_test(a, b, metric)
    if test is None:
        return None
    resamples = min(resamples, test.most)
    rng = np.random.default_rng(seed)
    sides = test.measure_sides(units)
    if not np.isfinite(sides).all():
        return None
    drawn, swapped = test.resample(units, rng, resamples), test.swap(units, rng, resamples)
    drawn, swapped = drawn[np.isfinite(drawn)], swapped[np.isfinite(swapped)]
    if 2 * min(len(drawn), len(swapped)) < resamples:
        return None  # a judge's function that fails on drawn images, as on fewer classes
    # what differs in the last bits does not differ
    rounding = ROUNDING * float(np.abs(sides).max())
    drawn[np.abs(drawn) <= rounding] = 0
    known = find_kind(metric.kind)
    return replace(
        summarize(
            sides,
            drawn,
            swapped,
            higher_is_better=metric.higher_is_better,
            rounding=rounding,
            groups=None if owners is None else units.number,
            span=known.span if known else math.inf,
        ),
        title=known.title if known else metric.name,
        resamples=len(swapped),
    )


# --- Units: images, or groups with all their images


@dataclass(frozen=True)
class _Units:
    """Units in strata of these sizes, one after the other; `owners` [images] if they are groups."""

    sizes: tuple[int, ...]
    owners: Integers | None

    @property
    def number(self) -> int:
        return sum(self.sizes)

    def spread(self, weights: Floats) -> Floats:
        """Weights [weightings, images] of weights [weightings, units]."""
        return weights if self.owners is None else weights.take(self.owners, axis=1)

    def add_up(self, values: Floats) -> Floats:
        """Sums [units] of values [images]."""
        import numpy as np

        if self.owners is None:
            return values
        sums: Floats = np.bincount(self.owners, values, self.number).astype(np.float64)
        return sums

    def draw_weights(self, rng: np.random.Generator, size: int) -> Floats:
        """Weights [size, units] whose mean in each stratum is 1.

        Gamma variates of shape (m - 2)/m make the variance unbiased in a stratum of m units. One
        unit stays as it is; of two, one is drawn.
        """
        import numpy as np

        weights = np.empty((size, self.number))
        start = 0
        for number in self.sizes:
            part = weights[:, start : start + number]
            start += number
            if number == 1:
                part[:] = 1
            elif number == 2:
                part[:, 0] = 2.0 * rng.integers(0, 2, size)
                part[:, 1] = 2 - part[:, 0]
            else:
                if number > MANY:
                    part[:] = rng.standard_exponential(part.shape)
                else:
                    part[:] = rng.standard_gamma((number - 2) / number, part.shape)
                part *= number / part.sum(axis=1, keepdims=True)
        return weights

    def draw_images(self, rng: np.random.Generator) -> Integers:
        """Images of units that are drawn with replacement within each stratum."""
        import numpy as np

        counts = []
        for number in self.sizes:
            counts.append(np.bincount(rng.integers(0, number, number), minlength=number))
        count = np.concatenate(counts)
        if self.owners is not None:
            count = count[self.owners]
        return np.repeat(np.arange(len(count)), count)

    def draw_flips(self, rng: np.random.Generator, size: int) -> Floats:
        """0 or 1 [size, units], each with probability one half."""
        import numpy as np

        width = -(-self.number // 8)
        bits = np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width)
        return np.unpackbits(bits, axis=1)[:, : self.number].astype(np.float64)


def _find_strata(
    outcome: Outcome, groups: Sequence[str] | None
) -> tuple[list[Integers], Integers | None]:
    """(images or groups of each stratum, the group of each image as a number in that order).

    A stratum is a class, or a set of classes that several groups have. Numbers, and images with
    several labels, are one stratum.
    """
    import numpy as np

    is_class = outcome.truth.ndim == 1 and outcome.truth.dtype.kind in "iu"
    truth = outcome.truth if is_class else np.zeros(len(outcome.truth), dtype=np.int64)
    owners = number_groups(groups)
    if owners is None:
        return [np.flatnonzero(truth == label) for label in np.unique(truth)], None
    if not is_class:
        return [np.arange(owners.max() + 1)], owners
    order = np.lexsort((truth, owners))
    bounds = np.flatnonzero(np.diff(owners[order])) + 1
    members: dict[bytes, list[int]] = {}
    for number, labels in enumerate(np.split(truth[order], bounds)):
        members.setdefault(labels.tobytes(), []).append(number)
    # Groups unlike all others are one stratum: alone, they would never vary.
    rare = [alike[0] for alike in members.values() if len(alike) == 1]
    strata = [np.array(alike) for alike in members.values() if len(alike) > 1]
    if len(rare) == 1 and strata:
        rare += strata.pop(min(range(len(strata)), key=lambda index: len(strata[index]))).tolist()
    if rare:
        strata.append(np.array(rare))
    place = np.empty(owners.max() + 1, dtype=np.int64)
    place[np.concatenate(strata)] = np.arange(len(place))
    return strata, place[owners]


def _select(outcome: Outcome, order: Integers) -> Outcome:
    """The images at these places."""
    parts: dict[str, Any] = {}
    for name in ("truth", "decided", "scores", "ranked", "ids"):
        part = getattr(outcome, name)
        parts[name] = None if part is None else part[order]
    return outcome._replace(**parts)


# --- A metric of two sides


def _build_test(a: Outcome, b: Outcome, metric: TaskMetric) -> _WeightedTest | _ScorerTest | None:
    known = find_kind(metric.kind)
    if metric.function is not None:
        return _ScorerTest(a, b, _ignore_failures(metric.function))
    if known is None or known.from_outcome is None:
        return None
    scorer, parameters = known.from_outcome, metric.parameters
    forms = [build_weighted(scorer, side, parameters) for side in (a, b)]
    if forms[0] is not None and forms[1] is not None:
        both = build_weighted(scorer, _join(a, b), parameters)
        return _WeightedTest(forms[0], forms[1], both)

    def measure(outcome: Outcome) -> float:
        return compute(scorer, outcome, parameters)

    return _ScorerTest(a, b, _ignore_failures(measure))


def _ignore_failures(measure: Callable[[Outcome], float]) -> Callable[[Outcome], float]:
    """The same metric; NaN where it is not defined or a judge's function fails."""

    def compute_or_nan(outcome: Outcome) -> float:
        try:
            return measure(outcome)
        except (ConfigError, DataError):
            return float("nan")

    return compute_or_nan


def _join(a: Outcome, b: Outcome) -> Outcome:
    """The images with the predictions of a, then the same images with those of b."""
    import numpy as np

    parts: dict[str, Any] = {}
    for name in ("truth", "decided", "scores", "ranked", "ids"):
        pair = [getattr(a, name), getattr(b, name)]
        parts[name] = None if pair[0] is None or pair[1] is None else np.concatenate(pair)
    return a._replace(**parts)


@dataclass(frozen=True)
class _WeightedTest:
    """A metric with a weighted form; `both` has the images of a, then those of b."""

    a: Weighted
    b: Weighted
    both: Weighted | None

    @property
    def most(self) -> int:
        """How many resamples are not too costly."""
        return max(FEWEST, WORK // max(1, self.a.size))

    def measure_sides(self, units: _Units) -> Floats:
        import numpy as np

        weights = units.spread(np.ones((1, units.number)))
        return np.concatenate([self.a.score(weights), self.b.score(weights)])

    def resample(self, units: _Units, rng: np.random.Generator, resamples: int) -> Floats:
        """Differences b - a [resamples] under random weights."""

        def measure(size: int) -> Floats:
            weights = units.spread(units.draw_weights(rng, size))
            difference: Floats = self.b.score(weights) - self.a.score(weights)
            return difference

        return _collect(measure, resamples, max(self.a.size, units.number))

    def swap(self, units: _Units, rng: np.random.Generator, resamples: int) -> Floats:
        """Differences [resamples] after each unit's predictions are swapped by a coin."""
        import numpy as np

        swing = find_swing(self.a, self.b)

        def add_swings(size: int) -> Floats:
            assert swing is not None  # noqa: S101
            by_unit = units.add_up(swing)
            difference: Floats = 2 * (units.draw_flips(rng, size) @ by_unit) - by_unit.sum()
            return difference

        def measure(size: int) -> Floats:
            assert self.both is not None  # noqa: S101  (it has a form where each side has one)
            flips = units.spread(units.draw_flips(rng, size))
            there, back = np.hstack([1 - flips, flips]), np.hstack([flips, 1 - flips])
            difference: Floats = self.both.score(back) - self.both.score(there)
            return difference

        if swing is not None:
            return _collect(add_swings, resamples, units.number)
        return _collect(measure, resamples, 2 * self.a.size)


@dataclass(frozen=True)
class _ScorerTest:
    """A metric that only its scorer computes: images are drawn, and few resamples are taken."""

    a: Outcome
    b: Outcome
    measure: Callable[[Outcome], float]
    most: int = FEWEST

    def measure_sides(self, units: _Units) -> Floats:
        import numpy as np

        return np.array([self.measure(self.a), self.measure(self.b)])

    def resample(self, units: _Units, rng: np.random.Generator, resamples: int) -> Floats:
        """Differences b - a [resamples] on drawn images; NaN where the metric is undefined."""
        import numpy as np

        found = []
        for _ in range(resamples):
            images = units.draw_images(rng)
            first, second = (_name_copies(_select(side, images)) for side in (self.a, self.b))
            found.append(self.measure(second) - self.measure(first))
        return np.array(found)

    def swap(self, units: _Units, rng: np.random.Generator, resamples: int) -> Floats:
        """Differences [resamples] after each unit's predictions are swapped by a coin."""
        import numpy as np

        joined, found = _join(self.a, self.b), []
        images = np.arange(len(self.a.truth))
        for _ in range(resamples):
            flips = units.spread(units.draw_flips(rng, 1))[0].astype(np.int64)
            first = _select(joined, images + flips * len(images))
            second = _select(joined, images + (1 - flips) * len(images))
            found.append(self.measure(second) - self.measure(first))
        return np.array(found)


def _name_copies(outcome: Outcome) -> Outcome:
    """The outcome with an id of its own for each copy of an image: `i3.png`, `i3.png (2)`.

    A judge's function may join the true and the predicted table by id.
    """
    import numpy as np

    if outcome.ids is None:
        return outcome
    seen: Counter[str] = Counter()
    names = []
    for name in map(str, outcome.ids):
        seen[name] += 1
        names.append(name if seen[name] == 1 else f"{name} ({seen[name]})")
    return outcome._replace(ids=np.array(names, dtype=object))


def _collect(measure: Callable[[int], Floats], resamples: int, size: int) -> Floats:
    """The differences of all batches; `size` numbers are needed for one resample."""
    import numpy as np

    return np.concatenate([measure(part) for part in _batch_sizes(resamples, size)])


def _batch_sizes(resamples: int, size: int) -> Iterator[int]:
    batch = max(1, BATCH_WORK // max(1, size))
    for start in range(0, resamples, batch):
        yield min(batch, resamples - start)
