"""A trained run's weights under another eval config: a run of its own, whose diff is that change."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tracker.runs.read import load_config, load_run
from tracker.runs.record import RunRecord
from tracker.runs.recorder import Recorder
from tracker.training.config import Config, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint, exact_values, later_defaults
from tracker.training.errors import ConfigError
from tracker.training.libraries import TRAINING, require
from tracker.workflows.ending import fingerprint_predictions, record_end
from tracker.workflows.resolve import resolve_config
from tracker.workspace.competition import Workspace
from tracker.workspace.data import prepare_data

if TYPE_CHECKING:
    from tracker.training.formats.samples import LoadedData, Task
    from tracker.training.run.infer import Weights

FREE = (
    "eval.",
    "train.accelerator",
    "train.precision",
)  # what a run may predict with otherwise than it was trained
WHAT = "keys of eval, train.accelerator and train.precision"


def infer(
    workspace: Workspace,
    source: str,
    assignments: Sequence[str] = (),
    *,
    note: str = "",
    quiet: bool = False,
) -> RunRecord:
    """Predict validation and evaluation images with the weights of `source`, a run that was trained
    or inferred.

    Raises ConfigError when more than inference would change, or nothing at all, WeightsError when
    best.pth is not the recorded one.
    """
    require(*TRAINING)
    trained = find_trained(workspace, source)
    config = resolve_config(workspace, parent=source, assignments=assignments)
    tables = config_to_dict(config)
    before, after = (
        exact_values(values) for values in (load_config(workspace.runs_dir, source), tables)
    )
    defaults = later_defaults()
    changed = sorted(
        key for key, value in after.items() if before.get(key, defaults.get(key, value)) != value
    )
    changed += sorted(key for key in before if key in defaults and key not in after)
    if fixed := [key for key in changed if not key.startswith(FREE)]:
        raise ConfigError(
            f"infer changes {WHAT} only, not {', '.join(fixed)}",
            hint=f"tracker run train --from {source} --set {fixed[0]}=...",
        )
    from tracker.training.input.loader import Source
    from tracker.training.run.infer import infer
    from tracker.training.run.loop import translate_torch_errors

    weights, fingerprint = load_recorded_weights(workspace, trained)
    task, data = prepare_trained_data(workspace, config, trained)
    same_data = data.fingerprint == trained.fingerprints.get("data")
    if assigned := [word for word in assignments if word.startswith("data.") and not same_data]:
        raise ConfigError(
            f"infer changes {WHAT} only: with {', '.join(assigned)} the images or labels are"
            " others",
            hint=f"tracker run train --from {source} --set {assigned[0]}",
        )
    if not changed and same_data:
        raise ConfigError(
            f"nothing would be different from {source}", hint="--set eval.tta=flip, for example"
        )
    fingerprints = {
        "config": config_fingerprint(tables),
        "data": data.fingerprint,
        "weights": fingerprint,
    }
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="infer",
        config=tables,
        parent=source,
        note=note,
        fingerprints=fingerprints,
    )
    with record_end(workspace, recorder):
        recorder.params({"weights_of": trained.uid})
        with translate_torch_errors():
            metrics, path = infer(
                config,
                data,
                task,
                weights,
                source=Source(workspace.root, data.hashes, workspace.lock_dir),
                run_dir=recorder.folder,
                logger=recorder,
                quiet=quiet,
            )
        recorder.metrics(metrics, step=1, epoch=trained.best_epoch or 0)
        recorder.progress(
            epoch=trained.best_epoch or 0, best_epoch=trained.best_epoch, summary=metrics
        )
        recorder.fingerprint(predictions=fingerprint_predictions(workspace, path))
    return recorder.record


def load_recorded_weights(workspace: Workspace, trained: RunRecord) -> tuple[Weights, str]:
    """A trained run's best weights and their fingerprint; raises ConfigError when they are not the
    recorded ones."""
    from tracker.training.run.infer import load_weights

    if not trained.fingerprints.get("weights"):
        raise ConfigError(
            f"{trained.name} has no final weights, it is {trained.status}",
            hint=f"wait until it ends, or tracker run train --from {trained.name} --resume",
        )
    path = workspace.runs_dir / trained.name / "best.pth"
    if not path.exists() and (when := trained.freed.get(path.name)):
        raise ConfigError(
            f"best.pth of {trained.name} was freed by tracker clean on {when[:10]}",
            hint=f"tracker run reproduce {trained.name} trains it again",
        )
    weights, fingerprint = load_weights(path)
    if fingerprint != trained.fingerprints.get("weights"):
        raise ConfigError(
            f"best.pth of {trained.name} is not the one that was recorded", hint="restore it"
        )
    return weights, fingerprint


def prepare_trained_data(
    workspace: Workspace, config: Config, trained: RunRecord
) -> tuple[Task, LoadedData]:
    """The checked images, and a word to the user when they are not those that the run was trained
    on."""
    task, data = prepare_data(workspace, config)
    if data.fingerprint != trained.fingerprints.get("data"):
        print(f"the data have changed since {trained.name} was trained", file=sys.stderr)
    return task, data


def find_trained(workspace: Workspace, name: str) -> RunRecord:
    """The run whose weights a run has: itself when it was trained, else its parent's; raises
    ConfigError."""
    record = load_run(workspace.runs_dir, name)
    while record.kind == "infer" and record.parent:
        record = load_run(workspace.runs_dir, record.parent)
    if record.kind != "train":
        raise ConfigError(
            f"{name} is an {record.kind} and has no weights", hint="give one of its members"
        )
    return record
