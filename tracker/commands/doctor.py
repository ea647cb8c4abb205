"""tracker doctor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.workflows.doctor import Finding

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]


def doctor_command(as_json: Json = False) -> None:
    """Check this machine and workspace before a long night; exit code 1 when something is wrong.

    Versions, GPU, disk, permissions, images, ledger, MLflow, runs and the kept copies of what was
    sent; each problem with its fix.
    """
    from tracker.commands.options import notify_long
    from tracker.core.errors import UnknownRunError
    from tracker.core.terminal import print_json
    from tracker.workflows.doctor import examine_machine
    from tracker.workspace.tracker_toml import find_workspace

    try:
        workspace = find_workspace()
    except UnknownRunError:
        workspace = None
    if workspace is not None:  # a server may be away, which the check of the ledger waits for
        has_file = workspace.ledger_url.startswith("sqlite:")
        notify_long(workspace, runs=True, submissions=has_file)
    findings = examine_machine(workspace)
    if as_json:
        print_json([finding.to_dict() for finding in findings])
    else:
        print_findings(findings)
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def print_findings(findings: Sequence[Finding]) -> None:
    """A line for each finding, and one for what to do about it."""
    from tracker.core.terminal import print_text

    styles = {"ok": "", "warning": "yellow", "problem": "red"}
    for finding in findings:
        before = "" if finding.state == "ok" else f"{finding.state}: "
        print_text(f"{finding.check}: {before}{finding.text}", style=styles[finding.state])
        if finding.fix:
            print_text(f"  {finding.fix}")
