"""Divide units into parts that have nearly the same share of each class, by scikit-learn.

A unit is what a split does not divide: a patient with all images, or one image. scikit-learn's
StratifiedGroupKFold knows one class for each row, so an image is a row for each of its classes:
then it balances images of several classes, too.
"""

from __future__ import annotations

import warnings
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from fractions import Fraction
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

MOST_PARTS = 20  # of which a single split takes some: 0.15 is 3 of 20
MOST_ROWS = 50  # of an image in a rare class
# Units times classes that scikit-learn is asked for: it needs a table of them, and 30 bytes a cell.
LARGEST = 20_000_000
DIGITS = 9  # of a deviation that count, whatever the processor does with the last bits
Contents = Mapping[str, Sequence[int]]  # the classes of each unit's images, one or more an image


def divide_evenly(units: Contents, parts: int, rng: np.random.Generator) -> dict[str, int]:
    """The part of each unit; there must be at least as many units as parts.

    Units with the same content are dealt in whole rounds. What is left of them, and all units
    that are like no other, are placed by scikit-learn.
    """
    alike: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for unit in sorted(units):
        alike[tuple(sorted(units[unit]))].append(unit)
    part_of: dict[str, int] = {}
    left: list[str] = []
    for content in sorted(alike):
        names = alike[content]
        shuffled = [names[index] for index in rng.permutation(len(names))]
        # one round stays: scikit-learn needs as many units as parts
        dealt = max(0, len(names) // parts - 1) * parts
        part_of |= {unit: number % parts for number, unit in enumerate(shuffled[:dealt])}
        left += shuffled[dealt:]
    rest = {unit: units[unit] for unit in left}
    seed = int(rng.integers(2**31))
    large = len(rest) * len(_count(rest.values())) > LARGEST
    placed = (
        _place_rarest_first(rest, parts, seed=seed) if large else _place(rest, parts, seed=seed)
    )
    return part_of | placed


def _place(units: Contents, parts: int, *, seed: int) -> dict[str, int]:
    """The part of each unit by scikit-learn, those with rare classes first.

    It begins with the units whose counts of the classes differ most, and counts in each class by
    its share of all. So more rows for a rare class change the order, and nothing else: what comes
    last evens out the common classes.
    """
    import numpy as np
    from sklearn.model_selection import StratifiedGroupKFold

    names = list(units)
    totals = _count(units.values())
    most = max(totals.values())
    least = 1 if most >= parts else parts  # a class must have as many rows as there are parts
    times = {number: least * min(MOST_ROWS, most // total) for number, total in totals.items()}
    groups: list[int] = []
    classes: list[int] = []
    for index, content in enumerate(units.values()):
        for number in content:
            groups += [index] * times[number]
            classes += [number] * times[number]
    folds = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
    part_of: dict[str, int] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of classes with fewer images than parts
        chosen = folds.split(classes, np.array(classes), groups)
        for part, (_, rows) in enumerate(chosen):
            part_of |= {names[groups[row]]: part for row in rows}
    return part_of


def _place_rarest_first(units: Contents, parts: int, *, seed: int) -> dict[str, int]:
    """The part of each unit by iterative stratification (Sechidis et al. 2011), in little memory.

    The units of the rarest class are placed first, each where most of that class is missing, then
    where most is missing of all.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    totals = _count(units.values())
    missing = {number: [total / parts] * parts for number, total in totals.items()}
    room = [sum(totals.values()) / parts] * parts
    listed = list(units)
    names = [listed[index] for index in rng.permutation(len(units))]
    rarest = {name: min(units[name], key=lambda number: (totals[number], number)) for name in names}
    order = [int(part) for part in rng.permutation(parts)]  # of parts that are as good
    part_of: dict[str, int] = {}
    for name in sorted(names, key=lambda name: totals[rarest[name]]):
        wanted = missing[rarest[name]]
        part = max(order, key=lambda part: (wanted[part], room[part]))
        part_of[name] = part
        room[part] -= len(units[name])
        for number in units[name]:
            missing[number][part] -= 1
    return part_of


def hold_out_evenly(units: Contents, ratio: float, rng: np.random.Generator) -> set[str]:
    """About this share of the units: of some draws, the one most like the rest; none of one unit.

    A class keeps an image in the rest wherever that is possible.
    """
    if len(units) < 2:
        return set()
    share = _choose_share(ratio, len(units))
    part_of = divide_evenly(units, share.denominator, rng)
    order = [int(part) for part in rng.permutation(share.denominator)]
    totals = _count(units.values())
    best: tuple[tuple[int, float], set[str]] | None = None
    for first in range(len(order)):
        turned = order[first:] + order[:first]
        parts = set(turned[: share.numerator])
        chosen = {unit for unit, part in part_of.items() if part in parts}
        counts = _count(units[unit] for unit in chosen)
        value = _rate(counts, totals, ratio)
        if best is None or value < best[0]:
            best = value, chosen
    assert best is not None  # noqa: S101  (there are two parts or more)
    return _keep_a_unit_of_each(units, best[1])


def _keep_a_unit_of_each(units: Contents, chosen: set[str]) -> set[str]:
    """The held-out units, without the smallest one of a class that would have none in the rest."""
    counts = _count(units[unit] for unit in units if unit not in chosen)
    kept = set(chosen)
    for unit in sorted(chosen, key=lambda unit: (len(units[unit]), unit)):
        if not all(counts[number] for number in units[unit]) and len(kept) > 1:
            kept.discard(unit)
            counts.update(units[unit])
    return kept


def _rate(counts: Counter[int], totals: Counter[int], ratio: float) -> tuple[int, float]:
    """How bad a draw is: the classes without an image in the rest, and the mean deviation."""
    gone = sum(1 for number, total in totals.items() if counts[number] == total)
    deviations = [abs(counts[number] / total - ratio) for number, total in totals.items()]
    return gone, round(sum(deviations) / len(deviations), DIGITS)


def _choose_share(ratio: float, units: int) -> Fraction:
    """The ratio as some of few parts: at least one of them, and not all."""
    most = min(max(MOST_PARTS, round(1 / ratio)), units)
    share = Fraction(ratio).limit_denominator(most)
    return min(max(share, Fraction(1, most)), Fraction(most - 1, most))


def _count(contents: Iterable[Sequence[int]]) -> Counter[int]:
    counts: Counter[int] = Counter()
    for content in contents:
        counts.update(content)
    return counts
