"""Notes on submissions and on runs, such as lessons learned. Notes are never changed or deleted."""

from __future__ import annotations

from dataclasses import dataclass

from tracker.core.text import check_utf8
from tracker.ledger.read import find_run, find_sota, get_submission, list_notes
from tracker.ledger.resolve import load_resolved, parse_submission
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True, kw_only=True)
class NoteTarget:
    """What a note is about: a submission or a run; `run` is its run folder in this workspace."""

    submission: int | None
    run_uid: str | None
    run: str | None

    def __str__(self) -> str:
        return f"submission {self.submission}" if self.submission is not None else str(self.run)


def find_note_target(workspace: Workspace, word: str) -> NoteTarget:
    """The submission that `3`, `s3` or `sota` means, or the run that `exp12` or `latest` means.

    Raises UnknownRunError.
    """
    number = parse_submission(f"s{word.removeprefix('s')}")
    row = get_submission(workspace, number) if number is not None else None
    if word == "sota":
        row = find_sota(workspace)
    if row is not None:
        run = find_run(workspace, row)
        return NoteTarget(submission=row.number, run_uid=None, run=run)
    record = load_resolved(workspace, word)
    return NoteTarget(submission=None, run_uid=record.uid, run=record.name)


def describe_interrupted_note(workspace: Workspace, word: str, text: str) -> tuple[str, str]:
    """Whether the ledger has a remark after Ctrl-C, and what to do next.

    Raises UnknownRunError or LedgerError.
    """
    target = find_note_target(workspace, word)
    if target.submission is not None:
        notes = get_submission(workspace, target.submission).notes
    else:
        uid = str(target.run_uid)
        notes = list_notes(workspace, [uid]).get(uid, [])
    if any(note.text == text.strip() for note in notes):
        return f", but the remark on {target} is recorded", "tracker sync"
    return ": nothing was noted", ""


def add_note(workspace: Workspace, word: str, text: str, *, rejected: bool = False) -> NoteTarget:
    """Add a note; `rejected` records that the leaderboard rejected the submission.

    Raises UnknownRunError, or ConfigError for an empty text, and for `rejected` on a run or on a
    submission with scores.
    """
    from tracker.ledger.append import open_ledger

    if not text.strip():
        raise ConfigError("the note is empty", hint=f'tracker note {word} "the site was down"')
    check_utf8("the note", text)
    target = find_note_target(workspace, word)
    if rejected and target.submission is None:
        raise ConfigError(
            f"--rejected is for submissions, not for {target}",
            hint="tracker note N --rejected TEXT, with the number of the submission",
        )
    if rejected and target.submission and get_submission(workspace, target.submission).scores:
        raise ConfigError(
            f"submission {target.submission} has scores: the leaderboard accepted it",
            hint="leave --rejected out",
        )
    kind = "rejected" if rejected else "note"
    with open_ledger(workspace) as ledger:
        ledger.append_note(
            kind=kind, text=text.strip(), submission=target.submission, run_uid=target.run_uid
        )
    return target
