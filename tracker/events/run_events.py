"""The events of the runs of this workspace.

What a run wrote into its events.jsonl counts. What is not there follows from its record: older
runs wrote no events, and a run that was killed cannot tell its own death.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator, Sequence
from contextlib import suppress
from typing import Any

from tracker.core.clock import from_utc_text
from tracker.core.errors import TrackerError
from tracker.events.event import Event
from tracker.run_folder.event_log import (
    EVENTS,
    LoggedEvent,
    list_validation,
    read_event_log,
)
from tracker.run_folder.event_texts import (
    ENDS,
    describe_best,
    describe_best_values,
    describe_end,
    describe_facts,
    describe_start,
)
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord, list_run_numbers
from tracker.workspace.tracker_toml import Workspace

BEGINNINGS = ("started", "resumed")
SLACK = dt.timedelta(minutes=2)  # a file server's clock may be behind


def list_run_events(workspace: Workspace, since: dt.datetime) -> Iterator[Event]:
    """The events of all runs here from `since` on, in no order; unreadable runs have none."""
    runs = str(workspace.runs_dir)  # asked once: there may be very many runs
    earliest = (since - SLACK).timestamp()
    for number in list_run_numbers(workspace.runs_dir):
        if not _has_changed(f"{runs}/exp{number}", earliest):
            continue
        folder = workspace.runs_dir / f"exp{number}"
        logged = list(read_event_log(folder))
        events = [_from_log(folder.name, line) for line in logged]
        with suppress(TrackerError):
            record = load_run(workspace.runs_dir, folder.name)
            events += _derive(record, logged)
        yield from (event for event in events if event.time >= since)
    for line in read_event_log(workspace.state_dir):  # refused submissions
        if line.time >= since:
            yield _from_log(str(line.values.get("run") or ""), line)


def _has_changed(folder: str, since: float) -> bool:
    """Whether a file that has events was written since then, or there is none."""
    found = False
    for name in ("run.json", "metrics.jsonl", EVENTS):
        try:
            path = f"{folder}/{name}"
            if os.stat(path).st_mtime >= since:  # noqa: PTH116 a third of the time, for many runs
                return True
            found = True
        except OSError:
            continue
    return not found


def _from_log(run: str, line: LoggedEvent) -> Event:
    return Event(
        time=line.time,
        kind=line.kind,
        run=run,
        submission=None,
        text=line.text,
        values=dict(line.values),
    )


def _derive(record: RunRecord, logged: Sequence[LoggedEvent]) -> list[Event]:
    """The events that follow from a record and are not in its log."""
    kinds = [line.kind for line in logged]
    found: list[tuple[str | None, str, str, dict[str, Any]]] = []
    if "started" not in kinds and record.status != "pending":
        start = (record.created_at, "started", describe_start(record), describe_facts(record))
        found.append(start)
        if record.best_epoch is not None and "best" not in kinds:
            best = (describe_best(record), describe_best_values(record))
            found.append((record.best_at, "best", *best))
    if record.status in ENDS and not _has_told_end(kinds):
        values: dict[str, Any] = dict(list_validation(record.summary))
        end = ENDS[record.status]
        found.append((record.finished_at, end, describe_end(record), values))
    events = []
    for time, kind, text, values in found:
        with suppress(ValueError):  # an adopted run may not know its times
            moment = from_utc_text(time or "")
            events.append(
                Event(
                    time=moment,
                    kind=kind,
                    run=record.name,
                    submission=None,
                    text=text,
                    values=values,
                )
            )
    return events


def _has_told_end(kinds: Sequence[str]) -> bool:
    """Whether the log has an end after its last beginning."""
    for kind in reversed(kinds):
        if kind in BEGINNINGS:
            return False
        if kind in ENDS.values():
            return True
    return False
