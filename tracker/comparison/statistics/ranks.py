"""Rank correlation of a few hundred pairs, without importing scipy for it."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt


def spearman(x: Sequence[float], y: Sequence[float]) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank; None when a side is
    constant."""
    a, b = _rank(x), _rank(y)
    middle = (len(a) + 1) / 2
    spread = sqrt(sum((r - middle) ** 2 for r in a) * sum((r - middle) ** 2 for r in b))
    if not spread:
        return None
    return sum((r - middle) * (s - middle) for r, s in zip(a, b, strict=True)) / spread


def _rank(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks = [0.0] * len(values)
    start = 0
    while start < len(order):
        end = start
        while end < len(order) and values[order[end]] == values[order[start]]:
            end += 1
        for place in order[start:end]:
            ranks[place] = (start + end + 1) / 2
        start = end
    return ranks
