"""tracker compare, leaderboard cv-lb and select."""

from __future__ import annotations

from typing import Annotated

import typer

from tracker.commands.runs import Archived, Json, Where, Wide


def compare_command(
    runs: Annotated[
        list[str] | None,
        typer.Argument(metavar="[R...]", help="exp3, exp5..exp9, s12, sota; none: the newest."),
    ] = None,
    where: Where = "",
    sort: Annotated[str, typer.Option(help="Metric (the best first), config key or field.")] = "",
    each: Annotated[
        bool, typer.Option("--each", help="A row for each seed and fold, no means.")
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Equal keys and F1 by class, too.")
    ] = False,
    limit: Annotated[
        int | None,
        typer.Option(
            help="Newest finished runs to look at when none is named (200), 0: all.", min=0
        ),
    ] = None,
    archived: Archived = False,
    markdown: Annotated[bool, typer.Option("--md", help="Print a Markdown table.")] = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print CSV, with all digits.")] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show many runs in one table: config keys that differ, and metrics; seeds as mean and sd."""
    from tracker.commands.options import bring_runs, notify_long, refuse_beside, refuse_together
    from tracker.comparison.compare import DEFAULT_LIMIT, compare_runs
    from tracker.comparison.marks import read_marks
    from tracker.console.compare import print_comparison, render_csv, render_markdown
    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.core.text import clean_text
    from tracker.run_folder.read import count_archived
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--md": markdown, "--csv": as_csv, "--wide": wide})
    if runs:
        refuse_beside(
            "named runs", {"--limit": limit is not None}, why="all that are named are compared"
        )
    workspace = find_workspace()
    if not limit and not runs:
        notify_long(workspace, runs=True)
    bring_runs(workspace, *(runs or ()))
    newest = DEFAULT_LIMIT if limit is None else limit
    result = compare_runs(
        workspace,
        runs or (),
        where=where,
        sort=sort,
        each=each,
        everything=everything,
        limit=newest,
        archived=archived,
    )
    if result.empty_reason and (as_json or as_csv):
        print_note(result.empty_reason)
    if as_json:
        print_json(result.to_dict())
    elif markdown:
        print(render_markdown(result, workspace.competition), end="")
    elif as_csv:
        print(clean_text(render_csv(result)), end="")
    else:
        numbers = [number for row in result.rows for number in row.submissions]
        marks = read_marks(workspace, numbers=numbers)
        print_comparison(result, workspace.competition, marks=marks, wide=wide)
        if not runs and not archived and (count := count_archived(workspace.runs_dir)):
            left_out = render_count(count, "archived run")
            print_text(f"{left_out} left out: tracker compare --archived includes them")


PublicImages = Annotated[
    int, typer.Option(help="Number of images of the public score, where it is unknown.", min=0)
]


def cv_lb_command(public_images: PublicImages = 0, as_json: Json = False) -> None:
    """Compare validation (CV) with public and private scores (LB): is the leaderboard reliable?"""
    from tracker.commands.options import notify_long
    from tracker.comparison.cv_lb import compare_cv_with_leaderboard
    from tracker.console.cv_lb import render_cv_lb
    from tracker.core.terminal import print_json, print_text
    from tracker.ledger.read import suggest_first_submission
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_long(workspace, submissions=True)
    result = compare_cv_with_leaderboard(workspace, public_images=public_images)
    if as_json:
        print_json(result.to_dict())
    else:
        print_text(render_cv_lb(result), end="")
        if first := suggest_first_submission(workspace):
            print_text(f"next: {first}")


def old_cv_lb_command(public_images: PublicImages = 0, as_json: Json = False) -> None:
    """The earlier name of `leaderboard cv-lb`."""
    from tracker.core.terminal import print_note

    print_note("leaderboard truth is now called leaderboard cv-lb; this name still works")
    cv_lb_command(public_images=public_images, as_json=as_json)


def select_command(
    count: Annotated[int, typer.Option("-n", help="Submissions that may be chosen.")] = 2,
    public_images: PublicImages = 0,
    as_json: Json = False,
) -> None:
    """Choose the final submissions: by public score, validation and difference, with reasons."""
    from tracker.commands.options import notify_long
    from tracker.comparison.selection import select_final
    from tracker.console.cv_lb import render_selection
    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.ledger.integrity import check_integrity, expect_full_check
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    expect_full_check(workspace)
    notify_long(workspace, submissions=True)
    result = select_final(workspace, count, public_images=public_images)
    changed = check_integrity(workspace, in_full=True).warning
    problem = f"this choice may be wrong, because the ledger was changed: {changed}"
    if as_json:
        if changed:
            print_note(problem, before="warning: ")
        print_json({**result.to_dict(), "ledger_problem": changed})
    else:
        if changed:
            print_text(problem)
        print_text(render_selection(result, workspace.competition), end="")
