"""When a difference is called real: the one rule of every command, and its limits.

Sentences about a comparison need these alone, and not what computes it.
"""

from __future__ import annotations

import math
from typing import Literal

Answer = Literal["equal", "real", "too close to call", "not shown"]

RESAMPLES = 10_000
COVERAGE = 0.95
# At 0.05, every second batch of 400 equal pairs would have more than 20 called different.
ALPHA = 0.03
POWER = 0.8  # the usual power of a test: found four times of five
# Standard errors: NormalDist().inv_cdf of (1 + COVERAGE) / 2, and that of 1 - ALPHA / 2 plus that
# of POWER. The module `statistics`, which computes them, takes 2 ms to import.
HALF_WIDTH = 1.9599639845400536
SMALLEST_FOUND = 3.0117116111574744


def decide_answer(delta: float, half_width: float, p: float, draws: int) -> Answer:
    """Whether a difference is real: the one rule of every command.

    The interval is `delta` plus and minus `half_width`, `p` is of the swap test, and both come from
    so many random `draws`. Real is what both call a difference, and not shown what neither does.
    Too close to call is what only one of them calls a difference, or what other draws could decide
    otherwise.
    """
    if not half_width:
        return "equal"
    tests = {excludes_zero(delta, half_width, draws), is_below_limit(p, draws)}
    if tests == {True}:
        return "real"
    return "not shown" if tests == {False} else "too close to call"


def excludes_zero(delta: float, half_width: float, draws: int) -> bool | None:
    """Whether the interval leaves out 0; None where other draws could say otherwise.

    Its end has 1.96 standard errors of its own: of a standard deviation of so many normal draws.
    """
    distance = abs(delta) - half_width
    if abs(distance) <= HALF_WIDTH * half_width / math.sqrt(2 * draws):
        return None
    return distance > 0


def is_below_limit(p: float, draws: int) -> bool | None:
    """Whether p is not above ALPHA; None where other draws could say otherwise.

    It has 1.96 standard errors of its own: of a share of so many draws.
    """
    error = HALF_WIDTH * math.sqrt(p * (1 - p) / draws)
    if p - error <= ALPHA < p + error:
        return None
    return p < ALPHA
