"""What a run printed, shown while it goes on: `tracker logs -f`."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.jobs.slurm_state import read_job, settle_gone
from tracker.run_folder.output import OUTPUT_NAME
from tracker.run_folder.points import read_new_points, read_points
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import OPEN, WAITING
from tracker.run_folder.resumes import list_resumes, render_resume
from tracker.training.numbers import render_float
from tracker.training.progress import list_shown
from tracker.workspace.tracker_toml import Workspace

POLL_S = 0.5  # `logs -f` is this much behind

SILENCE_S = 8.0  # without output, `logs -f` then says what the run is doing


def stream_logs(
    workspace: Workspace,
    name: str,
    *,
    follow: bool,
    offset: int = 0,
    on_silence: Callable[[str], None] = lambda _: None,
) -> Iterator[str]:
    """The output of a run in the background, or the epochs of one in a terminal.

    With `follow` until the run ends. The first `offset` bytes are skipped. `on_silence` gets a
    sentence about the progress when nothing was printed for a while.
    """
    folder = workspace.runs_dir / name
    load_run(workspace.runs_dir, name)
    read = _read_output if (folder / OUTPUT_NAME).is_file() else _EpochLines(workspace).read
    last_output, message = time.monotonic(), ""
    while True:
        # Ask before reading: then nothing is missed at the end.
        running = load_run(workspace.runs_dir, name).status in OPEN
        text, offset = read(folder, offset)
        if text:
            yield text
            last_output = time.monotonic()
        elif time.monotonic() - last_output > SILENCE_S:
            last_output, before = time.monotonic(), message
            settle_gone(workspace)
            message = describe_progress(workspace, name)
            if message not in ("", before):
                on_silence(message)
        if not (running and follow):
            return
        time.sleep(POLL_S)


def _read_output(folder: Path, offset: int) -> tuple[str, int]:
    with (folder / OUTPUT_NAME).open("rb") as file:
        file.seek(offset)
        new = file.read()
    return new.decode("utf-8", errors="replace"), offset + len(new)


class _EpochLines:
    """A line for each new point of an epoch, and one where the run was resumed.

    A resumed run may repeat epochs.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._resumes = 0  # how many were shown

    def read(self, folder: Path, offset: int) -> tuple[str, int]:
        """The new lines after byte `offset` of metrics.jsonl, and the next offset."""
        lines = []
        for next_offset, point in read_new_points(folder / "metrics.jsonl", offset):
            offset = next_offset
            if not point:
                continue
            names = list_shown(point["values"])
            shown = {name: value for name, value in point["values"].items() if name in names}
            if shown:
                resumes = [moment for moment in list_resumes(folder) if moment <= point["time"]]
                if len(resumes) > self._resumes:
                    lines.append(render_resume(self._workspace, resumes[-1], point["epoch"] - 1))
                self._resumes = len(resumes)
                values = "  ".join(f"{key} {render_float(shown[key])}" for key in shown)
                lines.append(f"epoch {point['epoch']}  {values}")
        return "".join(f"{line}\n" for line in lines), offset


def describe_progress(workspace: Workspace, name: str) -> str:
    """In which epoch a run is, and since when; empty when it is not running."""
    record = load_run(workspace.runs_dir, name)
    if record.status in WAITING:
        job = read_job(workspace.runs_dir / name)
        return f"{name} is {record.status}: it waits for {job.title if job else 'its job'}"
    if record.status != "running" or not record.created_at:
        return ""
    # Our own training logs these metrics at the end of an epoch. Other loops log what and when they
    # like: there any point counts.
    own_training = bool(record.fingerprints.get("data"))
    epoch, since = 0, from_utc_text(record.created_at).timestamp()
    for point in read_points(workspace.runs_dir / name / "metrics.jsonl"):
        if own_training:
            counts = any(name in list_shown(point["values"]) for name in point["values"])
        else:
            counts = any(not name.startswith(SYSTEM_PREFIX) for name in point["values"])
        if counts:
            epoch, since = point["epoch"], point["time"]
    moment = to_utc_text(dt.datetime.fromtimestamp(since, dt.UTC))
    clock = workspace.competition.local_time(moment, "%H:%M")
    if not own_training:
        return f"{name} has logged nothing since {clock}, in epoch {epoch}"
    total = load_config(workspace.runs_dir, name)["train"]["epochs"]
    if total == epoch:
        return f"{name} completed its {epoch} epochs at {clock} and has not ended yet"
    return f"{name} has been in epoch {epoch + 1} of {total} since {clock}"
