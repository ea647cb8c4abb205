"""Probabilities of a model over a list of images, and the files that keep them."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from training.atomic import atomic_path, write_text
from training.data import Task


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


def save_predictions(run_dir: Path, ids: Sequence[str], probabilities: NDArray[np.float32], task: Task) -> Path:
    """Write probabilities.npz and then predictions.csv (id, answer); returns the latter. Raises StorageError."""
    with atomic_path(run_dir / "probabilities.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, ids=np.array(ids), classes=np.array(task.classes), probabilities=probabilities)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((task.id_column, task.label_column))
    writer.writerows((name, task.answer_words[label]) for name, label in zip(ids, probabilities.argmax(1), strict=True))
    path = run_dir / "predictions.csv"
    write_text(path, text.getvalue())
    return path
