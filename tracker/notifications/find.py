"""What is to be told: runs that ended or died, a new SOTA, the last submission, the deadline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from contextlib import suppress

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import TrackerError
from tracker.ledger.connection import open_reader
from tracker.ledger.read import find_sota, list_counted_times, read_clock
from tracker.notifications.notice import Notice
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord, list_run_numbers
from tracker.workspace.quota import build_quota, render_quota, window_start
from tracker.workspace.tracker_toml import Workspace

DEADLINE_HOURS = (1, 3, 24)  # how long before the deadline it is told
QUICK_KINDS = ("infer", "ensemble", "adopted")  # their command has just been waited for
DIED = "killed"
_SCORED_AT = (
    "SELECT MAX(scored_at) AS time FROM scores WHERE submission = :number AND split = 'public' AND"
    " metric = :metric"
)


def find_notices(workspace: Workspace, since: dt.datetime) -> list[Notice]:
    """What happened from `since` (aware) on, oldest first; left out: what cannot be read."""
    notices = list(_find_ends(workspace, since))
    with suppress(TrackerError):
        notices += _find_sota(workspace, since)
    with suppress(TrackerError):
        now = read_clock(workspace)
        notices += [*_find_last(workspace, now), *_find_deadline(workspace, now)]
    return sorted(notices, key=lambda notice: notice.time)


def _find_ends(workspace: Workspace, since: dt.datetime) -> Iterator[Notice]:
    """Runs of this workspace that ended; of a killed one its reader says that it is dead."""
    for number in list_run_numbers(workspace.runs_dir):
        with suppress(TrackerError, ValueError):
            record = load_run(workspace.runs_dir, f"exp{number}")
            ended = record.finished_at or record.heartbeat
            if record.status == "running" or record.kind in QUICK_KINDS:
                continue
            if from_utc_text(ended) >= since:
                yield Notice(
                    id=f"ended:{record.uid}:{record.status}:{ended}",
                    time=ended,
                    kind="died" if record.status == DIED else record.status,
                    run=record.name,
                    text=_describe_end(workspace, record),
                )


def _describe_end(workspace: Workspace, record: RunRecord) -> str:
    status = "died" if record.status == DIED else record.status
    name = f"val/{workspace.competition.primary.name}"
    best = record.summary.get(name)
    figure = "" if best is None else f", best {name} {best:.4g}"
    if record.best_epoch is not None and figure:
        figure += f" in epoch {record.best_epoch}"
    follow_up = "" if status == "finished" else f"; tracker show {record.name} says more"
    return f"{record.name} {status} on {record.host} after epoch {record.epoch}{figure}{follow_up}"


def _find_sota(workspace: Workspace, since: dt.datetime) -> Iterator[Notice]:
    primary = workspace.competition.primary
    row = find_sota(workspace)
    if row is None:
        return
    with open_reader(workspace.ledger_url) as query:
        (scored,) = query(_SCORED_AT, {"number": row.number, "metric": primary.name})
    with suppress(ValueError):  # an imported table may have no time
        if from_utc_text(scored["time"] or "") >= since:
            value = primary.render(row.scores[f"public_{primary.name}"])
            run = f" ({row.run})" if row.run else ""
            yield Notice(
                id=f"sota:{row.number}",
                time=scored["time"],
                kind="sota",
                run=row.run or "",
                submission=row.number,
                text=f"s{row.number}{run} is the new SOTA: public {primary.name} {value}",
            )


def _find_last(workspace: Workspace, now: dt.datetime) -> Iterator[Notice]:
    """One submission is left, after at least one in this window."""
    competition = workspace.competition
    if not competition.daily_limit:
        return
    times = list_counted_times(workspace, window_start(competition, now))
    quota = build_quota(competition, now, times)
    if quota.left == 1 and times:
        yield Notice(
            id=f"last:{times[-1]}",
            time=to_utc_text(now),
            kind="quota",
            text=render_quota(quota, competition),
        )


def _find_deadline(workspace: Workspace, now: dt.datetime) -> Iterator[Notice]:
    deadline = workspace.competition.deadline
    if deadline is None or now >= deadline:
        return
    for hours in DEADLINE_HOURS:
        if deadline - now <= dt.timedelta(hours=hours):
            at = workspace.competition.local_time(to_utc_text(deadline))
            yield Notice(
                id=f"deadline:{to_utc_text(deadline)}:{hours}",
                time=to_utc_text(now),
                kind="deadline",
                text=f"less than {hours} hour{'s' if hours > 1 else ''} to the deadline: {at}"
                f" ({workspace.competition.time_zone})",
            )
            return
