"""What a .json export has of a ledger beside its submissions: runs, every score, every note.

A submission's object has its place in the ledger and the rows about it, as they are in the tables;
the first one also has the rows about no submission. An import appends all in the same order.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from operator import itemgetter
from typing import Any

from tracker.ledger.columns import MAX_INTEGER, SchemaColumn, load_tables
from tracker.ledger.connection import Query, Row
from tracker.ledger.historical import check_value, parse_integer
from tracker.ledger.records import LedgerRow
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json

SEQ, SCORES, NOTES, OTHERS = "ledger_seq", "ledger_scores", "ledger_notes", "ledger_others"
KEYS = (SEQ, SCORES, NOTES, OTHERS)
TABLES = {"run": "runs", "score": "scores", "note": "notes"}
VALUES = {  # the CHECK constraints of ledger.db.sql
    ("score", "split"): ("public", "private", "overall"),
    ("note", "kind"): ("note", "sent", "rejected", "revealed", "imported"),
}
OF_PEOPLE = ("note", "rejected")  # the kinds of notes that somebody typed
BY_TRACKER = "note by tracker"
ROWS_PER_PART = 500  # in memory at a time
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


# --- Export ---


class RowsBeside:
    """Reads the rows about submissions, for some of them at a time."""

    def __init__(self, query: Query) -> None:
        self._query = query

    def describe(self, numbers: Sequence[int]) -> Iterator[dict[str, Any]]:
        """The first three KEYS of each of some submissions that follow each other."""
        known = {"first": numbers[0], "last": numbers[-1]}
        sql = "SELECT number, seq FROM submissions WHERE number BETWEEN :first AND :last"
        seqs = {row["number"]: row["seq"] for row in self._query(sql, known)}
        scores, notes = (self._group(kind, known) for kind in ("score", "note"))
        for number in numbers:
            own = {SCORES: scores.get(number, []), NOTES: notes.get(number, [])}
            yield {SEQ: seqs.get(number), **own}

    def _group(self, kind: str, known: Mapping[str, int]) -> dict[int, list[dict[str, Any]]]:
        """{number: rows about the submission, as objects}."""
        which = "submission BETWEEN :first AND :last"
        groups: dict[int, list[dict[str, Any]]] = {}
        sql = f"SELECT * FROM {TABLES[kind]} WHERE {which} ORDER BY seq"
        for row in self._query(sql, known):
            groups.setdefault(row["submission"], []).append(_render(row))
        return groups

    def iterate_others(self) -> Iterator[dict[str, Any]]:
        """The rows about no submission, in their order, as objects of OTHERS."""
        parts = [
            self._iterate("run", "1 = 1"),
            self._iterate("note", "submission IS NULL"),
        ]
        return heapq.merge(*parts, key=itemgetter(SEQ))

    def _iterate(self, kind: str, which: str) -> Iterator[dict[str, Any]]:
        after = 0
        sql = (
            f"SELECT * FROM {TABLES[kind]} WHERE seq > :after AND {which} ORDER BY seq"
            f" LIMIT {ROWS_PER_PART}"
        )
        while rows := self._query(sql, {"after": after}):
            after = rows[-1]["seq"]
            for row in rows:
                yield {"table": TABLES[kind], **_render(row)}

    def count_left_out(self) -> dict[str, int]:
        """How much of it a table without these rows lacks: {"note": 2, "run": 5, ...}.

        The newest score of each split and metric is a cell of the table, and so is what an import
        stored with the row. A run counts once, though each of its endings is a row.
        """
        of_people = f"kind IN {OF_PEOPLE}"
        scored = "(SELECT 1 FROM scores GROUP BY submission, split, metric)"
        counts = {
            "note": f"count(*) AS n FROM notes WHERE {of_people}",
            BY_TRACKER: f"count(*) AS n FROM notes WHERE NOT {of_people} AND kind <> 'imported'",
            "earlier score": f"(SELECT count(*) FROM scores) - count(*) AS n FROM {scored} s",
            "run": "count(DISTINCT uid) AS n FROM runs",
        }
        return {what: self._query(f"SELECT {sql}", {})[0]["n"] for what, sql in counts.items()}

    def render_left_out(self) -> str:
        """`2 notes and 5 runs` that a .csv or .md file lacks, or ""."""
        plurals = {BY_TRACKER: "notes by tracker"}
        parts = [
            render_count(count, what, plurals.get(what, ""))
            for what, count in self.count_left_out().items()
            if count
        ]
        return (
            " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)
        )


def _render(row: Row) -> dict[str, Any]:
    """As an object; the number of the submission is that of the object around it."""
    return {SEQ: row.pop("seq"), **{n: cell for n, cell in row.items() if n != "submission"}}


# --- Import ---


def parse_rows_beside(cells: Mapping[str, Any], number: int) -> tuple[int | None, list[LedgerRow]]:
    """(place of a submission in the old ledger, the rows in its object), checked.

    Raises ConfigError for what the ledger's tables would not take.
    """
    seq = cells.get(SEQ)
    rows = []
    for key, kind in ((SCORES, "score"), (NOTES, "note")):
        for item in _list_objects(cells, key):
            rows.append(_parse_row(kind, item, key, number))
    if rows and (seq is None or min(row.seq for row in rows) <= parse_integer(seq, 1)):
        raise ConfigError(f"{SEQ}: {seq}, expected a number before those of its scores and notes")
    kinds = {table: kind for kind, table in TABLES.items()}
    for item in _list_objects(cells, OTHERS):
        table = item.get("table")
        if table not in ("runs", "notes"):
            raise ConfigError(f"{OTHERS}: table {table!r}, expected runs or notes")
        rows.append(_parse_row(kinds[table], item, OTHERS, None))
    return (None if seq is None else parse_integer(seq, 1)), rows


def _list_objects(cells: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    found = cells.get(key)
    if found is None:
        return []
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ConfigError(f"{key}: expected a list of objects, as export writes it")
    return found


def _parse_row(kind: str, item: Mapping[str, Any], key: str, number: int | None) -> LedgerRow:
    columns = {column.name: column for column in load_tables()[TABLES[kind]]}
    del columns["seq"]
    unknown = sorted(set(item) - set(columns) - {SEQ, "table"})
    if unknown:
        raise ConfigError(f"{key}: unknown key {unknown[0]!r}")
    given = {**item, "submission": number} if "submission" in columns else item
    values = {}
    for name, column in columns.items():
        try:
            values[name] = _parse_value(kind, column, given.get(name))
        except ConfigError as error:
            raise ConfigError(f"{key}: {name}: {error}") from None
    _check_objects(kind, values, key)
    return LedgerRow(seq=parse_integer(item.get(SEQ, ""), 1), kind=kind, values=values)


def _check_objects(kind: str, values: Mapping[str, Any], key: str) -> None:
    """Raise ConfigError where a text that readers parse is no JSON object."""
    names = ["summary", "config"] if kind == "run" else []
    if values.get("kind") == "imported":
        names = ["text"]
    for name in names:
        try:
            is_object = isinstance(parse_json(values[name]), dict)
        except (ValueError, RecursionError):
            is_object = False
        if not is_object:
            raise ConfigError(f"{key}: {name}: {values[name][:40]!r}, expected a JSON object")


def _parse_value(kind: str, column: SchemaColumn, value: Any) -> Any:
    if value is None:
        if column.required:
            raise ConfigError("missing")
        return None
    check_value(value)
    if column.kind == "INTEGER":
        return _check_integer(value)
    if column.kind == "DOUBLE PRECISION":
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ConfigError(f"{value!r}, expected a number")
        return float(value)
    if not isinstance(value, str):
        raise ConfigError(f"{value!r}, expected a text")
    allowed = VALUES.get((kind, column.name), (value,))
    if value not in allowed:
        raise ConfigError(f"{value!r}, expected one of {', '.join(allowed)}")
    if column.name.endswith("_at") and not _TIME.fullmatch(value):
        raise ConfigError(f"{value!r}, expected a time as in 2026-11-24T02:11:46.123456Z")
    return value


def _check_integer(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or abs(value) > MAX_INTEGER:
        raise ConfigError(f"{value!r}, expected a whole number")
    return value


def find_contradiction(rows: Iterable[LedgerRow], cells: Mapping[str, Any]) -> str:
    """A score whose cell says something else than its newest row; "" where all agree.

    Somebody who corrects a cell of an export by hand must not get the score from before.
    """
    newest = {}
    for row in rows:
        if row.kind == "score":
            newest[f"{row.values['split']}_{row.values['metric']}"] = row.values["value"]
    for name, value in newest.items():
        if cells.get(name) != value:
            return (
                f"{name}: {cells.get(name)}, but the newest row of {SCORES} says {value}; to"
                f" correct a score by hand, delete {SCORES} of its submission"
            )
    return ""
