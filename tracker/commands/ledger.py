"""tracker ledger init, head, verify, upgrade, backup, restore, import and export."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.commands.runs import Json, Wide

if TYPE_CHECKING:
    from tracker.ledger.chain import Verification
    from tracker.ledger.heads import SeenHead
    from tracker.workspace.tracker_toml import Workspace

RESTORE = "compare with a backup; tracker ledger restore makes a ledger of one"
File = Annotated[Path, typer.Argument(metavar="FILE", help="Path of the file.")]


def init_command() -> None:
    """Make an empty ledger at ledger.url; an existing one is left as it is."""
    from tracker.core.terminal import print_text
    from tracker.ledger.append import create_ledger
    from tracker.training.errors import mask_secrets
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    made = create_ledger(workspace.ledger_url)
    print_text(f"{'made' if made else 'already there'}: {mask_secrets(workspace.ledger_url)}")


def head_command(
    sign: Annotated[
        bool, typer.Option("--sign", help="Sign it with your SSH key, for verify --signed.")
    ] = False,
    key: Annotated[
        Path | None, typer.Option(help="The SSH key, else the first of ~/.ssh.", metavar="FILE")
    ] = None,
) -> None:
    """Print the ledger's head: whoever has it can prove every row up to it."""
    from tracker.core.errors import ConfigError, LedgerError
    from tracker.core.terminal import print_note
    from tracker.ledger.chain import NO_ROW, read_head
    from tracker.ledger.connection import open_reader
    from tracker.ledger.heads import read_newest
    from tracker.ledger.signing import sign_head
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    if not sign:
        if key is not None:
            raise ConfigError("--key is for --sign", hint="tracker ledger head --sign --key FILE")
        text = read_head(workspace.ledger_url)
        print(text)
        if text == NO_ROW:
            print_note("the ledger has no row yet")
        return
    with open_reader(workspace.ledger_url) as query:
        head = read_newest(query)
    if head is None:
        raise LedgerError("the ledger is empty: there is nothing to sign")
    print(sign_head(workspace, head, key), end="")


def verify_command(
    head: Annotated[
        str, typer.Option(help="Head printed earlier: the ledger must still have that row.")
    ] = "",
    signed: Annotated[
        Path | None,
        typer.Option(help="File of ledger head --sign: it must have that row.", metavar="FILE"),
    ] = None,
    signers: Annotated[
        Path | None,
        typer.Option(help="Whose signatures count, else allowed_signers.", metavar="FILE"),
    ] = None,
    accept_heads: Annotated[
        str,
        typer.Option(
            metavar="WHY",
            help="Go on, though rows that were seen are gone or were changed: say why.",
        ),
    ] = "",
    as_json: Json = False,
) -> None:
    """Check all rows, the database, and all heads seen; exit code 1 names the first problem."""
    from tracker.commands.options import notify_hashing, refuse_together
    from tracker.core.errors import ConfigError, LedgerError
    from tracker.core.first_read import mark_read
    from tracker.core.terminal import print_json
    from tracker.ledger.chain import verify_ledger
    from tracker.ledger.heads import load_memory
    from tracker.ledger.integrity import note_verified, read_state
    from tracker.ledger.signing import read_signed
    from tracker.submission.witnesses import explain_way_on
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--accept-heads": bool(accept_heads)})
    if signers is not None and signed is None:
        raise ConfigError("--signers is for --signed", hint="tracker ledger verify --signed FILE")
    workspace = find_workspace()
    mark_read(workspace.ledger_url)  # compared below with more than its last head
    if accept_heads:
        _accept_heads(workspace, accept_heads)
        if not head and not signed:
            return
    extra = read_signed(workspace, signed, signers) if signed else None
    accepted = load_memory(workspace).set_aside
    notify_hashing(workspace)
    state = read_state(workspace)
    result = verify_ledger(workspace.ledger_url, head=head, set_aside=accepted)
    if result.problem:
        if as_json:
            print_json(result.to_dict())
        raise LedgerError(result.problem, hint=explain_way_on(workspace) or RESTORE)
    note_verified(workspace, state, result.problems)
    _compare_heads(workspace, result, head, extra, as_json=as_json)


def _accept_heads(workspace: Workspace, why: str) -> None:
    from tracker.core.terminal import print_text
    from tracker.submission.scores import score_again
    from tracker.submission.witnesses import accept_heads

    accepted = accept_heads(workspace, why)
    for gone in accepted.heads:
        print_text(f"accepted, although {gone.where} saw row {gone.seq} on {gone.seen_at[:10]}")
    for changed in accepted.rows:
        print_text(f"accepted as it is now: {changed.text}")
    print_text("a note in the ledger says so; each workspace accepts for itself")
    numbers = {row.submission for row in accepted.rows if row.submission is not None}
    primary = workspace.competition.primary
    for row in score_again(workspace, sorted(numbers)):
        value = primary.render(row.scores[f"public_{primary.name}"])
        print_text(f"submission {row.number} was scored anew: public {primary.name} {value}")


def _compare_heads(
    workspace: Workspace,
    result: Verification,
    head: str,
    signed: SeenHead | None,
    *,
    as_json: bool,
) -> None:
    """Compare the ledger with every head that was seen; its own rows and `head` agree."""
    from tracker.core.errors import LedgerError
    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.ledger.chain import NO_ROW
    from tracker.ledger.heads import note_newest
    from tracker.submission.witnesses import HINT, ask_witnesses, render_counts

    witnesses = ask_witnesses(workspace, extra=signed)
    problem = witnesses.comparison.problem
    if witnesses.unasked:
        print_note(f"no heads of MLflow were compared: {witnesses.unasked}", before="warning: ")
    if as_json:
        print_json({**result.to_dict(), "problem": problem, "heads": dict(witnesses.counts)})
    if problem:
        raise LedgerError(problem, hint=HINT)
    note_newest(workspace)
    if not as_json:
        all_rows = f"all {result.rows} rows agree" if not result.accepted else "the rows agree"
        print_text(f"{all_rows}, head {result.head}")
        for text in result.accepted:
            print_text(f"but this was accepted here: {text}")
        print_text(render_counts(witnesses.counts))
        if head and head != NO_ROW:
            rest = "" if result.accepted else ": no row up to it was changed or deleted"
            print_text(f"it has the head {head.strip()}{rest}")
        if signed:
            print_text(f"it has row {signed.seq}, which {signed.where} saw")


def history_command(
    number: Annotated[
        int | None, typer.Argument(metavar="[N]", help="Only what concerns submission N.")
    ] = None,
    limit: Annotated[int, typer.Option(help="Newest rows to show, 0: all.", min=0)] = 50,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List the rows as they were added: runs, submissions, scores with their corrections, notes."""
    from tracker.commands.options import refuse_together
    from tracker.console.submissions import print_history
    from tracker.core.terminal import print_json
    from tracker.ledger.history import list_history
    from tracker.ledger.read import get_submission
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    if number is not None:
        get_submission(workspace, number)
    events = list_history(workspace, submission=number, limit=limit)
    if as_json:
        print_json([event.to_dict() for event in events])
    else:
        print_history(events, workspace.competition, wide=wide)


def upgrade_command(
    backup: Annotated[
        Path | None, typer.Option(help="Where the backup goes; else beside tracker.toml.")
    ] = None,
) -> None:
    """Bring an older ledger to this program's schema; a backup is made first."""
    from tracker.core.terminal import print_text
    from tracker.ledger.migrations import default_backup, upgrade_ledger
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    target = backup or default_backup(workspace.root)
    before, after = upgrade_ledger(workspace.ledger_url, backup=target)
    print_text(
        f"schema {before} -> {after}, backup {target}"
        if before != after
        else f"schema {after} is up to date"
    )


def backup_command(file: File) -> None:
    """Copy the whole ledger to a SQLite file, while others may write."""
    from tracker.core.terminal import print_text
    from tracker.ledger.transfer import copy_ledger
    from tracker.workspace.tracker_toml import find_workspace

    print_text(f"{file}: {copy_ledger(find_workspace().ledger_url, file)} rows")


def restore_command(file: File) -> None:
    """Copy a backup to ledger.url, where no ledger may be."""
    from tracker.core.terminal import print_text
    from tracker.ledger.transfer import restore_ledger
    from tracker.workspace.tracker_toml import find_workspace

    print_text(f"{restore_ledger(file, find_workspace().ledger_url)} rows restored")


def import_command(
    file: File,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be added; add nothing.")
    ] = False,
) -> None:
    """Add the submissions of a hand-kept table (CSV or JSON), all or none."""
    from tracker.commands.options import explain_interrupt
    from tracker.core.terminal import print_text
    from tracker.ledger.submission_table import (
        describe_interrupted_import,
        import_table,
        read_submission_table,
        render_summary,
        try_import,
    )
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    table = read_submission_table(file, workspace.competition)
    print_text(render_summary(table))
    if dry_run:
        try_import(workspace, table)
        print_text(f"dry run: {render_count(len(table.rows), 'submission')} would be added")
        return
    with explain_interrupt(lambda: describe_interrupted_import(workspace, table)):
        print_text(f"added {import_table(workspace, table)} submissions")


def export_command(
    file: File,
    every_column: Annotated[
        bool, typer.Option("--all", help="In a .md file every column, not only what people read.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is no export of this ledger.")
    ] = False,
) -> None:
    """Write all submissions to a .csv, .json or .md file; .json has the whole ledger.

    An earlier export of this ledger is replaced, any other file only with --force.
    """
    from tracker.commands.options import refuse_beside
    from tracker.comparison.comparable import describe_validation
    from tracker.core.terminal import print_note, print_text
    from tracker.ledger.read import iterate_submissions
    from tracker.ledger.submission_table import export_table
    from tracker.run_folder.read import look_once
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    if file.suffix.lower() in (".csv", ".json"):
        every = {"--all": every_column}
        refuse_beside(f"a {file.suffix.lower()} file", every, why="it has every column")
    workspace = find_workspace()
    with look_once(workspace.runs_dir):
        validation = describe_validation(workspace, iterate_submissions(workspace))
    written = export_table(
        workspace, file, validation=validation, every_column=every_column, force=force
    )
    print_text(f"{file}: {render_count(written.count, 'submission')}")
    if written.hidden_columns:
        columns = render_count(written.hidden_columns, "column")
        print_note(f"left out: {columns} that seldom matter to people; --all writes all")
    if written.left_out and written.count:
        print_note(f"left out: {written.left_out}; a .json file has them")
    elif written.left_out:
        print_note(
            f"left out: {written.left_out}; without a submission only tracker ledger backup has"
            " them"
        )
