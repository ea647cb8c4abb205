"""Options that contradict each other are refused, before anything is read or written; whether there
is one to ask; what Ctrl-C and SIGTERM leave; which run `latest` leaves out; teammates' runs that a
command needs."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

if TYPE_CHECKING:
    from tracker.core.errors import LedgerError
    from tracker.workspace.tracker_toml import Workspace

Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def may_ask() -> bool:
    """Whether somebody sits at a terminal; scripts and pipes get fewer lines."""
    return (
        sys.stdin is not None
        and sys.stdin.isatty()
        and sys.stdout is not None
        and sys.stdout.isatty()
    )


def can_answer() -> bool:
    """Whether there is a terminal to answer on; what is printed may go elsewhere."""
    return sys.stdin is not None and sys.stdin.isatty()


def refuse_to_guess(undone: str, go_on: str) -> NoReturn:
    """Raise ConfigError where a question cannot be asked; `go_on` is the command that says yes."""
    from tracker.training.errors import ConfigError

    raise ConfigError(f"{undone}: there is no terminal to ask on", hint=go_on)


def ask(question: str, *, no: str, go_on: str) -> None:
    """Ask in a terminal; returns after a yes. `no` says what was not done, `go_on` is the command
    that does not ask.

    Raises ConfigError where there is no terminal, typer.Exit (1) after a no, TrackerError where the
    input ended without an answer (Ctrl-D), and InterruptedByUserError after Ctrl-C.
    """
    from tracker.core.errors import InterruptedByUserError, TrackerError
    from tracker.core.table import wrap
    from tracker.core.terminal import find_width, print_text
    from tracker.core.text import clean_text

    if not can_answer():
        refuse_to_guess(no, go_on)
    try:
        width = find_width(sys.stdout if may_ask() else sys.stderr)
        shown = wrap(clean_text(question), width and max(1, width - len(" [y/N]: ")))
        if typer.confirm("\n".join(shown), default=False, err=not may_ask()):
            return
    except typer.Abort as end:
        print()  # ends the line of the question
        if isinstance(end.__context__, KeyboardInterrupt):
            raise InterruptedByUserError(f"interrupted, {no}", hint=go_on) from None
        raise TrackerError(f"no answer to the question, {no}", hint=go_on) from None
    print_text(no)
    raise typer.Exit(1)


@contextmanager
def explain_interrupt(find_state: Callable[[], tuple[str, str]]) -> Iterator[None]:
    """Ctrl-C or SIGTERM in this block says how far the command came: rows in the ledger cannot be
    taken back.

    `find_state` returns that, and what to do next; it is called after the signal.
    """
    from tracker.core.errors import InterruptedByUserError, TrackerError
    from tracker.core.signals import sigterm_as_interrupt

    try:
        with sigterm_as_interrupt():
            yield
    except KeyboardInterrupt as stop:
        try:
            state, go_on = find_state()
        except TrackerError:  # the ledger does not answer
            state, go_on = ", and the ledger cannot be asked what it has", "tracker leaderboard"
        which = f" ({stop})" if str(stop) else ""  # SIGTERM; Ctrl-C has no text
        raise InterruptedByUserError(f"interrupted{which}{state}", hint=go_on) from None


@contextmanager
def explain_no_run() -> Iterator[None]:
    """Ctrl-C or SIGTERM before a run begins says so; the end of a run says more itself."""
    with explain_interrupt(lambda: (" before a run began", "")):
        yield


def refuse_together(given: Mapping[str, bool]) -> None:
    """Raise ConfigError when more than one of the options was given; each would undo the others."""
    from tracker.training.errors import ConfigError

    names = [name for name, is_given in given.items() if is_given]
    if len(names) > 1:
        listed = f"{', '.join(names[:-1])} and {names[-1]}"
        raise ConfigError(f"{listed} contradict each other", hint="give one of them")


def refuse_beside(option: str, given: Mapping[str, bool], *, why: str) -> None:
    """Raise ConfigError when one of the options was given, which `option`, that was given too,
    leaves nothing to do."""
    from tracker.training.errors import ConfigError

    names = [name for name, is_given in given.items() if is_given]
    if names:
        verb = "do" if len(names) > 1 else "does"
        raise ConfigError(
            f"{' and '.join(names)} {verb} nothing beside {option}: {why}",
            hint="use only one of them",
        )


def settle_gone_jobs(workspace: Workspace, word: str = "") -> None:
    """Runs that wait for a job which is gone are interrupted from now on.

    Where `word` is a run's name, the others are left for a command that shows them.
    """
    import os

    from tracker.run_folder.record import RUN_NAME, list_run_numbers

    runs_dir = workspace.runs_dir
    is_name = RUN_NAME.fullmatch(word)
    names = [word] if is_name else [f"exp{number}" for number in list_run_numbers(runs_dir)]
    # asked in one call each: most of very many runs have no such file
    if any(os.access(f"{runs_dir}/{name}/slurm.json", os.F_OK) for name in names):
        from tracker.jobs.slurm_state import settle_gone

        settle_gone(workspace)


def notify_latest(workspace: Workspace, *words: str | None) -> None:
    """Say on stderr that there is a newer run than `latest`, where that is one of the words."""
    if "latest" not in words:
        return  # the import below takes 5 ms
    from tracker.run_folder.read import describe_newer_than_latest

    if line := describe_newer_than_latest(workspace.runs_dir):
        _notify(line)


def bring_runs(workspace: Workspace, *words: str | None, weights: bool = False) -> None:
    """Pull the teammates' runs among the words that are not here, and say so on stderr.

    `weights` is for a command that needs best.pth.
    """
    from tracker.run_folder.record import RUN_NAME

    asked = []
    for word in filter(None, words):
        is_own = RUN_NAME.fullmatch(word) and (workspace.runs_dir / word).is_dir()
        # the weights of an inference are those of its parent, which may be a teammate's
        if weights or (word != "latest" and not is_own):
            asked.append(word)
    if not asked:
        return  # importing what pulls takes as long as showing a run
    from tracker.mirror.pull import bring
    from tracker.run_folder.record import is_pulled

    if any(is_pulled(word) and "~" not in word for word in asked):
        from tracker.mirror.team import ask_for_running

        ask_for_running(workspace)
    bring(workspace, asked, weights=weights, notify=_notify)


MANY = 20_000  # run folders or submissions, which take about 2 s to read
MANY_ROWS = 100_000  # of the ledger, which take about 2 s to hash


def notify_long(workspace: Workspace, *, runs: bool = False, submissions: bool = False) -> None:
    """Say on stderr what a command is about to read whole, where that takes more than 2 seconds."""
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_note
    from tracker.ledger.read import count_submissions
    from tracker.run_folder.record import list_run_numbers

    parts = []
    if runs and (count := len(list_run_numbers(workspace.runs_dir))) > MANY:
        parts.append(f"{count:,} run folders")
    with suppress(TrackerError):  # the command itself says that it has no ledger
        if submissions and (count := count_submissions(workspace)) > MANY:
            parts.append(f"{count:,} submissions")
    if parts:
        print_note(f"reading {' and '.join(parts)}: about 2 seconds for each {MANY:,}")


def notify_hashing(workspace: Workspace) -> None:
    """Say on stderr that each row of a ledger is hashed, where that takes more than 2 seconds."""
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_note
    from tracker.ledger.connection import read_rows

    with suppress(TrackerError):  # the command itself says that it has no ledger
        (row,) = read_rows(workspace.ledger_url, "SELECT count(*) AS n FROM chain")
        if row["n"] > MANY_ROWS:
            print_note(f"hashing {row['n']:,} rows: about 2 seconds for each {MANY_ROWS:,}")


def warn_without_ledger(error: LedgerError) -> None:
    """Say on stderr that the runs are there, and what of them is unknown."""
    from tracker.core.errors import render_error
    from tracker.core.terminal import print_note

    text = f"submissions and notes are unknown, all runs are there: {render_error(error)}"
    print_note(text, before="warning: ")


def _notify(line: str) -> None:
    """Say a line on stderr."""
    from tracker.run_folder.output import notify  # it loads what handles signals and processes

    notify(line)
