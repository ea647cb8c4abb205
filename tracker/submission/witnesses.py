"""Whether the ledger still has every head that was seen: here, with the files, and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from tracker.core.errors import ConfigError, LedgerError, RefusedError, TrackerError
from tracker.ledger.connection import open_reader
from tracker.ledger.heads import (
    Comparison,
    SeenHead,
    compare,
    list_file_heads,
    list_moved,
    load_memory,
    note_head,
    read_newest,
    save_file_head,
)
from tracker.workspace.tracker_toml import Workspace

ACCEPT = 'tracker ledger verify --accept-heads "why"'
HINT = (
    "rows were deleted, or changed with new hashes; a restored older backup looks like this, too."
    f" Put the right ledger back, or if this one is right: {ACCEPT}"
)


class Witnesses(NamedTuple):
    """The heads of all witnesses compared with the ledger.

    `counts` is how many heads each kind of witness has; `unasked` is why MLflow was not asked,
    empty if it was.
    """

    comparison: Comparison
    counts: Mapping[str, int]
    unasked: str


def ask_witnesses(
    workspace: Workspace, *, extra: SeenHead | None = None, with_mlflow: bool = True
) -> Witnesses:
    """Compare the ledger with every head that was seen, and with `extra`; raises LedgerError.

    Without MLflow it takes milliseconds.
    """
    memory = load_memory(workspace)
    with open_reader(workspace.ledger_url) as query:
        rows = query("SELECT applied_at FROM migrations ORDER BY version LIMIT 1", {})
        made_at = str(rows[0]["applied_at"])
        uids = {row["run_uid"] for row in query("SELECT run_uid FROM submissions", {})}
    own = [*list_moved(workspace, made_at), *memory.heads]
    ledgers = {made_at, *(head.made_at for head in own)}
    files = [head for head in list_file_heads(workspace) if head.made_at in ledgers]
    tags, unasked = _ask_mlflow(workspace) if with_mlflow else ([], "")
    # of another ledger's runs are those that this ledger never had
    mirrored = [head for uid, head in tags if head.made_at in ledgers or uid in uids]
    with open_reader(workspace.ledger_url) as query:
        every = [*own, *files, *mirrored, *([extra] if extra else [])]
        found = compare(query, every, memory.set_aside)
    counts = {"workspace": len(own), "files": len(files), "mlflow": len(mirrored)}
    return Witnesses(comparison=found, counts=counts, unasked=unasked)


def _ask_mlflow(workspace: Workspace) -> tuple[list[tuple[str, SeenHead]], str]:
    """((uid of the run, head) in MLflow, why it could not be asked)."""
    from tracker.mirror.targets.mlflow_heads import fetch_heads

    try:
        return [(uid, head) for uid, head in fetch_heads(workspace)], ""
    except TrackerError as error:  # it is away, or its library is missing
        return [], str(error)


def render_counts(counts: Mapping[str, int]) -> str:
    """How many heads of each kind of witness the ledger still has."""
    names = {"workspace": "in this workspace", "files": "with files", "mlflow": "in MLflow"}
    parts = [f"{counts[kind]} {name}" for kind, name in names.items()]
    return f"it has all heads that were seen: {', '.join(parts)}"


def find_ledger_refusal(workspace: Workspace, *, in_full: bool) -> RefusedError | None:
    """Why this ledger takes no submission: a head that was seen is missing, or a row was changed.

    `in_full`, as before a submission, every row is compared with its hash and MLflow is asked,
    which may be away.
    """
    problem = ask_witnesses(workspace, with_mlflow=in_full).comparison.problem
    if in_full and not problem:
        from tracker.ledger.chain import find_changed_row  # `check` does without it

        problem = find_changed_row(workspace.ledger_url)
    return RefusedError(f"the ledger was changed: {problem}", hint=HINT) if problem else None


def note_submission(workspace: Workspace, file: Path) -> None:
    """Note the head after a submission, here and beside the copy of its file; raises StorageError.

    MLflow gets it with the next copy of the run.
    """
    with open_reader(workspace.ledger_url) as query:
        head = read_newest(query)
    if head is not None:
        save_file_head(file, head)
        note_head(workspace, head)


def accept_heads(workspace: Workspace, note: str) -> list[SeenHead]:
    """Set aside the heads that the ledger lacks, for good; returns them.

    The note is a row of the ledger, so that everybody sees who accepted what, and it is in
    `.tracker/heads`. Each workspace accepts for itself. Raises ConfigError without a note, and
    LedgerError where nothing is to be accepted.
    """
    from tracker.ledger.append import open_ledger

    if not note.strip():
        raise ConfigError("--accept-heads: say why the ledger is right as it is", hint=ACCEPT)
    found = ask_witnesses(workspace).comparison
    if not found.conflicts:
        raise LedgerError("nothing to accept: the ledger has every head that was seen")
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="note", text=f"accepted that {found.problem}: {note.strip()}")
    with open_reader(workspace.ledger_url) as query:
        head = read_newest(query)
    if head is not None:
        keys = [head.key for head in found.conflicts]
        note_head(workspace, head, note=note.strip(), set_aside=sorted(set(keys)))
    return list(found.conflicts)
