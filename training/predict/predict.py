"""Predict a list of images with a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tracker.training.config import Config, EvalConfig
from tracker.training.data.split import name_group
from tracker.training.fabric import Fabric
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import (
    ImageDataset,
    ImageSource,
    build_dataset,
    build_loader,
)
from tracker.training.input.sampler import OrderedBatches
from tracker.training.input.to_device import DeviceCopies
from tracker.training.model.compiled import skip_odd_batch
from tracker.training.predict.probabilities import Predictions
from tracker.training.predict.threads import count_readers, predict_in_threads
from tracker.training.processes import gather_images
from tracker.training.targets import TARGETS, stack_values

# For crops: an eighth larger than the image, like 256 to 224 pixels in the usual evaluation.
ENLARGED = 1.125


@dataclass(frozen=True)
class _Reading:
    """How a list of images is read: by a loader, or by a dataset for each thread that predicts."""

    count: int
    batch_size: int
    loader: Any = None
    datasets: Sequence[ImageDataset] = ()


class Predictor:
    """Predicts lists of images, one process on a CPU in threads, otherwise with a loader.

    What reads the validation images is built once. Each process must make the same calls.
    `compiled`: models are compiled first, unless threads share them.
    """

    def __init__(
        self,
        config: Config,
        data: LoadedData,
        task: Task,
        fabric: Fabric,
        source: ImageSource,
        *,
        compiled: bool = False,
    ) -> None:
        self._config = config
        self._data = data
        self._task = task
        self._fabric = fabric
        self._source = source
        self._copies = DeviceCopies(fabric)
        self._in_threads = fabric.device.type == "cpu" and fabric.world_size == 1
        self._compiled = compiled and not self._in_threads
        self._validation: _Reading | None = None

    def validate(self, model: Any) -> Predictions:
        """Predict the validation images as in training; the eval section is not used."""
        if self._validation is None:
            size = self._config.train.eval_batch_size
            self._validation = self._prepare([sample.path for sample in self._data.val], size, None)
        return self._build_validation(self._predict(model, self._validation, "none"))

    def validate_as_eval(self, model: Any) -> Predictions:
        """Predict the validation images with the settings of the eval section."""
        evaluation = self._config.eval
        images = self._prepare(
            [sample.path for sample in self._data.val], evaluation.batch_size, evaluation
        )
        return self._build_validation(self._predict(model, images, self._config.eval.tta))

    def evaluate(self, model: Any) -> Predictions:
        """Predict the evaluation images with the settings of the eval section."""
        evaluation = self._config.eval
        images = self._prepare(
            [image.path for image in self._data.eval], evaluation.batch_size, evaluation
        )
        logits = self._predict(model, images, self._config.eval.tta)
        return self._build_predictions([image.id for image in self._data.eval], logits)

    def _prepare(
        self, paths: Sequence[Path], batch_size: int, evaluation: EvalConfig | None
    ) -> _Reading:
        """This process's part of the images, in order.

        Only the color jitter of `evaluation` is random.
        """
        readers = count_readers(batch_size) if self._in_threads else 1
        datasets = [
            build_dataset(
                self._config,
                paths,
                [0] * len(paths),
                self._source,
                train=False,
                evaluation=evaluation,
            )[0]
            for _ in range(readers)  # what prepares images is not for two threads
        ]
        if self._in_threads:
            return _Reading(len(paths), batch_size, datasets=datasets)
        sampler = OrderedBatches(
            len(paths), batch_size, rank=self._fabric.global_rank, world=self._fabric.world_size
        )
        loader = build_loader(
            datasets[0],
            sampler,
            workers=self._config.data.workers,
            pin_memory=self._fabric.device.type == "cuda",
        )
        return _Reading(len(paths), batch_size, loader=loader)

    def _build_validation(self, logits: Tensor) -> Predictions:
        predictions = self._build_predictions([sample.id for sample in self._data.val], logits)
        predictions = replace(predictions, labels=stack_values(self._data.val, self._task))
        name = name_group(self._config.data)
        if not name:
            return predictions
        groups = tuple(sample.group for sample in self._data.val)
        return replace(predictions, groups=groups, group_name=name)

    def _build_predictions(self, ids: Sequence[str], logits: Tensor) -> Predictions:
        logits = logits[: len(ids)]
        probabilities = TARGETS[self._task.target].activate(logits).numpy()
        return Predictions(
            tuple(ids), probabilities, classes=self._task.classes, logits=logits.numpy()
        )

    def _predict(self, model: Any, images: _Reading, tta: str) -> Tensor:
        """Logits [images, outputs], float32 on the CPU; the last image may be there twice or more.

        With test-time augmentation those of the views are averaged as `Target.average` says.
        """
        model.eval()
        if self._compiled:
            model = torch.compile(model)
        forward = partial(self._forward, model, tta, images.batch_size)
        if images.datasets:
            return predict_in_threads(
                images.datasets,
                images.count,
                batch_size=images.batch_size,
                forward=forward,
                modes=self._modes,
            )
        with self._modes():
            parts = [forward(batch) for batch, _, _ in images.loader]
        logits = torch.cat(parts)
        return gather_images(self._fabric, logits).cpu()

    @contextmanager
    def _modes(self) -> Iterator[None]:
        """torch's modes for predictions, of the thread that enters them.

        Kept over all batches: autocast keeps the weights that it has cast until it is left.
        """
        with torch.inference_mode(), self._fabric.autocast():
            yield

    def _forward(self, model: Any, tta: str, usual: int, images: Tensor) -> Tensor:
        """Logits of a batch [n, 3, height, width], where `usual` batches have so many images."""
        (batch,) = self._copies.copy(images)
        batch = batch.contiguous(memory_format=torch.channels_last)
        share = usual // self._fabric.world_size
        with skip_odd_batch(len(batch), share) if self._compiled else nullcontext():
            views: list[Tensor] = [model(view).float() for view in _list_views(batch, tta)]
        if len(views) == 1:
            return views[0]
        averaged: Tensor = TARGETS[self._task.target].average(torch.stack(views))
        return averaged


def _list_views(batch: Tensor, tta: str) -> Iterator[Tensor]:
    """Views [batch, 3, height, width]: original, mirrored, or four corners and the center."""
    mirrored = tta in ("flip", "crops_flip")
    for view in _list_crops(batch) if tta.startswith("crops") else (batch,):
        yield view
        if mirrored:
            yield view.flip(3)


def _list_crops(batch: Tensor) -> Iterator[Tensor]:
    height, width = batch.shape[2:]
    large = functional.interpolate(
        batch,
        size=(round(height * ENLARGED), round(width * ENLARGED)),
        mode="bilinear",
        align_corners=False,
    )
    down, right = large.shape[2] - height, large.shape[3] - width
    for top, left in ((0, 0), (0, right), (down, 0), (down, right), (down // 2, right // 2)):
        yield large[:, :, top : top + height, left : left + width].contiguous(
            memory_format=torch.channels_last
        )
