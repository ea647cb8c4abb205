"""The events of a run as sentences: those that it writes, and those that its record implies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracker.run_folder.event_log import list_validation, render_metrics
from tracker.run_folder.record import RunRecord

Values = Mapping[str, float | None]
# What a final status is called as an event: a process that was killed cannot tell it itself.
ENDS = {"finished": "finished", "failed": "failed", "interrupted": "interrupted", "killed": "died"}


def describe_start(record: RunRecord) -> str:
    """`exp12 started from exp3: more epochs`."""
    parent = f" from {record.parent}" if record.parent else ""
    note = f": {record.note}" if record.note else ""
    return f"{record.name} started{parent}{note}"


def describe_facts(record: RunRecord) -> dict[str, Any]:
    """What is known of a run when it starts."""
    names = ("kind", "parent", "note", "author", "host")
    return {name: getattr(record, name) for name in names}


def describe_best(record: RunRecord, values: Values | None = None) -> str:
    """`exp12 best so far in epoch 3: val/f1 0.7612`.

    `values` are those of the best epoch, where the summary has the best of each metric instead.
    """
    metrics = render_metrics(list_validation(values or record.summary))
    shown = f": {metrics}" if metrics else ""
    return f"{record.name} best so far in epoch {record.best_epoch}{shown}"


def describe_best_values(record: RunRecord, values: Values | None = None) -> dict[str, Any]:
    """The best epoch and its validation metrics."""
    return {"epoch": record.best_epoch, **list_validation(values or record.summary)}


def describe_end(record: RunRecord, values: Values | None = None) -> str:
    """`exp12 finished, best epoch 3 of 15: val/f1 0.7612`, or why it ended early.

    `values` are as in `describe_best`.
    """
    end = ENDS.get(record.status, record.status)
    if record.status == "pending":
        return f"{record.name} waits for its job"
    reason = f" ({record.error})" if record.error else ""
    if end == "died":
        where = f"in epoch {record.epoch + 1}" if record.epoch else "before the end of epoch 1"
        reason = f" {where}: its process was killed"
    text = f"{record.name} {end}{reason}"
    if record.best_epoch:
        metrics = render_metrics(list_validation(values or record.summary))
        shown = f": {metrics}" if metrics else ""
        text = f"{text}, best epoch {record.best_epoch} of {record.epoch}{shown}"
    return text
