"""A nested config as the two levels that a run's config.toml has."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tracker.core.errors import TrackerError
from tracker.training.errors import ConfigError

NO_SECTION = "config"


def to_tables(config: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """A config of any nesting as sections of keys: deeper ones get dots, values without a section
    one of their own.

    What TOML cannot hold becomes text, None is left out. Raises ConfigError when two keys fall
    together.
    """
    tables: dict[str, dict[str, Any]] = {}
    for section, value in config.items():
        pairs = list(_flatten(value)) if isinstance(value, Mapping) else [(str(section), value)]
        table = tables.setdefault(str(section) if isinstance(value, Mapping) else NO_SECTION, {})
        for key, item in pairs:
            if key in table:
                raise ConfigError(
                    f"two config keys are called {section}.{key}", hint="rename one of them"
                )
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
    if isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, list | tuple):
        return [to_toml(item) for item in value if item is not None]
    try:
        return to_toml(value.item())  # a number of numpy or torch
    except (AttributeError, ValueError, RuntimeError, TrackerError):
        return str(value)
