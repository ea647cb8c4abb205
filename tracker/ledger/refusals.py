"""What the ledger refuses, each rule once: asked when a candidate is examined, and again under the
writers' lock."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass

from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.connection import Query
from tracker.ledger.read import (
    QUOTA_QUERY,
    SERVER_CLOCK,
    UNFINGERPRINTED_QUERY,
    find_unfingerprinted,
)
from tracker.workspace.competition import Competition
from tracker.workspace.quota import check_clock, check_quota, split_times, window_start


@dataclass(frozen=True, kw_only=True)
class QuotaWindow:
    """The time, UTC times of the submissions that count now, and why there may be no further one;
    None: there may."""

    now: dt.datetime
    times: Sequence[str]
    refusal: RefusedError | None


def find_duplicate_refusal(query: Query, fingerprint: str) -> DuplicateError | None:
    """Why predictions with this fingerprint must not be sent again; None when nobody has sent them."""
    select = "SELECT number, run, memo FROM submissions WHERE "
    rows = query(f"{select}predictions_fingerprint = :fingerprint", {"fingerprint": fingerprint})
    if not rows:
        number = find_unfingerprinted(query(UNFINGERPRINTED_QUERY, {}), fingerprint)
        rows = [] if number is None else query(f"{select}number = :number", {"number": number})
    if not rows:
        return None
    row = rows[0]
    message = f"the same predictions are submission {row['number']} ({row['run']}: {row['memo']})"
    return DuplicateError(message, number=row["number"])


def read_quota_window(query: Query, competition: Competition, *, on_server: bool) -> QuotaWindow:
    """The quota and the deadline by the clock of the server where there is one, else by this
    machine's."""
    now = (
        query(SERVER_CLOCK, {})[0]["now"].astimezone(dt.UTC)
        if on_server
        else dt.datetime.now(dt.UTC)
    )
    found = [
        row["submitted_at"] for row in query(QUOTA_QUERY, {"since": window_start(competition, now)})
    ]
    times, later = split_times(competition, now, found)
    refusal = None
    try:
        if not on_server:
            check_clock(now, found)
        check_quota(competition, now, times, later=later)
    except RefusedError as error:
        refusal = error
    return QuotaWindow(now=now, times=times, refusal=refusal)
