"""The order of a list by --sort: metrics best first, unknown values last, exp9 before exp12."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from tracker.run_folder.record import RUN_NAME
from tracker.training.errors import ConfigError, find_nearest
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Metric


def check_sort_name(name: str, known: Iterable[str], *, what: str = "run") -> None:
    """Raise ConfigError for a name that no run has, with the nearest known name."""
    names = list(dict.fromkeys(known))
    if name not in names:
        raise ConfigError(f"--sort: no {what} has {name!r}", hint=suggest_name(name, names))


def suggest_name(name: str, names: Sequence[str]) -> str:
    """The name that was meant; where none is near the first scores or figures, which people ask
    for, else the first names."""
    if near := find_nearest(name, names):
        return f"nearest: {near}"
    figures = [each for each in names if "/" in each or each.startswith(("public_", "val_"))]
    return f"a name that is there, as {' or '.join((figures or names)[:2])}" if names else ""


def sort_key(
    declared: Sequence[Metric], name: str, *, is_metric: bool
) -> Callable[[Any], tuple[int, float, str]]:
    """The sort key for values of `name`: a metric best first, others ascending, unknown last."""
    sign = -1.0 if is_metric and higher_is_better(declared, name) else 1.0

    def find_key(value: Any) -> tuple[int, float, str]:
        kind, number, text = _sortable(value)
        return kind, sign * number if kind == 0 else number, text

    return find_key


def _sortable(value: Any) -> tuple[int, float, str]:
    """Numbers, then texts, then the unknown; exp9 before exp12."""
    if isinstance(value, int | float):
        return 0, float(value), ""
    match = RUN_NAME.fullmatch(str(value))
    if match:
        return 1, float(match[1]), ""
    return (3 if value is None else 2), 0.0, str(value)
