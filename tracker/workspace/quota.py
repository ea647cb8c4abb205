"""The daily limit and the deadline, in the competition's time zone."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import RefusedError
from tracker.workspace.competition import Competition

if TYPE_CHECKING:
    pass


CLOCK_SLACK = dt.timedelta(minutes=5)  # how far the clocks of machines may be apart

_UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, kw_only=True)
class Quota:
    """What is left to submit; `left` is None when there is no limit, `resets_at` is UTC text."""

    used: int
    limit: int
    left: int | None
    resets_at: str | None
    deadline: str | None


def window_start(competition: Competition, now: dt.datetime) -> str:
    """The UTC text from which submissions count: midnight in the time zone, or 24 hours ago."""
    if competition.quota_window == "rolling":
        return to_utc_text(now - dt.timedelta(hours=24))
    return to_utc_text(_midnight(competition, now, days=0))


def split_times(
    competition: Competition, now: dt.datetime, times: Sequence[str]
) -> tuple[list[str], int]:
    """Of the submissions since `window_start`: the times in the window, and how many are of a later
    one."""
    end = (
        now + CLOCK_SLACK
        if competition.quota_window == "rolling"
        else _midnight(competition, now, days=1)
    )
    counted = [time for time in times if time < to_utc_text(end)]
    return counted, len(times) - len(counted)


def check_clock(now: dt.datetime, times: Sequence[str]) -> None:
    """Raise RefusedError when the ledger shows that this machine's clock, which tells `now`, is
    behind.

    Texts of imported tables that are no times of the ledger's form say nothing.
    """
    newest = max((time for time in times if _UTC_TEXT.fullmatch(time)), default="")
    if newest > to_utc_text(now + CLOCK_SLACK):
        raise RefusedError(
            f"the clock of this machine is behind: it says {to_utc_text(now)}, the newest"
            f" submission is of {newest}",
            hint=(
                "set it; if that submission's clock was wrong, tracker note N --rejected TEXT takes"
                " it from the quota"
            ),
        )


def build_quota(competition: Competition, now: dt.datetime, times: Sequence[str]) -> Quota:
    """The quota at `now`, given the times of the submissions in its window."""
    limit = competition.daily_limit
    resets = None
    if limit and competition.quota_window == "day":
        resets = to_utc_text(_midnight(competition, now, days=1))
    elif limit and len(times) >= limit:
        resets = to_utc_text(from_utc_text(times[len(times) - limit]) + dt.timedelta(hours=24))
    return Quota(
        used=len(times),
        limit=limit,
        left=max(0, limit - len(times)) if limit else None,
        resets_at=resets,
        deadline=to_utc_text(competition.deadline) if competition.deadline else None,
    )


def check_quota(
    competition: Competition, now: dt.datetime, times: Sequence[str], *, later: int = 0
) -> Quota:
    """The quota at `now`; raises RefusedError when it is spent or the deadline has passed.

    `later`: submissions beyond the window's end, which are not counted; the message tells them.
    """
    quota = build_quota(competition, now, times)
    if competition.deadline and now >= competition.deadline:
        raise RefusedError(
            f"the deadline passed at {_render(competition, quota.deadline)}",
            hint="nothing was sent",
        )
    if quota.left == 0:
        free = (
            f"the next is free at {_render(competition, quota.resets_at)}"
            if quota.resets_at
            else ""
        )
        uncounted = f" ({later} more lie in the future: a clock was wrong)" if later else ""
        spent = (
            f"all {quota.limit} submissions of today are"
            if quota.limit > 1
            else "the one submission of today is"
        )
        raise RefusedError(f"{spent} spent{uncounted}", hint=free)
    return quota


def _render(competition: Competition, moment: str | None) -> str:
    return f"{competition.local_time(moment)} ({competition.time_zone})"


def _midnight(competition: Competition, now: dt.datetime, *, days: int) -> dt.datetime:
    zone = zoneinfo.ZoneInfo(competition.time_zone)
    day = now.astimezone(zone).date() + dt.timedelta(days=days)
    return dt.datetime.combine(day, dt.time(), tzinfo=zone)


def render_quota(quota: Quota, competition: Competition) -> str:
    """What is left to submit, in one line."""
    until = (
        f", deadline {competition.local_time(quota.deadline)} ({competition.time_zone})"
        if quota.deadline
        else ""
    )
    if quota.left is None:
        return f"no daily limit, {quota.used} submitted today{until}"
    return f"{quota.left} of {quota.limit} submissions left{until}"
