"""The ledger's read door: portable SQL on a read-only connection, without SQLAlchemy, so that commands start fast.

Nothing here can write: SQLite is opened with mode=ro, PostgreSQL in a read-only session.
"""

from __future__ import annotations

import datetime as dt
import json
import re
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tracker.configdiff import drop_same_places
from tracker.errors import LedgerError, StorageError, TrackerError, UnknownRunError
from tracker.metrics import COLUMNS, NO_PUBLIC_SCORE, name_score_command
from tracker.predictions import unpack_answers
from tracker.runs import RunRecord, find_latest, load_run
from tracker.training.libraries import require
from tracker.training.metrics import METRICS
from tracker.workspace import Metric, Workspace

SCHEMA_VERSION = 2
BUSY_TIMEOUT_S = 60.0
IN_LIST = 500  # values a query, below every database's limit
LARGEST = 2**31 - 1  # a submission's number in PostgreSQL
Row = dict[str, Any]
Query = Callable[[str, Mapping[str, Any]], list[Row]]


@dataclass(frozen=True, kw_only=True)
class Note:
    """A remark on a submission, or on a run by its uid; `time` is UTC text."""

    submission: int | None
    run_uid: str | None
    kind: str
    text: str
    author: str
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)

    def __str__(self) -> str:
        return f"rejected: {self.text}" if self.kind == "rejected" else self.text


@dataclass(frozen=True, kw_only=True)
class Submission:
    """A submission, its newest scores by `<split>_<metric>`, and the remarks on it and on its run."""

    number: int
    run: str | None
    run_uid: str | None
    memo: str
    predictions_fingerprint: str | None
    weights_fingerprint: str | None
    config_fingerprint: str | None
    data_fingerprint: str | None
    code_fingerprint: str | None
    config: Mapping[str, Any]
    sota: int | None
    config_diff: Mapping[str, Sequence[Any]] | None
    best_epoch: int | None
    train_loss: float | None
    train_accuracy: float | None
    train_f1: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_f1: float | None
    author: str | None
    host: str | None
    submitted_at: str | None
    file: str | None
    scores: Mapping[str, float] = field(default_factory=dict)
    notes: Sequence[Note] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


_COLUMNS = ", ".join(f"s.{name}" for name in Submission.__dataclass_fields__ if name not in ("scores", "notes"))
_SOTA_DATA = "(SELECT b.data_fingerprint FROM submissions b WHERE b.number = s.sota) AS sota_data"
_NOTES = (
    "SELECT submission, run_uid, kind, text, author, noted_at AS time FROM notes "
    "WHERE kind IN ('note', 'rejected') ORDER BY seq"
)


def read_rows(url: str, sql: str, parameters: Mapping[str, Any] | None = None) -> list[Row]:
    """Rows of a query with `:name` parameters; raises LedgerError or StorageError."""
    with open_reader(url) as query:
        return query(sql, parameters or {})


@contextmanager
def open_reader(url: str) -> Iterator[Query]:
    """A function that runs queries with `:name` parameters, all on the ledger as of one moment.

    Raises LedgerError when the ledger is missing, foreign, newer or older, StorageError when it cannot be read.
    """
    with _connect(url) as (cursor, to_style):

        def query(sql: str, parameters: Mapping[str, Any]) -> list[Row]:
            cursor.execute(to_style(sql), dict(parameters))
            names = [column[0] for column in cursor.description]
            return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]

        check_version(query("SELECT max(version) AS version FROM migrations", {})[0]["version"])
        yield query


@contextmanager
def _connect(url: str) -> Iterator[tuple[Any, Any]]:
    """A cursor in a read-only transaction, and the function that turns `:name` into the driver's style."""
    if url.startswith("sqlite:///"):
        path = Path(url.removeprefix("sqlite:///"))
        if not path.is_file():
            raise missing_ledger(path)
        try:
            connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
            try:
                connection.execute("BEGIN")
                yield connection.cursor(), str
            finally:
                connection.close()
        except sqlite3.Error as error:
            raise translate_sqlite(error, path) from error
        return
    require("psycopg")
    import psycopg

    try:
        with psycopg.connect(libpq_url(url), connect_timeout=10) as server:
            server.read_only = True
            server.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
            yield server.cursor(), lambda sql: re.sub(r"(?<!:):(\w+)", r"%(\1)s", sql)
    except psycopg.Error as error:
        raise translate_postgres(error, url) from error


def check_version(version: int | None) -> None:
    """Raise LedgerError unless the ledger has the schema of this program."""
    check_not_newer(version)
    if version is not None and version < SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {version}, this program needs {SCHEMA_VERSION}",
            hint="tracker ledger upgrade makes a backup and brings it up to date",
        )


def check_not_newer(version: int | None) -> None:
    """Raise LedgerError unless the database is a ledger that this program can read or upgrade."""
    if version is None:
        raise foreign_database()
    if version > SCHEMA_VERSION:
        raise LedgerError(
            f"the ledger has schema {version}, this program knows {SCHEMA_VERSION}",
            hint="update this program: git pull in its checkout, then pip install .",
        )


def foreign_database() -> LedgerError:
    """The error for a database that has other tables, or none."""
    return LedgerError(
        "this database is not a tracker ledger",
        hint="check ledger.url in tracker.toml; tracker ledger init makes one in an empty database",
    )


def missing_ledger(path: Path) -> LedgerError:
    """The error for a ledger file that is not there: never replaced by an empty one on the quiet."""
    hint = "restore it from a backup; for a new empty one: tracker ledger init"
    if logs := find_logs(path):
        hint = f"{logs[0].name} is left of it and may hold its newest rows: put ledger and log back together, or {hint}"
    return LedgerError(f"no ledger at {path}", hint=hint)


def refuse_logs(path: Path) -> None:
    """Raise LedgerError when a new ledger at `path` would meet the logs of a lost one, unless it is made meanwhile."""
    logs = find_logs(path)
    if logs and not path.exists():  # in this order: another process makes the file before its log
        raise LedgerError(
            f"{logs[0]} is left of another ledger: SQLite would mix it into the new one, or delete it",
            hint="move it away first, with all that begin with that name; it may hold rows of the lost ledger",
        )


def find_logs(path: Path) -> list[Path]:
    """SQLite's logs beside a ledger file."""
    logs = [path.with_name(path.name + end) for end in ("-wal", "-shm", "-journal")]
    return [log for log in logs if log.exists()]


def translate_sqlite(error: sqlite3.Error, path: Path) -> TrackerError:
    """SQLite's error in our words."""
    text = str(error)
    if "no such table: migrations" in text:
        return foreign_database()
    if "not a database" in text or "malformed" in text:
        return LedgerError(f"{path} is not a readable ledger: {text}", hint="restore it from a backup")
    if "locked" in text:
        return LedgerError(f"{path} is locked by another program", hint="close it there and try again")
    if "full" in text or "disk I/O" in text:
        return StorageError(
            f"cannot write {path}: {text}", hint="check the disk, free some space; nothing was half-written"
        )
    if "readonly" in text or "unable to open" in text:
        return StorageError(f"cannot use {path}: {text}", hint="check its permissions and those of its folder")
    return LedgerError(f"{path}: {text}")


def translate_postgres(error: Exception, url: str) -> TrackerError:
    """psycopg's error in our words, without the password."""
    if 'relation "migrations" does not exist' in str(error):
        return foreign_database()
    first_line = (str(error).strip() or type(error).__name__).splitlines()[0]
    return LedgerError(f"ledger {safe_url(url)}: {first_line}", hint="check that the server is up, and ledger.url")


def libpq_url(url: str) -> str:
    """SQLAlchemy's URL as libpq takes it."""
    return url.replace("postgresql+psycopg://", "postgresql://", 1)


def safe_url(url: str) -> str:
    """The URL without its password."""
    return re.sub(r"(//[^/:@]*):[^/@]*@", r"\1:***@", url)


def list_submissions(
    workspace: Workspace, where: str = "", parameters: Mapping[str, Any] | None = None
) -> list[Submission]:
    """Submissions by number, with their newest scores; `where` is SQL of this module with `:name` parameters."""
    clause = f"WHERE submission IN (SELECT s.number FROM submissions s {where})" if where else ""
    scores: dict[int, dict[str, float]] = {}
    with open_reader(workspace.ledger_url) as query:
        rows = query(f"SELECT {_COLUMNS}, {_SOTA_DATA} FROM submissions s {where} ORDER BY s.number", parameters or {})
        sql = f"SELECT submission, split, metric, value FROM latest_scores {clause} ORDER BY seq"
        for row in query(sql, parameters or {}):
            scores.setdefault(row["submission"], {})[f"{row['split']}_{row['metric']}"] = row["value"]
        notes = [Note(**row) for row in query(_NOTES, {})]
    by_number, by_run = _group_notes(notes)
    found = []
    for row in rows:
        remarks = [*by_number.get(row["number"], ()), *by_run.get(row["run_uid"], ())]
        found.append(_build(row, scores.get(row["number"], {}), sorted(remarks, key=lambda note: note.time)))
    return found


def list_newest_submissions(workspace: Workspace, limit: int) -> list[Submission]:
    """The last `limit` submissions by number, all of them when it is 0."""
    if not limit:
        return list_submissions(workspace)
    where = "WHERE s.number IN (SELECT number FROM submissions ORDER BY number DESC LIMIT :limit)"
    return list_submissions(workspace, where, {"limit": min(limit, LARGEST)})


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
    diff = None if row["config_diff"] is None else drop_same_places(json.loads(row["config_diff"]), data=data)
    parsed = {"config": json.loads(row["config"]), "config_diff": diff}
    return Submission(**{**columns, **parsed}, scores=scores, notes=notes)


def list_notes(workspace: Workspace) -> dict[str, list[Note]]:
    """The remarks on each run by its uid, those on its submissions included, oldest first."""
    owners_sql = (
        "SELECT number, run_uid FROM submissions WHERE run_uid IS NOT NULL "
        "AND number IN (SELECT submission FROM notes WHERE kind IN ('note', 'rejected'))"
    )
    with open_reader(workspace.ledger_url) as query:
        by_number, found = _group_notes([Note(**row) for row in query(_NOTES, {})])
        for row in query(owners_sql, {}):
            found.setdefault(row["run_uid"], []).extend(by_number[row["number"]])
    return {uid: sorted(notes, key=lambda note: note.time) for uid, notes in found.items()}


def list_submissions_of(workspace: Workspace, record: RunRecord) -> list[Submission]:
    """The submissions of a run."""
    return list_submissions(workspace, "WHERE s.run_uid = :uid", {"uid": record.uid})


def list_newest_of_runs(workspace: Workspace, uids: Sequence[str]) -> dict[str, Submission]:
    """The newest submission of each of these runs that has one, by the run's uid."""
    found: dict[str, Submission] = {}
    for start in range(0, len(uids), IN_LIST):
        known = {f"uid{place}": uid for place, uid in enumerate(uids[start : start + IN_LIST])}
        where = f"WHERE s.run_uid IN ({', '.join(f':{name}' for name in known)})"
        found |= {str(row.run_uid): row for row in list_submissions(workspace, where, known)}
    return found


def list_run_numbers_submitted(workspace: Workspace) -> dict[str, int]:
    """The newest submission number of every run that has one, by the run's uid."""
    sql = "SELECT run_uid, max(number) AS number FROM submissions GROUP BY run_uid"
    return {row["run_uid"]: row["number"] for row in read_rows(workspace.ledger_url, sql)}


def list_run_paths(workspace: Workspace) -> list[tuple[str, str]]:
    """(name, folder) of every run in the index, also of teammates' workspaces."""
    rows = read_rows(workspace.ledger_url, "SELECT DISTINCT name, path FROM runs ORDER BY name, path")
    return [(row["name"], row["path"]) for row in rows]


def get_submission(workspace: Workspace, number: int) -> Submission:
    """Submission `number`; raises UnknownRunError."""
    known = abs(number) <= LARGEST
    found = list_submissions(workspace, "WHERE s.number = :number", {"number": number}) if known else []
    if not found:
        raise UnknownRunError(f"no submission {number}", hint="tracker leaderboard lists them")
    return found[0]


def find_duplicate(workspace: Workspace, fingerprint: str) -> Submission | None:
    """The submission that sent these predictions before."""
    number = find_unnamed(read_rows(workspace.ledger_url, UNNAMED_QUERY), fingerprint)
    where = "WHERE s.predictions_fingerprint = :fingerprint OR s.number = :number"
    found = list_submissions(workspace, where, {"fingerprint": fingerprint, "number": number or 0})
    return found[0] if found else None


UNNAMED_QUERY = "SELECT number, answers FROM submissions WHERE predictions_fingerprint IS NULL AND answers IS NOT NULL"


def find_unnamed(rows: Sequence[Mapping[str, Any]], fingerprint: str) -> int | None:
    """The number among rows of UNNAMED_QUERY, imported without a fingerprint, whose answers have this one."""
    equal = [row["number"] for row in rows if unpack_answers(row["answers"]).fingerprint == fingerprint]
    return min(equal, default=None)


def sota_query(primary: Metric, *, before: bool = False) -> str:
    """SQL for number and value of the submission with the best public score; ties go to the earlier one.

    With `before`, only submissions below `:number` count. The index on scores is walked from its best end.
    """
    order = "DESC" if primary.higher_is_better else "ASC"
    return (
        "SELECT s.submission, s.value FROM scores s WHERE s.split = 'public' AND s.metric = :metric "
        + ("AND s.submission < :number " if before else "")
        + "AND NOT EXISTS (SELECT 1 FROM scores t WHERE t.submission = s.submission AND t.split = s.split "
        f"AND t.metric = s.metric AND t.seq > s.seq) ORDER BY s.value {order}, s.submission LIMIT 1"
    )


def find_sota(workspace: Workspace) -> Submission | None:
    """The best submission so far, or None when nothing was scored."""
    primary = workspace.competition.primary
    rows = read_rows(workspace.ledger_url, sota_query(primary), {"metric": primary.name})
    return get_submission(workspace, rows[0]["submission"]) if rows else None


def list_sota_numbers(workspace: Workspace, *, since: int = 0) -> list[int]:
    """Numbers, from `since` on, of the submissions that beat all earlier ones, in order."""
    primary = workspace.competition.primary
    sql = (
        "SELECT submission, value FROM latest_scores WHERE split = 'public' AND metric = :metric "
        "AND submission >= :number ORDER BY submission"
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


def list_packed_answers(workspace: Workspace) -> list[tuple[int, str, str]]:
    """(number, run, packed answers) of every submission whose answers are known."""
    sql = "SELECT number, run, answers FROM submissions WHERE answers IS NOT NULL ORDER BY number"
    return [(row["number"], row["run"], row["answers"]) for row in read_rows(workspace.ledger_url, sql)]


def list_twins(workspace: Workspace, weights: str, *, but: str) -> list[str]:
    """Other runs with these weights, of this workspace or a teammate's, with their submissions, as texts."""
    sql = (
        "SELECT r.name, r.author, s.number FROM runs r LEFT JOIN submissions s ON s.run_uid = r.uid "
        "WHERE r.weights_fingerprint = :weights AND r.uid <> :but ORDER BY r.seq"
    )
    rows = read_rows(workspace.ledger_url, sql, {"weights": weights, "but": but})
    texts = [f"{r['name']} of {r['author']}" + (f", submission {r['number']}" if r["number"] else "") for r in rows]
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
    return {row["submission"]: json.loads(row["text"]) for row in read_rows(workspace.ledger_url, sql)}


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
    "SELECT s.submitted_at FROM submissions s WHERE s.submitted_at >= :since AND NOT EXISTS "
    "(SELECT 1 FROM notes n WHERE n.submission = s.number AND n.kind = 'rejected') ORDER BY s.submitted_at"
)


def parse_submission(word: str) -> int | None:
    """The number in `s12`; None for other words."""
    return int(word[1:]) if re.fullmatch(r"s[0-9]{1,4000}", word) else None


def name_first_score(workspace: Workspace) -> str:
    """The command that brings the first public score; where it is not typed in, it comes with the submission."""
    if workspace.leaderboard == "manual":
        return name_score_command(workspace.competition)
    return "tracker sync" if list_submissions(workspace) else 'tracker submit R --memo "what is new"'


def resolve_run(workspace: Workspace, name: str) -> str:
    """The run meant by `exp12`, `latest`, `sota` or `s12`; raises UnknownRunError."""
    if name == "latest":
        return find_latest(workspace.runs_dir)
    if name == "sota":
        best = find_sota(workspace)
        if best is None:
            raise UnknownRunError(NO_PUBLIC_SCORE, hint=name_first_score(workspace))
        return _run_of(workspace, best)
    if (number := parse_submission(name)) is not None:
        return _run_of(workspace, get_submission(workspace, number))
    return load_run(workspace.runs_dir, name).name


def _run_of(workspace: Workspace, row: Submission) -> str:
    """The name of the run folder that a submission came from; raises UnknownRunError when it is not here."""
    if row.run is not None and has_run(workspace, row):
        return row.run
    what = f"was made by {row.author}" if row.run_uid and row.author else "is known from the ledger alone"
    raise UnknownRunError(f"submission {row.number} {what}: no run folder here", hint="tracker leaderboard shows it")


def has_run(workspace: Workspace, row: Submission) -> bool:
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


def list_validation(workspace: Workspace, rows: Sequence[Submission]) -> dict[int, dict[str, float]]:
    """{number: {metric: value}}: the validation figures that are known, of the competition's metrics and of METRICS."""
    names = dict.fromkeys([*(metric.name for metric in workspace.competition.metrics), *METRICS])
    found: dict[int, dict[str, float]] = {}
    for row in rows:
        figures = {name: find_figure(workspace, row, "val", name) for name in names}
        found[row.number] = {name: value for name, value in figures.items() if value is not None}
    return found
