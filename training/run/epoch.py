"""One epoch of training, and one step of it."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.distributed.tensor import DTensor
from torch.nn import functional

from tracker.training.errors import NonFiniteLossError
from tracker.training.input.to_device import DeviceCopies
from tracker.training.metrics import score_counts
from tracker.training.model.compiled import skip_odd_batch
from tracker.training.model.model import train_mode
from tracker.training.processes import gather_images
from tracker.training.progress import Progress
from tracker.training.run.setup import Setup, seed_torch, update_average
from tracker.training.run.state import Part, restore_random
from tracker.training.scores import confusion_matrix, count_classes
from tracker.training.targets import TARGETS

READ_LATE = ("cuda",)  # kinds of devices that work while Python goes on


def train_epoch(
    setup: Setup,
    epoch: int,
    progress: Progress,
    *,
    save: Callable[[Part], None] = lambda _: None,
    part: Part | None = None,
) -> dict[str, float]:
    """One epoch; returns train/loss, the metrics, /lr, /images_per_s and /data_wait.

    /data_wait is the share of time spent waiting for data. `save` is called after a step where
    somebody asks for it, with what has been done; with `part` the epoch goes on after that. Raises
    NonFiniteLossError.
    """
    train, fabric = setup.config.train, setup.fabric
    batches, part = _begin_epoch(setup, epoch, part)
    sizes = setup.train_sampler.sizes
    steps = -(-len(sizes) // train.accumulate)
    started = time.monotonic() - part.seconds
    results, copies = _Results(setup, epoch, part), DeviceCopies(fabric)
    for number, (images, labels, indices) in enumerate(
        _time_waiting(batches, part), start=part.batches
    ):
        # gradients are added up over a group of batches, and synchronized after its last one
        group = number - number % train.accumulate
        last = number + 1 in (group + train.accumulate, len(sizes))
        with fabric.no_backward_sync(setup.model, enabled=fabric.world_size > 1 and not last):
            loss, guesses, truth = _forward(setup, copies, images, labels)
            batch = _Batch(number, indices, loss.detach(), guesses, truth)
            results.add(batch)
            # by images, because the last batch of an epoch may be smaller
            share = sizes[number] / sum(sizes[group : group + train.accumulate])
            # times the number of processes, because the mean over them divides by it
            fabric.backward(loss * share * fabric.world_size)
        progress.batch(epoch=epoch, images=sizes[number], loss=results.loss)
        if not last:
            continue
        # the group is complete
        results.add_norm(batch, _clip_gradients(setup))
        part.lr = _update_weights(setup)
        step = (epoch - 1) * steps + number // train.accumulate + 1
        if step % train.log_every == 0:
            results.read()
            loss_now = sum(part.recent) / len(part.recent)
            values = {"train/batch_loss": loss_now, "train/batch_lr": part.lr}
            setup.logger.metrics(values, step=step, epoch=epoch)
            part.recent = []
        part.batches, part.seconds = number + 1, time.monotonic() - started
        if setup.saving.agreed or (setup.saving.asked and fabric.world_size == 1):
            results.read()
            save(part)
    results.read()
    part.seconds = time.monotonic() - started
    return _summarize(setup, part)


def _summarize(setup: Setup, part: Part) -> dict[str, float]:
    """The metrics of a whole epoch."""
    has_classes = TARGETS[setup.task.target].is_class
    scores = score_counts(count_classes(part.confusion)) if has_classes else {}
    return {
        "train/loss": part.total / part.seen,
        **{f"train/{name}": value for name, value in scores.items()},
        "train/lr": part.lr,
        "train/images_per_s": part.seen / part.seconds,
        "train/data_wait": part.waited / part.seconds,
    }


@dataclass(frozen=True)
class _Batch:
    """What a batch gave, on its device: loss [], predicted classes [n]; true ones [n].

    `indices` are those of this process's images.
    """

    number: int
    indices: Tensor
    loss: Tensor
    guesses: Tensor
    truth: NDArray[np.int64]


class _Results:
    """Adds up what the batches of an epoch gave, and checks that it is finite.

    Who reads a value of a GPU waits until the GPU has nothing more to do. So there they are read
    together, when a point is logged; on other devices at once.
    """

    def __init__(self, setup: Setup, epoch: int, part: Part) -> None:
        self.loss = math.nan  # of the last batch that was read
        self._setup = setup
        self._epoch = epoch
        self._part = part
        self._at_once = setup.fabric.device.type not in READ_LATE
        self._batches: list[_Batch] = []
        self._norms: list[tuple[_Batch, Tensor]] = []

    def add(self, batch: _Batch) -> None:
        """Add a batch; raises NonFiniteLossError where it is read at once."""
        self._batches.append(batch)
        if self._at_once:
            self.read()

    def add_norm(self, batch: _Batch, norm: Tensor | None) -> None:
        """Add the norm [] of the gradients up to a batch; raises as `add`."""
        if norm is not None:
            self._norms.append((batch, norm))
        if self._at_once:
            self.read()

    def read(self) -> None:
        """Read what was added; raises NonFiniteLossError for the first that is not finite."""
        batches, self._batches = self._batches, []
        norms, self._norms = self._norms, []
        # one copy for all of them; class numbers are exact in float64, too
        parts = [batch.loss for batch in batches] + [norm for _, norm in norms]
        parts += [batch.guesses for batch in batches]
        if not parts:
            return
        values = iter(torch.cat([part.double().reshape(-1) for part in parts]).tolist())
        losses = [next(values) for _ in batches]
        found = [(batch, "loss", loss) for batch, loss in zip(batches, losses, strict=True)]
        found += [(batch, "gradient's norm", next(values)) for batch, _ in norms]
        self._check(found)
        classes, sizes = len(self._part.confusion), self._setup.train_sampler.sizes
        has_classes = TARGETS[self._setup.task.target].is_class
        for batch, loss in zip(batches, losses, strict=True):
            guesses = np.array([next(values) for _ in range(len(batch.guesses))], dtype=np.int64)
            if has_classes:
                self._part.confusion += confusion_matrix(batch.truth, guesses, classes)
            self._part.total += loss * sizes[batch.number]
            self._part.seen += sizes[batch.number]
            self._part.recent.append(loss)
            self.loss = loss

    def _check(self, found: Sequence[tuple[_Batch, str, float]]) -> None:
        """Raise NonFiniteLossError for the first batch with a value that is not finite."""
        wrong = [each for each in found if not math.isfinite(each[2])]
        if not wrong:
            return
        batch, name, value = min(wrong, key=lambda each: each[0].number)
        ids = [self._setup.data.train[index].id for index in batch.indices.tolist()]
        names = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
        number, count = batch.number + 1, len(self._setup.train_sampler.sizes)
        kept = "the weights were not updated" if self._at_once else "no weights were saved since"
        raise NonFiniteLossError(
            f"the {name} is {value} in epoch {self._epoch}, batch {number} of {count} ({names}); "
            f"{kept}",
            hint="lower optim.lr, lengthen sched.warmup_epochs, or look at these images",
        )


def _begin_epoch(setup: Setup, epoch: int, part: Part | None) -> tuple[Iterator[Any], Part]:
    """The batches of an epoch that are left, and what the others added up: nothing at first."""
    seed_torch(setup.config.train.seed, epoch, setup.fabric.global_rank)
    setup.train_sampler.epoch = epoch
    setup.train_sampler.skip = part.batches if part else 0
    train_mode(setup.model)
    batches = iter(setup.train_loader)  # draws a random number
    if part:
        restore_random(setup, part)
        return batches, part
    classes = len(setup.task.classes)
    return batches, Part(np.zeros((classes, classes), dtype=np.int64))


def _time_waiting(batches: Iterator[Any], part: Part) -> Iterator[Any]:
    """The batches; `part` gets how long they were waited for."""
    started = time.monotonic()
    for batch in batches:
        part.waited += time.monotonic() - started
        yield batch
        started = time.monotonic()


def _forward(
    setup: Setup, copies: DeviceCopies, images: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, NDArray[np.int64]]:
    """Loss of the batch over all processes, and predicted and true classes of its images.

    The predicted classes are still on the device; they mean nothing where an image has several
    classes or a number.
    """
    copied, targets = copies.copy(images, labels)
    batch = copied.contiguous(memory_format=torch.channels_last)
    if setup.mixer is not None:
        batch, targets = setup.mixer(batch, targets)
    usual = setup.config.train.batch_size // setup.fabric.world_size
    with skip_odd_batch(len(batch), usual) if setup.config.train.compile else nullcontext():
        logits = setup.model(batch).float()
    if setup.fabric.world_size > 1:
        logits, targets, labels = _gather(setup, logits, targets, labels)
    return setup.loss(logits, targets), logits.detach().argmax(1), labels.numpy()


def _gather(
    setup: Setup, logits: Tensor, targets: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, targets and labels of all processes in the order of the whole batch.

    The logits have their gradients. The loss of the whole batch is then the same in every process,
    also for losses that are no mean over images.
    """
    share = setup.config.train.batch_size // setup.fabric.world_size
    absent = share - len(labels)  # the last batch may not divide evenly

    def collect(part: Tensor) -> Tensor:
        padded = functional.pad(part, (0, 0) * (part.ndim - 1) + (0, absent))
        return gather_images(setup.fabric, padded)

    labels = setup.fabric.to_device(labels)
    # the first process alone gets the signal to save: it says so with 2 for an image
    word = 2.0 if setup.saving.asked else 1.0
    words = collect(torch.full((len(labels),), word, device=labels.device))
    setup.saving.agreed = bool((words > 1).any())
    present = words.bool()
    return collect(logits)[present], collect(targets)[present], collect(labels)[present].cpu()


def take_step(setup: Setup, images: Tensor, labels: Tensor) -> None:
    """One step of training with a batch [n, 3, height, width] and its labels [n, ...]."""
    train_mode(setup.model)
    loss, _, _ = _forward(setup, DeviceCopies(setup.fabric), images, labels)
    setup.fabric.backward(loss)
    _clip_gradients(setup)
    _update_weights(setup)


def _clip_gradients(setup: Setup) -> Tensor | None:
    """Clip the gradients; returns their norm [], None where it need not be finite.

    With float16 it may be infinite, and then Fabric's scaler leaves out the step.
    """
    train, fabric = setup.config.train, setup.fabric
    if not train.clip_grad:
        return None
    scaler = getattr(fabric.strategy.precision, "scaler", None)
    if scaler is not None:  # Fabric refuses to clip for fused optimizers, though torch can
        scaler.unscale_(setup.optimizer.optimizer)
        torch.nn.utils.clip_grad_norm_(setup.model.parameters(), train.clip_grad)
        return None
    norm = fabric.clip_gradients(
        setup.model, setup.optimizer, max_norm=train.clip_grad, error_if_nonfinite=False
    )
    # the norm of gradients that are divided among processes is divided, too
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def _update_weights(setup: Setup) -> float:
    """One optimizer step; returns the learning rate of this step."""
    setup.optimizer.step()
    setup.optimizer.zero_grad()
    if setup.ema is not None:
        update_average(setup.ema, setup.model.module, setup.config.train.ema)
    lr = float(setup.scheduler.get_last_lr()[-1])
    setup.scheduler.step()
    return lr
