"""Whether the ledger still has every head that was seen: here, with the files, and in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from tracker.core.errors import ConfigError, LedgerError, RefusedError, TrackerError
from tracker.ledger.backups import find_backup
from tracker.ledger.connection import SQLITE, open_reader
from tracker.ledger.guards import RENEW_GUARDS
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
from tracker.ledger.integrity import check_integrity
from tracker.ledger.records import RowProblem
from tracker.workspace.leaderboard_kinds import KINDS
from tracker.workspace.metrics import render_score_command
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


def find_ledger_refusal(workspace: Workspace, *, with_mlflow: bool) -> RefusedError | None:
    """Why this ledger takes no submission: a head that was seen is missing, a row or a guard was
    changed.

    `with_mlflow`, as before a submission, MLflow is asked, which may be away, and nothing is
    trusted that was found earlier.
    """
    if problem := ask_witnesses(workspace, with_mlflow=with_mlflow).comparison.problem:
        return RefusedError(f"the ledger was changed: {problem}", hint=HINT)
    found = check_integrity(workspace, in_full=True, anew=with_mlflow)
    if not found.problem:
        return None
    return RefusedError(f"the ledger was changed: {found.problem}", hint=explain_way_on(workspace))


def explain_way_on(workspace: Workspace) -> str:
    """What to do where rows or guards of the ledger were changed; empty where nothing was."""
    found = check_integrity(workspace, in_full=True)
    if not found.rows:
        return RENEW_GUARDS if found.guard else ""
    backup, restore = find_backup(workspace), "tracker ledger restore"
    move = "move ledger.db and its logs away"
    if not workspace.ledger_url.startswith(SQLITE):
        move = "into an empty database"
    if backup is not None:
        have = f"{workspace.relative(backup.path)} has the right rows up to {backup.rows}"
        first = f"{have}: {move}, {restore} {workspace.relative(backup.path)}"
    else:
        first = f"where you have a backup: {move}, {restore} FILE"
    go_on = f"Or go on with the rows as they are, which a note tells everybody: {ACCEPT}"
    numbers = [row.submission for row in found.rows if row.submission is not None]
    if numbers and KINDS[workspace.leaderboard].knows_solution:
        go_on += "; it computes their scores anew"
    elif numbers:
        score = render_score_command(workspace.competition, numbers[0])
        go_on += f", then {score} with the right score, which counts"
    return f"{first}. {go_on}"


def note_submission(workspace: Workspace, file: Path) -> None:
    """Note the head after a submission, here and beside the copy of its file; raises StorageError.

    MLflow gets it with the next copy of the run.
    """
    with open_reader(workspace.ledger_url) as query:
        head = read_newest(query)
    if head is not None:
        save_file_head(file, head)
        note_head(workspace, head)


@dataclass(frozen=True, kw_only=True)
class Accepted:
    """What somebody accepted: heads that the ledger lacks, and rows that are not what they were."""

    heads: Sequence[SeenHead]
    rows: Sequence[RowProblem]


def accept_heads(workspace: Workspace, note: str) -> Accepted:
    """Set aside the heads that the ledger lacks, and its rows without their hash, for good.

    The note is a row of the ledger, so that everybody sees who accepted what, and it is in
    `.tracker/heads`. Each workspace accepts for itself; a row that is changed once more is to be
    accepted once more. Raises ConfigError without a note, and LedgerError where nothing is to be
    accepted, or a guard is missing.
    """
    from tracker.ledger.append import open_ledger

    if not note.strip():
        raise ConfigError("--accept-heads: say why the ledger is right as it is", hint=ACCEPT)
    found = ask_witnesses(workspace).comparison
    changed = check_integrity(workspace, in_full=True, anew=True)
    if changed.guard:
        raise LedgerError(changed.guard, hint=RENEW_GUARDS)
    if not found.conflicts and not changed.rows:
        raise LedgerError(
            "nothing to accept: the ledger has every head that was seen, and every row its hash"
        )
    problems = "; ".join(filter(None, [found.problem, *(row.text for row in changed.rows)]))
    with open_ledger(workspace) as ledger:
        ledger.append_note(kind="note", text=f"accepted that {problems}: {note.strip()}")
    with open_reader(workspace.ledger_url) as query:
        head = read_newest(query)
    if head is not None:
        keys = {item.key for item in found.conflicts} | {row.key for row in changed.rows}
        note_head(workspace, head, note=note.strip(), set_aside=sorted(keys))
    return Accepted(heads=found.conflicts, rows=changed.rows)
