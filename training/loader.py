"""Batches. What an image looks like depends on (seed, epoch, position) alone: not on workers, nor on a resume."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from training.images import decode_image

Position = tuple[int, int]  # epoch, index


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


class BatchSampler(Sampler[list[Position]]):
    """Batches of positions; shuffled anew each epoch when `shuffle`, else in order with epoch 0.

    A last batch of one image is dropped while training: batch norm cannot use it.
    """

    def __init__(self, size: int, batch_size: int, *, shuffle: bool, seed: int) -> None:
        self._size = size
        self._batch_size = batch_size
        self._shuffle = shuffle
        self._seed = seed
        self.epoch = 1 if shuffle else 0

    def __len__(self) -> int:
        full, rest = divmod(self._size, self._batch_size)
        return full + (rest > (1 if self._shuffle and full else 0))

    def __iter__(self) -> Iterator[list[Position]]:
        order = np.arange(self._size)
        if self._shuffle:
            order = np.random.default_rng((self._seed, self.epoch)).permutation(self._size)
        for number in range(len(self)):
            chosen = order[number * self._batch_size : (number + 1) * self._batch_size]
            yield [(self.epoch, int(index)) for index in chosen]


def build_loader(dataset: ImageDataset, sampler: BatchSampler, *, workers: int, pin_memory: bool) -> DataLoader[Any]:
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
