"""What of the stream of events is to be told: ends and deaths of runs, SOTA, the last submission,
the deadline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import TrackerError
from tracker.events.event import Event
from tracker.events.ledger_events import (
    list_deadline_events,
    list_ledger_events,
    list_quota_events,
)
from tracker.events.run_events import list_run_events
from tracker.ledger.read import read_clock
from tracker.notifications.notice import Notice
from tracker.run_folder.event_texts import ENDS
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord
from tracker.training.numbers import render_digits
from tracker.workspace.tracker_toml import Workspace

QUICK_KINDS = ("infer", "ensemble", "adopted")  # their command has just been waited for
DAY = dt.timedelta(hours=24)  # the longest time between two events of the deadline


def find_notices(workspace: Workspace, since: dt.datetime) -> list[Notice]:
    """What happened from `since` (aware) on, oldest first; left out: what cannot be read."""
    notices = list(_find_ends(workspace, since))
    with suppress(TrackerError):
        events = list(list_ledger_events(workspace, since))
        # of an imported table, which has many, the last one
        best = sorted((e for e in events if e.kind == "sota"), key=lambda event: event.time)
        notices += [_build(event) for event in best[-1:]]
    with suppress(TrackerError):
        now = read_clock(workspace)
        notices += [*_find_last(workspace, since, now), *_find_deadline(workspace, now)]
    return sorted(notices, key=lambda notice: notice.time)


def _build(event: Event, text: str = "") -> Notice:
    return Notice(
        id=event.id,
        time=to_utc_text(event.time),
        kind=event.kind,
        run=event.run,
        submission=event.submission,
        text=text or event.text,
    )


def _find_ends(workspace: Workspace, since: dt.datetime) -> Iterator[Notice]:
    """Runs of this workspace that ended; one that was resumed since then tells its next end."""
    for event in list_run_events(workspace, since):
        if event.kind not in ENDS.values():
            continue
        with suppress(TrackerError):
            record = load_run(workspace.runs_dir, event.run)
            if record.kind not in QUICK_KINDS and ENDS.get(record.status) == event.kind:
                yield _build(event, _describe_end(workspace, record, event.kind))


def _describe_end(workspace: Workspace, record: RunRecord, end: str) -> str:
    """Names and figures only: the event's own text has the error, which may hold a secret."""
    name = f"val/{workspace.competition.primary.name}"
    best = record.summary.get(name)
    figure = "" if best is None else f", best {name} {render_digits(best, 4)}"
    if record.best_epoch is not None and figure:
        figure += f" in epoch {record.best_epoch}"
    follow_up = "" if end == "finished" else f"; tracker show {record.name} says more"
    return f"{record.name} {end} on {record.host} after epoch {record.epoch}{figure}{follow_up}"


def _find_last(workspace: Workspace, since: dt.datetime, now: dt.datetime) -> Iterator[Notice]:
    """One submission is left of the window that is open now."""
    for event in list_quota_events(workspace, since):
        resets = event.values["resets_at"]
        if event.values["left"] == 1 and (resets is None or from_utc_text(resets) > now):
            yield _build(event)


def _find_deadline(workspace: Workspace, now: dt.datetime) -> Iterator[Notice]:
    """How near the deadline is, also where nobody looked when it came so near."""
    passed = list(list_deadline_events(workspace.competition, now - DAY, now))
    if passed and passed[-1].values["hours_left"]:
        yield _build(passed[-1], f"less than {passed[-1].text}")
