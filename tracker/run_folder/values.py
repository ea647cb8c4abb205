"""What a condition and `--sort` can ask of a run: its fields, facts, config and metrics by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tracker.core.config_diff import translate
from tracker.run_folder.record import RunRecord
from tracker.training.tables import flatten
from tracker.workspace.metrics import list_model_metrics

FIELDS = (
    "tags",
    "name",
    "kind",
    "status",
    "parent",
    "note",
    "author",
    "host",
    "created_at",
    "epoch",
    "best_epoch",
    "duration_s",
    "error",
)


def list_fields(record: RunRecord) -> dict[str, Any]:
    """The fields of a record as a list shows them; None for an empty one."""
    fields = {name: getattr(record, name) for name in FIELDS} | {
        "tags": ", ".join(record.tags) or None
    }
    fields["error"] = record.error or None
    if "adopted_from" in record.facts:  # the time that adopting took
        fields["duration_s"] = None
    return fields


def list_facts(record: RunRecord) -> dict[str, Any]:
    """The facts that are texts or numbers."""
    return {
        name: value for name, value in record.facts.items() if isinstance(value, str | int | float)
    }


def list_known_metrics(record: RunRecord) -> dict[str, float]:
    """The metrics of the model whose value is known."""
    measured = list_model_metrics(record.summary)
    return {name: value for name, value in measured.items() if value is not None}


def flatten_both(
    config: Mapping[str, Any], common: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """A config by dotted keys, with the names that another program gave them and with ours.

    `common` is the translated config, where it is known already.
    """
    common = translate(config) if common is None else common
    return flatten(config) if common is config else {**flatten(config), **flatten(common)}
