"""The winners' side of the comparisons: their photographs, as they read them, and what they did to
them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch.utils.data import Dataset
from torchvision import transforms

from tracker.setup.demo_faces import make_competition
from tracker.training.config import AugmentConfig, DataConfig
from tracker.training.formats.mask_profiles import MASK_PROFILE_CLASSES
from tracker.training.formats.samples import Task

MEAN, STD = (0.548, 0.504, 0.479), (0.237, 0.247, 0.246)
WIDTH, HEIGHT = 384, 512
TASK = Task(
    classes=MASK_PROFILE_CLASSES,
    id_column="ImageID",
    label_column="ans",
    answer_words=tuple(str(number) for number in range(18)),
)

SIZE = 224
# ours for the same photographs and the same augmentation
DATA = DataConfig(
    format="mask_profiles",
    train_dir="train",
    eval_dir="eval",
    split="by_profile",
    image_size=(SIZE, SIZE),
    workers=1,
)
AUGMENT = AugmentConfig(name="custom", jitter_mode="fast")


class Photographs(Dataset[tuple[torch.Tensor, int]]):
    """As the winners read them: PIL, torchvision."""

    def __init__(
        self, items: list[tuple[Path, int]], transform: Callable[[Image.Image], torch.Tensor]
    ) -> None:
        self._items = items
        self._transform = transform

    def __len__(self) -> int:
        return len(self._items)

    def __getitem__(self, index: int) -> tuple[torch.Tensor, int]:
        path, label = self._items[index]
        with Image.open(path) as image:
            return self._transform(image.convert("RGB")), label


def build_custom(size: int, *, jitter: bool = True) -> Callable[[Image.Image], torch.Tensor]:
    """Their augmentation `custom`."""
    steps = [
        transforms.CenterCrop((320, 256)),
        transforms.Resize((size, size), Image.Resampling.BILINEAR),
        *([transforms.ColorJitter(0.1, 0.1, 0.1, 0.1)] if jitter else []),
        transforms.ToTensor(),
        transforms.Normalize(MEAN, STD),
    ]
    composed: Callable[[Image.Image], torch.Tensor] = transforms.Compose(steps)
    return composed


def make_photographs(root: Path, people: int, *, eval_people: int = 0) -> None:
    """The demo's drawn faces as JPEG files of the competition's size, train/ and eval/.

    By default as many people to predict as to train with; each has seven photographs.
    """
    make_competition(root, people=people, eval_people=eval_people or people, seed=7)
    for number, path in enumerate(sorted(root.rglob("*.jpg"))):
        save_photograph(path, path, seed=number)


def save_photograph(source: Path, target: Path, *, seed: int) -> None:
    """A picture enlarged to the competition's size, as a JPEG of some 60 KB."""
    with Image.open(source) as image:
        large = image.convert("RGB").resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(
        0, 6, (HEIGHT, WIDTH, 3)
    )  # a photograph is not that smooth
    Image.fromarray((np.asarray(large) + noise).clip(0, 255).astype(np.uint8)).save(
        target, quality=88
    )
