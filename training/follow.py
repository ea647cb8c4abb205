"""What every process of a run but the first does: its share of the work, handed out by the first; it writes nothing."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tracker.training.errors import TrackerError
from tracker.training.loop import fit, translate_torch_errors
from tracker.training.processes import share_cores


class Silent:
    """The logger of a process that does not write."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Nothing."""

    def artifact(self, path: Path) -> None:
        """Nothing."""


def follow() -> None:
    """In every other process: receive the work and do this process's share of it."""
    torch.distributed.init_process_group()
    box: list[Any] = [None]
    torch.distributed.broadcast_object_list(box, src=0)
    if "TORCHELASTIC_RUN_ID" not in os.environ:  # noqa: TID251
        share_cores(torch.distributed.get_world_size())
    with translate_torch_errors():
        fit(**box[0], logger=Silent(), on_epoch=lambda _: None, quiet=True, first=False)
    torch.distributed.destroy_process_group()


def _main() -> int:
    try:
        follow()
    except TrackerError as error:
        print(f"process {os.environ['RANK']}: {error}", file=sys.stderr)  # noqa: TID251
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(_main())
