"""Records fastai trainings as a run: `Learner(..., cbs=TrackerCallback())`."""

from __future__ import annotations

from typing import Any

from fastai.callback.core import Callback

from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.common_names import common_name
from tracker.workflows.own_loop.loss_names import describe_loss
from tracker.workflows.own_loop.trainer_run import BestEpoch, TrainerRun


class TrackerCallback(Callback):  # type: ignore[misc]
    """Records the fits of a Learner as one run: config, curves by epoch, weights of the best epoch.

    All fits until `tracked.finish()` are one run, like the two of `fine_tune`, and its epochs are
    counted through. `monitor` is as in tracker.keras, the other options are those of
    tracker.start_run. The run is `tracked` (`run` is a switch of fastai). It stays open, so that
    you can save the probabilities of `get_preds` in it.
    """

    order = 60  # fastai's Recorder has 50 and must come first: it makes the values

    def __init__(self, *, monitor: str = "", **options: Any) -> None:
        self._owner = TrainerRun(**options)
        self._best = BestEpoch(common_name(monitor, split="val"), self._owner.root)
        self._before = (0, 0)  # steps and epochs of earlier fits

    @property
    def tracked(self) -> ActiveRun:
        """The run; raises ConfigError before the first fit."""
        return self._owner.run

    def before_fit(self) -> None:
        """Start a run, or continue the one of an earlier fit."""
        # The learning-rate finder and predictions are no training.
        self.run = not hasattr(self.learn, "lr_finder") and not hasattr(self, "gather_preds")
        if not self.run:
            return
        if not self._owner.is_open or self._owner.is_training:
            run = self._owner.begin(describe_training(self.learn))
            run.explain_resume = lambda: f'TrackerCallback(resume="{run.name}")'
            self._best.begin(run)
        self._owner.is_training = True
        self._before = (self.tracked.last_step, self.tracked.last_epoch)

    def after_epoch(self) -> None:
        """Log the values of an epoch, `accuracy` as val/accuracy, and save its weights if best."""
        values: dict[str, float] = {}
        for name, value in zip(self.recorder.metric_names, self.recorder.log, strict=False):
            if isinstance(value, int | float) and name != "epoch":
                values[common_name(name, split="val")] = float(value)
        values["train/lr"] = float(self.learn.opt.hypers[-1]["lr"])
        steps_before, epochs_before = self._before
        epoch = epochs_before + self.learn.epoch + 1
        self.tracked.log(values, step=steps_before + self.learn.train_iter, epoch=epoch)
        if self._best.is_best(values):
            weights = self.learn.model.state_dict()
            self.tracked.replace_best(weights, epoch=epoch, metrics=values)

    def after_fit(self) -> None:
        """The fit is complete; the run stays open for predictions and further fits."""
        self._owner.is_training = False

    def __reduce__(self) -> tuple[Any, ...]:
        """An exported Learner does not contain the run."""
        return (type(self), ())


def describe_training(learn: Any) -> dict[str, Any]:
    """The config of a fit: model, optimizer, loss, epochs, batch size."""
    return {
        "model": {"name": getattr(learn, "arch_name", None) or _name(learn.model)},
        "optim": {
            "name": _name(learn.opt_func),
            "lr": float(learn.opt.hypers[-1]["lr"]),
            "weight_decay": learn.wd,
        },
        "loss": describe_loss(learn.loss_func),
        "train": {"epochs": learn.n_epoch, "batch_size": learn.dls.bs},
    }


def _name(thing: Any) -> str:
    """The name of a function or class; for a partial that of its function."""
    thing = getattr(thing, "func", thing)
    return str(getattr(thing, "__name__", type(thing).__name__))
