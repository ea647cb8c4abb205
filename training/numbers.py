"""Numbers as people read them."""

from __future__ import annotations

import math


def render_float(value: float, *, signed: bool = False) -> str:
    """Four significant digits; at least four decimals up to 1; 1.234e+06 from a million on."""
    sign = "+" if signed else ""
    size = abs(value)
    if not math.isfinite(size):
        return f"{value:{sign}}"
    if size >= 1e6 or 0 < size < 1e-4:
        return f"{value:{sign}.3e}"
    decimals = max(0, 3 - math.floor(math.log10(size))) if size else 4
    if size <= 1:
        decimals = max(decimals, 4)
    return f"{value:{sign}.{decimals}f}"


def render_count(count: int, noun: str, plural: str = "") -> str:
    """A count with its noun: `1 run`, `2 runs`; `plural` where it is not noun + s."""
    several = plural or f"{noun}s"
    return f"{count:,} {noun if count == 1 else several}"


def render_share(share: float, *, decimals: int = 1) -> str:
    """A share as people read it: `93.1 %`; 100 and 0 only where it is all or nothing."""
    least = 10.0**-decimals
    percent = 100 * share
    if percent < 100 and round(percent, decimals) >= 100:
        return f"over {100 - least:.{decimals}f} %"
    if percent > 0 and round(percent, decimals) <= 0:
        return f"under {least:.{decimals}f} %"
    return f"{percent:.{decimals}f} %"
