"""Mean and standard deviation of the color channels, after crop and resize."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.config import (
    CROP_KEYS,
    FITTED,
    MEASURED,
    OF_MODEL,
    AugmentConfig,
    Config,
    config_to_dict,
)
from tracker.training.errors import TrainingError
from tracker.training.formats.samples import LoadedData
from tracker.training.tables import flatten

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Channels = tuple[float, float, float]


def measure_channels(
    paths: Sequence[Path], config: Config, *, root: Path
) -> tuple[Channels, Channels]:
    """Mean and standard deviation of R, G, B in 0..1 over all pixels, after crop and resize."""
    config = resolve_model_input(config, root=root)
    import numpy as np

    from tracker.training.input.augment import build_pipeline

    plain = replace(config.data, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pipelines = threading.local()  # a pipeline is not for two threads

    def add_up(path: Path) -> NDArray[np.float64]:
        if not hasattr(pipelines, "own"):
            pipelines.own = build_pipeline(config.augment, plain, root=root, train=False)
        pixels = pipelines.own.prepare(pipelines.own.decode(path)).reshape(-1, 3)
        counts = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])
        shares = counts / len(pixels)
        values = np.arange(256) / 255
        return np.stack([shares @ values, shares @ values**2])

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        # all images have the same size by now, so each has the same weight
        mean, square = np.mean(list(pool.map(add_up, paths)), axis=0)
    # a channel without contrast gets a small std: normalization divides by it
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))
    return _to_channels(mean), _to_channels(std)


def resolve_input(config: Config, data: LoadedData, *, root: Path) -> Config:
    """The config with numbers where data.mean or data.std is "model" or "measured".

    The crop of base gets its numbers in the same way. Raises ConfigError for a model that timm does
    not have, WeightsError for one of the hub that cannot be reached.
    """
    config = resolve_model_input(config, root=root)
    if MEASURED not in (config.data.mean, config.data.std):
        return config
    mean, std = measure_channels([sample.path for sample in data.train], config, root=root)
    measured = config.data
    if measured.mean == MEASURED:
        measured = replace(measured, mean=mean)
    if measured.std == MEASURED:
        measured = replace(measured, std=std)
    return replace(config, data=measured)


def list_filled_in(config: Config) -> list[str]:
    """The keys for which `resolve_input` finds numbers, as in `data.mean`."""
    values = flatten(config_to_dict(config))
    keys = ("data.mean", "data.std", *(f"augment.{key}" for key in CROP_KEYS))
    return [key for key in keys if values[key] in (OF_MODEL, MEASURED)]


def resolve_model_input(config: Config, *, root: Path) -> Config:
    """The config with the model's own values in place of "model"; raises like `resolve_input`.

    Where augment.name is neither base nor standard, nothing reads the keys of their crop: they get
    their defaults.
    """
    wanted = {
        "data": [key for key in ("mean", "std") if getattr(config.data, key) == OF_MODEL],
        "augment": [key for key in CROP_KEYS if getattr(config.augment, key) == OF_MODEL],
    }
    if not any(wanted.values()):
        return config
    from tracker.training.model.hub import describe_input

    model_input = describe_input(config.model.name, root)
    if config.augment.name not in FITTED:
        model_input["augment"] = {key: getattr(AugmentConfig(), key) for key in CROP_KEYS}
    chosen = {
        section: {key: model_input[section][key] for key in keys}
        for section, keys in wanted.items()
    }
    return replace(
        config,
        data=replace(config.data, **chosen["data"]),
        augment=replace(config.augment, **chosen["augment"]),
    )


def inherit_model_input(
    parent: Mapping[str, Any], own: Mapping[str, Any], *, root: Path
) -> dict[str, dict[str, Any]]:
    """The keys that a child run takes from its new model, as nested tables with "model".

    `parent` is the config of the parent run, `own` names another model. Empty where `own` has
    channels of its own, or the parent's were not those of its model: they stay as they are.
    """
    from tracker.training.model.hub import describe_input

    name, other = _find(parent, "model", "name"), _find(own, "model", "name")
    if not (name and other) or name == other or _find(own, "data", "mean") not in (None, OF_MODEL):
        return {}
    try:
        model_input = describe_input(name, root)
    except TrainingError:
        return {}  # a model of the hub that is out of reach
    if any(_find(parent, "data", key) != list(value) for key, value in model_input["data"].items()):
        return {}
    follows: dict[str, dict[str, Any]] = {"data": dict.fromkeys(model_input["data"], OF_MODEL)}
    if all(_find(parent, "augment", key) == value for key, value in model_input["augment"].items()):
        follows["augment"] = dict.fromkeys(CROP_KEYS, OF_MODEL)
    return follows


def _find(tables: Mapping[str, Any], section: str, key: str) -> Any:
    table = tables.get(section)
    return table.get(key) if isinstance(table, Mapping) else None


def _to_channels(values: NDArray[np.float64]) -> Channels:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue
