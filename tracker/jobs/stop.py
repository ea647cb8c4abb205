"""Which run is running, and how it is stopped: `tracker stop`."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import Any

from tracker.core.errors import TrackerError, UnknownRunError
from tracker.core.locks import FileLock
from tracker.jobs.logs import POLL_S
from tracker.ledger.resolve import resolve_own_run
from tracker.run_folder.read import HOW_TO_MAKE_ONE, list_runs, load_run
from tracker.run_folder.record import JOB_FACT, OPEN, WAITING, RunRecord
from tracker.run_folder.stop_note import STOP_NAME
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.training.machine import host_name
from tracker.training.saves import SAVE
from tracker.workspace.tracker_toml import Workspace

REPORT_S = 10.0  # between two messages while waiting for a run to end


def resolve_running(workspace: Workspace, word: str, *, or_newest: bool) -> str:
    """The run that a word means; `latest` is the newest running one, no word the only running one.

    When none is running it is the newest of all with `or_newest`, else TrackerError is raised, as
    when there is no run. ConfigError is raised when nothing was named and several are running.
    """
    if word not in ("", "latest"):
        return resolve_own_run(workspace, word)
    records = list_runs(workspace.runs_dir)
    running = [record.name for record in records if record.status in OPEN]
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
        raise UnknownRunError("no run yet", hint=HOW_TO_MAKE_ONE)
    return records[0].name


def stop_run(
    workspace: Workspace,
    name: str,
    *,
    reason: str,
    wait_s: float = 60.0,
    facts: dict[str, Any] | None = None,
    saves: bool = False,
) -> RunRecord:
    """End a running run like Ctrl-C does, and wait until its end is recorded.

    One that waits for a job leaves the queue. `reason` and `facts` are added to its record; with
    `saves` it saves last.pth at its next step before. Raises TrackerError when it is not running,
    when it runs on another machine, or when it has not ended within `wait_s` seconds.
    """
    # Refuse what cannot be stopped from here.
    folder = workspace.runs_dir / name
    record = load_run(workspace.runs_dir, name)
    if record.status in WAITING:
        from tracker.jobs.slurm_state import stop_waiting

        record = stop_waiting(workspace, name, reason=reason)
        if record.status != "running":
            return record
    if record.status != "running":
        raise TrackerError(
            f"{name} is not running: it is {record.status}", hint="tracker runs lists the runs"
        )
    here = record.host == host_name()
    if not here and JOB_FACT not in record.facts:
        raise TrackerError(
            f"{name} runs on {record.host}", hint=f"run tracker stop {name} on that machine"
        )
    holder = FileLock(folder / ".lock").find_holder() if here else record.pid
    if holder != record.pid:  # another process may have got its number
        raise TrackerError(
            f"nothing was stopped: {name} is process {record.pid} by its record, but process"
            f" {holder} has its folder",
            hint="try again; if the folder is on a shared disk, stop it on its own machine",
        )
    # The reason first: the run reads it when the signal arrives. One on another machine of the
    # cluster looks for it.
    note = {"reason": reason, "facts": facts or {}, "elsewhere": not here}
    write_json(folder / STOP_NAME, note)
    if here:
        os.kill(record.pid, _choose_signal(record, saves=saves))
    started = reported = time.monotonic()
    while (ended := load_run(workspace.runs_dir, name)).status == "running":
        now = time.monotonic()
        if now - started > wait_s:
            raise TrackerError(
                f"{name} (process {record.pid}) has not ended after {wait_s:.0f} s",
                hint=f"wait, or kill -9 {record.pid}: completed epochs are saved",
            )
        if now - reported > REPORT_S:
            reported = now
            print(f"waiting for {name} to end, {now - started:.0f} s", file=sys.stderr)
        time.sleep(POLL_S / 5)
    return ended


def _choose_signal(record: RunRecord, *, saves: bool) -> signal.Signals:
    """SIGTERM, but in a job, where that is Slurm's word; SIGUSR1 to save before."""
    if saves and SAVE:
        return SAVE
    return signal.SIGINT if JOB_FACT in record.facts else signal.SIGTERM
