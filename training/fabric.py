"""The parts of Lightning Fabric that are used, loaded without torchmetrics."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hide_library(name: str) -> Iterator[None]:
    """Within the block, imports behave as if a library were not installed.

    Nothing happens when the library is loaded already.
    """
    if name in sys.modules:
        yield
        return
    sys.modules[name] = None  # type: ignore[assignment]  # what Python takes for "not there"
    try:
        yield
    finally:
        del sys.modules[name]


# Fabric loads it to learn its version, for a part that is not used here: 1.4 s of each training,
# for it brings scipy and, where they are installed, transformers.
with hide_library("torchmetrics"):
    from lightning_fabric import Fabric
    from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
    from lightning_fabric.plugins.environments.lightning import LightningEnvironment
    from lightning_fabric.plugins.precision import MixedPrecision
    from lightning_fabric.plugins.precision import Precision as PlainPrecision
    from lightning_fabric.strategies.model_parallel import ModelParallelStrategy

# It tells everybody about precision, in words for somebody who writes a loop with it.
logging.getLogger("lightning_fabric").setLevel(logging.WARNING)

__all__ = [
    "ClusterEnvironment",
    "Fabric",
    "LightningEnvironment",
    "MixedPrecision",
    "ModelParallelStrategy",
    "PlainPrecision",
    "hide_library",
]
