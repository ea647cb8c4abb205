"""The runs of a workspace as its MLflow has them."""

from __future__ import annotations

from typing import Any

from mlflow.entities import ViewType

from tracker.mirror.targets.mlflow_server import connect
from tracker.workspace.tracker_toml import Workspace


def find_runs(workspace: Workspace, view: int = ViewType.ACTIVE_ONLY) -> list[Any]:
    """The runs in the workspace's experiment, without the deleted ones, or by `view`."""
    client = connect(workspace)
    experiment = client.get_experiment_by_name(workspace.competition.name)
    return list(client.search_runs([experiment.experiment_id], run_view_type=view))
