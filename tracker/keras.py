"""Records Keras 3 trainings as runs: `model.fit(..., callbacks=[TrackerCallback()])`."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keras import backend, ops
from keras.callbacks import Callback
from keras.optimizers.schedules import LearningRateSchedule

from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.common_names import common_name
from tracker.workflows.own_loop.loss_names import describe_loss
from tracker.workflows.own_loop.trainer_run import BestEpoch, TrainerRun

BEST_FILE = "best.weights.h5"  # what model.load_weights reads


class TrackerCallback(Callback):  # type: ignore[misc]
    """Records a training as a run: config, curves by epoch, and the weights of the best epoch.

    `monitor` chooses that epoch: a name as in Keras (val_accuracy) or as here (val/f1). Without it
    it is the competition's metric where that is logged, else val/f1, val/accuracy, val/loss.
    best.pth has the weights by the paths of Keras's variables; files/best.weights.h5 is for
    `model.load_weights`. The other options are those of tracker.start_run. To resume a run, use
    `resume="exp3"` with `model.fit(..., initial_epoch=...)`. The run stays open after training, so
    that you can save the probabilities of `model.predict` in `run`.
    """

    def __init__(self, *, monitor: str = "", **options: Any) -> None:
        super().__init__()
        self._owner = TrainerRun(**options)
        self._best = BestEpoch(common_name(monitor, split="train"), self._owner.root)
        self._steps_before = 0  # steps of the run before the optimizer counted its first

    @property
    def run(self) -> ActiveRun:
        """The run of the last training; raises ConfigError before the first."""
        return self._owner.run

    def on_train_begin(self, logs: Mapping[str, Any] | None = None) -> None:
        """Start a run."""
        run = self._owner.begin(describe_training(self.model, self.params))
        run.explain_resume = self._explain_resume
        # A resumed run may train for another number of epochs.
        run.change_length({"train": {"epochs": self.params.get("epochs")}})
        self._best.begin(run)
        # A new optimizer counts from 0 again.
        self._steps_before = max(0, run.last_step - _count_steps(self.model))

    def _explain_resume(self) -> str:
        return (
            f'TrackerCallback(resume="{self.run.name}") and fit(...,'
            f" initial_epoch={self.run.last_epoch})"
        )

    def on_epoch_end(self, epoch: int, logs: Mapping[str, Any] | None = None) -> None:
        """Log the values of an epoch, `val_accuracy` as val/accuracy; save its weights if best."""
        values = {
            common_name(name, split="train"): float(value) for name, value in (logs or {}).items()
        }
        values.setdefault(
            "train/lr", float(ops.convert_to_numpy(self.model.optimizer.learning_rate))
        )
        self.run.log(values, step=self._steps_before + _count_steps(self.model), epoch=epoch + 1)
        if self._best.is_best(values):
            self._save_best(epoch + 1, values)

    def on_train_end(self, logs: Mapping[str, Any] | None = None) -> None:
        """Training is complete; the run stays open for predictions."""
        self._owner.is_training = False

    def _save_best(self, epoch: int, values: Mapping[str, float]) -> None:
        from tracker.training.run.checkpoint import to_tensors

        arrays = {
            variable.path: ops.convert_to_numpy(variable.value) for variable in self.model.variables
        }
        self.run.replace_best(to_tensors(arrays), epoch=epoch, metrics=values)
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / BEST_FILE
            self.model.save_weights(path)
            self.run.log_file(path)


def _count_steps(model: Any) -> int:
    return int(ops.convert_to_numpy(model.optimizer.iterations))


def describe_training(model: Any, params: Mapping[str, Any]) -> dict[str, Any]:
    """The config of a training: model, optimizer, loss, epochs, and the backend."""
    optimizer = model.optimizer
    # Not from get_config(), which warns with torch.
    schedule = getattr(optimizer, "_learning_rate", None)
    return {
        "model": {
            "name": re.sub(r"^(sequential|functional|model)_\d+$", r"\1", model.name),
            "parameters": model.count_params(),
        },
        "optim": {
            "name": type(optimizer).__name__,  # its own name is counted
            "lr": float(ops.convert_to_numpy(optimizer.learning_rate)),
            "weight_decay": getattr(optimizer, "weight_decay", None),
        },
        "sched": {
            "name": type(schedule).__name__ if isinstance(schedule, LearningRateSchedule) else None
        },
        "loss": describe_loss(model.loss),
        "train": {"epochs": params.get("epochs")},
        "keras": {"backend": backend.backend(), "steps_per_epoch": params.get("steps")},
    }
