"""The note that `tracker stop` leaves in a run folder for the run that it stops."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tracker.training.tables import parse_json

STOP_NAME = "stop.json"


def is_stopped(folder: Path) -> bool:
    """Whether somebody has left a note."""
    return (folder / STOP_NAME).exists()


def take_stop_note(folder: Path) -> tuple[str, dict[str, Any]]:
    """Read and delete the stop note: (reason, facts), both empty when nobody stopped the run."""
    path = folder / STOP_NAME
    try:
        note = parse_json(path.read_text(encoding="utf-8"))
        path.unlink()
        return str(note["reason"]), dict(note["facts"])
    except (OSError, ValueError, KeyError, TypeError):
        return "", {}
