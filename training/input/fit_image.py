"""Resize an image to the model's size as timm does for evaluation, and crop the center."""

from __future__ import annotations

import math
from typing import Any

import albumentations as albu
import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

Size = tuple[int, int]  # height, width
FILTERS = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}


class FitImage(albu.ImageOnlyTransform):  # type: ignore[misc]
    """RGB uint8 [h, w, 3] to [*size, 3]: resize to `size` / crop_pct, then crop the center.

    `crop_mode` squash: both sides to that size; center: the aspect ratio stays, and what is too
    long is cut off. `interpolation` bilinear or bicubic: Pillow's, which average where an image
    shrinks, as timm has it; area: cv2's.
    """

    def __init__(self, size: Size, crop_pct: float, crop_mode: str, interpolation: str) -> None:
        super().__init__(p=1.0)
        self.size = size
        self.crop_pct = crop_pct
        self.crop_mode = crop_mode
        self.interpolation = interpolation

    def apply(self, img: NDArray[np.uint8], **_params: Any) -> NDArray[np.uint8]:
        """The resized and cropped image."""
        height, width = self.find_size(*img.shape[:2])
        if self.interpolation == "area":
            shrinks = height < img.shape[0] or width < img.shape[1]
            resized = cv2.resize(
                img, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            )
        else:
            resized = np.asarray(
                Image.fromarray(img).resize((width, height), FILTERS[self.interpolation])
            )
        top, left = (
            round((whole - part) / 2)
            for whole, part in zip((height, width), self.size, strict=True)
        )
        return np.ascontiguousarray(resized[top : top + self.size[0], left : left + self.size[1]])

    def find_size(self, height: int, width: int) -> Size:
        """The size before the center crop, rounded as in timm and torchvision."""
        target = (
            math.floor(self.size[0] / self.crop_pct),
            math.floor(self.size[1] / self.crop_pct),
        )
        if self.crop_mode == "squash":
            return target
        if target[0] == target[1]:
            long = int(target[0] * max(height, width) / min(height, width))
            return (target[0], long) if height <= width else (long, target[0])
        ratio = min(height / target[0], width / target[1])
        return max(self.size[0], round(height / ratio)), max(self.size[1], round(width / ratio))

    def get_transform_init_args_names(self) -> tuple[str, ...]:
        """The arguments that decide the result; they are part of the cache key."""
        return ("size", "crop_pct", "crop_mode", "interpolation")
