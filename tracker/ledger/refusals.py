"""The rules by which the ledger refuses a submission, each in one place.

They are checked when a candidate is examined, and again under the writers' lock.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from tracker.core.errors import DuplicateError, RefusedError
from tracker.ledger.connection import Query
from tracker.ledger.read import (
    QUOTA_QUERY,
    SERVER_CLOCK,
    UNFINGERPRINTED_QUERY,
    find_unfingerprinted,
)
from tracker.ledger.records import REJECTED
from tracker.ledger.shared_settings import apply_team_limit
from tracker.ledger.team_runs import name_runs
from tracker.workspace.metrics import render_score_command
from tracker.workspace.quota import check_clock, check_quota, split_times, window_start
from tracker.workspace.tracker_toml import Competition


class QuotaWindow(NamedTuple):
    """The time now, the UTC times of the submissions that count, and the refusal of one more.

    `refusal` is None when one more is allowed; `competition` has the limit that counts.
    """

    now: dt.datetime
    times: Sequence[str]
    refusal: RefusedError | None
    competition: Competition


def find_duplicate_refusal(
    query: Query, competition: Competition, fingerprint: str, runs_dir: Path
) -> DuplicateError | None:
    """The refusal of predictions that were sent before; None when nobody has sent them.

    It names the run as people of the workspace with `runs_dir` do.
    """
    columns = f"s.number, s.run, s.run_uid, s.memo, {REJECTED} AS rejected"
    select = f"SELECT {columns} FROM submissions s WHERE "
    rows = query(f"{select}s.predictions_fingerprint = :fingerprint", {"fingerprint": fingerprint})
    if not rows:
        number = find_unfingerprinted(query(UNFINGERPRINTED_QUERY, {}), fingerprint)
        rows = [] if number is None else query(f"{select}s.number = :number", {"number": number})
    if not rows:
        return None
    row, hint = rows[0], ""
    (run,) = name_runs(runs_dir, query, rows[:1])
    who = ": ".join(filter(None, [run, row["memo"]]))
    message = f"the same predictions are submission {row['number']} ({who})"
    if row["rejected"]:
        message = f"{message}, which the leaderboard rejected"
        hint = (
            "send corrected predictions; where the leaderboard took the file after all,"
            f" {render_score_command(competition, row['number'])} makes it count"
        )
    return DuplicateError(message, number=row["number"], rejected=bool(row["rejected"]), hint=hint)


def read_quota_window(query: Query, competition: Competition, *, on_server: bool) -> QuotaWindow:
    """Quota and deadline now, by the clock of the ledger's server, or of this machine.

    Of two daily limits, the team's and this workspace's, the stricter one counts.
    """
    competition = apply_team_limit(query, competition, on_server=on_server)
    now = dt.datetime.now(dt.UTC)
    if on_server:
        now = query(SERVER_CLOCK, {})[0]["now"].astimezone(dt.UTC)
    rows = query(QUOTA_QUERY, {"since": window_start(competition, now)})
    submitted = [row["submitted_at"] for row in rows]
    times, later = split_times(competition, now, submitted)
    refusal = None
    try:
        if not on_server:
            check_clock(now, submitted)
        check_quota(competition, now, times, later=later)
    except RefusedError as error:
        refusal = error
    return QuotaWindow(now=now, times=times, refusal=refusal, competition=competition)
