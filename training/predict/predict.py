"""Predict a list of images with a model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tracker.training.config import Config, EvalConfig
from tracker.training.data.split import name_group
from tracker.training.fabric import Fabric
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import ImageSource, build_dataset, build_loader
from tracker.training.input.sampler import OrderedBatches
from tracker.training.predict.probabilities import Predictions
from tracker.training.processes import gather_images
from tracker.training.targets import TARGETS, stack_values

# For crops: an eighth larger than the image, like 256 to 224 pixels in the usual evaluation.
ENLARGED = 1.125


class Predictor:
    """Predicts lists of images; a loader is built once. Each process must make the same calls."""

    def __init__(
        self, config: Config, data: LoadedData, task: Task, fabric: Fabric, source: ImageSource
    ) -> None:
        self._config = config
        self._data = data
        self._task = task
        self._fabric = fabric
        self._source = source
        self._validation: Any = None

    def validate(self, model: Any) -> Predictions:
        """Predict the validation images as in training; the eval section is not used."""
        if self._validation is None:
            size = self._config.train.eval_batch_size
            self._validation = self._build_loader(
                [sample.path for sample in self._data.val], size, None
            )
        return self._build_validation(self._predict(model, self._validation, "none"))

    def validate_as_eval(self, model: Any) -> Predictions:
        """Predict the validation images with the settings of the eval section."""
        evaluation = self._config.eval
        loader = self._build_loader(
            [sample.path for sample in self._data.val], evaluation.batch_size, evaluation
        )
        return self._build_validation(self._predict(model, loader, self._config.eval.tta))

    def evaluate(self, model: Any) -> Predictions:
        """Predict the evaluation images with the settings of the eval section."""
        evaluation = self._config.eval
        loader = self._build_loader(
            [image.path for image in self._data.eval], evaluation.batch_size, evaluation
        )
        logits = self._predict(model, loader, self._config.eval.tta)
        return self._build_predictions([image.id for image in self._data.eval], logits)

    def _build_loader(
        self, paths: Sequence[Path], batch_size: int, evaluation: EvalConfig | None
    ) -> Any:
        """This process's part of the images, in order.

        Only the color jitter of `evaluation` is random.
        """
        dataset, _ = build_dataset(
            self._config, paths, [0] * len(paths), self._source, train=False, evaluation=evaluation
        )
        sampler = OrderedBatches(
            len(paths), batch_size, rank=self._fabric.global_rank, world=self._fabric.world_size
        )
        return build_loader(dataset, sampler, workers=self._config.data.workers, pin_memory=False)

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

    def _predict(self, model: Any, loader: Any, tta: str) -> Tensor:
        """Logits [images, outputs], float32 on the CPU; the last image may be there twice or more.

        With test-time augmentation those of the views are averaged as `Target.average` says.
        """
        fabric, average = self._fabric, TARGETS[self._task.target].average
        model.eval()
        parts = []
        with torch.inference_mode(), fabric.autocast():
            for images, _, _ in loader:
                batch = fabric.to_device(images.contiguous(memory_format=torch.channels_last))
                views = [model(view).float() for view in _list_views(batch, tta)]
                parts.append(views[0] if len(views) == 1 else average(torch.stack(views)))
        logits = torch.cat(parts)
        return gather_images(fabric, logits).cpu()


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
