"""tracker archive, unarchive, tag and clean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.workflows.clean import CleanPlan
    from tracker.workspace.tracker_toml import Workspace

Runs = Annotated[
    list[str], typer.Argument(metavar="R...", help="Runs: exp3, exp5..exp9, latest, sota or s12.")
]


def archive_command(runs: Runs) -> None:
    """Hide runs from lists, trees and reports; nothing is deleted."""
    from tracker.core.terminal import print_text
    from tracker.ledger.read import find_sota
    from tracker.run_folder.marks import archive_runs
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    names = _resolve(workspace, runs)
    records = archive_runs(workspace, names)
    archived = [record.name for record in records]
    _print_unchanged(names, archived, "archived already")
    if not archived:
        return
    them = "it" if len(archived) == 1 else "them"
    print_text(
        f"archived: {', '.join(archived)} (tracker unarchive {' '.join(archived)} takes {them}"
        " back)"
    )
    best = find_sota(workspace)
    if best is not None and best.run_uid in {record.uid for record in records}:
        print_text(
            f"{best.run} is SOTA: its submission {best.number} stays in the leaderboard, and SOTA"
        )
    _copy(workspace, archived)


def unarchive_command(runs: Runs) -> None:
    """Show archived runs in the lists again."""
    from tracker.core.terminal import print_text
    from tracker.run_folder.marks import unarchive_runs
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    names = _resolve(workspace, runs)
    back = [record.name for record in unarchive_runs(workspace, names)]
    _print_unchanged(names, back, "not archived")
    if back:
        print_text(f"back in the lists: {', '.join(back)}")
        _copy(workspace, back)


def tag_command(
    run: Annotated[str, typer.Argument(metavar="R", help="exp12, latest, sota or s12.")],
    names: Annotated[
        list[str], typer.Argument(metavar="NAME...", help="Tags, without blanks: final-candidate.")
    ],
    remove: Annotated[bool, typer.Option("--remove", help="Remove the tags.")] = False,
) -> None:
    """Add tags to a run, or remove them; best.pth of a tagged run is never freed."""
    from tracker.commands.options import notify_latest
    from tracker.core.terminal import print_text
    from tracker.ledger.resolve import resolve_own_run
    from tracker.run_folder.marks import tag_run
    from tracker.run_folder.read import load_run
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_latest(workspace, run)
    name = resolve_own_run(workspace, run)
    before = load_run(workspace.runs_dir, name).tags
    record = tag_run(workspace, name, names, remove=remove)
    there = [] if remove else [tag for tag in dict.fromkeys(names) if tag in before]
    already = f" (had {', '.join(there)} already)" if there else ""
    print_text(f"{name}: {', '.join(record.tags) or 'no tags'}{already}")
    if record.tags == before:
        return
    if record.status != "running":  # the copy of a running run follows by itself
        _copy(workspace, [record.name])


def clean_command(
    checkpoints: Annotated[
        bool,
        typer.Option(
            "--checkpoints", help="Also best.pth of runs that no submission, ensemble or tag keeps."
        ),
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
) -> None:
    """Free disk space: last.pth of finished runs and old pixel caches; lists the files and asks."""
    from tracker.commands.options import ask
    from tracker.core.terminal import print_text
    from tracker.training.numbers import render_count
    from tracker.workflows.clean import free_files, plan_clean
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    plan = plan_clean(workspace, checkpoints=checkpoints)
    for line in _describe_plan(plan):
        print_text(line)
    if not plan.files:
        print_text("nothing to free")
        return
    if not yes:
        question = f"Free {_render_size(plan.size)}? These files are deleted."
        ask(
            question,
            no="nothing was freed",
            go_on=f"tracker clean{' --checkpoints' * checkpoints} --yes",
        )
    done = free_files(workspace, plan, checkpoints=checkpoints)
    print_text(
        f"freed {_render_size(sum(item.size for item in done))} ({render_count(len(done), 'file')})"
    )
    if checkpoints and workspace.mlflow_uri.startswith("http"):
        print_text(f"the copies on {workspace.shown_mlflow_uri} stay")


# what tracker.workflows.reuse takes it for
LAST_IS_FOR = (
    "delete it unless you will train the same run for longer: with a larger train.patience or,"
    " where sched.name is not cosine, more train.epochs"
)

LAST_OF_OWN = "saved by a script of your own; tracker needs it no more, as the run is finished"


def _describe_plan(plan: CleanPlan) -> Iterator[str]:
    """A line for each kind of file and one for what stays."""
    from tracker.workflows.clean import BEST, CACHE, LAST

    kinds = dict.fromkeys((item.what, item.own_loop) for item in plan.files)
    for what, own_loop in kinds:
        items = [item for item in plan.files if (item.what, item.own_loop) == (what, own_loop)]
        names = [item.run for item in items if item.run]
        if what == BEST:  # nobody should free the best weights by accident
            names = [_mark_best(plan, name) for name in names]
        runs = ", ".join(names)
        size = _render_size(sum(item.size for item in items))
        why = f" ({LAST_OF_OWN if own_loop else LAST_IS_FOR})" if what == LAST else ""
        yield f"{size:>12}  {len(items)} x {what}{f' of {runs}' if runs else ''}{why}"
    if plan.num_caches and (CACHE, False) in kinds:
        stay = "stays" if plan.num_caches == 1 else "stay"
        yield f"{plan.num_caches} x {CACHE} {stay}: in use by a run, or used last"
    if kept := [f"{name} ({reason})" for name, reason in plan.protected.items()]:
        yield f"best.pth stays: {', '.join(kept)}"


def _mark_best(plan: CleanPlan, name: str) -> str:
    return f"{name} (best of all: {plan.best_score})" if name == plan.best else name


def _render_size(size: int) -> str:
    return f"{size / 1e6:.1f} MB"


def _resolve(workspace: Workspace, words: Sequence[str]) -> list[str]:
    """The names of the runs meant, each once."""
    from tracker.commands.options import notify_latest
    from tracker.comparison.compared_run import expand_ranges
    from tracker.ledger.resolve import resolve_own_run

    notify_latest(workspace, *words)
    named = expand_ranges(workspace, words, archived=True)
    return list(dict.fromkeys(resolve_own_run(workspace, word) for word in named))


def _print_unchanged(names: Sequence[str], changed: Sequence[str], state: str) -> None:
    """Name the runs that are so already: no error, and nothing changes."""
    from tracker.core.terminal import print_text

    unchanged = [name for name in names if name not in changed]
    if unchanged:
        verb = "is" if len(unchanged) == 1 else "are"
        print_text(f"{', '.join(unchanged)} {verb} {state}: nothing to do")


def _copy(workspace: Workspace, names: Sequence[str]) -> None:
    """Bring MLflow up to date; only the first problem is printed."""
    from tracker.core.terminal import print_note
    from tracker.mirror.sync import copy_run

    for name in names:
        if problem := copy_run(workspace, name):
            print_note(problem)
            return
