"""Progress of a training: a bar on a terminal, a line for each epoch in a pipe."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING

from tracker.training.metrics import METRICS, is_validation_figure, list_figures
from tracker.training.numbers import render_float

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import TaskID

REPORT_S = 10.0  # between two lines in a pipe or a log file
RATE, LEFT = "rate", "left"


def list_shown(measured: Iterable[str] = ()) -> tuple[str, ...]:
    """The metrics in the line of an epoch: loss and accuracy of training, all of validation.

    `measured` are those that were measured: metrics of the competition come last.
    """
    usual = ("train/loss", "train/accuracy", *(f"val/{name}" for name in list_figures()))
    own = [name for name in measured if is_validation_figure(name)]
    return tuple(dict.fromkeys([*usual, *own]))


def _list_leaving(shown: Iterable[str]) -> tuple[str, ...]:
    """The parts of the line that a narrow terminal drops, in this order."""
    first, *others = METRICS
    usual = list_shown()
    own = [name for name in shown if is_validation_figure(name) and name not in usual]
    less = [f"val/{name}" for name in reversed(others)]
    last = ("train/loss", LEFT, f"val/{first}", "val/loss")
    return (RATE, "train/accuracy", *reversed(own), *less, *last)


class _Bar:
    """A bar that disappears at the end; there is none without a terminal."""

    _bar: RichProgress | None = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if (bar := self._find_bar()) is not None:
            bar.stop()

    def _find_bar(self) -> RichProgress | None:
        """The bar; None when the terminal is gone, or it would fill the file after it."""
        if self._bar is not None and not sys.stderr.isatty():
            self._bar.live.transient = True  # so that it draws nothing more
            self._bar.stop()
            self._bar = None
        return self._bar


class Progress(_Bar):
    """Shows batches and epochs on stderr; `quiet` shows nothing.

    `monitor` is the metric that each line has.
    """

    def __init__(self, *, epochs: int, quiet: bool = False, monitor: str = "") -> None:
        self._epochs = epochs
        self._monitor = monitor
        self._quiet = quiet
        self._task: TaskID | None = None
        self._started = time.monotonic()
        self._done = 0
        self._warned: set[str] = set()

    def __enter__(self) -> Progress:
        return self

    def begin(self, *, batches: int, done: int) -> None:
        """Show the bar; epochs done before a resume count as done, not as speed."""
        self._started = time.monotonic()
        if not self._quiet and sys.stderr.isatty():
            self._bar = _build_bar()
            self._bar.start()
            self._task = self._bar.add_task(
                "", total=self._epochs * batches, completed=done * batches, rate=""
            )

    def batch(self, *, epoch: int, images: int, loss: float) -> None:
        """Count one batch; `loss` is NaN while no batch of the epoch was read, as on a GPU."""
        self._done += images
        if (bar := self._find_bar()) is not None and self._task is not None:
            rate = self._done / max(time.monotonic() - self._started, 1e-9)
            label = f"epoch {epoch}/{self._epochs}"
            label += "" if math.isnan(loss) else f"  loss {render_float(loss)}"
            bar.update(self._task, advance=1, description=label, rate=f"{rate:.0f} images/s")

    def validate(self, *, epoch: int) -> None:
        """The batches of an epoch are done, and validation begins."""
        if (bar := self._find_bar()) is not None and self._task is not None:
            bar.update(self._task, description=f"epoch {epoch}/{self._epochs}  validating", rate="")
            bar.refresh()

    def finish(self, label: str) -> None:
        """All epochs are done: show what happens until the end, without counting."""
        if (bar := self._find_bar()) is None or self._task is None:
            return
        bar.columns = bar.columns[:2]  # no count, rate or time left
        bar.remove_task(self._task)
        self._task = bar.add_task(label, total=None, rate="")
        bar.refresh()

    def epoch(
        self, *, epoch: int, metrics: Mapping[str, float], best: bool, seconds_left: float
    ) -> None:
        """An epoch ended."""
        if self._quiet:
            return
        parts = {"epoch": f"epoch {epoch}/{self._epochs}"}
        parts |= {
            name: f"{name} {render_float(metrics[name])}"
            for name in list_shown(metrics)
            if name in metrics
        }
        parts[RATE] = f"{metrics.get('train/images_per_s', 0.0):.0f} images/s"
        if seconds_left > 0:
            parts[LEFT] = f"{_render_seconds(seconds_left)} left"
        if best:
            parts["best"] = "*best"
        self._print(self._fit(parts))

    def _fit(self, parts: dict[str, str]) -> str:
        """One line of the parts, without the less important ones on a narrow terminal."""
        bar = self._find_bar()
        for name in _list_leaving(tuple(parts)):
            if bar is None or len("  ".join(parts.values())) <= bar.console.width:
                break
            if name != self._monitor:
                parts.pop(name, None)
        return "  ".join(parts.values())

    def notify(self, line: str) -> None:
        """Show a sentence to the user."""
        if not self._quiet:
            self._print(line)

    def warn(self, line: str) -> None:
        """Show a sentence once, also where nothing else is shown."""
        if line not in self._warned:
            self._warned.add(line)
            self._print(line)

    def _print(self, line: str) -> None:
        if (bar := self._find_bar()) is not None:
            bar.console.print(line, markup=False, highlight=False)
        else:
            print(line, file=sys.stderr, flush=True)


class ItemProgress(_Bar):
    """Counts items on stderr: a bar on a terminal, else a line each REPORT_S seconds."""

    def __init__(self, total: int, *, label: str) -> None:
        self._total = total
        self._label = label
        self._done = 0
        self._started = self._reported = time.monotonic()
        self._bar = _build_bar() if sys.stderr.isatty() else None
        self._task = self._bar.add_task(label, total=total, rate="") if self._bar else None

    def __enter__(self) -> ItemProgress:
        if self._bar is not None:
            self._bar.start()
        return self

    def advance(self) -> None:
        """Count one item."""
        self._done += 1
        now = time.monotonic()
        rate = self._done / max(now - self._started, 1e-9)
        if (bar := self._find_bar()) is not None and self._task is not None:
            bar.update(self._task, advance=1, rate=f"{rate:.0f} images/s")
        elif now - self._reported > REPORT_S:
            self._reported = now
            left = _render_seconds((self._total - self._done) / rate)
            line = f"{self._label}: {self._done}/{self._total}  {rate:.0f} images/s  {left} left"
            print(line, file=sys.stderr, flush=True)


def _build_bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def _render_seconds(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"
