"""The hash chain of the ledger: how a row is hashed, and whether every row still agrees with its
hash."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tracker.ledger.connection import Query, Row, open_reader
from tracker.ledger.guards import check_guards
from tracker.training.errors import ConfigError

TABLES = {"run": "runs", "submission": "submissions", "score": "scores", "note": "notes"}
CHUNK = 5000
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=False)


@dataclass(frozen=True, kw_only=True)
class Verification:
    """What verify found: `problem` names the first row that does not agree, and is empty when all
    do."""

    rows: int
    head: str
    problem: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def canonical_json(value: Any) -> str:
    """JSON with sorted keys and no spaces; floats in their shortest exact form."""
    return _ENCODER.encode(value)


def row_hash(link: Mapping[str, Any], row: Mapping[str, Any]) -> str:
    """SHA-256 of the canonical JSON of a row and its place in the chain."""
    return "sha256:" + hashlib.sha256(canonical_json({**link, "row": row}).encode()).hexdigest()


def render_head(seq: int, row_hash: str) -> str:
    """The head as people keep it, `SEQ:HASH`: with it, verify notices rows missing at the end."""
    return f"{seq}:{row_hash.removeprefix('sha256:')[:16]}" if seq else "0:"


def read_head(url: str) -> str:
    """The head of the ledger now."""
    with open_reader(url) as query:
        rows = query("SELECT seq, hash FROM chain ORDER BY seq DESC LIMIT 1", {})
    return render_head(rows[0]["seq"], rows[0]["hash"]) if rows else "0:"


def verify_ledger(url: str, *, head: str = "") -> Verification:
    """Derive every hash again, in one snapshot, and look for the guards; with `head`, it must still
    have that row.

    Raises ConfigError when `head` is not of the form that verify prints, LedgerError when the
    ledger cannot be read.
    """
    wanted = _parse_head(head) if head else None
    with open_reader(url) as query:
        total = query("SELECT count(*) AS n FROM chain", {})[0]["n"]
        previous, seq, problem, seen = "", 0, _find_stray(query), False
        while not problem:
            rows = query(
                "SELECT * FROM chain WHERE seq > :seq ORDER BY seq LIMIT :n",
                {"seq": seq, "n": CHUNK},
            )
            if not rows:
                break
            contents = _read_contents(query, seq, rows[-1]["seq"])
            for link in rows:
                problem = _check(link, seq, previous, contents.get(link["seq"], []))
                if problem:
                    break
                previous, seq = link["hash"], link["seq"]
                seen = (
                    seen or (seq, previous.removeprefix("sha256:")[: len(wanted[1])]) == wanted
                    if wanted
                    else False
                )
    if not problem and seq != total:
        problem = f"the chain has {total} rows and ends with row {seq}"
    if not problem and wanted and wanted[0] > 0 and not seen:
        what = "is gone" if wanted[0] > seq else "is another one"
        problem = f"row {wanted[0]} of the head {head} {what}; the ledger ends with row {seq}"
    return Verification(
        rows=total, head=render_head(seq, previous), problem=problem or check_guards(url)
    )


def _parse_head(head: str) -> tuple[int, str]:
    number, colon, digits = head.strip().partition(":")
    if not (
        colon
        and number.isdecimal()
        and (digits or number == "0")
        and set(digits) <= set("0123456789abcdef")
    ):
        raise ConfigError(
            f"--head {head}: expected what verify or submit printed, as in 12:9f86d081884c7d65"
        )
    return int(number), digits


def _read_contents(query: Query, after: int, last: int) -> dict[int, list[tuple[str, Row]]]:
    """{seq: [(kind, row without seq)]} of the tables between two places of the chain; one each, as
    long as keys are."""
    found: dict[int, list[tuple[str, Row]]] = {}
    for kind, table in TABLES.items():
        for row in query(
            f"SELECT * FROM {table} WHERE seq > :after AND seq <= :last",
            {"after": after, "last": last},
        ):
            found.setdefault(row.pop("seq"), []).append((kind, row))
    return found


def _check(link: Row, before: int, previous: str, contents: Sequence[tuple[str, Row]]) -> str:
    """What is wrong with one row, or an empty text."""
    seq, kind = link["seq"], link["kind"]
    if seq != before + 1:
        return f"row {before + 1} is missing"
    if len(contents) != 1:
        return (
            f"row {seq}: is there {len(contents)} times"
            if contents
            else f"row {seq}: its {kind} is missing"
        )
    found, row = contents[0]
    if found != kind:
        return f"row {seq}: is a {found}, was a {kind}"
    if link["previous"] != previous:
        return f"row {seq} ({_describe(kind, row)}): does not follow row {before}"
    if not _agrees(link, row):
        return f"row {seq} ({_describe(kind, row)}): was changed"
    return ""


def _agrees(link: Row, row: Row) -> bool:
    place = {name: link[name] for name in ("seq", "kind", "previous")}
    try:
        return bool(link["hash"] == row_hash(place, row))
    except TypeError:  # bytes, or another type that no row was written with
        return False


def _describe(kind: str, row: Row) -> str:
    name = {"run": row.get("name"), "submission": row.get("number")}.get(
        kind, row.get("submission")
    )
    return (
        f"{kind} of submission {name}"
        if kind in ("score", "note") and name
        else f"{kind} {name or ''}".strip()
    )


def _find_stray(query: Query) -> str:
    """A row that never was in the chain, or is there twice under two kinds."""
    for kind, table in TABLES.items():
        sql = (
            f"FROM {table} t LEFT JOIN chain c ON c.seq = t.seq AND c.kind = :kind WHERE c.seq IS"
            " NULL"
        )
        stray = query(f"SELECT count(*) AS n, min(t.seq) AS seq {sql}", {"kind": kind})[0]
        if stray["n"]:
            return f"{kind} {stray['seq'] or 'without a seq'} is not in the chain"
    return ""
