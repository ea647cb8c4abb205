"""tracker run queue and run sweep."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from tracker.commands.training import SlurmSet

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
    slurm: Annotated[
        int,
        typer.Option(help="Work as so many jobs of Slurm (section slurm of tracker.toml).", min=0),
    ] = 0,
    slurm_set: SlurmSet = None,
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
    if slurm or slurm_set:
        beside = {"--json": as_json, "--wide": wide, "--join": join}
        _submit_sweep(file, slurm, slurm_set or (), beside)
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


def _submit_sweep(
    file: Path, workers: int, changes: Sequence[str], beside: Mapping[str, bool]
) -> None:
    """Submit the workers of a sweep as an array of jobs, and say how to look after them."""
    from tracker.commands.options import refuse_beside
    from tracker.jobs.slurm import check_job, submit_sweep
    from tracker.jobs.sweep import prepare_sweep
    from tracker.training.errors import ConfigError
    from tracker.workspace.slurm_options import change_options
    from tracker.workspace.tracker_toml import find_workspace

    if not workers:
        raise ConfigError("--slurm-set is about the jobs of --slurm", hint="add --slurm 4")
    refuse_beside("--slurm", beside, why="the command ends before there is a result")
    workspace = find_workspace()
    options = change_options(workspace.slurm, changes)
    config = prepare_sweep(workspace, file, shared=options.executor == "slurm")
    check_job(options, config.train)
    jobs = submit_sweep(workspace, file, workers, config, options)
    print(f"{file} is worked on by {', '.join(job.title for job in jobs)}")
    print("follow: tracker runs, tracker logs R -f")
    print(f"stop:   {'; '.join(dict.fromkeys(job.stop_command for job in jobs))}")


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
