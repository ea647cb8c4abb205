"""The curves of an adopted run: the names of this program, fractions, and points by step."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tracker.core.metric_names import check_name, sanitize_name
from tracker.training import metrics as computed
from tracker.training.errors import ConfigError
from tracker.workflows.adopt.logs import Series
from tracker.workflows.own_loop.common_names import METRIC_ALIASES, common_name

# Metrics between 0 and 1.
FRACTION_METRICS = (
    "auc",
    "precision",
    "recall",
    "top5",
    *(metric.name for metric in computed.METRICS.values() if (metric.low, metric.high) == (0, 1)),
)
LARGEST_FRACTION = 1.5  # a larger value is a percentage; rounding never exceeds 1 by that much
Point = tuple[dict[str, float], int, int]  # values, step, epoch


def name_series(series: list[Series], given: Mapping[str, str]) -> list[str]:
    """Rename the series to the names of this program, or to those `given`; returns remarks.

    Percentages become fractions. Raises ConfigError for a given name that is not allowed, or that
    two metrics would have.
    """
    names = _choose_names(series, given)
    remarks, renamed, unknown = [], [], []
    for one in series:
        old, one.name = one.name, names[one.name]
        if old != one.name and sanitize_name(old) == one.name:
            remarks.append(f"the metric {old!a} is called {one.name} here")
        elif old != one.name:
            renamed.append(f"{old} is {one.name}")
        elif not _is_known(old):
            unknown.append(old)
        if _is_percentage(one):
            one.values = one.divided_by_100().values
            remarks.append(f"{one.name} was in percent and is a fraction here")
    if renamed:
        remarks.append(f"names: {', '.join(renamed)}")
    if unknown:
        remarks.append(
            f"these keep their own names: {', '.join(unknown)} (--map {unknown[0]}=NAME gives"
            " another)"
        )
    return remarks


def _is_percentage(one: Series) -> bool:
    split, _, metric = one.name.partition("/")
    if split not in ("train", "val") or metric not in FRACTION_METRICS:
        return False
    finite = [value for value in one.values.values() if math.isfinite(value)]
    return max(finite, default=0) > LARGEST_FRACTION


def _choose_names(series: Sequence[Series], given: Mapping[str, str]) -> dict[str, str]:
    """{name as logged: name here}; a metric keeps its own name if the new one is taken."""
    for name in given.values():
        check_name(name)
    names: dict[str, str] = {}
    common = {common_name(one.name) for one in series}
    # The user's names first, then metrics that already have the name of this program.
    order = sorted(
        series, key=lambda one: (one.name not in given, one.name != common_name(one.name))
    )
    for one in order:
        new = given.get(one.name) or _add_split(common_name(one.name), common)
        if new in names.values():
            if one.name in given:
                raise ConfigError(
                    f"--map: two metrics would have the name {new}",
                    hint="give each a name of its own",
                )
            new = one.name
        names[one.name] = new if one.name in given else sanitize_name(new)
    return names


def _add_split(name: str, common: set[str]) -> str:
    """A metric name with a split, if the other names tell which one it is.

    It is training when validation has the same metric (Keras), else validation when both splits
    have a loss (fastai).
    """
    full = common_name(name, split="val")
    if full == name:
        return name
    metric = full.removeprefix("val/")
    in_train, in_val = f"train/{metric}" in common, f"val/{metric}" in common
    if in_val and not in_train:
        return f"train/{metric}"
    both_losses = {"train/loss", "val/loss"} <= common
    return f"val/{metric}" if both_losses and not (in_train or in_val) else name


def _is_known(name: str) -> bool:
    split, _, metric = name.partition("/")
    has_known_metric = metric.partition("/")[0] in METRIC_ALIASES
    return split in ("train", "val") and has_known_metric


def to_points(series: Iterable[Series]) -> list[Point]:
    """The series as points in the order of their steps; what was logged together stays together."""
    points: dict[tuple[int, int], dict[str, float]] = {}
    for one in series:
        for step, value in one.values.items():
            points.setdefault((step, one.epochs.get(step, 0)), {})[one.name] = value
    return [(points[key], *key) for key in sorted(points)]


def find_best(points: Sequence[Point], monitor: str, *, higher: bool) -> int | None:
    """The first epoch with the best value of `monitor`; None without a finite value."""
    measured = [
        (values[monitor], epoch)
        for values, _, epoch in points
        if math.isfinite(values.get(monitor, math.nan))
    ]
    if not measured:
        return None
    best = (max if higher else min)(value for value, _ in measured)
    return next(epoch for value, epoch in measured if value == best)


def summarize(points: Sequence[Point], last_epoch: int) -> dict[str, float]:
    """The last value of every metric up to an epoch."""
    summary: dict[str, float] = {}
    for values, _, epoch in points:
        if epoch <= last_epoch:
            summary |= values
    return summary
