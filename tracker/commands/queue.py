"""tracker run queue and run sweep."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column and every character, however wide.")
]
Detach = Annotated[
    bool, typer.Option("--detach", help="Work in the background; the terminal may close.")
]


def queue_command(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="TOML file with a run table for each training.")
    ],
    detach: Detach = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Train a file of runs, one after another; called again, go on with what has not finished."""
    from tracker.commands.options import refuse_together
    from tracker.core.terminal import print_json
    from tracker.jobs.queue import run_queue
    from tracker.jobs.views import print_queue
    from tracker.run_folder.output import outlive_terminal
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    if detach:
        _refuse_views(as_json=as_json, wide=wide)
        _print_detached(file, "queues")
        return
    workspace = find_workspace()
    with outlive_terminal(workspace):
        results = run_queue(workspace, file)
        if as_json:
            print_json([outcome.to_dict() for outcome in results])
        else:
            print_queue(results, workspace.competition, wide=wide)
    if any(outcome.status != "finished" for outcome in results):
        raise typer.Exit(1)


def sweep_command(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="TOML file: base config, space, number of trials."),
    ],
    join: Annotated[
        bool,
        typer.Option(
            "--join", help="Work beside other processes, here or on other machines, on one study."
        ),
    ] = False,
    detach: Detach = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Search config keys with Optuna, each trial a run; a second call runs the remaining trials."""
    from tracker.commands.options import refuse_together
    from tracker.core.terminal import print_json
    from tracker.jobs.sweep import find_next_seed, run_sweep
    from tracker.jobs.views import print_sweep
    from tracker.run_folder.output import outlive_terminal
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    if detach:
        _refuse_views(as_json=as_json, wide=wide)
        _print_detached(file, "sweeps", alone=not join)
        return
    workspace = find_workspace()
    with outlive_terminal(workspace):
        result = run_sweep(workspace, file, join=join)
        if as_json:
            print_json(result.to_dict())
        else:
            print_sweep(result, next_seed=find_next_seed(workspace, result), wide=wide)
    if result.failed:
        raise typer.Exit(1)


def _refuse_views(*, as_json: bool, wide: bool) -> None:
    from tracker.commands.options import refuse_beside

    why = "the command ends before there is a result"
    refuse_beside("--detach", {"--json": as_json, "--wide": wide}, why=why)


def _print_detached(file: Path, kind: str, *, alone: bool = True) -> None:
    """Start this command in the background, and say how to look after it."""
    from tracker.commands.jobs import start_again
    from tracker.jobs.background import Child
    from tracker.jobs.queue import find_folder, find_output
    from tracker.run_folder.output import OUTPUT_NAME
    from tracker.workspace.tracker_toml import find_workspace

    folder = find_folder(find_workspace(), file, kind)
    child, _ = start_again(Child.wait_for_folder)
    log = shlex.quote(str(find_output(folder, child.pid, alone=alone) / OUTPUT_NAME))
    print(f"{file} is worked on in the background, process {child.pid}")
    print(f"follow: tail -f {log}\nstop:   kill {child.pid}")
