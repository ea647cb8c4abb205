"""Tiny real images and data folders for the tests of training."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from training.data import Task

TWO = Task(classes=("cat", "dog"), id_column="ImageID", label_column="ans", answer_words=("0", "1"))


def save_image(path: Path, *, seed: int, mode: str = "RGB", size: tuple[int, int] = (24, 20)) -> Path:
    """A photograph of noise around a colour that depends on the seed; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 80, (size[1], size[0], 3)) + 120 * (seed % 2)
    Image.fromarray(noise.astype(np.uint8)).convert(mode).save(path)
    return path


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train/{cat,dog} with 12 images each and eval/images with 6, eval/info.csv."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(12):
            save_image(tmp_path / "train" / name / f"{name}{number:02d}.png", seed=2 * number + label)
    names = []
    for number in range(6):
        save_image(tmp_path / "eval" / "images" / f"e{number}.png", seed=100 + number)
        names.append(f"e{number}.png")
    (tmp_path / "eval" / "info.csv").write_text("ImageID,ans\n" + "".join(f"{name},0\n" for name in names))
    return tmp_path
