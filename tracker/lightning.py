"""A logger for Lightning: `Fabric(loggers=[TrackerLogger()])`; Lightning's Trainer takes it as well."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lightning_fabric.loggers.logger import Logger
from lightning_fabric.utilities.rank_zero import rank_zero_only

from tracker.api import ActiveRun, begin_in_group


class TrackerLogger(Logger):
    """Records hyperparameters and metrics as a run of the workspace; the run begins with the first of them.

    `finalize` ends it; until then `run` may be given best weights and predictions.
    """

    def __init__(self, *, note: str = "", root: Path | None = None, follow: bool = True) -> None:
        self._note = note
        self._follow = follow
        self._root = root
        self._params: dict[str, Any] = {}
        self._run: ActiveRun | None = None

    @property
    def run(self) -> ActiveRun:
        """The run, begun now if it was not; hyperparameters that come later are not part of its config."""
        if self._run is None:
            rank = rank_zero_only.rank or None  # type: ignore[attr-defined]
            options: dict[str, Any] = {"note": self._note, "root": self._root, "follow": self._follow, "parent": None}
            self._run = begin_in_group(self._params, rank=rank, **options)
        return self._run

    @property
    def name(self) -> str:
        """The logger's name."""
        return "tracker"

    @property
    def version(self) -> str | None:
        """`expN`, None before the run began."""
        return self._run.name or None if self._run else None

    @property
    def log_dir(self) -> str | None:
        """The run folder, None before the run began."""
        return str(self._run.folder) if self._run else None

    @rank_zero_only
    def log_hyperparams(self, params: Mapping[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """Keep hyperparameters for the config; once the run has begun, as facts about it."""
        values = vars(params) if isinstance(params, Namespace) else dict(params)
        if self._run is None:
            self._params |= values
        else:
            self._run.keep_facts(values)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Put one point on disk; a metric called `epoch` counts as the epoch of the others."""
        values = dict(metrics)
        epoch = values.pop("epoch", None)
        self.run.log(values, step=step, epoch=None if epoch is None else int(epoch))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """End the run: `success` is finished, everything else failed."""
        if self._run is not None:
            self._run.finish(
                "finished" if status == "success" else "failed", error="" if status == "success" else status
            )
            self._run = None

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Lightning's Trainer calls it; best weights are kept with `run.save_best`."""
