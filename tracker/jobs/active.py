"""Whether something trains in this workspace right now, so that `latest` may change at any time."""

from __future__ import annotations

from tracker.core.locks import is_locked
from tracker.run_folder.read import list_runs
from tracker.workspace.tracker_toml import Workspace

KINDS = {"queues": "a queue", "sweeps": "a sweep"}


def describe_training(workspace: Workspace) -> str:
    """What trains or waits in a queue: `exp5 is running`; empty where nothing does.

    Between two entries of a queue no run is running, but its lock is held.
    """
    records = list_runs(workspace.runs_dir, archived=False)
    running = [record.name for record in records if record.status == "running"]
    if running:
        return f"{', '.join(running)} {'is' if len(running) == 1 else 'are'} running"
    for kind, word in KINDS.items():
        if any(is_locked(path) for path in (workspace.state_dir / kind).glob("*/lock")):
            return f"{word} is running"
    return ""
