"""A run with the weights of a trained run and another eval config."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.errors import AlreadyTrainedError, TrackerError
from tracker.run_folder.environment import collect_code
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord, is_pulled, read_cpu_precision, run_folder
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.resumes import explain_resume
from tracker.training.config import Config, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint, exact_values, later_defaults
from tracker.training.errors import ConfigError
from tracker.training.libraries import TRAINING, require
from tracker.workflows.ending import fingerprint_predictions, record_end
from tracker.workflows.resolve import refuse_ensemble, resolve_config
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task
    from tracker.training.run.infer import Weights

# Keys that may differ between training and prediction.
CHANGEABLE_KEYS = ("eval.", "train.accelerator", "train.precision")
CHANGEABLE_TEXT = "keys of eval, train.accelerator and train.precision"
# Where the images of tracker.toml are.
DATA_PATHS = ("train_dir", "eval_dir", "labels", "sample", "eval_table")


def infer(
    workspace: Workspace,
    source: str,
    assignments: Sequence[str] = (),
    *,
    note: str = "",
    quiet: bool = False,
    force: bool = False,
) -> RunRecord:
    """Predict validation and evaluation images with the weights of `source`, a new run.

    `source` is a trained or an inferred run. Raises ConfigError when other keys than those of
    inference change, or none, WeightsError when best.pth cannot be read, AlreadyTrainedError
    when a run has predicted with the same config, data, code and weights, unless `force`.
    """
    require(*TRAINING)
    from tracker.training.input.cache import hold_caches

    trained = find_trained(workspace, source)
    config = resolve_config(workspace, parent=source, assignments=assignments)
    tables = config_to_dict(config)
    # Refuse changes that need another training.
    changed = _list_changes(load_config(workspace.runs_dir, source), tables)
    if fixed := [key for key in changed if not key.startswith(CHANGEABLE_KEYS)]:
        raise ConfigError(
            f"infer can only change {CHANGEABLE_TEXT}, not {', '.join(fixed)}",
            hint=f"tracker run train --from {source} --set {fixed[0]}=...",
        )
    weights, fingerprint = load_recorded_weights(workspace, trained)
    task, data = prepare_trained_data(workspace, config, trained)
    same_data = data.fingerprint == trained.fingerprints.get("data")
    if assigned := [word for word in assignments if word.startswith("data.") and not same_data]:
        raise ConfigError(
            f"infer can only change {CHANGEABLE_TEXT}: {', '.join(assigned)} changes the images or"
            " labels",
            hint=f"tracker run train --from {source} --set {shlex.quote(assigned[0])}",
        )
    if not changed and same_data:
        raise ConfigError(
            f"this would change nothing in {source}", hint="--set eval.tta=flip, for example"
        )
    fingerprints = {
        "config": config_fingerprint(tables),
        "data": data.fingerprint,
        "weights": fingerprint,
    }
    if not force:
        _refuse_repeat(workspace, tables, fingerprints)
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="infer",
        config=tables,
        parent=source,
        note=note,
        fingerprints=fingerprints,
    )
    with record_end(workspace, recorder), hold_caches(workspace.state_dir):
        recorder.params({"weights_of": trained.uid})
        metrics, path = _predict(
            workspace,
            recorder,
            config,
            task,
            data,
            weights=weights,
            precision=read_cpu_precision(trained),
            quiet=quiet,
        )
        # Its only point is of the epoch that the weights are from.
        epoch = trained.best_epoch or 0
        recorder.metrics(metrics, step=1, epoch=epoch)
        recorder.progress(epoch=epoch, best_epoch=trained.best_epoch, summary=metrics)
        recorder.fingerprint(predictions=fingerprint_predictions(workspace, path))
    return recorder.record


def _refuse_repeat(
    workspace: Workspace, config: Mapping[str, Any], fingerprints: Mapping[str, str]
) -> None:
    """Raise AlreadyTrainedError for a finished inference that this one would repeat."""
    wanted = {
        "data": fingerprints["data"],
        "weights": fingerprints["weights"],
        "code": collect_code(workspace.root),
    }
    for record in list_runs(workspace.runs_dir):
        if record.kind != "infer" or record.status != "finished":
            continue
        if any(record.fingerprints.get(name) != value for name, value in wanted.items()):
            continue
        try:
            earlier = load_config(workspace.runs_dir, record.name)
        except TrackerError:
            continue  # a run that cannot be read cannot be compared
        if not _list_changes(earlier, config):
            raise AlreadyTrainedError(record.name, third="weights", again="predict again")


def _list_changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[str]:
    """The config keys that differ; a key that a config is too old to have has its default."""
    old, new = exact_values(before), exact_values(after)
    defaults = later_defaults()
    changed = sorted(
        key for key, value in new.items() if old.get(key, defaults.get(key, value)) != value
    )
    return changed + sorted(key for key in old if key in defaults and key not in new)


def _predict(
    workspace: Workspace,
    recorder: Recorder,
    config: Config,
    task: Task,
    data: LoadedData,
    *,
    weights: Weights,
    precision: str | None,
    quiet: bool,
) -> tuple[dict[str, float], Path | None]:
    """Predict into the run folder; returns validation metrics and the predictions file.

    train.precision "auto" is what the run was trained in, where that was on a CPU.
    """
    from tracker.training.input.loader import ImageSource
    from tracker.training.run.infer import infer as predict
    from tracker.training.run.loop import translate_torch_errors

    with translate_torch_errors():
        return predict(
            config,
            data,
            task,
            weights,
            source=ImageSource(workspace.root, data.hashes, workspace.state_dir),
            run_dir=recorder.folder,
            logger=recorder,
            precision=precision,
            quiet=quiet,
        )


def load_recorded_weights(workspace: Workspace, trained: RunRecord) -> tuple[Weights, str]:
    """The best weights of a trained run and their fingerprint.

    Raises ConfigError when they are missing or not the recorded ones.
    """
    from tracker.training.run.infer import load_weights

    if not trained.fingerprints.get("weights"):
        raise ConfigError(
            f"{trained.name} has no final weights: it is {trained.status}",
            hint="wait until it ends" if trained.status == "running" else explain_resume(trained),
        )
    path = run_folder(workspace.runs_dir, trained.name) / "best.pth"
    if not path.exists() and (when := trained.freed.get(path.name)):
        raise ConfigError(
            f"best.pth of {trained.name} was freed by tracker clean on {when[:10]}",
            hint=f"tracker run reproduce {trained.name} trains it again",
        )
    weights, fingerprint = load_weights(path)
    if fingerprint != trained.fingerprints.get("weights"):
        raise ConfigError(
            f"best.pth of {trained.name} has changed since the run was recorded",
            hint="restore the original file",
        )
    return weights, fingerprint


def prepare_trained_data(
    workspace: Workspace, config: Config, trained: RunRecord
) -> tuple[Task, LoadedData]:
    """The checked images; a message says when they have changed since the training.

    A teammate's run names the folders of another machine: those of tracker.toml are read instead.
    """
    if is_pulled(trained.name):
        own = {key: workspace.data[key] for key in DATA_PATHS if key in workspace.data}
        config = replace(config, data=replace(config.data, **own))
    task, data = prepare_data(workspace, config)
    if data.fingerprint != trained.fingerprints.get("data"):
        print(f"the data have changed since {trained.name} was trained", file=sys.stderr)
    return task, data


def find_trained(workspace: Workspace, name: str) -> RunRecord:
    """The trained run that a run has its weights from, maybe itself; raises ConfigError."""
    record = load_run(workspace.runs_dir, name)
    refuse_ensemble(workspace, record, use="--from")
    while record.kind == "infer" and record.parent:
        record = load_run(workspace.runs_dir, record.parent)
    if record.kind != "train":
        raise ConfigError(
            f"{name} has no weights: it is of kind {record.kind}",
            hint="tracker runs lists the runs with their kinds",
        )
    return record
