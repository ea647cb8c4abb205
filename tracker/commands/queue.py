"""tracker run queue and run sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Detach = Annotated[bool, typer.Option("--detach", help="Work in the background; the terminal may close.")]


def queue(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="TOML file of [[run]] tables.")], detach: Detach = False
) -> None:
    """Train a file of runs, one after another; called again, go on with what has not finished."""
    from tracker.queue import run_queue
    from tracker.report import print_table, render_number
    from tracker.workspace import find_workspace

    if detach:
        _print_detached(file, "queues")
        return
    outcomes = run_queue(find_workspace(), file)
    rows = [
        (f"{o.entry} {o.label}", o.run or "-", o.status, render_number(o.val_f1), o.reason or "-") for o in outcomes
    ]
    print_table(("entry", "run", "status", "val f1", "reason"), rows)
    if any(outcome.status != "finished" for outcome in outcomes):
        raise typer.Exit(1)


def _print_detached(file: Path, kind: str) -> None:
    """Start this command in the background, and say how to look after it."""
    from tracker.background import OUTPUT_NAME, Child
    from tracker.commands.jobs import start_again
    from tracker.queue import find_folder
    from tracker.workspace import find_workspace

    output = find_folder(find_workspace(), file, kind) / OUTPUT_NAME
    child, _ = start_again(Child.wait_for_folder)
    print(f"{file} is worked on in the background, process {child.pid}")
    print(f"follow: tail -f {output}\nstop:   kill {child.pid}")
