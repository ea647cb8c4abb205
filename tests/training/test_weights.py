"""Local weight files of several formats: what is loaded, what is not, and what is said about it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

from tracker.training.config import ModelConfig
from tracker.training.errors import WeightsError
from tracker.training.model import build_model
from tracker.training.weights import load_local_weights

SWIN = "swin_tiny_patch4_window7_224"


def build(name: str, *, pretrained: str = "", classes: int = 2, size: int = 32, root: Path = Path()) -> torch.nn.Module:
    config = ModelConfig(name=name, pretrained=pretrained or False)
    return build_model(config, num_classes=classes, image_size=(size, size), root=root)


def to_original_swin(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names as the release of the Swin authors has them: downsampling ends a stage, masks are kept."""
    original = {}
    for name, value in state.items():
        old = re.sub(r"layers\.(\d+)\.downsample", lambda found: f"layers.{int(found[1]) - 1}.downsample", name)
        original[old.replace("head.fc.", "head.")] = value
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(49, 49, dtype=torch.int64)
    return original


def test_the_original_swin_release_is_loaded_and_its_head_is_left(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build(SWIN, classes=5, size=224).state_dict()
    torch.save({"model": to_original_swin(source), "epoch": 1}, tmp_path / "swin.pth")
    torch.manual_seed(2)
    model = build(SWIN, size=224)
    said = load_local_weights(model, tmp_path / "swin.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name]) or name.startswith("head.fc."), name
    assert model.state_dict()["head.fc.weight"].shape[0] == 2
    assert "2 of" in said
    assert "start random (head.fc.bias, head.fc.weight)" in said
    assert "2 of the file are not used (head.fc.bias, head.fc.weight)" in said


def test_a_transformer_takes_weights_of_another_image_size(tmp_path: Path) -> None:
    torch.save(build("vit_tiny_patch16_224", size=64).state_dict(), tmp_path / "vit.pth")
    model = build("vit_tiny_patch16_224", pretrained="vit.pth", size=32, root=tmp_path)
    assert model(torch.zeros(1, 3, 32, 32)).shape == (1, 2)


def test_weights_of_another_model_of_the_family_are_refused(tmp_path: Path) -> None:
    torch.save(build("vit_tiny_patch16_224").state_dict(), tmp_path / "tiny.pth")
    with pytest.raises(WeightsError, match="does not fit this model"):
        build("vit_small_patch16_224", pretrained="tiny.pth", root=tmp_path)
    torch.save(build("resnet10t").state_dict(), tmp_path / "resnet.pth")
    with pytest.raises(WeightsError, match="does not fit this model"):
        build("vit_tiny_patch16_224", pretrained="resnet.pth", root=tmp_path)


def test_what_was_not_loaded_is_said_and_nothing_else(tmp_path: Path) -> None:
    state = build("resnet10t").state_dict()
    torch.save({**state, "extra": torch.ones(1)}, tmp_path / "whole.pth")
    said = load_local_weights(build("resnet10t"), tmp_path / "whole.pth")
    assert said == f"whole.pth: {len(state)} tensors loaded, 1 of the file are not used (extra)"


def test_attribute_heads_take_local_weights_for_their_body(tmp_path: Path) -> None:
    source = build("resnet10t", classes=9).state_dict()
    torch.save(source, tmp_path / "body.pth")
    config = ModelConfig(name="resnet10t", pretrained="body.pth", heads="attributes")
    model = build_model(config, num_classes=18, image_size=(32, 32), root=tmp_path).state_dict()
    assert torch.equal(model["body.conv1.0.weight"], source["conv1.0.weight"])
    assert model["body.fc.weight"].shape[0] == 8
