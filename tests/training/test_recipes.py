"""What a recipe sets, and what wins over it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.support.hub import save_to_cache
from tracker.training.config import Config, config_to_dict, merge
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import ConfigError
from tracker.training.recipes import RECIPES, Tables, build_recipe, render_recipe

VIT: Mapping[str, Any] = {"model": {"name": "test_vit"}}
TRAINED = merge(VIT, {"model": {"pretrained": True}})


def build(
    name: str,
    defaults: Mapping[str, Any] = VIT,
    given: Mapping[str, Any] | None = None,
    target: str = "class",
) -> Tables:
    return build_recipe(name, defaults, given or {}, target=target, root=Path())


@pytest.fixture(autouse=True)
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No weights are on this machine."""
    from huggingface_hub import constants

    cache = tmp_path / "cache"
    cache.mkdir()
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr("huggingface_hub.file_download.HF_HUB_CACHE", str(cache), raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return cache


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("defaults", [VIT, TRAINED], ids=["random", "pretrained"])
@pytest.mark.parametrize("epochs", [1, 10, 200])
def test_a_recipe_makes_a_valid_config_of_any_length(
    name: str, defaults: Mapping[str, Any], epochs: int
) -> None:
    given = {"train": {"epochs": epochs}}
    tables = build(name, defaults, given)
    config = config_from_dict(merge(config_to_dict(Config()), defaults, tables, given))
    assert config.train.epochs == epochs
    assert 0 < config.sched.warmup_epochs < min(epochs, 5.1)
    assert (config.data.mean, config.data.std, config.eval.tta) == ("model", "model", "flip")
    assert config.data.image_size == (160, 160), "the model's own"
    assert config.train.ema > 0


def test_pretrained_weights_are_used_where_they_are_named_or_on_this_machine(
    empty_cache: Path,
) -> None:
    assert "pretrained" not in build("fast").get("model", {})
    assert "layer_decay" not in build("fast")["optim"]
    assert build("fast", TRAINED)["optim"]["layer_decay"] < 1
    path = merge(VIT, {"model": {"pretrained": "weights.pth"}})
    assert build("fast", path)["model"]["pretrained"] == "weights.pth"
    save_to_cache(empty_cache, "timm/test_vit.r160_in1k")
    assert build("fast")["model"]["pretrained"] is True
    without = build("fast", given={"model": {"pretrained": False}})
    assert "model" not in without
    assert "layer_decay" not in without["optim"]


def test_what_is_given_wins_over_the_recipe() -> None:
    given = {"optim": {"lr": 0.1}, "augment": {"scale": 0.9}, "data": {"image_size": [64, 64]}}
    tables = build("strong", given=given)
    assert "lr" not in tables["optim"]
    assert "scale" not in tables["augment"]
    assert "image_size" not in tables["data"]
    assert merge(tables, given)["augment"]["name"] == "strong"
    assert "  augment: name = strong, mixup = 0.2, cutmix = 1" in render_recipe(tables)


def test_a_recipe_leaves_out_what_does_not_fit_target_and_strategy() -> None:
    assert build("fast")["loss"]["name"] == "label_smoothing"
    assert "loss" not in build("fast", target="labels")
    assert "loss" not in build("fast", target="number")
    assert "ema" not in build("fast", merge(VIT, {"train": {"strategy": "fsdp"}}))["train"]
    assert RECIPES["fast"].random["train"]["ema"], "the table itself is not changed"


def test_an_unknown_recipe_is_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"no recipe 'fsat' \(nearest: fast\)") as caught:
        build("fsat")
    assert caught.value.hint == "recipes: fast, strong"
