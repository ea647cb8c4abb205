"""Batches whose images are mixed with each other."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from tracker.training.config import AugmentConfig

Mixer = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def build_mixer(config: AugmentConfig, classes: int | None) -> Mixer | None:
    """Mixup (arXiv 1710.09412) or cutmix (arXiv 1905.04899); with both, one at random per batch.

    Images [batch, 3, h, w] and labels int64 [batch] in; mixed images and shares of the classes
    [batch, classes] out. Without `classes`, values [batch, outputs] are mixed as they are. None
    when both are off. Draws from torch's generator.
    """
    if not (config.mixup or config.cutmix):
        return None
    from torchvision.transforms import v2

    kinds: list[Mixer] = []
    if config.mixup:
        kinds.append(v2.MixUp(alpha=config.mixup, num_classes=classes))
    if config.cutmix:
        kinds.append(v2.CutMix(alpha=config.cutmix, num_classes=classes))

    def mix(images: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        kind = kinds[int(torch.randint(len(kinds), ()))]
        return kind(images, labels)

    return mix
