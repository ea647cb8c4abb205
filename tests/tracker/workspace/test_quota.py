"""The daily limit and the deadline in the competition's own time zone."""

from __future__ import annotations

import datetime as dt
import zoneinfo
from dataclasses import replace

import pytest

from tracker.comparison.audit import find_day
from tracker.core.clock import to_utc_text
from tracker.core.errors import RefusedError
from tracker.workspace.quota import build_quota, check_clock, check_quota, split_times, window_start
from tracker.workspace.tracker_toml import Competition

SEOUL = Competition(name="c", classes=("a", "b"), daily_limit=2, time_zone="Asia/Seoul")
ROLLING = Competition(name="c", classes=("a", "b"), daily_limit=2, quota_window="rolling")


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("now", "start"),
    [
        ("2022-02-28T14:59:59", "2022-02-27T15:00:00.000000Z"),
        ("2022-02-28T15:00:00", "2022-02-28T15:00:00.000000Z"),
    ],
)
def test_a_day_begins_at_midnight_of_the_competition(now: str, start: str) -> None:
    assert window_start(SEOUL, utc(now)) == start


def test_a_day_of_a_clock_change_has_its_own_length() -> None:
    berlin = Competition(name="c", classes=("a", "b"), daily_limit=1, time_zone="Europe/Berlin")
    now = utc("2026-10-25T12:00:00")  # 25 hours long
    start = dt.datetime.fromisoformat(window_start(berlin, now))
    resets = build_quota(berlin, now, []).resets_at
    assert resets is not None
    assert dt.datetime.fromisoformat(resets) - start == dt.timedelta(hours=25)


def test_a_rolling_window_frees_one_24_hours_after_it_was_spent() -> None:
    times = [to_utc_text(utc(text)) for text in ("2022-02-28T01:00:00", "2022-02-28T05:00:00")]
    now = utc("2022-02-28T06:00:00")
    assert window_start(ROLLING, now) == "2022-02-27T06:00:00.000000Z"
    quota = build_quota(ROLLING, now, times)
    assert (quota.left, quota.resets_at) == (0, "2022-03-01T01:00:00.000000Z")
    assert build_quota(ROLLING, now, times[1:]).left == 1


def test_a_spent_quota_says_when_the_next_is_free() -> None:
    with pytest.raises(RefusedError, match="all 2") as caught:
        check_quota(SEOUL, utc("2022-02-28T14:00:00"), ["x", "y"])
    assert str(caught.value).endswith("; the next one is possible at 2022-03-01 00:00 (Asia/Seoul)")
    assert caught.value.hint == ""  # there is nothing to try


def test_nothing_is_promised_after_the_deadline() -> None:
    for first, deadline, frees_none in (
        (SEOUL, "2022-02-28T14:59:00", True),
        (SEOUL, "2022-02-28T15:00:00", True),  # at the deadline itself it is refused
        (SEOUL, "2022-02-28T15:00:01", False),
        (ROLLING, "2022-03-01T00:00:00", True),
        (ROLLING, "2022-03-01T02:00:00", False),
    ):
        competition = replace(first, deadline=utc(deadline))
        spent = ["2022-02-28T01:00:00.000000Z", "2022-02-28T13:00:00.000000Z"]
        with pytest.raises(RefusedError) as caught:
            check_quota(competition, utc("2022-02-28T14:00:00"), spent)
        assert ("none is left before the deadline" in str(caught.value)) == frees_none
        assert ("the next one is possible at" in str(caught.value)) != frees_none


def test_a_window_ends() -> None:
    now = utc("2022-02-28T14:00:00")
    times = ["2022-02-28T14:59:59.000000Z", "2022-02-28T15:00:00.000000Z"]
    assert split_times(SEOUL, now, times) == (times[:1], 1)
    assert split_times(ROLLING, now, times) == ([], 2)
    assert (
        split_times(ROLLING, now, ["2022-02-28T14:04:00.000000Z"])[1] == 0
    )  # clocks differ a little


def test_a_clock_may_be_five_minutes_behind_the_ledger() -> None:
    now = utc("2022-02-28T14:00:00")
    check_clock(now, ["2022-02-28T14:05:00.000000Z", "some time in March"])
    with pytest.raises(RefusedError, match="behind"):
        check_clock(now, ["2022-02-28T14:05:00.000001Z"])


def test_no_limit_leaves_any_number() -> None:
    free = Competition(name="c", classes=("a", "b"))
    assert check_quota(free, utc("2022-02-28T14:00:00"), ["x"] * 1000).left is None


def test_the_deadline_counts_to_the_second_in_the_competitions_zone() -> None:
    deadline = dt.datetime(2022, 3, 3, 19, 0, tzinfo=zoneinfo.ZoneInfo("Asia/Seoul"))
    due = Competition(name="c", classes=("a", "b"), time_zone="Asia/Seoul", deadline=deadline)
    assert (
        check_quota(due, utc("2022-03-03T09:59:59"), []).deadline == "2022-03-03T10:00:00.000000Z"
    )
    with pytest.raises(
        RefusedError, match=r"the deadline passed at 2022-03-03 19:00 \(Asia/Seoul\)"
    ):
        check_quota(due, utc("2022-03-03T10:00:00"), [])


def test_days_of_the_audit_are_those_of_the_quota() -> None:
    """15:30 in UTC is half past midnight of the next day in Seoul."""
    for zone, day in (("Asia/Seoul", "2026-03-02"), ("UTC", "2026-03-01")):
        competition = replace(SEOUL, time_zone=zone)
        assert find_day(competition, "2026-03-01T15:30:00.000000Z") == day
        midnight = dt.datetime.fromisoformat(day).replace(tzinfo=zoneinfo.ZoneInfo(zone))
        assert window_start(competition, utc("2026-03-01T15:30")) == to_utc_text(midnight)
    assert find_day(SEOUL, None) == "unknown"
