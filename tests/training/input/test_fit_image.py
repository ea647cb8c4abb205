"""Images resized and cut as timm does it, against timm's own transforms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from timm.data import create_transform

from tracker.training.config import AugmentConfig, DataConfig
from tracker.training.errors import ConfigError
from tracker.training.input.augment import build_pipeline
from tracker.training.input.fit_image import FitImage

SHAPES = [(48, 64), (64, 48), (30, 200), (33, 33), (500, 375)]


def make_noise(height: int, width: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(32, 32), (24, 40), (47, 31)])
@pytest.mark.parametrize("crop_pct", [0.875, 0.95, 1.0])
@pytest.mark.parametrize("mode", ["center", "squash"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic"])
def test_pixels_are_those_of_timm(
    size: tuple[int, int], crop_pct: float, mode: str, interpolation: str
) -> None:
    theirs = create_transform(
        (3, *size), crop_pct=crop_pct, crop_mode=mode, interpolation=interpolation, normalize=False
    )
    for shape in SHAPES:
        image = make_noise(*shape)
        wanted = theirs(Image.fromarray(image)).permute(1, 2, 0).numpy()
        np.testing.assert_array_equal(
            FitImage(size, crop_pct, mode, interpolation)(image=image)["image"], wanted
        )


def test_base_makes_the_batch_that_timm_makes() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    data = DataConfig(image_size=(32, 32), mean=mean, std=std)
    augment = AugmentConfig(crop_pct=0.875, crop_mode="center", interpolation="bicubic")
    pipeline = build_pipeline(augment, data, root=Path(), train=True)
    image, out = make_noise(50, 70), np.empty((32, 32, 3), dtype=np.float32)
    pipeline.finish(pipeline.prepare(image), out, seed=0)
    theirs = create_transform(
        (3, 32, 32), crop_pct=0.875, crop_mode="center", interpolation="bicubic", mean=mean, std=std
    )
    np.testing.assert_allclose(
        out, theirs(Image.fromarray(image)).permute(1, 2, 0).numpy(), atol=1e-5
    )


def test_area_takes_the_same_part_of_the_image() -> None:
    image = np.zeros((40, 80, 3), dtype=np.uint8)
    image[:, 20:60] = 200  # the middle square
    for shape in (1, 2):
        big = image.repeat(shape, axis=0).repeat(shape, axis=1)
        assert (FitImage((20, 20), 1.0, "center", "area")(image=big)["image"] == 200).all()
    assert (FitImage((20, 20), 1.0, "squash", "area")(image=image)["image"] == 0).any()


def test_prepared_images_of_other_crops_are_kept_apart_and_the_whole_image_as_before() -> None:
    data = DataConfig(image_size=(20, 24))
    augments = [
        AugmentConfig(),
        AugmentConfig(crop_pct=0.5),
        AugmentConfig(interpolation="bicubic"),
    ]
    pipelines = [build_pipeline(augment, data, root=Path(), train=False) for augment in augments]
    assert len({pipeline.key for pipeline in pipelines}) == len(pipelines)
    assert all(pipeline.prepared_shape == (20, 24, 3) for pipeline in pipelines)
    assert not isinstance(pipelines[0]._head[0], FitImage)


def test_a_crop_that_was_not_looked_up_is_an_error_and_no_crop() -> None:
    with pytest.raises(ConfigError, match="crop_pct has no number yet"):
        build_pipeline(AugmentConfig(crop_pct="model"), DataConfig(), root=Path(), train=True)
