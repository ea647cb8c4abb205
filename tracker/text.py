"""Pieces of text that every view and message has: what an error says, the word that was meant, a time to the minute."""

from __future__ import annotations

from tracker.training.errors import find_nearest, first_line

__all__ = ["find_nearest", "first_line", "render_minute"]


def render_minute(time: str | None, *, unknown: str = "") -> str:
    """A UTC text to the minute, as people read it."""
    return time[:16].replace("T", " ") if time else unknown
