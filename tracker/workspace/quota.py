"""The daily limit and the deadline, in the competition's time zone."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Sequence
from dataclasses import dataclass

from tracker.core.clock import find_zone, from_utc_text, to_utc_text
from tracker.core.errors import RefusedError
from tracker.workspace.tracker_toml import Competition

BEFORE_DEADLINE = " before the deadline"
CLOCK_SLACK = dt.timedelta(minutes=5)  # the clocks of two machines may differ by this

_UTC_TEXT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, kw_only=True)
class Quota:
    """Submissions used and left; `left` is None without a limit, `resets_at` is UTC text."""

    used: int
    limit: int
    left: int | None
    resets_at: str | None
    deadline: str | None

    @property
    def frees_none(self) -> bool:
        """Whether the deadline comes before a spent submission is free again."""
        return bool(self.deadline and self.resets_at and self.resets_at >= self.deadline)


def window_start(competition: Competition, now: dt.datetime) -> str:
    """The start of the quota window as UTC text: midnight in the time zone, or 24 hours ago."""
    if competition.quota_window == "rolling":
        return to_utc_text(now - dt.timedelta(hours=24))
    return to_utc_text(_midnight(competition, now, days=0))


def split_times(
    competition: Competition, now: dt.datetime, times: Sequence[str]
) -> tuple[list[str], int]:
    """(times in the window, number of times after it) of the submissions since its start."""
    end = _midnight(competition, now, days=1)
    if competition.quota_window == "rolling":
        end = now + CLOCK_SLACK
    counted = [time for time in times if time < to_utc_text(end)]
    return counted, len(times) - len(counted)


def check_clock(now: dt.datetime, times: Sequence[str]) -> None:
    """Raise RefusedError when a submission is later than `now`, the time of this machine's clock.

    Texts from imported tables that are not times in the ledger's form are ignored.
    """
    newest = max((time for time in times if _UTC_TEXT.fullmatch(time)), default="")
    if newest > to_utc_text(now + CLOCK_SLACK):
        raise RefusedError(
            f"the clock of this machine is behind: it shows {to_utc_text(now)}, but the newest"
            f" submission is from {newest}",
            hint=(
                "set the clock; if the clock of that submission was wrong, tracker note N"
                " --rejected TEXT removes it from the quota"
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
    """The quota at `now`; raises RefusedError when it is used up or the deadline has passed.

    `later`: the number of submissions after the window, for the message; they are not counted.
    """
    quota = build_quota(competition, now, times)
    if competition.deadline and now >= competition.deadline:
        raise RefusedError(
            f"the deadline passed at {_render(competition, quota.deadline)}:"
            " no more can be submitted"
        )
    if quota.left == 0:
        following = _describe_next(competition, quota)
        uncounted = f" ({later} more are in the future: a clock was wrong)" if later else ""
        subject = "the one submission of today is"
        if quota.limit > 1:
            subject = f"all {quota.limit} submissions of today are"
        raise RefusedError(f"{subject} spent{uncounted}{following}")
    return quota


def _describe_next(competition: Competition, quota: Quota) -> str:
    """When a spent quota is free again, unless the deadline comes first."""
    if not quota.resets_at:
        return ""
    if quota.frees_none:
        return f"; none is left{BEFORE_DEADLINE} at {_render(competition, quota.deadline)}"
    return f"; the next one is possible at {_render(competition, quota.resets_at)}"


def _render(competition: Competition, moment: str | None) -> str:
    return f"{competition.local_time(moment)} ({competition.time_zone})"


def _midnight(competition: Competition, now: dt.datetime, *, days: int) -> dt.datetime:
    zone = find_zone(competition.time_zone)
    day = now.astimezone(zone).date() + dt.timedelta(days=days)
    return dt.datetime.combine(day, dt.time(), tzinfo=zone)


def describe_limits(team: int, own: int) -> str:
    """That the team's daily limit counts, which is stricter than that of this workspace."""
    return f"the team's daily limit is {team}, yours {own or 'none'}: {team} counts"


def render_quota(quota: Quota, competition: Competition) -> str:
    """The submissions that are left, and the deadline, in one line.

    `competition` is this workspace's own: where the team's limit counts instead, it is said.
    """
    until = f", deadline {_render(competition, quota.deadline)}" if quota.deadline else ""
    if quota.left is None:
        return f"no daily limit, {quota.used} submitted today{until}"
    other = quota.limit != competition.daily_limit
    why = f" ({describe_limits(quota.limit, competition.daily_limit)})" if other else ""
    return f"{quota.left} of {quota.limit} submissions left{until}{why}"
