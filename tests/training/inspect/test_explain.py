"""Heat maps lie where the evidence is, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import albumentations as albu
import numpy as np
import pytest
import timm
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from tests.training.conftest import find_cut
from tracker.training.config import AugmentConfig, DataConfig
from tracker.training.errors import ConfigError
from tracker.training.input.augment import build_pipeline
from tracker.training.inspect.explain import (
    Heatmap,
    ImageToExplain,
    View,
    draw_heatmaps,
    explain_batch,
    find_view,
    lay_over,
)
from tracker.training.model.model import AttributeHeads

SIDE, SQUARE = 64, 16


def draw_squares(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grey images with a bright square, whose color is the class; and the squares' corners, at
    cells of 16."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(count, 3, SIDE, SIDE, generator=generator) * 0.02 - 0.01
    labels = torch.randint(0, 2, (count,), generator=generator)
    corners = torch.randint(0, SIDE // SQUARE, (count, 2), generator=generator) * SQUARE
    for image, label, (row, column) in zip(images, labels, corners, strict=True):
        square = image[:, row : row + SQUARE, column : column + SQUARE]
        square.fill_(-0.5)
        square[2 * label] = 1.5
    return images, labels, corners


def make_cnn() -> nn.Module:
    model: nn.Module = timm.create_model("test_resnet", num_classes=2)
    return model


def make_vit() -> nn.Module:
    model: nn.Module = timm.create_model("test_vit", num_classes=2, img_size=SIDE)
    return model


def make_swin() -> nn.Module:
    small = {"embed_dim": 24, "depths": (1, 1, 2, 1), "num_heads": (1, 2, 4, 8), "img_size": SIDE}
    model: nn.Module = timm.create_model("swin_tiny_patch4_window7_224", num_classes=2, **small)
    return model


def decide_by_squares(model: nn.Module) -> nn.Module:
    """The model with a head that is right about the squares, and by nothing but them; the rest is
    as it was drawn.

    A class's weights are what its squares add to the features of an empty image, so that no
    training, which ends elsewhere on every machine, has a say in where the evidence lies.
    """

    def extract(images: Tensor) -> Tensor:
        features: Tensor = model.forward_head(model.forward_features(images), pre_logits=True)
        return features

    images, labels, _ = draw_squares(96, seed=0)
    with torch.no_grad():
        empty, features = extract(torch.zeros(1, 3, SIDE, SIDE))[0], extract(images)
        means = torch.stack([features[labels == label].mean(0) for label in range(2)])
        scale = 10 / (means[0] - means[1]).square().sum()
        head = model.get_classifier()
        head.weight.copy_((means - empty) * scale)
        head.bias.copy_(
            (empty.square().sum() - means.square().sum(1)) * scale / 2
        )  # the nearer mean wins
    return model


@pytest.mark.parametrize("make", [make_cnn, make_vit, make_swin], ids=["cnn", "vit", "swin"])
def test_the_heat_lies_on_the_square_that_decides(make: Callable[[], nn.Module]) -> None:
    torch.manual_seed(4)
    model = make().eval()
    if hasattr(model, "pos_embed"):
        model.pos_embed.data.zero_()  # a square is the same wherever it lies
    images, labels, corners = draw_squares(16, seed=1)
    probabilities, heat = explain_batch(decide_by_squares(model), images)
    assert probabilities.argmax(1).tolist() == labels.tolist()
    assert heat.shape == (16, SIDE, SIDE)
    assert heat.min() >= 0
    assert heat.max() <= 1
    inside = [
        one[row : row + SQUARE, column : column + SQUARE].sum() / one.sum()
        for one, (row, column) in zip(heat, corners.tolist(), strict=True)
    ]
    assert min(inside) > 4 * SQUARE**2 / SIDE**2


def test_attribute_heads_that_are_sure_still_have_evidence() -> None:
    torch.manual_seed(0)
    body = timm.create_model("test_resnet", num_classes=8)
    with torch.no_grad():
        body.get_classifier().weight.mul_(1e6)
    probabilities, heat = explain_batch(AttributeHeads(body).eval(), draw_squares(4, seed=0)[0])
    assert probabilities.shape == (4, 18)
    assert probabilities.max(1).min() > 0.999999
    assert (heat.max((1, 2)) == 1).all()


def test_a_frozen_model_is_explained_and_left_as_it_was() -> None:
    model = make_cnn().eval().requires_grad_(False)
    images = draw_squares(2, seed=0)[0]
    before = model(images)
    explain_batch(model, images)
    assert torch.equal(model(images), before)
    assert not images.requires_grad


def test_a_model_without_a_feature_map_is_told() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE * SIDE, 2))
    with pytest.raises(ConfigError, match="no feature map"):
        explain_batch(model, draw_squares(2, seed=0)[0])


# --- The heat lies on the photograph, whatever shape that has ---

PLAIN = DataConfig(image_size=(32, 32), mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4))
WIDE = (60, 160)  # height, width


def view_of(augment: AugmentConfig, root: Path, size: tuple[int, int] = WIDE) -> View | None:
    return find_view(build_pipeline(augment, PLAIN, root=root, train=False), size)


def write_pipeline(root: Path, *steps: albu.BasicTransform) -> AugmentConfig:
    albu.save(albu.Compose(steps), root / "own.yaml", data_format="yaml")
    return AugmentConfig(name=str(root / "own.yaml"))


def test_where_the_model_looks_is_found_for_every_crop(tmp_path: Path) -> None:
    squash = view_of(
        AugmentConfig(name="base", crop_pct=1.0, crop_mode="squash", interpolation="area"), tmp_path
    )
    assert squash is not None
    assert (squash.left, squash.top, squash.right, squash.bottom) == pytest.approx(
        (0, 0, 1, 1), abs=0.02
    )
    center = view_of(
        AugmentConfig(name="base", crop_pct=0.8, crop_mode="center", interpolation="bicubic"),
        tmp_path,
    )
    assert center is not None
    side = 0.8 * WIDE[0] / WIDE[1]  # of a square in the middle, in widths of the photograph
    assert (center.left, center.right) == pytest.approx((0.5 - side / 2, 0.5 + side / 2), abs=0.02)
    assert (center.top, center.bottom) == pytest.approx((0.1, 0.9), abs=0.02)
    padded = view_of(AugmentConfig(name="custom", crop=(80, 80)), tmp_path)
    assert padded is not None
    assert (padded.left, padded.top, padded.right, padded.bottom) == pytest.approx(
        (0.25, -1 / 6, 0.75, 7 / 6), abs=0.03
    )


def test_a_turned_photograph_has_no_view_and_a_flipped_one_a_flipped_one(tmp_path: Path) -> None:
    assert view_of(write_pipeline(tmp_path, albu.Transpose(p=1)), tmp_path) is None
    flipped = view_of(write_pipeline(tmp_path, albu.HorizontalFlip(p=1)), tmp_path)
    assert flipped is not None
    assert (flipped.left, flipped.right) == pytest.approx((1, 0), abs=0.02)


def test_the_heat_is_laid_over_the_place_that_it_is_of() -> None:
    heat = np.zeros((8, 8), dtype=np.float32)
    heat[:, :4] = 1  # the left half of what the model sees, which is the middle of the photograph
    laid = lay_over(np.full((60, 160, 3), 100, dtype=np.uint8), heat, View(0.25, 0, 0.75, 1))
    assert laid.shape == (60, 160, 3)
    colored = np.ptp(laid.astype(int), axis=2) > 20
    assert colored[:, 44:76].all()
    assert not colored[:, :39].any()
    assert not colored[:, 86:].any()
    assert laid[:, :39].min() > laid[:, 90:118].max()  # what is not seen is pale


def test_a_sheet_shows_wide_photographs_in_their_shape_says_what_colors_mean_and_names_them_whole(
    tmp_path: Path, drawn: list[Figure]
) -> None:
    found = []
    for number, size in enumerate([(200, 50), (50, 200), (80, 80)]):
        path = tmp_path / f"{'a_long_name_' * 6}{number}.png"
        Image.new("RGB", size, (90, 90, 90)).save(path)
        heat = np.linspace(0, 1, 32 * 32, dtype=np.float32).reshape(32, 32)
        shown = ImageToExplain(path.name, path, (0, 1, None)[number])
        view = View(0, 0, 1, 1) if number < 2 else None
        found.append(
            Heatmap(shown, 0, 0.6150001, np.full((32, 32, 3), 9, dtype=np.uint8), heat, view)
        )
    draw_heatmaps(found, ("cat", "dog"), tmp_path / "explain.png")
    (figure,) = drawn
    assert find_cut(figure) == []
    *tiles, bar = figure.axes
    shapes = [axes.images[0].get_array().shape[:2] for axes in tiles]  # type: ignore[union-attr]
    assert shapes == [(50, 200), (50, 200), (200, 50), (200, 50), (80, 80), (32, 32)]
    for axes, (height, width) in zip(tiles, shapes, strict=True):
        box = axes.get_window_extent()
        assert box.width / box.height == pytest.approx(width / height, rel=0.05)
        assert axes.get_xlabel().replace("\n", "") in (
            [one.image.id for one in found] + ["", "as the model gets it"]
        )
    assert [tile.get_title().partition("\n")[0] for tile in tiles[::2]] == [
        "true cat",
        "true dog",
        "true class unknown",
    ]
    rounded = f"{round(0.6150001, 6):.2f}"  # as the table has it
    assert all(tile.get_title().endswith(f"predicted cat  {rounded}") for tile in tiles[::2])
    assert [label.get_text().partition(":")[0] for label in bar.get_xticklabels()] == [
        "gray, blue",
        "red",
    ]
    assert len(figure.legends[0].get_texts()) == 3
