"""A training run from the command line's words to a finished run folder."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from tracker.earlier import copy_progress, find_earlier
from tracker.errors import InterruptedByUserError, render_error
from tracker.jobs.output import notify, outlive_terminal
from tracker.jobs.running import list_resumes, render_resume, take_stop_note
from tracker.mirror import Mirror
from tracker.recorder import Recorder
from tracker.relocation import find_moved_paths
from tracker.runs import RunRecord, list_runs, load_config, load_run, load_trained_config, read_curves
from tracker.system_metrics import SystemMetrics
from tracker.training.channels import follow_model, resolve_input
from tracker.training.config import (
    Config,
    DataConfig,
    config_fingerprint,
    config_from_dict,
    config_to_dict,
    crop_defaults,
    format_defaults,
    merge,
    parse_assignment,
)
from tracker.training.errors import ConfigError, TrackerError
from tracker.training.libraries import TRAINING, require, translate_import_errors
from tracker.training.pipeline_file import pin_pipeline_file
from tracker.training.tables import read_toml
from tracker.training.watch import name_signal
from tracker.workspace import Workspace

if TYPE_CHECKING:
    from tracker.training.loop import EpochReport
    from tracker.training.samples import LoadedData, Task

INSIST_S = 10.0  # by then a KeyboardInterrupt that was not swallowed has ended the loop and its processes
FLAGS = {  # options of `tracker run train` for popular keys
    "model": "model.name",
    "epochs": "train.epochs",
    "lr": "optim.lr",
    "batch_size": "train.batch_size",
    "loss": "loss.name",
    "seed": "train.seed",
}


def resolve_config(
    workspace: Workspace,
    *,
    config_file: Path | None = None,
    parent: str | None = None,
    flags: Mapping[str, Any] | None = None,
    assignments: Sequence[str] = (),
) -> Config:
    """Defaults, those of tracker.toml, the parent run, the file, flags and --set, the later the stronger.

    A run made from another has its parent's config; only a new one takes the defaults that depend on data.format.
    Raises ConfigError with every problem found.
    """
    layers: list[Mapping[str, Any]] = [read_toml(config_file)] if config_file is not None else []
    for name, value in (flags or {}).items():
        section, _, key = name.partition(".")
        layers.append({section: {key: value}})
    for text in assignments:
        section, key, value = parse_assignment(text)
        layers.append({section: {key: value}})
    own = merge(*layers)
    if parent is None:
        values = merge(workspace.defaults, own)
        values = merge(format_defaults(values), values)
    else:
        record = load_run(workspace.runs_dir, parent)
        values = _change(workspace, load_trained_config(workspace.runs_dir, record), own)
    source = str(config_file) if config_file else "the config"
    return pin_pipeline_file(config_from_dict(values, source=source), workspace.root)


def _change(workspace: Workspace, parent: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """A parent's config with what is given for the new run, and what "model" and another model bring with them."""
    before = merge(workspace.defaults, parent)
    return merge(before, follow_model(before, own, root=workspace.root), crop_defaults(own), own)


def resolve_for(
    workspace: Workspace, config_file: Path | None, parent: str, assignments: Sequence[str] | None
) -> Config:
    """`resolve_config` from a command's words; `parent` is exp12, latest, sota, s12 or empty."""
    from tracker.ledger.resolve import resolve_run

    source = resolve_run(workspace, parent) if parent else None
    return resolve_config(workspace, config_file=config_file, parent=source, assignments=assignments or ())


def build_task(workspace: Workspace) -> Task:
    """The competition in training's words; raises ConfigError when it has no classes."""
    from tracker.training.samples import Task

    competition = workspace.competition
    if not competition.classes:
        raise ConfigError(
            "competition.classes is empty in tracker.toml",
            hint='write the class names: classes = ["cat", "dog"]',
        )
    return Task(
        classes=competition.classes,
        id_column=competition.id_column,
        label_column=competition.label_column,
        answer_words=competition.answer_words,
    )


def prepare_data(workspace: Workspace, config: Config) -> tuple[Task, LoadedData]:
    """Check the images before anything else happens; raises DataError with every offender."""
    from tracker.training.data import load_data

    task = build_task(workspace)
    cache = workspace.lock_dir / "images.json"
    data = load_data(locate_data(workspace, config.data), task, root=workspace.root, cache=cache)
    return task, data


def locate_data(workspace: Workspace, data: DataConfig) -> DataConfig:
    """The same with paths of the workspace's earlier places as they are now; the record keeps what it says."""
    return replace(data, **find_moved_paths(workspace.root, asdict(data)))


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
    """Train a new run and return its final record; errors leave the run recorded as failed or interrupted.

    A run that differs from a finished one only by more epochs goes on from its last epoch, where that gives the same
    weights. Raises AlreadyTrainedError when one has the same config, data and code. `force` trains from scratch.
    """
    require(*TRAINING)
    from tracker.training.model import check_model

    check_model(config.model, root=workspace.root)
    task, data = prepare_data(workspace, config)
    config = resolve_input(config, data, root=workspace.root)
    tables = config_to_dict(config)
    fingerprints = {"config": config_fingerprint(tables), "data": data.fingerprint}
    earlier = None if force else find_earlier(workspace, tables, data.fingerprint)
    recorder = Recorder.create(
        workspace.runs_dir, kind="train", config=tables, parent=parent, note=note, fingerprints=fingerprints
    )
    name = recorder.record.name
    recorder.params(facts or {})
    if earlier:
        copy_progress(workspace.runs_dir / earlier.name, recorder.folder)
        recorder.params({"continues": earlier.uid})
        best = {key: value for key, value in earlier.summary.items() if value is not None}
        recorder.progress(epoch=earlier.epoch, best_epoch=earlier.best_epoch, summary=best)
        say = f"{name} goes on after epoch {earlier.epoch} of {earlier.name}, which had the same config up to there"
    else:
        say = f"{name}: {len(data.train)} training, {len(data.val)} validation images"
    if not quiet:
        print("\n".join([*data.notes, say]), file=sys.stderr)
    return _fit(workspace, recorder, config, task, data, resume=earlier is not None, quiet=quiet)


def resume(workspace: Workspace, name: str, *, quiet: bool = False) -> RunRecord:
    """Go on with a killed, interrupted or failed run; raises ConfigError when its data have changed."""
    require(*TRAINING)
    record = load_run(workspace.runs_dir, name)
    if record.status == "finished":
        raise ConfigError(f"{name} is finished", hint=f"tracker run train --from {name} starts a new run from it")
    if not record.uid:
        raise ConfigError(f"{name} was killed before its first record", hint="tracker run train makes a new run")
    config = config_from_dict(load_trained_config(workspace.runs_dir, record), source=f"{name}/config.toml")
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


def find_resumable(workspace: Workspace) -> str:
    """The newest run that can be resumed and is not archived; raises ConfigError when there is none."""
    for record in list_runs(workspace.runs_dir, archived=False):
        resumable = record.status in ("killed", "interrupted", "failed") and not record.facts.get("pruned")
        ours = record.kind == "train" and record.fingerprints.get("data")  # not of a loop of one's own
        if record.uid and ours and resumable:
            return record.name
    raise ConfigError("no killed, interrupted or failed run to resume", hint="tracker runs lists the runs")


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
        from tracker.training.loop import fit, translate_torch_errors

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


@contextmanager
def record_end(workspace: Workspace, recorder: Recorder) -> Iterator[None]:
    """Mirror the run while the block makes it; whatever ends it, run folder, mirror and ledger's index say how."""
    name = recorder.record.name
    mirror = Mirror(workspace, name)
    mirror.start()
    with outlive_terminal(workspace) as output:
        resumed = [render_resume(workspace, time, recorder.record.epoch) for time in list_resumes(recorder.folder)]
        output.keep_in(recorder.folder, f"tracker stop {name} ends the run", resumed="".join(resumed[-1:]))
        take_stop_note(recorder.folder)  # of an end that never came
        with terminate_as_interrupt(insist=True) as signals:
            try:
                with SystemMetrics(recorder):
                    yield
            except BaseException as error:
                signals.ignore()
                end = signals.explain(error)
                record_failure(workspace, recorder, end)
                if isinstance(end, KeyboardInterrupt):
                    train = recorder.record.kind == "train"
                    hint = f"tracker run train --from {name} --resume" if train else ""
                    raise InterruptedByUserError(f"{name} was interrupted ({end})", hint=hint) from error
                raise
        index_run(workspace, recorder.finish("finished"))
        if problem := mirror.wait():
            print(problem, file=sys.stderr)


def record_failure(workspace: Workspace, recorder: Recorder, error: BaseException) -> None:
    """Write how a run ended that did not finish: interrupted by Ctrl-C, SIGTERM or `tracker stop`, else failed."""
    status = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
    reason, facts = take_stop_note(recorder.folder) if status == "interrupted" else ("", {})
    recorder.params(facts)
    index_run(workspace, recorder.finish(status, error=reason or describe_error(error)))


def _announce_twins(workspace: Workspace, recorder: Recorder, weights: str) -> None:
    """Keep the weights' fingerprint, and say which earlier runs have the same: their predictions will be the same."""
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
    from tracker.training.figures import draw_curves

    curves = read_curves(recorder.folder / "metrics.jsonl")
    draw_curves(curves, recorder.record.best_epoch, recorder.folder / "curves.png")


def fingerprint_predictions(workspace: Workspace, predictions: Path | None) -> str | None:
    """The fingerprint of a predictions.csv, None where there is none."""
    from tracker.predictions import load_answers

    if predictions is None:
        return None
    return load_answers(predictions, workspace.competition).fingerprint


def describe_error(error: BaseException) -> str:
    """The reason that a run's record gives for its end."""
    if isinstance(error, KeyboardInterrupt):
        return str(error) or "Ctrl-C"
    return str(error) if isinstance(error, TrackerError) else f"{type(error).__name__}: {error}".rstrip(": ")


def index_run(workspace: Workspace, record: RunRecord) -> None:
    """Append the run to the ledger's index; a run must not be lost because the ledger is out of reach."""
    try:
        with translate_import_errors():
            from tracker.ledger.append import open_ledger

            with open_ledger(workspace) as ledger:
                folder = workspace.runs_dir / record.name
                ledger.append_run(record, load_config(workspace.runs_dir, record.name), str(folder))
    except TrackerError as error:
        notify(f"not yet in the ledger ({render_error(error)}): tracker sync adds {record.name}")


class Signals:
    """What a `terminate_as_interrupt` block knows of the signals that end it; `received` names the first of them.

    After the first all are ignored, for the process is about to end: an impatient second Ctrl-C must not break what
    records the first. With `insist`, KeyboardInterrupt is raised again until `ignore` is called: a destructor or a
    callback may swallow it, and the run would go on.
    """

    def __init__(self, numbers: Iterable[signal.Signals], *, insist: bool) -> None:
        self.received = ""
        self._insist = insist
        self._pid = os.getpid()
        self._before = {number: signal.getsignal(number) for number in numbers}
        for number in self._before:
            signal.signal(number, self._interrupt)

    def ignore(self) -> None:
        """Ignore them from now on."""
        self._ignore_all()
        self._stop_insisting()

    def explain(self, error: BaseException) -> BaseException:
        """What ended the block: the signal, where one came, whatever other processes' ends or a library made of it."""
        return KeyboardInterrupt(self.received) if self.received else error

    def restore(self) -> None:
        """Handle them as before the block, unless one has come."""
        self._stop_insisting()
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _stop_insisting(self) -> None:
        if self._insist:
            signal.setitimer(signal.ITIMER_REAL, 0)

    def _ignore_all(self) -> None:
        for number in self._before:
            signal.signal(number, signal.SIG_IGN)
        self._before[signal.SIGCHLD] = signal.getsignal(signal.SIGCHLD)
        # torch's raises, and a loader process may end now; not SIG_DFL: Python complains when one is on its way
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def _interrupt(self, number: int, _frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a loader process that has been forked a moment ago
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self.received = name_signal(number)
        self._ignore_all()
        self._before.clear()
        if self._insist:
            signal.signal(signal.SIGALRM, self._raise_again)
            signal.setitimer(signal.ITIMER_REAL, INSIST_S, INSIST_S)
        raise KeyboardInterrupt(self.received)

    def _raise_again(self, _number: int, _frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            raise KeyboardInterrupt(self.received)


class NoSignals(Signals):
    """The same in a thread that gets no signals."""

    def __init__(self) -> None:
        self.received = ""

    def ignore(self) -> None:
        """Nothing."""


@contextmanager
def terminate_as_interrupt(*also: signal.Signals, insist: bool = False) -> Iterator[Signals]:
    """SIGTERM, and those in `also`, are like Ctrl-C in this block: what was begun is ended, recorded as interrupted."""
    if threading.current_thread() is not threading.main_thread():
        yield NoSignals()
        return
    signals = Signals((signal.SIGINT, signal.SIGTERM, *also), insist=insist)
    try:
        yield signals
    finally:
        signals.restore()
