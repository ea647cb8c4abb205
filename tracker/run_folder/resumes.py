"""The times at which a run was resumed, and the line about it between its epochs."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from tracker.core.clock import to_utc_text
from tracker.run_folder.record import RunRecord
from tracker.training.numbers import is_whole
from tracker.workspace.tracker_toml import Workspace

UNFINISHED = ("killed", "interrupted", "failed")
RESUMED = "env-resumed-"  # Recorder.reopen writes a file with this prefix at each resume


def list_resumes(folder: Path) -> list[int]:
    """When a run was resumed, in seconds since 1970, oldest first; from its files' names."""
    texts = [path.stem.removeprefix(RESUMED) for path in folder.glob(f"{RESUMED}*.json")]
    return sorted(int(text) for text in texts if text.isascii() and is_whole(text))


def render_resume(workspace: Workspace, moment: int, epoch: int) -> str:
    """The line between the output before and after a resume at `moment`, after `epoch` epochs."""
    competition = workspace.competition
    when = competition.local_time(to_utc_text(dt.datetime.fromtimestamp(moment, dt.UTC)))
    where = f"after epoch {epoch}" if epoch > 0 else "from the beginning"
    return f"-- resumed {when} ({competition.time_zone}) {where} --"


def explain_own_resume(record: RunRecord) -> str:
    """How a script of one's own goes on with a run that did not finish; empty for others."""
    if record.status not in UNFINISHED or record.kind != "train" or record.fingerprints.get("data"):
        return ""
    return f'resume="{record.name}" in its script: start_run(..., resume="{record.name}")'


def explain_resume(record: RunRecord) -> str:
    """What to do or type so that a run that did not finish goes on; empty where it cannot go on:
    an inference and an ensemble are made anew, and so is a run that has no record yet."""
    if words := explain_own_resume(record):
        return words
    if record.status not in UNFINISHED or record.kind != "train" or not record.uid:
        return ""
    return f"tracker run train --from {record.name} --resume"
