"""Recipes: named sets of config keys that place well without tuning."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.training.config import OF_MODEL, Config, config_to_dict, merge
from tracker.training.errors import ConfigError, TrainingError, find_nearest
from tracker.training.targets import TARGETS

Tables = dict[str, dict[str, Any]]
WARMUP = 0.1  # share of the epochs, at most LONGEST_WARMUP of them
LONGEST_WARMUP = 5.0

# What each recipe does with any weights.
_ALWAYS: Tables = {
    "data": {"mean": OF_MODEL, "std": OF_MODEL},
    "optim": {"name": "adamw", "weight_decay": 0.05},
    "sched": {"name": "cosine"},
    "eval": {"tta": "flip"},
}


@dataclass(frozen=True)
class Recipe:
    """A set of config keys; `pretrained` and `random` are added by what the weights are.

    `of_classes` is added where each image has one class.
    """

    doc: str
    pretrained: Tables
    random: Tables
    of_classes: Tables


RECIPES: dict[str, Recipe] = {
    "fast": Recipe(
        doc="Mild augmentation, a moving average of the weights, and warm-up, in the epochs of the"
        " config: for a first good result, with few images too.",
        pretrained={
            "augment": {"name": "auto", "scale": 0.35},
            "optim": {"lr": 5e-4, "layer_decay": 0.75},
            "train": {"ema": 0.998},
        },
        random={
            "augment": {"name": "standard", "scale": 0.35},
            "optim": {"lr": 1e-3},
            "train": {"batch_size": 16, "ema": 0.99},
        },
        of_classes={"loss": {"name": "label_smoothing", "smoothing": 0.1}},
    ),
    "strong": Recipe(
        doc="Strong augmentation, mixup and cutmix for 30 epochs, 60 with random weights: for the"
        " last points, with time.",
        pretrained={
            "augment": {"name": "strong", "scale": 0.25, "mixup": 0.2, "cutmix": 1.0},
            "optim": {"lr": 5e-4, "layer_decay": 0.75},
            "train": {"epochs": 30, "ema": 0.9998, "clip_grad": 1.0},
        },
        random={
            "augment": {"name": "strong", "scale": 0.25, "mixup": 0.2, "cutmix": 1.0},
            "optim": {"lr": 1e-3},
            "train": {"epochs": 60, "ema": 0.999, "clip_grad": 1.0},
        },
        of_classes={"loss": {"name": "label_smoothing", "smoothing": 0.1}},
    ),
}


def build_recipe(
    name: str, defaults: Mapping[str, Any], given: Mapping[str, Any], *, target: str, root: Path
) -> Tables:
    """The keys of a recipe as nested tables, without those that are `given` and win.

    `defaults` are what a new run takes without the recipe. Pretrained weights are used where the
    config names some or they are on this machine; nothing is downloaded to find out. Raises
    ConfigError for an unknown recipe, and for a model that timm does not have.
    """
    if name not in RECIPES:
        near = find_nearest(name, RECIPES)
        raise ConfigError(
            f"no recipe {name!r}{f' (nearest: {near})' if near else ''}",
            hint=f"recipes: {', '.join(RECIPES)}",
        )
    recipe = RECIPES[name]
    values = merge(config_to_dict(Config()), defaults, given)
    settings = _read_settings(str(values["model"]["name"]), root)
    weights = _choose_weights(values, given, settings)
    tables = merge(_ALWAYS, {"model": {"pretrained": weights}} if weights else {})
    tables = merge(tables, recipe.pretrained if weights else recipe.random)
    if TARGETS[target].is_class:
        tables = merge(tables, recipe.of_classes)
    if size := settings.get("input_size"):
        tables["data"]["image_size"] = list(size[-2:])
    if values["train"]["strategy"] == "fsdp":  # each process has only a part of the weights
        tables["train"].pop("ema")
    epochs = merge(values, tables, given)["train"]["epochs"]
    if isinstance(epochs, int) and epochs > 0:
        tables["sched"]["warmup_epochs"] = min(LONGEST_WARMUP, round(WARMUP * epochs, 2))
    return _leave_out(tables, given)


def _read_settings(model: str, root: Path) -> Mapping[str, Any]:
    """timm's settings of the model; empty for one of the hub that is out of reach."""
    from tracker.training.model.hub import find_source, read_settings

    source = find_source(model, root)
    with suppress(TrainingError):
        return read_settings(source)
    return {}


def _choose_weights(
    values: Mapping[str, Any], given: Mapping[str, Any], settings: Mapping[str, Any]
) -> bool | str:
    """model.pretrained: what the config names, else timm's weights if they are on this machine."""
    chosen: bool | str = values["model"]["pretrained"]
    if chosen or "pretrained" in given.get("model", {}):
        return chosen
    from tracker.training.model.hub import find_cached

    return find_cached(settings) is not None


def _leave_out(tables: Tables, given: Mapping[str, Any]) -> Tables:
    """The keys that are not `given`."""
    left = {
        section: {key: value for key, value in table.items() if key not in given.get(section, {})}
        for section, table in tables.items()
    }
    return {section: table for section, table in left.items() if table}


def render_recipe(tables: Tables) -> list[str]:
    """A line for each section: `augment: name = auto, scale = 0.35`."""
    lines = []
    for section, table in tables.items():
        words = ", ".join(f"{key} = {_render(value)}" for key, value in table.items())
        lines.append(f"  {section}: {words}")
    return lines


def _render(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
