"""Numbers as people read them: halves are rounded up, as they do it (0.78125 is 0.7813)."""

from __future__ import annotations

import math
from decimal import ROUND_HALF_UP, Context, Decimal

MOST_DIGITS = 18  # of a whole number: a database has 64 bits, and Python refuses thousands
_AS_PEOPLE_DO = Context(prec=400, rounding=ROUND_HALF_UP)  # digits enough for every float


def render_float(value: float, *, signed: bool = False) -> str:
    """Four significant digits; at least four decimals up to 1; 1.234e+06 from a million on."""
    sign = "+" if signed else ""
    size = abs(value)
    if not math.isfinite(size):
        return f"{value:{sign}}"
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{_round_digits(value, 4):{sign}.3e}"
    decimals = max(0, 3 - math.floor(math.log10(size))) if size else 4
    if size <= 1:
        decimals = max(decimals, 4)
    return render_decimals(value, decimals, signed=signed)


def render_decimals(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number with so many decimals, as `.4f` but halves rounded up: 0.78125 is 0.7813.

    What rounds to zero has a minus only where it is `signed`, as a difference is.
    """
    sign = "+" if signed else ""
    if not math.isfinite(value):
        return f"{value:{sign}}"
    rounded = _round(value, -decimals)
    if not value or (not signed and not rounded):
        rounded = abs(rounded)  # not -0.0000
    return f"{rounded:{sign}.{decimals}f}"


def render_digits(value: float, digits: int) -> str:
    """A number in so many significant digits, as `.4g` but halves rounded up."""
    return f"{_round_digits(value, digits):.{digits}g}"


def _round_digits(value: float, digits: int) -> float:
    if not math.isfinite(value) or not value:
        return value
    return float(_round(value, Decimal(repr(float(value))).adjusted() + 1 - digits))


def _round(value: float, place: int) -> Decimal:
    """A number rounded at a decimal place (-4: four decimals), by its shortest digits."""
    # Those of repr are the digits that people see and type; 0.78125 is that and not 0.7812499.
    shortest = Decimal(repr(float(value)))
    return shortest.quantize(Decimal(1).scaleb(place), context=_AS_PEOPLE_DO)


def read_number(text: str) -> float:
    """A finite number of a cell; nan for anything else."""
    try:
        value = float(text) if text.isascii() else math.nan
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan


def is_whole(text: str) -> bool:
    """Whether a text is a whole number that rows, classes or runs can have: of digits alone, and
    not more of them than a database takes."""
    return text.isdecimal() and len(text) <= MOST_DIGITS


def render_count(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: `1 run`, `2 runs`; `plural` where it is not noun + s."""
    several = plural or f"{noun}s"
    return f"{count:,} {noun if count == 1 else several}"


def render_share(share: float, *, decimals: int = 1) -> str:
    """A share as people read it: `93.1 %`; 100 and 0 only where it is all or nothing."""
    least = 10.0**-decimals
    percent = 100 * share
    if percent < 100 and _round(percent, -decimals) >= 100:
        return f"over {100 - least:.{decimals}f} %"
    if percent > 0 and _round(percent, -decimals) <= 0:
        return f"under {least:.{decimals}f} %"
    return f"{render_decimals(percent, decimals)} %"
