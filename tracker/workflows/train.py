"""Train a model from a config, or go on with a training."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from tracker.runs.points import read_curves
from tracker.runs.read import load_run, load_trained_config
from tracker.runs.record import RunRecord
from tracker.runs.recorder import Recorder
from tracker.training.config import Config, config_from_dict, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError, TrackerError
from tracker.training.input.channels import resolve_input
from tracker.training.libraries import TRAINING, require
from tracker.workflows.ending import fingerprint_predictions, record_end, record_failure
from tracker.workflows.reuse import copy_progress, find_earlier
from tracker.workspace.competition import Workspace
from tracker.workspace.data import prepare_data

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task
    from tracker.training.run.loop import EpochReport


def train(
    workspace: Workspace,
    config: Config,
    *,
    parent: str | None = None,
    note: str = "",
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
    force: bool = False,
) -> RunRecord:
    """Train a new run and return its final record; errors leave the run recorded as failed or
    interrupted.

    A run that differs from a finished one only by more epochs goes on from its last epoch, where
    that gives the same weights. Raises AlreadyTrainedError when one has the same config, data and
    code. `force` trains from scratch.
    """
    require(*TRAINING)
    from tracker.training.model.model import check_model

    check_model(config.model, root=workspace.root)
    task, data = prepare_data(workspace, config)
    config = resolve_input(config, data, root=workspace.root)
    tables = config_to_dict(config)
    fingerprints = {"config": config_fingerprint(tables), "data": data.fingerprint}
    earlier = None if force else find_earlier(workspace, tables, data.fingerprint)
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="train",
        config=tables,
        parent=parent,
        note=note,
        fingerprints=fingerprints,
    )
    name = recorder.record.name
    recorder.params(facts or {})
    if earlier:
        copy_progress(workspace.runs_dir / earlier.name, recorder.folder)
        recorder.params({"continues": earlier.uid})
        best = {key: value for key, value in earlier.summary.items() if value is not None}
        recorder.progress(epoch=earlier.epoch, best_epoch=earlier.best_epoch, summary=best)
        say = (
            f"{name} goes on after epoch {earlier.epoch} of {earlier.name}, which had the same"
            " config up to there"
        )
    else:
        say = f"{name}: {len(data.train)} training, {len(data.val)} validation images"
    if not quiet:
        print("\n".join([*data.notes, say]), file=sys.stderr)
    return _fit(workspace, recorder, config, task, data, resume=earlier is not None, quiet=quiet)


def resume(workspace: Workspace, name: str, *, quiet: bool = False) -> RunRecord:
    """Go on with a killed, interrupted or failed run; raises ConfigError when its data have
    changed."""
    require(*TRAINING)
    record = load_run(workspace.runs_dir, name)
    if record.status == "finished":
        raise ConfigError(
            f"{name} is finished", hint=f"tracker run train --from {name} starts a new run from it"
        )
    if not record.uid:
        raise ConfigError(
            f"{name} was killed before its first record", hint="tracker run train makes a new run"
        )
    config = config_from_dict(
        load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml"
    )
    task, data = prepare_data(workspace, config)
    if data.fingerprint != record.fingerprints.get("data"):
        raise ConfigError(
            f"the data have changed since {name} began",
            hint=f"restore them, or start a new run: tracker run train --from {name}",
        )
    recorder = Recorder.reopen(workspace.runs_dir, name)
    if not quiet:
        say = f"{name}: going on after epoch {record.epoch} of {config.train.epochs}"
        print("\n".join([*data.notes, say]), file=sys.stderr)
    return _fit(workspace, recorder, config, task, data, resume=True, quiet=quiet)


def _fit(
    workspace: Workspace,
    recorder: Recorder,
    config: Config,
    task: Task,
    data: LoadedData,
    *,
    resume: bool,
    quiet: bool,
) -> RunRecord:
    """Run the loop; whatever ends it, the run is recorded."""
    with record_end(workspace, recorder):
        from tracker.training.run.loop import fit, translate_torch_errors

        with translate_torch_errors():
            result = fit(
                config,
                data,
                task,
                root=workspace.root,
                run_dir=recorder.folder,
                logger=recorder,
                on_epoch=lambda report: _keep(recorder, report),
                on_trained=lambda weights: _announce_twins(workspace, recorder, weights),
                on_stuck=lambda error: record_failure(workspace, recorder, error),
                cache_dir=workspace.lock_dir,
                resume=resume,
                quiet=quiet,
            )
        _draw_curves(recorder)
        recorder.fingerprint(predictions=fingerprint_predictions(workspace, result.predictions))
    return recorder.record


def _announce_twins(workspace: Workspace, recorder: Recorder, weights: str) -> None:
    """Keep the weights' fingerprint, and say which earlier runs have the same: their predictions
    will be the same."""
    from tracker.ledger.read import list_twins

    recorder.fingerprint(weights=weights)
    try:
        twins = list_twins(workspace, weights, but=recorder.record.uid)
    except TrackerError:
        return  # a ledger out of reach is told when the run is indexed
    for twin in twins:
        print(f"{recorder.record.name} has the same weights as {twin}", file=sys.stderr)


def _keep(recorder: Recorder, report: EpochReport) -> None:
    recorder.progress(epoch=report.epoch, best_epoch=report.best.epoch, summary=report.best.metrics)


def _draw_curves(recorder: Recorder) -> None:
    from tracker.training.pictures.figures import draw_curves

    curves = read_curves(recorder.folder / "metrics.jsonl")
    draw_curves(curves, recorder.record.best_epoch, recorder.folder / "curves.png")
