"""What a run is compared by where its loop says nothing of a best epoch: the best and the last
value of each metric."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Mapping

from tracker.training.metrics import list_monitors
from tracker.workspace.competition import Competition
from tracker.workspace.metrics import LAST, higher_is_better

# Figures of which neither more nor less is better: the last one is told.
_NO_SCORE = re.compile(
    r"(.*[/_ -])?(lr|learning_rate|momentum|epoch|step|time|seconds|duration|grad_norm)(-\w+)?",
    re.I,
)


def list_monitored(competition: Competition) -> tuple[str, ...]:
    """The metrics that tell the best epoch, the deciding one first; the first that was measured
    does."""
    return (f"val/{competition.primary.name}", *list_monitors())


class Summary:
    """Points as they are logged; another thread may read what they come to."""

    def __init__(self, competition: Competition) -> None:
        self._declared = competition.metrics
        self._monitored = list_monitored(competition)
        self._best: dict[str, tuple[float, int]] = {}  # value and epoch
        self._last: dict[str, float] = {}
        self._signs: dict[
            str, int
        ] = {}  # 1 where more is better, -1 where less is, 0 where neither
        self._by_epoch: dict[int, dict[str, float]] = {}
        self._guard = threading.Lock()
        self.epoch = 0  # of the last point

    def add(self, values: Mapping[str, float], *, epoch: int) -> None:
        """One point; a value that is not finite is never the best one."""
        with self._guard:
            self.epoch = epoch
            self._by_epoch.setdefault(epoch, {}).update(values)
            for name, value in values.items():
                self._last[name] = value
                sign = self._find_sign(name)
                best = self._best.get(name)
                if (
                    sign
                    and math.isfinite(value)
                    and (best is None or sign * value > sign * best[0])
                ):
                    self._best[name] = value, epoch

    def _find_sign(self, name: str) -> int:
        if name not in self._signs:
            sign = 1 if higher_is_better(self._declared, name) else -1
            self._signs[name] = 0 if _NO_SCORE.fullmatch(name) else sign
        return self._signs[name]

    def read(self) -> dict[str, float]:
        """The best value of each metric under its name, and its last one as `last/NAME` where that
        is another.

        A metric without a finite value, or of which neither more nor less is better, has its last
        one.
        """
        with self._guard:
            found = {
                name: self._best.get(name, (value, 0))[0] for name, value in self._last.items()
            }
            worse = {name: value for name, value in self._last.items() if value != found[name]}
        return found | {
            f"{LAST}{name}": value for name, value in worse.items() if name in self._best
        }

    def find_best_epoch(self) -> int | None:
        """The epoch, counted from 1, where `val/` with the competition's metric was best, else one
        of `list_monitors`.

        None when none of these was logged, or it was without epochs.
        """
        with self._guard:
            known = [self._best[name][1] for name in self._monitored if name in self._best]
        return known[0] if known and known[0] > 0 else None

    def read_epoch(self, epoch: int) -> dict[str, float]:
        """The last value of each metric within an epoch; empty where none was logged."""
        with self._guard:
            return dict(self._by_epoch.get(epoch, {}))
