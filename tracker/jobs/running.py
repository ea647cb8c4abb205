"""Runs while they run: what they say, and stopping one."""

from __future__ import annotations

import datetime as dt
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import UnknownRunError
from tracker.core.locks import FileLock
from tracker.ledger.resolve import resolve_run
from tracker.runs.output import OUTPUT_NAME
from tracker.runs.points import SYSTEM_PREFIX, read_new_points, read_points
from tracker.runs.read import list_runs, load_config, load_run
from tracker.runs.record import RunRecord
from tracker.runs.resumes import list_resumes, render_resume
from tracker.runs.stop_note import STOP_NAME
from tracker.training.errors import ConfigError, TrackerError
from tracker.training.files import write_json
from tracker.training.numbers import render_float
from tracker.training.progress import list_shown
from tracker.workspace.competition import Workspace

POLL_S = 0.5

REPORT_S = 10.0

SILENCE_S = 8.0  # without a line, until `logs -f` says what the run is doing


def resolve_running(workspace: Workspace, word: str, *, or_newest: bool) -> str:
    """The run meant by a word, where `latest` is the newest that is running, and no word the only
    one.

    When none is running, the newest of all with `or_newest`; else, and when there is no run, raises
    TrackerError; ConfigError when nothing was named and several are running.
    """
    if word not in ("", "latest"):
        return resolve_run(workspace, word)
    records = list_runs(workspace.runs_dir)
    running = [record.name for record in records if record.status == "running"]
    if len(running) > 1 and not word:
        raise ConfigError(
            f"{len(running)} runs are running: {', '.join(running)}",
            hint=f"name the one that is meant, such as {running[0]}",
        )
    if running:
        return running[0]
    if not or_newest:
        raise TrackerError("no run is running", hint="tracker runs lists the runs")
    if not records:
        raise UnknownRunError("no run yet", hint="tracker run train makes one")
    return records[0].name


def stream_logs(
    workspace: Workspace,
    name: str,
    *,
    follow: bool,
    offset: int = 0,
    on_silence: Callable[[str], None] = lambda _: None,
) -> Iterator[str]:
    """The output of a run in the background, or the epochs of one in a terminal; `follow`: until
    the run ends.

    `offset` bytes are left out. `on_silence` gets a sentence about the run when it has printed
    nothing for a while.
    """
    folder = workspace.runs_dir / name
    load_run(workspace.runs_dir, name)
    read = _read_output if (folder / OUTPUT_NAME).is_file() else _Epochs(workspace).read
    heard, told = time.monotonic(), ""
    while True:
        running = (
            load_run(workspace.runs_dir, name).status == "running"
        )  # before reading: nothing is missed
        text, offset = read(folder, offset)
        if text:
            yield text
            heard = time.monotonic()
        elif time.monotonic() - heard > SILENCE_S:
            heard, before = time.monotonic(), told
            told = describe_silence(workspace, name)
            if told not in ("", before):
                on_silence(told)
        if not (running and follow):
            return
        time.sleep(POLL_S)


def _read_output(folder: Path, offset: int) -> tuple[str, int]:
    with (folder / OUTPUT_NAME).open("rb") as file:
        file.seek(offset)
        new = file.read()
    return new.decode("utf-8", errors="replace"), offset + len(new)


class _Epochs:
    """A line for each new point of a whole epoch, and one wherever the run was resumed: it may
    repeat epochs."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._resumes = 0  # that were told

    def read(self, folder: Path, offset: int) -> tuple[str, int]:
        """The new lines after a place in metrics.jsonl, and the place after them."""
        lines, own = [], list_shown()
        for at, point in read_new_points(folder / "metrics.jsonl", offset):
            offset = at
            shown = (
                {key: value for key, value in point["values"].items() if key in own}
                if point
                else {}
            )
            if point and shown:
                resumes = [moment for moment in list_resumes(folder) if moment <= point["time"]]
                if len(resumes) > self._resumes:
                    lines.append(render_resume(self._workspace, resumes[-1], point["epoch"] - 1))
                self._resumes = len(resumes)
                values = "  ".join(f"{key} {render_float(shown[key])}" for key in shown)
                lines.append(f"epoch {point['epoch']}  {values}")
        return "".join(f"{line}\n" for line in lines), offset


def describe_silence(workspace: Workspace, name: str) -> str:
    """Which epoch a running run is in, and since when; empty when nothing can be said of it."""
    record = load_run(workspace.runs_dir, name)
    if record.status != "running" or not record.created_at:
        return ""
    own = bool(record.fingerprints.get("data"))  # other loops log what they like, and when
    shown = list_shown()
    epoch, since = 0, from_utc_text(record.created_at).timestamp()
    for point in read_points(workspace.runs_dir / name / "metrics.jsonl"):
        if any(
            key in shown if own else not key.startswith(SYSTEM_PREFIX) for key in point["values"]
        ):
            epoch, since = point["epoch"], point["time"]
    moment = to_utc_text(dt.datetime.fromtimestamp(since, dt.UTC))
    clock = workspace.competition.local_time(moment, "%H:%M")
    if not own:
        return f"{name} has logged nothing since {clock}, in epoch {epoch}"
    total = load_config(workspace.runs_dir, name)["train"]["epochs"]
    if total == epoch:
        return f"{name} has done its {epoch} epochs at {clock} and has not ended yet"
    return f"{name} is in epoch {epoch + 1} of {total} since {clock}"


def stop_run(
    workspace: Workspace,
    name: str,
    *,
    reason: str,
    wait_s: float = 60.0,
    facts: dict[str, Any] | None = None,
) -> RunRecord:
    """End a running run as Ctrl-C would, and wait until that is recorded; `reason` and `facts` go
    into its record.

    Raises TrackerError when it does not run, runs elsewhere, or has not ended within `wait_s`
    seconds.
    """
    folder = workspace.runs_dir / name
    record = load_run(workspace.runs_dir, name)
    if record.status != "running":
        raise TrackerError(
            f"{name} is not running, it is {record.status}", hint="tracker runs lists the runs"
        )
    if record.host != os.uname().nodename:
        raise TrackerError(
            f"{name} runs on {record.host}", hint=f"tracker stop {name} on that machine"
        )
    holder = FileLock(folder / ".lock").find_holder()
    if holder != record.pid:  # its number may belong to somebody else's process by now
        raise TrackerError(
            f"{name} is process {record.pid} by its record, but {holder} holds its folder; nothing"
            " was stopped",
            hint="try again; where the folder is a shared disk's, stop it on its own machine",
        )
    write_json(folder / STOP_NAME, {"reason": reason, "facts": facts or {}})
    os.kill(record.pid, signal.SIGTERM)
    started = reported = time.monotonic()
    while (ended := load_run(workspace.runs_dir, name)).status == "running":
        now = time.monotonic()
        if now - started > wait_s:
            raise TrackerError(
                f"{name} has not ended after {wait_s:.0f} s, process {record.pid}",
                hint=f"wait; or kill -9 {record.pid}, what whole epochs gave is on disk",
            )
        if now - reported > REPORT_S:
            reported = now
            print(f"waiting for {name} to end, {now - started:.0f} s", file=sys.stderr)
        time.sleep(POLL_S / 5)
    return ended
