"""The events of the ledger's rows, of the quota that they use up, and of the deadline."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.events.event import Event
from tracker.ledger.connection import Query, Row, one_moment, open_reader
from tracker.ledger.read import has_server, list_counted_times, list_sota_numbers
from tracker.ledger.shared_settings import apply_team_limit
from tracker.ledger.team_runs import is_at_home, name_runs
from tracker.workspace.metrics import find_declared
from tracker.workspace.quota import build_quota, render_quota, window_start
from tracker.workspace.tracker_toml import Competition, Workspace

DEADLINE_HOURS = (24, 3, 1, 0)  # how long before the deadline it is told
TOGETHER = dt.timedelta(seconds=5)
_SUBMITTED = (
    "SELECT number, run, run_uid, memo, author, submitted_at AS time FROM submissions WHERE"
    " submitted_at >= :since ORDER BY seq"
)
# The newest row of each run; times are texts that sort.
_ENDED = (
    "SELECT r.uid, r.name, r.status, r.host, r.finished_at AS time FROM (SELECT max(seq) AS seq"
    " FROM runs GROUP BY uid) n JOIN runs r ON r.seq = n.seq WHERE r.finished_at >= :since"
    " ORDER BY r.seq DESC"
)
_CONCERNED = (
    "SELECT DISTINCT run_uid AS uid, run AS name FROM submissions WHERE submitted_at >= :since OR"
    " number IN (SELECT submission FROM scores WHERE scored_at >= :since UNION SELECT submission"
    " FROM notes WHERE noted_at >= :since)"
)
_SCORED = (
    "SELECT c.submission, s.run, s.run_uid, c.split, c.metric, c.value, c.scored_at AS time,"
    " c.author FROM scores c JOIN submissions s ON s.number = c.submission WHERE"
    " c.scored_at >= :since ORDER BY c.seq"
)
_REJECTED = (
    "SELECT n.submission, s.run, s.run_uid, n.text, n.author, n.noted_at AS time FROM notes n JOIN"
    " submissions s ON s.number = n.submission WHERE n.kind = 'rejected' AND n.noted_at >= :since"
    " ORDER BY n.seq"
)
_FIRST_PUBLIC = (
    "SELECT c.submission, c.value, c.scored_at AS time, s.run, s.run_uid FROM scores c JOIN"
    " submissions s ON s.number = c.submission WHERE c.split = 'public' AND c.metric = :metric AND"
    " c.scored_at >= :since ORDER BY c.seq"
)


def list_ledger_events(workspace: Workspace, since: dt.datetime) -> Iterator[Event]:
    """The events of the ledger from `since` on, in no order; raises LedgerError, StorageError.

    Runs of this workspace tell their own events, so only teammates' runs are taken from its index.
    """
    known = {"since": to_utc_text(since)}
    with one_moment(workspace.ledger_url), open_reader(workspace.ledger_url) as query:
        ended = query(_ENDED, known)
        sent = query(_CONCERNED, known)
        names = _name_all(workspace, query, [*ended, *sent])
        events = [*_list_submitted(query, known, names)]
        events += _list_scored(workspace.competition, query, known, names)
        events += _list_sota(workspace, known, names)
    yield from events
    for row in ended:
        run, time = names.get(row["uid"]), _parse(row["time"])
        if time and run and not is_at_home(workspace, row["name"], row["uid"]):
            text = f"{run} {row['status']} on {row['host']}"
            yield Event(time=time, kind=row["status"], run=run, submission=None, text=text)


def _name_all(workspace: Workspace, query: Query, rows: Sequence[Row]) -> dict[str, str]:
    """{uid: name for people} of runs."""
    runs = {row["uid"]: row["name"] for row in rows if row["uid"]}
    asked = [{"run": name, "run_uid": uid} for uid, name in runs.items()]
    named = name_runs(workspace.runs_dir, query, asked)
    return {uid: name for uid, name in zip(runs, named, strict=True) if name}


def _parse(time: str | None) -> dt.datetime | None:
    """The time of a row; None where an imported table had none, or another form."""
    with suppress(ValueError):
        return from_utc_text(time or "")
    return None


def _build(
    row: Row, kind: str, text: str, names: Mapping[str, str], values: dict[str, Any]
) -> Iterator[Event]:
    time = _parse(row["time"])
    if time is not None:
        number = row.get("number") or row.get("submission")
        run = names.get(row["run_uid"] or "") or row["run"] or ""
        yield Event(time=time, kind=kind, run=run, submission=number, text=text, values=values)


def _list_submitted(
    query: Query, known: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Event]:
    for row in query(_SUBMITTED, known):
        run = names.get(row["run_uid"] or "") or row["run"]
        who = f" by {row['author']}" if row["author"] else ""
        of = f" ({run})" if run else ""
        text = f"s{row['number']}{of} submitted{who}: {row['memo']}"
        yield from _build(
            row, "submitted", text, names, {"memo": row["memo"], "author": row["author"]}
        )
    for row in query(_REJECTED, known):
        text = f"s{row['submission']} rejected by the leaderboard: {row['text']}"
        yield from _build(row, "rejected", text, names, {"author": row["author"]})


def _list_scored(
    competition: Competition, query: Query, known: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Event]:
    """One event for the scores of a submission that were recorded together."""
    groups: list[list[Row]] = []
    for row in query(_SCORED, known):
        if groups and _is_together(groups[-1][-1], row):
            groups[-1].append(row)
        else:
            groups.append([row])
    for rows in groups:
        parts = [f"{row['split']} {_render_score(competition, row)}" for row in rows]
        values = {f"{row['split']}_{row['metric']}": row["value"] for row in rows}
        text = f"s{rows[0]['submission']} scored: {', '.join(parts)}"
        yield from _build(rows[0], "scored", text, names, values)


def _is_together(earlier: Row, later: Row) -> bool:
    """Whether two scores are of one submission, and of one command: each row has its own time."""
    times = [_parse(row["time"]) for row in (earlier, later)]
    if earlier["submission"] != later["submission"] or times[0] is None or times[1] is None:
        return False
    return abs(times[1] - times[0]) <= TOGETHER


def _render_score(competition: Competition, row: Row) -> str:
    metric = find_declared(competition, row["metric"])
    return f"{row['metric']} {metric.render(row['value']) if metric else row['value']}"


def _list_sota(
    workspace: Workspace, known: Mapping[str, Any], names: Mapping[str, str]
) -> Iterator[Event]:
    """An event for each submission that was SOTA when it was scored."""
    primary = workspace.competition.primary
    with open_reader(workspace.ledger_url) as query:
        rows = query(_FIRST_PUBLIC, {**known, "metric": primary.name})
    if not rows:
        return
    first = min(row["submission"] for row in rows)
    chain = set(list_sota_numbers(workspace, since=first))
    for row in rows:
        if row["submission"] in chain:
            chain.remove(row["submission"])  # a correction later is not a second SOTA
            value = primary.render(row["value"])
            run = names.get(row["run_uid"] or "") or row["run"]
            of = f" ({run})" if run else ""
            text = f"s{row['submission']}{of} is the new SOTA: public {primary.name} {value}"
            values = {f"public_{primary.name}": row["value"]}
            yield from _build(row, "sota", text, names, values)


def list_quota_events(workspace: Workspace, since: dt.datetime) -> Iterator[Event]:
    """An event when one submission of a day or window is left, and when none is."""
    with open_reader(workspace.ledger_url) as query:
        competition = apply_team_limit(
            query, workspace.competition, on_server=has_server(workspace)
        )
    if not competition.daily_limit:
        return
    texts = list_counted_times(workspace, to_utc_text(since - dt.timedelta(days=2)))
    for index, text in enumerate(texts):
        moment = _parse(text)
        if moment is None or moment < since:
            continue
        start = window_start(competition, moment)
        quota = build_quota(competition, moment, [t for t in texts[: index + 1] if t >= start])
        if quota.left in (0, 1):
            yield Event(
                time=moment,
                kind="quota",
                run="",
                submission=None,
                text=render_quota(quota, workspace.competition),
                values={"left": quota.left, "limit": quota.limit, "resets_at": quota.resets_at},
            )


def list_deadline_events(
    competition: Competition, since: dt.datetime, now: dt.datetime
) -> Iterator[Event]:
    """An event 24, 3 and 1 hours before the deadline, and one when it has passed."""
    deadline = competition.deadline
    if deadline is None:
        return
    at = f"{competition.local_time(to_utc_text(deadline))} ({competition.time_zone})"
    for hours in DEADLINE_HOURS:
        moment = deadline.astimezone(dt.UTC) - dt.timedelta(hours=hours)
        text = f"the deadline has passed: {at}"
        if hours:
            text = f"{hours} hour{'s' if hours > 1 else ''} to the deadline: {at}"
        if since <= moment <= now:
            yield Event(
                time=moment,
                kind="deadline",
                run="",
                submission=None,
                text=text,
                values={"hours_left": hours},
            )
