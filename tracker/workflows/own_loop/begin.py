"""Start or resume the run of a training loop of one's own, alone or in a group of processes."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError
from tracker.core.settings import find_rank
from tracker.run_folder.marks import tag_run
from tracker.run_folder.output import notify
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.stop_note import take_stop_note
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError
from tracker.training.tables import flatten
from tracker.workflows.ending import describe_error
from tracker.workflows.own_loop.active_run import LAST, ActiveRun, shorten
from tracker.workflows.own_loop.common_names import is_length
from tracker.workflows.own_loop.config_tables import to_tables
from tracker.workflows.own_loop.null_run import NullRun
from tracker.workflows.own_loop.script_end import (
    hide_stop_traceback,
    is_stop,
    remember_stop,
    show_refusal_briefly,
)
from tracker.workflows.own_loop.termination import Termination
from tracker.workspace.tracker_toml import Workspace, find_workspace

SHOWN_KEYS = 5  # in a message


def begin(
    config: Mapping[str, Any],
    *,
    note: str = "",
    parent: str | None = None,
    tags: Sequence[str] | Mapping[str, str] = (),
    resume: str | None = None,
    root: Path | None = None,
    follow: bool = True,
    kind: str = "train",
    quiet: bool = False,
) -> ActiveRun:
    """See tracker.start_run; `kind` is train, infer or ensemble."""
    from tracker.ledger.resolve import resolve_run

    hide_stop_traceback()
    # Check everything that was given before a run folder is made.
    workspace = find_workspace(root)
    tables = to_tables(config)
    tag_list: Sequence[str] = (
        [f"{name}={value}" for name, value in tags.items()] if isinstance(tags, Mapping) else tags
    )
    parent = resolve_run(workspace, parent) if parent else None
    # SIGTERM raises from here on: a run whose first record it cuts off leaves no folder.
    termination = Termination()
    recorder: Recorder | None = None
    run = None
    try:
        if resume:
            recorder = _reopen(workspace, resume, tables, tag_list)
            recorder.describe(note=note, parent=parent)
        else:
            recorder = Recorder.create(
                workspace.runs_dir,
                kind=kind,
                config=tables,
                parent=parent,
                note=note,
                fingerprints={"config": config_fingerprint(tables), "data": None},
                tags=tag_list,
            )
        # Begin, say so, then take over the new length of a resumed run.
        run = ActiveRun(workspace, recorder, termination, follow=follow, quiet=quiet)
        if not quiet:
            verb = "resumed" if resume else "started"
            after = f" after epoch {run.last_epoch}" if resume and run.last_epoch else ""
            notify(f"{run.name} {verb} in {shorten(run.folder)}{after}")
        if resume and tables:
            run.change_length(tables)
    except BaseException as error:
        _end_start(run, recorder, termination, error, quiet=quiet)
        raise
    return run


def _end_start(
    run: ActiveRun | None,
    recorder: Recorder | None,
    termination: Termination,
    error: BaseException,
    *,
    quiet: bool,
) -> None:
    """Record the end of a run whose start was interrupted, or failed."""
    if run is not None:
        run.end(error)
        return
    if recorder is None:  # nothing was recorded
        with termination.end():
            return
    if is_stop(error):
        remember_stop(error)
    status = "interrupted" if is_stop(error) else "failed"
    with termination.end():
        record = recorder.finish(status, error=describe_error(error))
    if not quiet:
        notify(
            f"{record.name} {record.status} while it started ({record.error}). Resume:"
            f' start_run(..., resume="{record.name}")'
        )


def _reopen(
    workspace: Workspace, name: str, tables: Mapping[str, Any], tags: Sequence[str]
) -> Recorder:
    """The recorder of a run to resume, with further tags; raises ConfigError."""
    _check_resumable(workspace, name, tables)
    tag_run(workspace, name, tags)
    recorder = Recorder.reopen(workspace.runs_dir, name)
    take_stop_note(recorder.folder)  # it was about the end before
    return recorder


def _check_resumable(workspace: Workspace, name: str, tables: Mapping[str, Any]) -> None:
    """Raise ConfigError for a run that cannot be resumed with this config ({}: its own).

    The number of epochs or steps may have changed.
    """
    record = load_run(workspace.runs_dir, name)
    if record.status in ("finished", "running") or not record.uid:
        state = record.status if record.uid else "killed before its first record"
        raise ConfigError(
            f"{name} is {state} and cannot be resumed",
            hint=f'parent="{name}", without resume, starts a new run from it',
        )
    if tables:
        _check_same_config(name, load_config(workspace.runs_dir, name), tables)


def _check_same_config(name: str, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    # an earlier version wrote inf as a number
    old, new = flatten(to_tables(before)), flatten(given)
    changed = sorted(
        key for key in {*old, *new} if old.get(key) != new.get(key) and not is_length(key)
    )
    if changed:
        more = ", ..." if len(changed) > SHOWN_KEYS else ""
        raise ConfigError(
            f"{name} has another config: {', '.join(changed[:SHOWN_KEYS])}{more}",
            hint=(
                f'resume it with its own config; parent="{name}", without resume, starts a new run'
                " from it"
            ),
        )


def begin_in_group(config: Mapping[str, Any], *, rank: int | None, **options: Any) -> ActiveRun:
    """`begin` in the first process of a group; in the others a run that records nothing.

    See tracker.start_run.
    """
    variable = ""
    if rank is None:
        rank, variable = find_rank()
        # A process group that is already initialized knows better than a launcher's variables.
        distributed = getattr(sys.modules.get("torch"), "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            rank, variable = distributed.get_rank(), ""
    if rank <= 0:
        try:
            return begin(config, **options)
        except TrackerError as error:
            show_refusal_briefly(error)
            raise
    # Tasks of srun may be one group, or each of them an experiment of its own.
    if variable == "SLURM_PROCID":
        notify(
            f"task {rank} of srun records nothing, task 0 does; start_run(..., rank=0) makes a run"
            " in each task"
        )
    if resume := options.get("resume"):
        return NullRun(find_workspace(options.get("root")).runs_dir / resume / LAST)
    return NullRun()
