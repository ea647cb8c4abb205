"""The record of a run whose process died, completed by the points that it had logged: run.json is
seconds older.

The points of a long loop are read once: what they add is kept in `.killed.json` of the run folder,
with the state of the files that it follows from. It is never needed, only faster; run.json stays as
the process left it, since another process may be going on with the run at this moment.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import TrackerError
from tracker.runs.points import drop_system, finite, parse_point, read_points
from tracker.runs.record import KEPT, RunRecord, check_record
from tracker.runs.summary import Summary
from tracker.training.errors import StorageError
from tracker.training.files import translate_os_errors, write_json
from tracker.training.tables import parse_json
from tracker.workspace.competition import TRACKER_TOML, Competition, load_workspace
from tracker.workspace.metrics import LAST

TAIL = 1 << 16  # bytes that surely hold the last point
LATEST = 1 << 37  # seconds: the year 6325; a later time is damage
KEPT_FIELDS = (
    "summary",
    "epoch",
    "best_epoch",
    "best_at",
)  # what the points of a loop add to its record
SLACK_S = 1.0  # a point that is this much older than the record is surely in it


def complete(folder: Path, record: RunRecord) -> RunRecord:
    """The record with the end, the epochs and the figures that metrics.jsonl has of it; raises
    StorageError."""
    last = _read_last(folder / "metrics.jsonl")
    heartbeat = from_utc_text(record.heartbeat).timestamp()
    if last is None or last["time"] < heartbeat - SLACK_S:
        return record
    if last["time"] > heartbeat:
        duration = round(record.duration_s + last["time"] - heartbeat, 3)
        record = replace(record, duration_s=duration, finished_at=_to_text(last["time"]))
    if record.fingerprints.get(
        "data"
    ):  # a training of this program: run.json and last.pth are of the same epoch
        return record
    sources = _describe_sources(folder)
    kept = _read_kept(folder, record, sources)
    if kept is not None:
        return kept
    found = _add_points(folder, record)
    plain = found.to_dict()
    with suppress(
        StorageError
    ):  # a read-only folder, a full disk: the next list reads the points again
        write_json(
            folder / KEPT,
            {"sources": sources, "record": {name: plain[name] for name in KEPT_FIELDS}},
        )
    return found


def _describe_sources(folder: Path) -> list[list[int] | None]:
    """Size and time of change of the files that a loop's record follows from; None for one that is
    not there."""
    found: list[list[int] | None] = []
    for path in (
        folder / "run.json",
        folder / "metrics.jsonl",
        folder.parent.parent / TRACKER_TOML,
    ):
        try:
            state = path.stat()
        except OSError:
            found.append(None)
        else:
            found.append([state.st_size, state.st_mtime_ns])
    return found


def _read_kept(
    folder: Path, record: RunRecord, sources: Sequence[list[int] | None]
) -> RunRecord | None:
    """The record as it was completed before, None where that is not known, damaged, or of other
    files."""
    try:
        kept = parse_json((folder / KEPT).read_text(encoding="utf-8"))
        if kept["sources"] != sources:
            return None
        found = replace(record, **{name: kept["record"][name] for name in KEPT_FIELDS})
        check_record(found)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return found


def _add_points(folder: Path, record: RunRecord) -> RunRecord:
    """The record of a loop with the figures of all its points; raises StorageError."""
    own = [
        {**point, "values": drop_system(point["values"])}
        for point in read_points(folder / "metrics.jsonl")
    ]
    points = [point for point in own if point["values"] and 0 <= point["time"] < LATEST]
    if not points:
        return record
    if record.fingerprints.get("weights"):  # the loop itself says what is best
        logged: dict[str, float] = {}
        for point in points:
            logged |= point["values"] if point["epoch"] == record.best_epoch else {}
        summary = {**finite(logged), **record.summary}
        return replace(record, epoch=max(record.epoch, points[-1]["epoch"]), summary=summary)
    try:
        return _complete_loop(record, points, load_workspace(folder.parent.parent).competition)
    except TrackerError:  # a damaged config or tracker.toml is told elsewhere
        return record


def _read_last(path: Path) -> dict[str, Any] | None:
    try:
        with translate_os_errors(path, "read"), path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            lines = file.read().splitlines()
    except TrackerError:
        return None
    found = (parse_point(line) for line in reversed(lines))
    return next(
        (point for point in found if point is not None and 0 <= point["time"] < LATEST), None
    )


def _complete_loop(
    record: RunRecord, points: Sequence[Mapping[str, Any]], competition: Competition
) -> RunRecord:
    logged = Summary(competition)
    for point in points:
        logged.add(point["values"], epoch=point["epoch"])
    found = finite(logged.read())
    measured = {name: value for name, value in record.summary.items() if not name.startswith(LAST)}
    best = logged.find_best_epoch()
    times = [point["time"] for point in points if point["epoch"] == best]
    best_at = _to_text(times[-1]) if times and best != record.best_epoch else record.best_at
    return replace(
        record, summary=measured | found, epoch=logged.epoch, best_epoch=best, best_at=best_at
    )


def _to_text(seconds: float) -> str:
    return to_utc_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
