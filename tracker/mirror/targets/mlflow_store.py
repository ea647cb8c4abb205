"""Many points at once into MLflow's own database, where it is a SQLite file of this workspace."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Mapping
from typing import Any

from tracker.mirror.targets import Point
from tracker.workspace.competition import Workspace

BUSY_S = 20.0  # for another process to let go of the SQLite file, as MLflow waits
METRIC_COLUMNS = {"key", "value", "timestamp", "step", "is_nan", "run_uuid"}  # of MLflow's table


def find_metrics_table(workspace: Workspace) -> Any:
    """MLflow's table of points where the store is a SQLite file, and has the columns that we know;
    else None."""
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
    found: Any, run_id: str, points: Iterable[Point], *, exclude: Mapping[str, Point]
) -> None:
    """Points as MLflow writes them, in one transaction, without those in `exclude`; what is there
    stays.

    MLflow's own interface takes six times as long (bench/points.py).
    """
    from sqlalchemy import insert

    table, engine = found
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
