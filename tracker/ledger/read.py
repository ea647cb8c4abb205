"""Reads the ledger: SQL for both databases, on the read-only connection of connection.py."""

from __future__ import annotations

import datetime as dt
from bisect import bisect_left
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tracker.core.config_diff import (
    diff_configs,
    drop_path_changes,
    is_own,
    list_unknown,
    translate,
)
from tracker.core.errors import UnknownRunError
from tracker.ledger.columns import MAX_INTEGER
from tracker.ledger.connection import (
    Query,
    Reader,
    Row,
    one_moment,
    open_reader,
    parse_column,
    read_rows,
)
from tracker.ledger.records import (
    REJECTED,
    Note,
    Origin,
    ScoredSubmission,
    SentFile,
    Submission,
)
from tracker.ledger.team_runs import find_run_by_uid, name_runs
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord, list_run_numbers, run_folder
from tracker.training.errors import ConfigError, DataError
from tracker.training.machine import host_name
from tracker.training.metrics import METRICS
from tracker.workspace.metrics import COLUMNS, find_declared
from tracker.workspace.tracker_toml import Competition, Metric, Workspace, parse_score

if TYPE_CHECKING:
    from tracker.workspace.predictions import Answers

PART = 5000  # submissions that are read at once
MANY_TEXTS = 5000  # different texts of configs that are kept parsed
MAX_IN_VALUES = 500  # values in one query; every database allows more

_DERIVED = (
    "scores",
    "notes",
    "not_known",
    "imported",
    "run_name",
)  # fields of Submission that are not columns
_FIELDS = [name for name in Submission._fields if name not in _DERIVED]
_COLUMNS = ", ".join(f"s.{name}" for name in _FIELDS)
_RUN_UID, _DATA, _CONFIG, _SOTA, _DIFF = (
    _FIELDS.index(name) for name in ("run_uid", "data_fingerprint", "config", "sota", "config_diff")
)
# the columns with few different texts, each of which is kept once
_SHARED = [
    _FIELDS.index(name)
    for name in ("config_fingerprint", "data_fingerprint", "code_fingerprint", "author", "host")
]
_NOTE_COLUMNS = ", ".join(
    "noted_at AS time" if name == "time" else name for name in Note.__dataclass_fields__
)
_NOTES = f"SELECT {_NOTE_COLUMNS} FROM notes WHERE kind IN ('note', 'rejected')"
# The ledger's row with which a submission got its first public score of a metric.
_FIRST_SCORED = (
    "(SELECT min(f.seq) FROM scores f WHERE f.submission = {scores}.submission AND"
    " f.split = 'public' AND f.metric = :metric)"
)
# in an index: of very many submissions `_REPEATED` takes half a minute
_ANY_UNFINGERPRINTED = (
    "SELECT number FROM submissions WHERE predictions_fingerprint IS NULL OR"
    " predictions_fingerprint = '' LIMIT 1"
)
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
    """Submissions in the order of their numbers, with their newest scores.

    `where` is SQL of this module with `:name` parameters.
    """
    known = parameters or {}
    clause = f"WHERE submission IN (SELECT s.number FROM submissions s {where})" if where else ""
    submissions: list[Submission] = []
    with open_reader(workspace.ledger_url) as query:
        scores = _read_scores(query, clause, known)
        by_number, by_run = _group_notes(_read_notes(query, where, known))
        imported = _read_imported(query, clause, known)
        sql = f"SELECT run, run_uid FROM submissions s {where} ORDER BY number"
        names = iter(name_runs(workspace.runs_dir, query, query(sql, known)))
        builder = _Builder(query)
        for rows in _read_parts(query, where, known):
            builder.learn_sota(row[_SOTA] for row in rows)
            for row, name in zip(rows, names, strict=False):
                number = row[0]
                notes = [*by_number.get(number, ()), *by_run.get(row[_RUN_UID], ())]
                if len(notes) > 1:
                    notes.sort(key=lambda note: note.time)
                others = (scores.get(number, {}), notes, imported.get(number, {}))
                submissions.append(builder.build(row, *others, name))
    return submissions


def _read_scores(
    query: Reader, clause: str, parameters: Mapping[str, Any]
) -> dict[int, dict[str, float]]:
    """{number: newest scores by `<split>_<metric>`}; `clause` selects the submissions."""
    scores: dict[int, dict[str, float]] = {}
    names: dict[tuple[str, str], str] = {}
    sql = f"SELECT submission, split, metric, value FROM latest_scores {clause} ORDER BY seq"
    for number, split, metric, value in query.list_tuples(sql, parameters):
        name = names.get((split, metric))
        if name is None:
            name = names[split, metric] = f"{split}_{metric}"
        scores.setdefault(number, {})[name] = value
    return scores


def _read_imported(
    query: Query, clause: str, parameters: Mapping[str, Any]
) -> dict[int, dict[str, str]]:
    """{number: further columns of an imported row}, where one may be a validation metric."""
    also = f"AND {clause.removeprefix('WHERE ')}" if clause else ""
    sql = "SELECT submission, text FROM notes WHERE kind = 'imported' AND text LIKE :val"
    found = query(f"{sql} {also}", {**parameters, "val": '%"val%'})
    return {row["submission"]: parse_column(row["text"]) for row in found}


def iterate_submissions(workspace: Workspace) -> Iterator[Submission]:
    """All submissions in the order of their numbers, some in memory at a time.

    Without notes and without the names for people of their runs.
    """
    with open_reader(workspace.ledger_url) as query:
        builder = _Builder(query)
        for rows in _read_parts(query, "", {}):
            known = {"first": rows[0][0], "last": rows[-1][0]}
            among = "WHERE submission BETWEEN :first AND :last"
            scores = _read_scores(query, among, known)
            imported = _read_imported(query, among, known)
            builder.learn_sota(row[_SOTA] for row in rows)
            for row in rows:
                number = row[0]
                about = imported.get(number, {})
                yield builder.build(row, scores.get(number, {}), (), about, None)


def iterate_configs(workspace: Workspace) -> Iterator[str]:
    """The texts of the configs of all submissions in the order of their numbers."""
    sql = (
        f"SELECT number, config FROM submissions WHERE number > :after ORDER BY number LIMIT {PART}"
    )
    after = -1
    with open_reader(workspace.ledger_url) as query:
        while rows := query.list_tuples(sql, {"after": after}):
            yield from (config for _, config in rows)
            after = rows[-1][0]


def _read_parts(
    query: Reader, where: str, parameters: Mapping[str, Any]
) -> Iterator[list[tuple[Any, ...]]]:
    """The rows of submissions by their numbers, some at a time: the texts of all fill a memory."""
    also = f"({where.removeprefix('WHERE ')}) AND" if where else ""
    sql = (
        f"SELECT {_COLUMNS} FROM submissions s WHERE {also} s.number > :after"
        f" ORDER BY s.number LIMIT {PART}"
    )
    after = -1
    while rows := query.list_tuples(sql, {**parameters, "after": after}):
        yield rows
        if len(rows) < PART:
            return
        after = rows[-1][0]


def list_newest_submissions(workspace: Workspace, limit: int) -> list[Submission]:
    """The last `limit` submissions by number, or all of them if it is 0."""
    if not limit:
        return list_submissions(workspace)
    where = "WHERE s.number IN (SELECT number FROM submissions ORDER BY number DESC LIMIT :limit)"
    return list_submissions(workspace, where, {"limit": min(limit, MAX_INTEGER)})


def list_best_submissions(
    workspace: Workspace, name: str, limit: int, *, higher_is_better: bool
) -> list[Submission] | None:
    """The first `limit` submissions by a score (`public_f1`) or by `val_f1`, the best first.

    None where the ledger cannot tell: for other names, and where fewer have a value. The database
    sorts, so that no other submission is read.
    """
    with one_moment(workspace.ledger_url):
        numbers = list_best_numbers(workspace, name, limit, higher_is_better=higher_is_better)
        if not limit or numbers is None or len(numbers) < limit:
            return None
        rows = {row.number: row for row in list_numbered(workspace, numbers)}
    return [rows[number] for number in numbers]


def list_best_numbers(
    workspace: Workspace, name: str, limit: int, *, higher_is_better: bool
) -> list[int] | None:
    """The numbers of the first `limit` submissions by a score or by `val_f1`, the best first.

    They are fewer where fewer have a value; None for other names.
    """
    split, _, metric = name.partition("_")
    order = "DESC" if higher_is_better else "ASC"
    if split in ("public", "private"):
        sql = (
            "SELECT submission AS number FROM latest_scores WHERE split = :split AND"
            f" metric = :metric ORDER BY value {order}, submission LIMIT :limit"
        )
    elif split == "val" and metric in COLUMNS and metric in METRICS:
        column = f"val_{metric}"
        sql = (
            f"SELECT number FROM submissions WHERE {column} IS NOT NULL"
            f" ORDER BY {column} {order}, number LIMIT :limit"
        )
    else:
        return None
    known = {"split": split, "metric": metric, "limit": min(limit, MAX_INTEGER)}
    return [row["number"] for row in read_rows(workspace.ledger_url, sql, known)]


def list_numbered(
    workspace: Workspace, numbers: Collection[int], *, since: int | None = None
) -> list[Submission]:
    """The submissions with these numbers, and all from `since` on, by number."""
    rest = [number for number in numbers if since is None or number < since]
    rows: dict[int, Submission] = {}
    if since is not None:
        newest = list_submissions(workspace, "WHERE s.number >= :since", {"since": since})
        rows = {row.number: row for row in newest}
    for which, values in _split_list(rest, "WHERE s.number IN"):
        rows |= {row.number: row for row in list_submissions(workspace, which, values)}
    return [rows[number] for number in sorted(rows)]


def list_numbers(workspace: Workspace) -> list[int]:
    """The numbers of all submissions, in order."""
    rows = read_rows(workspace.ledger_url, "SELECT number FROM submissions ORDER BY number")
    return [row["number"] for row in rows]


def count_submissions(workspace: Workspace) -> int:
    """How many submissions the ledger has."""
    (row,) = read_rows(workspace.ledger_url, "SELECT count(*) AS n FROM submissions")
    return int(row["n"])


def find_times(workspace: Workspace) -> tuple[str, str] | None:
    """UTC texts of the first and the last submission; None where no time is known."""
    sql = (
        "SELECT min(submitted_at) AS first, max(submitted_at) AS last FROM submissions"
        " WHERE submitted_at <> ''"
    )
    (row,) = read_rows(workspace.ledger_url, sql)
    return (row["first"], row["last"]) if row["first"] else None


def has_ledger_rows(workspace: Workspace) -> bool:
    """Whether the ledger has a submission; raises LedgerError where it cannot be read."""
    return bool(read_rows(workspace.ledger_url, "SELECT number FROM submissions LIMIT 1"))


def list_unscored(workspace: Workspace) -> list[Submission]:
    """The submissions without any public score."""
    scored = "SELECT 1 FROM scores c WHERE c.submission = s.number AND c.split = 'public'"
    return list_submissions(workspace, f"WHERE NOT EXISTS ({scored})")


def list_duplicates(workspace: Workspace, numbers: Collection[int] | None = None) -> dict[int, int]:
    """{number: the earlier submission that it repeats}, for `numbers` or for all submissions.

    The database finds them by its index of scores, so that not every submission is read.
    """
    parts = [("", {})] if numbers is None else _split_list(numbers, "AND a.submission IN")
    rows: list[Row] = []
    with open_reader(workspace.ledger_url) as query:
        if not query(_ANY_UNFINGERPRINTED, {}):
            return {}  # equal fingerprints are not in a ledger: nothing repeats another
        for among, known in parts:
            rows += query(_REPEATED.format(among=among), known)
    rows.sort(key=lambda row: int(row["number"]))
    return {row["number"]: row["earlier"] for row in rows}


def list_ranks(
    workspace: Workspace, name: str, numbers: Collection[int], *, higher_is_better: bool
) -> dict[int, int]:
    """{number: rank among all submissions} by a score (`public_f1`) or `val_f1`, 1 for the best.

    Only those of `numbers` that have the score; equal scores have the same rank.
    """
    split, _, metric = name.partition("_")
    scored = {"split": split, "metric": metric}
    which = "split = :split AND metric = :metric"
    own: dict[int, float] = {}
    if split == "val":  # a column of the submission, which nothing corrects
        rows = read_rows(workspace.ledger_url, f"SELECT number, {name} AS value FROM submissions")
        known_values = {row["number"]: row["value"] for row in rows if row["value"] is not None}
        own = {number: known_values[number] for number in numbers if number in known_values}
        return _rank(own, known_values.values(), (), higher_is_better=higher_is_better)
    with open_reader(workspace.ledger_url) as query:
        for among, known in _split_list(numbers, "submission IN"):
            sql = f"SELECT submission, value FROM latest_scores WHERE {which} AND {among}"
            own |= {row["submission"]: row["value"] for row in query(sql, {**scored, **known})}
        if not own:
            return {}
        # all values minus the corrected ones: an index has all, and none has only the newest
        rows = query(f"SELECT value FROM scores WHERE {which}", scored)
        replaced = _list_replaced(query, split, metric)
    values = [row["value"] for row in rows]
    return _rank(own, values, replaced, higher_is_better=higher_is_better)


def _rank(
    own: Mapping[int, float],
    values: Iterable[float],
    replaced: Iterable[float],
    *,
    higher_is_better: bool,
) -> dict[int, int]:
    """{number: rank} of `own` among `values` without those that were `replaced`."""
    # with this sign a smaller value is better, so a rank is the number of smaller values
    sign = -1 if higher_is_better else 1
    every = sorted(sign * value for value in values)
    old = sorted(sign * value for value in replaced)
    ranks = {}
    for number, value in own.items():
        better = bisect_left(every, sign * value) - bisect_left(old, sign * value)
        ranks[number] = better + 1
    return ranks


def _list_replaced(query: Query, split: str, metric: str) -> list[float]:
    """The values of a score that a newer one corrects."""
    several = (
        "SELECT submission, split, metric FROM scores GROUP BY submission, split, metric HAVING"
        " count(*) > 1"
    )
    # all metrics, in the order of an index: a WHERE for one metric takes longer
    groups = query(several, {})
    wanted = (split, metric)
    numbers = [row["submission"] for row in groups if (row["split"], row["metric"]) == wanted]
    newer = (
        "SELECT 1 FROM scores t WHERE t.submission = s.submission AND t.split = s.split AND"
        " t.metric = s.metric AND t.seq > s.seq"
    )
    values: list[float] = []
    for among, known in _split_list(numbers, "s.submission IN"):
        own = f"{among} AND s.split = :split AND s.metric = :metric"
        sql = f"SELECT s.value FROM scores s WHERE {own} AND EXISTS ({newer})"
        rows = query(sql, {**known, "split": split, "metric": metric})
        values += [row["value"] for row in rows]
    return values


def find_origin(query: Query, number: int) -> Origin | None:
    """The origin of submission `number`; None when there is no such submission."""
    if number > MAX_INTEGER:
        return None
    rows = query(
        "SELECT number, run, run_uid, sota FROM submissions WHERE number = :number",
        {"number": number},
    )
    return Origin(**rows[0]) if rows else None


def _split_list(values: Collection[Any], before: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """(SQL like `before (:in0, :in1)`, its parameters) for `MAX_IN_VALUES` values at a time."""
    every = list(values)
    for start in range(0, len(every), MAX_IN_VALUES):
        part = every[start : start + MAX_IN_VALUES]
        known = {f"in{index}": value for index, value in enumerate(part)}
        names = ", ".join(f":{name}" for name in known)
        yield f"{before} ({names})", known


def _read_notes(query: Query, where: str, parameters: Mapping[str, Any]) -> list[Note]:
    """The notes on submissions and on their runs, oldest first; `where` selects the submissions."""
    if not where:
        return [Note(**row) for row in query(f"{_NOTES} ORDER BY seq", {})]
    chosen = f"FROM submissions s {where}"
    clause = f"submission IN (SELECT s.number {chosen}) OR run_uid IN (SELECT s.run_uid {chosen})"
    return [Note(**row) for row in query(f"{_NOTES} AND ({clause}) ORDER BY seq", parameters)]


def _group_notes(notes: Sequence[Note]) -> tuple[dict[int, list[Note]], dict[str, list[Note]]]:
    """(notes by submission number, notes on runs by the run's uid)."""
    by_number: dict[int, list[Note]] = {}
    by_run: dict[str, list[Note]] = {}
    for note in notes:
        if note.submission is not None:
            by_number.setdefault(note.submission, []).append(note)
        elif note.run_uid is not None:
            by_run.setdefault(note.run_uid, []).append(note)
    return by_number, by_run


class _Builder:
    """Makes submissions of rows; what is the same in very many of them is made once.

    Rows with the same text of a config share its tables, which nobody changes.
    """

    def __init__(self, query: Query) -> None:
        self._query = query
        # {number: (data fingerprint, text of the config)} of those that were SOTA
        self._sota: dict[int, tuple[str | None, str]] = {}
        self._configs: dict[str, tuple[Any, bool]] = {}
        self._diffs: dict[tuple[Any, ...], tuple[dict[str, list[Any]], list[str]]] = {}
        self._texts: dict[str | None, str | None] = {}

    def learn_sota(self, numbers: Iterable[int | None]) -> None:
        """Read the submissions that others had as SOTA."""
        wanted = {number for number in numbers if number is not None} - self._sota.keys()
        for among, known in _split_list(sorted(wanted), "number IN"):
            sql = f"SELECT number, data_fingerprint, config FROM submissions WHERE {among}"
            for row in self._query(sql, known):
                self._sota[row["number"]] = (row["data_fingerprint"], row["config"] or "{}")

    def build(
        self,
        row: tuple[Any, ...],
        scores: Mapping[str, float],
        notes: Sequence[Note],
        imported: Mapping[str, str],
        run_name: str | None,
    ) -> Submission:
        """A submission of its columns; keys that earlier versions counted as changes leave its
        diff."""
        columns, not_known = [*row], list[str]()
        columns[_CONFIG], _ = self._parse(row[_CONFIG])
        if row[_DIFF] is not None:
            columns[_DIFF], not_known = self._find_diff(row)
        for place in _SHARED:
            columns[place] = self._texts.setdefault(row[place], row[place])
        return Submission._make([*columns, scores, notes, not_known, imported, run_name])

    def _parse(self, text: str) -> tuple[Any, bool]:
        """A config by its text, and whether it `is_own`."""
        known = self._configs.get(text)
        if known is None:
            if len(self._configs) > MANY_TEXTS:
                self._configs.clear()
            parsed = parse_column(text)
            known = self._configs[text] = (parsed, is_own(parsed))
        return known

    def _find_diff(self, row: tuple[Any, ...]) -> tuple[dict[str, list[Any]], list[str]]:
        """(config diff, keys that only one of the two configs has).

        A diff in which a side has the key names of another program is made anew: earlier versions
        did not know them.
        """
        sota_data, before = self._sota.get(row[_SOTA], (None, "{}"))
        data, recorded = (sota_data, row[_DATA]), row[_RUN_UID] is not None
        key = (before, row[_CONFIG], row[_DIFF], data, recorded)
        known = self._diffs.get(key)
        if known is None:
            if len(self._diffs) > MANY_TEXTS:
                self._diffs.clear()
            known = self._diffs[key] = self._make_diff(*key)
        return known

    def _make_diff(
        self,
        before: str,
        after: str,
        stored_text: str,
        data: tuple[str | None, str | None],
        recorded: bool,
    ) -> tuple[dict[str, list[Any]], list[str]]:
        (old, is_plain), (config, is_own_config) = self._parse(before), self._parse(after)
        stored, not_known = parse_column(stored_text), list[str]()
        if not (is_plain and is_own_config):
            not_known = list_unknown(old, config, recorded=recorded)
            if any(translate(side) != side for side in (old, config)):
                stored = diff_configs(old, config, data=data, recorded=recorded)
        shared = {key: pair for key, pair in stored.items() if key not in not_known}
        return drop_path_changes(shared, data=data), not_known


def list_notes(workspace: Workspace, uids: Collection[str]) -> dict[str, list[Note]]:
    """{uid: notes on the run and on its submissions, oldest first} of the runs that have notes."""
    by_run: dict[str, list[Note]] = {}
    with open_reader(workspace.ledger_url) as query:
        for which, known in _split_list(uids, "IN"):
            own = query(f"{_NOTES} AND submission IS NULL AND run_uid {which} ORDER BY seq", known)
            by_run |= _group_notes([Note(**row) for row in own])[1]
            owners_sql = f"SELECT number, run_uid FROM submissions s WHERE s.run_uid {which}"
            owners = {row["number"]: row["run_uid"] for row in query(owners_sql, known)}
            numbers_sql = f"SELECT number FROM submissions WHERE run_uid {which}"
            sent = f"{_NOTES} AND submission IN ({numbers_sql}) ORDER BY seq"
            for row in query(sent, known):
                by_run.setdefault(owners[row["submission"]], []).append(Note(**row))
    return {uid: sorted(notes, key=lambda note: note.time) for uid, notes in by_run.items()}


def list_submissions_of(workspace: Workspace, record: RunRecord) -> list[Submission]:
    """The submissions of a run."""
    return list_submissions(workspace, "WHERE s.run_uid = :uid", {"uid": record.uid})


def list_newest_scores(workspace: Workspace, uids: Collection[str]) -> dict[str, ScoredSubmission]:
    """{uid: number and scores of the newest submission} of the runs that have one."""
    newest: dict[str, ScoredSubmission] = {}
    with open_reader(workspace.ledger_url) as query:
        for which, known in _split_list(uids, "WHERE run_uid IN"):
            own = f"SELECT max(number) AS number, run_uid FROM submissions {which} GROUP BY run_uid"
            sql = (
                f"SELECT n.run_uid, n.number, c.split, c.metric, c.value FROM ({own}) n LEFT JOIN"
                " latest_scores c ON c.submission = n.number ORDER BY c.seq"
            )
            for row in query(sql, known):
                if (scored := newest.get(row["run_uid"])) is None:
                    scored = newest[row["run_uid"]] = ScoredSubmission(row["number"], {})
                if row["split"] is not None:
                    scored.scores[f"{row['split']}_{row['metric']}"] = row["value"]
    return newest


def list_newest_values(workspace: Workspace, split: str, metric: str) -> dict[str, float]:
    """{uid: this score of its newest submission} of all runs; runs without it are left out."""
    sql = (
        "SELECT n.run_uid, c.value FROM (SELECT max(number) AS number, run_uid FROM submissions"
        " WHERE run_uid IS NOT NULL GROUP BY run_uid) n JOIN latest_scores c ON c.submission ="
        " n.number WHERE c.split = :split AND c.metric = :metric"
    )
    rows = read_rows(workspace.ledger_url, sql, {"split": split, "metric": metric})
    return {row["run_uid"]: row["value"] for row in rows}


def list_newest_numbers(workspace: Workspace, uids: Collection[str] | None) -> dict[str, int]:
    """{uid: number of the newest submission} of the runs that have one; of all without `uids`."""
    newest: dict[str, int] = {}
    every: list[tuple[str, dict[str, Any]]] = [("WHERE run_uid IS NOT NULL", {})]
    parts = every if uids is None else _split_list(uids, "WHERE run_uid IN")
    with open_reader(workspace.ledger_url) as query:
        for where, known in parts:
            sql = f"SELECT run_uid, max(number) AS number FROM submissions {where} GROUP BY run_uid"
            newest |= {row["run_uid"]: row["number"] for row in query(sql, known)}
    return newest


def list_run_paths(workspace: Workspace) -> list[tuple[str, str]]:
    """(name, folder) of every run in the ledger, those of teammates' workspaces included."""
    rows = read_rows(
        workspace.ledger_url, "SELECT DISTINCT name, path FROM runs ORDER BY name, path"
    )
    return [(row["name"], row["path"]) for row in rows]


def get_submission(workspace: Workspace, number: int) -> Submission:
    """Submission `number`; raises UnknownRunError."""
    rows = []
    if abs(number) <= MAX_INTEGER:  # PostgreSQL refuses larger numbers
        rows = list_submissions(workspace, "WHERE s.number = :number", {"number": number})
    if not rows:
        hint = suggest_first_submission(workspace) or "tracker leaderboard lists them"
        raise UnknownRunError(f"no submission {number}", hint=hint)
    return rows[0]


def suggest_first_run(workspace: Workspace) -> str:
    """What makes runs here: a workspace without training images has its own loops alone."""
    if workspace.data.get("train_dir") or workspace.data.get("labels"):
        return "tracker run train"
    return "tracker.start_run(...) in a training script"


def suggest_first_submission(workspace: Workspace) -> str:
    """The next command where the ledger has no submission; empty where it has one."""
    if list_newest_submissions(workspace, 1):
        return ""
    if list_run_numbers(workspace.runs_dir):
        return 'tracker submit R --memo "what is new"'
    return f"{suggest_first_run(workspace)} makes the first run"


def find_duplicate(workspace: Workspace, fingerprint: str) -> Submission | None:
    """The submission that has these predictions, or None."""
    without = read_rows(workspace.ledger_url, UNFINGERPRINTED_QUERY)
    number = find_unfingerprinted(without, fingerprint)
    where = "WHERE s.predictions_fingerprint = :fingerprint OR s.number = :number"
    rows = list_submissions(workspace, where, {"fingerprint": fingerprint, "number": number or 0})
    return rows[0] if rows else None


UNFINGERPRINTED_QUERY = (
    "SELECT number, answers FROM submissions WHERE predictions_fingerprint IS NULL AND answers IS"
    " NOT NULL"
)


def find_unfingerprinted(rows: Sequence[Mapping[str, Any]], fingerprint: str) -> int | None:
    """The first submission without a stored fingerprint whose answers have this fingerprint.

    `rows` is the result of UNFINGERPRINTED_QUERY: such rows were imported by an earlier version.
    """
    from tracker.workspace.predictions import unpack

    equal = []
    for row in rows:
        if unpack(row["answers"]).fingerprint == fingerprint:
            equal.append(row["number"])
    return min(equal, default=None)


def sota_query(primary: Metric, *, before: bool = False) -> str:
    """SQL for (submission, value) of the best public score; the earlier one wins a tie.

    With `before`, only submissions that were scored before row `:seq` count. The database reads
    the index on scores from its best end, and stops at the first row.
    """
    order = "DESC" if primary.higher_is_better else "ASC"
    earlier = f"AND {_FIRST_SCORED.format(scores='s')} < :seq " if before else ""
    return (
        "SELECT s.submission, s.value FROM scores s WHERE s.split = 'public' AND s.metric ="
        f" :metric {earlier}AND NOT EXISTS (SELECT 1 FROM scores t WHERE t.submission ="
        " s.submission AND t.split = s.split AND t.metric = s.metric AND t.seq > s.seq)"
        f" ORDER BY s.value {order}, s.submission LIMIT 1"
    )


def find_sota(workspace: Workspace) -> Submission | None:
    """The submission with the best public score, or None when there is no public score."""
    primary = workspace.competition.primary
    with one_moment(workspace.ledger_url):
        rows = read_rows(workspace.ledger_url, sota_query(primary), {"metric": primary.name})
        return get_submission(workspace, rows[0]["submission"]) if rows else None


def list_sota_numbers(workspace: Workspace, *, since: int = 0) -> list[int]:
    """The submissions that were SOTA when they were scored, in that order, from `since` on.

    A submission counts from its first public score on, with its newest one: a score that is typed
    in late is compared with those that were known by then, and a typing error is forgotten.
    """
    primary = workspace.competition.primary
    first = _FIRST_SCORED.format(scores="s")
    sql = (
        f"SELECT s.submission, s.value, {first} AS first FROM latest_scores s WHERE"
        " s.split = 'public' AND s.metric = :metric AND s.submission IN (SELECT t.submission FROM"
        f" scores t WHERE t.seq >= :seq) AND {first} >= :seq ORDER BY first"
    )
    with open_reader(workspace.ledger_url) as query:
        known: dict[str, Any] = {"metric": primary.name, "number": since}
        # the rows before the first score of these submissions are not read
        (start,) = query(
            "SELECT min(seq) AS seq FROM scores WHERE split = 'public' AND metric = :metric AND"
            " submission IN (SELECT number FROM submissions WHERE number >= :number)",
            known,
        )
        if start["seq"] is None:
            return []
        known = {"metric": primary.name, "seq": start["seq"]}
        best = [row["value"] for row in query(sota_query(primary, before=True), known)]
        numbers = []
        for row in query(sql, known):
            if not best or primary.is_better(row["value"], best[0]):
                best = [row["value"]]
                numbers.append(row["submission"])
    return [number for number in numbers if number >= since]


def list_packed_answers(
    workspace: Workspace, numbers: Collection[int] | None = None
) -> list[tuple[int, str, str]]:
    """(number, run, packed answers) of `numbers`, or of all, if their answers are known."""
    packed: list[tuple[int, str, str]] = []
    parts = [("", {})] if numbers is None else _split_list(sorted(numbers), "AND number IN")
    with open_reader(workspace.ledger_url) as query:
        for among, known in parts:
            sql = (
                f"SELECT number, run, answers FROM submissions WHERE answers IS NOT NULL {among}"
                " ORDER BY number"
            )
            packed += [(row["number"], row["run"], row["answers"]) for row in query(sql, known)]
    return packed


def find_score(workspace: Workspace, number: int, split: str, metric: str) -> Row | None:
    """The newest score of a submission, with its value and its author; None without one."""
    sql = (
        "SELECT value, author FROM scores WHERE submission = :number AND split = :split"
        " AND metric = :metric ORDER BY seq DESC LIMIT 1"
    )
    known = {"number": number, "split": split, "metric": metric}
    rows = read_rows(workspace.ledger_url, sql, known) if abs(number) <= MAX_INTEGER else []
    return rows[0] if rows else None


def name_submitted_runs(workspace: Workspace, numbers: Collection[int]) -> dict[int, str | None]:
    """{number: the name for people of the run of a submission}."""
    rows: list[Row] = []
    with open_reader(workspace.ledger_url) as query:
        for among, known in _split_list(sorted(numbers), "number IN"):
            rows += query(f"SELECT number, run, run_uid FROM submissions WHERE {among}", known)
        names = name_runs(workspace.runs_dir, query, rows)
    return {row["number"]: name for row, name in zip(rows, names, strict=True)}


def list_runs_with_weights(workspace: Workspace, weights: str, *, exclude: str) -> list[str]:
    """Runs with these weights, except the run with uid `exclude`: `exp3 of kim, submission 4`.

    The runs of teammates' workspaces are among them.
    """
    sql = (
        "SELECT r.name, r.author, s.number FROM runs r LEFT JOIN submissions s ON s.run_uid = r.uid"
        " WHERE r.weights_fingerprint = :weights AND r.uid <> :exclude ORDER BY r.seq"
    )
    rows = read_rows(workspace.ledger_url, sql, {"weights": weights, "exclude": exclude})
    texts = []
    for row in rows:
        text = f"{row['name']} of {row['author']}"
        texts.append(f"{text}, submission {row['number']}" if row["number"] else text)
    return list(dict.fromkeys(texts))


def load_sent_answers(workspace: Workspace, number: int) -> Answers | None:
    """The whole answers of a submission, from its row or its file; None when they are unknown.

    Raises DataError where the row has a sketch only, and the file is not here.
    """
    from tracker.workspace.predictions import Sketch, load_answers, unpack

    sql = "SELECT answers, file, run, run_uid, host FROM submissions WHERE number = :number"
    rows = read_rows(workspace.ledger_url, sql, {"number": number})
    if not rows or not rows[0]["answers"]:
        return None
    known, row = unpack(rows[0]["answers"]), rows[0]
    if not isinstance(known, Sketch):
        return known
    run = find_run_by_uid(workspace, row["run"], row["run_uid"]) or str(row["run"])
    own = run_folder(workspace.runs_dir, run) / "predictions.csv"
    for path in (workspace.root / str(row["file"]), own):
        if path.is_file():
            found = load_answers(path, workspace.competition)
            if found.fingerprint == known.fingerprint:
                return found
    raise DataError(
        f"submission {number}: the ledger has a sketch of its {known.images:,} rows, and"
        f" {row['file']} is not here",
        hint=f"copy that file from {row['host']} into {workspace.submissions_dir}",
    )


def list_with_note(workspace: Workspace, kind: str) -> set[int]:
    """Numbers of the submissions that have a note of this kind."""
    sql = "SELECT DISTINCT submission FROM notes WHERE kind = :kind AND submission IS NOT NULL"
    return {row["submission"] for row in read_rows(workspace.ledger_url, sql, {"kind": kind})}


def list_imported_columns(workspace: Workspace) -> dict[int, dict[str, str]]:
    """{number: {column: text}} of the columns that the ledger has no column for, by submission."""
    sql = "SELECT submission, text FROM notes WHERE kind = 'imported' ORDER BY seq"
    rows = read_rows(workspace.ledger_url, sql)
    return {row["submission"]: parse_column(row["text"]) for row in rows}


def list_counted_times(workspace: Workspace, since: str) -> list[str]:
    """Times of the submissions since a UTC text, without rejected ones, oldest first."""
    rows = read_rows(workspace.ledger_url, QUOTA_QUERY, {"since": since})
    return [row["submitted_at"] for row in rows]


def has_server(workspace: Workspace) -> bool:
    """Whether the ledger is on a server, whose clock then counts for all who submit."""
    return not workspace.ledger_url.startswith("sqlite:///")


def read_clock(workspace: Workspace) -> dt.datetime:
    """The time now for quota and deadline: the server's, or this machine's for SQLite."""
    if not has_server(workspace):
        return dt.datetime.now(dt.UTC)
    (row,) = read_rows(workspace.ledger_url, SERVER_CLOCK)
    return row["now"].astimezone(dt.UTC)  # type: ignore[no-any-return]


SERVER_CLOCK = "SELECT clock_timestamp() AS now"
QUOTA_QUERY = (
    "SELECT s.submitted_at FROM submissions s WHERE s.submitted_at >= :since AND NOT"
    f" ({REJECTED}) ORDER BY s.submitted_at"
)


def list_sent(workspace: Workspace) -> list[SentFile]:
    """What each submission says of its file, in the order of their numbers."""
    names = ", ".join(name for name in SentFile._fields if name != "run_name")
    with open_reader(workspace.ledger_url) as query:
        rows = query(f"SELECT {names} FROM submissions ORDER BY number", {})
        host = host_name()
        own = [row for row in rows if row["host"] == host]
        for row, name in zip(own, name_runs(workspace.runs_dir, query, own), strict=True):
            row["run_name"] = name
    return [SentFile(**row) for row in rows]


def has_run(workspace: Workspace, row: Submission | Origin) -> bool:
    """Whether a submission's run is here: its folder, or the copy of a teammate's run."""
    return find_run(workspace, row) is not None


def find_run(workspace: Workspace, row: Submission | Origin | SentFile) -> str | None:
    """The name here of a submission's run, None if it is not here.

    It is found by its uid, as teammates have an exp3 too.
    """
    return find_run_by_uid(workspace, row.run, row.run_uid)


def find_metric_value(
    workspace: Workspace, row: Submission, part: str, metric: str
) -> float | None:
    """A submission's `val`, `public` or `private` value of a metric, None when it is unknown."""
    return metric_getter(workspace, part, metric)(row)


def metric_getter(
    workspace: Workspace, part: str, metric: str
) -> Callable[[Submission], float | None]:
    """`find_metric_value` of one metric, for very many rows."""
    name = f"{part}_{metric}"
    if part != "val":
        return lambda row: row.scores.get(name)
    if metric in COLUMNS:
        return attrgetter(name)

    def find(row: Submission) -> float | None:
        summary = _read_summary(workspace, row)
        if summary is None:
            return read_imported_metric(workspace.competition, row, metric)
        return summary.get(f"val/{metric}")

    return find


def _read_summary(workspace: Workspace, row: Submission) -> Mapping[str, float | None] | None:
    """The summary of a submission's run; None where its folder is not here."""
    run = find_run(workspace, row)
    return None if run is None else load_run(workspace.runs_dir, run).summary


def read_imported_metric(competition: Competition, row: Submission, metric: str) -> float | None:
    """The validation value of a metric in an imported row: in column val_rmse, val_logloss, ..."""
    for column, text in row.imported.items():
        split, _, name = column.partition("_")
        known = find_declared(competition, name) if split == "val" else None
        if known is not None and known.name == metric:
            with suppress(ConfigError):  # a text of an older import that is no number
                return parse_score(known, text)
    return None


def list_validation_scores(
    workspace: Workspace, rows: Sequence[Submission]
) -> dict[int, dict[str, float]]:
    """{number: {metric: value}} of the known validation scores.

    The metrics are those of the competition and those of METRICS.
    """
    own = [metric.name for metric in workspace.competition.metrics]
    names = dict.fromkeys([*own, *METRICS])
    scores: dict[int, dict[str, float]] = {}
    for row in rows:
        summary = _read_summary(workspace, row)  # once for all metrics
        values: dict[str, float | None] = {}
        for name in names:
            if name in COLUMNS:
                values[name] = getattr(row, f"val_{name}")
            elif summary is not None:
                values[name] = summary.get(f"val/{name}")
            else:
                values[name] = read_imported_metric(workspace.competition, row, name)
        scores[row.number] = {name: value for name, value in values.items() if value is not None}
    return scores
