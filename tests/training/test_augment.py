"""What the model sees of an image: named pipelines, pipeline files, colours as a matrix, evaluation, batches."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as albu
import cv2
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.conftest import save_image
from training.augment import build_pipeline
from training.colour import jitter_matrix, normalisation_matrix
from training.config import AugmentConfig, Config, DataConfig, EvalConfig
from training.errors import ConfigError, DataError
from training.images import decode_image
from training.loader import BatchSampler, ImageDataset, Source, build_dataset, build_loader
from training.pipeline_file import keep_pipeline_file, pin_pipeline_file

SMALL = DataConfig(image_size=(32, 32))
BASE, CUSTOM = AugmentConfig(), AugmentConfig(name="custom")
FAST = replace(CUSTOM, jitter_mode="fast")


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A smooth picture of 400 times 400 pixels."""
    coarse = np.random.default_rng(3).integers(40, 216, (6, 6, 3)).astype(np.uint8)
    path = tmp_path / "picture.png"
    cv2.imwrite(str(path), cv2.resize(coarse, (400, 400), interpolation=cv2.INTER_LINEAR))
    return path


def look(
    path: Path,
    augment: AugmentConfig,
    *,
    train: bool = True,
    evaluation: EvalConfig | None = None,
    position: tuple[int, int] = (1, 0),
    data: DataConfig = SMALL,
) -> torch.Tensor:
    """The image as the model sees it."""
    pipeline = build_pipeline(augment, data, root=path.parent, train=train, evaluation=evaluation)
    count = position[1] + 1
    return ImageDataset([path] * count, [0] * count, pipeline, seed=1)[position][0]


def save_pipeline(folder: Path, steps: Sequence[Any], name: str = "file.yaml") -> AugmentConfig:
    """A config that names a file with these steps."""
    albu.save(albu.Compose(list(steps)), folder / name, data_format="json" if name.endswith(".json") else "yaml")
    return AugmentConfig(name=name)


def grey_levels(image: torch.Tensor) -> NDArray[np.float64]:
    """A normalised image in 0..255 again."""
    mean, std = (np.array(values).reshape(3, 1, 1) for values in (SMALL.mean, SMALL.std))
    values: NDArray[np.float64] = (image.numpy().astype(np.float64) * std + mean) * 255
    return values


# --- Named pipelines --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("augment", [CUSTOM, FAST, replace(BASE, noise=0.1)])
def test_an_image_depends_on_seed_epoch_and_place_alone(tmp_path: Path, augment: AugmentConfig) -> None:
    paths = [save_image(tmp_path / f"{n}.png", seed=n, size=(400, 400)) for n in range(2)]
    pipeline = build_pipeline(augment, SMALL, root=tmp_path, train=True)
    data = ImageDataset(paths, [0, 1], pipeline, seed=5)
    first = data[1, 0][0].clone()
    data[1, 1]
    data[2, 0]
    assert torch.equal(data[1, 0][0], first)
    assert not torch.equal(data[2, 0][0], first)
    assert not torch.equal(ImageDataset(paths, [0, 1], pipeline, seed=6)[1, 0][0], first)


def test_every_option_of_training_changes_the_image_in_training_alone(picture: Path) -> None:
    random = [CUSTOM, replace(CUSTOM, jitter=0.2), FAST, replace(CUSTOM, noise=0.1), replace(CUSTOM, noise=0.2)]
    seen = [look(picture, augment) for augment in random]
    for number, image in enumerate(seen):
        assert not any(torch.equal(image, other) for other in seen[:number]), random[number]
    evaluated = [look(picture, augment, train=False) for augment in random]
    assert all(torch.equal(image, evaluated[0]) for image in evaluated)
    assert not torch.equal(evaluated[0], look(picture, replace(CUSTOM, crop=(100, 100)), train=False))
    assert not torch.equal(evaluated[0], look(picture, BASE, train=False))
    assert torch.equal(look(picture, BASE), look(picture, BASE, train=False))


def test_custom_equals_albumentations_own_steps(picture: Path) -> None:
    steps = [albu.CenterCrop(320, 256), albu.Resize(32, 32, area_for_downscale="image")]
    expected = albu.Compose([*steps, albu.Normalize(SMALL.mean, SMALL.std)])(image=decode_image(picture))["image"]
    found = look(picture, replace(CUSTOM, jitter=0.0))
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_noise_has_the_standard_deviation_of_the_config(picture: Path) -> None:
    noise = look(picture, replace(BASE, noise=0.5)) - look(picture, BASE)
    assert float(noise.std()) == pytest.approx(0.5, rel=0.1)
    assert float(noise.mean()) == pytest.approx(0.0, abs=0.05)


# --- Colours as a matrix ----------------------------------------------------------------------------------------------

FACTORS = st.tuples(*([st.floats(0.5, 1.5)] * 3), st.floats(-0.5, 0.5))


@given(factors=FACTORS, order=st.permutations(range(4)), seed=st.integers(0, 99))
def test_the_matrix_equals_its_steps_done_one_by_one(
    factors: tuple[float, float, float, float], order: list[int], seed: int
) -> None:
    image = np.random.default_rng(seed).integers(0, 256, (5, 7, 3)).astype(np.float64)
    weights = np.array([0.299, 0.587, 0.114])
    yiq = np.array([weights, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
    angle = -2 * np.pi * factors[3]
    turn = np.array([[1, 0, 0], [0, np.cos(angle), -np.sin(angle)], [0, np.sin(angle), np.cos(angle)]])
    expected = image
    for step in order:
        grey = expected @ weights
        if step == 0:
            expected = expected * factors[0]
        elif step == 1:
            expected = grey.mean() + factors[1] * (expected - grey.mean())
        elif step == 2:
            expected = grey[..., None] + factors[2] * (expected - grey[..., None])
        else:
            expected = np.linalg.solve(yiq, turn @ (expected @ yiq.T)[..., None])[..., 0]
    expected = (expected / 255 - SMALL.mean) / SMALL.std
    matrix = normalisation_matrix(SMALL.mean, SMALL.std) @ jitter_matrix(factors, order, image.mean((0, 1)).tolist())
    np.testing.assert_allclose(image @ matrix[:, :3].T + matrix[:, 3], expected, atol=1e-9)


def test_fast_jitter_without_strength_is_plain_normalisation(picture: Path) -> None:
    plain, fast = (look(picture, replace(FAST, jitter=strength)) for strength in (0.0, 1e-12))
    np.testing.assert_allclose(fast.numpy(), plain.numpy(), atol=1e-5)


def test_fast_jitter_is_near_the_hsv_one_of_the_same_seed_but_for_the_hue(picture: Path) -> None:
    plain = grey_levels(look(picture, replace(CUSTOM, jitter=0.0)))
    apart, moved = [], []
    for epoch in range(1, 41):
        hsv, fast = (grey_levels(look(picture, augment, position=(epoch, 0))) for augment in (CUSTOM, FAST))
        apart.append(np.abs(fast - hsv).mean())
        moved.append(np.abs(hsv - plain).mean())
    assert float(np.mean(apart)) < 8
    assert float(np.mean(moved)) > 1.5 * float(np.mean(apart))


def test_fast_jitter_cuts_nothing_off(tmp_path: Path) -> None:
    path = tmp_path / "white.png"
    cv2.imwrite(str(path), np.full((40, 40, 3), 255, dtype=np.uint8))
    brightest = {
        mode: max(
            grey_levels(look(path, replace(CUSTOM, jitter=0.5, jitter_mode=mode), position=(e, 0))).max()
            for e in range(1, 9)
        )
        for mode in ("hsv", "fast")
    }
    assert brightest["hsv"] == pytest.approx(255, abs=1e-3)
    assert brightest["fast"] > 260


# --- Evaluation -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["hsv", "fast"])
def test_evaluation_options_change_predictions_and_are_the_same_each_time(picture: Path, mode: str) -> None:
    augment = replace(CUSTOM, jitter_mode=mode)
    options = [EvalConfig(), EvalConfig(center_crop=(100, 100)), EvalConfig(color_jitter=0.1)]
    seen = [look(picture, augment, train=False, evaluation=option, position=(0, 1)) for option in options]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    again = [look(picture, augment, train=False, evaluation=option, position=(0, 1)) for option in options]
    assert all(torch.equal(first, second) for first, second in zip(seen, again, strict=True))
    other = look(picture, augment, train=False, evaluation=options[2], position=(0, 0))
    assert not torch.equal(other, seen[2])
    assert torch.equal(seen[0], look(picture, augment, train=False))


def test_the_evaluation_crop_replaces_the_crop_of_training(picture: Path) -> None:
    crop = EvalConfig(center_crop=(320, 256))
    cropped = look(picture, CUSTOM, train=False)
    assert torch.equal(look(picture, BASE, train=False, evaluation=crop), cropped)
    assert torch.equal(look(picture, replace(CUSTOM, crop=(64, 64)), train=False, evaluation=crop), cropped)
    file = save_pipeline(picture.parent, [albu.CenterCrop(32, 32), albu.HorizontalFlip()])
    assert torch.equal(look(picture, file, train=False, evaluation=crop), cropped)


# --- Pipeline files ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["file.yaml", "file.json"])
def test_a_pipeline_file_does_what_its_steps_do(picture: Path, name: str) -> None:
    steps = [
        albu.Resize(48, 40),
        albu.VerticalFlip(p=1.0),
        albu.CenterCrop(32, 32),
        albu.Normalize((0.5,) * 3, (0.2,) * 3),
    ]
    expected = albu.Compose(steps)(image=decode_image(picture))["image"]
    found = look(picture, save_pipeline(picture.parent, steps, name))
    np.testing.assert_allclose(found.permute(1, 2, 0).numpy(), expected, atol=1e-5)


def test_resize_and_normalisation_are_added_where_a_file_has_none(picture: Path) -> None:
    plain = look(picture, BASE)
    flipped = look(picture, save_pipeline(picture.parent, [albu.HorizontalFlip(p=1.0)]))
    np.testing.assert_allclose(flipped.flip(2).numpy(), plain.numpy(), atol=0.02)
    from albumentations.pytorch import ToTensorV2

    own = [albu.Normalize(SMALL.mean, SMALL.std), ToTensorV2()]
    assert torch.allclose(look(picture, save_pipeline(picture.parent, own)), plain, atol=1e-5)


def test_a_file_may_normalise_in_its_own_way(picture: Path) -> None:
    steps = [albu.Normalize(normalization="image"), albu.CoarseDropout(p=1.0, fill=7.0)]
    image = look(picture, save_pipeline(picture.parent, steps))
    assert float(image.max()) == 7.0
    assert abs(float(image[image != 7.0].mean())) < 0.5


def test_random_steps_of_a_file_are_left_out_of_evaluation_and_vary_in_training(picture: Path) -> None:
    steps = [
        albu.CenterCrop(320, 256),
        albu.HorizontalFlip(),
        albu.RandomBrightnessContrast(p=1.0),
        albu.Resize(32, 32),
    ]
    augment = save_pipeline(picture.parent, steps)
    seen = [look(picture, augment, position=(epoch, 0)) for epoch in (1, 2, 3)]
    assert not torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[1], seen[2])
    fixed = save_pipeline(picture.parent, [crop, resize], "fixed.yaml")
    assert torch.equal(look(picture, augment, train=False), look(picture, fixed))


def test_two_coins_of_a_file_fall_independently(picture: Path) -> None:
    augment = save_pipeline(picture.parent, [albu.Resize(32, 32), albu.HorizontalFlip(), albu.VerticalFlip()])
    plain = look(picture, augment, train=False)
    looks = {
        tuple(name for name, image in flips.items() if torch.equal(image, look(picture, augment, position=(epoch, 0))))
        for flips in [{"": plain, "h": plain.flip(2), "v": plain.flip(1), "hv": plain.flip(1, 2)}]
        for epoch in range(1, 21)
    }
    assert looks == {("",), ("h",), ("v",), ("hv",)}


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such file: file.yaml"),
        ("", "is not an albumentations pipeline"),
        ("a: [", "is not an albumentations pipeline"),
        ("a: 1", "is not an albumentations pipeline: KeyError"),
        ("transform: {__class_fullname__: Nothing, p: 1.0}", "is not an albumentations pipeline: KeyError: 'Nothing'"),
        ("transform: {__class_fullname__: Resize, height: -1, width: 2, p: 1.0}", "height"),
        ("transform: {__class_fullname__: Resize, hight: 2, height: 1, width: 2, p: 1.0}", "hight"),
        ("transform: {__class_fullname__: Resize, height: 30, width: 40, p: 1.0}", "ends in 30x40x3, not in 32x32x3"),
        ("transform: {__class_fullname__: CenterCrop, height: 9999, width: 9, p: 1.0}", "CenterCrop fails on a test"),
        ("transform: {__class_fullname__: ToFloat, max_value: 255, p: 1.0}", "ends in float32 values"),
    ],
)
def test_a_pipeline_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, words: str) -> None:
    if text is not None:
        (tmp_path / "file.yaml").write_text(text)
    with pytest.raises(ConfigError) as caught:
        build_pipeline(AugmentConfig(name="file.yaml"), SMALL, root=tmp_path, train=True)
    assert words in str(caught.value)
    assert "augment.name" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_fast_jitter_is_refused_where_a_file_normalises_in_its_own_way(picture: Path) -> None:
    augment = save_pipeline(picture.parent, [albu.Normalize(normalization="image")])
    with pytest.raises(ConfigError, match="jitter_mode"):
        look(picture, replace(augment, jitter_mode="fast"), train=False, evaluation=EvalConfig(color_jitter=0.1))


def test_an_image_that_the_steps_cannot_take_is_named(tmp_path: Path) -> None:
    augment = save_pipeline(tmp_path, [albu.CenterCrop(300, 300), albu.Resize(32, 32)])
    path = save_image(tmp_path / "small.png", seed=1)
    with pytest.raises(DataError, match=r"small\.png: the augmentation fails"):
        look(path, augment)


def test_a_run_keeps_its_pipeline_file_and_notices_another(tmp_path: Path) -> None:
    augment = save_pipeline(tmp_path, [albu.Resize(32, 32)])
    content = (tmp_path / "file.yaml").read_bytes()
    config = pin_pipeline_file(Config(augment=augment), tmp_path)
    assert config.augment.file_sha256 == hashlib.sha256(content).hexdigest()
    keep_pipeline_file(config.augment, tmp_path, tmp_path)
    assert (tmp_path / "augment.yaml").read_bytes() == content
    save_pipeline(tmp_path, [albu.Resize(32, 32), albu.HorizontalFlip()])
    with pytest.raises(ConfigError, match="has changed since this run was configured"):
        build_pipeline(config.augment, SMALL, root=tmp_path, train=True)
    again = pin_pipeline_file(config, tmp_path)
    assert again.augment.file_sha256 != config.augment.file_sha256
    named = pin_pipeline_file(replace(config, augment=replace(config.augment, name="base")), tmp_path)
    assert named.augment.file_sha256 == ""
    keep_pipeline_file(named.augment, tmp_path, tmp_path / "none")


# --- Batches ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", [0, 2])
def test_a_batch_is_channels_last_and_no_later_batch_writes_into_it(tmp_path: Path, workers: int) -> None:
    paths = [save_image(tmp_path / f"{n}.png", seed=n) for n in range(10)]
    config = Config(augment=FAST, data=SMALL)
    dataset, _ = build_dataset(config, paths, list(range(10)), Source(tmp_path), train=True)
    sampler = BatchSampler(10, 3, shuffle=True, seed=1)
    kept = list(build_loader(dataset, sampler, workers=workers, pin_memory=False))
    for images, labels, indices in kept:
        assert images.is_contiguous(memory_format=torch.channels_last)
        assert labels.tolist() == indices.tolist()
        for image, index in zip(images, indices.tolist(), strict=True):
            assert torch.equal(image, dataset[1, index][0])


def test_memory_of_a_batch_is_used_again_when_nobody_holds_it(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{n}.png", seed=n) for n in range(4)]
    dataset, _ = build_dataset(Config(data=SMALL), paths, [0] * 4, Source(tmp_path), train=False)
    first = dataset.__getitems__([(0, 0), (0, 1)])[0]
    second = dataset.__getitems__([(0, 2), (0, 3)])[0]
    places = {first.data_ptr(), second.data_ptr()}
    assert len(places) == 2
    part = first[0]
    del first
    assert dataset.__getitems__([(0, 2)])[0].data_ptr() not in places
    del part, second
    assert dataset.__getitems__([(0, 2)])[0].data_ptr() in places
