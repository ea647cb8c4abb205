"""How an image is changed between its file and the model.

A pipeline is a list of albumentations steps with the colors at its end: normalization, and the
jitter that is one matrix with it. Its head, the leading steps that draw no random number, makes the
same of an image every time, so that training/input/cache.py can keep the result. Which steps draw
is found by running them with generators that refuse to.
"""

from __future__ import annotations

import hashlib
import json
import random
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path
from typing import Any

import albumentations as albu
import cv2
import numpy as np
from albumentations.augmentations.crops.transforms import CropSizeError
from numpy.typing import NDArray

from tracker.training.config import (
    AUTOMATIC,
    CROPPED,
    AugmentConfig,
    DataConfig,
    EvalConfig,
)
from tracker.training.errors import ConfigError
from tracker.training.formats.images import (
    REDUCTIONS,
    decode_image,
    read_image,
    read_jpeg_size,
)
from tracker.training.input.color import Matrix, jitter_matrix, normalization_matrix
from tracker.training.input.fit_image import FitImage
from tracker.training.input.pipeline_file import names_file, read_pipeline_file
from tracker.training.tables import parse_json, parse_yaml

# A loader process is forked. If cv2 has sleeping threads then, the fork gets a lock that is never
# released, and cv2 hangs there. So cv2 has no threads in the process that forks.
cv2.setNumThreads(1)

# Increase this when images are decoded in another way, so that cached results are not used.
KEY_VERSION = 1
# crop_pct, crop_mode, interpolation: the whole image, resized by albumentations.
PLAIN_RESIZE = (1.0, "squash", "area")
PROBE_SIDE = 1024  # pixels of a test picture: more than most pipeline files crop


class DrawsError(Exception):
    """A step asked for a random number where there are none."""


# Errors of steps about an image that they do not accept.
STEP_ERRORS = (
    DrawsError,
    CropSizeError,
    cv2.error,
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, RuntimeError),
)


class _NoDraws:
    """Takes the place of a random generator."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)  # pickle asks for these
        raise DrawsError(
            "a step draws random numbers for this image, but not for the test pictures"
        )


@dataclass(frozen=True)
class _TestedStep:
    """A step, whether it draws random numbers, and its results for the test pictures."""

    step: Any
    draws: bool
    images: Sequence[NDArray[Any]]

    def is_cacheable(self) -> bool:
        """Whether its result is the same each time and can be stored as uint8."""
        return not self.draws and all(image.dtype == np.uint8 for image in self.images)


class Pipeline:
    """RGB uint8 [h, w, 3] to normalized float32 [height, width, 3], in two parts.

    `prepare` makes the same of an image every time: uint8 of `prepared_shape`, or of any shape when
    that is None;
    pipelines of one `key` prepare alike. `finish` draws from its seed. Both raise STEP_ERRORS. Not
    for two threads.
    """

    def __init__(
        self,
        steps: Sequence[Any],
        size: tuple[int, int],
        *,
        matrix: Matrix | None,
        jitter: Any,
        noise: float,
        reduces: bool = False,
    ) -> None:
        """With `reduces`, `decode` makes large JPEGs smaller.

        `matrix` [3, 4] normalizes the result of the steps; with None the steps do it. `jitter` is
        a ColorJitter to apply before the matrix.
        """
        pictures = _make_test_pictures(size)
        tested = _test_steps(steps, pictures)
        # the head: steps without random numbers, as long as the image stays uint8
        head = list(takewhile(_TestedStep.is_cacheable, tested))
        prepared = head[-1].images if head else pictures
        shapes = {image.shape for image in prepared}
        self.size = size
        self.prepared_shape = shapes.pop() if len(shapes) == 1 else None
        self._random = any(one.draws for one in tested) or jitter is not None or noise > 0
        self._head = [one.step for one in head]
        self._tail = [one.step for one in tested[len(head) :]]
        self.key = _make_key(self._head, prepared[0], reduces=reduces)
        # the step that makes an image smaller, if it is the first: others would see other pixels
        self._first = next(iter([*self._head, *self._tail]), None) if reduces else None
        self._matrix, self._jitter, self._noise = matrix, jitter, noise
        self._floats = np.empty((*size, 3), dtype=np.float32)

    def decode(
        self, path: Path, content: NDArray[np.uint8] | None = None, *, seed: int = 0
    ) -> NDArray[np.uint8]:
        """The image of a file as `decode_image` gives it, or smaller where that is enough.

        `content` are the file's bytes; `seed` is that of `finish`, which draws the crop.
        """
        content = read_image(path) if content is None else content
        reduction = 1 if self._first is None else self._find_reduction(content, seed)
        return decode_image(path, content, reduction=reduction)

    def _find_reduction(self, content: NDArray[np.uint8], seed: int) -> int:
        """The largest one that leaves twice the pixels that are needed each way, else 1.

        An image that EXIF may have turned has to be large enough both ways.
        """
        size = read_jpeg_size(content)
        if size is None or not all(size):
            return 1
        room = min(self._find_room(*size, seed), self._find_room(size[1], size[0], seed))
        return next((one for one in REDUCTIONS if room >= 2 * one), 1)

    def _find_room(self, height: int, width: int, seed: int) -> float:
        """How many pixels of the image the first step makes into one, on the side with fewest."""
        step = self._first
        if step is None or step.p < 1:
            return 1.0
        if isinstance(step, FitImage):
            target = step.find_size(height, width)
        elif isinstance(step, albu.Resize):
            target = (step.height, step.width)
        elif isinstance(step, albu.RandomResizedCrop):
            step.set_random_state(np.random.default_rng(seed), random.Random(seed))  # noqa: S311
            crop = step.get_params_dependent_on_data({"shape": (height, width, 3)}, {})
            left, top, right, bottom = crop["crop_coords"]
            height, width, target = bottom - top, right - left, self.size
        else:
            return 1.0
        return min(height / target[0], width / target[1])

    def prepare(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The result of the head for a decoded image."""
        return _run_head(self._head, image)

    def finish(self, pixels: NDArray[np.uint8], out: NDArray[np.float32], *, seed: int) -> None:
        """Apply the remaining steps to a prepared image and write to `out` [height, width, 3].

        `pixels` are not changed.
        """
        generator = np.random.default_rng(seed) if self._random else None
        if generator is not None:
            self._share(generator, random.Random(seed))  # noqa: S311
        result: NDArray[Any] = _run(self._tail, pixels.copy()) if self._tail else pixels
        if result.shape != out.shape:
            raise ValueError(
                f"it ends in {_render_shape(result.shape)}, not in {_render_shape(out.shape)}"
            )
        if self._matrix is None:
            np.copyto(out, result)
        else:
            np.copyto(self._floats, result)
            matrix = (
                self._matrix if self._jitter is None else self._matrix @ self._draw_jitter(result)
            )
            cv2.transform(self._floats, matrix, out)
        if generator is not None and self._noise:
            out += np.float32(self._noise) * generator.standard_normal(out.shape, dtype=np.float32)

    def _share(self, generator: np.random.Generator, python: random.Random) -> None:
        """Let all steps share the generators: with equal seeds, two flips would always agree."""
        steps = self._tail if self._jitter is None else [*self._tail, self._jitter]
        for step in steps:
            step.set_random_state(generator, python)

    def _draw_jitter(self, pixels: NDArray[Any]) -> Matrix:
        drawn = self._jitter.get_params()
        factors = (drawn["brightness"], drawn["contrast"], drawn["saturation"], drawn["hue"])
        return jitter_matrix(factors, drawn["order"], cv2.mean(pixels)[:3])


def build_pipeline(
    augment: AugmentConfig,
    data: DataConfig,
    *,
    root: Path,
    train: bool,
    evaluation: EvalConfig | None = None,
) -> Pipeline:
    """The pipeline of a config; without `train` it has no random steps.

    Only the jitter of `evaluation` stays random. Raises ConfigError for a pipeline file that is
    missing, has changed, cannot be read or ends in another size.
    """
    steps, matrix = _list_steps(
        augment, data, root=root, train=train, crop=evaluation.center_crop if evaluation else ()
    )
    jitter = _build_jitter(augment, train=train, evaluation=evaluation)
    if jitter is not None and augment.jitter_mode == "hsv":
        steps.insert(_find_normalize(steps), jitter)
        jitter = None
    if jitter is not None and matrix is None:
        raise ConfigError(
            "augment.jitter_mode: fast needs a pipeline file that ends in a plain Normalize"
        )
    return Pipeline(
        steps,
        data.image_size,
        matrix=matrix,
        jitter=jitter,
        noise=augment.noise if train else 0.0,
        reduces=data.decode == "reduced",
    )


def _list_steps(
    augment: AugmentConfig,
    data: DataConfig,
    *,
    root: Path,
    train: bool,
    crop: tuple[int, int] | tuple[()],
) -> tuple[list[Any], Matrix | None]:
    """The steps without the jitter, and the matrix that normalizes.

    `crop` replaces each center crop.
    """
    from_file = names_file(augment)
    steps = _load_file(augment, root) if from_file else _build_named(augment, data, train=train)
    if not train:
        steps = [
            one.step
            for one in _test_steps(steps, _make_test_pictures(data.image_size))
            if not one.draws
        ]
    if crop:
        steps = [step for step in steps if not isinstance(step, albu.CenterCrop)]
    normalizes = _find_normalize(steps) < len(steps)
    steps, matrix = _split_normalization(steps, data)
    if from_file:
        steps = _fit_size(steps, data.image_size, normalized=normalizes)
    if crop:
        steps = [albu.CenterCrop(*crop, pad_if_needed=True), *steps]
    return steps, matrix


def _build_named(augment: AugmentConfig, data: DataConfig, *, train: bool) -> list[Any]:
    if augment.name in CROPPED and train:
        shape = {"scale": (augment.scale, 1.0), "ratio": (1 / augment.ratio, augment.ratio)}
        return [
            albu.RandomResizedCrop(data.image_size, **shape, area_for_downscale="image"),
            albu.HorizontalFlip(p=augment.flip),
            *_build_automatic(augment, data),
        ]
    if augment.name == "custom":
        return [albu.CenterCrop(*augment.crop, pad_if_needed=True), _build_resize(data.image_size)]
    if isinstance(augment.crop_pct, str):
        raise ConfigError("augment.crop_pct has no number yet", reason="crop is not known yet")
    fit = (augment.crop_pct, augment.crop_mode, augment.interpolation)
    return [
        _build_resize(data.image_size) if fit == PLAIN_RESIZE else FitImage(data.image_size, *fit)
    ]


def _build_automatic(augment: AugmentConfig, data: DataConfig) -> list[Any]:
    if augment.name not in AUTOMATIC:
        return []
    from tracker.training.input.auto_augment import build_auto_steps

    if isinstance(data.mean, str):
        raise _no_numbers()
    return list(build_auto_steps(augment.name, data.mean))


def _no_numbers() -> ConfigError:
    return ConfigError(
        "data.mean and data.std have no numbers yet", reason="channels are not measured yet"
    )


def _build_resize(size: tuple[int, int]) -> Any:
    # cv2's bilinear resize skips pixels when it shrinks; area averages them.
    return albu.Resize(*size, area_for_downscale="image")


def _build_jitter(augment: AugmentConfig, *, train: bool, evaluation: EvalConfig | None) -> Any:
    strength = augment.jitter if train and augment.name == "custom" else 0.0
    if evaluation is not None:
        strength = evaluation.color_jitter
    if not strength:
        return None
    near_one = (1 - strength, 1 + strength)
    return albu.ColorJitter(near_one, near_one, near_one, (-strength, strength), p=1.0)


def _split_normalization(steps: Sequence[Any], data: DataConfig) -> tuple[list[Any], Matrix | None]:
    """Turn a plain Normalize at the end into the matrix; None for another normalization."""
    last = steps[-1] if steps else None
    if isinstance(last, albu.Normalize) and last.normalization == "standard" and last.p >= 1:
        return list(steps[:-1]), normalization_matrix(last.mean, last.std, last.max_pixel_value)
    if _find_normalize(steps) < len(steps):
        return list(steps), None
    if isinstance(data.mean, str) or isinstance(data.std, str):
        raise _no_numbers()
    return list(steps), normalization_matrix(data.mean, data.std)


def _find_normalize(steps: Sequence[Any]) -> int:
    """The index of the first Normalize, or the number of steps."""
    return next(
        (index for index, step in enumerate(steps) if isinstance(step, albu.Normalize)), len(steps)
    )


# --- Pipeline files ---


def _load_file(augment: AugmentConfig, root: Path) -> list[Any]:
    """The steps of a file by albumentations.save, without ToTensorV2; raises ConfigError."""
    content = read_pipeline_file(augment, root)
    try:
        values = parse_json(content) if augment.name.endswith(".json") else parse_yaml(content)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # advice to take other steps
            # values that give no number, such as a std of 0
            warnings.simplefilter("error", RuntimeWarning)
            loaded = albu.from_dict(values)
        if unknown := _list_unknown(loaded):
            raise ValueError(f"no such argument: {', '.join(unknown)}")
        steps = _flatten(loaded)
        # Fails here, with the file's name, where the values are not one a channel.
        _split_normalization(steps, DataConfig())
        return steps
    except (
        ValueError,
        TypeError,
        KeyError,
        AttributeError,
        ArithmeticError,
        RuntimeWarning,
    ) as error:
        raise ConfigError(
            f"augment.name: {augment.name} is not an albumentations pipeline: {_one_line(error)}",
            hint=(
                "albumentations.save(pipeline, path, data_format='yaml') writes one; its steps need"
                " no mask or box"
            ),
        ) from error


def _list_unknown(step: Any) -> list[str]:
    """Arguments that a step does not know.

    Some steps write arguments that they do not accept; those are no error.
    """
    if isinstance(step, albu.BaseCompose):
        return [name for child in step.transforms for name in _list_unknown(child)]
    written = step.to_dict_private()
    return [f"{name} of {type(step).__name__}" for name in step.invalid_args if name not in written]


def _flatten(step: Any) -> list[Any]:
    """The steps in a Compose that always runs, without ToTensorV2: batches are made here."""
    if isinstance(step, albu.Compose | albu.Sequential) and step.p >= 1:
        return [inner for child in step.transforms for inner in _flatten(child)]
    return [] if type(step).__name__ == "ToTensorV2" else [step]


def _fit_size(steps: Sequence[Any], size: tuple[int, int], *, normalized: bool) -> list[Any]:
    """Steps that end in `size`; a resize is added before Normalize if they set no size."""
    index = _find_normalize(steps)
    fitted = list(steps)
    if len({image.shape for image in _end(fitted[:index], size)}) > 1:
        fitted.insert(index, _build_resize(size))
    ends = _end(fitted, size)
    wanted = (*size, 3)
    other = next((image.shape for image in ends if image.shape != wanted), None)
    if other is not None:
        raise ConfigError(
            f"augment.name: the pipeline file ends in {_render_shape(other)}, not in"
            f" {_render_shape(wanted)}",
            hint="end it in a Resize to data.image_size, or set data.image_size",
        )
    if not normalized and ends[0].dtype != np.uint8:
        raise ConfigError(
            f"augment.name: the pipeline file ends in {ends[0].dtype} values; end it in Normalize"
        )
    return fitted


def _end(steps: Sequence[Any], size: tuple[int, int]) -> Sequence[NDArray[Any]]:
    pictures = _make_test_pictures(size)
    tested = _test_steps(steps, pictures)
    return tested[-1].images if tested else pictures


# --- Running steps ---


def _run(steps: Sequence[Any], image: NDArray[Any]) -> NDArray[Any]:
    for step in steps:
        image = step(image=image)["image"]
    return image


def _run_head(steps: Sequence[Any], image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """What `_run` gives for steps that draw nothing.

    albumentations takes 20 us for each to find that out, and copies a crop that is resized anyway.
    """
    for step in steps:
        if type(step) is albu.Resize and step.p >= 1:
            image = step.apply(image)
        elif type(step) is albu.CenterCrop and step.p >= 1:
            image = _crop_center(step, image)
        else:
            image = step(image=image)["image"]
    return np.ascontiguousarray(image)


def _crop_center(step: Any, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """The part that a CenterCrop takes, as a view; a padded copy of an image that is too small."""
    found = step.get_params_dependent_on_data({"shape": image.shape}, {})
    if found["pad_params"] is not None:
        padded: NDArray[np.uint8] = step(image=image)["image"]
        return padded
    left, top, right, bottom = found["crop_coords"]
    return image[top:bottom, left:right]


def _test_steps(steps: Sequence[Any], images: Sequence[NDArray[Any]]) -> list[_TestedStep]:
    """Run the steps on test pictures, one after the other.

    A step that draws no random number here cannot draw one later.
    """
    tested = []
    for step in steps:
        try:
            different = {id(image): image for image in images}
            made = _apply(step, list(different.values()), _NoDraws(), _NoDraws())
            found = dict(zip(different, made, strict=True))
            images, draws = [found[id(image)] for image in images], False
        except DrawsError:
            seeded = random.Random(0)  # noqa: S311
            images, draws = _apply(step, images, np.random.default_rng(0), seeded), True
        tested.append(_TestedStep(step, draws, images))
    return tested


def _apply(
    step: Any, images: Sequence[NDArray[Any]], generator: Any, python: Any
) -> list[NDArray[Any]]:
    step.set_random_state(generator, python)
    try:
        return [_run([step], image) for image in images]
    except DrawsError:
        raise
    except STEP_ERRORS as error:
        name = type(step).__name__
        raise ConfigError(
            f"augment.name: {name} fails on a test picture: {_one_line(error)}"
        ) from error


def _make_test_pictures(size: tuple[int, int]) -> list[NDArray[np.uint8]]:
    """Test pictures of two shapes, each twice: a random step may change its output shape."""
    # copies, because a step may write into its picture
    return [picture.copy() for picture in _draw_noise(max(PROBE_SIDE, 2 * max(size)))] * 2


@lru_cache(maxsize=1)
def _draw_noise(side: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Noise of two shapes; a run tests five pipelines, and 30 ms of each would draw this."""
    noise = np.random.default_rng(0).integers(0, 256, (side, side * 5 // 4, 3), dtype=np.uint8)
    return noise, np.ascontiguousarray(noise.transpose(1, 0, 2))


def _make_key(head: Sequence[Any], prepared: NDArray[Any], *, reduces: bool) -> str:
    """Equal for heads that do the same.

    It covers the parameters, the library versions and the result for a test picture.
    """
    steps = [step.to_dict_private() for step in head]
    decoding = ["reduced"] if reduces else []
    facts = json.dumps(
        [KEY_VERSION, albu.__version__, cv2.__version__, steps, *decoding],
        sort_keys=True,
        default=str,
    )
    return hashlib.sha256(facts.encode() + np.ascontiguousarray(prepared).tobytes()).hexdigest()


def _render_shape(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def _one_line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
