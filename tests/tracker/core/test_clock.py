"""Times as UTC text."""

from __future__ import annotations

import datetime as dt

import pytest

from tracker.core.clock import from_utc_text, to_utc_text


def test_a_time_is_read_as_it_was_written() -> None:
    moment = dt.datetime(2026, 11, 24, 2, 11, 46, 123456, tzinfo=dt.UTC)
    read = from_utc_text(to_utc_text(moment))
    assert (read, read.tzinfo) == (moment, dt.UTC)


def test_a_shorter_fraction_is_read_too() -> None:
    assert from_utc_text("2026-11-24T02:11:46.5Z").microsecond == 500_000


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-24",
        "2026-11-24T02:11:46.123456",
        "2026-11-24T02:11:46+09:00",
        "2026-11-24 02:11:46.123456Z",
        "2026-W48-2T02:11:46.123456Z",
        "2026-13-24T02:11:46.123456Z",
    ],
)
def test_any_other_text_is_an_error(text: str) -> None:
    with pytest.raises(ValueError):
        from_utc_text(text)
