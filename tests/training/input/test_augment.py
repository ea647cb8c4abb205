"""What is done to images: each step against a reference, files of one's own, and what of it may be
kept."""

from __future__ import annotations

import hashlib
import itertools
import random
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import albumentations as albu
import cv2
import numpy as np
import PIL.Image
import pytest
import torch
from numpy.typing import NDArray
from torchvision.transforms import InterpolationMode, v2

from tests.conftest import save_image
from tests.support.training_loop import SHORT, train, vary
from tracker.training.config import AugmentConfig, DataConfig, EvalConfig
from tracker.training.errors import ConfigError, DataError
from tracker.training.input.augment import Pipeline, build_pipeline
from tracker.training.input.color import hue_matrix, jitter_matrix
from tracker.training.input.loader import ImageSource, build_dataset
from tracker.training.input.pipeline_file import pin_pipeline_file
from tracker.training.predict.predict import _list_views
from tracker.training.targets import TARGETS

SIZE = (24, 32)
DATA = DataConfig(image_size=SIZE)
CUSTOM = AugmentConfig(name="custom", crop=SIZE)
MEAN, STD = np.array(DATA.mean), np.array(DATA.std)
GRAY = np.array([0.299, 0.587, 0.114])
Image = NDArray[np.uint8]


def make_image(height: int = 48, width: int = 64, seed: int = 3) -> Image:
    """Smooth colors with a little noise, as in a photograph."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(20, 236, (4, 5, 3), dtype=np.uint8)
    smooth = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.int16)
    return (smooth + rng.integers(-9, 10, smooth.shape)).clip(0, 255).astype(np.uint8)


def normalize(pixels: NDArray[Any]) -> NDArray[np.float64]:
    result: NDArray[np.float64] = (pixels / 255 - MEAN) / STD
    return result


def run(pipeline: Pipeline, image: Image, seed: int = 5) -> NDArray[np.float32]:
    out = np.empty((*pipeline.size, 3), dtype=np.float32)
    pipeline.finish(pipeline.prepare(image), out, seed=seed)
    return out


def build(
    augment: AugmentConfig, *, train: bool = True, root: Path = Path(), **evaluation: Any
) -> Pipeline:
    return build_pipeline(
        augment,
        DATA,
        root=root,
        train=train,
        evaluation=EvalConfig(**evaluation) if evaluation else None,
    )


def draw_from(seed: int) -> tuple[np.random.Generator, random.Random]:
    """The two generators that all steps of an image share."""
    return np.random.default_rng(seed), random.Random(seed)  # noqa: S311


def seeded(step: Any, seed: int) -> Any:
    step.set_random_state(*draw_from(seed))
    return step


def draw_jitter(strength: float, seed: int) -> dict[str, Any]:
    """What albumentations' ColorJitter draws from this seed."""
    near_one = (1 - strength, 1 + strength)
    jitter = albu.ColorJitter(near_one, near_one, near_one, (-strength, strength), p=1.0)
    drawn: dict[str, Any] = seeded(jitter, seed).get_params()
    return drawn


def jitter_by_formula(image: NDArray[Any], drawn: dict[str, Any]) -> NDArray[np.float64]:
    """The four steps on float64, each on what the one before it left."""
    pixels = image.astype(np.float64)
    for step in drawn["order"]:
        gray = (pixels @ GRAY)[..., None]
        if step == 0:
            pixels = drawn["brightness"] * pixels
        elif step == 1:
            pixels = drawn["contrast"] * pixels + (1 - drawn["contrast"]) * gray.mean()
        elif step == 2:
            pixels = drawn["saturation"] * pixels + (1 - drawn["saturation"]) * gray
        else:
            pixels = turn_hue(pixels, drawn["hue"])
    return pixels


def turn_hue(pixels: NDArray[np.float64], turn: float) -> NDArray[np.float64]:
    """Chroma I + iQ of the NTSC's YIQ, turned as a complex number."""
    y = pixels @ GRAY
    i, q = pixels @ np.array([0.596, -0.274, -0.322]), pixels @ np.array([0.211, -0.523, 0.312])
    chroma = (i + 1j * q) * np.exp(-2j * np.pi * turn)
    yiq = np.stack([y, chroma.real, chroma.imag], axis=-1)
    solved: NDArray[np.float64] = np.linalg.solve(
        np.array([GRAY, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]]), yiq[..., None]
    )[..., 0]
    return solved


# --- Base and custom ---


def test_base_resizes_and_normalizes() -> None:
    image = make_image(*SIZE)
    np.testing.assert_allclose(run(build(AugmentConfig()), image), normalize(image), atol=1e-5)
    block = np.kron(
        image, np.ones((3, 3, 1), dtype=np.uint8)
    )  # shrinks to what it was made of, by the mean of areas
    np.testing.assert_allclose(run(build(AugmentConfig()), block), normalize(image), atol=1e-5)


def test_standard_trains_on_random_resized_crops_and_mirrors_and_evaluates_as_base() -> None:
    image = make_image(96, 128)
    augment = AugmentConfig(name="standard", scale=0.3, ratio=1.5)
    crop = albu.RandomResizedCrop(
        SIZE, scale=(0.3, 1.0), ratio=(1 / 1.5, 1.5), area_for_downscale="image"
    )
    mirror = albu.HorizontalFlip(p=0.5)
    pipeline, mirrored, seen = build(augment), 0, set()
    for seed in range(20):
        shared = draw_from(seed)
        for step in (crop, mirror):
            step.set_random_state(*shared)
        cut = crop(image=image)["image"]
        wanted = mirror(image=cut)["image"]
        mirrored += not np.array_equal(cut, wanted)
        seen.add(wanted.tobytes())
        np.testing.assert_allclose(run(pipeline, image, seed), normalize(wanted), atol=1e-5)
    assert 0 < mirrored < 20
    assert len(seen) == 20
    for fitted in ({}, {"crop_pct": 0.9, "crop_mode": "center", "interpolation": "bicubic"}):
        base = run(build(replace(AugmentConfig(), **fitted), train=False), image)
        np.testing.assert_array_equal(
            run(build(replace(augment, **fitted), train=False), image), base
        )


def apply_torchvision(name: str, image: Image, generator: np.random.Generator) -> Image:
    """torchvision's own transforms, seeded as their step documents."""
    color = [round(255 * channel) for channel in MEAN]
    options: dict[str, Any] = {"interpolation": InterpolationMode.BILINEAR, "fill": color}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator.integers(1 << 62)))
        if name == "auto":
            return np.array(v2.TrivialAugmentWide(**options)(PIL.Image.fromarray(image)))
        picture = np.array(v2.RandAugment(**options)(PIL.Image.fromarray(image)))
        torch.manual_seed(int(generator.integers(1 << 62)))
        tensor = torch.from_numpy(picture).permute(2, 0, 1)
        erased: Image = v2.RandomErasing(p=0.25, value=color)(tensor).permute(1, 2, 0).numpy()
        return erased


@pytest.mark.parametrize("name", ["auto", "strong"])
def test_auto_and_strong_are_standard_and_torchvisions_own_operations(name: str) -> None:
    image, augment = make_image(96, 128), AugmentConfig(name=name, scale=0.3)
    crop = albu.RandomResizedCrop(
        SIZE, scale=(0.3, 1.0), ratio=(3 / 4, 4 / 3), area_for_downscale="image"
    )
    mirror = albu.HorizontalFlip(p=0.5)
    pipeline, changed = build(augment), 0
    for seed in range(30):
        shared = draw_from(seed)
        for step in (crop, mirror):
            step.set_random_state(*shared)
        cut = mirror(image=crop(image=image)["image"])["image"]
        wanted = apply_torchvision(name, cut, shared[0])
        changed += not np.array_equal(cut, wanted)
        np.testing.assert_allclose(run(pipeline, image, seed), normalize(wanted), atol=1e-5)
    assert changed > 15
    base = run(build(AugmentConfig(), train=False), image)
    np.testing.assert_array_equal(run(build(augment, train=False), image), base)


@pytest.mark.parametrize("name", ["auto", "strong"])
def test_auto_and_strong_leave_torchs_generator_and_do_not_depend_on_it(name: str) -> None:
    image, pipeline = make_image(), build(AugmentConfig(name=name))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = run(pipeline, image, 7)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # as in a loader process
    np.testing.assert_array_equal(run(pipeline, image, 7), first)
    torch.set_num_threads(threads)


@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_standard_without_its_crop_is_base_mirrored_as_often_as_flip_says(flip: float) -> None:
    square = replace(DATA, image_size=(32, 32))
    image = make_image(64, 64)
    whole = AugmentConfig(name="standard", scale=1.0, ratio=1.0, flip=flip)
    base = run(build_pipeline(AugmentConfig(), square, root=Path(), train=True), image)
    found = run(build_pipeline(whole, square, root=Path(), train=True), image)
    np.testing.assert_allclose(found, base[:, ::-1] if flip else base, atol=1e-5)


def test_custom_cuts_out_the_center_and_resizes_it() -> None:
    image = make_image(48, 64)
    center = image[12:36, 16:48]
    plain = replace(CUSTOM, jitter=0.0)
    np.testing.assert_allclose(run(build(plain), image), normalize(center), atol=1e-5)
    half = build(replace(plain, crop=(48, 64)))
    np.testing.assert_allclose(
        run(half, image),
        normalize(cv2.resize(image, SIZE[::-1], interpolation=cv2.INTER_AREA)),
        atol=1e-5,
    )
    assert run(build(replace(plain, crop=(99, 99))), image).shape == (*SIZE, 3)  # padded


def test_the_given_mean_and_std_normalize() -> None:
    image = make_image(*SIZE)
    other = replace(DATA, mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7))
    found = run(build_pipeline(AugmentConfig(), other, root=Path(), train=True), image)
    np.testing.assert_allclose(found, (image / 255 - [0.1, 0.2, 0.3]) / [0.5, 0.6, 0.7], atol=1e-5)
    with pytest.raises(ConfigError, match="have no numbers yet"):
        build_pipeline(AugmentConfig(), replace(DATA, mean="measured"), root=Path(), train=True)


@pytest.mark.parametrize("mode", ["hsv", "fast"])
def test_jitter_follows_its_seed_and_strength_and_is_for_training(mode: str) -> None:
    image, config = make_image(), replace(CUSTOM, jitter_mode=mode)
    pipeline, plain = build(config), run(build(config, train=False), image)
    first, again, other = (run(pipeline, image, seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 0.01
    np.testing.assert_array_equal(plain, run(build(replace(config, jitter=0.0)), image))
    weak = run(build(replace(config, jitter=0.01)), image)
    strong = run(build(replace(config, jitter=0.3)), image)
    assert 0 < np.abs(weak - plain).mean() < np.abs(strong - plain).mean()


def test_hsv_jitter_is_albumentations_own() -> None:
    image = make_image()
    jitter = albu.ColorJitter((0.8, 1.2), (0.8, 1.2), (0.8, 1.2), (-0.2, 0.2), p=1.0)
    pipeline = build(replace(CUSTOM, jitter=0.2))
    for seed in range(8):
        expected = seeded(jitter, seed)(image=image[12:36, 16:48])["image"]
        np.testing.assert_allclose(run(pipeline, image, seed), normalize(expected), atol=1e-5)


def test_fast_jitter_is_its_formula_in_float64_with_the_draws_of_hsv() -> None:
    image = make_image()
    pipeline = build(replace(CUSTOM, jitter=0.3, jitter_mode="fast"))
    orders = set()
    for seed in range(40):
        drawn = draw_jitter(0.3, seed)
        orders.add(tuple(drawn["order"]))
        expected = normalize(jitter_by_formula(image[12:36, 16:48], drawn))
        np.testing.assert_allclose(run(pipeline, image, seed), expected, atol=2e-5)
    assert len(orders) > 12


@pytest.mark.parametrize("order", list(itertools.permutations(range(4))))
def test_the_jitter_matrix_is_the_product_of_its_steps_in_every_order(order: Sequence[int]) -> None:
    image = make_image().astype(np.float64)
    factors = (0.7, 1.4, 0.6, 0.15)
    names = ("brightness", "contrast", "saturation", "hue")
    expected = jitter_by_formula(image, {**dict(zip(names, factors, strict=True)), "order": order})
    matrix = jitter_matrix(factors, order, image.reshape(-1, 3).mean(0).tolist())
    np.testing.assert_allclose(image @ matrix[:3, :3].T + matrix[:3, 3], expected, atol=1e-9)
    np.testing.assert_array_equal(matrix[3], [0, 0, 0, 1])


def test_a_hue_turn_leaves_gray_and_brightness_and_turns_as_hsv_does() -> None:
    turn = hue_matrix(1 / 12)
    np.testing.assert_allclose(
        turn @ [90, 90, 90], [90, 90, 90], atol=0.1
    )  # NTSC's numbers have three digits
    color = np.array([200.0, 40.0, 90.0])
    assert GRAY @ (turn @ color) == pytest.approx(GRAY @ color, abs=1e-9)
    np.testing.assert_allclose(hue_matrix(0.0), np.eye(3), atol=1e-12)
    red = turn @ [255, 0, 0]  # in HSV a twelfth of a turn makes orange of it
    assert red[0] > red[1] > red[2]


def test_fast_and_hsv_differ_less_than_either_from_no_jitter() -> None:
    image = make_image(200, 200, seed=11)
    plain, fast, hsv = (
        np.stack([run(build(config), image, seed) for seed in range(24)])
        for config in (replace(CUSTOM, jitter=0.0), replace(CUSTOM, jitter_mode="fast"), CUSTOM)
    )
    apart = np.abs(fast - hsv).mean()
    assert 0 < apart < np.abs(hsv - plain).mean()
    assert apart < np.abs(fast - plain).mean()


@pytest.mark.parametrize("name", ["base", "custom"])
def test_noise_is_gaussian_after_normalization_in_training_only(name: str) -> None:
    image, config = make_image(), AugmentConfig(name=name, crop=SIZE, jitter=0.0)
    plain, noisy = build(config), build(replace(config, noise=0.25))
    added = np.stack([run(noisy, image, seed) - run(plain, image) for seed in range(20)])
    assert added.std() == pytest.approx(0.25, rel=0.02)
    assert added.mean() == pytest.approx(0, abs=0.005)
    np.testing.assert_array_equal(
        run(build(replace(config, noise=0.25), train=False), image), run(plain, image)
    )


# --- Evaluation ---


@pytest.mark.parametrize("name", ["base", "custom"])
def test_eval_center_crop_takes_the_place_of_the_training_crop(name: str) -> None:
    image = make_image(48, 64)
    pipeline = build(AugmentConfig(name=name, crop=(10, 10)), train=False, center_crop=SIZE)
    np.testing.assert_allclose(run(pipeline, image), normalize(image[12:36, 16:48]), atol=1e-5)


@pytest.mark.parametrize("mode", ["hsv", "fast"])
def test_eval_color_jitter_jitters_by_seed_whatever_the_training_jitter_is(mode: str) -> None:
    image = make_image(48, 64)
    config = replace(CUSTOM, jitter=0.4, jitter_mode=mode)
    pipeline = build(config, train=False, color_jitter=0.1)
    np.testing.assert_array_equal(
        run(pipeline, image, 7), run(build(replace(config, jitter=0.1)), image, 7)
    )
    np.testing.assert_array_equal(
        run(build(config, train=False, color_jitter=0.0, tta="flip"), image),
        run(build(config, train=False), image),
    )


def test_views_are_the_image_its_mirror_and_five_crops() -> None:
    batch = torch.arange(2 * 3 * 16 * 16, dtype=torch.float32).reshape(2, 3, 16, 16)
    found = {tta: list(_list_views(batch, tta)) for tta in ("none", "flip", "crops", "crops_flip")}
    assert {tta: len(views) for tta, views in found.items()} == {
        "none": 1,
        "flip": 2,
        "crops": 5,
        "crops_flip": 10,
    }
    assert torch.equal(found["none"][0], batch)
    assert torch.equal(found["flip"][1], batch.flip(3))
    large = torch.nn.functional.interpolate(
        batch, size=(18, 18), mode="bilinear", align_corners=False
    )
    assert torch.equal(found["crops"][0], large[:, :, :16, :16])
    assert torch.equal(found["crops"][3], large[:, :, 2:, 2:])
    assert torch.equal(found["crops"][4], large[:, :, 1:17, 1:17])
    assert torch.equal(found["crops_flip"][1], found["crops"][0].flip(3))


def test_views_are_averaged_as_probabilities() -> None:
    views = [torch.tensor([[9.0, 0.0, 0.0]]), torch.tensor([[0.0, 1.0, 0.0]])]
    expected = (torch.softmax(views[0], 1) + torch.softmax(views[1], 1)) / 2
    torch.testing.assert_close(
        torch.softmax(TARGETS["class"].average(torch.stack(views)), 1), expected
    )


# --- Pipeline files ---

NORMALISE = albu.Normalize(mean=DATA.mean, std=DATA.std)
OWN = (
    albu.CenterCrop(40, 40),
    albu.Resize(*SIZE),
    albu.HorizontalFlip(p=0.5),
    albu.OneOf([albu.RandomGamma(p=1.0), albu.GaussNoise(p=1.0)], p=0.8),
    NORMALISE,
)


def write_file(root: Path, steps: Sequence[Any], name: str = "own.yaml") -> AugmentConfig:
    albu.save(
        albu.Compose(steps), root / name, data_format="json" if name.endswith("json") else "yaml"
    )
    return AugmentConfig(name=name)


@pytest.mark.parametrize("name", ["own.yaml", "own.yml", "own.json"])
def test_a_pipeline_file_does_what_albumentations_does_with_it(tmp_path: Path, name: str) -> None:
    config, image = write_file(tmp_path, OWN, name), make_image()
    pipeline = build(config, root=tmp_path)
    assert pipeline.prepared_shape == (*SIZE, 3)
    head = [albu.CenterCrop(40, 40), albu.Resize(*SIZE)]
    np.testing.assert_array_equal(pipeline.prepare(image), albu.Compose(head)(image=image)["image"])
    results = set()
    for seed in range(12):
        generators = draw_from(seed)
        expected = image
        for step in OWN:
            step.set_random_state(*generators)
            expected = step(image=expected)["image"]
        found = run(pipeline, image, seed)
        np.testing.assert_allclose(found, expected, atol=1e-5)
        results.add(found.tobytes())
    assert len(results) > 6


@pytest.mark.parametrize("size", [(48, 64), (41, 57), (40, 40), (24, 32), (30, 90), (90, 30)])
def test_a_prepared_image_is_the_one_that_albumentations_makes_step_by_step(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    padded = albu.CenterCrop(40, 40, pad_if_needed=True)
    bordered = albu.CenterCrop(41, 35, True, border_mode=cv2.BORDER_REFLECT)
    resize = albu.Resize(*SIZE, area_for_downscale="image")
    heads = ([padded, resize], [resize, padded], [bordered, padded, resize], [padded])
    image = make_image(*size)
    for number, head in enumerate(heads):
        steps = head if head[-1] is resize else [*head, resize]
        config = write_file(tmp_path, [*steps, NORMALISE], f"{number}.yaml")
        found = build(config, root=tmp_path).prepare(image)
        np.testing.assert_array_equal(found, albu.Compose(steps)(image=image)["image"])
        assert found.flags.c_contiguous


def test_what_is_random_in_a_file_is_for_training(tmp_path: Path) -> None:
    config, image = write_file(tmp_path, OWN), make_image()
    found = run(build(config, root=tmp_path, train=False), image)
    expected = albu.Compose([albu.CenterCrop(40, 40), albu.Resize(*SIZE), NORMALISE])(image=image)[
        "image"
    ]
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_nothing_after_the_first_random_step_is_kept(tmp_path: Path) -> None:
    steps = [albu.RandomCrop(40, 40), albu.Resize(*SIZE), NORMALISE]
    pipeline = build(write_file(tmp_path, steps), root=tmp_path)
    assert pipeline.prepared_shape is None  # the images as they are, of any shape
    image = make_image()
    np.testing.assert_array_equal(pipeline.prepare(image), image)
    assert len({run(pipeline, image, seed).tobytes() for seed in range(6)}) > 1


def test_two_coins_of_a_file_do_not_fall_alike(tmp_path: Path) -> None:
    steps = [albu.Resize(*SIZE), albu.HorizontalFlip(p=0.5), albu.VerticalFlip(p=0.5), NORMALISE]
    pipeline, image = build(write_file(tmp_path, steps), root=tmp_path), make_image()
    assert len({run(pipeline, image, seed).tobytes() for seed in range(40)}) == 4


def test_a_file_without_normalize_or_size_gets_those_of_the_data_section(tmp_path: Path) -> None:
    config, image = write_file(tmp_path, [albu.CenterCrop(*SIZE, pad_if_needed=True)]), make_image()
    np.testing.assert_allclose(
        run(build(config, root=tmp_path), image), normalize(image[12:36, 16:48]), atol=1e-5
    )
    whole = build(write_file(tmp_path, [albu.HorizontalFlip(p=1.0)], "flip.yaml"), root=tmp_path)
    np.testing.assert_allclose(
        run(whole, image),
        run(build(AugmentConfig()), np.ascontiguousarray(image[:, ::-1])),
        atol=0.05,
    )
    tensors = write_file(
        tmp_path, [albu.Resize(*SIZE), NORMALISE, albu.ToTensorV2()], "tensor.yaml"
    )
    assert run(build(tensors, root=tmp_path), image).shape == (*SIZE, 3)


def test_a_file_that_normalizes_in_its_own_way_keeps_it(tmp_path: Path) -> None:
    steps = [albu.Resize(*SIZE), albu.Normalize(normalization="image")]
    config, image = write_file(tmp_path, steps), make_image()
    found = run(build(config, root=tmp_path), image)
    np.testing.assert_allclose(found, albu.Compose(steps)(image=image)["image"], atol=1e-5)
    with pytest.raises(
        ConfigError, match="fast needs a pipeline file that ends in a plain Normalize"
    ):
        build(replace(config, jitter_mode="fast"), root=tmp_path, train=False, color_jitter=0.1)


@pytest.mark.parametrize(
    "name", ["PadIfNeeded", "ShiftScaleRotate", "SafeRotate", "RGBShift", "Perspective"]
)
def test_steps_that_warn_or_write_more_than_they_take_can_be_used(
    tmp_path: Path, name: str
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        step = getattr(albu, name)(p=1.0)
        config = write_file(
            tmp_path, [albu.OneOf([albu.Sequential([step])], p=1.0), albu.Resize(*SIZE), NORMALISE]
        )
    image = make_image(1100, 1100)
    expected = albu.Compose([seeded(step, 5), albu.Resize(*SIZE), NORMALISE])
    assert run(build(config, root=tmp_path), image).shape == expected(image=image)["image"].shape


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nonsense: [", "is not an albumentations pipeline"),
        ("[1, 2]", "is not an albumentations pipeline"),
        ("{}", "is not an albumentations pipeline"),
        (
            "transform: {__class_fullname__: NoSuchStep, p: 1.0}",
            "is not an albumentations pipeline",
        ),
        (
            "transform: {__class_fullname__: Blur, p: 1.0, color: red}",
            "no such argument: color of Blur",
        ),
        (
            "transform: {__class_fullname__: Resize, height: 9, width: 9, p: 1.0}",
            "ends in 9x9x3, not in 24x32x3",
        ),
        (
            "transform: {__class_fullname__: ToFloat, max_value: 255, p: 1.0}",
            "ends in float32 values",
        ),
        (
            "transform: {__class_fullname__: RandomCrop, height: 9999, width: 9999, p: 1.0}",
            "fails on a test picture",
        ),
    ],
)
def test_a_wrong_pipeline_file_is_an_error_that_names_it(
    tmp_path: Path, content: str, words: str
) -> None:
    (tmp_path / "own.yaml").write_text(content)
    with pytest.raises(ConfigError, match=words) as caught:
        build(AugmentConfig(name="own.yaml"), root=tmp_path)
    assert str(caught.value).startswith("augment.name: ")
    assert "\n" not in str(caught.value)


def test_a_missing_or_unreadable_pipeline_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "folder.yaml").mkdir()
    for name, words in (
        ("none.yaml", "no such file: none.yaml"),
        ("folder.yaml", "cannot read folder.yaml"),
    ):
        with pytest.raises(ConfigError, match=words):
            build(AugmentConfig(name=name), root=tmp_path)


def test_a_step_that_draws_only_for_some_images_is_an_error_and_no_silence(tmp_path: Path) -> None:
    padded = albu.CenterCrop(
        100, 100, pad_if_needed=True, pad_position="random"
    )  # draws where it has to pad
    steps = [padded, albu.Resize(*SIZE), NORMALISE]
    config = vary(
        SHORT, augment__name=write_file(tmp_path, steps).name, data__image_size=list(SIZE)
    )
    path = save_image(tmp_path / "small.png", seed=1)
    dataset, _ = build_dataset(config, [path], [0], ImageSource(tmp_path), train=True)
    with pytest.raises(
        DataError, match=r"small.png: the augmentation fails: a step draws random numbers"
    ):
        dataset[1, 0]


def test_a_run_keeps_its_pipeline_file_and_the_file_is_part_of_its_config(folders: Path) -> None:
    steps = [albu.Resize(32, 32), albu.HorizontalFlip(p=0.5), NORMALISE]
    named = vary(SHORT, augment__name=write_file(folders, steps).name)
    config = pin_pipeline_file(named, folders)
    content = (folders / "own.yaml").read_bytes()
    assert config.augment.file_sha256 == hashlib.sha256(content).hexdigest()
    result, _ = train(config, folders, "own", cache_dir=folders / "cache")
    assert (folders / "own" / "augment.yaml").read_bytes() == content
    assert result.weights_fingerprint != train(SHORT, folders, "base")[0].weights_fingerprint
    (folders / "own.yaml").write_text(content.decode().replace("p: 0.5", "p: 0.6"))
    with pytest.raises(
        ConfigError, match=r"own\.yaml has changed since this run was configured"
    ) as caught:
        train(config, folders, "own", resume=True)
    assert "the run folder has a copy" in caught.value.hint
    assert pin_pipeline_file(config, folders).augment.file_sha256 != config.augment.file_sha256
    assert pin_pipeline_file(vary(config, augment__name="base"), folders).augment.file_sha256 == ""


# --- What may be kept ---


def test_pipelines_share_what_is_kept_exactly_when_their_heads_agree(tmp_path: Path) -> None:
    same = [
        CUSTOM,
        replace(CUSTOM, jitter_mode="fast"),
        replace(CUSTOM, noise=0.1),
        replace(CUSTOM, jitter=0.3),
    ]
    assert len({build(config).key for config in same} | {build(CUSTOM, train=False).key}) == 1
    own = write_file(tmp_path, [albu.CenterCrop(40, 40), albu.Resize(*SIZE), NORMALISE])
    nearest = write_file(
        tmp_path, [albu.CenterCrop(40, 40), albu.Resize(*SIZE, interpolation=0)], "nearest.yaml"
    )
    others = [AugmentConfig(), CUSTOM, replace(CUSTOM, crop=(20, 20)), own, nearest]
    assert len({build(config, root=tmp_path).key for config in others}) == len(others)


def test_what_is_prepared_is_not_written_to(tmp_path: Path) -> None:
    pipeline = build(write_file(tmp_path, OWN), root=tmp_path)
    for config in (pipeline, build(CUSTOM), build(replace(CUSTOM, jitter_mode="fast"))):
        pixels = config.prepare(make_image())
        before = pixels.copy()
        pixels.flags.writeable = False  # as the cache gives them
        config.finish(pixels, np.empty((*SIZE, 3), dtype=np.float32), seed=1)
        np.testing.assert_array_equal(pixels, before)
