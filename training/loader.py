"""Batches. What an image looks like depends on (seed, epoch, position) alone: not on workers, nor on a resume."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from training.images import decode_image
from training.sampler import Position


class ImageDataset(Dataset[tuple[torch.Tensor, int, int]]):
    """Images: float32 [3, height, width], the label (0 where there is none) and the index in the list."""

    def __init__(self, paths: Sequence[Path], labels: Sequence[int], pipeline: Any, *, seed: int) -> None:
        self._paths = [str(path) for path in paths]
        self._labels = list(labels)
        self._pipeline = pipeline
        self._seed = seed

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: Position) -> tuple[torch.Tensor, int, int]:
        epoch, index = position
        if epoch:
            seed = np.random.SeedSequence((self._seed, epoch, index)).generate_state(1)[0]
            self._pipeline.set_random_seed(int(seed))
        pixels = self._pipeline(image=decode_image(Path(self._paths[index])))["image"]
        return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1))), self._labels[index], index


def build_loader(
    dataset: ImageDataset, sampler: Sampler[list[Position]], *, workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """A loader with persistent workers; `workers=-1` leaves one core to the model and uses 4 at most."""
    if workers < 0:
        workers = min(4, max(0, len(os.sched_getaffinity(0)) - 1))
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
    )


def _start_worker(_: int) -> None:
    """One core a worker: cv2's own threads would fight for the cores of the model."""
    import signal

    import cv2

    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the loop ends us
