"""A running run as the cells of a row, or as a plain line in a pipe."""

from __future__ import annotations

from collections.abc import Sequence

from tracker.console.textplot import EIGHTHS
from tracker.core.table import Column
from tracker.core.text import render_number
from tracker.run_folder.running import RunningRun

SPARK = 12  # characters of a curve
COLUMNS = (
    Column("run"),
    Column("epoch"),
    Column("loss", leaves=3, right=True),
    Column("metric", leaves=2, text=True),
    Column("now", right=True),
    Column("best", leaves=5, right=True),
    Column("img/s", leaves=4, right=True),
    Column("GPU", leaves=6, right=True),
    Column("left", right=True),
    Column("curve", leaves=7),
)


def draw_sparkline(values: Sequence[float], width: int = SPARK) -> str:
    """The curve as `width` block characters at most, the newest values last."""
    count = min(width, len(values))
    if not count:
        return ""
    size = len(values)
    parts = [
        values[i * size // count : max(i * size // count + 1, (i + 1) * size // count)]
        for i in range(count)
    ]
    means = [sum(part) / len(part) for part in parts]
    low, high = min(means), max(means)
    shares = [(mean - low) / (high - low) if high > low else 0.0 for mean in means]
    return "".join(EIGHTHS[round(share * (len(EIGHTHS) - 1))] for share in shares)


def build_row(run: RunningRun) -> list[str]:
    """The cells of a run, one for each of COLUMNS."""
    return [
        run.name,
        _render_epoch(run),
        render_number(run.loss),
        run.metric,
        render_number(run.value),
        render_number(run.best),
        "-" if run.images_per_s is None else f"{run.images_per_s:.0f}",
        "-" if run.gpu_percent is None else f"{run.gpu_percent:.0f} %",
        run.status if run.status != "running" else render_left(run.left_s),
        draw_sparkline(run.curve),
    ]


def render_line(run: RunningRun) -> str:
    """A run on one plain line, for a pipe: `exp12  epoch 3/15  val/f1 0.7612`."""
    parts = [run.name, f"epoch {_render_epoch(run)}"]
    figures = {"train/loss": run.loss, run.metric: run.value}
    parts += [
        f"{name} {render_number(value)}" for name, value in figures.items() if value is not None
    ]
    if run.images_per_s is not None:
        parts.append(f"{run.images_per_s:.0f} images/s")
    if run.left_s is not None:
        parts.append(f"{render_left(run.left_s)} left")
    if run.status != "running":
        parts.append(run.status)
    return "  ".join(parts)


def _render_epoch(run: RunningRun) -> str:
    return f"{run.epoch}/{run.epochs}" if run.epochs else str(run.epoch)


def render_left(seconds: float | None) -> str:
    """`1:05:00` or `12:30`; `-` when it is unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
