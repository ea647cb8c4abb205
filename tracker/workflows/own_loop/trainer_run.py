"""The run of a callback for another library's trainer.

It starts with the training and stays open for predictions afterwards.
"""

from __future__ import annotations

import atexit
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.run_folder.read import load_run
from tracker.run_folder.summary import list_monitored
from tracker.training.errors import ConfigError
from tracker.workflows.own_loop.active_run import ActiveRun
from tracker.workflows.own_loop.begin import begin_in_group
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import find_workspace

NOT_ENDED = "the training did not reach its end"


class TrainerRun:
    """Starts a run for each training.

    The last one stays open until the script ends, the next training starts, or `end` is called.

    The options are those of tracker.start_run. If the script catches the error of a training, its
    run is recorded as failed.
    """

    def __init__(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        note: str = "",
        parent: str | None = None,
        tags: Sequence[str] | Mapping[str, str] = (),
        resume: str | None = None,
        root: Path | None = None,
        follow: bool = True,
        quiet: bool = False,
    ) -> None:
        self.config = dict(config or {})
        self.root = root
        self.is_training = False
        self._options: dict[str, Any] = {
            "note": note,
            "parent": parent,
            "tags": tags,
            "root": root,
            "follow": follow,
            "quiet": quiet,
        }
        self._resume = resume
        self._open: ActiveRun | None = None

    @property
    def run(self) -> ActiveRun:
        """The run of the last training; raises ConfigError before the first."""
        if self._open is None:
            raise ConfigError(
                "there is no run yet: training has not started",
                hint="start training, then use the run",
            )
        return self._open

    @property
    def is_open(self) -> bool:
        """Whether there is a run that has not ended."""
        return self._open is not None and self._open.status == "running"

    def begin(
        self, config: Mapping[str, Any], *, rank: int | None = None, **changes: Any
    ) -> ActiveRun:
        """Start a run with the trainer's config and that of the user; `changes` are other options.

        A run that the user resumes keeps its config: the trainer may have another learning rate by
        now.
        """
        self.end()
        whole = {} if self._resume else {**config, **self.config}
        options = {**self._options, "resume": self._resume, **changes}
        self._resume = None  # a second training is a run of its own
        self._open = begin_in_group(whole, rank=rank, **options)
        self.is_training = True
        atexit.register(self._end_unfinished)
        return self._open

    def end(self) -> None:
        """End the run of an earlier training: finished, or failed if that did not reach its end."""
        atexit.unregister(self._end_unfinished)
        if self.is_open:
            if self.is_training:
                self.run.finish("failed", error=NOT_ENDED)
            else:
                self.run.finish("finished")
        self._open, self.is_training = None, False

    def _end_unfinished(self) -> None:
        """Called when the script ends: a training whose error was caught has failed."""
        if self.is_training and getattr(sys, "last_value", None) is None:
            self.end()


class BestEpoch:
    """Finds out whether an epoch is the best so far by `monitor`, a metric's name here.

    Without `monitor` it is the competition's metric where that is logged, else val/f1,
    val/accuracy, val/loss.
    """

    def __init__(self, monitor: str, root: Path | None) -> None:
        self._monitor = monitor
        self._root = root
        self._best: float | None = None
        self._earlier: dict[str, float | None] = {}

    def begin(self, run: ActiveRun) -> None:
        """Start without a best epoch, or with that of a resumed run."""
        self._best, self._earlier = None, {}
        if run.name:
            record = load_run(run.folder.parent, run.name)
            self._earlier = dict(record.summary) if record.fingerprints.get("weights") else {}

    def is_best(self, values: Mapping[str, float]) -> bool:
        """Whether an epoch with these values is better than all before.

        The newest is, where no monitored metric is among the values.
        """
        competition = find_workspace(self._root).competition
        if not self._monitor:
            candidates = list_monitored(competition)
            self._monitor = next((name for name in candidates if name in values), "")
        if not self._monitor:
            return True
        before = self._earlier.get(self._monitor) if self._best is None else self._best
        value = values.get(self._monitor, math.nan)
        sign = 1 if higher_is_better(competition.metrics, self._monitor) else -1
        if not math.isfinite(value) or (before is not None and sign * value <= sign * before):
            return False
        self._best = value
        return True
