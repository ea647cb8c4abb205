"""What a model learns: an entry of TARGETS for each value of competition.target."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.training.config import Config
from tracker.training.errors import ConfigError
from tracker.training.formats.samples import LabelValues, Sample, Task, stack_dense
from tracker.training.metrics import METRICS

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor

CLASS_LOSSES = ("cross_entropy", "focal", "label_smoothing", "f1")


@dataclass(frozen=True, kw_only=True)
class Target:
    """One kind of target.

    `activate` turns logits [images, outputs] into probabilities, or into numbers. `losses` are the
    values of loss.name that fit, the usual one first. `average` makes logits of several views
    [views, images, outputs] one. `is_class`: an image has exactly one class.
    """

    name: str
    losses: tuple[str, ...]
    activate: Callable[[Tensor], Tensor]
    average: Callable[[Tensor], Tensor]
    is_class: bool = False


def _softmax(logits: Tensor) -> Tensor:
    from torch.nn import functional

    return functional.softmax(logits, dim=1)


def _sigmoid(logits: Tensor) -> Tensor:
    return logits.sigmoid()


def _keep(logits: Tensor) -> Tensor:
    return logits


def _average_softmax(views: Tensor) -> Tensor:
    """The logarithm of the mean of softmax probabilities."""
    import torch

    mean = views.softmax(dim=2).mean(0)
    return mean.clamp_min(torch.finfo(mean.dtype).tiny).log()


def _average_sigmoid(views: Tensor) -> Tensor:
    """The logit of the mean probability."""
    import torch

    return torch.logit(views.sigmoid().mean(0), eps=torch.finfo(views.dtype).eps)


def _average_numbers(views: Tensor) -> Tensor:
    return views.mean(0)


TARGETS = {
    target.name: target
    for target in (
        Target(
            name="class",
            losses=CLASS_LOSSES,
            activate=_softmax,
            average=_average_softmax,
            is_class=True,
        ),
        Target(
            name="binary",
            losses=CLASS_LOSSES,
            activate=_softmax,
            average=_average_softmax,
            is_class=True,
        ),
        Target(
            name="ordered",
            losses=CLASS_LOSSES,
            activate=_softmax,
            average=_average_softmax,
            is_class=True,
        ),
        Target(
            name="labels",
            losses=("bce", "asymmetric", "focal"),
            activate=_sigmoid,
            average=_average_sigmoid,
        ),
        Target(
            name="number", losses=("smooth_l1", "mse"), activate=_keep, average=_average_numbers
        ),
    )
}


def count_outputs(task: Task) -> int:
    """How many numbers a model gives for an image: one for each class, or one."""
    return 1 if task.target == "number" else len(task.classes)


def list_values(samples: Sequence[Sample], task: Task) -> list[Any]:
    """What is learned of each image: its class number, or its `values`."""
    if TARGETS[task.target].is_class:
        return [sample.label for sample in samples]
    return [sample.values for sample in samples]


def stack_values(samples: Sequence[Sample], task: Task) -> NDArray[Any]:
    """Class numbers int64 [images], or values float32 [images, outputs]."""
    import numpy as np

    values = list_values(samples, task)
    return np.array(values, np.int64) if TARGETS[task.target].is_class else stack_dense(values)


def count_present(samples: Sequence[Sample]) -> NDArray[Any]:
    """How many images have each class, float32 [classes]; a share counts as that."""
    import numpy as np

    held = [sample.values for sample in samples]
    whole = [values for values in held if isinstance(values, LabelValues) and not values.shares]
    if len(whole) < len(held) or not held:
        shares: NDArray[Any] = stack_dense(held).sum(0)
        return shares
    places = itertools.chain.from_iterable(values.places for values in whole)
    return np.bincount(list(places), minlength=len(held[0])).astype(np.float32)


def list_measured(task: Task) -> tuple[str, ...]:
    """The validation figures of a run of this task."""
    usual = tuple(METRICS) if TARGETS[task.target].is_class else ()
    own = (metric.name for metric in task.metrics)
    return ("val/loss", *(f"val/{name}" for name in dict.fromkeys([*usual, *own])))


def check_config(config: Config, task: Task) -> None:
    """Raise ConfigError where loss, monitor or heads do not fit what an image has."""
    target = TARGETS[task.target]
    loss, monitor = config.loss.name, config.train.monitor
    problems = []
    if loss not in target.losses:
        problems.append(
            f"loss.name: {loss} does not fit a target {task.target!r}, expected one of"
            f" {', '.join(target.losses)}"
        )
    if monitor not in list_measured(task):
        problems.append(
            f"train.monitor: {monitor} is not measured, expected one of"
            f" {', '.join(list_measured(task))}"
        )
    if config.model.heads != "joint" and not target.is_class:
        problems.append(f"model.heads: attributes does not fit a target {task.target!r}")
    if problems:
        raise ConfigError("the config does not fit the competition:", problems=problems)


def is_better(task: Task, figure: str, new: float, old: float) -> bool:
    """Whether `new` of one of `list_measured` beats `old` (a tie does not)."""
    name = figure.removeprefix("val/")
    own = {metric.name: metric.higher_is_better for metric in task.metrics}
    known = METRICS.get(name)
    usual = known is not None and known.higher_is_better  # less of a loss is better
    return new > old if own.get(name, usual) else new < old
