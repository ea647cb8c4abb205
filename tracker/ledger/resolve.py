"""The run that a word means: `exp12`, `mina/exp12`, `latest`, `sota` or `s12`."""

from __future__ import annotations

import re

from tracker.core.errors import UnknownRunError
from tracker.ledger.read import find_run, find_sota, get_submission, suggest_first_submission
from tracker.ledger.records import Submission
from tracker.ledger.team_runs import TeamRuns, find_teammates_run, refuse_pulled
from tracker.run_folder.read import find_latest, load_run
from tracker.run_folder.record import RunRecord, is_pulled, list_run_numbers
from tracker.workspace.leaderboard_kinds import KINDS
from tracker.workspace.metrics import NO_PUBLIC_SCORE, render_score_command
from tracker.workspace.tracker_toml import Workspace


def parse_submission(word: str) -> int | None:
    """The number in `s12`; None for other words."""
    return int(word[1:]) if re.fullmatch(r"s[0-9]{1,4000}", word) else None


def render_first_score_command(workspace: Workspace) -> str:
    """The command after which there is a public score, for the hint that there is none yet."""
    if first := suggest_first_submission(workspace):
        return first
    if KINDS[workspace.leaderboard].needs_upload_by_hand:
        return render_score_command(workspace.competition)
    return "tracker sync"


def resolve_run(workspace: Workspace, name: str) -> str:
    """The run meant by `exp12`, `mina/exp12`, `latest`, `sota` or `s12`; raises UnknownRunError."""
    return _find_meant(workspace, name) or load_run(workspace.runs_dir, name).name


def resolve_own_run(workspace: Workspace, word: str) -> str:
    """The run of this workspace that a word means, to be changed.

    Raises UnknownRunError, and RefusedError for a teammate's run.
    """
    if is_pulled(word):
        run = TeamRuns(workspace).find(word)
        refuse_pulled(run.name)
        return run.run
    name = resolve_run(workspace, word)
    refuse_pulled(name)
    return name


def load_resolved(workspace: Workspace, word: str) -> RunRecord:
    """The record of the run that a word means; raises UnknownRunError or StorageError."""
    name = _find_meant(workspace, word) or word
    return load_run(workspace.runs_dir, name)


def _find_meant(workspace: Workspace, name: str) -> str | None:
    """The run that `latest`, `sota` or `s12` means; None for a word that is a run's name itself."""
    if is_pulled(name):
        return find_teammates_run(workspace, name)
    if name == "latest":
        return find_latest(workspace.runs_dir)
    if name == "sota":
        best = find_sota(workspace)
        if best is None:
            raise UnknownRunError(NO_PUBLIC_SCORE, hint=render_first_score_command(workspace))
        return _run_of(workspace, best)
    if (number := parse_submission(name)) is not None:
        return _run_of(workspace, get_submission(workspace, number))
    if re.fullmatch(r"[0-9]{1,9}", name):
        raise UnknownRunError(
            f"{name} is not the name of a run", hint=_explain_number(workspace, int(name))
        )
    return None


def _explain_number(workspace: Workspace, number: int) -> str:
    """What may be meant by a bare number: a submission, a run, or both."""
    meant = []
    try:
        get_submission(workspace, number)
    except UnknownRunError:
        pass
    else:
        meant.append(f"s{number} is submission {number}")
    if number in list_run_numbers(workspace.runs_dir):
        meant.append(f"exp{number} is a run")
    if meant:
        return ", ".join(meant)
    lists = "tracker runs lists the runs"
    if first := suggest_first_submission(workspace):
        return f"{lists}; {first}" if list_run_numbers(workspace.runs_dir) else first
    return f"{lists}, tracker leaderboard the submissions"


def _run_of(workspace: Workspace, row: Submission) -> str:
    """The name of a submission's run folder; raises UnknownRunError when it is not here."""
    if (name := find_run(workspace, row)) is not None:
        return name
    reason = "is known only from the ledger"
    if row.run_uid and row.author:
        reason = f"was made by {row.author}"
    raise UnknownRunError(
        f"submission {row.number} {reason}: its run folder is not in this workspace",
        hint="tracker leaderboard shows it",
    )
