"""A running run as it is watched: where it is, how fast, how long it still takes, its curve."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tracker.core.errors import TrackerError, UnknownRunError
from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.run_folder.points import read_new_points
from tracker.run_folder.read import list_running, list_runs, load_config, load_run
from tracker.run_folder.record import RunRecord, run_folder
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.tracker_toml import Competition, Workspace

SPEED, GPU = "train/images_per_s", "system/gpu_0_percent"
LOSSES = ("train/loss", "val/loss")
SAMPLES = 240  # of the machine that are kept: 40 minutes of them
Curve = Sequence[tuple[int, float]]  # (epoch, value), by epoch


@dataclass(frozen=True, kw_only=True)
class RunningRun:
    """What is known of a running run; figures that it has not logged are None.

    `metric` is the name of the watched metric, `value` its newest value, `best` its best one.
    `curve` has its value in each epoch so far, those of `curve_epochs`; `left_s` are the seconds to
    its last epoch.

    `curves` has the finite values of every metric by its name, `samples` the newest ones of the
    machine (`system/cpu_percent`) and of the speed, oldest first. A run that was asked for may have
    ended: `status` says how.
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
    uid: str = ""
    note: str = ""
    status: str = "running"
    host: str = ""
    curves: Mapping[str, Curve] = field(default_factory=dict)
    samples: Mapping[str, Sequence[float]] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """What it is known by: a run that is only starting has no uid yet."""
        return self.uid or self.name


class RunWatcher:
    """Reads the running runs of a workspace again and again, each point once.

    `named` are runs that are read whatever their status: ended, archived, a copy of a teammate's.
    """

    def __init__(self, workspace: Workspace, named: Sequence[str] = ()) -> None:
        self._workspace = workspace
        self._named = named
        self._readers: dict[str, _PointReader] = {}

    def read(self, also: Collection[str] = ()) -> list[RunningRun]:
        """The running runs now, newest first, and those with a key in `also`, though they ended."""
        runs_dir = self._workspace.runs_dir
        records = list(list_running(runs_dir))
        if also:  # few ask for that: every record is read for it
            seen = {record.name for record in records}
            ended = [one for one in list_runs(runs_dir, archived=False) if one.name not in seen]
            records += [one for one in ended if (one.uid or one.name) in also]
        found = {record.name for record in records}
        for name in self._named:
            if name not in found:
                with suppress(UnknownRunError):  # it was deleted meanwhile
                    records.append(load_run(runs_dir, name))
        return [self._describe(record) for record in records]

    def _describe(self, record: RunRecord) -> RunningRun:
        folder = run_folder(self._workspace.runs_dir, record.name)
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
        self._samples: dict[str, deque[float]] = {}
        self._ends: dict[int, float] = {}  # seconds since 1970 of the last point of each epoch

    def read(self) -> None:
        """Read the points that were added since the last time."""
        for offset, point in read_new_points(self._path, self._offset):
            self._offset = offset
            if point is None:
                continue
            for name, value in point["values"].items():
                self._epochs.setdefault(name, {})[point["epoch"]] = value
                if name == SPEED or name.startswith(SYSTEM_PREFIX):
                    self._samples.setdefault(name, deque(maxlen=SAMPLES)).append(value)
            if SPEED in point["values"] or any(name in point["values"] for name in LOSSES):
                self._ends[point["epoch"]] = point["time"]

    def describe(
        self, record: RunRecord, epochs: int | None, monitor: str, competition: Competition
    ) -> RunningRun:
        """The run as its points have it."""
        names = [monitor, f"val/{competition.primary.name}", *LOSSES]
        metric = next((name for name in names if name in self._epochs), names[1])
        by_epoch = sorted(self._epochs.get(metric, {}).items())
        curves = {name: _list_finite(values) for name, values in self._epochs.items()}
        finite = curves.get(metric, ())
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
            uid=record.uid,
            note=record.note,
            status=record.status,
            host=record.host,
            curves={n: curve for n, curve in curves.items() if not n.startswith(SYSTEM_PREFIX)},
            samples={name: tuple(values) for name, values in self._samples.items()},
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


def _list_finite(by_epoch: Mapping[int, float]) -> Curve:
    return tuple(
        (epoch, by_epoch[epoch]) for epoch in sorted(by_epoch) if math.isfinite(by_epoch[epoch])
    )
