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
        near = find_nearest(name, names)
        raise ConfigError(
            f"--sort: no {what} has {name!r}",
            hint=f"nearest: {near}" if near else f"a name that is there, as {_name_some(names)}",
        )


def _name_some(names: Sequence[str]) -> str:
    """The first scores or figures, which people sort by, else the first names."""
    figures = [name for name in names if "/" in name or name.startswith(("public_", "val_"))]
    return " or ".join((figures or names)[:2])


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
