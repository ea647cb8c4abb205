"""Write many points at once to MLflow's database, if that is a SQLite file of this workspace."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tracker.mirror.targets import Point
from tracker.workspace.tracker_toml import Workspace

BUSY_S = 20.0  # wait for another process's lock on the SQLite file, as long as MLflow does
METRIC_COLUMNS = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}  # of MLflow's table


def find_metrics_table(workspace: Workspace) -> Any:
    """MLflow's table of points and its engine; None unless it is SQLite with the known columns."""
    if not workspace.mlflow_uri.startswith("sqlite:"):
        return None
    from mlflow.store.tracking.dbmodels.models import SqlMetric
    from sqlalchemy import NullPool, create_engine

    table = SqlMetric.__table__
    if {column.name for column in table.columns} != METRIC_COLUMNS:
        return None
    return table, create_engine(
        workspace.mlflow_uri, poolclass=NullPool, connect_args={"timeout": BUSY_S}
    )


def insert_points(
    store: Any, run_id: str, points: Iterable[Point], *, exclude: Mapping[str, Point]
) -> None:
    """Insert points as MLflow does, in one transaction, without those in `exclude`.

    Rows that exist already stay. `store` is from `find_metrics_table`.

    MLflow's own interface takes six times as long (bench/points.py).
    """
    from sqlalchemy import insert

    table, engine = store
    largest = sys.float_info.max
    rows = [
        {
            "run_uuid": run_id,
            "key": key,
            "value": 0.0 if math.isnan(value) else max(-largest, min(largest, value)),
            "timestamp": point.time_ms,
            "step": point.step,
            "is_nan": math.isnan(value),
        }
        for point in points
        for key, value in point.values.items()
        if exclude[key] is not point
    ]
    with engine.begin() as connection:
        connection.execute(insert(table).prefix_with("OR IGNORE"), rows)
