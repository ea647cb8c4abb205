"""The stream of events: everything since a moment, or on and on."""

from __future__ import annotations

import datetime as dt
import re
import time
from collections.abc import Callable, Iterator

from tracker.core.clock import find_zone
from tracker.core.errors import LedgerError, render_error
from tracker.events.event import Event
from tracker.events.ledger_events import (
    list_deadline_events,
    list_ledger_events,
    list_quota_events,
)
from tracker.events.run_events import list_run_events
from tracker.training.errors import ConfigError, StorageError
from tracker.workspace.tracker_toml import Competition, Workspace

POLL_S = 2.0
# An event may be known some time after it happened: the death of a run on another machine is told
# after a minute, and the clock of a teammate's machine may be behind.
LATE = dt.timedelta(minutes=10)
UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def read_events(workspace: Workspace, since: dt.datetime) -> Iterator[Event]:
    """The events from `since` (aware) on, oldest first.

    The same event has the same `id` whenever it is read: a reader that asks again remembers the
    ids, and asks from a few minutes (`LATE`) before its last question. Raises LedgerError or
    StorageError.
    """
    now = dt.datetime.now(dt.UTC)
    events = [
        *list_run_events(workspace, since),
        *list_ledger_events(workspace, since),
        *list_quota_events(workspace, since),
        *list_deadline_events(workspace.competition, since, now),
    ]
    yield from sorted(events, key=lambda event: event.time)


def follow_events(
    workspace: Workspace,
    since: dt.datetime,
    *,
    poll_s: float = POLL_S,
    on_problem: Callable[[str], None] = lambda _: None,
) -> Iterator[Event]:
    """The events from `since` on, and then every new one, each once; never ends.

    `on_problem` gets a sentence when the ledger cannot be read; it is tried again.
    """
    seen: set[str] = set()
    start, problem = since, ""
    while True:
        asked = dt.datetime.now(dt.UTC)
        try:
            for event in read_events(workspace, start):
                if event.id not in seen:
                    seen.add(event.id)
                    yield event
            start, problem = max(since, asked - LATE), ""
        except (LedgerError, StorageError) as error:
            if str(error) != problem:
                problem = str(error)
                on_problem(f"{render_error(error)}; trying again")
        time.sleep(poll_s)


def parse_since(text: str, competition: Competition, now: dt.datetime) -> dt.datetime:
    """`2h`, `30m`, `3d` before `now`, or a time or date in the competition's time zone, as UTC.

    Raises ConfigError.
    """
    try:
        if match := re.fullmatch(r"([0-9]{1,6})([smhd])", text.strip()):
            return now - dt.timedelta(**{UNITS[match[2]]: int(match[1])})
        moment = dt.datetime.fromisoformat(text.strip())
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=find_zone(competition.time_zone))
        return moment.astimezone(dt.UTC)
    except (ValueError, OverflowError) as error:
        raise ConfigError(
            f"--since {text}: expected a time span or a time",
            hint='--since 2h, --since 30m, --since "2026-11-24 21:00"',
        ) from error
