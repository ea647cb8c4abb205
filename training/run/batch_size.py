"""The batch size that `train.batch_size = "auto"` stands for, found before a run is made."""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch

from tracker.training.config import AUTO_BATCH_SIZE, Config
from tracker.training.errors import TrainingError
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import stack_labels
from tracker.training.run.alone import build_alone
from tracker.training.run.epoch import take_step
from tracker.training.run.setup import Setup
from tracker.training.targets import list_values

ON_CPU = 32  # a CPU gains nothing from more, and smaller batches take more steps
FEWEST_BATCHES = 8  # in an epoch: with fewer, a small data set gets hardly any steps
LARGEST = 4096  # for each process
MARGIN = 0.9  # share of the free memory that may be used: other programs need some, too
STEPS = 2  # the first makes the optimizer's state, the second has it


def resolve_batch_size(
    config: Config, data: LoadedData, task: Task, *, root: Path
) -> tuple[Config, str]:
    """The config with a number of images a batch, and a sentence where it had none.

    On a GPU, batches of 1, 2, 4, ... images are trained for two steps with the model, the optimizer
    and the precision of the config, until one does not fit. Raises like `build_setup`, and
    TrainingError where one image does not fit.
    """
    train = config.train
    if train.batch_size != AUTO_BATCH_SIZE:
        return config, ""
    world = train.devices * train.num_nodes
    most = floor_to_power(max(1, len(data.train) // FEWEST_BATCHES // world))
    uses_gpu = train.accelerator in ("auto", "cuda") and torch.cuda.is_available()
    if uses_gpu:
        limit = min(most, LARGEST)
        each = _measure_gpu(config, data, task, root=root, limit=limit)
        reason = "the largest power of two that fits the GPU"
        if each == most:
            reason = f"{FEWEST_BATCHES} batches an epoch or more; the GPU may hold larger ones"
    else:
        each = max(1, floor_to_power(ON_CPU // world))
        reason = "fixed where there is no CUDA GPU"
    found = each * world
    note = f"train.batch_size = {found} (auto: {reason})"
    return replace(config, train=replace(train, batch_size=found)), note


def floor_to_power(number: int) -> int:
    """The largest power of two that is not above `number`, which is at least 1."""
    return 1 << (number.bit_length() - 1)


def find_largest(fits: Callable[[int], bool], limit: int) -> int:
    """The largest power of two up to `limit` that fits; 0 when one image does not.

    Asks in rising order and never above the first that does not fit.
    """
    found, size = 0, 1
    while size <= limit and fits(size):
        found, size = size, 2 * size
    return found


def _measure_gpu(config: Config, data: LoadedData, task: Task, *, root: Path, limit: int) -> int:
    """The largest batch that one GPU trains; its memory is given back afterwards."""
    setup = build_alone(config, data, task, root=root, batch_size=1, accelerator="cuda")
    allowed = MARGIN * (torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved())
    try:
        found = find_largest(partial(_fits, setup, allowed=allowed), limit)
    finally:
        del setup
        gc.collect()
        torch.cuda.empty_cache()
    if not found:
        raise TrainingError(
            "train.batch_size: the GPU has not enough memory for one image",
            hint="lower data.image_size, or set model.grad_checkpointing",
        )
    return found


def _fits(setup: Setup, size: int, *, allowed: float) -> bool:
    """Whether steps with `size` images need at most `allowed` bytes of the GPU."""
    values = list_values(setup.data.train, setup.task)
    labels = stack_labels([values[index % len(values)] for index in range(size)])
    images = torch.zeros(size, 3, *setup.config.data.image_size)
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    try:
        for _ in range(STEPS):
            take_step(setup, images, labels)
        torch.cuda.synchronize()
    except torch.OutOfMemoryError:
        return False
    finally:
        setup.optimizer.zero_grad()
    return torch.cuda.max_memory_reserved() <= allowed
