"""A callback for Hugging Face's Trainer: `Trainer(..., callbacks=[TrackerCallback()])` records a training as a run."""

from __future__ import annotations

import atexit
import dataclasses
import enum
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from tracker.api import ActiveRun, begin_in_group
from tracker.common_names import common_key, common_name, whole_epoch
from tracker.errors import ConfigError, UnknownRunError
from tracker.runs import load_run
from tracker.workspace import find_workspace

STATE_KEY = "tracker_run"  # in trainer_state.json of every checkpoint
WEIGHTS = ("model.safetensors", "pytorch_model.bin", "adapter_model.safetensors", "adapter_model.bin")
# Arguments that say where files lie, how fast or how often, and not what is learned.
NO_CONFIG = (
    *("output_dir", "run_name", "project", "trackio", "report_to", "hub_", "push_to_hub", "log", "save_", "eval_"),
    *("dataloader_", "disable_tqdm", "do_", "overwrite_", "resume_", "restore_", "local_rank", "ddp_", "use_cpu"),
    *("load_best_", "metric_for_best", "greater_is_better", "include_", "skip_memory", "remove_unused", "prediction_"),
)
ALWAYS = (
    *("learning_rate", "weight_decay", "num_train_epochs", "per_device_train_batch_size", "seed", "optim"),
    "lr_scheduler_type",
)
NO_MODEL_CONFIG = (
    "id2label",
    "label2id",
    "architectures",
    "transformers_version",
    "_name_or_path",
    "model_type",
    "dtype",
)
SPEED = ("_runtime", "_per_second", "_compilation_time")  # of an evaluation; no curve
TOTALS = ("train_runtime", "train_samples_per_second", "train_steps_per_second", "train_loss", "total_flos")
NOT_ENDED = "the training did not reach its end"


class TrackerCallback(TrainerCallback):
    """Records a training as a run of the workspace: config, curves, and the Trainer's best checkpoint as best.pth.

    The config is `config`, the arguments that differ from their defaults, and the model's config. Without a best
    checkpoint (`metric_for_best_model`) best.pth are the weights at the end. The run stays open after training, so that
    `run` can be given probabilities of `trainer.predict`; it ends with the script, or by `run.finish()`.
    `resume_from_checkpoint` goes on with the run of the checkpoint; with another config, a new run is made from it.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        note: str = "",
        parent: str | None = None,
        tags: Sequence[str] | Mapping[str, str] = (),
        root: Path | None = None,
        follow: bool = True,
    ) -> None:
        self._config = dict(config or {})
        self._options: dict[str, Any] = {"note": note, "parent": parent, "tags": tags, "root": root, "follow": follow}
        self._run: ActiveRun | None = None
        self._training = False
        self._best = ""  # the checkpoint that best.pth is of
        self._measured: dict[str, float] = {}  # the last value of each metric

    @property
    def run(self) -> ActiveRun:
        """The run of the last training; raises ConfigError before the first."""
        if self._run is None:
            raise ConfigError("there is no run before training begins", hint="call trainer.train() first")
        return self._run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Begin a run, or go on with that of the checkpoint."""
        self._end_unfinished()
        config = {**describe_training(args, kwargs.get("model")), **self._config}
        before = state.stateful_callbacks.get(STATE_KEY) if state.global_step else None
        rank = 0 if state.is_world_process_zero else 1
        if self._run is None:
            self._run = self._resume(config, before, rank) or begin_in_group(config, rank=rank, **self._options)
        self._training, self._measured, self._best = True, {}, ""
        if self._run.name:
            uid = load_run(self._run.folder.parent, self._run.name).uid
            state.stateful_callbacks[STATE_KEY] = {"name": self._run.name, "uid": uid}
        atexit.register(self._note_unfinished)

    def _resume(self, config: Mapping[str, Any], before: Any, rank: int) -> ActiveRun | None:
        """The run of a checkpoint, open again; None where the workspace does not have it any more."""
        if rank or not isinstance(before, dict):
            return None
        workspace = find_workspace(self._options["root"])
        try:
            record = load_run(workspace.runs_dir, str(before.get("name")))
        except UnknownRunError:
            return None
        if record.uid != before.get("uid"):
            return None
        try:
            return begin_in_group(config, rank=rank, **self._options, resume=record.name)
        except ConfigError:  # it is finished, or its config is another
            return begin_in_group(config, rank=rank, **{**self._options, "parent": record.name})

    def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, Any] | None = None, **kwargs: Any) -> None:
        """Keep what the Trainer logs: `loss` as train/loss, `eval_accuracy` as val/accuracy."""
        if self._run is None or not logs:
            return
        values = {name: value for name, value in logs.items() if isinstance(value, int | float) and name != "epoch"}
        if "train_runtime" in values or not self._training:  # totals, and what is evaluated after training
            self._run.keep_facts(
                {name if name in TOTALS else f"after_training.{name}": v for name, v in values.items()}
            )
            return
        values = {common_name(k, split="train"): float(v) for k, v in values.items() if not k.endswith(SPEED)}
        self._measured |= values
        self._run.log(values, step=state.global_step, epoch=whole_epoch(state.epoch or 0.0))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the checkpoint that was just saved, when it is the best so far."""
        best = state.best_model_checkpoint or ""
        if self._run and best.endswith(f"-{state.global_step}") and best != self._best:
            self._save_best(best, state, kwargs.get("model"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the weights at the end where there is no best checkpoint."""
        if self._run and not self._best and not (self._run.folder / "best.pth").exists():
            self._save_best(state.best_model_checkpoint or "", state, kwargs.get("model"))
        self._training = False

    def _save_best(self, checkpoint: str, state: Any, model: Any) -> None:
        found = [Path(checkpoint) / name for name in WEIGHTS if checkpoint and (Path(checkpoint) / name).is_file()]
        weights: Any = found[0] if found else model.state_dict()
        self.run.save_best(weights, epoch=whole_epoch(state.epoch or 0.0), metrics=self._measured)
        self._best = checkpoint

    def _end_unfinished(self) -> None:
        """End the run of an earlier training of this Trainer."""
        atexit.unregister(self._note_unfinished)
        if self._run is not None:
            self._run.finish("failed" if self._training else "finished", error=NOT_ENDED if self._training else "")
            self._run = None

    def _note_unfinished(self) -> None:
        """At the end of a script that caught the error of its training: the run does not look finished."""
        if self._training and getattr(sys, "last_value", None) is None:
            self._end_unfinished()


def describe_training(args: Any, model: Any) -> dict[str, Any]:
    """The config of a training: arguments that matter and differ from their defaults, and the model's own config."""
    tables: dict[str, Any] = {}
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    for name, default in defaults.items():
        value = _plain(getattr(args, name))
        off = value is None or (value is False and not default)
        changed = not off and value != _plain(default) and not name.startswith(NO_CONFIG)
        if name in ALWAYS or (changed and isinstance(value, bool | int | float | str)):
            section, key = common_key("", name)
            tables.setdefault(section or "trainer", {})[key] = value
    if model is not None:
        own: Any = getattr(model, "config", None)
        name = getattr(own, "_name_or_path", "") or getattr(own, "model_type", "") or type(model).__name__
        tables.setdefault("model", {})["name"] = name
        changed = own.to_diff_dict() if hasattr(own, "to_diff_dict") else {}
        plain = {key: value for key, value in changed.items() if key not in NO_MODEL_CONFIG and value is not None}
        tables |= {"model_config": plain} if plain else {}
    return tables


def _plain(value: Any) -> Any:
    """A value as TOML has it: whole numbers of epochs without a point."""
    if isinstance(value, enum.Enum):
        return value.value
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
