"""What the ledger holds: portable SQL, on the read-only connection of connection.py."""

from __future__ import annotations

import datetime as dt
import json
from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from tracker.core.config_diff import drop_same_places, list_unknown
from tracker.core.errors import UnknownRunError
from tracker.ledger.connection import Query, Row, open_reader, read_rows
from tracker.ledger.records import Note, Origin, Submission
from tracker.runs.read import load_run
from tracker.runs.record import RunRecord
from tracker.training.errors import TrackerError
from tracker.training.metrics import METRICS
from tracker.workspace.competition import Metric, Workspace
from tracker.workspace.metrics import COLUMNS
from tracker.workspace.predictions import unpack_answers

IN_LIST = 500  # values a query, below every database's limit
LARGEST = 2**31 - 1  # a submission's number in PostgreSQL

_COLUMNS = ", ".join(
    f"s.{name}"
    for name in Submission.__dataclass_fields__
    if name not in ("scores", "notes", "not_known")
)
_OF_SOTA = ", ".join(
    f"(SELECT b.{name} FROM submissions b WHERE b.number = s.sota) AS sota_{alias}"
    for name, alias in (("data_fingerprint", "data"), ("config", "config"))
)
_NOTES = (
    "SELECT submission, run_uid, kind, text, author, noted_at AS time FROM notes WHERE kind IN"
    " ('note', 'rejected')"
)
# The earliest submission that another repeats: one of both has unknown predictions (the ledger
# takes equal ones only once), and the newest scores that both have are two or more and all equal.
# `find_duplicates` says the same in Python.
_REPEATED = (
    "SELECT number, min(earlier) AS earlier FROM (SELECT a.submission AS number, b.submission AS"
    " earlier FROM latest_scores a JOIN submissions p ON p.number = a.submission JOIN latest_scores"
    " b ON b.split = a.split AND b.metric = a.metric AND b.value = a.value AND b.submission <"
    " a.submission JOIN submissions q ON q.number = b.submission WHERE"
    " (coalesce(p.predictions_fingerprint, '') = '' OR coalesce(q.predictions_fingerprint, '') ="
    " '') {among} GROUP BY a.submission, b.submission HAVING count(*) > 1) pairs WHERE NOT EXISTS"
    " (SELECT 1 FROM latest_scores x JOIN latest_scores y ON y.split = x.split AND y.metric ="
    " x.metric WHERE x.submission = number AND y.submission = earlier AND x.value <> y.value) GROUP"
    " BY number"
)


def list_submissions(
    workspace: Workspace, where: str = "", parameters: Mapping[str, Any] | None = None
) -> list[Submission]:
    """Submissions by number, with their newest scores; `where` is SQL of this module with `:name`
    parameters."""
    clause = f"WHERE submission IN (SELECT s.number FROM submissions s {where})" if where else ""
    scores: dict[int, dict[str, float]] = {}
    with open_reader(workspace.ledger_url) as query:
        rows = query(
            f"SELECT {_COLUMNS}, {_OF_SOTA} FROM submissions s {where} ORDER BY s.number",
            parameters or {},
        )
        sql = f"SELECT submission, split, metric, value FROM latest_scores {clause} ORDER BY seq"
        for row in query(sql, parameters or {}):
            scores.setdefault(row["submission"], {})[f"{row['split']}_{row['metric']}"] = row[
                "value"
            ]
        notes = _read_notes(query, where, parameters or {})
    by_number, by_run = _group_notes(notes)
    found = []
    for row in rows:
        remarks = [*by_number.get(row["number"], ()), *by_run.get(row["run_uid"], ())]
        found.append(
            _build(row, scores.get(row["number"], {}), sorted(remarks, key=lambda note: note.time))
        )
    return found


def list_newest_submissions(workspace: Workspace, limit: int) -> list[Submission]:
    """The last `limit` submissions by number, all of them when it is 0."""
    if not limit:
        return list_submissions(workspace)
    where = "WHERE s.number IN (SELECT number FROM submissions ORDER BY number DESC LIMIT :limit)"
    return list_submissions(workspace, where, {"limit": min(limit, LARGEST)})


def list_numbers(workspace: Workspace) -> list[int]:
    """The numbers of all submissions, in order."""
    return [
        row["number"]
        for row in read_rows(workspace.ledger_url, "SELECT number FROM submissions ORDER BY number")
    ]


def list_unscored(workspace: Workspace) -> list[Submission]:
    """The submissions without any public score."""
    scored = "SELECT 1 FROM scores c WHERE c.submission = s.number AND c.split = 'public'"
    return list_submissions(workspace, f"WHERE NOT EXISTS ({scored})")


def list_repeated(workspace: Workspace, numbers: Collection[int] | None = None) -> dict[int, int]:
    """{number: the earlier one that it repeats} of those of the submissions `numbers`, or of all,
    that repeat one.

    The database finds them by its index of scores, so nobody reads every submission.
    """
    parts = [("", {})] if numbers is None else _split_list(numbers, "AND a.submission IN")
    with open_reader(workspace.ledger_url) as query:
        rows = [
            row for among, known in parts for row in query(_REPEATED.format(among=among), known)
        ]
    return {
        row["number"]: row["earlier"] for row in sorted(rows, key=lambda row: int(row["number"]))
    }


def list_ranks(
    workspace: Workspace, name: str, numbers: Collection[int], *, higher_is_better: bool
) -> dict[int, int]:
    """{number: place among all} of those of the submissions that have a score like `public_f1`;
    equal ones share it."""
    split, _, metric = name.partition("_")
    scored = {"split": split, "metric": metric}
    which = "split = :split AND metric = :metric"
    own: dict[int, float] = {}
    with open_reader(workspace.ledger_url) as query:
        for among, known in _split_list(numbers, "submission IN"):
            sql = f"SELECT submission, value FROM latest_scores WHERE {which} AND {among}"
            own |= {row["submission"]: row["value"] for row in query(sql, {**scored, **known})}
        # every value ever told, less those that were corrected: an index has them, the newest alone
        # none has
        values = (
            [row["value"] for row in query(f"SELECT value FROM scores WHERE {which}", scored)]
            if own
            else []
        )
        replaced = _list_replaced(query, split, metric) if own else []
    sign = -1 if higher_is_better else 1
    every, old = (
        sorted(sign * value for value in values),
        sorted(sign * value for value in replaced),
    )
    return {
        number: bisect_left(every, sign * v) - bisect_left(old, sign * v) + 1
        for number, v in own.items()
    }


def _list_replaced(query: Query, split: str, metric: str) -> list[float]:
    """The values of a score that a newer one corrects."""
    several = (
        "SELECT submission, split, metric FROM scores GROUP BY submission, split, metric HAVING"
        " count(*) > 1"
    )
    groups = query(
        several, {}
    )  # all of them, in the order of an index: choosing one metric first takes longer
    numbers = [
        row["submission"] for row in groups if (row["split"], row["metric"]) == (split, metric)
    ]
    newer = (
        "SELECT 1 FROM scores t WHERE t.submission = s.submission AND t.split = s.split AND"
        " t.metric = s.metric AND t.seq > s.seq"
    )
    found: list[float] = []
    for among, known in _split_list(numbers, "s.submission IN"):
        sql = (
            f"SELECT s.value FROM scores s WHERE {among} AND s.split = :split AND s.metric ="
            " :metric"
        )
        rows = query(f"{sql} AND EXISTS ({newer})", {**known, "split": split, "metric": metric})
        found += [row["value"] for row in rows]
    return found


def find_origin(query: Query, number: int) -> Origin | None:
    """Where submission `number` came from, None where there is none."""
    if number > LARGEST:
        return None
    rows = query(
        "SELECT number, run, run_uid, sota FROM submissions WHERE number = :number",
        {"number": number},
    )
    return Origin(**rows[0]) if rows else None


def _split_list(values: Collection[Any], before: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """SQL like `before (:in0, :in1)` and its parameters, of as many values at a time as every
    database takes."""
    every = list(values)
    for start in range(0, len(every), IN_LIST):
        known = {f"in{place}": value for place, value in enumerate(every[start : start + IN_LIST])}
        yield f"{before} ({', '.join(f':{name}' for name in known)})", known


def _read_notes(query: Query, where: str, parameters: Mapping[str, Any]) -> list[Note]:
    """The remarks on the submissions that `where` chooses and on their runs, all of them without
    it; oldest first."""
    if not where:
        return [Note(**row) for row in query(f"{_NOTES} ORDER BY seq", {})]
    chosen = f"FROM submissions s {where}"
    clause = f"submission IN (SELECT s.number {chosen}) OR run_uid IN (SELECT s.run_uid {chosen})"
    return [Note(**row) for row in query(f"{_NOTES} AND ({clause}) ORDER BY seq", parameters)]


def _group_notes(notes: Sequence[Note]) -> tuple[dict[int, list[Note]], dict[str, list[Note]]]:
    """Remarks by submission, and those on whole runs by uid."""
    by_number: dict[int, list[Note]] = {}
    by_run: dict[str, list[Note]] = {}
    for note in notes:
        if note.submission is not None:
            by_number.setdefault(note.submission, []).append(note)
        elif note.run_uid is not None:
            by_run.setdefault(note.run_uid, []).append(note)
    return by_number, by_run


def _build(row: Row, scores: Mapping[str, float], notes: Sequence[Note]) -> Submission:
    """A submission; its diff without what an earlier version counted as a change and is none."""
    columns = dict(row)
    data = (columns.pop("sota_data"), row["data_fingerprint"])
    before, config = columns.pop("sota_config"), json.loads(row["config"])
    diff, not_known = None, []
    if row["config_diff"] is not None:
        not_known = list_unknown(
            json.loads(before or "{}"), config, recorded=row["run_uid"] is not None
        )
        stored = {
            key: pair
            for key, pair in json.loads(row["config_diff"]).items()
            if key not in not_known
        }
        diff = drop_same_places(stored, data=data)
    parsed = {"config": config, "config_diff": diff}
    return Submission(**{**columns, **parsed}, scores=scores, notes=notes, not_known=not_known)


def list_notes(workspace: Workspace, uids: Collection[str]) -> dict[str, list[Note]]:
    """The remarks on each of these runs by its uid, those on its submissions included, oldest
    first."""
    found: dict[str, list[Note]] = {}
    with open_reader(workspace.ledger_url) as query:
        for which, known in _split_list(uids, "IN"):
            own = query(f"{_NOTES} AND submission IS NULL AND run_uid {which} ORDER BY seq", known)
            found |= _group_notes([Note(**row) for row in own])[1]
            owners_sql = f"SELECT number, run_uid FROM submissions s WHERE s.run_uid {which}"
            owners = {row["number"]: row["run_uid"] for row in query(owners_sql, known)}
            sent = (
                f"{_NOTES} AND submission IN (SELECT number FROM submissions WHERE run_uid {which})"
                " ORDER BY seq"
            )
            for row in query(sent, known):
                found.setdefault(owners[row["submission"]], []).append(Note(**row))
    return {uid: sorted(notes, key=lambda note: note.time) for uid, notes in found.items()}


def list_submissions_of(workspace: Workspace, record: RunRecord) -> list[Submission]:
    """The submissions of a run."""
    return list_submissions(workspace, "WHERE s.run_uid = :uid", {"uid": record.uid})


def list_newest_of_runs(workspace: Workspace, uids: Sequence[str]) -> dict[str, Submission]:
    """The newest submission of each of these runs that has one, by the run's uid."""
    found: dict[str, Submission] = {}
    for where, known in _split_list(uids, "WHERE s.run_uid IN"):
        found |= {str(row.run_uid): row for row in list_submissions(workspace, where, known)}
    return found


def list_run_numbers_submitted(workspace: Workspace, uids: Collection[str]) -> dict[str, int]:
    """The newest submission number of each of these runs that has one, by the run's uid."""
    found: dict[str, int] = {}
    with open_reader(workspace.ledger_url) as query:
        for where, known in _split_list(uids, "WHERE run_uid IN"):
            sql = f"SELECT run_uid, max(number) AS number FROM submissions {where} GROUP BY run_uid"
            found |= {row["run_uid"]: row["number"] for row in query(sql, known)}
    return found


def list_run_paths(workspace: Workspace) -> list[tuple[str, str]]:
    """(name, folder) of every run in the index, also of teammates' workspaces."""
    rows = read_rows(
        workspace.ledger_url, "SELECT DISTINCT name, path FROM runs ORDER BY name, path"
    )
    return [(row["name"], row["path"]) for row in rows]


def get_submission(workspace: Workspace, number: int) -> Submission:
    """Submission `number`; raises UnknownRunError."""
    known = abs(number) <= LARGEST
    found = (
        list_submissions(workspace, "WHERE s.number = :number", {"number": number}) if known else []
    )
    if not found:
        raise UnknownRunError(f"no submission {number}", hint="tracker leaderboard lists them")
    return found[0]


def find_duplicate(workspace: Workspace, fingerprint: str) -> Submission | None:
    """The submission that sent these predictions before."""
    number = find_unnamed(read_rows(workspace.ledger_url, UNNAMED_QUERY), fingerprint)
    where = "WHERE s.predictions_fingerprint = :fingerprint OR s.number = :number"
    found = list_submissions(workspace, where, {"fingerprint": fingerprint, "number": number or 0})
    return found[0] if found else None


UNNAMED_QUERY = (
    "SELECT number, answers FROM submissions WHERE predictions_fingerprint IS NULL AND answers IS"
    " NOT NULL"
)


def find_unnamed(rows: Sequence[Mapping[str, Any]], fingerprint: str) -> int | None:
    """The number among rows of UNNAMED_QUERY, imported without a fingerprint, whose answers have
    this one."""
    equal = [
        row["number"] for row in rows if unpack_answers(row["answers"]).fingerprint == fingerprint
    ]
    return min(equal, default=None)


def sota_query(primary: Metric, *, before: bool = False) -> str:
    """SQL for number and value of the submission with the best public score; ties go to the earlier
    one.

    With `before`, only submissions below `:number` count. The index on scores is walked from its
    best end.
    """
    order = "DESC" if primary.higher_is_better else "ASC"
    return (
        "SELECT s.submission, s.value FROM scores s WHERE s.split = 'public' AND s.metric ="
        " :metric "
        + ("AND s.submission < :number " if before else "")
        + "AND NOT EXISTS (SELECT 1 FROM scores t WHERE t.submission = s.submission AND t.split ="
        f" s.split AND t.metric = s.metric AND t.seq > s.seq) ORDER BY s.value {order},"
        " s.submission LIMIT 1"
    )


def find_sota(workspace: Workspace) -> Submission | None:
    """The best submission so far, or None when nothing was scored."""
    primary = workspace.competition.primary
    rows = read_rows(workspace.ledger_url, sota_query(primary), {"metric": primary.name})
    return get_submission(workspace, rows[0]["submission"]) if rows else None


def list_sota_numbers(workspace: Workspace, *, since: int = 0) -> list[int]:
    """Numbers, from `since` on, of the submissions that beat all earlier ones, in order."""
    primary = workspace.competition.primary
    # a list of submissions lets SQLite use the index by submission, a bare >= the one by value
    later = (
        "AND submission IN (SELECT number FROM submissions WHERE number >= :number) "
        if since
        else ""
    )
    sql = (
        "SELECT submission, value FROM latest_scores WHERE split = 'public' AND metric = :metric "
        f"{later}ORDER BY submission"
    )
    with open_reader(workspace.ledger_url) as query:
        known = {"metric": primary.name, "number": since}
        best = [row["value"] for row in query(sota_query(primary, before=True), known)]
        found = []
        for row in query(sql, known):
            if not best or primary.is_better(row["value"], best[0]):
                best = [row["value"]]
                found.append(row["submission"])
    return found


def list_packed_answers(
    workspace: Workspace, numbers: Collection[int] | None = None
) -> list[tuple[int, str, str]]:
    """(number, run, packed answers) of those of the submissions `numbers`, or of all, whose answers
    are known."""
    found: list[tuple[int, str, str]] = []
    parts = [("", {})] if numbers is None else _split_list(sorted(numbers), "AND number IN")
    with open_reader(workspace.ledger_url) as query:
        for among, known in parts:
            sql = (
                f"SELECT number, run, answers FROM submissions WHERE answers IS NOT NULL {among}"
                " ORDER BY number"
            )
            found += [(row["number"], row["run"], row["answers"]) for row in query(sql, known)]
    return found


def list_twins(workspace: Workspace, weights: str, *, but: str) -> list[str]:
    """Other runs with these weights, of this workspace or a teammate's, with their submissions, as
    texts."""
    sql = (
        "SELECT r.name, r.author, s.number FROM runs r LEFT JOIN submissions s ON s.run_uid = r.uid"
        " WHERE r.weights_fingerprint = :weights AND r.uid <> :but ORDER BY r.seq"
    )
    rows = read_rows(workspace.ledger_url, sql, {"weights": weights, "but": but})
    texts = [
        f"{r['name']} of {r['author']}" + (f", submission {r['number']}" if r["number"] else "")
        for r in rows
    ]
    return list(dict.fromkeys(texts))


def get_packed_answers(workspace: Workspace, number: int) -> str | None:
    """The packed answers of a submission, None when they are not known."""
    sql = "SELECT answers FROM submissions WHERE number = :number"
    rows = read_rows(workspace.ledger_url, sql, {"number": number})
    return rows[0]["answers"] if rows else None


def list_noted(workspace: Workspace, kind: str) -> set[int]:
    """Numbers of the submissions that have a note of this kind."""
    sql = "SELECT DISTINCT submission FROM notes WHERE kind = :kind AND submission IS NOT NULL"
    return {row["submission"] for row in read_rows(workspace.ledger_url, sql, {"kind": kind})}


def list_imported_columns(workspace: Workspace) -> dict[int, dict[str, str]]:
    """{number: other columns} of the submissions that came from a hand-kept table."""
    sql = "SELECT submission, text FROM notes WHERE kind = 'imported' ORDER BY seq"
    return {
        row["submission"]: json.loads(row["text"]) for row in read_rows(workspace.ledger_url, sql)
    }


def count_since(workspace: Workspace, since: str) -> list[str]:
    """Times of the submissions since a UTC text that the leaderboard did not reject, oldest first."""
    rows = read_rows(workspace.ledger_url, QUOTA_QUERY, {"since": since})
    return [row["submitted_at"] for row in rows]


def has_server(workspace: Workspace) -> bool:
    """Whether the ledger is on a server, which then tells the time for all who submit."""
    return not workspace.ledger_url.startswith("sqlite:///")


def read_clock(workspace: Workspace) -> dt.datetime:
    """The time for quota and deadline: the server's, else this machine's."""
    if not has_server(workspace):
        return dt.datetime.now(dt.UTC)
    (row,) = read_rows(workspace.ledger_url, SERVER_CLOCK)
    return row["now"].astimezone(dt.UTC)  # type: ignore[no-any-return]


SERVER_CLOCK = "SELECT clock_timestamp() AS now"
QUOTA_QUERY = (
    "SELECT s.submitted_at FROM submissions s WHERE s.submitted_at >= :since AND NOT EXISTS (SELECT"
    " 1 FROM notes n WHERE n.submission = s.number AND n.kind = 'rejected') ORDER BY s.submitted_at"
)


def has_run(workspace: Workspace, row: Submission | Origin) -> bool:
    """Whether the run folder of a submission is in this workspace; a teammate's exp3 is not ours."""
    try:
        return row.run is not None and load_run(workspace.runs_dir, row.run).uid == row.run_uid
    except TrackerError:
        return False


def find_figure(workspace: Workspace, row: Submission, part: str, metric: str) -> float | None:
    """A submission's `val`, `public` or `private` value of a metric, None when it is not known."""
    if part != "val":
        return row.scores.get(f"{part}_{metric}")
    if metric in COLUMNS:
        figure: float | None = getattr(row, f"val_{metric}")
        return figure
    if row.run is None or not has_run(workspace, row):
        return None
    return load_run(workspace.runs_dir, row.run).summary.get(f"val/{metric}")


def list_validation(
    workspace: Workspace, rows: Sequence[Submission]
) -> dict[int, dict[str, float]]:
    """{number: {metric: value}}: the validation figures that are known, of the competition's
    metrics and of METRICS."""
    names = dict.fromkeys([*(metric.name for metric in workspace.competition.metrics), *METRICS])
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        figures = {name: find_figure(workspace, row, "val", name) for name in names}
        found[row.number] = {name: value for name, value in figures.items() if value is not None}
    return found
