"""Appending to the ledger, through SQLAlchemy.

Each method is one transaction under a lock that all writers share, and each row has the hash of the
row before it. No method changes a row. Reading is in read.py.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event

from tracker.core.clock import to_utc_text, utc_now
from tracker.core.config_diff import diff_configs
from tracker.core.errors import LedgerError, RefusedError, TrackerError
from tracker.core.locks import FileLock
from tracker.ledger.chain import canonical_json, row_hash
from tracker.ledger.columns import (
    SchemaColumn,
    list_added_columns,
    list_columns,
    load_schema,
    load_tables,
)
from tracker.ledger.connection import (
    BUSY_TIMEOUT_S,
    SCHEMA_VERSION,
    Query,
    check_version,
    foreign_database_error,
    missing_ledger_error,
    parse_column,
    refuse_leftover_logs,
    translate_postgres,
    translate_sqlite,
)
from tracker.ledger.guards import RENEW_GUARDS, check_catalog
from tracker.ledger.historical import METRIC_COLUMNS, HistoricalSubmission
from tracker.ledger.read import sota_query
from tracker.ledger.records import LedgerRow
from tracker.ledger.refusals import find_duplicate_refusal, read_quota_window
from tracker.ledger.sqlite_guards import check_unique_indexes
from tracker.run_folder.record import RunRecord
from tracker.training.errors import first_line, mask_secrets
from tracker.training.machine import host_name
from tracker.workspace.member_file import find_author
from tracker.workspace.predictions import Answers
from tracker.workspace.quota import Quota, build_quota
from tracker.workspace.tracker_toml import Competition, Workspace

METADATA = sa.MetaData()
WRITER_LOCK = 0x7261636B  # an arbitrary number; all writers of a PostgreSQL ledger use the same


_KINDS = {"INTEGER": sa.Integer, "TEXT": sa.Text, "DOUBLE PRECISION": sa.Double}


def _build_column(column: SchemaColumn) -> sa.Column[Any]:
    key = [sa.ForeignKey(column.references)] if column.references else []
    return sa.Column(
        column.name,
        _KINDS[column.kind],
        *key,
        primary_key=column.primary,
        nullable=not column.required,
        unique=column.unique or None,
        autoincrement=False,  # the chain gives the numbers
    )


def _build_table(name: str) -> sa.Table:
    """A table as it is in ledger.db.sql."""
    return sa.Table(name, METADATA, *(_build_column(column) for column in load_tables()[name]))


MIGRATIONS = _build_table("migrations")
CHAIN = _build_table("chain")
RUNS = _build_table("runs")
SUBMISSIONS = _build_table("submissions")
SCORES = _build_table("scores")
NOTES = _build_table("notes")
CHAINED = {"run": RUNS, "submission": SUBMISSIONS, "score": SCORES, "note": NOTES}


@dataclass(frozen=True, kw_only=True)
class Draft:
    """A submission before it has a number."""

    record: RunRecord
    config: Mapping[str, Any]
    memo: str
    answers: Answers
    file: str


@dataclass(frozen=True, kw_only=True)
class Receipt:
    """The result of an accepted submission: its number, and the quota after it."""

    number: int
    quota: Quota


class _TakenBackError(Exception):
    """Ends a transaction that could have been kept."""


class Ledger:
    """An open ledger; every method is one transaction, whole or not at all."""

    def __init__(self, engine: sa.Engine, url: str, author: str, runs_dir: Path) -> None:
        self._engine = engine
        self._url = url
        self._author = author
        self._runs_dir = runs_dir  # whose names the messages use

    def append_run(self, record: RunRecord, config: Mapping[str, Any], path: str) -> None:
        """Add the final record of a run, unless its newest row has the same values.

        A new row is not added if only the folder's path has changed.
        """
        made = {
            "summary": canonical_json(record.summary),
            "config": canonical_json(config),
            **_fingerprints("runs", record),
            "path": path,
        }
        row = {
            name: made[name] if name in made else getattr(record, name)
            for name in list_columns("runs")
        }
        with self._write() as connection:
            _append_run(connection, row)

    def refuse_duplicate(self, competition: Competition, fingerprint: str) -> None:
        """Raise DuplicateError when the same predictions were sent before."""
        with self._write() as connection:
            self._refuse_duplicate(connection, competition, fingerprint)

    def _refuse_duplicate(
        self, connection: sa.Connection, competition: Competition, fingerprint: str
    ) -> None:
        query = _ask(connection)
        if found := find_duplicate_refusal(query, competition, fingerprint, self._runs_dir):
            raise found

    def append_submission(self, draft: Draft, competition: Competition) -> Receipt:
        """Give a submission the next number, or refuse it.

        Raises DuplicateError when the same predictions were sent before, RefusedError when the
        quota is used up, the deadline has passed, a guard of the database is missing or a unique
        index damaged; then nothing is written.
        """
        with self._write() as connection:
            self._check_catalog(connection)
            # asked again under the lock: another process may have submitted since the examination
            self._refuse_duplicate(connection, competition, draft.answers.fingerprint)
            # what an index finds is refused, damaged or not; that it finds nothing must be proven
            self._check_unique_indexes(connection)
            window = read_quota_window(
                _ask(connection), competition, on_server=self._engine.dialect.name == "postgresql"
            )
            if window.refusal:
                raise window.refusal
            data = draft.record.fingerprints.get("data")
            sota, diff = self._compare_with_sota(
                connection, draft.config, competition, data=data, recorded=True
            )
            last = connection.execute(sa.select(sa.func.max(SUBMISSIONS.c.number))).scalar()
            row = _submission_row(
                draft, number=(last or 0) + 1, now=to_utc_text(window.now), sota=sota, diff=diff
            )
            row["author"] = self._author
            _append(connection, "submission", row)
            after = build_quota(
                window.competition, window.now, [*window.times, row["submitted_at"]]
            )
        return Receipt(number=row["number"], quota=after)

    def append_historical(
        self,
        rows: Sequence[HistoricalSubmission],
        competition: Competition,
        *,
        keep: bool = True,
    ) -> None:
        """Add the rows of an imported table with their own numbers, all or none; without `keep`
        the database takes them back at the end.

        Raises DuplicateError when predictions are in the ledger already, RefusedError when the
        numbers are in use, when a row's SOTA is not in the ledger, or a guard is missing.
        """
        with suppress(_TakenBackError), self._write() as connection:
            self._check_catalog(connection)
            self._check_unique_indexes(connection)
            last = connection.execute(sa.select(sa.func.max(SUBMISSIONS.c.number))).scalar() or 0
            if rows[0].number <= last:
                raise RefusedError(
                    f"the ledger has submissions up to {last}, but the table begins with"
                    f" {rows[0].number}",
                    hint="import into the ledger of a new workspace: tracker init NEWFOLDER",
                )
            known = {
                None,
                *connection.execute(sa.select(SUBMISSIONS.c.number)).scalars(),
                *(row.number for row in rows),
            }
            beside = sorted((other for row in rows for other in row.beside), key=_seq_of)
            for row in rows:
                if row.columns.get("sota") not in known:
                    raise RefusedError(
                        f"submission {row.number}: its sota, submission {row.columns['sota']}, is"
                        " not in the ledger"
                    )
                before = [other for other in beside if row.seq and other.seq < row.seq]
                _append_beside(connection, before)
                beside = beside[len(before) :]
                self._append_historical(connection, row, competition)
            _append_beside(connection, beside)
            if not keep:
                raise _TakenBackError

    def _append_historical(
        self, connection: sa.Connection, row: HistoricalSubmission, competition: Competition
    ) -> None:
        known = row.ledger_columns()
        if known["predictions_fingerprint"]:
            self._refuse_duplicate(connection, competition, known["predictions_fingerprint"])
        sota, diff = row.columns.get("sota"), row.columns.get("config_diff")
        if row.derived:
            sota, diff = self._compare_with_sota(connection, row.config, competition)
        values = {
            "number": row.number,
            "memo": row.memo,
            "config": canonical_json(row.config),
            **known,
            "sota": sota,
        }
        _append(
            connection,
            "submission",
            {**values, "config_diff": None if diff is None else canonical_json(diff)},
        )
        now, author = utc_now(), self._author
        has_rows = any(other.kind == "score" for other in row.beside)
        for (split, metric), value in () if has_rows else row.scores.items():
            score = {"submission": row.number, "split": split, "metric": metric, "value": value}
            _append(connection, "score", {**score, "author": author, "scored_at": now})
        text = canonical_json(row.extra)
        kept = [
            other.values["text"] for other in row.beside if other.values.get("kind") == "imported"
        ]
        if text in kept or (row.seq and not row.extra):
            return
        note = {"submission": row.number, "run_uid": None, "kind": "imported", "text": text}
        _append(connection, "note", {**note, "author": author, "noted_at": now})

    def _compare_with_sota(
        self,
        connection: sa.Connection,
        config: Mapping[str, Any],
        competition: Competition,
        *,
        data: str | None = None,
        recorded: bool = False,
    ) -> tuple[int | None, dict[str, list[Any]] | None]:
        """(number of the best submission now, config diff from it); (None, None) without a SOTA."""
        query = sa.text(sota_query(competition.primary))
        sota = connection.execute(query, {"metric": competition.primary_metric}).scalar()
        if sota is None:
            return None, None
        select = sa.select(SUBMISSIONS.c.config, SUBMISSIONS.c.data_fingerprint).where(
            SUBMISSIONS.c.number == sota
        )
        best = connection.execute(select).one()
        data_pair = (best.data_fingerprint, data)
        old = parse_column(best.config)
        return sota, diff_configs(old, config, data=data_pair, recorded=recorded)

    def append_missing(
        self,
        number: int,
        scores: Mapping[tuple[str, str], float],
        notes: Mapping[str, str] | None = None,
    ) -> bool:
        """Add the scores and notes that the ledger does not have yet; False when it has them all.

        A score is added if its newest value differs. A note (`notes` has texts by kind) is added if
        the submission has no note of that kind.
        """
        newest = sa.select(SCORES.c.split, SCORES.c.metric, SCORES.c.value).where(
            SCORES.c.submission == number
        )
        noted = sa.select(NOTES.c.kind).where(NOTES.c.submission == number)
        with self._write() as connection:
            known = {
                (row.split, row.metric): row.value
                for row in connection.execute(newest.order_by(SCORES.c.seq))
            }
            kinds = set(connection.execute(noted).scalars())
            fresh = {key: value for key, value in scores.items() if known.get(key) != value}
            missing = {kind: text for kind, text in (notes or {}).items() if kind not in kinds}
            self._append_scores(connection, number, fresh)
            for kind, text in missing.items():
                self._append_note(connection, kind=kind, text=text, submission=number)
        return bool(fresh or missing)

    def _append_scores(
        self, connection: sa.Connection, number: int, scores: Mapping[tuple[str, str], float]
    ) -> None:
        made = {"author": self._author, "scored_at": utc_now()}
        for (split, metric), value in scores.items():
            row = {"submission": number, "split": split, "metric": metric, "value": value}
            _append(connection, "score", {**row, **made})

    def _append_note(
        self,
        connection: sa.Connection,
        *,
        kind: str,
        text: str,
        submission: int | None,
        run_uid: str | None = None,
    ) -> None:
        row = {"submission": submission, "run_uid": run_uid, "kind": kind, "text": text}
        made = {"author": self._author, "noted_at": utc_now()}
        _append(connection, "note", {**row, **made})

    def append_note(
        self, *, kind: str, text: str, submission: int | None = None, run_uid: str | None = None
    ) -> None:
        """Add a note of one of the kinds in the schema."""
        with self._write() as connection:
            self._append_note(
                connection, kind=kind, text=text, submission=submission, run_uid=run_uid
            )

    def _check_catalog(self, connection: sa.Connection) -> None:
        """Raise RefusedError where the database could change the rows, or drop a new one."""
        is_sqlite = self._engine.dialect.name == "sqlite"
        _refuse_problem(check_catalog(_ask(connection), is_sqlite=is_sqlite))

    def _check_unique_indexes(self, connection: sa.Connection) -> None:
        """Raise RefusedError where the database would no longer refuse a second submission."""
        if self._engine.dialect.name == "sqlite":
            _refuse_problem(check_unique_indexes(_ask(connection)))

    @contextmanager
    def _write(self) -> Iterator[sa.Connection]:
        """A transaction without other writers beside it; raises LedgerError or StorageError."""
        with translate_ledger_errors(self._url), self._engine.begin() as connection:
            if self._engine.dialect.name == "postgresql":
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITER_LOCK)))
            yield connection


def _refuse_problem(problem: str) -> None:
    if problem:
        raise RefusedError(
            f"the ledger was changed: {problem}; nothing was added", hint=RENEW_GUARDS
        )


def _seq_of(row: LedgerRow) -> int:
    return row.seq


def _fingerprints(table: str, record: RunRecord) -> dict[str, str | None]:
    """{column: value} for the fingerprint columns of a table, from a run's record."""
    names = list_columns(table, end="_fingerprint")
    return {name: record.fingerprints.get(name.removesuffix("_fingerprint")) for name in names}


def _submission_row(
    draft: Draft, *, number: int, now: str, sota: int | None, diff: Mapping[str, Any] | None
) -> dict[str, Any]:
    record = draft.record
    # a later schema's column has the run's value of that name, unless a line below makes it
    added = {name: getattr(record, name, None) for name in list_added_columns("submissions")}
    return {
        **added,
        "number": number,
        "run": record.name.rpartition("/")[2],  # its name at home; the uid says which run it is
        "run_uid": record.uid,
        "memo": draft.memo,
        **_fingerprints("submissions", record),
        "predictions_fingerprint": draft.answers.fingerprint,
        "config": canonical_json(draft.config),
        "sota": sota,
        "config_diff": None if diff is None else canonical_json(diff),
        "best_epoch": record.best_epoch,
        **{name: record.summary.get(name.replace("_", "/", 1)) for name in METRIC_COLUMNS},
        "host": host_name(),
        "submitted_at": now,
        "file": draft.file,
        "answers": draft.answers.pack(),
    }


def _append_run(connection: sa.Connection, row: Mapping[str, Any]) -> None:
    """Add a run unless its newest row has the same values, but for the path."""
    newest = sa.select(RUNS).where(RUNS.c.uid == row["uid"]).order_by(RUNS.c.seq.desc()).limit(1)
    before = connection.execute(newest).mappings().first()
    same = before is not None and all(
        before[name] == value for name, value in row.items() if name != "path"
    )
    if not same:
        _append(connection, "run", row)


def _append_beside(connection: sa.Connection, rows: Sequence[LedgerRow]) -> None:
    """Add what an export has beside its submissions, as it was."""
    for row in rows:
        if row.kind == "run":
            _append_run(connection, row.values)
        else:
            _append(connection, row.kind, row.values)


def _ask(connection: sa.Connection) -> Query:
    """A function for queries with `:name` parameters in the open transaction."""

    def query(sql: str, parameters: Mapping[str, Any]) -> list[dict[str, Any]]:
        return [dict(row) for row in connection.execute(sa.text(sql), dict(parameters)).mappings()]

    return query


def _append(connection: sa.Connection, kind: str, row: Mapping[str, Any]) -> None:
    """Insert a row, and its link to the last row in the chain."""
    newest = sa.select(CHAIN.c.seq, CHAIN.c.hash).order_by(CHAIN.c.seq.desc()).limit(1)
    last = connection.execute(newest).first()
    seq, previous = (last.seq + 1, last.hash) if last else (1, "")
    row = {name: _without_negative_zero(value) for name, value in row.items()}
    link = {"seq": seq, "kind": kind, "previous": previous}
    connection.execute(sa.insert(CHAIN).values(**link, hash=row_hash(link, row)))
    connection.execute(sa.insert(CHAINED[kind]).values(seq=seq, **row))


def _without_negative_zero(value: Any) -> Any:
    """SQLite stores -0.0 as 0.0: hashed as it came, the row would look like a changed one."""
    return value + 0.0 if isinstance(value, float) else value


@contextmanager
def exclusive(workspace: Workspace, name: str) -> Iterator[None]:
    """Wait for the lock `name` and hold it in the block; a killed process loses it.

    With PostgreSQL all who use the ledger share the lock, with SQLite all who use this workspace.
    No transaction is open while it is held.
    """
    if workspace.ledger_url.startswith("sqlite:///"):
        with FileLock(workspace.state_dir / f"{name}.lock"):
            yield
        return
    with open_engine(workspace.ledger_url) as engine, engine.connect() as connection:
        held = connection.execution_options(isolation_level="AUTOCOMMIT")
        held.execute(sa.select(sa.func.pg_advisory_lock(WRITER_LOCK, sa.func.hashtext(name))))
        yield  # the lock is freed when the connection is closed


@contextmanager
def open_ledger(workspace: Workspace) -> Iterator[Ledger]:
    """Open an existing ledger for appending.

    Raises LedgerError when it is missing, foreign, newer or older.
    """
    with open_engine(workspace.ledger_url) as engine:
        with engine.begin() as connection:
            check_version(connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar())
        yield Ledger(engine, workspace.ledger_url, find_author(workspace.root), workspace.runs_dir)


@contextmanager
def open_engine(url: str) -> Iterator[sa.Engine]:
    """An engine for an existing ledger of any version.

    Raises LedgerError when the ledger is missing or foreign.
    """
    if url.startswith("sqlite:///") and not Path(url.removeprefix("sqlite:///")).is_file():
        raise missing_ledger_error(Path(url.removeprefix("sqlite:///")))
    engine = _build_engine(url)
    try:
        with translate_ledger_errors(url):
            with engine.begin() as connection:
                if not sa.inspect(connection).has_table("migrations"):
                    raise foreign_database_error()
            yield engine
    finally:
        engine.dispose()


def create_ledger(url: str) -> bool:
    """Make the tables in an empty database; False when it already is a ledger.

    Raises LedgerError for a database with other tables.
    """
    with create_tables(url) as connection:
        return connection is not None


@contextmanager
def create_tables(
    url: str, *, migrations: Sequence[Mapping[str, Any]] = ()
) -> Iterator[sa.Connection | None]:
    """The transaction that makes the tables in an empty database; rows can be added in it.

    `migrations` are the rows of a ledger that is copied; a new ledger has one of its own.

    None when it already is a ledger. Raises LedgerError for a database with other tables, and when
    the log of a lost ledger is next to the new file.
    """
    if url.startswith("sqlite:///"):
        refuse_leftover_logs(Path(url.removeprefix("sqlite:///")))
    engine = _build_engine(url)
    try:
        with translate_ledger_errors(url), engine.connect() as connection:
            if engine.dialect.name == "sqlite":
                # the journal mode cannot change in a transaction
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(WRITER_LOCK)))
            names = sa.inspect(connection).get_table_names()
            if "migrations" in names:
                check_version(
                    connection.execute(sa.select(sa.func.max(MIGRATIONS.c.version))).scalar()
                )
                yield None
                return
            if names:
                raise foreign_database_error()
            for statement in load_schema(engine.dialect.name):
                # no parameters, so that a % in the script is not read as one
                connection.exec_driver_sql(statement, execution_options={"no_parameters": True})
            row = {
                "version": SCHEMA_VERSION,
                "name": f"schema {SCHEMA_VERSION}",
                "applied_at": utc_now(),
            }
            connection.execute(sa.insert(MIGRATIONS), list(migrations) or [row])
            yield connection
            connection.commit()
    finally:
        engine.dispose()


def _build_engine(url: str) -> sa.Engine:
    try:
        parsed = sa.make_url(url)
        if url.startswith("sqlite:///"):
            # the rest is a plain path: ? and % in it have no meaning, as in connection.py
            parsed = sa.URL.create("sqlite", database=url.removeprefix("sqlite:///"))
        if parsed.get_backend_name() == "sqlite":
            engine = sa.create_engine(parsed, connect_args={"timeout": BUSY_TIMEOUT_S})
            event.listen(engine, "connect", _prepare_sqlite)
            event.listen(engine, "begin", _begin_immediate)
            return engine
        if parsed.drivername in ("postgresql", "postgresql+psycopg"):
            parsed = parsed.set(drivername="postgresql+psycopg")
            return sa.create_engine(parsed, connect_args={"connect_timeout": 10})
    except sa.exc.ArgumentError:
        pass
    raise LedgerError(
        f"ledger.url {mask_secrets(url)!r} is not understood",
        hint="write sqlite:///ledger.db or postgresql+psycopg://USER@HOST/DB",
    )


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.isolation_level = None  # we send BEGIN ourselves, see _begin_immediate
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_immediate(connection: sa.Connection) -> None:
    """Take the write lock at once: a reader that becomes a writer would fail instead of waiting."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


@contextmanager
def translate_ledger_errors(url: str) -> Iterator[None]:
    """Translate SQLAlchemy's errors into LedgerError and StorageError."""
    try:
        yield
    except sa.exc.DBAPIError as error:
        raise _translate(error, url) from error
    except UnicodeDecodeError as error:
        raise translate_sqlite(error, Path(url.removeprefix("sqlite:///"))) from error
    except sa.exc.SQLAlchemyError as error:
        raise LedgerError(f"ledger {mask_secrets(url)}: {first_line(error)}") from error


def _translate(error: sa.exc.DBAPIError, url: str) -> TrackerError:
    if isinstance(error.orig, sqlite3.Error):
        return translate_sqlite(error.orig, Path(url.removeprefix("sqlite:///")))
    return translate_postgres(error.orig or error, url)
