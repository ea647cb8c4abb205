"""tracker logs and stop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

if TYPE_CHECKING:
    from tracker.jobs.background import Child
    from tracker.run_folder.record import RunRecord
    from tracker.training.config import Config
    from tracker.workspace.tracker_toml import Workspace

T = TypeVar("T")


def logs_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[R]", help="exp12, latest, sota or s12; without one, the running run."
        ),
    ] = "",
    follow: Annotated[
        bool,
        typer.Option("-f", "--follow", help="Go on until the run ends; Ctrl-C ends only this."),
    ] = (False),
) -> None:
    """Show what a run has printed, or its epochs when it runs in a terminal."""
    from tracker.console.runs import render_end
    from tracker.core.terminal import print_note, print_text
    from tracker.jobs.logs import stream_logs
    from tracker.jobs.slurm_state import settle_gone
    from tracker.jobs.stop import resolve_running
    from tracker.run_folder.read import load_run
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    settle_gone(workspace)
    name = resolve_running(workspace, run, or_newest=True)
    for text in stream_logs(workspace, name, follow=follow, on_silence=print_note):
        print(text, end="", flush=True)
    print_text(render_end(load_run(workspace.runs_dir, name), workspace.competition))


def stop_command(
    run: Annotated[
        str,
        typer.Argument(
            metavar="[R]", help="A running run: exp12, latest; without one, the only running run."
        ),
    ] = "",
    wait: Annotated[float, typer.Option(help="Seconds to wait for its end.", min=0)] = 60.0,
) -> None:
    """End a running run as Ctrl-C would; best.pth stays, and --resume goes on with it."""
    from tracker.console.runs import render_end
    from tracker.core.terminal import print_text
    from tracker.jobs.slurm_state import settle_gone
    from tracker.jobs.stop import resolve_running, stop_run
    from tracker.workspace.member_file import find_author
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    settle_gone(workspace)
    name = resolve_running(workspace, run, or_newest=False)
    reason = f"stopped by {find_author(workspace.root)}"
    record = stop_run(workspace, name, reason=reason, wait_s=wait)
    print_text(render_end(record, workspace.competition))


def print_detached() -> None:
    """Start this command in the background, wait for its run, and print how to follow it."""
    from tracker.jobs.background import Child

    _, record = start_again(Child.wait_for_run)
    print(f"{record.name} runs in the background, process {record.pid}")
    print(f"follow: tracker logs {record.name} -f\nstop:   tracker stop {record.name}")


def print_submitted(
    workspace: Workspace, config: Config, make: Callable[[], RunRecord], changes: Sequence[str]
) -> None:
    """Make the run that is to wait, submit its job, and print how to follow it."""
    from tracker.jobs.slurm import check_job, submit_run
    from tracker.workspace.slurm_options import change_options

    options = change_options(workspace.slurm, changes)
    check_job(options, config.train)
    name = make().name
    job = submit_run(workspace, name, config, options)
    print(f"{name} waits for {job.title}")
    print(f"follow: tracker logs {name} -f\nstop:   tracker stop {name}")


def start_again(wait: Callable[[Child], T | None]) -> tuple[Child, T]:
    """Start this very command in the background and wait for what it makes; exit as it did when it
    made nothing."""
    import sys

    from tracker.jobs.background import Child
    from tracker.training.libraries import TRAINING, require
    from tracker.workspace.tracker_toml import find_workspace

    require(*TRAINING)  # whatever goes to the background trains
    child = Child.start(find_workspace(), [word for word in sys.argv[1:] if word != "--detach"])
    try:
        made = wait(child)
    except KeyboardInterrupt:
        child.terminate()
        raise
    if not made:
        print(child.take_output(), end="", file=sys.stderr)
        raise typer.Exit(abs(child.exit_code or 1))
    return child, made
