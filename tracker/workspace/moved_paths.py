"""Where a path lies now that was written before the workspace was moved."""

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
    """Where a workspace is, and where it was before, the newest first."""

    root: str
    earlier: tuple[str, ...] = ()


def find_moved_path(root: Path, path: Path) -> Path | None:
    """Where a file or folder of the workspace `root` is now, whose path is that of an earlier
    place; or None."""
    known = read_location(root / ".tracker" / LOCATION_NAME)
    for place in (known.root, *known.earlier) if known else ():
        if path.is_relative_to(place) and (moved := root / path.relative_to(place)).exists():
            return moved
    return None


def find_moved_paths(root: Path, table: Mapping[str, Any]) -> dict[str, Any]:
    """Of the texts in a table of a config, those that name nothing any more, with where that is
    now.

    A path of an earlier place is looked for in the workspace as it is now, one that leads out of
    the workspace (`../photos`) beside where it was.
    """
    texts = {
        key: value
        for key, value in table.items()
        if isinstance(value, str) and value.startswith(("/", "../"))
    }
    found = {
        key: find_earlier_path(root, text)
        for key, text in texts.items()
        if not (root / text).exists()
    }
    return {key: str(path) for key, path in found.items() if path is not None}


def find_earlier_path(root: Path, text: str) -> Path | None:
    """Where a path is that the workspace `root` knows from an earlier place; None where it is in
    none."""
    if text.startswith("/"):
        return find_moved_path(root, Path(text))
    known = read_location(root / ".tracker" / LOCATION_NAME)
    for place in (known.root, *known.earlier) if known else ():
        if (path := Path(os.path.normpath(Path(place) / text))).exists():
            return path
    return None


def read_location(path: Path) -> Location | None:
    """What location.json says; None when it is not there or damaged."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        location = Location(raw["root"], tuple(raw["earlier"]))
    except (OSError, ValueError, TypeError, KeyError, RecursionError):
        return None
    whole = all(
        isinstance(place, str) and place.startswith("/")
        for place in (location.root, *location.earlier)
    )
    return location if whole else None
