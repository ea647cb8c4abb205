"""Archived runs in MLflow: hidden from its lists by MLflow's own deletion, and restored."""

from __future__ import annotations

from typing import Any


def is_deleted(client: Any, run_id: str) -> bool:
    """Whether the run is deleted in MLflow; False when MLflow does not know it."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "deleted")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def delete_run(client: Any, run_id: str) -> bool:
    """Mark the run as deleted, which hides it from the lists; False when the user may not."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        return False
    return True


def restore_run(client: Any, run_id: str) -> None:
    """Restore a deleted run; one that `mlflow gc` has removed cannot be restored."""
    if is_deleted(client, run_id):
        client.restore_run(run_id)
