"""Records Hugging Face trainings as runs: `Trainer(..., callbacks=[TrackerCallback()])`."""

from __future__ import annotations

import dataclasses
import enum
import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from transformers import Trainer, TrainerCallback

from tracker.core.errors import UnknownRunError
from tracker.run_folder.output import notify
from tracker.run_folder.read import load_config, load_run
from tracker.training.errors import ConfigError
from tracker.training.key_names import common_key
from tracker.training.numbers import is_whole
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.common_names import common_name, whole_epoch
from tracker.workflows.own_loop.loss_names import describe_loss
from tracker.workflows.own_loop.trainer_run import TrainerRun
from tracker.workspace.tracker_toml import find_workspace

STATE_KEY = "tracker_run"  # in trainer_state.json of every checkpoint
WEIGHTS = (
    "model.safetensors",
    "pytorch_model.bin",
    "adapter_model.safetensors",
    "adapter_model.bin",
)
# Prefixes of arguments that are not recorded: they change where, how fast or how often, not what
# is learned.
IGNORED_ARGUMENTS = (
    "output_dir",
    "run_name",
    "project",
    "trackio",
    "report_to",
    "hub_",
    "push_to_hub",
    "log",
    "save_",
    "eval_",
    "dataloader_",
    "disable_tqdm",
    "do_",
    "overwrite_",
    "resume_",
    "restore_",
    "local_rank",
    "ddp_",
    "use_cpu",
    "load_best_",
    "metric_for_best",
    "greater_is_better",
    "include_",
    "skip_memory",
    "remove_unused",
    "prediction_",
)
# Arguments that are recorded even with their default.
ALWAYS = (
    "learning_rate",
    "weight_decay",
    "num_train_epochs",
    "per_device_train_batch_size",
    "seed",
    "optim",
    "lr_scheduler_type",
)
IGNORED_MODEL_CONFIG = (
    "id2label",
    "label2id",
    "architectures",
    "transformers_version",
    "_name_or_path",
    "model_type",
    "dtype",
)
SPEED = ("_runtime", "_per_second", "_compilation_time")  # of an evaluation: not curves
TOTALS = (
    "train_runtime",
    "train_samples_per_second",
    "train_steps_per_second",
    "train_loss",
    "total_flos",
)


class TrackerCallback(TrainerCallback):  # type: ignore[misc]
    """Records a training as a run: config, curves, and the Trainer's best checkpoint as best.pth.

    The options are those of tracker.start_run. The arguments that differ from their defaults and
    the model's config are added to `config`. Without a best checkpoint (`metric_for_best_model`)
    best.pth has the final weights. The run stays open after training, so that you can save the
    probabilities of `trainer.predict` in `run`; it ends with the script, or by `run.finish()`.
    `resume_from_checkpoint` resumes the run of the checkpoint, also for more epochs. With another
    config, or after that run has finished, it starts a new run, which has only its own epochs.
    """

    def __init__(self, **options: Any) -> None:
        self._owner = TrainerRun(**options)
        self._best = ""  # the checkpoint that became best.pth
        self._newest = ""  # the checkpoint that was saved last
        # The step at which this run started from another run's checkpoint, else 0.
        self._start_step = 0

    @property
    def run(self) -> ActiveRun:
        """The run of the last training; raises ConfigError before the first."""
        return self._owner.run

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Start a run, or resume that of the checkpoint."""
        self._owner.end()
        config = describe_training(args, kwargs.get("model"), _find_trainer())
        rank = 0 if state.is_world_process_zero else 1
        before = self._find_run_of(state) if state.global_step and rank == 0 else None
        if before and "loss" not in self._load_config(before):
            config.pop("loss", None)  # it is of a version that recorded no loss
        try:
            run = self._owner.begin(config, rank=rank, **({"resume": before} if before else {}))
        except ConfigError as error:  # it is finished, or has another config
            if before is None:
                raise
            run = self._owner.begin(config, rank=rank, parent=before)
            notify(f"{run.name} is a new run, started from a checkpoint of {before}: {error}")
        if before is None and run.name and state.global_step and not run.last_step:
            notify(f"{run.name} is a new run: {_explain_unknown_run(state)}")
        self._start_step = 0 if run.last_step else state.global_step
        self._best = ""
        newest = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        self._newest = str(newest) if newest.is_dir() else ""
        run.explain_resume = self._explain_resume
        if run.name:
            uid = load_run(run.folder.parent, run.name).uid
            state.stateful_callbacks[STATE_KEY] = {"name": run.name, "uid": uid}

    def _load_config(self, name: str) -> dict[str, dict[str, Any]]:
        return load_config(find_workspace(self._owner.root).runs_dir, name)

    def _explain_resume(self) -> str:
        if self._newest:
            return f'trainer.train(resume_from_checkpoint="{self._newest}")'
        return (
            f'TrackerCallback(resume="{self.run.name}"), which starts at its first epoch: there is'
            " no checkpoint"
        )

    def _find_run_of(self, state: Any) -> str | None:
        """The run of a checkpoint; None where the workspace does not have it anymore."""
        before = state.stateful_callbacks.get(STATE_KEY)
        if not isinstance(before, dict):
            return None
        try:
            record = load_run(find_workspace(self._owner.root).runs_dir, str(before.get("name")))
        except UnknownRunError:
            return None
        return record.name if record.uid == before.get("uid") else None

    def on_log(
        self,
        args: Any,
        state: Any,
        control: Any,
        logs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Log what the Trainer logs: `loss` as train/loss, `eval_accuracy` as val/accuracy."""
        if not logs or not self._owner.is_open:
            return
        # Totals, and what is evaluated after training, are facts and not points of curves.
        if "train_runtime" in logs or not self._owner.is_training:
            facts: dict[str, Any] = {}
            for name, value in logs.items():
                if isinstance(value, int | float):
                    facts[name if name in TOTALS else f"after_training.{name}"] = value
            self.run.add_facts(facts)
        elif values := _to_values(logs):
            self.run.log(values, step=state.global_step, epoch=whole_epoch(state.epoch or 0.0))

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save the checkpoint that was just written as best.pth, if it is the best so far."""
        self._newest = str(Path(args.output_dir) / f"checkpoint-{state.global_step}")
        if self._start_step:
            if _is_best_since(self._start_step, args, state):
                self._save_best(self._newest, args, state, kwargs.get("model"))
            return
        best = state.best_model_checkpoint or ""
        if best.endswith(f"-{state.global_step}") and best != self._best:
            self._save_best(best, args, state, kwargs.get("model"))

    def on_train_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Without a best.pth yet, save the best checkpoint of before, else the final weights."""
        best = state.best_model_checkpoint or ""
        # The best checkpoint may be one of the other run that this one started from.
        is_other_run = bool(best) and _step_of(best) <= self._start_step
        if is_other_run and args.load_best_model_at_end:
            notify(
                f"{self.run.name}: the Trainer has loaded {best}, which is better than every epoch"
                " of this run: the model now predicts with its weights"
            )
        elif not self._best and not (self.run.folder / "best.pth").exists():
            self._save_best("" if is_other_run else best, args, state, kwargs.get("model"))
        self._owner.is_training = False
        if state.global_step >= state.max_steps:
            self.run.mark_trained()

    def _save_best(self, checkpoint: str, args: Any, state: Any, model: Any) -> None:
        """Save a checkpoint, or the model as it is, with what was logged until then."""
        paths = [Path(checkpoint) / name for name in WEIGHTS] if checkpoint else []
        files = [path for path in paths if path.is_file()]
        weights: Any = files[0] if files else model.state_dict()
        step = _step_of(checkpoint) if files else state.global_step
        metrics: dict[str, float] = {}
        epoch = state.epoch or 0.0
        for row in state.log_history:
            if self._start_step < row["step"] <= step and "train_runtime" not in row:
                metrics |= _to_values(row)
                epoch = row.get("epoch", epoch)
        self._best = checkpoint
        monitor = common_name(_monitored(args), split="train")
        if checkpoint and monitor:
            higher = bool(args.greater_is_better)
            self.run.save_better(
                weights, epoch=whole_epoch(epoch), metrics=metrics, monitor=monitor, higher=higher
            )
        else:
            self.run.replace_best(weights, epoch=whole_epoch(epoch), metrics=metrics)


def _step_of(checkpoint: str) -> int:
    """8 of `out/checkpoint-8`."""
    number = Path(checkpoint).name.rpartition("-")[2]
    return int(number) if is_whole(number) else 0


def _monitored(args: Any) -> str:
    """The metric that chooses the Trainer's best checkpoint, as it is logged; empty without one."""
    name = args.metric_for_best_model or ""
    return name if not name or name.startswith("eval_") else f"eval_{name}"


def _is_best_since(step: int, args: Any, state: Any) -> bool:
    """Whether the evaluation at the current step is better than all others after `step`."""
    name = _monitored(args)
    rows = [row for row in state.log_history if row["step"] > step and name in row]
    if not rows or rows[-1]["step"] != state.global_step:
        return False
    sign = 1 if args.greater_is_better else -1
    newest = rows[-1][name]
    return all(sign * newest > sign * row[name] for row in rows[:-1])


def _to_values(logs: Mapping[str, Any]) -> dict[str, float]:
    """What the Trainer logs at a step, as points of curves."""
    values: dict[str, float] = {}
    for name, value in logs.items():
        is_curve = name not in ("epoch", "step", "total_flos") and not name.endswith(SPEED)
        if is_curve and isinstance(value, int | float):
            values[common_name(name, split="train")] = float(value)
    return values


def _explain_unknown_run(state: Any) -> str:
    """Why no run can be resumed from a checkpoint."""
    at = f"the checkpoint of step {state.global_step}"
    before = state.stateful_callbacks.get(STATE_KEY)
    if not isinstance(before, dict):
        return f"{at} was saved without tracker"
    return f"{at} is of {before.get('name')}, which is not in this workspace"


def _find_trainer() -> Trainer | None:
    """The Trainer that calls the callback, which is not told: from the calls that led here."""
    frame = inspect.currentframe()
    while frame is not None:
        caller = frame.f_locals.get("self")
        if isinstance(caller, Trainer):
            return caller
        frame = frame.f_back
    return None


def _describe_loss(model: Any, trainer: Trainer | None) -> dict[str, Any]:
    """The loss of a training; empty where only the code of the model knows it."""
    if trainer is None:
        return {}
    if trainer.compute_loss_func is not None:
        return describe_loss(trainer.compute_loss_func)
    compute = type(trainer).compute_loss
    if compute is not Trainer.compute_loss:
        return {"name": compute.__qualname__}  # of the user's own class
    return describe_loss(getattr(model, "loss_type", None))


def describe_training(args: Any, model: Any, trainer: Trainer | None = None) -> dict[str, Any]:
    """The config of a training: arguments unlike their defaults, the model's config, the loss.

    `trainer` knows the loss.
    """
    tables: dict[str, Any] = {}
    # The arguments of the Trainer.
    defaults = {field.name: field.default for field in dataclasses.fields(args)}
    for name, default in defaults.items():
        value = _plain(getattr(args, name))
        off = value is None or (value is False and not default)
        changed = not off and value != _plain(default) and not name.startswith(IGNORED_ARGUMENTS)
        if name in ALWAYS or (changed and isinstance(value, bool | int | float | str)):
            section, key = common_key("", name)
            tables.setdefault(section or "trainer", {})[key] = value
    # The model: its name, and its config without what is equal for all models.
    if model is not None:
        own: Any = getattr(model, "config", None)
        name = (
            getattr(own, "_name_or_path", "")
            or getattr(own, "model_type", "")
            or type(model).__name__
        )
        tables.setdefault("model", {})["name"] = name
        changed = own.to_diff_dict() if hasattr(own, "to_diff_dict") else {}
        plain = {
            key: value
            for key, value in changed.items()
            if key not in IGNORED_MODEL_CONFIG and value is not None
        }
        tables |= {"model_config": plain} if plain else {}
    if loss := _describe_loss(model, trainer):
        tables["loss"] = {**tables.get("loss", {}), **loss}
    return tables


def _plain(value: Any) -> Any:
    """A value as TOML has it: an enum as its value, 3.0 epochs as 3."""
    if isinstance(value, enum.Enum):
        return value.value
    return int(value) if isinstance(value, float) and value.is_integer() and value >= 1 else value
