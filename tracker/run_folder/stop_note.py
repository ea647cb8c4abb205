"""The note that `tracker stop` leaves in a run folder for the run that it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.training.tables import parse_json

STOP_NAME = "stop.json"


def is_stopped(folder: Path, *, elsewhere: bool = False) -> bool:
    """Whether somebody has left a note; `elsewhere`: on another machine, and could send no
    signal."""
    try:
        note = parse_json((folder / STOP_NAME).read_text(encoding="utf-8"))
        return bool(note["elsewhere"]) or not elsewhere
    except (OSError, ValueError, KeyError, TypeError):
        return False


def take_stop_note(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read and delete the stop note: (reason, facts), both empty when nobody stopped the run."""
    path = folder / STOP_NAME
    try:
        note = parse_json(path.read_text(encoding="utf-8"))
        path.unlink()
        return str(note["reason"]), dict(note["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}
