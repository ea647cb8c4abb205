"""What `train.precision = "auto"` stands for on a CPU: measured, since models differ."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tracker.training.config import Config
from tracker.training.errors import first_line
from tracker.training.fabric import MixedPrecision, PlainPrecision
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import stack_labels
from tracker.training.machine import has_bfloat16, name_processor
from tracker.training.model.model import Precision
from tracker.training.run.alone import build_alone
from tracker.training.run.epoch import take_step
from tracker.training.run.setup import choose_device
from tracker.training.targets import list_values

# Of all epochs together: 10,000 images of 224 x 224. A shorter training would lose by the
# measurement what it could gain.
LEAST_PIXELS = 500_000_000
# Two trainings at once, or a busy machine, shift a ratio by some 10 to 20 %, and bfloat16 has three
# significant digits: what it gains must be more than noise, and worth them.
MARGIN = 1.25
ROUNDS = 5  # of a step in each format, after one that does not count
LIMIT_S = 20.0  # no round begins later, except the first one that counts


@dataclass(frozen=True)
class MeasuredSteps:
    """Images a second of one process: of a training step in float32 and in bfloat16."""

    float32: float
    bfloat16: float

    @property
    def precision(self) -> Precision:
        """bfloat16 where it is quicker by the margin."""
        return "bf16-mixed" if self.bfloat16 >= MARGIN * self.float32 else "32-true"


def wants_measuring(config: Config, data: LoadedData) -> bool:
    """Whether "auto" is to be measured: on a CPU with bfloat16, for a training that is long."""
    train = config.train
    if train.precision != "auto" or choose_device(train) != "cpu" or not has_bfloat16():
        return False
    height, width = config.data.image_size
    return train.epochs * len(data.train) * height * width >= LEAST_PIXELS


def describe_step(config: Config) -> dict[str, Any]:
    """What the time of a step depends on: for equal descriptions one measurement is enough."""
    train = config.train
    return {
        "processor": name_processor(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "model": asdict(replace(config.model, pretrained=False)),
        "optimizer": config.optim.name,
        "image_size": list(config.data.image_size),
        "batch_size": train.batch_size,
        "processes": train.devices * train.num_nodes,
        "ema": train.ema > 0,
    }


def measure_steps(
    config: Config, data: LoadedData, task: Task, *, root: Path
) -> tuple[MeasuredSteps | None, str]:
    """Train a few steps in both formats with a model of its own, which is thrown away.

    Model, optimizer, image size and each process's batch are those of the config, with random
    weights and noise for images; `torch.compile` is left out. No generator of random numbers is
    changed. None, and a sentence why, where a step fails: the training itself says more of it.
    """
    try:
        with _keep_state():
            return _time_steps(config, data, task, root=root), ""
    except (RuntimeError, ValueError, TypeError) as error:
        sentence = f"train.precision: a step could not be measured ({first_line(error)})"
        return None, sentence
    finally:
        gc.collect()  # the memory is for the training


@contextmanager
def _keep_state() -> Iterator[None]:
    """After the block all generators of random numbers, and torch's settings, are as before."""
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    deterministic = torch.are_deterministic_algorithms_enabled()
    warns = torch.is_deterministic_algorithms_warn_only_enabled()
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])
        torch.use_deterministic_algorithms(deterministic, warn_only=warns)


def _time_steps(config: Config, data: LoadedData, task: Task, *, root: Path) -> MeasuredSteps:
    """The formats take turns, and the quickest step of each counts: other programs only slow it."""
    train = config.train
    batch = max(1, train.batch_size // (train.devices * train.num_nodes))
    usual = {"batch_size": batch, "accelerator": "cpu", "precision": "32-true"}
    setup = build_alone(config, data, task, root=root, **usual)
    values = list_values(data.train, task)
    size = min(batch, len(values))
    labels, images = stack_labels(values[:size]), torch.randn(size, 3, *config.data.image_size)
    formats = {"float32": PlainPrecision(), "bfloat16": MixedPrecision("bf16-mixed", "cpu")}
    best = dict.fromkeys(formats, float("inf"))
    begun = time.perf_counter()
    for number in range(ROUNDS + 1):
        if number > 1 and time.perf_counter() - begun > LIMIT_S:
            break
        for name, precision in formats.items():
            setup.fabric.strategy.precision = precision
            started = time.perf_counter()
            take_step(setup, images, labels)
            if number:  # the first step makes the optimizer's state, and compiles kernels
                best[name] = min(best[name], time.perf_counter() - started)
    return MeasuredSteps(**{name: size / seconds for name, seconds in best.items()})
