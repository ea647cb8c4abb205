"""Writes one run folder: config.toml, env.json, run.json and metrics.jsonl.

A kill at any moment leaves files that can be read.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import signal
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.core.metric_names import SYSTEM_PREFIX, check_name
from tracker.core.text import check_utf8
from tracker.run_folder.environment import collect_environment
from tracker.run_folder.event_log import append_event, list_validation, open_lines
from tracker.run_folder.event_texts import (
    ENDS,
    describe_best,
    describe_best_values,
    describe_end,
    describe_facts,
    describe_start,
)
from tracker.run_folder.marks import check_tags, write_marks
from tracker.run_folder.points import read_points, replace_non_finite
from tracker.run_folder.read import load_run
from tracker.run_folder.record import (
    JOB_FACT,
    KILLED_CACHE,
    OPEN,
    WAITING,
    RunRecord,
    allocate_run,
)
from tracker.run_folder.stop_note import is_stopped
from tracker.training.errors import ConfigError, StorageError
from tracker.training.files import (
    remove_leftovers,
    storage_error,
    translate_os_errors,
    write_json,
    write_text,
)
from tracker.training.machine import host_name
from tracker.workspace.member_file import find_author

if TYPE_CHECKING:
    from collections.abc import Callable


HEARTBEAT_S = 5.0  # a list of runs is at most so old; STALE_HEARTBEAT_S is many times that


class Recorder:
    """A RunLogger that writes a run folder; a lock on the folder keeps other processes out."""

    def __init__(self, folder: Path, record: RunRecord, lock: FileLock) -> None:
        self.folder = folder
        self.record = record
        # returns more fields for each write of the record
        self.summarize: Callable[[], Mapping[str, Any]] = dict
        # the values of the best epoch, where the summary has the best of each metric
        self.read_best: Callable[[RunRecord], Mapping[str, float | None]] = _read_nothing
        self._lock = lock
        self._started = time.monotonic() - record.duration_s
        self._names: set[str] = set()  # names of metrics that were checked
        self._not_finite: set[str] = set()  # metrics of which it was told
        self._logged: set[tuple[int, str]] = set()  # what is not written again: step and metric
        self._guard = threading.Lock()
        self._stop = threading.Event()
        self._metrics_fd = _open_points(folder / "metrics.jsonl")
        self._heart = threading.Thread(
            target=self._beat, name=f"heartbeat {record.name}", daemon=True
        )
        self._heart.start()

    @classmethod
    def create(
        cls,
        runs_dir: Path,
        *,
        kind: str,
        config: Mapping[str, Any],
        parent: str | None,
        note: str,
        fingerprints: Mapping[str, str | None],
        tags: Sequence[str] = (),
        facts: Mapping[str, Any] | None = None,
        waits: bool = False,
    ) -> Recorder:
        """Allocate expN and write its first files; with `waits` a job will begin it.

        Raises StorageError, or ConfigError for a text that is not UTF-8 or an invalid tag.
        """
        import tomli_w

        check_utf8("the note", note)
        text = tomli_w.dumps(config)
        check_utf8("the config", text)
        tags = check_tags(tags)
        # Nothing that takes time comes between the folder and its record.
        environment, host = collect_environment(runs_dir.parent), host_name()
        author = find_author(runs_dir.parent)
        folder, now = allocate_run(runs_dir), utc_now()
        record = RunRecord(
            name=folder.name,
            uid=uuid.uuid4().hex,
            kind=kind,
            status="pending" if waits else "running",
            parent=parent,
            note=note,
            author=author,
            host=host,
            pid=os.getpid(),
            created_at=now,
            heartbeat=now,
            facts=dict(facts or {}),
            fingerprints={**fingerprints, "code": environment["code"]},
            tags=tags,
        )
        lock = FileLock(folder / ".lock")
        recorder: Recorder | None = None
        try:
            lock.acquire()
            write_text(folder / "config.toml", text)
            write_json(folder / "env.json", environment)
            if tags:
                write_marks(folder, record)
            write_json(folder / "run.json", record.to_file())
            recorder = cls(folder, record, lock)
            if not waits:
                recorder.tell("started", describe_start(record), describe_facts(record), time=now)
            return recorder
        except BaseException:  # Ctrl-C, SIGTERM or a full disk: nobody has seen the run yet
            if recorder is not None:
                recorder._close()
            lock.release()
            shutil.rmtree(folder, ignore_errors=True)
            raise

    @classmethod
    def reopen(cls, runs_dir: Path, name: str, *, job: str = "") -> Recorder:
        """Resume a run that was killed, interrupted or failed; raises ConfigError for any other.

        `job` is the scheduler's job that this process is: it begins a run that waits for it.
        """
        lock = FileLock(runs_dir / name / ".lock")
        record = load_run(runs_dir, name)
        if record.status == "finished":
            raise ConfigError(
                f"{name} is finished",
                hint=f"train it anew, for longer: tracker run train --from {name} --epochs N",
            )
        if record.status in WAITING and not job:
            raise ConfigError(
                f"{name} waits for a job of the scheduler ({record.status})",
                hint=f"tracker stop {name} takes it out of the queue",
            )
        if record.status == "running" or not lock.acquire(wait=False):
            raise ConfigError(f"{name} is still running", hint="wait for it, or stop it first")
        if record.status == "killed":  # nobody was left to write it
            ended = record.finished_at or record.heartbeat
            append_event(runs_dir / name, "died", describe_end(record), {}, time=ended)
        remove_leftovers(runs_dir / name)
        (runs_dir / name / KILLED_CACHE).unlink(missing_ok=True)
        begins = record.status == "pending"
        environment = "env.json" if begins else f"env-resumed-{int(time.time())}.json"
        write_json(runs_dir / name / environment, collect_environment(runs_dir.parent))
        before = record
        record = replace(
            record,
            status="running",
            pid=os.getpid(),
            host=host_name(),
            finished_at=None,
            error="",
            heartbeat=utc_now(),
        )
        if record.archived_at:  # a user who resumes a run wants to see it in the lists
            record = replace(record, archived_at=None)
            write_marks(runs_dir / name, record)
        recorder: Recorder | None = None
        try:
            write_json(runs_dir / name / "run.json", record.to_file())
            recorder = cls(runs_dir / name, record, lock)
            if begins:
                recorder.tell("started", describe_start(record), describe_facts(record))
            else:
                recorder.tell("resumed", f"{name} resumed after epoch {record.epoch}", {})
            return recorder
        except BaseException:  # as in `create`: nothing was done, the run is what it was
            if recorder is not None:
                recorder._stop_heart()
            with suppress(StorageError):
                write_json(runs_dir / name / "run.json", before.to_file())
            if recorder is not None:
                recorder._close()
            lock.release()
            raise

    @property
    def age_s(self) -> float:
        """Seconds of work on the run so far, those before a resume included."""
        return time.monotonic() - self._started

    def params(self, values: Mapping[str, Any]) -> None:
        """Record facts that are known after the setup."""
        self._update(facts={**self.record.facts, **values})

    def keep_logged(self) -> None:
        """Write no metric again that metrics.jsonl has of a step: an epoch that was cut off is
        trained again, with the same result."""
        for point in read_points(self.folder / "metrics.jsonl"):
            if point["epoch"] > self.record.epoch:
                self._logged.update((point["step"], name) for name in point["values"])

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Write one point; it is on disk when this returns.

        Raises StorageError when the disk is full, ConfigError for a wrong name or value; then
        nothing is written.
        """
        if not self._names.issuperset(values):
            for name in values:
                check_name(name)
            self._names.update(values)
        if self._logged:
            values = {n: value for n, value in values.items() if (step, n) not in self._logged}
            if not values:
                return
        point = {"time": round(time.time(), 3), "step": step, "epoch": epoch, "values": values}
        broken: list[str] = []
        try:
            line = json.dumps(point, allow_nan=False)
        except ValueError:
            # JSON has no NaN: a text that float() reads is written instead
            texts = {name: v if math.isfinite(v) else str(v) for name, v in values.items()}
            line = json.dumps({**point, "values": texts})
            broken = [name for name, value in texts.items() if isinstance(value, str)]
        self._write_line(line.encode() + b"\n")
        for name in broken:
            self._tell_not_finite(name, str(values[name]), step=step, epoch=epoch)

    def tell(self, kind: str, text: str, values: Mapping[str, Any], *, time: str = "") -> None:
        """Append an event to the run's events.jsonl; `time` is UTC text, now if it is empty."""
        append_event(self.folder, kind, text, values, time=time)

    def _tell_not_finite(self, name: str, value: str, *, step: int, epoch: int) -> None:
        """Tell once that a metric is NaN or infinite; of the machine's metrics nothing is told."""
        if name in self._not_finite or name.startswith(SYSTEM_PREFIX):
            return
        self._not_finite.add(name)
        text = f"{self.record.name}: {name} is {value} in epoch {epoch}, step {step}"
        about = {"state": "not finite", "metric": name, "epoch": epoch, "step": step}
        self.tell("advice", text, about)

    def _write_line(self, line: bytes) -> None:
        try:
            written = os.write(self._metrics_fd, line)
            while written < len(line):  # a disk that is almost full accepts part of a line
                written += os.write(self._metrics_fd, line[written:])
        except OSError as error:
            raise storage_error(error, self.folder / "metrics.jsonl", "write") from error

    def artifact(self, path: Path) -> None:
        """Do nothing: the mirror finds the files of the run folder itself."""

    def progress(
        self, *, epoch: int, best_epoch: int | None, summary: Mapping[str, float | None]
    ) -> None:
        """Record the epoch that is done and the metrics of the best epoch."""
        best_at = utc_now() if best_epoch == epoch else self.record.best_at
        self._update(
            epoch=epoch, best_epoch=best_epoch, best_at=best_at, summary=replace_non_finite(summary)
        )

    def fingerprint(self, **values: str | None) -> None:
        """Record fingerprints that are known only at the end."""
        self._update(fingerprints={**self.record.fingerprints, **values})

    def describe(self, *, note: str, parent: str | None) -> None:
        """Change note and parent unless empty; raises ConfigError for a note that is not UTF-8."""
        check_utf8("the note", note)
        self._update(note=note or self.record.note, parent=parent or self.record.parent)

    def change_config(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Write a new config.toml; raises StorageError, or ConfigError if it is not UTF-8."""
        import tomli_w

        text = tomli_w.dumps(config)
        check_utf8("the config", text)
        write_text(self.folder / "config.toml", text)
        self.fingerprint(config=fingerprint)

    def finish(
        self, status: str, *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """Write the final record and free the folder.

        `times` are the start and the end of a run that was made by another program, as UTC texts.
        With a status of `WAITING` the run has not ended: a job goes on with it.
        """
        self._stop_heart()
        try:
            begun, ended = times or (self.record.created_at, utc_now())
            end = None if status in WAITING else ended
            self._update(status=status, error=error, created_at=begun, finished_at=end)
            values = self.read_best(self.record)
            text = describe_end(self.record, values)
            kind = ENDS.get(status, status)
            self.tell(kind, text, list_validation(values or self.record.summary))
        finally:
            self._close()
        return self.record

    def _stop_heart(self) -> None:
        self._stop.set()
        self._heart.join()

    def _close(self) -> None:
        """Free the folder; nothing is written to it any more."""
        self._stop_heart()
        os.close(self._metrics_fd)
        self._metrics_fd = -1
        self._lock.release()

    def _update(self, **changes: Any) -> None:
        with self._guard:
            changes = {**self.summarize(), **changes}
            duration = round(self.age_s, 3)
            before = self.record.best_epoch
            self.record = replace(self.record, heartbeat=utc_now(), duration_s=duration, **changes)
            write_json(self.folder / "run.json", self.record.to_file())
            if self.record.best_epoch not in (None, before):
                values = self.read_best(self.record)
                about = describe_best_values(self.record, values)
                self.tell("best", describe_best(self.record, values), about)

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            if JOB_FACT in self.record.facts and is_stopped(self.folder, elsewhere=True):
                os.kill(os.getpid(), signal.SIGINT)  # tracker stop on another machine
            try:
                self._update()
            except StorageError:
                continue  # a full disk may get room again, and the loop's own writes report it


def settle_waiting(runs_dir: Path, name: str, status: str, *, error: str) -> RunRecord:
    """Give a run that waits for a job another status, for there is no job, or a new one.

    Returns its record, unchanged where it does not wait, or a process has it.
    """
    lock = FileLock(runs_dir / name / ".lock")
    if not lock.acquire(wait=False):
        return load_run(runs_dir, name)
    try:
        record = load_run(runs_dir, name)
        if record.status in WAITING:
            record = _write_status(runs_dir / name, record, status, error)
    finally:
        lock.release()
    return record


def put_back(runs_dir: Path, name: str) -> RunRecord:
    """Let a run that ended without finishing wait for a job; raises ConfigError for any other."""
    lock = FileLock(runs_dir / name / ".lock")
    record = load_run(runs_dir, name)
    if record.status in ("finished", *OPEN) or not lock.acquire(wait=False):
        raise ConfigError(f"{name} is {record.status}", hint=f"tracker show {name}")
    try:
        return _write_status(runs_dir / name, record, "preempted", "")
    finally:
        lock.release()


def _write_status(folder: Path, record: RunRecord, status: str, error: str) -> RunRecord:
    now = utc_now()
    ended = None if status in WAITING else now
    record = replace(record, status=status, error=error, heartbeat=now, finished_at=ended)
    write_json(folder / "run.json", record.to_file())
    append_event(folder, status, describe_end(record), {}, time=now)
    return record


def _read_nothing(record: RunRecord) -> Mapping[str, float | None]:
    """Of a run whose summary is that of its best epoch."""
    return {}


def _open_points(path: Path) -> int:
    """Open metrics.jsonl for appending; raises StorageError."""
    with translate_os_errors(path, "write"):
        return open_lines(path)
