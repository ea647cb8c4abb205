"""The backups of the ledger that lie in the workspace, and the newest of them that is whole."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from tracker.core.errors import TrackerError
from tracker.ledger.connection import SQLITE, open_reader
from tracker.ledger.heads import SeenHead, read_newest
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class Backup:
    """A whole copy of the ledger as it was when it had so many rows."""

    path: Path
    rows: int


def find_backup(workspace: Workspace) -> Backup | None:
    """The whole backup with the most rows, in the workspace's folder or the ledger's.

    Its last row is one of the ledger's chain, so it is no copy of another ledger or of a rewritten
    one. Raises LedgerError where the ledger itself cannot be read.
    """
    own = Path(workspace.ledger_url.removeprefix(SQLITE))
    folders = {workspace.root}
    if workspace.ledger_url.startswith(SQLITE):
        folders.add(own.parent)
    heads: list[tuple[SeenHead, Path]] = []
    for path in sorted(path for folder in folders for path in folder.glob("*.db") if path != own):
        with suppress(TrackerError), open_reader(f"{SQLITE}{path}") as query:  # others are foreign
            head = read_newest(query)
            heads += [(head, path)] if head else []
    for head, path in sorted(heads, key=_rows_of, reverse=True):
        with suppress(TrackerError):
            if _is_of(workspace, head) and _is_whole(path):
                return Backup(path=path, rows=head.seq)
    return None


def _rows_of(item: tuple[SeenHead, Path]) -> int:
    return item[0].seq


def _is_of(workspace: Workspace, head: SeenHead) -> bool:
    """Whether the chain of the workspace's ledger has this row."""
    with open_reader(workspace.ledger_url) as query:
        rows = query("SELECT hash FROM chain WHERE seq = :seq", {"seq": head.seq})
        made_at = query("SELECT applied_at FROM migrations ORDER BY version LIMIT 1", {})
    hashes = [str(row["hash"]).removeprefix("sha256:") for row in rows]
    return hashes == [head.hash] and made_at[0]["applied_at"] == head.made_at


def _is_whole(path: Path) -> bool:
    from tracker.ledger.chain import verify_ledger  # it loads hashlib

    return not verify_ledger(f"{SQLITE}{path}").problem
