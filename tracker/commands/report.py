"""tracker tree and report."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tracker.commands.runs import Archived, Json, Wide


def report_command(
    html: Annotated[
        Path | None,
        typer.Option(metavar="F", help="HTML file; report.html when no option names one."),
    ] = None,
    md: Annotated[Path | None, typer.Option(metavar="F", help="Markdown file.")] = None,
    browser: Annotated[
        bool, typer.Option("--open", help="Open the HTML file in the browser.")
    ] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Replace a file that is no report of tracker.")
    ] = False,
) -> None:
    """Write the team's report: submissions, steps of SOTA, agreement, family and audit.

    An earlier report is replaced, any other file only with --force.
    """
    from tracker.commands.options import notify_long
    from tracker.core.terminal import print_note
    from tracker.ledger.integrity import expect_full_check
    from tracker.report.write import copy_report, write_report
    from tracker.training.errors import ConfigError
    from tracker.workspace.tracker_toml import find_workspace

    if html is not None and md is not None and html.resolve() == md.resolve():
        raise ConfigError(
            f"--html and --md name the same file: {html}", hint="give each a file of its own"
        )
    workspace = find_workspace()
    expect_full_check(workspace)
    notify_long(workspace, runs=True, submissions=True)
    if html is None and (md is None or browser):
        html = workspace.root / "report.html"
    written = write_report(workspace, html=html, markdown=md, force=force)
    if written.ledger_problem:
        print_note(f"the ledger was changed: {written.ledger_problem}", before="warning: ")
    for path in filter(None, (html, md)):
        print(path, flush=True)  # MLflow's copy takes seconds, and the files are there
    if problem := copy_report(workspace, written):
        print_note(problem)
    if browser and html:
        _browse(html)


def _browse(path: Path) -> None:
    import webbrowser

    webbrowser.open(path.resolve().as_uri())


def tree_command(archived: Archived = False, wide: Wide = False, as_json: Json = False) -> None:
    """Show which run was made from which, with its change and its scores; SOTA's line is marked."""
    from tracker.commands.options import notify_long, refuse_together, warn_without_ledger
    from tracker.comparison.marks import read_marks
    from tracker.comparison.tree import build_family
    from tracker.console.tree import print_family
    from tracker.core.errors import LedgerError
    from tracker.core.list_marks import Marks
    from tracker.core.terminal import print_json
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    notify_long(workspace, runs=True, submissions=True)
    try:
        family = build_family(workspace, archived=archived)
        marks = Marks() if as_json else read_marks(workspace)
    except LedgerError as error:
        warn_without_ledger(error)
        family = build_family(workspace, archived=archived, with_ledger=False)
        marks = Marks()
    if as_json:
        print_json(family.to_dict())
    else:
        print_family(family, workspace.competition, marks=marks, wide=wide)
