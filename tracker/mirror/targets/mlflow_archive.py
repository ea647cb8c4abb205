"""Archived runs in MLflow: out of its lists by its own deletion, and back."""

from __future__ import annotations

from typing import Any


def is_deleted(client: Any, run_id: str) -> bool:
    """Whether MLflow has the run among the deleted; False when it does not know it."""
    from mlflow.exceptions import MlflowException

    try:
        return bool(client.get_run(run_id).info.lifecycle_stage == "deleted")
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            return False
        raise


def delete_run(client: Any, run_id: str) -> bool:
    """Mark the run as deleted, which takes it out of MLflow's lists; False when this user may not."""
    from mlflow.exceptions import MlflowException

    try:
        client.delete_run(run_id)
    except MlflowException as error:
        if error.error_code != "PERMISSION_DENIED":
            raise
        return False
    return True


def restore_run(client: Any, run_id: str) -> None:
    """Bring a deleted run back; one that `mlflow gc` has removed since stays away."""
    if is_deleted(client, run_id):
        client.restore_run(run_id)
