"""The points of a run: metrics.jsonl read line by line, and the curves from them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tracker.core.metric_names import SYSTEM_PREFIX

Curves = Mapping[str, Mapping[int, tuple[int, float]]]  # by metric name: {step: (epoch, value)}

MAX_STEP = 1 << 53  # the largest integer that a float and MLflow's database hold exactly


def read_points(path: Path) -> Iterator[dict[str, Any]]:
    """The points of a metrics.jsonl in logged order; an incomplete last line is skipped."""
    try:
        with path.open("rb") as file:
            for line in file:
                point = parse_point(line)
                if point is not None:
                    yield point
    except FileNotFoundError:
        return


def read_new_points(path: Path, offset: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(end offset, point) of every complete line after `offset`; the file may still grow.

    The point is None if the line is damaged.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield offset, parse_point(line)
    except FileNotFoundError:
        return


def parse_point(line: bytes) -> dict[str, Any] | None:
    """One line of metrics.jsonl as {time, step, epoch, values}; None when it is damaged."""
    try:
        point: dict[str, Any] = json.loads(line)
        point["values"] = {key: float(value) for key, value in point["values"].items()}
        whole = type(point["step"]) is int and type(point["epoch"]) is int
        timed = type(point["time"]) in (int, float)
        in_range = all(abs(point[key]) < MAX_STEP for key in ("step", "epoch", "time"))
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return point if whole and timed and in_range else None


def drop_system_metrics(values: Mapping[str, float]) -> dict[str, float]:
    """The values of a point without the metrics of the machine."""
    return {name: value for name, value in values.items() if not name.startswith(SYSTEM_PREFIX)}


def read_curves(path: Path) -> Curves:
    """Curves by metric name, without the metrics of the machine.

    A step that was logged again after a resume has only its last value.
    """
    curves: dict[str, dict[int, tuple[int, float]]] = {}
    for point in read_points(path):
        for key, value in drop_system_metrics(point["values"]).items():
            curves.setdefault(key, {})[point["step"]] = (point["epoch"], value)
    return curves


def replace_non_finite(values: Mapping[str, float | None]) -> dict[str, float | None]:
    """The values with None for what JSON cannot hold: NaN and infinity."""
    return {
        key: value if value is not None and math.isfinite(value) else None
        for key, value in values.items()
    }
