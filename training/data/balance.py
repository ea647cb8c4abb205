"""How even a split came out, as one line for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from tracker.training.formats.samples import Sample, Task
from tracker.training.formats.table_rows import list_set

ALL_NAMED = 4  # classes of which each share is named; of more, the most different one


def describe_balance(
    train: Sequence[Sample], val: Sequence[Sample], task: Task, *, grouped: bool
) -> str:
    """The share of each class, or the mean of the number, in training and validation."""
    if not train or not val:
        return ""
    if task.target == "number":
        means = [sum(s.values[0] for s in part) / len(part) for part in (train, val)]
        text = f"mean {task.label_column} {means[0]:.4g} in training, {means[1]:.4g} in validation"
    else:
        text = _compare_shares(train, val, task)
    if grouped:
        groups = [len({s.group for s in part}) for part in (train, val)]
        text += f"; {groups[0]} groups in training, {groups[1]} in validation"
    return f"split: {text}"


def count_classes(samples: Sequence[Sample]) -> Counter[int]:
    """The number of images of each class; an image may have several."""
    counts = Counter(sample.label for sample in samples if not sample.values)
    for sample in samples:
        if sample.values:
            counts.update(list_set(sample.values))
    return counts


def _compare_shares(train: Sequence[Sample], val: Sequence[Sample], task: Task) -> str:
    counts = [count_classes(train), count_classes(val)]
    shares = [
        (name, counts[0][label] / len(train), counts[1][label] / len(val))
        for label, name in enumerate(task.classes)
    ]
    if len(shares) <= ALL_NAMED:
        pairs = [f"{name} {100 * left:.1f} / {100 * right:.1f} %" for name, left, right in shares]
        return f"training / validation have {', '.join(pairs)}"
    name, left, right = max(shares, key=lambda share: abs(share[1] - share[2]))
    return (
        f"class shares differ by {100 * abs(left - right):.1f} points at most ({name}:"
        f" {100 * left:.1f} % of training, {100 * right:.1f} % of validation)"
    )
