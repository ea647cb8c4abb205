"""What a .json export has of a ledger beside its submissions: runs, every score, every note.

A submission's object has its place in the ledger and the rows about it, as they are in the tables;
the first one also has the rows about no submission. An import appends all in the same order.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tracker.ledger.columns import MAX_INTEGER, SchemaColumn, load_tables
from tracker.ledger.connection import open_reader
from tracker.ledger.historical import check_value, parse_integer
from tracker.ledger.records import LedgerRow
from tracker.training.errors import ConfigError
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json
from tracker.workspace.tracker_toml import Workspace

SEQ, SCORES, NOTES, OTHERS = "ledger_seq", "ledger_scores", "ledger_notes", "ledger_others"
KEYS = (SEQ, SCORES, NOTES, OTHERS)
TABLES = {"run": "runs", "score": "scores", "note": "notes"}
VALUES = {  # the CHECK constraints of ledger.db.sql
    ("score", "split"): ("public", "private", "overall"),
    ("note", "kind"): ("note", "sent", "rejected", "revealed", "imported"),
}
OF_PEOPLE = ("note", "rejected")  # the kinds of notes that somebody typed
BY_TRACKER = "note by tracker"
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")


@dataclass(frozen=True, kw_only=True)
class RowsBeside:
    """All rows that are no submissions, in their order, and the places of the submissions."""

    seqs: Mapping[int, int] = field(default_factory=dict)  # of the submissions, by number
    rows: Sequence[LedgerRow] = ()

    def count_left_out(self) -> dict[str, int]:
        """How much of it a table without these rows lacks: {"note": 2, "run": 5, ...}.

        The newest score of each split and metric is a cell of the table, and so is what an import
        stored with the row. A run counts once, though each of its endings is a row.
        """
        newest = {_score_key(row): row.seq for row in self.rows if row.kind == "score"}
        counts = dict.fromkeys(("note", BY_TRACKER, "earlier score", "run"), 0)
        for row in self.rows:
            if row.kind == "score":
                counts["earlier score"] += newest[_score_key(row)] != row.seq
            elif row.kind == "note" and row.values["kind"] != "imported":
                counts["note" if row.values["kind"] in OF_PEOPLE else BY_TRACKER] += 1
        counts["run"] = len({row.values["uid"] for row in self.rows if row.kind == "run"})
        return counts


def _number_of(row: LedgerRow) -> int | None:
    number = row.values.get("submission")
    return None if number is None else int(number)


def _score_key(row: LedgerRow) -> tuple[Any, ...]:
    return tuple(row.values[name] for name in ("submission", "split", "metric"))


# --- Export ---


def read_rows_beside(workspace: Workspace) -> RowsBeside:
    """Read them at one moment. Raises LedgerError."""
    rows = []
    with open_reader(workspace.ledger_url) as query:
        found = query("SELECT number, seq FROM submissions", {})
        for kind, table in TABLES.items():
            for values in query(f"SELECT * FROM {table} ORDER BY seq", {}):
                rows.append(LedgerRow(seq=values.pop("seq"), kind=kind, values=values))
    rows.sort(key=lambda row: row.seq)
    return RowsBeside(seqs={row["number"]: row["seq"] for row in found}, rows=rows)


def add_rows_beside(table: Sequence[dict[str, Any]], beside: RowsBeside) -> list[dict[str, Any]]:
    """The flat rows of an export with KEYS; the first also has the rows about no submission."""
    scores = _group(row for row in beside.rows if row.kind == "score")
    notes = _group(row for row in beside.rows if row.kind == "note")
    others = [row for row in beside.rows if _number_of(row) is None]
    full: list[dict[str, Any]] = []
    for flat in table:
        number = flat["number"]
        own = {
            SEQ: beside.seqs.get(number),
            SCORES: [_render(row) for row in scores.get(number, [])],
            NOTES: [_render(row) for row in notes.get(number, [])],
        }
        if not full and others:
            own[OTHERS] = [{"table": TABLES[row.kind], **_render(row)} for row in others]
        full.append({**flat, **own})
    return full


def _group(rows: Iterable[LedgerRow]) -> dict[int | None, list[LedgerRow]]:
    groups: dict[int | None, list[LedgerRow]] = {}
    for row in rows:
        groups.setdefault(_number_of(row), []).append(row)
    return groups


def _render(row: LedgerRow) -> dict[str, Any]:
    """As an object; the number of the submission is that of the object around it."""
    values = {name: value for name, value in row.values.items() if name != "submission"}
    return {SEQ: row.seq, **values}


def render_left_out(beside: RowsBeside) -> str:
    """`2 notes and 5 runs` that a .csv or .md file lacks, or ""."""
    plurals = {BY_TRACKER: "notes by tracker"}
    counts = beside.count_left_out()
    parts = [
        render_count(count, what, plurals.get(what, "")) for what, count in counts.items() if count
    ]
    return " and ".join([", ".join(parts[:-1]), parts[-1]]) if len(parts) > 1 else "".join(parts)


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
