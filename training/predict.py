"""Probabilities of a model over a list of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray


def predict_probabilities(fabric: Fabric, model: Any, loader: Any) -> tuple[torch.Tensor, NDArray[np.float32]]:
    """Logits (float32, on the CPU) and softmax probabilities, both [images, classes], in the loader's order."""
    model.eval()
    parts = []
    with torch.inference_mode():
        for images, _, _ in loader:
            batch = fabric.to_device(images.contiguous(memory_format=torch.channels_last))
            parts.append(model(batch).float().cpu())
    logits = torch.cat(parts)
    return logits, torch.softmax(logits, dim=1).numpy()
