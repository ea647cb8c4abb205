"""Heat maps lie where the evidence is, for every kind of model."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import timm
import torch
from torch import Tensor, nn

from tracker.training.errors import ConfigError
from tracker.training.explain import explain_batch
from tracker.training.model import AttributeHeads

SIDE, SQUARE = 64, 16


def draw_squares(count: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Grey images with a bright square, whose colour is the class; and the squares' corners, at cells of 16."""
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
    """The model with a head that is right about the squares, and by nothing but them; the rest is as it was drawn.

    A class's weights are what its squares add to the features of an empty image, so that no training, which ends
    elsewhere on every machine, has a say in where the evidence lies.
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
        head.bias.copy_((empty.square().sum() - means.square().sum(1)) * scale / 2)  # the nearer mean wins
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
