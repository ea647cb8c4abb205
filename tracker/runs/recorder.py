"""Writes one run folder: config.toml, env.json, run.json and metrics.jsonl, whatever happens to the
process."""

from __future__ import annotations

import json
import math
import os
import threading
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.clock import utc_now
from tracker.core.locks import FileLock
from tracker.core.metric_names import check_name
from tracker.core.settings import get_author
from tracker.core.text import check_utf8
from tracker.runs.environment import collect_environment
from tracker.runs.marks import check_tags, write_marks
from tracker.runs.points import replace_non_finite
from tracker.runs.read import load_run
from tracker.runs.record import KILLED_CACHE, RunRecord, allocate_run
from tracker.training.errors import ConfigError, StorageError
from tracker.training.files import (
    remove_leftovers,
    storage_error,
    translate_os_errors,
    write_json,
    write_text,
)

if TYPE_CHECKING:
    from collections.abc import Callable


HEARTBEAT_S = 5.0


class Recorder:
    """A RunLogger that writes a run folder; one process owns it, by a lock on the folder."""

    def __init__(self, folder: Path, record: RunRecord, lock: FileLock) -> None:
        self.folder = folder
        self.record = record
        self.summarize: Callable[[], Mapping[str, Any]] = (
            dict  # fields that each write of the record takes along
        )
        self._lock = lock
        self._started = time.monotonic() - record.duration_s
        self._names: set[str] = set()  # of metrics, found fit
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
    ) -> Recorder:
        """Allocate expN and write its first files.

        Raises StorageError, or ConfigError for a text that is not UTF-8 or that cannot be a tag.
        """
        import tomli_w

        check_utf8("the note", note)
        text = tomli_w.dumps(config)
        check_utf8("the config", text)
        tags = check_tags(tags)
        folder = allocate_run(runs_dir)
        lock = FileLock(folder / ".lock")
        lock.acquire()
        environment = collect_environment(runs_dir.parent)
        write_text(folder / "config.toml", text)
        write_json(folder / "env.json", environment)
        now = utc_now()
        record = RunRecord(
            name=folder.name,
            uid=uuid.uuid4().hex,
            kind=kind,
            parent=parent,
            note=note,
            author=get_author(),
            host=os.uname().nodename,
            pid=os.getpid(),
            created_at=now,
            heartbeat=now,
            fingerprints={**fingerprints, "code": environment["code"]},
            tags=tags,
        )
        if tags:
            write_marks(folder, record)
        write_json(folder / "run.json", record.to_file())
        return cls(folder, record, lock)

    @classmethod
    def reopen(cls, runs_dir: Path, name: str) -> Recorder:
        """Go on with a run that was killed, interrupted or failed; raises ConfigError when it is
        not."""
        lock = FileLock(runs_dir / name / ".lock")
        record = load_run(runs_dir, name)
        if record.status == "finished":
            raise ConfigError(
                f"{name} is finished",
                hint=f"tracker run train --from {name} starts a new run from it",
            )
        if record.status == "running" or not lock.acquire(wait=False):
            raise ConfigError(f"{name} is still running", hint="wait for it, or stop it first")
        remove_leftovers(runs_dir / name)
        (runs_dir / name / KILLED_CACHE).unlink(missing_ok=True)
        write_json(
            runs_dir / name / f"env-resumed-{int(time.time())}.json",
            collect_environment(runs_dir.parent),
        )
        record = replace(
            record,
            status="running",
            pid=os.getpid(),
            host=os.uname().nodename,
            finished_at=None,
            error="",
            heartbeat=utc_now(),
        )
        if record.archived_at:  # whoever goes on with a run wants to see it
            record = replace(record, archived_at=None)
            write_marks(runs_dir / name, record)
        write_json(runs_dir / name / "run.json", record.to_file())
        return cls(runs_dir / name, record, lock)

    @property
    def age_s(self) -> float:
        """Seconds that the run has taken, up to now and before it was resumed."""
        return time.monotonic() - self._started

    def params(self, values: Mapping[str, Any]) -> None:
        """Keep facts found while setting up."""
        self._update(facts={**self.record.facts, **values})

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """Put one point on disk before returning.

        Raises StorageError when the disk is full, ConfigError for a wrong name or value; nothing is
        written then.
        """
        if not self._names.issuperset(values):
            for name in values:
                check_name(name)
            self._names.update(values)
        point = {"time": round(time.time(), 3), "step": step, "epoch": epoch, "values": values}
        try:
            line = json.dumps(point, allow_nan=False)
        except ValueError:
            finite = {k: v if math.isfinite(v) else str(v) for k, v in values.items()}
            line = json.dumps({**point, "values": finite})
        self._write_line(line.encode() + b"\n")

    def _write_line(self, line: bytes) -> None:
        try:
            written = os.write(self._metrics_fd, line)
            while written < len(line):  # a disk that fills up takes part of a line
                written += os.write(self._metrics_fd, line[written:])
        except OSError as error:
            raise storage_error(error, self.folder / "metrics.jsonl", "write") from error

    def artifact(self, path: Path) -> None:
        """Nothing to do: the mirror picks up the files of the run folder."""

    def progress(
        self, *, epoch: int, best_epoch: int | None, summary: Mapping[str, float | None]
    ) -> None:
        """Keep how far the run has come and the metrics of its best epoch."""
        best_at = utc_now() if best_epoch == epoch else self.record.best_at
        self._update(
            epoch=epoch, best_epoch=best_epoch, best_at=best_at, summary=replace_non_finite(summary)
        )

    def fingerprint(self, **values: str | None) -> None:
        """Keep fingerprints known only at the end."""
        self._update(fingerprints={**self.record.fingerprints, **values})

    def describe(self, *, note: str, parent: str | None) -> None:
        """Another note and parent, where they are given; raises ConfigError for a note that is not
        UTF-8."""
        check_utf8("the note", note)
        self._update(note=note or self.record.note, parent=parent or self.record.parent)

    def change_config(self, config: Mapping[str, Any], fingerprint: str) -> None:
        """Write another config.toml; raises StorageError, or ConfigError for a text that is not
        UTF-8."""
        import tomli_w

        text = tomli_w.dumps(config)
        check_utf8("the config", text)
        write_text(self.folder / "config.toml", text)
        self.fingerprint(config=fingerprint)

    def finish(
        self, status: str, *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """Write the final record and let go of the folder; `times` are when a run of elsewhere
        began and ended."""
        self._stop.set()
        self._heart.join()
        try:
            begun, ended = times or (self.record.created_at, utc_now())
            self._update(status=status, error=error, created_at=begun, finished_at=ended)
        finally:
            os.close(self._metrics_fd)
            self._metrics_fd = -1
            self._lock.release()
        return self.record

    def _update(self, **changes: Any) -> None:
        with self._guard:
            changes = {**self.summarize(), **changes}
            duration = round(self.age_s, 3)
            self.record = replace(self.record, heartbeat=utc_now(), duration_s=duration, **changes)
            write_json(self.folder / "run.json", self.record.to_file())

    def _beat(self) -> None:
        while not self._stop.wait(HEARTBEAT_S):
            try:
                self._update()
            except StorageError:
                continue  # a full disk may have room again; the loop's own writes report it


def _open_points(path: Path) -> int:
    """Open metrics.jsonl for appending; a line torn by a crash is closed so that the next one
    stands alone."""
    with translate_os_errors(path, "write"):
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o666)
        size = os.fstat(fd).st_size
        if size and os.pread(fd, 1, size - 1) != b"\n":
            os.write(fd, b"\n")
    return fd
