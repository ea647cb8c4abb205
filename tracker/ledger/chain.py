"""The hash chain of the ledger: how a row is hashed, and whether every row still has its hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from itertools import starmap
from json.encoder import encode_basestring
from typing import Any

from tracker.ledger.columns import list_added_columns
from tracker.ledger.connection import Query, Reader, Row, open_reader
from tracker.ledger.guards import check_guards
from tracker.ledger.records import RowProblem
from tracker.training.errors import ConfigError
from tracker.training.numbers import is_whole

TABLES = {"run": "runs", "submission": "submissions", "score": "scores", "note": "notes"}
ROWS_PER_CHUNK = 2000  # rows in memory at a time: their answers are long
MANY_TEXTS = 500  # texts of configs that are kept as JSON
_LINK = ("seq", "kind", "previous", "hash")
_Cells = tuple[Any, ...]
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

    `accepted` describes the wrong rows that were accepted as they are; they are among `problems`.
    """

    rows: int
    head: str
    problem: str
    accepted: Sequence[str] = ()
    problems: Sequence[RowProblem] = ()

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        plain = {**asdict(self), "accepted": list(self.accepted)}
        del plain["problems"]
        return plain


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
    """Compute every hash again, in one snapshot, and check the guards, at the same time.

    With `head`, the ledger must still have that row. `set_aside` are the keys of wrong rows that
    were accepted. Raises ConfigError when `head` does not have the form that verify prints,
    LedgerError when the ledger cannot be read.
    """
    from concurrent.futures import ThreadPoolExecutor  # 5 ms, and most commands verify nothing

    wanted = _parse_head(head) if head else None
    with open_reader(url) as query, ThreadPoolExecutor(1) as other:
        # the database looks at every page meanwhile, which needs no interpreter
        guards = other.submit(check_guards, url)
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
        problem=problem or guards.result(),
        accepted=[problem.text for problem in found.problems if problem.key in set_aside],
        problems=found.problems,
    )


def find_row_problems(query: Reader) -> list[RowProblem]:
    """Every row that is missing, too many, or not what its hash says; about 6 us a row."""
    return [*_check_rows(query, None).problems]


def _quote(text: str) -> str:
    """A text as JSON, in a text that `%` fills."""
    return encode_basestring(text).replace("%", "%%")


def _read_names(query: Query) -> dict[str, list[str]]:
    """{kind: sorted names of the columns that are hashed} of the tables that have rows."""
    names = {}
    for kind, table in TABLES.items():
        for row in query(f"SELECT * FROM {table} LIMIT 1", {}):
            names[kind] = sorted(row.keys() - {"seq"})
    return names


def _check_rows(query: Reader, wanted: tuple[int, str] | None) -> _CheckedRows:
    total = _count(query, "chain")
    problems: list[RowProblem] = []
    names = _read_names(query)
    previous, seq, seen = "", 0, False
    sql = f"SELECT {', '.join(_LINK)} FROM chain WHERE seq > :seq ORDER BY seq LIMIT :n"
    while links := query.list_tuples(sql, {"seq": seq, "n": ROWS_PER_CHUNK}):
        if not _agree(query, names, links, seq, previous):
            problems += _list_chunk_problems(query, names, seq, previous)
        if wanted and any(_matches_head(wanted, link[0], link[3]) for link in links):
            seen = True
        seq, previous = links[-1][0], links[-1][3]
    # where each link has its row and no row is over, none is outside of the chain
    if problems or total != sum(_count(query, table) for table in TABLES.values()):
        problems = [*_find_strays(query), *problems]
    if not problems and seq != total:
        text = f"the chain has {total} rows and ends with row {seq}"
        problems.append(_build_problem(text, {}, []))
    return _CheckedRows(rows=total, last=seq, hash=previous, problems=problems, has_head=seen)


def _count(query: Query, table: str) -> int:
    return int(query(f"SELECT count(*) AS n FROM {table}", {})[0]["n"])


def _agree(
    query: Reader, names: Mapping[str, Sequence[str]], links: Sequence[_Cells], seq: int, head: str
) -> bool:
    """Whether a part of the chain, after row `seq` with the hash `head`, is certainly whole.

    False also where only `_list_chunk_problems` knows. A column at a time, so that few steps of the
    interpreter are taken for a row.
    """
    seqs, kinds, previous, hashes = zip(*links, strict=True)
    if seqs != tuple(range(seq + 1, seq + 1 + len(links))) or previous != (head, *hashes[:-1]):
        return False
    if not names.keys() >= set(kinds):
        return False
    for kind, columns in names.items():
        own = [link for link in links if link[1] == kind]
        sql = _select_contents(kind, [*columns, "seq"])
        rows = query.list_tuples(sql, {"after": seq, "last": links[-1][0]})
        # one row for each of its links, and no other
        if [row[-1] for row in rows] != [link[0] for link in own]:
            return False
        if own and not _have_hashes(kind, columns, own, [row[:-1] for row in rows]):
            return False
    return True


def _have_hashes(
    kind: str, names: Sequence[str], links: Sequence[_Cells], rows: Sequence[_Cells]
) -> bool:
    """Whether rows of one table, their columns in the sorted order of `names`, certainly have the
    hashes of their `links`.

    They are hashed as the text that `row_hash` makes of each. False also where only `row_hash`
    knows.
    """
    seqs, _, previous, hashes = zip(*links, strict=True)
    added = list_added_columns(TABLES[kind])
    cells, columns = [], [(previous, encode_basestring)]
    for name, column in zip(names, zip(*rows, strict=True), strict=True):
        if name in added and all(cell is None for cell in column):
            continue  # rows from before the column: it is no part of them
        cells.append(f"{_quote(name)}:%s")
        columns.append((column, _quote_config if name == "config" else encode_basestring))
    columns.append((seqs, encode_basestring))
    form = f'{{"kind":{_quote(kind)},"previous":%s,"row":{{{",".join(cells)}}},"seq":%s}}'
    try:
        texts = map(form.__mod__, zip(*starmap(_render_column, columns), strict=True))
        found = ["sha256:" + hashlib.sha256(text.encode()).hexdigest() for text in texts]
    except KeyError:  # a type that this program never writes
        return False
    return found == list(hashes)


def _render_column(cells: _Cells, quote: Callable[[str], str]) -> Iterable[str]:
    """Cells as canonical JSON, texts by `quote`. Raises KeyError for a type that no table has."""
    if set(map(type, cells)) == {str}:
        return map(quote, cells)
    return [_CELLS[type(cell)](cell) for cell in cells]


@lru_cache(maxsize=MANY_TEXTS)
def _quote_config(text: str) -> str:
    """The text of a config as JSON: a submission has that of its run, as have many runs."""
    return encode_basestring(text)


def _list_chunk_problems(
    query: Query, names: Mapping[str, Sequence[str]], seq: int, previous: str
) -> list[RowProblem]:
    """Every row of a part of the chain, after row `seq` with the hash `previous`, that is missing,
    too many, or not what its hash says."""
    sql = "SELECT * FROM chain WHERE seq > :seq ORDER BY seq LIMIT :n"
    links = query(sql, {"seq": seq, "n": ROWS_PER_CHUNK})
    contents = _read_contents(query, names, seq, links[-1]["seq"])
    problems = []
    for link in links:
        found = contents.get(link["seq"], [])
        for text in _list_problems(link, seq, previous, found):
            problems.append(_build_problem(text, link, found))
        previous, seq = link["hash"], link["seq"]
    return problems


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


def _select_contents(kind: str, names: Iterable[str]) -> str:
    """The query for the rows of a part of the chain, in their order."""
    columns = ", ".join('"{}"'.format(name.replace('"', '""')) for name in names)
    return f"SELECT {columns} FROM {TABLES[kind]} WHERE seq > :after AND seq <= :last ORDER BY seq"


def _read_contents(
    query: Query, names: Mapping[str, Sequence[str]], after: int, last: int
) -> dict[int, list[tuple[str, Row]]]:
    """{seq: [(kind, row without seq)]} of all tables for a part of the chain.

    Each seq has one row, unless somebody removed the keys of a table.
    """
    contents: dict[int, list[tuple[str, Row]]] = {}
    for kind, columns in names.items():
        rows = query(_select_contents(kind, ["seq", *columns]), {"after": after, "last": last})
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
