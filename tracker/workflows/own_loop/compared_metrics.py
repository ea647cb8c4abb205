"""The metrics that a run is compared by: logged ones, those of its best epoch, measured ones."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracker.core.clock import utc_now
from tracker.run_folder.points import replace_non_finite
from tracker.run_folder.record import RunRecord
from tracker.run_folder.summary import Summary
from tracker.training.metrics import METRICS
from tracker.workspace.tracker_toml import Competition

# A validation score that was logged and the same score from the saved probabilities may differ by
# this much: rounding and mixed precision. A larger difference means other weights.
SCORE_TOLERANCE = 0.001


@dataclass(frozen=True)
class DeclaredMetrics:
    """The metrics that the loop declared as the run's own; `epoch` is None without epochs."""

    metrics: Mapping[str, float | None]
    epoch: int | None


class ComparedMetrics:
    """What run.json says about the metrics of a run.

    `logged` has every point. `best` is what the loop declared by save_best, which wins over
    `logged`. `measured` are the scores computed from the probabilities of save_validation.
    """

    def __init__(self, competition: Competition) -> None:
        self.logged = Summary(competition)
        self.best: DeclaredMetrics | None = None
        self.measured: dict[str, float] = {}

    def summarize(self, record: RunRecord) -> dict[str, Any]:
        """The fields of `record` that follow from the metrics so far."""
        if self.best is None:
            best_epoch = self.logged.find_best_epoch()
            unchanged = best_epoch == record.best_epoch
            return {
                "summary": self._add_measured(replace_non_finite(self.logged.read())),
                "epoch": self.logged.epoch,
                "best_epoch": best_epoch,
                "best_at": record.best_at if unchanged else utc_now(),
            }
        fields: dict[str, Any] = {"summary": self.describe(self.best)}
        if self.best.epoch is not None:
            fields["epoch"] = max(record.epoch, self.logged.epoch)
        return fields

    def read_best(self, record: RunRecord) -> dict[str, float | None]:
        """What was logged in the best epoch, and what was measured.

        Empty where the loop declared its own metrics. The summary has the best value of each
        metric, of whatever epoch.
        """
        if self.best is not None or record.best_epoch is None:
            return {}
        logged = self.logged.read_epoch(record.best_epoch)
        return self._add_measured(replace_non_finite(logged))

    def describe(self, best: DeclaredMetrics) -> dict[str, float | None]:
        """The declared metrics, with what else was logged in that epoch and what was measured."""
        logged = {} if best.epoch is None else self.logged.read_epoch(best.epoch)
        return self._add_measured({**replace_non_finite(logged), **best.metrics})

    def _add_measured(self, metrics: Mapping[str, float | None]) -> dict[str, float | None]:
        """Add the measured scores, unless they contradict: then they belong to other weights."""
        if self.find_contradictions(metrics):
            return dict(metrics)
        return {**self.measured, **metrics}

    def find_contradictions(self, metrics: Mapping[str, float | None]) -> dict[str, float]:
        """Those of `metrics` that were measured too, with a different value."""
        contradictions: dict[str, float] = {}
        for name in (f"val/{metric}" for metric in METRICS):
            value = metrics.get(name)
            if value is None or name not in self.measured:
                continue
            if abs(value - self.measured[name]) > SCORE_TOLERANCE:
                contradictions[name] = value
        return contradictions
