"""The images of each batch depend on (seed, epoch) alone; processes share each batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Position = tuple[int, int]  # epoch, index


class BatchSampler(Sampler[list[Position]]):
    """Batches of training positions, in a new order each epoch.

    Each of `world` processes gets its `rank`'s part of each batch. With `weights` (one an image)
    images are drawn with replacement by weight, else every image comes once. A last batch with
    fewer than two images a process is dropped: batch norm cannot use it. `sizes` has the images of
    whole batches. The first `skip` batches are left out, and the others stay as they are.
    """

    def __init__(
        self,
        size: int,
        batch_size: int,
        *,
        seed: int,
        weights: NDArray[np.float64] | None = None,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self._size = size
        self._batch_size = batch_size
        self._seed = seed
        self._shares = None if weights is None else weights / weights.sum()
        self._rank = rank
        self._world = world
        self.epoch = 1
        self.skip = 0

        full, rest = divmod(size, batch_size)
        self.sizes = [batch_size] * full
        if rest >= 2 * world or (rest > 0 and not full):
            self.sizes.append(rest)

    def __len__(self) -> int:
        return len(self.sizes)

    def __iter__(self) -> Iterator[list[Position]]:
        rng = np.random.default_rng((self._seed, self.epoch))
        if self._shares is None:
            order = rng.permutation(self._size)
        else:
            order = rng.choice(self._size, self._size, p=self._shares)
        for number in range(self.skip, len(self)):
            batch = order[number * self._batch_size : (number + 1) * self._batch_size]
            yield [(self.epoch, int(index)) for index in batch[self._rank :: self._world]]


class OrderedBatches(Sampler[list[Position]]):
    """Each `world`-th position from `rank` on, in order, as epoch 0; not random.

    Each process gets equally many; the last one may get the last image a second time.
    """

    def __init__(self, size: int, batch_size: int, *, rank: int = 0, world: int = 1) -> None:
        share = -(-size // world)
        self._indices = [min(rank + number * world, size - 1) for number in range(share)]
        self._batch_size = batch_size

    def __len__(self) -> int:
        return len(range(0, len(self._indices), self._batch_size))

    def __iter__(self) -> Iterator[list[Position]]:
        for start in range(0, len(self._indices), self._batch_size):
            yield [(0, index) for index in self._indices[start : start + self._batch_size]]


def balance(labels: Sequence[int]) -> NDArray[np.float64]:
    """A weight for each image, by the rarity of its class.

    All classes have the same total weight; the mean weight is 1.
    """
    counts = np.bincount(labels)
    weights: NDArray[np.float64] = len(labels) / (
        np.count_nonzero(counts) * counts[np.asarray(labels)]
    )
    return weights
