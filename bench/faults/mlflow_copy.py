"""What MLflow has of a run, read from its database and its folder.

A client would keep connections to databases that the next fault replaces.
"""

from __future__ import annotations

import math
import sqlite3
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

from bench.faults.site import Site
from tracker.core.metric_names import to_chart_name, to_mlflow_name
from tracker.mirror.copy import list_files
from tracker.run_folder.points import read_points
from tracker.run_folder.record import RunRecord

HUGE = 1.7976931348623157e308  # MLflow's word for infinity
RUNS = """
    SELECT r.run_uuid AS id, r.status, r.artifact_uri AS place FROM runs r
    JOIN tags t ON t.run_uuid = r.run_uuid AND t.key = 'tracker.uid'
    JOIN experiments e ON e.experiment_id = r.experiment_id
    WHERE t.value = ? AND r.lifecycle_stage = 'active' AND e.name = ?
"""
POINTS = "SELECT key, step, value, is_nan FROM metrics WHERE run_uuid = ?"


def find_differences(site: Site, run: RunRecord, database: Path, artifacts: Path) -> Iterator[str]:
    """How a run differs in MLflow: runs, points, files, status."""
    with closing(sqlite3.connect(database)) as connection:
        connection.row_factory = sqlite3.Row
        found = connection.execute(RUNS, (run.uid, site.workspace.competition.name)).fetchall()
        if len(found) != 1:
            yield f"MLflow has {run.name} {len(found)} times"
            return
        has: dict[tuple[str, int], Counter[str]] = {}
        for row in connection.execute(POINTS, (found[0]["id"],)):
            has.setdefault((row["key"], row["step"]), Counter())[render(row)] += 1
    folder = site.root / "runs" / run.name
    wanted = read_wanted(folder)
    for place, value in wanted.items():
        if has.get(place) != {value: 1}:
            yield f"{run.name}: {place} is {value}, in MLflow {dict(has.get(place, {}))}"
            break
    uri = found[0]["place"]
    there = (
        artifacts / uri.removeprefix("mlflow-artifacts:/")
        if "artifacts:/" in uri
        else Path(uri.removeprefix("file://"))
    )
    for name in list_files(folder):
        copy = there / name
        if not copy.is_file() or copy.read_bytes() != (folder / name).read_bytes():
            yield f"{run.name}: MLflow's {name} is another"
            break
    if (found[0]["status"] == "FINISHED") != (run.status == "finished"):
        yield f"{run.name} is {run.status}, in MLflow {found[0]['status']}"


def read_wanted(folder: Path) -> dict[tuple[str, int], str]:
    """The points of a run folder by MLflow's name and step; the first where one came again."""
    wanted: dict[tuple[str, int], str] = {}
    for point in read_points(folder / "metrics.jsonl"):
        for key, value in point["values"].items():
            wanted.setdefault((to_chart_name(to_mlflow_name(key)), point["step"]), repr(value))
    return wanted


def render(row: Any) -> str:
    """The value of a row as `repr` has the float that was logged."""
    if row["is_nan"]:
        return repr(math.nan)
    value = float(row["value"])
    return repr(math.copysign(math.inf, value) if abs(value) == HUGE else value)
