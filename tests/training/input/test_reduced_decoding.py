"""A large JPEG is made smaller while it is decoded, where data.decode says so."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tracker.training.config import (
    AugmentConfig,
    Config,
    DataConfig,
    config_to_dict,
    format_defaults,
)
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.formats import FORMATS
from tracker.training.formats.images import decode_image, read_image, read_jpeg_size
from tracker.training.input.augment import Pipeline, build_pipeline

SIDE = 64


def build(decode: str, *, train: bool = False, **augment: object) -> Pipeline:
    data = DataConfig(image_size=(SIDE, SIDE), decode=decode)
    return build_pipeline(AugmentConfig(**augment), data, root=Path(), train=train)


def save_slopes(path: Path, size: tuple[int, int], *, orientation: int = 1) -> Path:
    """An image (width, height) whose red grows to the right, and its green downwards."""
    red, green = np.meshgrid(np.linspace(0, 255, size[0]), np.linspace(0, 255, size[1]))
    exif = Image.Exif()
    exif[0x0112] = orientation
    pixels = np.stack([red, green, np.full_like(red, 90)], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=95, exif=exif)
    return path


def run(pipeline: Pipeline, path: Path, seed: int = 0) -> np.ndarray:
    out = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    pipeline.finish(pipeline.prepare(pipeline.decode(path, seed=seed)), out, seed=seed)
    return out * 0.24 * 255  # about grey levels


@pytest.mark.parametrize("crop_mode", ["squash", "center"])
@pytest.mark.parametrize("orientation", [1, 6])
def test_a_photograph_is_decoded_to_twice_its_resize_or_more_and_looks_the_same(
    tmp_path: Path, orientation: int, crop_mode: str
) -> None:
    path = save_slopes(tmp_path / "a.jpg", (900, 600), orientation=orientation)
    kind = {"crop_mode": crop_mode, "interpolation": "bilinear"}
    full, reduced = build("full", **kind), build("reduced", **kind)
    whole = decode_image(path).shape
    assert whole[:2] == ((600, 900) if orientation == 1 else (900, 600))
    assert full.decode(path).shape == whole
    assert reduced.decode(path).shape == (whole[0] // 4, whole[1] // 4, 3)
    assert np.abs(run(full, path) - run(reduced, path)).max() < 4
    assert full.key != reduced.key


def test_what_is_small_or_no_jpeg_or_cropped_by_pixels_is_decoded_in_full(tmp_path: Path) -> None:
    reduced = build("reduced")
    small = save_slopes(tmp_path / "small.jpg", (300, 4 * SIDE - 1))
    png = save_slopes(tmp_path / "large.png", (900, 600))
    for path in (small, png):
        np.testing.assert_array_equal(reduced.decode(path), decode_image(path))
    large = save_slopes(tmp_path / "large.jpg", (900, 600))
    custom = build("reduced", name="custom", crop=(100, 100))
    np.testing.assert_array_equal(custom.decode(large), decode_image(large))
    cut = tmp_path / "cut.jpg"
    for length in range(0, 700, 7):  # whatever is left of a head is told or refused, not raised
        cut.write_bytes(large.read_bytes()[:length])
        assert read_jpeg_size(read_image(cut)) in (None, (600, 900))
    assert read_jpeg_size(read_image(large)) == (600, 900)


def test_the_drawn_crop_decides_how_far_a_photograph_is_reduced_and_stays_the_same(
    tmp_path: Path,
) -> None:
    path = save_slopes(tmp_path / "a.jpg", (1200, 900), orientation=6)
    kind = {"name": "standard", "scale": 0.02}
    full, reduced = (build(decode, train=True, **kind) for decode in ("full", "reduced"))
    heights = set()
    for seed in range(12):
        heights.add(height := reduced.decode(path, seed=seed).shape[0])
        whole = run(full, path, seed)
        # a pixel of the smallest reduced image is two grey levels of a slope
        assert np.abs(whole - run(reduced, path, seed)).max() < 8
        # the crop's sides by its slopes: twice the model's, as it is decoded
        sides = np.ptp(whole[..., 0]) / 255 * 1200, np.ptp(whole[..., 1]) / 255 * 900
        assert min(sides) * height / 1200 >= 1.8 * SIDE or height == 1200
    assert len(heights) >= 2
    assert heights <= {1200, 600, 300, 150}


def test_new_workspaces_reduce_and_runs_made_before_stay_what_they_were() -> None:
    assert "decode" not in format_defaults({"data": {"format": "csv"}})["data"]
    assert Config().data.decode == "full"
    reducing = {name for name, known in FORMATS.items() if known.init_keys == {"decode": "reduced"}}
    assert reducing == set(FORMATS) - {"mask_profiles"}
    before = config_to_dict(Config())
    del before["data"]["decode"]
    assert config_fingerprint(before) == config_fingerprint(config_to_dict(Config()))
