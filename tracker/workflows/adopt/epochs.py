"""Find out where an epoch ends in curves that were logged by step only.

It is inferred in a fixed order, and a remark says how.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence

from tracker.workflows.adopt.logs import Series, count_from_one
from tracker.workflows.own_loop.common_names import common_name

EPOCHS_UNKNOWN = (
    "unknown where an epoch ends: the points have no epoch (log a metric called epoch with the"
    " others)"
)


def set_epochs(series: list[Series], planned: int | None) -> str:
    """Set the epochs of every series that has none; returns a remark on how they were found.

    Series called `epoch` are removed. The order: a metric called epoch, `planned` epochs if there
    are as many steps, a metric that has one point per epoch, other logs with epochs. Steps do not
    change.
    """
    without = [one for one in series if not one.epochs and not _is_epoch(one)]
    marker = next((one for one in series if _is_epoch(one)), None)
    known = max((epoch for one in series for epoch in one.epochs.values()), default=0)
    series[:] = [one for one in series if not _is_epoch(one)]
    steps = sorted({step for one in without for step in one.values})
    if not without:
        return ""
    # 1. A metric called epoch says it.
    if marker:
        epoch_of = count_from_one(marker.values.values())
        marks = {step: epoch_of[value] for step, value in marker.values.items()}
        return _set_by_marks(without, steps, marks, f"epochs are those of {marker.name}")
    # 2. Each step is an epoch.
    if planned and steps[-1] - steps[0] + 1 == planned and steps[0] in (0, 1):
        return _set_by_marks(without, steps, {step: step - steps[0] + 1 for step in steps}, "")
    # 3. A metric has one point per epoch.
    candidates = [one for one in without if _has_a_point_per_epoch(one)]
    if candidates:
        return _set_by_metric(max(candidates, key=_rank_as_epoch_mark), without, steps)
    # 4. Other logs say how many epochs there are.
    if known:
        remark = f"{known} epochs, as in the other log, each with the same number of steps"
        return _divide(without, known, remark)
    return EPOCHS_UNKNOWN


def _is_epoch(one: Series) -> bool:
    has_gaps = any(math.isnan(value) for value in one.values.values())
    return one.name.rpartition("/")[2].lower() == "epoch" and not has_gaps


def _has_a_point_per_epoch(one: Series) -> bool:
    return common_name(one.name).startswith("val/") or "epoch" in one.name.lower()


def _rank_as_epoch_mark(one: Series) -> tuple[bool, bool, int]:
    """How likely a metric has one point per epoch.

    Its name says so; it is not a loss, which some programs log by batch; it has many points.
    """
    return "epoch" in one.name.lower(), not common_name(one.name).endswith("loss"), len(one.values)


def _set_by_metric(metric: Series, without: Sequence[Series], steps: Sequence[int]) -> str:
    """Epochs from a metric with one point per epoch: its steps are epochs, or ends of epochs."""
    marked = sorted(metric.values)
    count = len(marked)
    marks = {step: number for number, step in enumerate(marked, start=1)}
    is_consecutive = marked[0] in (0, 1) and marked[-1] - marked[0] == count - 1
    is_single_end = count == 1 and steps[-1] > marked[0]
    if not is_consecutive or is_single_end:
        remark = f"an epoch lasts from one {metric.name} to the next: {count}"
        return _set_by_marks(without, steps, marks, remark)
    if steps[-1] <= marked[-1]:
        return _set_by_marks(without, steps, marks, "")
    # Its steps are epochs, while other metrics were logged by batch.
    by_epoch = [one for one in without if max(one.values) <= marked[-1]]
    _set_by_marks(by_epoch, marked, marks, "")
    by_batch = [one for one in without if max(one.values) > marked[-1]]
    remark = f"{count} epochs, as in {metric.name}, each with the same number of steps"
    return _divide(by_batch, count, remark)


def _set_by_marks(
    series: Iterable[Series], steps: Sequence[int], marks: Mapping[int, int], remark: str
) -> str:
    """Epochs from `marks`, {step: epoch}, which begin an epoch or end it; returns the remark.

    When the first mark is at the first step, a mark holds until the next; else since the last.
    """
    order = sorted(marks)
    marks_begin = order[0] <= steps[0]
    epochs: dict[int, int] = {}
    index = 0
    for step in steps:
        while index < len(order) - 1:
            passed = order[index + 1] <= step if marks_begin else order[index] < step
            if not passed:
                break
            index += 1
        epochs[step] = marks[order[index]]
    for one in series:
        one.epochs = epochs
    return remark


def _divide(series: Sequence[Series], count: int, remark: str) -> str:
    """Divide the steps into `count` epochs of equal length; returns the remark.

    Validation batches are counted separately.
    """
    validation = [one for one in series if common_name(one.name).startswith("val/")]
    others = [one for one in series if one not in validation]
    for group in (validation, others):
        steps = sorted({step for one in group for step in one.values})
        epochs = {step: 1 + index * count // len(steps) for index, step in enumerate(steps)}
        for one in group:
            one.epochs = epochs
    return remark
