"""Batches: an image depends on (seed, epoch, position) alone, not on workers or a resume."""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from tracker.training.config import Config, EvalConfig
from tracker.training.errors import DataError
from tracker.training.formats.images import read_image
from tracker.training.formats.samples import LabelValues, stack_dense
from tracker.training.input.augment import STEP_ERRORS, Pipeline, build_pipeline
from tracker.training.input.cache import PixelCache, open_cache
from tracker.training.input.sampler import Position
from tracker.training.machine import count_own_cores
from tracker.training.watch import ignore_lost_reader

Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # images, labels, indices


@dataclass(frozen=True)
class ImageSource:
    """Where a config's images come from.

    `root`: of relative paths; `hashes`: SHA-256 by checked file; `cache_dir`: of prepared
    images, None: no cache.
    """

    root: Path
    hashes: Mapping[str, str] = field(default_factory=dict)
    cache_dir: Path | None = None


class ImageDataset(Dataset[tuple[torch.Tensor, torch.Tensor, int]]):
    """Images float32 [3, height, width], labels (0 where unknown) and indices in the list.

    A label is a class number, or the values of several classes or a number.

    Batches are made as a whole, channels last in memory, without a copy of each image in between.
    """

    def __init__(
        self,
        paths: Sequence[Path],
        labels: Sequence[Any],
        pipeline: Pipeline,
        *,
        seed: int,
        cache: PixelCache | None = None,
    ) -> None:
        self._paths = list(paths)
        self._names = [str(path) for path in paths]  # for the cache, by which it finds them
        self._labels = list(labels)
        self._pipeline = pipeline
        self._seed = seed
        self._cache = cache
        self._buffers = _Buffers((*pipeline.size, 3))

    def __len__(self) -> int:
        return len(self._paths)

    def __getitem__(self, position: Position) -> tuple[torch.Tensor, torch.Tensor, int]:
        images, labels, indices = self.__getitems__([position])
        return images[0], labels[0], int(indices[0])

    def __getitems__(self, positions: Sequence[Position]) -> Batch:
        """A batch: images [n, 3, height, width], labels [n], indices [n]; DataLoader calls this."""
        images = self._buffers.take(len(positions))
        for out, (epoch, index) in zip(images.numpy(), positions, strict=True):
            self._make(epoch, index, out)
        indices = [index for _, index in positions]
        labels = stack_labels([self._labels[index] for index in indices])
        return images.permute(0, 3, 1, 2), labels, torch.tensor(indices)

    def _make(self, epoch: int, index: int, out: NDArray[np.float32]) -> None:
        """Write one image to `out` [height, width, 3]; raises DataError."""
        path, name = self._paths[index], self._names[index]
        seed = int(np.random.SeedSequence((self._seed, epoch, index)).generate_state(1)[0])
        try:
            pixels = self._cache.find(name) if self._cache else None
            if pixels is None:
                content = read_image(path)
                pixels = self._pipeline.prepare(self._pipeline.decode(path, content, seed=seed))
                if self._cache:
                    self._cache.store(name, content, pixels)
            self._pipeline.finish(pixels, out, seed=seed)
        except STEP_ERRORS as error:
            raise DataError(f"{path}: the augmentation fails: {error}") from error


def stack_labels(labels: Sequence[Any]) -> torch.Tensor:
    """Class numbers int64 [n], or values float32 [n, outputs]."""
    if labels and isinstance(labels[0], LabelValues):
        return torch.from_numpy(stack_dense(labels))
    return torch.tensor(labels)


class _Buffers:
    """Memory for batches, used again when no batch needs it.

    New memory pages cost more time than normalization.
    """

    def __init__(self, shape: tuple[int, ...]) -> None:
        self._shape = shape
        # two: the batch in use and the one before
        self._free: deque[NDArray[np.float32]] = deque(maxlen=2)

    def take(self, count: int) -> torch.Tensor:
        """float32 [count, *shape], not initialized."""
        while self._free:
            buffer = self._free.pop()
            if len(buffer) >= count:
                break
        else:
            buffer = np.empty((count, *self._shape), dtype=np.float32)
        lent = buffer[:count]
        # the tensor's storage holds `lent`, so the buffer is free when the tensor is gone
        weakref.finalize(lent, self._free.append, buffer).atexit = False
        return torch.from_numpy(lent)


def build_dataset(
    config: Config,
    paths: Sequence[Path],
    labels: Sequence[int],
    source: ImageSource,
    *,
    train: bool,
    evaluation: EvalConfig | None = None,
) -> tuple[ImageDataset, str]:
    """The images of a config, and a sentence for the user when they cannot be cached.

    Raises ConfigError.
    """
    pipeline = build_pipeline(
        config.augment, config.data, root=source.root, train=train, evaluation=evaluation
    )
    cache, note = None, ""
    if config.data.cache and source.cache_dir is not None and pipeline.prepared_shape is not None:
        cache, note = open_cache(
            source.cache_dir, pipeline.key, pipeline.prepared_shape, source.hashes
        )
    return ImageDataset(paths, labels, pipeline, seed=config.train.seed, cache=cache), note


def build_loader(
    dataset: ImageDataset, sampler: Sampler[list[Position]], *, workers: int, pin_memory: bool
) -> DataLoader[Any]:
    """A loader with persistent workers.

    `workers=-1` leaves one core of this training's share to the model and uses at most 4.
    """
    if workers < 0:
        workers = min(4, max(0, count_own_cores() - 1))
    return DataLoader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
        worker_init_fn=_start_worker,
        collate_fn=_as_it_is,
    )


def _as_it_is(batch: Any) -> Any:
    """The dataset makes whole batches."""
    return batch


def _start_worker(_: int) -> None:
    """One core for each worker: more threads would take the cores of the model.

    Ctrl-C, a closed terminal and what `timeout` and schedulers send reach a process group; that is
    the loop's concern, which ends its workers itself.
    """
    import signal

    torch.set_num_threads(1)
    ignore_lost_reader()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # a process group in the background may write to the terminal
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    os.setpgid(0, 0)
