"""Time: always UTC and aware, and in one text form for files and ledger."""

from __future__ import annotations

import datetime as dt
import re

WRITTEN = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}Z")


def utc_now() -> str:
    """The current time as UTC text of fixed width: texts sort by time."""
    return to_utc_text(dt.datetime.now(dt.UTC))


def to_utc_text(moment: dt.datetime) -> str:
    """An aware time as `2026-11-24T02:11:46.123456Z`; raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("the time has no time zone")
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_utc_text(text: str) -> dt.datetime:
    """The inverse of `to_utc_text`; raises ValueError."""
    if WRITTEN.fullmatch(text):
        return dt.datetime.fromisoformat(text)  # strptime imports a calendar first, 1 ms
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=dt.UTC)


def find_zone(name: str) -> dt.tzinfo:
    """The time zone of this name; raises ValueError where this machine does not know it."""
    if name == "UTC":
        return dt.UTC
    import zoneinfo  # 2 ms, which the usual zone does not need

    try:
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, TypeError, OSError) as error:
        raise ValueError(f"no time zone {name}") from error
