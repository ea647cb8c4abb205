"""Begin or resume the run of a training loop of one's own, alone or as one of several processes."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.settings import find_rank
from tracker.core.text import check_utf8
from tracker.runs.marks import tag_run
from tracker.runs.output import notify
from tracker.runs.read import load_config, load_run
from tracker.runs.recorder import Recorder
from tracker.runs.stop_note import take_stop_note
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError
from tracker.training.tables import flatten
from tracker.workflows.own_loop.active_run import LAST, ActiveRun, shorten
from tracker.workflows.own_loop.common_names import is_length
from tracker.workflows.own_loop.config_tables import to_tables
from tracker.workflows.own_loop.other_process import OtherProcess
from tracker.workspace.competition import Workspace, find_workspace


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

    workspace = find_workspace(root)
    tables = to_tables(config)
    check_utf8("the config", json.dumps(tables, ensure_ascii=False))
    names = (
        [f"{name}={value}" for name, value in tags.items()] if isinstance(tags, Mapping) else tags
    )
    parent = resolve_run(workspace, parent) if parent else None
    if resume:
        name = _check_resumable(workspace, resume, tables)
        tag_run(workspace, name, names)
        recorder = Recorder.reopen(workspace.runs_dir, name)
        take_stop_note(recorder.folder)  # of the end before
        recorder.describe(note=note, parent=parent)
    else:
        prints = {"config": config_fingerprint(tables), "data": None}
        recorder = Recorder.create(
            workspace.runs_dir,
            kind=kind,
            config=tables,
            parent=parent,
            note=note,
            fingerprints=prints,
            tags=names,
        )
    run = ActiveRun(workspace, recorder, follow=follow, quiet=quiet)
    if not quiet:
        after = f" after epoch {run.last_epoch}" if resume and run.last_epoch else ""
        notify(f"{run.name} {'goes on' if resume else 'begins'} in {shorten(run.folder)}{after}")
    if resume and tables:
        run.change_length(tables)
    return run


def _check_resumable(workspace: Workspace, name: str, tables: Mapping[str, Any]) -> str:
    """The name of a run that can go on with this config, or with its own where none is given;
    raises ConfigError.

    How long to train may be another than before.
    """
    record = load_run(workspace.runs_dir, name)
    if record.status in ("finished", "running") or not record.uid:
        what = record.status if record.uid else "killed before its first record"
        raise ConfigError(
            f"{name} is {what}, it cannot be resumed",
            hint=f'parent="{name}", without resume, makes a new run of it',
        )
    if tables:
        _check_same_config(name, load_config(workspace.runs_dir, name), tables)
    return name


def _check_same_config(name: str, before: Mapping[str, Any], given: Mapping[str, Any]) -> None:
    old, new = flatten(before), flatten(given)
    if changed := sorted(
        key for key in {*old, *new} if old.get(key) != new.get(key) and not is_length(key)
    ):
        raise ConfigError(
            f"{name} was begun with another config: {', '.join(changed[:5])}"
            + (", ..." if len(changed) > 5 else ""),
            hint=f'resume it with its own; parent="{name}", without resume, makes a new run of it',
        )


def begin_in_group(config: Mapping[str, Any], *, rank: int | None, **options: Any) -> ActiveRun:
    """`begin` in the first process of a group; in the others a run that does nothing. See
    tracker.start_run."""
    variable = ""
    if rank is None:
        rank, variable = find_rank()
        distributed = getattr(sys.modules.get("torch"), "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            rank, variable = distributed.get_rank(), ""
    if rank <= 0:
        return begin(config, **options)
    if variable == "SLURM_PROCID":  # tasks of srun may be a group, or each an experiment of its own
        notify(
            f"task {rank} of srun records nothing, task 0 does; start_run(..., rank=0) makes a run"
            " in each"
        )
    if resume := options.get("resume"):
        return OtherProcess(find_workspace(options.get("root")).runs_dir / resume / LAST)
    return OtherProcess()
