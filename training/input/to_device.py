"""Batches on their way to the device that computes with them."""

from __future__ import annotations

from collections import deque

import torch
from torch import Tensor

from tracker.training.fabric import Fabric

AHEAD = 2  # batches that the GPU has work for; more would only fill its memory


class DeviceCopies:
    """Copies batches to a device; to a GPU while it computes with the batches before.

    A GPU does its work later than Python asks for it. `copy` waits until the batch before the last
    is done: then the GPU has something to do, and at most three batches are in its memory.
    """

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._stream: torch.cuda.Stream | None = None
        if fabric.device.type == "cuda":
            self._stream = torch.cuda.Stream(fabric.device)  # type: ignore[no-untyped-call]
        self._asked: deque[torch.cuda.Event] = deque()

    def copy(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        """The tensors on the device; those in pinned memory are copied beside its work."""
        if self._stream is None:
            return tuple(self._fabric.to_device(tensor) for tensor in tensors)
        device = self._fabric.device
        working = torch.cuda.current_stream(device)
        # blocking: waiting takes no processor time
        asked = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        asked.record(working)
        self._asked.append(asked)
        if len(self._asked) > AHEAD:
            self._asked.popleft().synchronize()
        with torch.cuda.stream(self._stream):
            copied = tuple(tensor.to(device, non_blocking=True) for tensor in tensors)
        working.wait_stream(self._stream)
        for tensor in copied:
            tensor.record_stream(working)  # its memory is free when `working` has used it
        return copied
