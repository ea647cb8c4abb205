"""Copy a run to MLflow after a change; MLflow may be unreachable."""

from __future__ import annotations

from tracker.core.errors import TrackerError, render_error
from tracker.mirror.mirror import describe_lag
from tracker.workspace.tracker_toml import Workspace


def copy_run(workspace: Workspace, name: str) -> str:
    """Bring a run's copies up to date; returns the reason why that failed, else an empty text."""
    from tracker.mirror.copy import sync_run

    try:
        sync_run(workspace, name)
    except TrackerError as error:
        return describe_lag(render_error(error))
    return ""
