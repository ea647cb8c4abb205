"""The heads of the ledger that this workspace has seen, and whether the ledger still has them.

A head proves every row up to it. Whoever owns the database can change a row and compute all later
hashes anew, or delete the end; then the ledger has a head no more that somebody saw. The heads are
in `.tracker/heads`, beside the copy of each submitted file, and in MLflow.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from tracker.core.clock import WRITTEN, utc_now
from tracker.core.locks import FileLock
from tracker.ledger.connection import Query, open_reader
from tracker.training.errors import StorageError
from tracker.training.files import translate_os_errors, write_text
from tracker.training.numbers import is_whole
from tracker.workspace.member_file import find_author
from tracker.workspace.tracker_toml import Workspace

HEADS_FILE = "heads"  # in .tracker
ENDING = ".head"  # of the file beside the copy of a submitted one
HERE = "this workspace"
MOST_LINES = 2000  # then half of the older ones go; the newest proves all rows before it
NEWEST_LINES = 500  # that always stay
TAIL_BYTES = 4096  # of the file: its newest lines
MAX_IN_VALUES = 500  # values in one query


class SeenHead(NamedTuple):
    """A row of the chain as somebody saw it: its number, its hash in hex digits, and when.

    `made_at` is when the ledger was made: with it a head is known to be of another ledger. `where`
    says who saw it, as in "row 14 is not what ... saw".
    """

    seq: int
    hash: str
    made_at: str
    seen_at: str = ""
    where: str = HERE

    @property
    def key(self) -> str:
        """The head and its ledger, without when and where it was seen."""
        return f"{self.seq}:{self.hash}@{self.made_at}"

    def render(self) -> str:
        """The text that `parse_head` reads."""
        return f"{self.key}@{self.seen_at}"


def parse_head(text: str, where: str) -> SeenHead | None:
    """A head from `SEEN.render()`; None for a damaged one."""
    head, _, times = text.strip().partition("@")
    number, _, digits = head.partition(":")
    made_at, _, seen_at = times.partition("@")
    is_hash = len(digits) == 64 and set(digits) <= set("0123456789abcdef")
    if not (is_whole(number) and is_hash and WRITTEN.fullmatch(made_at)):
        return None
    seen_at = seen_at if WRITTEN.fullmatch(seen_at) else ""
    return SeenHead(seq=int(number), hash=digits, made_at=made_at, seen_at=seen_at, where=where)


class Comparison(NamedTuple):
    """The heads that the ledger still has, and those that it has not; `problem` says the first."""

    agreeing: Sequence[SeenHead]
    conflicts: Sequence[SeenHead]
    problem: str


class Memory(NamedTuple):
    """What `.tracker/heads` says of the workspace's ledger, oldest first.

    `set_aside` are the keys of heads that somebody has accepted as gone.
    """

    heads: Sequence[SeenHead]
    set_aside: Collection[str]


def name_ledger(workspace: Workspace) -> str:
    """The ledger's address without user and password; a file of the workspace by its path in it."""
    url = workspace.ledger_url
    if url.startswith("sqlite:///"):
        return "sqlite:" + workspace.relative(Path(url.removeprefix("sqlite:///")))
    scheme, _, rest = url.partition("://")
    return f"{scheme.partition('+')[0]}://{rest.rpartition('@')[2]}"


def read_newest(query: Query) -> SeenHead | None:
    """The ledger's head now; None while it is empty."""
    rows = query(
        "SELECT seq, hash, (SELECT applied_at FROM migrations ORDER BY version LIMIT 1) AS made_at"
        " FROM chain ORDER BY seq DESC LIMIT 1",
        {},
    )
    return _of_row(rows[0]) if rows else None


def read_submission_heads(workspace: Workspace, numbers: Iterable[int]) -> list[SeenHead]:
    """For each submission the newest row of the chain about it; raises LedgerError."""
    heads = {}
    with open_reader(workspace.ledger_url) as query:
        for number in numbers:
            rows = query(
                "SELECT seq, hash, (SELECT applied_at FROM migrations ORDER BY version LIMIT 1) AS"
                " made_at FROM chain WHERE seq = (SELECT max(seq) FROM (SELECT seq FROM"
                " submissions WHERE number = :n UNION ALL SELECT seq FROM scores WHERE submission ="
                " :n UNION ALL SELECT seq FROM notes WHERE submission = :n) own)",
                {"n": number},
            )
            heads.update({row["seq"]: _of_row(row) for row in rows})
    return [heads[seq] for seq in sorted(heads)]


def _of_row(row: Mapping[str, Any]) -> SeenHead:
    digits = str(row["hash"]).removeprefix("sha256:")
    return SeenHead(seq=row["seq"], hash=digits, made_at=str(row["made_at"]), seen_at=utc_now())


def observe(workspace: Workspace, query: Query) -> str:
    """Compare with the head that the workspace saw last, and note the new one.

    Returns the problem, empty without one; then nothing is noted. One query and one small file, as
    every command that reads the ledger does this. A workspace that cannot be written notes nothing.
    """
    last, now = load_last(workspace), read_newest(query)
    if last is not None and now is not None and now.key == last.key:
        return ""
    if last is not None and compare(query, [last], ()).conflicts:
        memory = load_memory(workspace)
        return compare(query, memory.heads, memory.set_aside).problem
    if now is not None:
        with suppress(StorageError):
            note_head(workspace, now)
    return ""


def load_last(workspace: Workspace) -> SeenHead | None:
    """The head that the workspace has noted last; it reads the end of the file, as a rule."""
    ledger = name_ledger(workspace)
    for end in (TAIL_BYTES, 0):
        for line in reversed(_read_lines(workspace, end)):
            head = parse_head(str(line.get("head", "")), HERE)
            if head is not None and line.get("ledger") == ledger:
                return head
    return None


def note_newest(workspace: Workspace) -> None:
    """Note the head of a ledger that agrees; a workspace that cannot be written notes nothing."""
    with open_reader(workspace.ledger_url) as query:
        now = read_newest(query)
    if now is not None:
        with suppress(StorageError):
            note_head(workspace, now)


def load_memory(workspace: Workspace) -> Memory:
    """The workspace's own heads; a missing file or a damaged line is none."""
    ledger = name_ledger(workspace)
    heads, set_aside = [], set[str]()
    for line in _read_lines(workspace):
        head = parse_head(str(line.get("head", "")), HERE)
        if line.get("ledger") == ledger:
            heads += [head] if head else []
            set_aside.update(line.get("set_aside", ()))
    return Memory(heads=heads, set_aside=set_aside)


def list_moved(workspace: Workspace, made_at: str) -> list[SeenHead]:
    """Heads that the workspace saw of this very ledger at another address, before it was moved."""
    ledger = name_ledger(workspace)
    moved = []
    for line in _read_lines(workspace):
        head = parse_head(str(line.get("head", "")), HERE)
        if head and head.made_at == made_at and line.get("ledger") != ledger:
            moved.append(head)
    return moved


def _read_lines(workspace: Workspace, end: int = 0) -> list[dict[str, Any]]:
    """The lines of the file, or those in its last `end` bytes."""
    try:
        with (workspace.state_dir / HEADS_FILE).open("rb") as file:
            size = file.seek(0, 2)
            file.seek(max(size - end, 0) if end else 0)
            content = file.read()
    except OSError:
        return []
    lines = []
    for line in content.decode("utf-8", "replace").split("\n"):
        with suppress(ValueError, RecursionError):
            values = json.loads(line)
            lines += [values] if isinstance(values, dict) else []
    return lines


def note_head(
    workspace: Workspace, head: SeenHead, *, note: str = "", set_aside: Sequence[str] = ()
) -> None:
    """Append a head to `.tracker/heads`, with `note` as the accepted one; raises StorageError.

    Nothing is appended where another process has noted this head or a later one meanwhile.
    """
    line: dict[str, Any] = {"ledger": name_ledger(workspace), "head": head.render()}
    if note:
        line |= {
            "accepted": note,
            "author": find_author(workspace.root),
            "set_aside": list(set_aside),
        }
    path = workspace.state_dir / HEADS_FILE
    with FileLock(workspace.state_dir / "heads.lock"), translate_os_errors(path, "write"):
        last = load_last(workspace)
        if not note and last and last.made_at == head.made_at and last.seq >= head.seq:
            return
        before = path.read_bytes() if path.exists() else b""
        start = "" if before.endswith(b"\n") or not before else "\n"
        with path.open("ab") as file:  # one write: a reader sees the whole line or none
            file.write(f"{start}{json.dumps(line, ensure_ascii=False)}\n".encode())
        if before.count(b"\n") >= MOST_LINES:
            write_text(path, _thin(path.read_text(encoding="utf-8", errors="replace")))


def _thin(text: str) -> str:
    """Half of the older lines; what was accepted stays, and the newest heads."""
    lines = text.splitlines(keepends=True)
    older, newest = lines[:-NEWEST_LINES], lines[-NEWEST_LINES:]
    kept = [line for place, line in enumerate(older) if place % 2 == 0 or '"accepted"' in line]
    return "".join([*kept, *newest])


def save_file_head(path: Path, head: SeenHead) -> None:
    """Write a head beside the copy of a submitted file; raises StorageError."""
    write_text(path.with_name(path.name + ENDING), head.render() + "\n")


def list_file_heads(workspace: Workspace) -> list[SeenHead]:
    """The heads beside the copies of submitted files."""
    heads = []
    for path in sorted(workspace.submissions_dir.glob(f"*{ENDING}")):
        with suppress(OSError):
            text = path.read_text(encoding="utf-8", errors="replace")
            heads += [parse_head(text, workspace.relative(path))]
    return [head for head in heads if head is not None]


def compare(query: Query, heads: Iterable[SeenHead], set_aside: Collection[str]) -> Comparison:
    """Whether the ledger has the rows that were seen; `set_aside` are keys that do not count."""
    counted = sorted(
        (head for head in heads if head.key not in set_aside), key=lambda head: head.seq
    )
    hashes = _read_hashes(query, [head.seq for head in counted])
    made_at = query("SELECT applied_at FROM migrations ORDER BY version LIMIT 1", {})
    agreeing: list[SeenHead] = []
    conflicts: list[SeenHead] = []
    for head in counted:
        has = hashes.get(head.seq) == head.hash and head.made_at == made_at[0]["applied_at"]
        (agreeing if has else conflicts).append(head)
    problem = _describe(query, agreeing, conflicts, hashes) if conflicts else ""
    return Comparison(agreeing=agreeing, conflicts=conflicts, problem=problem)


def _read_hashes(query: Query, numbers: Sequence[int]) -> dict[int, str]:
    """{seq: hash in hex digits} of those rows of the chain that are there."""
    hashes: dict[int, str] = {}
    for start in range(0, len(numbers), MAX_IN_VALUES):
        known = {f"n{place}": n for place, n in enumerate(numbers[start : start + MAX_IN_VALUES])}
        names = ", ".join(f":{name}" for name in known)
        for row in query(f"SELECT seq, hash FROM chain WHERE seq IN ({names})", known):
            hashes[row["seq"]] = str(row["hash"]).removeprefix("sha256:")
    return hashes


def _describe(
    query: Query,
    agreeing: Sequence[SeenHead],
    conflicts: Sequence[SeenHead],
    hashes: Mapping[int, str],
) -> str:
    """Which row was rewritten or is missing, who saw it, and when."""
    last = query("SELECT coalesce(max(seq), 0) AS seq FROM chain", {})[0]["seq"]
    first = conflicts[0]
    saw = f"{first.where} saw"
    day = f" on {first.seen_at[:10]}" if first.seen_at else ""
    if hashes.get(first.seq) == first.hash:
        return f"the table migrations says that the ledger was made at another time than {saw}{day}"
    if first.seq > last:
        end = conflicts[-1].seq
        if end == last + 1:
            return f"row {end} is missing: {saw} it{day}"
        return f"rows {last + 1} to {end} are missing: {saw} them{day}"
    before = max((head.seq for head in agreeing if head.seq < first.seq), default=0)
    if before == first.seq - 1:
        return f"row {first.seq}{_name(query, first.seq)} is not what {saw}{day}"
    return f"a row from {before + 1} to {first.seq} is not what {saw}{day}"


def _name(query: Query, seq: int) -> str:
    """What a row of the chain is about now, in parentheses."""
    from tracker.ledger.chain import TABLES, name_row  # it loads hashlib

    for kind, table in TABLES.items():
        for row in query(f"SELECT * FROM {table} WHERE seq = :seq", {"seq": seq}):
            return f" ({name_row(kind, row)})"
    return ""
