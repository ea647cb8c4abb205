"""Predictions on a CPU: each thread reads batches of its own and puts them through the model.

Threads that share every operation of a model wait for each other hundreds of times a batch, and for
a core that something else has at the moment, a loader process as well. These wait for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager

import torch
from torch import Tensor

from tracker.training.input.loader import ImageDataset

MOST_THREADS = 8  # the cores beyond are for the operations of each
MOST_IMAGES = 8  # of a batch: what a core works on stays near it, and the last batches end together


def count_readers(batch_size: int) -> int:
    """The threads that predict at once, so that they hold no more than `batch_size` images."""
    return max(1, min(torch.get_num_threads(), MOST_THREADS, batch_size))


def predict_in_threads(
    datasets: Sequence[ImageDataset],
    count: int,
    *,
    batch_size: int,
    forward: Callable[[Tensor], Tensor],
    modes: Callable[[], AbstractContextManager[None]],
) -> Tensor:
    """`forward` of the first `count` images [count, outputs], in order; a thread for each dataset.

    `forward` gets images [n, 3, height, width]; each thread enters `modes` once. The threads hold
    `batch_size` images together, and share torch's number of threads. Raises what the first of them
    raises, when all have ended.
    """
    size = max(1, min(batch_size // len(datasets), MOST_IMAGES))
    starts = iter(range(0, count, size))  # each thread takes the next one
    parts: dict[int, Tensor] = {}
    ended = threading.Event()
    threads = torch.get_num_threads()

    def work(dataset: ImageDataset) -> None:
        torch.set_num_threads(max(1, threads // len(datasets)))
        try:
            with modes():
                for start in starts:
                    if ended.is_set():
                        return
                    positions = [(0, index) for index in range(start, min(start + size, count))]
                    parts[start] = forward(dataset.__getitems__(positions)[0])
        except BaseException:
            ended.set()  # for the others
            raise

    try:
        with ThreadPoolExecutor(len(datasets), thread_name_prefix="predict") as pool:
            futures = [pool.submit(work, dataset) for dataset in datasets]
            try:
                for future in futures:
                    future.result()
            finally:
                ended.set()  # Ctrl-C reaches this thread alone
    finally:
        torch.set_num_threads(threads)
    return torch.cat([parts[start] for start in sorted(parts)])
