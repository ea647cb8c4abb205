"""Advice while a run trains: an event once its curves show overfitting or a diverged loss."""

from __future__ import annotations

import math

from tracker.comparison.advice import advise, find_monitor
from tracker.run_folder.points import drop_system_metrics, read_new_points
from tracker.run_folder.recorder import Recorder
from tracker.workspace.tracker_toml import Competition

TOLD = ("overfitting", "diverged")
TWICE = ("overfitting",)  # must show at two looks: a test at every epoch errs more often than one
GROWTH = 1.05  # a long run is looked at when it has this many times the epochs of the last look


class AdviceEvents:
    """Looks at the curves of a run after its epochs; each advice is told once."""

    def __init__(self, recorder: Recorder, competition: Competition, monitor: str = "") -> None:
        self._recorder = recorder
        self._metrics = competition.metrics
        self._monitor = monitor
        self._offset = 0
        self._curves: dict[str, dict[int, tuple[int, float]]] = {}  # a point an epoch, its last
        self._counts: dict[int, int] = {}  # points of the training loss by epoch
        self._next_look = 0
        self._told: set[str] = set()
        self._before = ""  # the state at the last look

    def look(self, epoch: int) -> None:
        """Read the new points up to `epoch`, and tell what they advise; never raises for them."""
        if epoch < self._next_look:
            return
        self._next_look = max(epoch + 1, math.ceil(epoch * GROWTH))
        path = self._recorder.folder / "metrics.jsonl"
        for offset, point in read_new_points(path, self._offset):
            self._offset = offset
            if point is None:
                continue
            for name, value in drop_system_metrics(point["values"]).items():
                self._keep(name, point["epoch"], value)
        monitor = self._monitor or find_monitor(self._curves, self._metrics)
        own = bool(self._recorder.record.fingerprints.get("data"))
        advice = advise(self._curves, monitor=monitor, metrics=self._metrics, has_our_keys=own)
        state = advice.state if advice else ""
        clear = state in TOLD and (state not in TWICE or state == self._before)
        self._before = state
        if advice and clear and state not in self._told:
            self._told.add(state)
            about = {"state": state, "epoch": epoch, "best_epoch": advice.best_epoch}
            text = f"{self._recorder.record.name}: {' '.join(advice.sentences)}"
            self._recorder.tell("advice", text, {**about, "monitor": monitor})

    def _keep(self, name: str, epoch: int, value: float) -> None:
        """The last point of an epoch; of the training loss its mean, as `advise` has it."""
        curve = self._curves.setdefault(name, {})
        if name == "train/loss" and math.isfinite(value):
            self._counts[epoch] = count = self._counts.get(epoch, 0) + 1
            before = curve[epoch][1] if epoch in curve else value
            mean = before + (value - before) / count
            value = mean if math.isfinite(mean) else value
        curve[epoch] = (epoch, value)
