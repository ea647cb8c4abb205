"""The record of a run whose process died, completed by the points that it had logged: run.json is seconds older."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.errors import TrackerError
from tracker.metrics import LAST
from tracker.recorder import finite
from tracker.runs import (
    RunRecord,
    drop_system,
    from_utc_text,
    parse_point,
    read_points,
    to_utc_text,
)
from tracker.summary import Summary
from tracker.training.atomic import translate_os_errors
from tracker.workspace import Competition, load_workspace

TAIL = 1 << 16  # bytes that surely hold the last point
LATEST = 1 << 37  # seconds: the year 6325; a later time is damage
SLACK_S = 1.0  # a point that is this much older than the record is surely in it


def complete(folder: Path, record: RunRecord) -> RunRecord:
    """The record with the end, the epochs and the figures that metrics.jsonl has of it; raises StorageError."""
    last = _read_last(folder / "metrics.jsonl")
    heartbeat = from_utc_text(record.heartbeat).timestamp()
    if last is None or last["time"] < heartbeat - SLACK_S:
        return record
    if last["time"] > heartbeat:
        duration = round(record.duration_s + last["time"] - heartbeat, 3)
        record = replace(record, duration_s=duration, finished_at=_to_text(last["time"]))
    if record.fingerprints.get("data"):  # a training of this program: run.json and last.pth are of the same epoch
        return record
    own = [{**point, "values": drop_system(point["values"])} for point in read_points(folder / "metrics.jsonl")]
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
    return next((point for point in found if point is not None and 0 <= point["time"] < LATEST), None)


def _complete_loop(record: RunRecord, points: Sequence[Mapping[str, Any]], competition: Competition) -> RunRecord:
    logged = Summary(competition)
    for point in points:
        logged.add(point["values"], epoch=point["epoch"])
    found = finite(logged.read())
    measured = {name: value for name, value in record.summary.items() if not name.startswith(LAST)}
    best = logged.find_best_epoch()
    times = [point["time"] for point in points if point["epoch"] == best]
    best_at = _to_text(times[-1]) if times and best != record.best_epoch else record.best_at
    return replace(record, summary=measured | found, epoch=logged.epoch, best_epoch=best, best_at=best_at)


def _to_text(seconds: float) -> str:
    return to_utc_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
