"""The albumentations pipelines, by name."""

from __future__ import annotations

from typing import Any

from training.config import AugmentConfig, DataConfig


def build_pipeline(augment: AugmentConfig, data: DataConfig, *, train: bool) -> Any:
    """An albumentations Compose: RGB uint8 [h, w, 3] in, normalised float32 [height, width, 3] out.

    Random steps are left out when `train` is False.
    """
    import albumentations as albu

    height, width = data.image_size
    # cv2's bilinear resize skips pixels when it shrinks; area averages them.
    resize = albu.Resize(height, width, area_for_downscale="image")
    steps: list[Any] = []
    if augment.name == "custom":
        steps.append(albu.CenterCrop(*augment.crop, pad_if_needed=True))
    steps.append(resize)
    if augment.name == "custom" and train and augment.jitter:
        near_one = (1 - augment.jitter, 1 + augment.jitter)
        steps.append(albu.ColorJitter(near_one, near_one, near_one, (-augment.jitter, augment.jitter), p=1.0))
    steps.append(albu.Normalize(data.mean, data.std))
    return albu.Compose(steps)
