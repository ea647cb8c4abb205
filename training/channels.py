"""Mean and standard deviation of the colour channels, as the model will see the images."""

from __future__ import annotations

import os
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tracker.training.config import Config
from tracker.training.samples import LoadedData

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Channels = tuple[float, float, float]


def measure_channels(paths: Sequence[Path], config: Config, *, root: Path) -> tuple[Channels, Channels]:
    """Mean and standard deviation of R, G and B in 0..1 over all pixels, after crop and resize; one pass."""
    import numpy as np

    from tracker.training.augment import build_pipeline
    from tracker.training.images import decode_image

    plain = replace(config.data, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    pipelines = threading.local()  # a pipeline is not for two threads

    def add_up(path: Path) -> NDArray[np.float64]:
        if not hasattr(pipelines, "own"):
            pipelines.own = build_pipeline(config.augment, plain, root=root, train=False)
        pixels = pipelines.own.prepare(decode_image(path)).reshape(-1, 3)
        counts = np.stack([np.bincount(pixels[:, channel], minlength=256) for channel in range(3)])
        shares = counts / len(pixels)
        values = np.arange(256) / 255
        return np.stack([shares @ values, shares @ values**2])

    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        mean, square = np.mean(list(pool.map(add_up, paths)), axis=0)  # all images have the same size by now
    std = np.sqrt(np.maximum(square - mean**2, 1e-12))  # a channel without contrast cannot be divided by
    return _to_channels(mean), _to_channels(std)


def resolve_measured(config: Config, data: LoadedData, *, root: Path) -> Config:
    """The config with the numbers of its training images where data.mean or data.std is "measured"."""
    if "measured" not in (config.data.mean, config.data.std):
        return config
    mean, std = measure_channels([sample.path for sample in data.train], config, root=root)
    measured = config.data
    if measured.mean == "measured":
        measured = replace(measured, mean=mean)
    if measured.std == "measured":
        measured = replace(measured, std=std)
    return replace(config, data=measured)


def _to_channels(values: NDArray[np.float64]) -> Channels:
    red, green, blue = (round(float(value), 6) for value in values)
    return red, green, blue
