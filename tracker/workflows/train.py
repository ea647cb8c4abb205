"""Train a model from a config, or resume a training."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from tracker.core.errors import TrackerError
from tracker.core.settings import find_job, find_launch
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_run, load_trained_config
from tracker.run_folder.record import JOB_FACT, RunRecord, read_threads
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.resumes import explain_own_resume
from tracker.run_folder.stop_note import is_stopped
from tracker.training.config import Config, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError
from tracker.training.input.channels import list_filled_in, resolve_input
from tracker.training.libraries import TRAINING, require
from tracker.training.saves import SaveRequest
from tracker.training.targets import check_config
from tracker.workflows.advice_events import AdviceEvents
from tracker.workflows.ending import (
    fingerprint_predictions,
    record_early_end,
    record_end,
    record_stuck,
)
from tracker.workflows.precision import choose_precision, read_precision_facts
from tracker.workflows.resolve import refuse_ensemble
from tracker.workflows.reuse import copy_progress, find_reusable_run
from tracker.workspace.data import build_task, prepare_data
from tracker.workspace.tracker_toml import Workspace

LAUNCH_FACT = "torchrun"  # the group of processes that torchrun started for the run
COMPUTED = ("threads", "precision", "device")  # facts that a run which goes on keeps to

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task
    from tracker.training.run.loop import EpochReport
    from tracker.training.run.state import Best


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
    """Train a new run and return its final record.

    After an error the run is recorded as failed or interrupted. A run that differs from a finished
    one only by more epochs continues from its last epoch, where that gives the same weights;
    `force` trains from scratch. Raises AlreadyTrainedError when a run has the same config, data and
    code.
    """
    with _hold_caches(workspace) as release:
        begun = _begin(
            workspace, config, parent=parent, note=note, facts=facts, quiet=quiet, force=force
        )
        return _fit(workspace, begun, quiet=quiet, release=release)


@contextmanager
def _hold_caches(workspace: Workspace) -> Iterator[Callable[[], None]]:
    """In this block `tracker clean` keeps prepared images; the function in it ends that earlier."""
    require(*TRAINING)
    from tracker.training.input.cache import hold_caches

    with hold_caches(workspace.state_dir) as release:
        yield release


def make_waiting_run(
    workspace: Workspace,
    config: Config,
    *,
    parent: str | None = None,
    note: str = "",
    facts: Mapping[str, Any] | None = None,
    quiet: bool = False,
    force: bool = False,
) -> RunRecord:
    """A run that a job of a scheduler will train; everything is checked as in `train`, but for the
    devices."""
    begun = _begin(
        workspace,
        config,
        parent=parent,
        note=note,
        facts=facts,
        quiet=quiet,
        force=force,
        waits=True,
    )
    return begun.recorder.finish("pending")


@dataclass(frozen=True)
class _Begun:
    """A run whose folder is there, and what it trains; `earlier` is the run that it continues."""

    recorder: Recorder
    config: Config
    task: Task
    data: LoadedData
    earlier: RunRecord | None


def _begin(
    workspace: Workspace,
    config: Config,
    *,
    parent: str | None,
    note: str,
    facts: Mapping[str, Any] | None,
    quiet: bool,
    force: bool,
    waits: bool = False,
) -> _Begun:
    """Check everything, and make the run's folder; with `waits` a job will train it."""
    require(*TRAINING)
    from tracker.training.model.model import check_model
    from tracker.training.model.optim import check_optimizer

    # Check everything that can be wrong before a run folder is made.
    check_model(config.model, root=workspace.root)
    check_optimizer(config.optim)
    check_config(config, build_task(workspace))
    task, data = prepare_data(workspace, config)
    # `show` tells values that the model has from those that somebody chose.
    facts = {**(facts or {}), "filled_in": ", ".join(list_filled_in(config))}
    config = resolve_input(config, data, root=workspace.root)
    sizes: list[str] = []
    if not waits:  # else by the GPU of the job
        config, sizes = _resolve_batch_size(workspace, config, data, task, facts)
    tables = config_to_dict(config)
    fingerprints = {"config": config_fingerprint(tables), "data": data.fingerprint}
    earlier = None if force else find_reusable_run(workspace, tables, data.fingerprint)
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="train",
        config=tables,
        parent=parent,
        note=note,
        fingerprints=fingerprints,
        facts=_describe_launch(),
        waits=waits,
    )
    name = recorder.record.name
    with record_early_end(workspace, recorder):
        recorder.params(facts)
        if earlier:
            _continue_from(workspace, earlier, recorder)
    if earlier:
        message = (
            f"{name} continues after epoch {earlier.epoch} of {earlier.name}, which has the same"
            " config up to there"
        )
    else:
        message = f"{name}: {len(data.train)} training, {len(data.val)} validation images"
    if not quiet:
        lines = [*data.notes, *sizes, message, *([data.balance] if data.balance else [])]
        print("\n".join(lines), file=sys.stderr)
    return _Begun(recorder, config, task, data, earlier)


def _describe_launch() -> dict[str, str]:
    """The fact by which a group that torchrun starts again finds its run."""
    launch, _ = find_launch()
    return {LAUNCH_FACT: launch} if launch else {}


def find_restarted(workspace: Workspace) -> str:
    """The run that this group had begun when torchrun started it again; empty where there is none.

    torchrun does so when a process has died (--max-restarts), with the command of the beginning.
    """
    launch, restarts = find_launch()
    if not restarts:
        return ""
    for record in list_runs(workspace.runs_dir):
        if record.facts.get(LAUNCH_FACT) == launch and record.status != "finished":
            return record.name
    return ""


def _continue_from(workspace: Workspace, earlier: RunRecord, recorder: Recorder) -> None:
    """Begin a run with the last epoch of an earlier one."""
    copy_progress(workspace.runs_dir / earlier.name, recorder.folder)
    # Who goes on with it, a job or after a kill, finds there how the earlier one computed.
    kept = {key: earlier.facts[key] for key in COMPUTED if key in earlier.facts}
    recorder.params({"continues": earlier.uid, **kept, **read_precision_facts(earlier)})
    best = {key: value for key, value in earlier.summary.items() if value is not None}
    recorder.progress(epoch=earlier.epoch, best_epoch=earlier.best_epoch, summary=best)


def _resolve_batch_size(
    workspace: Workspace, config: Config, data: LoadedData, task: Task, facts: dict[str, Any]
) -> tuple[Config, list[str]]:
    """The config with the number that train.batch_size "auto" stands for, and what to say of it.

    The number is added to `facts`. The run's config has it too, so that `reproduce` needs no GPU of
    the same size.
    """
    from tracker.training.run.batch_size import resolve_batch_size
    from tracker.training.run.loop import translate_torch_errors

    with translate_torch_errors():
        resolved, sentence = resolve_batch_size(config, data, task, root=workspace.root)
    if sentence:
        facts["auto_batch_size"] = resolved.train.batch_size
    return resolved, [sentence] if sentence else []


def resume(
    workspace: Workspace,
    name: str,
    *,
    quiet: bool = False,
    job: str = "",
    saving: SaveRequest | None = None,
) -> RunRecord:
    """Resume a killed, interrupted or failed run; raises ConfigError when its data have changed.

    `job` is the scheduler's job that this process is, for a run that waits for it; `saving` may
    raise PreemptedError when last.pth is saved.
    """
    require(*TRAINING)
    record = load_run(workspace.runs_dir, name)
    # Refuse what cannot be resumed.
    if record.status == "finished":
        raise ConfigError(
            f"{name} is finished",
            hint=f"train it anew, for longer: tracker run train --from {name} --epochs N",
        )
    if not record.uid:
        raise ConfigError(
            f"{name} was killed before its first record", hint="tracker run train starts a new run"
        )
    refuse_ensemble(workspace, record, use="tracker run train --resume --from")
    if words := explain_own_resume(record):
        raise ConfigError(f"{name} is of a script of your own, which goes on with it", hint=words)
    with _hold_caches(workspace) as release:
        # The data must be those of before.
        config = config_from_dict(
            load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml"
        )
        task, data = prepare_data(workspace, config)
        if data.fingerprint != record.fingerprints.get("data"):
            raise ConfigError(
                f"the data have changed since {name} began",
                hint=f"restore them, or start a new run: tracker run train --from {name}",
            )
        chosen: dict[str, Any] = {}
        config, sizes = _resolve_batch_size(workspace, config, data, task, chosen)
        recorder = Recorder.reopen(workspace.runs_dir, name, job=job)
        with record_early_end(workspace, recorder):
            recorder.keep_logged()  # of many points it takes seconds
            if chosen:
                tables = config_to_dict(config)
                recorder.change_config(tables, config_fingerprint(tables))
                recorder.params(chosen)
        if not quiet:
            begins = record.status == "pending" and not record.epoch
            how = (
                "begins"
                if begins
                else f"resumed after epoch {record.epoch} of {config.train.epochs}"
            )
            print("\n".join([*data.notes, *sizes, f"{name}: {how}"]), file=sys.stderr)
        begun = _Begun(recorder, config, task, data, record)
        return _fit(workspace, begun, quiet=quiet, release=release, saving=saving)


def _fit(
    workspace: Workspace,
    begun: _Begun,
    *,
    quiet: bool,
    release: Callable[[], None],
    saving: SaveRequest | None = None,
) -> RunRecord:
    """Run the training loop and record the end, whatever ends it.

    `release` is called when the prepared images are open.

    It continues the earlier run, with its number of threads and its precision: others may change
    the weights.
    """
    recorder, config, earlier = begun.recorder, begun.config, begun.earlier
    if job := find_job():
        recorder.params({JOB_FACT: job})
    advice = AdviceEvents(recorder, workspace.competition, config.train.monitor)
    threads = read_threads(earlier) if earlier else None
    with record_end(workspace, recorder):
        from tracker.training.run.loop import fit, translate_torch_errors

        with translate_torch_errors():
            chosen = choose_precision(
                workspace,
                config,
                begun.data,
                begun.task,
                earlier=earlier,
                threads=threads,
                notify=lambda sentence: None if quiet else print(sentence, file=sys.stderr),
            )
            recorder.params(chosen.facts)
            result = fit(
                config,
                begun.data,
                begun.task,
                root=workspace.root,
                run_dir=recorder.folder,
                logger=recorder,
                on_epoch=lambda report: _record_epoch(recorder, advice, report, release),
                on_restored=lambda epoch, best: _record_restored(recorder, epoch, best),
                on_trained=lambda weights: _warn_of_equal_weights(workspace, recorder, weights),
                on_stuck=lambda error: record_stuck(workspace, recorder, error),
                saving=saving or SaveRequest(on_saved=partial(_stop_if_asked, recorder)),
                cache_dir=workspace.state_dir,
                resume=earlier is not None,
                threads=threads,
                precision=chosen.precision,
                quiet=quiet,
            )
        _draw_curves(recorder)
        recorder.fingerprint(predictions=fingerprint_predictions(workspace, result.predictions))
    return recorder.record


def _stop_if_asked(recorder: Recorder) -> None:
    """End a run that was saved, if its sweep must leave the machine."""
    if is_stopped(recorder.folder):
        raise KeyboardInterrupt("saved")


def _warn_of_equal_weights(workspace: Workspace, recorder: Recorder, weights: str) -> None:
    """Record the weights' fingerprint, and say which earlier runs have equal weights.

    Their predictions will be equal, too.
    """
    from tracker.ledger.read import list_runs_with_weights

    recorder.fingerprint(weights=weights)
    try:
        equal_runs = list_runs_with_weights(workspace, weights, exclude=recorder.record.uid)
    except TrackerError:
        return  # a message will say it when the run is added to the ledger
    for name in equal_runs:
        print(f"{recorder.record.name} has the same weights as {name}", file=sys.stderr)


def _record_epoch(
    recorder: Recorder, advice: AdviceEvents, report: EpochReport, release: Callable[[], None]
) -> None:
    release()  # training and validation have opened their images by now
    recorder.progress(epoch=report.epoch, best_epoch=report.best.epoch, summary=report.best.metrics)
    advice.look(report.epoch)


def _record_restored(recorder: Recorder, epoch: int, best: Best) -> None:
    """Record an epoch that is in last.pth, but not in the record: the process died in between."""
    if epoch > recorder.record.epoch:
        recorder.progress(epoch=epoch, best_epoch=best.epoch, summary=best.metrics)


def _draw_curves(recorder: Recorder) -> None:
    from tracker.training.pictures.figures import draw_curves

    curves = read_curves(recorder.folder / "metrics.jsonl")
    draw_curves(curves, recorder.record.best_epoch, recorder.folder / "curves.png")
