"""Local weight files of several formats: what is loaded, what is not, and what is said about it."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.support.training_loop import CONFIG, Stop, train
from tracker.training.config import ModelConfig
from tracker.training.errors import WeightsError
from tracker.training.model.model import build_model
from tracker.training.model.weights import load_local_weights
from tracker.training.run.checkpoint import (
    load_checkpoint,
    save_checkpoint,
    save_weights,
    weights_fingerprint,
)

SWIN = "swin_tiny_patch4_window7_224"


def build(
    name: str, *, pretrained: str = "", classes: int = 2, size: int = 32, root: Path = Path()
) -> torch.nn.Module:
    config = ModelConfig(name=name, pretrained=pretrained or False)
    return build_model(config, num_classes=classes, image_size=(size, size), root=root)


def to_original_swin(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """timm's names as the release of the Swin authors has them: downsampling ends a stage, masks
    are kept."""
    original = {}
    for name, value in state.items():
        old = re.sub(
            r"layers\.(\d+)\.downsample",
            lambda found: f"layers.{int(found[1]) - 1}.downsample",
            name,
        )
        original[old.replace("head.fc.", "head.")] = value
    original["layers.0.blocks.1.attn_mask"] = torch.zeros(4, 49, 49)
    original["layers.0.blocks.0.attn.relative_position_index"] = torch.zeros(
        49, 49, dtype=torch.int64
    )
    return original


def test_the_original_swin_release_is_loaded_and_its_head_is_left(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build(SWIN, classes=5, size=224).state_dict()
    torch.save({"model": to_original_swin(source), "epoch": 1}, tmp_path / "swin.pth")
    torch.manual_seed(2)
    model = build(SWIN, size=224)
    sentence = load_local_weights(model, tmp_path / "swin.pth")
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name]) or name.startswith("head.fc."), name
    assert model.state_dict()["head.fc.weight"].shape[0] == 2
    assert "2 of" in sentence
    assert "keep their random initialization (head.fc.bias, head.fc.weight)" in sentence
    assert "unused in the file: 2 (head.fc.bias, head.fc.weight)" in sentence


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
    sentence = load_local_weights(build("resnet10t"), tmp_path / "whole.pth")
    assert sentence == f"whole.pth: {len(state)} tensors loaded, unused in the file: 1 (extra)"


def test_attribute_heads_take_local_weights_for_their_body(tmp_path: Path) -> None:
    source = build("resnet10t", classes=9).state_dict()
    torch.save(source, tmp_path / "body.pth")
    config = ModelConfig(name="resnet10t", pretrained="body.pth", heads="attributes")
    model = build_model(config, num_classes=18, image_size=(32, 32), root=tmp_path).state_dict()
    assert torch.equal(model["body.conv1.0.weight"], source["conv1.0.weight"])
    assert model["body.fc.weight"].shape[0] == 8


class Settings:
    """An object such as training scripts keep in their checkpoints; no loader of weights knows its
    class."""

    def __init__(self) -> None:
        self.path = Path("data")


def to_lightning(state: dict[str, torch.Tensor], prefix: str) -> dict[str, object]:
    """A checkpoint as Lightning's Trainer writes it for a module with a loss of its own."""
    names = {f"{prefix}{name}": value for name, value in state.items()}
    return {
        "state_dict": {**names, "criterion.weight": torch.ones(3)},
        "hyper_parameters": {
            "args": argparse.Namespace(lr=1e-3),
            "settings": Settings(),
            "score": np.float64(0.5),
        },
        "callbacks": {"ModelCheckpoint{'monitor': 'f1'}": {"best_model_path": Path("a.ckpt")}},
        "optimizer_states": [],
    }


WRAPPINGS: Mapping[str, Callable[[dict[str, torch.Tensor]], Any]] = {
    "lightning-model": lambda state: to_lightning(state, "model."),
    "lightning-net": lambda state: to_lightning(state, "net."),
    "lightning-deep": lambda state: to_lightning(state, "net.backbone."),
    "model_state_dict": lambda state: {"model_state_dict": state, "optimizer": {"lr": 1}},
    "parallel": lambda state: {"model": {f"module.{name}": value for name, value in state.items()}},
    "parallel-model": lambda state: {
        f"module.model.{name}": value for name, value in state.items()
    },
    "compiled": lambda state: {
        "module": {f"_orig_mod.{name}": value for name, value in state.items()}
    },
    "model_ema": lambda state: {"model": zeros(state), "model_ema": state},
    "state_dict_ema": lambda state: {
        "state_dict": zeros(state),
        "state_dict_ema": {f"module.{name}": value for name, value in state.items()},
    },
    "lightning-ema": lambda state: {
        "state_dict": {
            **{f"model.{name}": value for name, value in zeros(state).items()},
            **{f"ema_model.{name}": value for name, value in state.items()},
        }
    },
}


def zeros(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {name: torch.zeros_like(value) for name, value in state.items()}


@pytest.mark.parametrize("wrapping", WRAPPINGS)
def test_checkpoints_of_other_programs_give_their_body(tmp_path: Path, wrapping: str) -> None:
    torch.manual_seed(1)
    source = build("test_resnet", classes=5).state_dict()
    torch.save(WRAPPINGS[wrapping](source), tmp_path / "x.ckpt")
    torch.manual_seed(2)
    model = build("test_resnet")
    sentence = load_local_weights(model, tmp_path / "x.ckpt")
    for name, value in model.state_dict().items():
        assert torch.equal(value, source[name]) or name.startswith("fc."), name
    assert ("moving average" in sentence) == (wrapping in ("model_ema", "state_dict_ema"))


def test_a_prefix_and_what_is_not_the_model_are_said(tmp_path: Path) -> None:
    state = build("test_resnet").state_dict()
    torch.save(to_lightning(state, "model."), tmp_path / "x.ckpt")
    sentence = load_local_weights(build("test_resnet"), tmp_path / "x.ckpt")
    rest = "unused in the file: 1 (criterion.weight)"
    assert sentence == f"x.ckpt: {len(state)} tensors loaded, prefix model. removed, {rest}"


def test_the_best_weights_of_a_run_with_attribute_heads_start_another(tmp_path: Path) -> None:
    config = ModelConfig(name="test_resnet", heads="attributes")
    source = build_model(config, num_classes=18, image_size=(32, 32), root=tmp_path).state_dict()
    save_checkpoint(tmp_path / "best.pth", {"model": source})
    model = build("test_resnet", pretrained="best.pth", root=tmp_path).state_dict()
    assert torch.equal(model["conv1.0.weight"], source["body.conv1.0.weight"])


class Harmful:
    """Runs a command of its own when it is unpickled."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch harmed",)


@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::UserWarning")
def test_a_pickled_module_is_refused_and_the_way_to_save_its_weights_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = build("test_resnet")
    torch.save(model, tmp_path / "module.pth")
    torch.save({"model": model, "epoch": 1}, tmp_path / "inside.pth")
    torch.save({"state_dict": model.state_dict(), "x": Harmful()}, tmp_path / "harmful.pth")
    torch.save(
        {"state_dict": model.state_dict(), "x": Settings()},
        tmp_path / "old.pth",
        _use_new_zipfile_serialization=False,
    )
    torch.jit.script(torch.nn.Linear(2, 2)).save(tmp_path / "script.pth")
    for name in ("module", "inside", "harmful", "old", "script"):
        with pytest.raises(WeightsError) as caught:
            load_local_weights(model, tmp_path / f"{name}.pth")
        with pytest.raises(WeightsError) as again:
            save_weights(tmp_path / f"{name}.pth", tmp_path / "best.pth")
        for error in (caught.value, again.value):
            assert "weights_only" not in f"{error} {error.hint}"
            assert 'torch.save(model.state_dict(), "weights.pth")' in error.hint
    assert not (tmp_path / "harmed").exists()
    assert not (tmp_path / "best.pth").exists()


@pytest.mark.parametrize("content", [b"", b"junk", b"PK\x03\x04", b"\x80\x02}q\x00.", b"hello"])
def test_a_file_that_holds_no_weights_is_one_error(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match=r"cannot read weights|is not a state dict"):
            load_local_weights(torch.nn.Linear(1, 1), tmp_path / name)
    with pytest.raises(WeightsError, match="checkpoint"):
        load_checkpoint(tmp_path / "x.pth")


def test_safetensors_are_kept_as_a_checkpoint(tmp_path: Path) -> None:
    state = build("test_resnet").state_dict()
    save_file(state, tmp_path / "x.safetensors")
    assert save_weights(tmp_path / "x.safetensors", tmp_path / "best.pth") == weights_fingerprint(
        state
    )
    assert load_checkpoint(tmp_path / "best.pth")["model"].keys() == state.keys()


def test_a_run_that_ended_in_its_first_epoch_starts_again_from_its_pretrained_weights(
    folders: Path,
) -> None:
    torch.manual_seed(5)
    torch.save(build("test_resnet").state_dict(), folders / "start.pth")
    model = ModelConfig(name="test_resnet", pretrained="start.pth")
    config = replace(CONFIG, model=model, train=replace(CONFIG.train, epochs=1))
    whole, _ = train(config, folders, "whole")
    with pytest.raises(Stop):
        train(config, folders, "cut", stop_at_step=1)
    resumed, _ = train(config, folders, "cut", resume=True)
    assert resumed.weights_fingerprint == whole.weights_fingerprint


def test_a_run_goes_on_when_the_weights_that_it_started_from_are_gone(folders: Path) -> None:
    path = folders / "start.pth"
    torch.save(build("test_resnet").state_dict(), path)
    model = ModelConfig(name="test_resnet", pretrained=path.name)
    config = replace(CONFIG, model=model, train=replace(CONFIG.train, epochs=2))
    with pytest.raises(Stop):
        train(config, folders, "a", stop_after=1)
    path.unlink()
    _, logger = train(config, folders, "a", resume=True)
    assert "best.pth" in logger.files
