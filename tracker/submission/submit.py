"""Writes an examined candidate to the ledger and sends it; sync repeats what was cut off."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.core.errors import RefusedError, TrackerError, UnknownRunError, render_error
from tracker.core.locks import FileLock
from tracker.core.text import check_utf8
from tracker.leaderboards import Leaderboard, LeaderboardError, build_leaderboard
from tracker.ledger.read import (
    find_duplicate,
    find_metric_value,
    find_run,
    get_submission,
    list_unscored,
    list_with_note,
)
from tracker.ledger.records import Submission
from tracker.run_folder.event_log import append_event
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import OPEN, is_abandoned, is_pulled, run_folder
from tracker.submission.examine import Candidate, Examination, examine, render_similar_command
from tracker.submission.scores import score_missing
from tracker.submission.witnesses import find_ledger_refusal, note_submission
from tracker.training.errors import DataError, StorageError
from tracker.training.files import remove_leftovers, translate_os_errors, write_bytes
from tracker.training.libraries import require
from tracker.workspace.predictions import load_answers
from tracker.workspace.quota import Quota
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.mirror.copy import Connections


def submit(
    workspace: Workspace, run: str, memo: str, *, even_if_similar: bool = False
) -> tuple[Submission, Quota]:
    """Examine a run and submit it; see `submit_examined`."""
    memo = check_memo(memo, run)
    return submit_examined(
        workspace, examine(workspace, run), memo, even_if_similar=even_if_similar
    )


def check_memo(memo: str, run: str = "latest") -> str:
    """The memo without surrounding spaces; raises RefusedError when it is empty.

    `run` is the word for the run that is submitted, for the hint.
    """
    memo = memo.strip()
    if not memo:
        raise RefusedError(
            "no memo: what is new in this submission?",
            hint=f'tracker submit {shlex.quote(run)} --memo "f1 loss instead of focal"',
        )
    check_utf8("the memo", memo)
    return memo


def submit_examined(
    workspace: Workspace, examination: Examination, memo: str, *, even_if_similar: bool = False
) -> tuple[Submission, Quota]:
    """Record a submission and send it; returns (submission, quota after it).

    Duplicate and quota are checked again under the ledger's lock, because others may submit
    meanwhile. Predictions that are almost an earlier submission's are refused unless
    `even_if_similar`. Raises RefusedError or DuplicateError, then nothing is written, also where
    rows are gone that somebody saw; LedgerError when the ledger cannot be reached.
    """
    try:
        return _submit_examined(workspace, examination, memo, even_if_similar=even_if_similar)
    except RefusedError as error:
        run = examination.candidate.record.name
        about = {"run": run, "memo": memo}
        append_event(workspace.state_dir, "refused", f"{run} was not submitted: {error}", about)
        raise


def _submit_examined(
    workspace: Workspace, examination: Examination, memo: str, *, even_if_similar: bool
) -> tuple[Submission, Quota]:
    from tracker.ledger.append import Draft, open_ledger

    if refusal := examination.find_refusal(even_if_similar=even_if_similar):
        if refusal is examination.similar_refusal:
            name = examination.candidate.record.name
            raise RefusedError(str(refusal), hint=render_similar_command(name, memo))
        raise refusal
    candidate, board = examination.candidate, build_leaderboard(workspace)
    # before the row is written: a wrong solution file must not use up a number
    public = board.score_public(candidate.answers)
    if refusal := find_ledger_refusal(workspace, with_mlflow=True):
        raise refusal
    # One at a time: who is refused deletes its copy, and another submit may be about to name it.
    lock = FileLock(workspace.state_dir / "submit.lock")
    with lock, open_ledger(workspace) as ledger:
        # before the copy is written: it would replace the one that was sent
        ledger.refuse_duplicate(workspace.competition, candidate.answers.fingerprint)
        copy = _save_copy(workspace, candidate)
        draft = Draft(
            record=candidate.record,
            config=candidate.config,
            memo=check_memo(memo),
            answers=candidate.answers,
            file=workspace.relative(copy),
        )
        try:
            receipt = ledger.append_submission(draft, workspace.competition)
        except BaseException:
            with suppress(TrackerError):  # nobody knows whether the ledger names it: it stays
                _drop_copy(workspace, copy, candidate.answers.fingerprint)
            raise
        ledger.append_missing(receipt.number, public)
    with suppress(StorageError):  # it is submitted: a full disk must not keep it from being sent
        note_submission(workspace, copy)
    _send(workspace, board, receipt.number)
    return get_submission(workspace, receipt.number), receipt.quota


def describe_interrupted(workspace: Workspace, examination: Examination) -> tuple[str, str]:
    """Whether a submit that Ctrl-C ended is in the ledger, where it counts; and what is left to do.

    Raises LedgerError.
    """
    row = find_duplicate(workspace, examination.candidate.answers.fingerprint)
    if row is None or row.run_uid != examination.candidate.record.uid:
        return ": nothing was submitted", ""
    comp, board = workspace.competition, build_leaderboard(workspace)
    done = f", but submission {row.number} is recorded"
    public = row.scores.get(f"public_{comp.primary_metric}")
    if public is not None:
        return f"{done}: public {comp.primary_metric} {comp.primary.render(public)}", "tracker sync"
    if step := board.next_step(row.number, comp):
        return f"{done}, file {row.file}", step
    if row.number in list_with_note(workspace, "sent"):
        return f"{done} and sent", "tracker sync"
    return f"{done}, not yet {'sent' if board.kind.sends else 'scored'}", "tracker sync"


def _send(workspace: Workspace, board: Leaderboard, number: int) -> None:
    """Send a submission that is in the ledger, and record the result; raises LeaderboardError.

    One process at a time: two that find nothing on the leaderboard would both send.
    """
    from tracker.ledger.append import exclusive, open_ledger

    with exclusive(workspace, f"send-{number}"):
        # read now, because another process may have sent it while this one waited
        row = get_submission(workspace, number)
        if row.file is not None and _is_pending(row):
            sent = number in list_with_note(workspace, "sent")
            path = workspace.root / row.file
            if board.kind.sends and not sent:
                _check_copy(workspace, row, path)
            result = board.send(path, _render_message(workspace, row), sent=sent)
            notes = {"sent": result.reference, "rejected": result.rejected}
            notes = {kind: text for kind, text in notes.items() if text}
            with open_ledger(workspace) as ledger:
                ledger.append_missing(number, result.scores, notes)
            row = get_submission(workspace, number)
    if row.is_rejected:
        note = next(note for note in reversed(row.notes) if note.kind == "rejected")
        raise LeaderboardError(
            f"submission {number} was {note}; it does not count against the quota"
        )


def _check_copy(workspace: Workspace, row: Submission, path: Path) -> None:
    """Raise LeaderboardError unless the file to send has the predictions that the ledger has.

    A copy that was changed or deleted since is made anew from its run, where that still has them.
    """
    run = find_run(workspace, row)
    own = run_folder(workspace.runs_dir, run) / "predictions.csv" if run else path
    for source in (path, own):
        with suppress(DataError, RefusedError):  # missing, or no predictions any more
            if load_answers(source, workspace.competition).fingerprint != (
                row.predictions_fingerprint
            ):
                continue
            if source != path:
                with translate_os_errors(path, "write"):
                    path.parent.mkdir(exist_ok=True)
                    write_bytes(path, source.read_bytes())
            return
    raise LeaderboardError(
        f"submission {row.number}: {row.file} does not have the predictions that were submitted;"
        " nothing was sent",
        hint=f"restore {row.file}, then: tracker sync",
    )


def _render_message(workspace: Workspace, row: Submission) -> str:
    """The description that is sent with the file: the run, its validation score, the memo."""
    primary = workspace.competition.primary
    value = find_metric_value(workspace, row, "val", primary.name)
    score = "" if value is None else f" ({primary.render(value)})"
    return f"{row.run}{score}: {row.memo}"


def _is_pending(row: Submission) -> bool:
    """Whether the leaderboard has neither scored nor rejected a submission."""
    scored = any(name.startswith("public_") for name in row.scores)
    return not scored and not row.is_rejected


def send_missing(workspace: Workspace) -> list[str]:
    """Send what a killed submit did not send, and fetch new scores; a line for each failure."""
    board, problems = build_leaderboard(workspace), []
    if not board.kind.sends:
        return []
    for row in list_unscored(workspace):
        if _is_pending(row) and _is_ours(workspace, row):
            try:
                _send(workspace, board, row.number)
            except TrackerError as error:
                problems.append(f"submission {row.number}: {render_error(error)}")
    return problems


def _is_ours(workspace: Workspace, row: Submission) -> bool:
    """Whether this workspace sends a submission: its run was made here, or its file is here.

    The copy of a teammate's run may have been submitted by the teammate.
    """
    run = find_run(workspace, row)
    if run is None:
        return False
    return not is_pulled(run) or (row.file is not None and (workspace.root / row.file).is_file())


def _save_copy(workspace: Workspace, candidate: Candidate) -> Path:
    """Copy the exact file before the row is written; the name has the file's fingerprint."""
    import hashlib

    short = candidate.answers.fingerprint.removeprefix("sha256:")[:12]
    target = workspace.submissions_dir / f"{candidate.record.name.replace('/', '-')}-{short}.csv"
    with translate_os_errors(target, "write"):
        target.parent.mkdir(exist_ok=True)
        content = candidate.path.read_bytes()
        write_bytes(target, content)
    # a large file that has the bytes that were read is not parsed again
    same = candidate.answers.file_hash == "sha256:" + hashlib.sha256(content).hexdigest()
    del content
    found = candidate.answers if same else load_answers(target, workspace.competition)
    if found.fingerprint != candidate.answers.fingerprint:
        target.unlink()
        raise RefusedError(
            f"{candidate.path} was changed after it was examined",
            hint=f"tracker check {candidate.record.name}",
        )
    return target


def _drop_copy(workspace: Workspace, copy: Path, fingerprint: str) -> None:
    """Delete the copy of a refused submission, unless an accepted submission has the same file.

    Raises LedgerError, then nothing is deleted.
    """
    accepted = find_duplicate(workspace, fingerprint)
    if accepted is None or accepted.file != workspace.relative(copy):
        copy.unlink(missing_ok=True)


def sync_all(
    workspace: Workspace,
    runs: Sequence[str],
    copy: Callable[[Workspace, str, Connections], object] | None = None,
) -> tuple[list[str], list[str]]:
    """Update the ledger, then the copies of the runs, by `copy` or as a sync does.

    Returns (runs done, a line for each failure).

    Raises MissingLibraryError when a copy's library is missing and nothing else failed; the ledger
    is up to date then.
    """
    from tracker.mirror.copy import Connections, sync_run
    from tracker.mirror.targets import list_targets

    for number in score_missing(workspace):
        primary = workspace.competition.primary
        value = get_submission(workspace, number).scores.get(f"public_{primary.name}")
        said = "scored" if value is None else f"public {primary.name} {primary.render(value)}"
        print(f"submission {number}: {said}, computed here", file=sys.stderr)
    problems = send_missing(workspace)
    abandoned = [name for name in runs if is_abandoned(workspace.runs_dir / name)]
    for name in abandoned:
        print(f"{name} was killed before it began: skipped", file=sys.stderr)
    names = [name for name in runs if name not in abandoned]
    for name in runs:
        remove_leftovers(workspace.runs_dir / name)
    indexed = _try_each(names, lambda name: _index_ended(workspace, name), problems)
    if not problems:
        for library in filter(None, (target.library for target in list_targets())):
            require(library)
    # a ledger that is away must not keep a run from its copies
    connections = Connections(remember_outages=True)
    copied = _try_each(
        names, lambda name: (copy or sync_run)(workspace, name, connections), problems
    )
    return [name for name in copied if name in indexed], problems


def _try_each(
    names: Sequence[str], work: Callable[[str], object], problems: list[str]
) -> list[str]:
    """The runs for which `work` succeeds; the others add a line to `problems`.

    Raises UnknownRunError.
    """
    done = []
    for name in names:
        try:
            work(name)
            done.append(name)
        except UnknownRunError:
            raise
        except TrackerError as error:
            problems.append(f"{name}: {render_error(error)}")
    return done


def _index_ended(workspace: Workspace, name: str) -> None:
    """Add a run that has ended to the ledger, once; raises LedgerError or UnknownRunError."""
    from tracker.ledger.append import open_ledger

    record = load_run(workspace.runs_dir, name)
    if record.status not in OPEN:
        config = load_config(workspace.runs_dir, name)
        with open_ledger(workspace) as ledger:
            ledger.append_run(record, config, str(workspace.runs_dir / name))
