"""A running run as it is watched: where it is, how fast, how long it still takes, its curve."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError
from tracker.run_folder.points import read_new_points
from tracker.run_folder.read import list_running, load_config
from tracker.run_folder.record import RunRecord
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Competition, Workspace

SPEED, GPU = "train/images_per_s", "system/gpu_0_percent"
LOSSES = ("train/loss", "val/loss")


@dataclass(frozen=True, kw_only=True)
class RunningRun:
    """What is known of a running run; figures that it has not logged are None.

    `metric` is the name of the watched metric, `value` its newest value, `best` its best one.
    `curve` has its value in each epoch so far, those of `curve_epochs`; `left_s` are the seconds to
    its last epoch.
    """

    name: str
    epoch: int
    epochs: int | None
    loss: float | None
    metric: str
    value: float | None
    best: float | None
    images_per_s: float | None
    gpu_percent: float | None
    left_s: float | None
    curve: tuple[float, ...]
    curve_epochs: tuple[int, ...] = ()


class RunWatcher:
    """Reads the running runs of a workspace again and again, each point once."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._readers: dict[str, _PointReader] = {}

    def read(self, word: str = "") -> list[RunningRun]:
        """The running runs now, newest first; with `word` those that have it in name or note."""
        running = list_running(self._workspace.runs_dir)
        shown = [record for record in running if word in record.name or word in record.note]
        return [self._describe(record) for record in shown]

    def _describe(self, record: RunRecord) -> RunningRun:
        folder = self._workspace.runs_dir / record.name
        reader = self._readers.setdefault(record.uid, _PointReader(folder))
        reader.read()
        config: Mapping[str, Any] = {}
        with suppress(TrackerError):  # it is watched all the same
            config = load_config(self._workspace.runs_dir, record.name)
        train = config.get("train", {})
        epochs = train.get("epochs") if isinstance(train.get("epochs"), int) else None
        return reader.describe(
            record, epochs, str(train.get("monitor") or ""), self._workspace.competition
        )


class _PointReader:
    """The points of one run so far: the last value of each metric in each epoch."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "metrics.jsonl"
        self._offset = 0
        self._epochs: dict[str, dict[int, float]] = {}
        self._ends: dict[int, float] = {}  # seconds since 1970 of the last point of each epoch

    def read(self) -> None:
        """Read the points that were added since the last time."""
        for offset, point in read_new_points(self._path, self._offset):
            self._offset = offset
            if point is None:
                continue
            for name, value in point["values"].items():
                self._epochs.setdefault(name, {})[point["epoch"]] = value
            if SPEED in point["values"] or any(name in point["values"] for name in LOSSES):
                self._ends[point["epoch"]] = point["time"]

    def describe(
        self, record: RunRecord, epochs: int | None, monitor: str, competition: Competition
    ) -> RunningRun:
        """The run as its points have it."""
        names = [monitor, f"val/{competition.primary.name}", *LOSSES]
        metric = next((name for name in names if name in self._epochs), names[1])
        by_epoch = sorted(self._epochs.get(metric, {}).items())
        finite = [(epoch, value) for epoch, value in by_epoch if math.isfinite(value)]
        curve = tuple(value for _, value in finite)
        best = max if higher_is_better(competition.metrics, metric) else min
        epoch = max([record.epoch, *self._ends], default=0)
        return RunningRun(
            name=record.name,
            epoch=epoch,
            epochs=epochs,
            loss=self._last("train/loss"),
            metric=metric,
            value=by_epoch[-1][1] if by_epoch else None,
            best=best(curve) if curve else None,
            images_per_s=self._last(SPEED),
            gpu_percent=self._last(GPU),
            left_s=self._estimate_left(epoch, epochs),
            curve=curve,
            curve_epochs=tuple(epoch for epoch, _ in finite),
        )

    def _last(self, name: str) -> float | None:
        values = self._epochs.get(name)
        return values[max(values)] if values else None

    def _estimate_left(self, epoch: int, epochs: int | None) -> float | None:
        """The remaining epochs times the seconds of an epoch so far; None before the second."""
        ends = sorted(self._ends.items())
        if epochs is None or len(ends) < 2 or ends[-1][0] == ends[0][0]:
            return None
        per_epoch = (ends[-1][1] - ends[0][1]) / (ends[-1][0] - ends[0][0])
        return max(0.0, per_epoch * (epochs - epoch))
