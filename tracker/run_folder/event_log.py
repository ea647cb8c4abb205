"""events.jsonl: what happened, a line each, appended by the process that did it.

A run folder has the log of its run, `.tracker` that of the submissions that were refused here. A
line that cannot be written, as on a full disk, is left out: a log must not end a training.
"""

from __future__ import annotations

import datetime as dt
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.clock import from_utc_text, utc_now
from tracker.training.numbers import render_float

EVENTS = "events.jsonl"
MOST_NAMED = 3  # metrics in the text of an event; its values have all


@dataclass(frozen=True, kw_only=True)
class LoggedEvent:
    """A line of events.jsonl; `time` is aware UTC."""

    time: dt.datetime
    kind: str
    text: str
    values: Mapping[str, Any]


def append_event(
    folder: Path, kind: str, text: str, values: Mapping[str, Any], *, time: str = ""
) -> None:
    """Append a line to the events.jsonl of a folder; `time` is UTC text, now if it is empty."""
    line = {"time": time or utc_now(), "kind": kind, "text": text, "values": dict(values)}
    with suppress(OSError, ValueError):
        data = json.dumps(line, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        fd = open_lines(folder / EVENTS)
        try:
            os.write(fd, data)
        finally:
            os.close(fd)


def open_lines(path: Path) -> int:
    """Open a file for appending lines; one that a crash cut off gets its newline first.

    Returns the file descriptor; raises OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
    size = os.fstat(fd).st_size
    if size:
        os.lseek(fd, size - 1, os.SEEK_SET)  # Windows has no pread
        if os.read(fd, 1) != b"\n":
            os.write(fd, b"\n")
    return fd


def read_event_log(folder: Path) -> Iterator[LoggedEvent]:
    """The events that a folder's log has, in logged order; a damaged line is skipped."""
    with suppress(OSError), (folder / EVENTS).open("rb") as file:
        for line in file:
            event = _parse(line)
            if event is not None:
                yield event


def _parse(line: bytes) -> LoggedEvent | None:
    try:
        raw = json.loads(line)
        kind, text, values = raw["kind"], raw["text"], raw["values"]
        time = from_utc_text(raw["time"])
    except (ValueError, TypeError, LookupError, RecursionError):
        return None
    if not isinstance(kind, str) or not isinstance(text, str) or not isinstance(values, dict):
        return None
    return LoggedEvent(time=time, kind=kind, text=text, values=values)


def list_validation(summary: Mapping[str, float | None]) -> dict[str, float]:
    """The known validation metrics of a summary."""
    known = {name: value for name, value in summary.items() if value is not None}
    return {name: value for name, value in known.items() if name.startswith("val/")}


def render_metrics(values: Mapping[str, float]) -> str:
    """The first metrics as text: `val/f1 0.7612, val/loss 0.5`."""
    return ", ".join(
        f"{name} {render_float(value)}" for name, value in list(values.items())[:MOST_NAMED]
    )
