"""When a run was resumed, and the line that says so between its epochs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tracker.core.clock import to_utc_text
from tracker.runs.record import RunRecord
from tracker.workspace.competition import Workspace

RESUMED = "env-resumed-"  # what files of recorder.Recorder.reopen begin with


def list_resumes(folder: Path) -> list[int]:
    """When a run was resumed, in seconds since 1970: each time kept its environment under that
    name."""
    found = [path.stem.removeprefix(RESUMED) for path in folder.glob(f"{RESUMED}*.json")]
    return sorted(int(text) for text in found if text.isascii() and text.isdecimal())


def render_resume(workspace: Workspace, moment: int, epoch: int) -> str:
    """The line between what a run printed before and after it was resumed at a moment, with `epoch`
    epochs done."""
    comp = workspace.competition
    when = comp.local_time(to_utc_text(dt.datetime.fromtimestamp(moment, dt.UTC)))
    return (
        f"-- resumed {when} ({comp.time_zone})"
        f" {f'after epoch {epoch}' if epoch > 0 else 'from the beginning'} --"
    )


def explain_own_resume(record: RunRecord) -> str:
    """How a script of one's own goes on with a run that did not finish; empty for others."""
    unfinished = record.status in ("killed", "interrupted", "failed")
    if not unfinished or record.kind != "train" or record.fingerprints.get("data"):
        return ""
    return f'resume="{record.name}" in its script: start_run(..., resume="{record.name}")'
