"""Paired statistics of two runs on the same validation images: is the difference sampling noise?

Images are resampled as cells (label, prediction of a, prediction of b): a draw of images with
replacement within each true class is a multinomial draw of cell counts, and scores follow from
counts by one matrix product. The distribution is that of resampling image by image, in a fraction
of the time.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from tracker.comparison.statistics.decision import (
    COVERAGE,
    HALF_WIDTH,
    RESAMPLES,
    SMALLEST_FOUND,
    Answer,
    decide_answer,
)
from tracker.comparison.statistics.groups import FEW, number_groups
from tracker.training.metrics import Counts, list_resampled

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Integers = NDArray[np.int64]
    Floats = NDArray[np.float64]

ROUNDING = 1e-9  # equal differences may differ in the last bits
BATCH = 500  # resamples at a time: some MB
KEPT_MB = 8  # of freed memory that stays with the process


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A score of both runs; `delta` is b - a, `low` to `high` its 95 % interval.

    No end is farther from 0 than two scores of the metric can be from each other.
    `p` is of the swap test: how often a difference is as large if the two predictions of every
    image are swapped at random. `smallest` is the true difference that would be found four times of
    five, if the runs differed on as many images as they do; None if the predictions are equal.
    `better` is "a" or "b" if the `answer` is "real": `decide_answer`. `title` is the metric in
    sentences.
    """

    a: float
    b: float
    delta: float
    low: float
    high: float
    p: float
    smallest: float | None
    better: str | None
    answer: Answer
    title: str = ""
    higher_is_better: bool = True
    resamples: int = RESAMPLES

    def mirror(self) -> Difference:
        """The same of the runs in the other order."""
        better = None if self.better is None else ("b" if self.better == "a" else "a")
        # 0 - x: never -0
        delta, low, high = 0 - self.delta, 0 - self.high, 0 - self.low
        return replace(self, a=self.b, b=self.a, delta=delta, low=low, high=high, better=better)


@dataclass(frozen=True, kw_only=True)
class McNemar:
    """Numbers of images that only one of the runs predicts correctly, and the exact two-sided p."""

    only_a: int
    only_b: int
    p: float


@dataclass(frozen=True, kw_only=True)
class FoldTest:
    """Scores of both runs on each fold, and the test of their mean difference b - a.

    `low` to `high` is its 95 % interval, `p` is two-sided.
    """

    a: Sequence[float]
    b: Sequence[float]
    delta: float
    low: float
    high: float
    t: float
    p: float


@dataclass(frozen=True, kw_only=True)
class PairedComparison:
    """What `samples` validation images say about two runs.

    `units` were resampled: images, or whole groups of them, and then `unit` names a group: person,
    patient. `mcnemar` is None where images have no single class. `undefined` are metrics that these
    images do not define. `groups_problem` says why images were resampled although a run has groups.
    """

    samples: int
    units: int
    resamples: int
    seed: int
    metrics: Mapping[str, Difference]
    mcnemar: McNemar | None
    undefined: Sequence[str] = ()
    unit: str = ""
    groups_problem: str = ""

    @property
    def is_rough(self) -> bool:
        """Whether the groups are so few that the interval is rough."""
        return bool(self.unit) and self.units < FEW

    def mirror(self) -> PairedComparison:
        """The same of the runs in the other order."""
        test = self.mcnemar
        return replace(
            self,
            metrics={name: item.mirror() for name, item in self.metrics.items()},
            mcnemar=test and McNemar(only_a=test.only_b, only_b=test.only_a, p=test.p),
        )

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json: each metric under its own name."""
        values = asdict(self)
        metrics, mcnemar = values.pop("metrics"), values.pop("mcnemar")
        return {**values, **metrics, "mcnemar": mcnemar}


def compare_predictions(
    labels: Integers,
    a: Integers,
    b: Integers,
    classes: int,
    *,
    groups: Sequence[str] | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> PairedComparison:
    """Compare the predictions [images] of two runs with the labels [images], all class numbers.

    `groups` names the group of each image, such as the person on it: images of one group are not
    independent, and are drawn together.
    """
    import numpy as np

    _keep_freed_memory()
    owners = number_groups(groups)
    cells = _count_cells(labels, a, b, classes, owners)
    rng = np.random.default_rng(seed)
    drawn = np.concatenate(
        [cells.differences(part) for part in cells.resample(rng, resamples)], axis=1
    )
    swapped = np.concatenate(
        [cells.differences(part) for part in cells.swap(rng, resamples)], axis=1
    )
    scores = cells.scores(cells.counts[None] @ cells.features)[:, :, 0]
    units = int(cells.counts.sum())
    number = None if owners is None else units
    differences = {}
    for metric, *values in zip(list_resampled(), scores, drawn, swapped, strict=True):
        difference = summarize(
            *values,
            higher_is_better=metric.higher_is_better,
            groups=number,
            span=metric.span,
        )
        differences[metric.name] = replace(difference, title=metric.title)
    right_a, right_b = a == labels, b == labels
    return PairedComparison(
        samples=len(labels),
        units=units,
        resamples=resamples,
        seed=seed,
        metrics=differences,
        mcnemar=exact_mcnemar(int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())),
    )


def exact_mcnemar(only_a: int, only_b: int) -> McNemar:
    """McNemar's test by the binomial distribution, exact for any number of images.

    McNemar (1947), Psychometrika 12.
    """
    number, ways = only_a + only_b, 1
    tail = 1
    # Whole numbers: importing scipy.special would take ten times as long.
    for chosen in range(min(only_a, only_b)):
        ways = ways * (number - chosen) // (chosen + 1)
        tail += ways
    return McNemar(only_a=only_a, only_b=only_b, p=min(1.0, 2 * tail / 2**number))


def corrected_fold_test(
    a: Sequence[float], b: Sequence[float], *, span: float = math.inf
) -> FoldTest:
    """Corrected resampled t-test of the scores of two runs on the same k folds, k >= 2.

    The training sets of the folds overlap, so the variance of the mean is (1/k + n_val/n_train)
    times that of the differences, n_val/n_train being 1/(k - 1) (Nadeau and Bengio 2003, Inference
    for the generalization error, Machine Learning 52; for cross-validation Bouckaert and Frank
    2004). `span` is how far two scores can be from each other: the interval ends there.
    """
    from scipy.special import stdtr, stdtrit

    count = len(a)
    deltas = [second - first for first, second in zip(a, b, strict=True)]
    mean = math.fsum(deltas) / count
    variance = math.fsum((delta - mean) ** 2 for delta in deltas) / (count - 1)
    error = math.sqrt((1 / count + 1 / (count - 1)) * variance)
    # Without variance, any difference is infinitely many standard errors.
    t = math.copysign(math.inf, mean) if mean else 0.0
    if error:
        t = mean / error
    half_width = float(stdtrit(count - 1, (1 + COVERAGE) / 2)) * error
    p = 2 * float(stdtr(count - 1, -abs(t)))
    low, high = _limit(mean, half_width, span)
    return FoldTest(a=tuple(a), b=tuple(b), delta=mean, low=low, high=high, t=t, p=p)


class _Cells(NamedTuple):
    """Kinds of units and the count of each; the most frequent kind of a stratum comes first.

    `features` [kinds, 6 classes] is what one unit adds to the images, hits and predictions of each
    class, for a, then for b.
    """

    counts: NDArray[np.float32]
    features: NDArray[np.float32]
    strata: Sequence[slice]

    def scores(self, sums: NDArray[np.float32]) -> Floats:
        """[metric, side, resample] of sums [resamples, 6 classes]."""
        import numpy as np

        sides = sums.reshape(len(sums), 2, 3, -1).astype(np.float64)
        counts = Counts(actual=sides[:, :, 0], hits=sides[:, :, 1], predicted=sides[:, :, 2])
        return np.stack([metric.score(counts).T for metric in list_resampled()])

    def differences(self, sums: NDArray[np.float32]) -> Floats:
        """[metric, resample] of b - a."""
        import numpy as np

        side_a, side_b = np.split(self.features, 2, axis=1)
        if np.array_equal(side_a, side_b):
            # some processors add up equal columns to sums that differ in the last bit
            return np.zeros((len(list_resampled()), len(sums)))
        scores = self.scores(sums)
        return scores[:, 1] - scores[:, 0]

    def resample(self, rng: np.random.Generator, resamples: int) -> Iterator[NDArray[np.float32]]:
        """Sums of units drawn with replacement within each stratum.

        Of m units m - 1 are drawn and count m/(m - 1) each: the variance is then unbiased in small
        classes, too (Rao and Wu 1988, Resampling inference with complex survey data). The only unit
        of a class stays.
        """
        import numpy as np

        strata = [_describe_stratum(kinds, self.counts[kinds]) for kinds in self.strata]
        for size in _batch_sizes(resamples):
            draws = np.empty((size, len(self.counts)), dtype=np.float32)
            for stratum in strata:
                number = stratum.number
                if number == 1:
                    draws[:, stratum.kinds] = 1
                else:
                    draws[:, stratum.kinds] = _draw_kinds(rng, stratum, size) * np.float32(
                        number / (number - 1)
                    )
            yield draws @ self.features

    def swap(self, rng: np.random.Generator, resamples: int) -> Iterator[NDArray[np.float32]]:
        """Sums after the two predictions of each unit are swapped with probability one half."""
        import numpy as np

        change = np.roll(self.features, self.features.shape[1] // 2, axis=1) - self.features
        moving = np.flatnonzero(np.any(change != 0, axis=1))
        sums = self.counts[None] @ self.features
        counts = self.counts[moving].astype(np.int64)
        for size in _batch_sizes(resamples):
            yield sums + _flip_coins(rng, counts, size) @ change[moving]


class _Stratum(NamedTuple):
    """The units that are drawn together: `number` of them, with the `counts` of their kinds.

    `others` has the kind of each unit that is not of the first one, the most frequent.
    """

    kinds: slice
    number: int
    counts: Integers
    others: Integers


def _describe_stratum(kinds: slice, counts: NDArray[np.float32]) -> _Stratum:
    import numpy as np

    whole = counts.astype(np.int64)
    others = np.repeat(np.arange(1, len(whole)), whole[1:])
    return _Stratum(kinds, int(whole.sum()), whole, others)


def _draw_kinds(rng: np.random.Generator, stratum: _Stratum, size: int) -> NDArray[Any]:
    """Counts [size, kinds] of a draw with replacement of one unit fewer than there are.

    It is a multinomial draw. The most frequent kind is drawn as a number, and the rest unit by unit
    if they are few: numpy's multinomial takes ten times as long for a kind as a unit takes here.
    """
    import numpy as np

    _, number, counts, others = stratum
    kinds, rest = len(counts), len(others)
    if rest > 10 * kinds:
        return rng.multinomial(number - 1, counts / number, size)
    drawn_others = rng.binomial(number - 1, rest / number, size)
    rows = np.arange(0, size * kinds, kinds).repeat(drawn_others)
    if rest:
        rows += others[
            rng.integers(0, rest, len(rows), dtype=np.uint16 if rest < 2**16 else np.int64)
        ]
    drawn = np.bincount(rows, minlength=size * kinds).reshape(size, kinds)
    drawn[:, 0] = number - 1 - drawn_others
    return drawn


def _flip_coins(rng: np.random.Generator, counts: Integers, size: int) -> NDArray[np.float32]:
    """How many units of each kind [size, kinds] fall on one side: one random bit for each unit."""
    import numpy as np

    total = int(counts.sum())
    if not total:
        return np.zeros((size, 0), dtype=np.float32)
    width = -(-total // 8)
    bits = np.frombuffer(rng.bytes(size * width), dtype=np.uint8).reshape(size, width)
    starts = np.cumsum(counts) - counts
    tossed: NDArray[np.float32] = np.add.reduceat(
        np.unpackbits(bits, axis=1)[:, :total], starts, axis=1, dtype=np.float32
    )
    return tossed


def _keep_freed_memory() -> None:
    """Let glibc keep what one batch frees for the next, instead of giving it back to the system.

    It keeps twice the largest piece that it has freed. Without, each batch finds its arrays as new
    pages, which takes as long as scoring it does.
    """
    import numpy as np

    np.empty(KEPT_MB << 20, dtype=np.uint8)  # freed at once, and never touched


def _batch_sizes(resamples: int) -> Iterator[int]:
    for start in range(0, resamples, BATCH):
        yield min(BATCH, resamples - start)


def _count_cells(
    labels: Integers, a: Integers, b: Integers, classes: int, owners: Integers | None
) -> _Cells:
    """Group units with the same labels and predictions on all their images into kinds."""
    import numpy as np

    strata: dict[bytes, list[tuple[int, Integers]]] = {}
    for number, images in _list_kinds((labels * classes + a) * classes + b, owners):
        strata.setdefault((images // classes**2).tobytes(), []).append((number, images))
    ordered: list[tuple[int, Integers]] = []
    slices = []
    for members in _join_rare(strata.values()) if owners is not None else strata.values():
        members.sort(key=lambda kind: -kind[0])
        slices.append(slice(len(ordered), len(ordered) + len(members)))
        ordered += members
    rows = np.repeat(np.arange(len(ordered)), [len(images) for _, images in ordered])
    images = np.concatenate([images for _, images in ordered])
    label = images // classes**2

    def add_up(column: Integers, weights: Any = None) -> NDArray[Any]:
        sums = np.bincount(rows * classes + column, weights, len(ordered) * classes)
        return sums.reshape(len(ordered), classes)

    # Images, hits and predictions of each class, of a, then of b.
    parts = []
    for predicted in (images // classes % classes, images % classes):
        parts += [add_up(label), add_up(label, predicted == label), add_up(predicted)]
    counts = np.array([number for number, _ in ordered], dtype=np.float32)
    return _Cells(counts, np.concatenate(parts, axis=1).astype(np.float32), slices)


def _join_rare(strata: Iterable[list[tuple[int, Integers]]]) -> list[list[tuple[int, Integers]]]:
    """Put groups with a unique set of labels into one stratum.

    Alone in a stratum, they would be drawn every time.
    """
    common, rare = [], []
    for members in strata:
        if _count_units(members) > 1:
            common.append(members)
        else:
            rare += members
    if len(rare) == 1 and common:
        rare += common.pop(min(range(len(common)), key=lambda index: _count_units(common[index])))
    return [*common, rare] if rare else common


def _count_units(members: Iterable[tuple[int, Integers]]) -> int:
    return sum(number for number, _ in members)


def _list_kinds(codes: Integers, owners: Integers | None) -> list[tuple[int, Integers]]:
    """(how many units, sorted cell codes of the images of such a unit)."""
    import numpy as np

    if owners is None:
        kinds, numbers = np.unique(codes, return_counts=True)
        return [(int(number), kinds[index : index + 1]) for index, number in enumerate(numbers)]
    order = np.lexsort((codes, owners))
    bounds = np.flatnonzero(np.diff(owners[order])) + 1
    counted: dict[bytes, int] = {}
    for unit in np.split(codes[order], bounds):
        key = unit.tobytes()
        counted[key] = counted.get(key, 0) + 1
    return [(number, np.frombuffer(key, dtype=np.int64)) for key, number in counted.items()]


def summarize(
    sides: Floats,
    drawn: Floats,
    swapped: Floats,
    *,
    higher_is_better: bool,
    rounding: float = ROUNDING,
    groups: int | None = None,
    span: float = math.inf,
) -> Difference:
    """Interval and p value of one metric from its resampled differences.

    `span` is how far two scores can be from each other: the interval ends there.

    The interval is the difference plus and minus 1.96 bootstrap standard errors; where so many
    `groups` were resampled, Student's t with one degree of freedom fewer stands for 1.96.
    Its coverage is in DECISIONS.md,
    "diff's interval is the difference plus and minus 1.96 bootstrap standard errors".
    Where a run fails on all images of a class, or on its only one, no draw of them changes the
    difference: the spread of the swap test stands for the standard error then.
    """
    import numpy as np

    a, b = map(float, sides)
    error = float(drawn.std())
    if error <= rounding:
        error = float(swapped.std()) if abs(b - a) > rounding else 0.0
    half_width = _find_quantile(groups) * error
    low, high = _limit(b - a, half_width, span)
    p = float(1 + (np.abs(swapped) >= abs(b - a) - rounding).sum()) / (1 + len(swapped))
    answer = decide_answer(b - a, half_width, p, len(swapped))
    better = None
    if answer == "real":
        better = "b" if (b > a) == higher_is_better else "a"
    return Difference(
        a=a,
        b=b,
        delta=b - a,
        low=low,
        high=high,
        p=p,
        smallest=SMALLEST_FOUND * error or None,
        better=better,
        answer=answer,
        higher_is_better=higher_is_better,
        resamples=len(drawn),
    )


def _limit(delta: float, half_width: float, span: float) -> tuple[float, float]:
    """The interval around a difference of scores that are at most `span` from each other."""
    return max(-span, delta - half_width), min(span, delta + half_width)


def _find_quantile(groups: int | None) -> float:
    """How many standard errors the interval reaches to each side."""
    if groups is None:
        return HALF_WIDTH
    from scipy.special import stdtrit

    return float(stdtrit(max(1, groups - 1), (1 + COVERAGE) / 2))
