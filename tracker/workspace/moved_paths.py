"""Finds files by paths that were written before the workspace was moved."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LOCATION_NAME = "location.json"


@dataclass(frozen=True)
class Location:
    """Where a workspace is, and where it was earlier, the newest location first."""

    root: str
    earlier: tuple[str, ...] = ()


def find_moved_path(root: Path, path: Path) -> Path | None:
    """The present path of a file whose `path` is in an earlier location of the workspace `root`.

    None when it is in no earlier location, or does not exist in the workspace now.
    """
    for earlier in _list_known_roots(root):
        if path.is_relative_to(earlier):
            moved = root / path.relative_to(earlier)
            if moved.exists():
                return moved
    return None


def _list_known_roots(root: Path) -> tuple[str, ...]:
    known = read_location(root / ".tracker" / LOCATION_NAME)
    return (known.root, *known.earlier) if known else ()


def find_moved_paths(root: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """{key: present path} of the paths in a config table that do not exist any more.

    A path into an earlier location of the workspace is looked for in the workspace. A path out of
    the workspace (`../photos`) is looked for next to the earlier locations.
    """
    moved = {}
    for key, value in table.items():
        if not isinstance(value, str) or not value.startswith(("/", "../")):
            continue
        if (root / value).exists():
            continue
        path = find_earlier_path(root, value)
        if path is not None:
            moved[key] = str(path)
    return moved


def find_earlier_path(root: Path, text: str) -> Path | None:
    """The present path for a path that an earlier location of the workspace explains, or None."""
    if text.startswith("/"):
        return find_moved_path(root, Path(text))
    for earlier in _list_known_roots(root):
        path = Path(os.path.normpath(Path(earlier) / text))
        if path.exists():
            return path
    return None


def read_location(path: Path) -> Location | None:
    """The content of location.json; None when the file is missing or damaged."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        location = Location(raw["root"], tuple(raw["earlier"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    for root in (location.root, *location.earlier):
        if not isinstance(root, str) or not root.startswith("/"):
            return None
    return location
