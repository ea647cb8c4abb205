"""tracker archive, unarchive and tag."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from tracker.workspace import Workspace

Runs = Annotated[list[str], typer.Argument(metavar="R...", help="Runs: exp3, exp5..exp9, latest, sota or s12.")]


def archive(runs: Runs) -> None:
    """Put runs away: no list, tree or report shows them any more; nothing is deleted."""
    from tracker.ledger.read import find_sota
    from tracker.marks import archive_runs
    from tracker.report import print_text
    from tracker.workspace import find_workspace

    workspace = find_workspace()
    names = _resolve(workspace, runs)
    records = archive_runs(workspace, names)
    print_text(f"archived: {', '.join(names)} (tracker unarchive {' '.join(names)} takes them back)")
    best = find_sota(workspace)
    if best is not None and best.run_uid in {record.uid for record in records}:
        print_text(f"{best.run} is SOTA: its submission {best.number} stays in the leaderboard, and SOTA")
    _copy(workspace, names)


def unarchive(runs: Runs) -> None:
    """Take archived runs back into the lists."""
    from tracker.marks import unarchive_runs
    from tracker.report import print_text
    from tracker.workspace import find_workspace

    workspace = find_workspace()
    names = _resolve(workspace, runs)
    unarchive_runs(workspace, names)
    print_text(f"back in the lists: {', '.join(names)}")
    _copy(workspace, names)


def tag(
    run: Annotated[str, typer.Argument(metavar="R", help="exp12, latest, sota or s12.")],
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Tags, without blanks: final-candidate.")],
    remove: Annotated[bool, typer.Option("--remove", help="Take the tags away.")] = False,
) -> None:
    """Give a run tags, or take them away; a checkpoint of a tagged run is never freed."""
    from tracker.ledger.read import resolve_run
    from tracker.marks import tag_run
    from tracker.report import print_text
    from tracker.workspace import find_workspace

    workspace = find_workspace()
    record = tag_run(workspace, resolve_run(workspace, run), names, remove=remove)
    print_text(f"{record.name}: {', '.join(record.tags) or 'no tags'}")
    if record.status != "running":  # the copy of a running run follows by itself
        _copy(workspace, [record.name])


def _resolve(workspace: Workspace, words: Sequence[str]) -> list[str]:
    """The names of the runs meant, each once."""
    from tracker.comparison.compare import expand_words
    from tracker.ledger.read import resolve_run

    named = expand_words(workspace, words, archived=True)
    return list(dict.fromkeys(resolve_run(workspace, word) for word in named))


def _copy(workspace: Workspace, names: Sequence[str]) -> None:
    """Bring MLflow up to date; the first problem is told once."""
    import sys

    from tracker.api import copy_to_mlflow

    for name in names:
        if problem := copy_to_mlflow(workspace, name):
            print(problem, file=sys.stderr)
            return
