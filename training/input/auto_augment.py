"""torchvision's automatic augmentations as steps of a pipeline.

They draw from torch's global generator. A step seeds it with a number of the image's own generator
and puts it back afterwards, so an image is the same in every loader process.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torchvision.transforms import InterpolationMode, v2

ERASED = 0.25  # share of the images of strong with an erased part, as timm's recipes have it


class TorchvisionStep:
    """A transform of torchvision that is called and seeded as albumentations' steps are."""

    def __init__(self, transform: v2.Transform, *, as_tensor: bool = False) -> None:
        """`transform` gets a PIL image, or with `as_tensor` a tensor uint8 [3, height, width].

        PIL's result does not depend on torch's number of threads; a tensor's may.
        """
        self._transform = transform
        self._as_tensor = as_tensor
        self._generator: Any = np.random.default_rng(0)

    def set_random_state(self, generator: Any, python: random.Random) -> None:
        """Draw from this numpy generator from now on; `python` is not used."""
        self._generator = generator

    def __call__(self, *, image: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
        """RGB uint8 [h, w, 3] in and out, as {"image": ...}."""
        seed = int(self._generator.integers(1 << 62))
        with _seed_torch(seed):
            if self._as_tensor:
                tensor = torch.from_numpy(image).permute(2, 0, 1)
                return {"image": self._transform(tensor).permute(1, 2, 0).numpy()}
            return {"image": np.array(self._transform(Image.fromarray(image)))}


@contextmanager
def _seed_torch(seed: int) -> Iterator[None]:
    """Within, torch's generator of the CPU is seeded; then it is as before.

    torch.manual_seed would also seed the GPUs, whose generators draw dropout.
    """
    before = torch.default_generator.get_state()
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)


def build_auto_steps(name: str, mean: Sequence[float]) -> list[TorchvisionStep]:
    """What `auto` and `strong` do after crop and flip.

    auto: one operation of TrivialAugment (arXiv 2103.10158). strong: two of RandAugment (arXiv
    1909.13719), then an erased part (arXiv 1708.04896). Empty areas get the `mean` color, 0..1.
    """
    color = [round(255 * channel) for channel in mean]
    options: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "fill": color}
    if name == "auto":
        return [TorchvisionStep(v2.TrivialAugmentWide(**options))]
    erase = v2.RandomErasing(p=ERASED, value=color)
    return [
        TorchvisionStep(v2.RandAugment(**options)),
        TorchvisionStep(erase, as_tensor=True),
    ]
