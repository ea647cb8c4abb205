"""Each process of a run but the first: does its share of the work and writes nothing."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tracker.training.errors import TrainingError
from tracker.training.watch import end_with


class NullLogger:
    """A logger that logs nothing."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Nothing."""

    def artifact(self, path: Path) -> None:
        """Nothing."""


def run_worker() -> None:
    """In each other process: receive the work and do this process's share of it.

    Raises TrainingError; the first process is told why, where it can be reached.
    """
    import torch

    from tracker.training.processes import is_connection_error, join_group, report_failure
    from tracker.training.run.loop import fit, translate_torch_errors

    try:
        join_group()
        box: list[Any] = [None]
        torch.distributed.broadcast_object_list(box, src=0)
        with translate_torch_errors():
            fit(**box[0], logger=NullLogger(), on_epoch=lambda _: None, quiet=True, first=False)
        torch.distributed.destroy_process_group()
    except RuntimeError as error:
        if not is_connection_error(error):
            report_failure(f"{_name()}: {type(error).__name__}: {error}")
            raise
        raise TrainingError("the first process of this run, or another one, has ended") from error
    except Exception as error:
        report_failure(f"{_name()}: {error}")
        raise


def _name() -> str:
    return f"process {os.environ['RANK']}"  # noqa: TID251


def _main() -> int:
    end_with(int(sys.argv[1]))
    for number in (signal.SIGINT, signal.SIGHUP):  # the first process ends us
        signal.signal(number, signal.SIG_IGN)
    try:
        run_worker()
    except TrainingError as error:
        print(f"{_name()}: {error}", file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt as error:
        print(f"{_name()}: interrupted ({error})", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(_main())
