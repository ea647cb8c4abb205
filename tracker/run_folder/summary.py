"""The summary of a loop that reports no best epoch: best and last value of each metric."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping

from tracker.training.metrics import list_monitors
from tracker.workspace.metrics import LAST, higher_is_better
from tracker.workspace.tracker_toml import Competition

# Metrics without a direction, neither higher nor lower is better: their last value is used.
_NO_SCORE = re.compile(
    r"(.*[/_ -])?(lr|learning_rate|momentum|epoch|step|time|seconds|duration|grad_norm)(-\w+)?",
    re.I,
)


def list_monitored(competition: Competition) -> tuple[str, ...]:
    """The metrics that may decide the best epoch, in order: the first that was measured decides."""
    return (f"val/{competition.primary.name}", *list_monitors())


class Summary:
    """Collects points while they are logged; another thread may read the summary."""

    def __init__(self, competition: Competition) -> None:
        self._declared = competition.metrics
        self._monitored = list_monitored(competition)
        self._best: dict[str, tuple[float, int]] = {}  # value and epoch
        self._last: dict[str, float] = {}
        self._signs: dict[str, int] = {}  # 1: higher is better, -1: lower is, 0: neither
        self._by_epoch: dict[int, dict[str, float]] = {}
        self._guard = threading.Lock()
        self.epoch = 0  # of the last point

    def add(self, values: Mapping[str, float], *, epoch: int) -> None:
        """Add one point; a value that is not finite is never the best one."""
        with self._guard:
            self.epoch = epoch
            self._by_epoch.setdefault(epoch, {}).update(values)
            for name, value in values.items():
                self._last[name] = value
                sign = self._find_sign(name)
                best = self._best.get(name)
                if not sign or not math.isfinite(value):
                    continue
                if best is None or sign * value > sign * best[0]:
                    self._best[name] = value, epoch

    def _find_sign(self, name: str) -> int:
        if name not in self._signs:
            sign = 1 if higher_is_better(self._declared, name) else -1
            self._signs[name] = 0 if _NO_SCORE.fullmatch(name) else sign
        return self._signs[name]

    def read(self) -> dict[str, float]:
        """The best value of each metric under its name, and as `last/NAME` its last, if different.

        A metric without a finite value or without a direction has its last value only.
        """
        summary: dict[str, float] = {}
        last: dict[str, float] = {}
        with self._guard:
            for name, value in self._last.items():
                best = self._best.get(name)
                summary[name] = value if best is None else best[0]
                if best is not None and value != best[0]:
                    last[f"{LAST}{name}"] = value
        return summary | last

    def find_best_epoch(self) -> int | None:
        """The epoch, counted from 1, with the best value of the first metric of `list_monitored`.

        None when none of these metrics was logged, or when it was logged without epochs.
        """
        with self._guard:
            known = [self._best[name][1] for name in self._monitored if name in self._best]
        return known[0] if known and known[0] > 0 else None

    def read_epoch(self, epoch: int) -> dict[str, float]:
        """The last value of each metric in an epoch; empty when none was logged."""
        with self._guard:
            return dict(self._by_epoch.get(epoch, {}))
