"""The hash chain of the ledger: how a row is hashed, and whether every row still has its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from json.encoder import encode_basestring
from typing import Any

from tracker.ledger.columns import list_added_columns
from tracker.ledger.connection import Query, Row, open_reader
from tracker.ledger.guards import check_guards
from tracker.ledger.records import RowProblem
from tracker.training.errors import ConfigError
from tracker.training.numbers import is_whole

TABLES = {"run": "runs", "submission": "submissions", "score": "scores", "note": "notes"}
ROWS_PER_CHUNK = 5000  # rows in memory at a time: their answers are long
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)

# A cell as canonical JSON, by its exact type; of infinity `repr` is another text than JSON's.
_CELLS: Mapping[type, Callable[[Any], str]] = {
    str: encode_basestring,
    int: int.__repr__,
    float: float.__repr__,
    type(None): lambda _: "null",
}

NO_ROW = "0:"  # the head of an empty ledger
CHANGED = "was changed after it was written"


@dataclass(frozen=True, kw_only=True)
class Verification:
    """The result of verify: `problem` describes the first wrong row, and is empty without one.

    `accepted` describes the wrong rows that were accepted as they are.
    """

    rows: int
    head: str
    problem: str
    accepted: Sequence[str] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return {**asdict(self), "accepted": list(self.accepted)}


@dataclass(frozen=True, kw_only=True)
class _CheckedRows:
    """Every row compared with its hash. `has_head` is whether the head asked for is there."""

    rows: int
    last: int
    hash: str
    problems: Sequence[RowProblem]
    has_head: bool


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats in their shortest exact form."""
    return _ENCODER.encode(value)


def row_hash(link: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a row and its place in the chain.

    A column that a later schema added counts where it has a value, so that rows from before have
    the hash that they always had.
    """
    added = list_added_columns(TABLES[link["kind"]])
    known = {name: cell for name, cell in row.items() if cell is not None or name not in added}
    return "sha256:" + hashlib.sha256(canonical_json({**link, "row": known}).encode()).hexdigest()


def render_head(seq: int, row_hash: str) -> str:
    """The head as people save it, `SEQ:HASH`: with it verify detects rows deleted at the end."""
    return f"{seq}:{row_hash.removeprefix('sha256:')[:16]}" if seq else NO_ROW


def read_head(url: str) -> str:
    """The current head of the ledger."""
    with open_reader(url) as query:
        rows = query("SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1", {})
    return render_head(rows[0]["seq"], rows[0]["hash"]) if rows else NO_ROW


def verify_ledger(url: str, *, head: str = "", set_aside: Collection[str] = ()) -> Verification:
    """Compute every hash again, in one snapshot, and check the guards.

    With `head`, the ledger must still have that row. `set_aside` are the keys of wrong rows that
    were accepted. Raises ConfigError when `head` does not have the form that verify prints,
    LedgerError when the ledger cannot be read.
    """
    wanted = _parse_head(head) if head else None
    with open_reader(url) as query:
        found = _check_rows(query, wanted)
    wrong = [problem for problem in found.problems if problem.key not in set_aside]
    problem = wrong[0].text if wrong else ""
    if not problem and wanted and wanted[0] > 0 and not found.has_head:
        what = "was deleted" if wanted[0] > found.last else "has another hash"
        problem = (
            f"row {wanted[0]} of the head {head} {what}; the ledger ends with row {found.last}"
        )
    return Verification(
        rows=found.rows,
        head=render_head(found.last, found.hash),
        problem=problem or check_guards(url),
        accepted=[problem.text for problem in found.problems if problem.key in set_aside],
    )


def find_row_problems(query: Query) -> list[RowProblem]:
    """Every row that is missing, too many, or not what its hash says; about 8 us a row."""
    return [*_check_rows(query, None).problems]


class _Form:
    """The text that the rows of one table are hashed as: that of `row_hash`, but the names of the
    columns are sorted and written once."""

    def __init__(self, kind: str, names: Iterable[str]) -> None:
        self.names = sorted(names)
        self._added = [name for name in list_added_columns(TABLES[kind]) if name in self.names]
        cells = ",".join(f"{_quote(name)}:%s" for name in self.names)
        self._text = f'{{"kind":{_quote(kind)},"previous":%s,"row":{{{cells}}},"seq":%s}}'

    def has_hash(self, link: Row, row: Row) -> bool:
        """Whether a row, its columns in the order of `names`, certainly has the hash of its link.

        False also where only `_has_its_hash` knows.
        """
        if any(row[name] is None for name in self._added):
            return False
        values = (link["previous"], *row.values(), link["seq"])
        try:
            text = self._text % tuple([_CELLS[type(value)](value) for value in values])
        except KeyError:  # a type that this program never writes
            return False
        return bool(link["hash"] == "sha256:" + hashlib.sha256(text.encode()).hexdigest())


def _quote(text: str) -> str:
    """A text as JSON, in a text that `%` fills."""
    return encode_basestring(text).replace("%", "%%")


def _read_forms(query: Query) -> dict[str, _Form]:
    """{kind: form} of the tables that have rows, with the columns that they have now."""
    forms = {}
    for kind, table in TABLES.items():
        for row in query(f"SELECT * FROM {table} LIMIT 1", {}):
            forms[kind] = _Form(kind, row.keys() - {"seq"})
    return forms


def _check_rows(query: Query, wanted: tuple[int, str] | None) -> _CheckedRows:
    total = query("SELECT count(*) AS n FROM chain", {})[0]["n"]
    problems = _find_strays(query)
    forms = _read_forms(query)
    previous, seq, seen = "", 0, False
    while rows := query(
        "SELECT * FROM chain WHERE seq > :seq ORDER BY seq LIMIT :n",
        {"seq": seq, "n": ROWS_PER_CHUNK},
    ):
        contents = _read_contents(query, forms, seq, rows[-1]["seq"])
        for link in rows:
            found = contents.get(link["seq"], [])
            if not _is_next(link, seq, previous, found) or not forms[link["kind"]].has_hash(
                link, found[0][1]
            ):
                texts = _list_problems(link, seq, previous, found)
                problems += [_build_problem(text, link, found) for text in texts]
            previous, seq = link["hash"], link["seq"]
            if wanted and _matches_head(wanted, seq, previous):
                seen = True
    if not problems and seq != total:
        text = f"the chain has {total} rows and ends with row {seq}"
        problems.append(_build_problem(text, {}, []))
    return _CheckedRows(rows=total, last=seq, hash=previous, problems=problems, has_head=seen)


def _build_problem(text: str, link: Row, found: Sequence[tuple[str, Row]]) -> RowProblem:
    content = repr(
        [text, sorted(link.items()), [(kind, sorted(row.items())) for kind, row in found]]
    )
    digest = hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()
    scored = [row.get("submission") for kind, row in found if kind == "score"]
    return RowProblem(text=text, key=f"row:{digest}", submission=scored[0] if scored else None)


def _parse_head(head: str) -> tuple[int, str]:
    """(row number, first digits of its hash); "0:" is the head of an empty ledger."""
    number, colon, digits = head.strip().partition(":")
    is_number = bool(colon) and is_whole(number)
    is_hash = set(digits) <= set("0123456789abcdef")
    if not is_number or not is_hash or (not digits and number != "0"):
        raise ConfigError(
            f"--head {head}: expected a head that verify or submit printed, as in"
            " 12:9f86d081884c7d65"
        )
    return int(number), digits


def _matches_head(head: tuple[int, str], seq: int, row_hash: str) -> bool:
    number, digits = head
    return seq == number and row_hash.removeprefix("sha256:").startswith(digits)


def _is_next(link: Row, before: int, previous: str, contents: Sequence[tuple[str, Row]]) -> bool:
    """Whether a row of the chain follows the one before and has one row, of its kind."""
    return (
        link["seq"] == before + 1
        and link["previous"] == previous
        and len(contents) == 1
        and contents[0][0] == link["kind"]
    )


def _read_contents(
    query: Query, forms: Mapping[str, _Form], after: int, last: int
) -> dict[int, list[tuple[str, Row]]]:
    """{seq: [(kind, row without seq)]} of all tables for a part of the chain.

    Each seq has one row, unless somebody removed the keys of a table.
    """
    contents: dict[int, list[tuple[str, Row]]] = {}
    bounds = {"after": after, "last": last}
    for kind, form in forms.items():
        names = ", ".join('"{}"'.format(name.replace('"', '""')) for name in form.names)
        sql = f"SELECT seq, {names} FROM {TABLES[kind]} WHERE seq > :after AND seq <= :last"
        rows = query(sql, bounds)
        for row in rows:
            contents.setdefault(row.pop("seq"), []).append((kind, row))
    return contents


def _list_problems(
    link: Row, before: int, previous: str, contents: Sequence[tuple[str, Row]]
) -> Iterator[str]:
    """What is wrong with one row, and with the place before it."""
    seq, kind = link["seq"], link["kind"]
    if seq == before + 2:
        yield f"row {before + 1} is missing"
    elif seq != before + 1:
        yield f"rows {before + 1} to {seq - 1} are missing"
    if not contents:
        yield f"row {seq}: its {kind} is missing"
        return
    if len(contents) > 1:
        yield f"row {seq}: exists {len(contents)} times"
        return
    actual_kind, row = contents[0]
    name = f"row {seq} ({name_row(kind, row)})"
    if actual_kind != kind:
        yield f"row {seq}: is a {actual_kind}, was a {kind}"
    elif seq == before + 1 and link["previous"] != previous:
        yield f"{name} does not follow row {before}"
    elif not _has_its_hash(link, row):
        yield f"{name} {CHANGED}"


def _has_its_hash(link: Row, row: Row) -> bool:
    own = {name: link[name] for name in ("seq", "kind", "previous")}
    try:
        return bool(link["hash"] == row_hash(own, row))
    except TypeError:  # bytes, or another type that this program never writes
        return False


def name_row(kind: str, row: Row) -> str:
    """A row as people know it: `run exp3`, `submission 4`, `score of submission 4`."""
    if kind == "run":
        name = row.get("name")
    elif kind == "submission":
        name = row.get("number")
    else:
        name = row.get("submission")
    if kind in ("score", "note") and name:
        return f"{kind} of submission {name}"
    return f"{kind} {name or ''}".strip()


def _find_strays(query: Query) -> list[RowProblem]:
    """The first row of each kind that is not in the chain, or is there under another kind."""
    problems = []
    for kind, table in TABLES.items():
        in_chain = "chain c ON c.seq = t.seq AND c.kind = :kind"
        sql = f"FROM {table} t LEFT JOIN {in_chain} WHERE c.seq IS NULL"
        stray = query(f"SELECT count(*) AS n, min(t.seq) AS seq {sql}", {"kind": kind})[0]
        if stray["n"]:
            text = f"{kind} {stray['seq'] or 'without a seq'} is not in the chain"
            problems.append(_build_problem(text, stray, []))
    return problems
