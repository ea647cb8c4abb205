"""A nested config as the two levels that a run's config.toml has."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from tracker.core.errors import TrackerError
from tracker.core.text import check_utf8
from tracker.training.errors import ConfigError

NO_SECTION = "config"  # the section of keys that have none


def to_tables(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A nested config as {section: {key: value}}: deeper keys are joined by dots.

    Values that TOML or JSON cannot hold become texts, None is left out. Raises ConfigError when two
    keys get the same name, and for a text that is not UTF-8 or has a NUL.
    """
    tables: dict[str, dict[str, Any]] = {}
    for name, value in config.items():
        if isinstance(value, Mapping):
            section, pairs = str(name), list(_flatten(value))
        else:
            section, pairs = NO_SECTION, [(str(name), value)]
        table = tables.setdefault(section, {})
        for key, item in pairs:
            if key in table:
                raise ConfigError(
                    f"two config keys have the name {name}.{key}", hint="rename one of them"
                )
            check_utf8("the config", f"{name}.{key}")
            if item is not None:
                table[key] = to_toml(item)
    return tables


def _flatten(table: Mapping[Any, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def to_toml(value: Any) -> Any:
    """A value as TOML and JSON have it: numbers of numpy and torch become plain ones, other things
    texts, as inf and nan do; raises ConfigError for a text that is not UTF-8 or has a NUL.
    """
    if isinstance(value, str):
        check_utf8("the config", value)
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)  # JSON, and so the ledger and its exports, has no such number
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_toml(item) for item in value if item is not None]
    try:
        return to_toml(value.item())  # a number of numpy or torch
    except (AttributeError, ValueError, RuntimeError, TrackerError):
        return to_toml(str(value))
