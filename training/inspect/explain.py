"""Where a model looks: Grad-CAM heat maps (Selvaraju et al. 2017, arXiv:1610.02391) by Captum.

A heat map is made of the deepest stage that has at least MIN_CELLS cells a side, else of the finest
one, among those that still decide the answer: of a ViT that answers from its class token, the
patches of the last block decide nothing.

Features that were not rectified (ViT, Swin, EfficientNet) have an offset that is the same in every
cell and tells no place: there the mean over the cells is subtracted. In trials with squares of
known place, the share of a ViT's heat on the square rose from 0.05..0.33 to 0.30..0.61.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tracker.training.config import Config, EvalConfig
from tracker.training.errors import ConfigError
from tracker.training.formats.images import decode_image
from tracker.training.formats.samples import Task
from tracker.training.input.augment import STEP_ERRORS, Pipeline, build_pipeline
from tracker.training.model.model import AttributeHeads, NumberHead
from tracker.training.pictures.sheets import (
    NEUTRAL,
    RIGHT,
    WRONG,
    Legend,
    Tile,
    draw_sheet,
    load_thumbnail,
)
from tracker.training.run.infer import Weights, rebuild_model
from tracker.training.run.setup import build_fabric

MIN_CELLS = 6  # 224 pixels make 7 cells in the last stage of most models, 96 only 3
BATCH = 8  # gradients are computed: more images need much memory
COLUMNS = 6  # three photographs and their heat maps
STRENGTH = 0.65  # of the colors over the photograph where the heat is highest
OUTSIDE = 0.6  # share of white where the model does not see the photograph
# of the photograph's side: by how much a pixel may lie elsewhere than a plain crop and resize puts
# it
INEXACT = 0.02
MAX_PREFIX = 16  # class and register tokens before the patches


@dataclass(frozen=True)
class ImageToExplain:
    """An image to explain; `label` is its class, None where unknown."""

    id: str
    path: Path
    label: int | None


@dataclass(frozen=True)
class View:
    """The rectangle of a photograph that a model sees, in shares of width and height.

    It may reach beyond the photograph.
    """

    left: float
    top: float
    right: float
    bottom: float


@dataclass(frozen=True)
class Heatmap:
    """A prediction for an image, its confidence (0 to 1), and the evidence for it.

    `model_input` uint8 [height, width, 3] is the image as the model gets it. `heat` float32
    [height, width], 0 to 1, is the evidence in it for the prediction. `view` is its place in the
    photograph, None where that is no plain rectangle.
    """

    image: ImageToExplain
    guess: int
    confidence: float
    model_input: NDArray[np.uint8]
    heat: NDArray[np.float32]
    view: View | None


def explain_images(
    config: Config,
    images: Sequence[ImageToExplain],
    task: Task,
    weights: Weights,
    *,
    root: Path,
    evaluation: EvalConfig | None,
    notify: Callable[[str], None],
) -> list[Heatmap]:
    """Explain the predictions of a trained model.

    `evaluation`: images are seen with that crop; None: as in validation. Raises ConfigError for a
    model without a feature map, WeightsError for weights that do not fit.
    """
    device = build_fabric(config, environment=None, notify=notify).device
    model = rebuild_model(config, task, weights, root=root).to(device).eval()
    pipeline = build_pipeline(
        config.augment, config.data, root=root, train=False, evaluation=evaluation
    )
    # without jitter, because `find_view` reads positions from colors
    plain = replace(evaluation, color_jitter=0.0) if evaluation else None
    geometry = build_pipeline(config.augment, config.data, root=root, train=False, evaluation=plain)
    # photographs of one size have the same view
    views: dict[tuple[int, ...], View | None] = {}
    heatmaps = []
    for start in range(0, len(images), BATCH):
        part = images[start : start + BATCH]
        pixels = np.empty((len(part), *config.data.image_size, 3), dtype=np.float32)
        sizes = []
        for image, out in zip(part, pixels, strict=True):
            sizes.append(decode_image(image.path).shape[:2])  # the view is of the whole photograph
            decoded = pipeline.decode(image.path)
            pipeline.finish(pipeline.prepare(decoded), out, seed=config.train.seed)
            if sizes[-1] not in views:
                views[sizes[-1]] = find_view(geometry, sizes[-1])
        batch = torch.from_numpy(pixels).permute(0, 3, 1, 2).to(device)
        probabilities, heat = explain_batch(model, batch)
        for row, image in enumerate(part):
            guess = int(probabilities[row].argmax())
            model_input = _to_picture(pixels[row])
            view = views[sizes[row]]
            heatmaps.append(
                Heatmap(
                    image, guess, float(probabilities[row, guess]), model_input, heat[row], view
                )
            )
    return heatmaps


def find_view(pipeline: Pipeline, size: tuple[int, int]) -> View | None:
    """Which part of a photograph of this size [height, width] reaches the model.

    None where that is no plain rectangle. It is found by sending a picture through whose red says
    how far to the right a pixel lies, and its green how far down; a black and a white one tell what
    the colors became, and which pixels were only added at the edges.
    """
    right, down = (
        np.linspace(0, 255, side, dtype=np.float32).round().astype(np.uint8)
        for side in reversed(size)
    )
    ramps = np.stack(np.broadcast_arrays(right[None, :], down[:, None], np.uint8(0)), axis=2)
    results = []
    for picture in (np.zeros_like(ramps), np.full_like(ramps, 255), ramps):
        out = np.empty((*pipeline.size, 3), dtype=np.float32)
        try:
            pipeline.finish(pipeline.prepare(picture), out, seed=0)
        except STEP_ERRORS:
            return None
        results.append(out[..., :2])
    # pixels that are the same for black and white were added at the edges
    black, white, mapped = results
    photograph = (np.abs(white - black) > 1e-3).all(axis=2)
    if photograph.sum() < photograph.size / 10:
        return None
    places = (mapped - black) / np.where(photograph[..., None], white - black, 1)
    across, along = (
        _fit_edges(places[..., axis], photograph, 1 - axis, size[1 - axis]) for axis in (0, 1)
    )
    if across is None or along is None:
        return None
    return View(across[0], along[0], across[1], along[1])


def _fit_edges(
    places: NDArray[np.floating[Any]], photograph: NDArray[np.bool_], axis: int, side: int
) -> tuple[float, float] | None:
    """The positions of the first and the last edge along an axis.

    None when the `places` do not grow evenly along it.
    """
    cells = np.indices(places.shape)[axis]
    slope, start = np.polyfit(cells[photograph], places[photograph], 1)
    off = np.abs(start + slope * cells - places)[photograph]
    if np.quantile(off, 0.95) > INEXACT or not slope:
        return None
    first, last = start - slope / 2, start + slope * (places.shape[axis] - 0.5)
    # 0 is the middle of the photograph's first pixel and 1 that of its last one
    return float((first * (side - 1) + 0.5) / side), float((last * (side - 1) + 0.5) / side)


def explain_batch(
    model: nn.Module, images: Tensor
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probabilities [images, classes] and heat maps [images, height, width], 0 to 1.

    A heat map is about the most probable class. Images are float [images, 3, height, width]; the
    model is in evaluation mode. Raises ConfigError when it has no feature map.
    """
    body = model.body if isinstance(model, AttributeHeads | NumberHead) else model
    score = model.score if isinstance(model, AttributeHeads) else model
    with torch.no_grad():
        probabilities = functional.softmax(model(images), dim=1)
    evidence = None
    for name, reduction in _list_stages(body):
        tap = _Tap(reduction, images, channels_last=str(getattr(body, "output_fmt", "")) == "NHWC")
        attribution = tap.attribute(score, body.get_submodule(name), probabilities.argmax(1))
        if attribution is None or not attribution.any():  # the answer does not depend on this stage
            continue
        if evidence is not None and attribution.numel() <= evidence.numel():  # not finer
            continue
        evidence = attribution
        if min(attribution.shape[2:]) >= MIN_CELLS:
            break
    if evidence is None:
        raise ConfigError(
            "this model has no feature map that its answer depends on, so nothing can be explained"
        )
    heat = functional.interpolate(evidence.clamp_min(0), size=images.shape[2:], mode="bilinear")[
        :, 0
    ]
    heat = heat / heat.amax(dim=(1, 2), keepdim=True).clamp_min(torch.finfo(heat.dtype).tiny)
    return probabilities.float().cpu().numpy(), heat.float().cpu().numpy()


def _list_stages(body: nn.Module) -> list[tuple[str, int]]:
    """Module and pixels per cell of each feature stage of timm, the deepest first."""
    stages = [
        (str(stage["module"]), int(stage["reduction"]))
        for stage in getattr(body, "feature_info", ())
    ]
    return [(name, reduction) for name, reduction in reversed(stages) if reduction > 1]


class _Tap(nn.Module):
    """Gives Captum a stage's output as a map [images, channels, rows, columns].

    The model itself gets the output back unchanged.
    """

    def __init__(self, reduction: int, images: Tensor, *, channels_last: bool) -> None:
        super().__init__()
        self._images = images
        self._reduction = reduction
        self._channels_last = channels_last
        self._has_map = self._is_signed = False

    def forward(self, feature_map: Tensor) -> Tensor:
        """The layer that Captum looks at."""
        self._has_map, self._is_signed = True, bool((feature_map < 0).any())
        return feature_map

    def attribute(
        self, score: Callable[[Tensor], Tensor], stage: nn.Module, classes: Tensor
    ) -> Tensor | None:
        """Grad-CAM [images, 1, rows, columns] of classes [images]; None without a map."""
        from captum.attr import LayerGradCam

        hook = stage.register_forward_hook(self._pass_through)
        try:
            with torch.no_grad():
                score(self._images)
            if not self._has_map:
                return None
            with torch.enable_grad():
                attribution: Tensor = (
                    LayerGradCam(score, self).attribute(self._images, target=classes).detach()
                )
            if self._is_signed:  # without the offset that all cells share, see above
                attribution = attribution - attribution.mean((2, 3), keepdim=True)
            return attribution
        finally:
            hook.remove()

    def _pass_through(self, _module: nn.Module, _inputs: Any, output: Any) -> Any:
        """The stage's output after it went through `forward` as a map.

        It is a copy, because the next layer may write to it.
        """
        if not isinstance(output, Tensor):
            return output
        if output.dim() == 4:
            if self._channels_last:
                return self(output.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).clone()
            return self(output).clone()
        grid = self._find_grid(output.shape[1]) if output.dim() == 3 else None
        if grid is None:
            return output
        first = output.shape[1] - grid[0] * grid[1]
        cells = output[:, first:].transpose(1, 2)
        tokens = self(cells.reshape(*cells.shape[:2], *grid)).flatten(2).transpose(1, 2)
        return torch.cat([output[:, :first], tokens], dim=1)

    def _find_grid(self, tokens: int) -> tuple[int, int] | None:
        """Rows and columns of the patches among this number of tokens.

        A partial cell at the edge may count.
        """
        height, width = self._images.shape[2:]
        for part in (0, self._reduction - 1):
            rows, columns = ((side + part) // self._reduction for side in (height, width))
            if 0 <= tokens - rows * columns <= MAX_PREFIX and rows * columns:
                return rows, columns
        return None


def _to_picture(pixels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Normalized pixels as a picture: the darkest value of each channel 0, the brightest 255."""
    low, high = pixels.min((0, 1)), pixels.max((0, 1))
    return np.asarray((pixels - low) / np.maximum(high - low, 1e-6) * 255, dtype=np.uint8)


def draw_heatmaps(heatmaps: Sequence[Heatmap], classes: Sequence[str], path: Path) -> Path:
    """A sheet: each photograph, and beside it the same photograph with its heat map.

    Raises StorageError.
    """
    tiles = []
    for one in heatmaps:
        guess, label = classes[one.guess], one.image.label
        known = "true class unknown" if label is None else f"true {classes[label]}"
        frame = NEUTRAL
        if label is not None:
            frame = RIGHT if label == one.guess else WRONG
        photograph = load_thumbnail(one.image.path)
        tiles.append(
            Tile(
                photograph,
                f"{known}\npredicted {guess}  {round(one.confidence, 6):.2f}",
                one.image.id,
                frame,
            )
        )
        picture = (
            lay_over(photograph, one.heat, one.view)
            if one.view
            else blend(one.model_input, one.heat)
        )
        remark = "" if one.view else "as the model gets it"
        tiles.append(Tile(picture, f"evidence for\n{guess}", remark, frame))
    return draw_sheet(tiles, path, legend=_build_legend(), columns=COLUMNS)


def _build_legend() -> Legend:
    heat = np.linspace(0, 1, 64, dtype=np.float32)[None]
    colors = blend(np.full((1, 64, 3), 128, dtype=np.uint8), heat)[0] / 255
    frames = {
        RIGHT: "the prediction is right",
        WRONG: "the prediction is wrong",
        NEUTRAL: "the true class is unknown",
    }
    sentence = (
        "The number is the probability of the predicted class. Color shows which places of the"
        " photograph speak for that class (Grad-CAM); the pale parts at the edges are cut off"
        " before the model sees them."
    )
    return Legend(
        frames,
        sentence,
        colors,
        ("gray, blue: no evidence", "red: the strongest evidence of this image"),
    )


def lay_over(
    photograph: NDArray[np.uint8], heat: NDArray[np.float32], view: View
) -> NDArray[np.uint8]:
    """The photograph in its own shape with the heat map on it.

    Parts that the model does not see are pale gray.
    """
    import cv2

    height, width = photograph.shape[:2]
    across = ((np.arange(width) + 0.5) / width - view.left) / (view.right - view.left)
    along = ((np.arange(height) + 0.5) / height - view.top) / (view.bottom - view.top)
    x, y = np.meshgrid(across * heat.shape[1] - 0.5, along * heat.shape[0] - 0.5)
    placed = cv2.remap(
        heat,
        x.astype(np.float32),
        y.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REPLICATE,
    )
    inside = ((across >= 0) & (across <= 1))[None, :] & ((along >= 0) & (along <= 1))[:, None]
    blended = blend(photograph, np.where(inside, placed, 0).astype(np.float32))
    pale = np.asarray(blended * (1 - OUTSIDE) + 255 * OUTSIDE, dtype=np.uint8)
    return np.where(inside[..., None], blended, pale)


def blend(pixels: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """The picture [height, width, 3] in gray, colored where the heat [height, width] is."""
    from matplotlib import colormaps

    gray = np.repeat(pixels.mean(2, keepdims=True), 3, axis=2)
    colors = colormaps["turbo"](heat)[..., :3] * 255
    share = STRENGTH * np.sqrt(heat)[..., None]
    return np.asarray(gray * (1 - share) + colors * share, dtype=np.uint8)
