"""Whether rows or guards of the ledger were changed, computed anew only when its file was.

Every command that reads the ledger asks. Of a SQLite ledger `.tracker/checked.json` has what was
found last, and the state of its files then: the usual command compares two `stat` with it and
loads no hashing. Nothing is taken from the files themselves: to open and close a SQLite file beside
an open connection drops that connection's locks.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracker.ledger.connection import SCHEMA_VERSION, SQLITE, open_reader
from tracker.ledger.heads import load_memory, name_ledger
from tracker.ledger.records import RowProblem
from tracker.training.errors import StorageError
from tracker.training.files import write_text
from tracker.workspace.tracker_toml import Workspace

CHECKED_FILE = "checked.json"  # in .tracker
MOST_ROWS = 20_000  # 0.3 s: more are checked only by the commands that check every ledger in full
SETTLED_NS = 50_000_000  # a file changed later than this may change again at the same time stamp
SECOND_NS = 1_000_000_000
COARSE_NS = 3 * SECOND_NS  # where the file system keeps whole seconds (FAT: every other one)

_in_full: set[str] = set()  # addresses of ledgers that this process checks whatever their size


@dataclass(frozen=True, kw_only=True)
class Integrity:
    """The wrong rows that nobody accepted, and the first wrong guard; empty in a whole ledger.

    `unchecked` is how many rows there are where they are too many to be checked here.
    """

    rows: Sequence[RowProblem] = ()
    guard: str = ""
    unchecked: int = 0

    @property
    def problem(self) -> str:
        """What was changed, in one sentence; empty where nothing was."""
        if not self.rows:
            return self.guard
        more = len(self.rows) - 1
        others = f", and so is {more} other row" if more == 1 else f", and so are {more} other rows"
        return self.rows[0].text + (others if more else "")

    @property
    def warning(self) -> str:
        """The problem, and what follows from it for whoever reads scores."""
        numbers = sorted({row.submission for row in self.rows if row.submission is not None})
        if not numbers:
            return self.problem
        named = ", ".join(str(number) for number in numbers)
        which = f"submission {named}" if len(numbers) == 1 else f"submissions {named}"
        return f"{self.problem}: a score of {which} may be false"


_found: dict[str, tuple[Sequence[Any], Integrity]] = {}  # by address: what this process found


def expect_full_check(workspace: Workspace) -> None:
    """This process checks all rows of the ledger, so no other reading of it need say anything."""
    _in_full.add(workspace.ledger_url)


def check_integrity(
    workspace: Workspace, *, in_full: bool = False, anew: bool = False, writes: bool = True
) -> Integrity:
    """Whether all rows have their hashes, and the database its guards; raises LedgerError.

    `in_full` also checks a ledger on a server, which only its owner can change, and one of more
    than MOST_ROWS rows. `anew` does not trust what was noted last. Without `writes`, as on the
    board, this process alone remembers what it finds.
    """
    url = workspace.ledger_url
    is_file = url.startswith(SQLITE)
    if not in_full and (not is_file or url in _in_full):
        return Integrity()
    state = read_state(workspace)
    known = None if anew or not is_file else _load(workspace, state)
    if known is None:
        known = _check(url, most=0 if in_full else MOST_ROWS)
        if is_file and not known.unchecked and _is_settled(url, state):
            _found[url] = (state, known)
            if writes:
                _note(workspace, state, known)
    if not known.rows:
        return known
    accepted = load_memory(workspace).set_aside
    rows = [row for row in known.rows if row.key not in accepted]
    return Integrity(rows=rows, guard=known.guard)


def note_verified(workspace: Workspace, state: Sequence[Any], rows: Sequence[RowProblem]) -> None:
    """Note for the next commands what `verify_ledger` found, which need not hash all rows again.

    `state` is what `read_state` said before. Raises LedgerError.
    """
    from tracker.ledger.guards import check_before_submission

    url = workspace.ledger_url
    if not state:
        return
    with open_reader(url) as query:
        found = Integrity(rows=rows, guard=check_before_submission(query, is_sqlite=True))
    if _is_settled(url, state):
        _found[url] = (state, found)
        _note(workspace, state, found)


def read_state(workspace: Workspace) -> Sequence[Any]:
    """What changes when somebody writes to the ledger's files; empty where a server has it."""
    url = workspace.ledger_url
    return _read_state(url) if url.startswith(SQLITE) else []


def _check(url: str, *, most: int) -> Integrity:
    """Check every row and the guards; nothing where there are more than `most` rows (0: any)."""
    from tracker.ledger.chain import find_row_problems  # it loads hashlib
    from tracker.ledger.guards import check_before_submission

    # a moment that began before the state of the files was read could be an earlier one
    with open_reader(url, anew=url.startswith(SQLITE)) as query:
        count = query("SELECT count(*) AS n FROM chain", {})[0]["n"]
        if most and count > most:
            return Integrity(unchecked=count)
        rows = find_row_problems(query)
        guard = check_before_submission(query, is_sqlite=url.startswith(SQLITE))
    return Integrity(rows=rows, guard=guard)


def _read_state(url: str) -> list[Any]:
    """What changes when somebody writes to the files of a SQLite ledger.

    The time of the last change of an inode cannot be set back as that of a file can.
    """
    state: list[Any] = [SCHEMA_VERSION]
    for end in ("", "-wal"):
        found: list[int] = []
        with suppress(OSError):
            status = Path(f"{url.removeprefix(SQLITE)}{end}").stat()
            if status.st_size:  # a reader makes an empty log
                times = [status.st_mtime_ns, status.st_ctime_ns]
                found = [status.st_size, status.st_ino, *times]
        state.append(found)
    return state


def _load(workspace: Workspace, state: Sequence[Any]) -> Integrity | None:
    """What was found of the ledger in this state; None if it was not checked in it."""
    before, found = _found.get(workspace.ledger_url, ([], None))
    if found is not None and before == state:
        return found
    try:
        noted = json.loads((workspace.state_dir / CHECKED_FILE).read_bytes())
        if noted["ledger"] == name_ledger(workspace) and noted["state"] == state:
            rows = [RowProblem(**row) for row in noted["rows"]]
            return Integrity(rows=rows, guard=noted["guard"])
    except (OSError, ValueError, RecursionError, TypeError, KeyError):
        pass  # none, or damaged: checked anew
    return None


def _is_settled(url: str, state: Sequence[Any]) -> bool:
    """Whether nobody has written since the state was read, nor shortly before."""
    newest = max((max(file[2:]) for file in state[1:] if file), default=0)
    settled = SETTLED_NS if newest % SECOND_NS else COARSE_NS
    return newest < time.time_ns() - settled and _read_state(url) == state


def _note(workspace: Workspace, state: Sequence[Any], found: Integrity) -> None:
    """Note what was found for the next processes, where the workspace can be written."""
    noted = {
        "ledger": name_ledger(workspace),
        "state": list(state),
        "rows": [asdict(row) for row in found.rows],
        "guard": found.guard,
    }
    with suppress(StorageError, OSError):
        workspace.state_dir.mkdir(exist_ok=True)
        write_text(workspace.state_dir / CHECKED_FILE, json.dumps(noted))
