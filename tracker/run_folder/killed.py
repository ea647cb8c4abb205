"""The record of a killed run, completed from its logged points: run.json is some seconds older.

The points of a long loop are read once. What they add is cached in `.killed.json` of the run
folder, with size and time of the files that it was made from. The cache is only for speed. run.json
stays as the process left it, because another process may resume the run at this moment.
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
from tracker.run_folder.points import (
    drop_system_metrics,
    parse_point,
    read_points,
    replace_non_finite,
)
from tracker.run_folder.record import KILLED_CACHE, RunRecord, check_record
from tracker.run_folder.summary import Summary
from tracker.training.errors import StorageError
from tracker.training.files import translate_os_errors, write_json
from tracker.training.tables import parse_json
from tracker.workspace.metrics import LAST
from tracker.workspace.tracker_toml import TRACKER_TOML, Competition, load_workspace

TAIL_BYTES = 1 << 16  # bytes at the end of metrics.jsonl; the last point is surely among them
LATEST_TIME_S = 1 << 37  # seconds since 1970, the year 6325: a later time means a damaged line
CACHED_FIELDS = ("summary", "epoch", "best_epoch", "best_at")  # what a loop's points add
SLACK_S = 1.0  # if the last point is older than the record by this, the record has all points


def complete_record(folder: Path, record: RunRecord) -> RunRecord:
    """The record with end, epochs and metrics from metrics.jsonl; raises StorageError."""
    last = _read_last(folder / "metrics.jsonl")
    heartbeat = from_utc_text(record.heartbeat).timestamp()
    if last is None or last["time"] < heartbeat - SLACK_S:
        return record
    # a training of this program: run.json has the epoch of last.pth, so nothing is added
    if not record.fingerprints.get("data"):
        record = _complete_once(folder, record)
    if last["time"] > heartbeat:
        duration = round(record.duration_s + last["time"] - heartbeat, 3)
        record = replace(record, duration_s=duration, finished_at=_to_text(last["time"]))
    return record


def _complete_once(folder: Path, record: RunRecord) -> RunRecord:
    """The record of a loop with what its points add, from the cache if that is of these files."""
    sources = _describe_sources(folder)
    cached = _read_cached(folder, record, sources)
    if cached is not None:
        return cached
    completed = _add_points(folder, record)
    plain = completed.to_dict()
    fields = {name: plain[name] for name in CACHED_FIELDS}
    # a read-only folder or a full disk: the next command reads the points again
    with suppress(StorageError):
        write_json(folder / KILLED_CACHE, {"sources": sources, "record": fields})
    return completed


def _describe_sources(folder: Path) -> list[list[int] | None]:
    """[size, time of change] of each file that the completed record depends on; None if missing."""
    # tracker.toml too: its metrics decide which epoch is best
    paths = (folder / "run.json", folder / "metrics.jsonl", folder.parent.parent / TRACKER_TOML)
    states: list[list[int] | None] = []
    for path in paths:
        try:
            state = path.stat()
        except OSError:
            states.append(None)
        else:
            states.append([state.st_size, state.st_mtime_ns])
    return states


def _read_cached(
    folder: Path, record: RunRecord, sources: Sequence[list[int] | None]
) -> RunRecord | None:
    """The record as completed before; None if the cache is missing, damaged or of other files."""
    try:
        cache = parse_json((folder / KILLED_CACHE).read_text(encoding="utf-8"))
        if cache["sources"] != sources:
            return None
        completed = replace(record, **{name: cache["record"][name] for name in CACHED_FIELDS})
        check_record(completed)
    except (OSError, ValueError, TypeError, LookupError, AttributeError):
        return None
    return completed


def _add_points(folder: Path, record: RunRecord) -> RunRecord:
    """The record of a loop with the metrics of all its points; raises StorageError."""
    own = [
        {**point, "values": drop_system_metrics(point["values"])}
        for point in read_points(folder / "metrics.jsonl")
    ]
    points = [point for point in own if point["values"] and 0 <= point["time"] < LATEST_TIME_S]
    if not points:
        return record
    if record.fingerprints.get("weights"):  # the loop itself says what is best
        logged: dict[str, float] = {}
        for point in points:
            logged |= point["values"] if point["epoch"] == record.best_epoch else {}
        summary = {**replace_non_finite(logged), **record.summary}
        return replace(record, epoch=max(record.epoch, points[-1]["epoch"]), summary=summary)
    try:
        return _complete_loop(record, points, load_workspace(folder.parent.parent).competition)
    except TrackerError:  # other commands report a damaged tracker.toml
        return record


def _read_last(path: Path) -> dict[str, Any] | None:
    try:
        with translate_os_errors(path, "read"), path.open("rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL_BYTES))
            lines = file.read().splitlines()
    except TrackerError:
        return None
    for line in reversed(lines):
        point = parse_point(line)
        if point is not None and 0 <= point["time"] < LATEST_TIME_S:
            return point
    return None


def _complete_loop(
    record: RunRecord, points: Sequence[Mapping[str, Any]], competition: Competition
) -> RunRecord:
    logged = Summary(competition)
    for point in points:
        logged.add(point["values"], epoch=point["epoch"])
    # what the points have replaces the record's older values; its other values stay
    older = {name: value for name, value in record.summary.items() if not name.startswith(LAST)}
    summary = older | replace_non_finite(logged.read())
    best = logged.find_best_epoch()
    times = [point["time"] for point in points if point["epoch"] == best]
    best_at = _to_text(times[-1]) if times and best != record.best_epoch else record.best_at
    return replace(record, summary=summary, epoch=logged.epoch, best_epoch=best, best_at=best_at)


def _to_text(seconds: float) -> str:
    return to_utc_text(dt.datetime.fromtimestamp(seconds, dt.UTC))
