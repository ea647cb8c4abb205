"""tracker join, and ledger grant and revoke: the members of a team."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.setup.team import Address
    from tracker.workspace.tracker_toml import Workspace

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of the member, as in mina.")]


def join_command(
    host: Annotated[
        str, typer.Argument(metavar="HOST", help="Machine with the team's server; HOST:PORT.")
    ] = "",
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to make a workspace.")
    ] = Path(),
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the images on this machine; a laptop needs none.", metavar="DIR"
        ),
    ] = None,
    solution: Annotated[
        Path | None,
        typer.Option(help="Solution CSV, where this machine may score by itself.", metavar="FILE"),
    ] = None,
    update: Annotated[
        bool,
        typer.Option("--update", help="Take what the team has changed since into tracker.toml."),
    ] = False,
) -> None:
    """Make a workspace of a team that has a server; asks for the secret of the member.

    The secret is typed in a terminal or read from stdin. At the end everything is checked as by
    tracker doctor, with exit code 1 when something is wrong. A workspace that has joined gets later
    settings of the team by --update alone: keys that were changed here, too, stay and are named.
    With the HOST of its team it takes a new secret, and nothing else of it is changed.
    """
    if update:
        _update(bool(host or data or solution))
        return
    from tracker.commands.doctor import print_findings
    from tracker.commands.options import can_answer
    from tracker.core.errors import ConfigError
    from tracker.core.terminal import print_note, print_text
    from tracker.setup.gitignore import ignore_outputs
    from tracker.setup.team import join_team, list_lacking, parse_address, parse_secret
    from tracker.workflows.doctor import examine_machine
    from tracker.workspace.member_file import find_author

    if not host:
        raise ConfigError("join: whose team?", hint="tracker join HOST DIR")
    address = parse_address(host)
    if member := _find_workspace_of(folder, address, is_alone=data is None and solution is None):
        _renew(member)
        return
    if data is None and can_answer():
        typed = typer.prompt("folder of the images (empty: none here)", default="", err=True)
        data = Path(typed) if typed.strip() else None
    secret = parse_secret(_read_secret("secret, as tracker ledger grant printed it: "))
    workspace = join_team(folder, address, secret, data=data, solution=solution)
    ignore_outputs(workspace.root)
    print_text(f"{workspace.root}: {workspace.competition.name}, joined as {secret.name}")
    author = find_author(workspace.root)
    if author != secret.name:
        print_note(f"your runs will be signed {author}, as TRACKER_AUTHOR says")
    for name in list_lacking(workspace):
        print_note(f"{name} is not here: copy it from the owner", before="warning: ")
    findings = examine_machine(workspace)
    print_findings(findings)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _find_workspace_of(folder: Path, address: Address, *, is_alone: bool) -> Workspace | None:
    """The workspace of this team that gets a new secret, None where one is to be made.

    It is `folder`, or around it where no folder was typed. Raises ConfigError, before anything is
    asked, for a workspace of another kind, and where more than a secret is to be changed.
    """
    from tracker.core.errors import UnknownRunError
    from tracker.setup.team_update import is_of_team
    from tracker.workspace.tracker_toml import (
        TRACKER_TOML,
        already_made,
        find_workspace,
        load_workspace,
    )

    if (folder / TRACKER_TOML).exists():
        workspace = load_workspace(folder.resolve())
    elif folder == Path():
        try:
            workspace = find_workspace()
        except UnknownRunError:
            return None
        if not is_of_team(workspace, address):
            return None
    else:
        return None
    if is_alone and is_of_team(workspace, address):
        return workspace
    raise already_made(folder)


def _renew(workspace: Workspace) -> None:
    """Ask for the member's new secret, write it once it is accepted, and check everything."""
    from tracker.commands.doctor import print_findings
    from tracker.core.terminal import print_text
    from tracker.setup.team import parse_secret
    from tracker.setup.team_update import renew_secret
    from tracker.workflows.doctor import examine_machine
    from tracker.workspace.tracker_toml import load_workspace

    secret = parse_secret(_read_secret("new secret, as tracker ledger grant printed it: "))
    renew_secret(workspace, secret)
    print_text(
        f"{workspace.root}: {secret.name} has the new secret here; tracker.toml is as it was"
    )
    findings = examine_machine(load_workspace(workspace.root))
    print_findings(findings)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _update(is_joining: bool) -> None:
    """Take the team's later settings, and say what was taken and what was not."""
    from tracker.core.errors import ConfigError
    from tracker.core.terminal import print_note, print_text
    from tracker.ledger.shared_settings import explain_team_limit, read_shared
    from tracker.setup.team_update import render_change, update_settings
    from tracker.workspace.tracker_toml import find_workspace, load_workspace

    if is_joining:
        raise ConfigError(
            "--update is for a workspace that has joined: it takes no HOST and no other option",
            hint="in that workspace: tracker join --update",
        )
    workspace = find_workspace()
    update = update_settings(workspace)
    for change in update.taken:
        print_text(f"{change.key}: {render_change(change.here)} -> {render_change(change.team)}")
    for change in update.kept:
        print_note(
            f"{change.key}: stays {render_change(change.here)} here, the team has"
            f" {render_change(change.team)}",
            before="warning: ",
        )
    print_text(f"tracker.toml has version {update.version} of the team's settings")
    now = load_workspace(workspace.root)
    if looser := explain_team_limit(read_shared(now.ledger_url), now.competition):
        print_note(looser, before="warning: ")
    if update.before is not None:
        print_note(f"the file as it was: {workspace.relative(update.before)}")


def grant_command(
    name: Name,
    password_stdin: Annotated[
        bool,
        typer.Option("--password-stdin", help="Read the password from stdin; else a random one."),
    ] = False,
) -> None:
    """Make a member of the team's ledger, who may read and add rows, and print the secret once.

    A member gets a new password by the same command. What of tracker.toml the team shares is put
    into the ledger, for tracker join.
    """
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_note
    from tracker.ledger.roles import grant_member, make_password, revoke_member
    from tracker.mirror.targets.mlflow_users import has_users, put_user
    from tracker.setup.team import share_settings
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    password = _read_secret("password: ") if password_stdin else make_password()
    is_new = grant_member(workspace.ledger_url, name, password)
    version, _ = share_settings(workspace)
    if has_users(workspace):
        try:
            put_user(workspace, name, password)
        except TrackerError:
            if is_new:  # all or nothing: half a member can neither join nor be granted again
                revoke_member(workspace.ledger_url, name)
            raise
    print_note(f"{name} {'is a member now' if is_new else 'has a new password'}")
    print_note(f"the team shares version {version} of the settings in tracker.toml")
    if not password_stdin:
        print_note("tracker join HOST asks for this secret, which is shown only now:")
        print(f"{name}:{password}")


def share_command() -> None:
    """Share what has changed in the owner's tracker.toml; members take it by tracker join --update.

    Shared is what is right on every machine: no paths, no passwords, no solution.
    """
    from tracker.core.terminal import print_text
    from tracker.setup.team import share_settings
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    version, is_new = share_settings(workspace)
    if not is_new:
        print_text(f"nothing has changed since version {version} of the team's settings")
    else:
        print_text(f"version {version} of the team's settings; members: tracker join --update")


def revoke_command(name: Name) -> None:
    """Take a member out of the team's ledger and MLflow; the member's rows and runs stay."""
    from tracker.core.terminal import print_text
    from tracker.ledger.roles import revoke_member
    from tracker.mirror.targets.mlflow_users import delete_user, has_users
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()

    def take_from_mlflow() -> None:
        if has_users(workspace):
            delete_user(workspace, name)

    revoke_member(workspace.ledger_url, name, before=take_from_mlflow)
    print_text(f"{name} is no member any more; what {name} added stays")


def members_command() -> None:
    """List the members of the team's ledger, a name on each line."""
    from tracker.core.terminal import print_text
    from tracker.ledger.roles import list_members
    from tracker.workspace.tracker_toml import find_workspace

    names = list_members(find_workspace().ledger_url)
    print_text("\n".join(names) or "no members yet (tracker ledger grant NAME)")


def _read_secret(question: str) -> str:
    """A line that is typed unseen, or the first line of stdin; raises TrackerError for none."""
    import getpass

    from tracker.commands.options import can_answer
    from tracker.core.errors import TrackerError

    try:
        text = getpass.getpass(question) if can_answer() else sys.stdin.readline()
    except EOFError:
        text = ""
    if not text.strip():
        raise TrackerError(
            "no secret was given", hint="type it in a terminal, or send it to stdin: < FILE"
        )
    return text.strip()
