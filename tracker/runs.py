"""Run folders: runs/expN is the truth about a run. This module reads them; recorder.py writes them."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import NoneType
from typing import Any

from tracker.errors import UnknownRunError
from tracker.locks import FileLock
from tracker.training.atomic import TEMPORARY, remove_leftovers, translate_os_errors, write_json
from tracker.training.errors import ConfigError, StorageError
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json, read_toml

STALE_HEARTBEAT_S = 60.0
Curves = Mapping[str, Mapping[int, tuple[int, float]]]  # by metric name: {step: (epoch, value)}
RUN_NAME = re.compile(r"exp([1-9][0-9]*)")
MARKS = "marks.json"  # what was said of a run after it was made; `tracker.marks` writes it
KEPT = ".killed.json"  # what the points of a killed loop add to run.json, so that they are read once
FIRST_FILES = {".lock", "config.toml", "env.json", "output.log", MARKS}  # what a folder has before its first record
LARGEST_STEP = 1 << 53  # what MLflow's database, and a float, can count to
SYSTEM_PREFIX = "system/"  # figures of the machine, not of what was trained


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """run.json: what a run is and how it ended; the last three are from marks.json, which the run does not write."""

    name: str
    uid: str
    kind: str = "train"
    status: str = "running"
    parent: str | None = None
    note: str = ""
    author: str = ""
    host: str = ""
    pid: int = 0
    created_at: str = ""
    heartbeat: str = ""
    finished_at: str | None = None
    duration_s: float = 0.0
    epoch: int = 0
    best_epoch: int | None = None
    best_at: str | None = None
    error: str = ""
    summary: Mapping[str, float | None] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)
    fingerprints: Mapping[str, str | None] = field(default_factory=dict)
    tags: Sequence[str] = ()
    archived_at: str | None = None
    freed: Mapping[str, str] = field(default_factory=dict)  # files that tracker clean removed: {name: when}

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)

    def to_file(self) -> dict[str, Any]:
        """Plain values, as written to run.json: tags may change while the run writes that file."""
        return {key: value for key, value in self.to_dict().items() if key not in MARK_FIELDS}


MARK_FIELDS = ("tags", "archived_at", "freed")

RECORD_KINDS: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(
        ("name", "uid", "kind", "status", "note", "author", "host", "created_at", "heartbeat", "error"), (str,)
    ),
    **dict.fromkeys(("parent", "finished_at", "best_at"), (str, NoneType)),
    **dict.fromkeys(("pid", "epoch"), (int,)),
    **dict.fromkeys(("summary", "facts", "fingerprints"), (dict,)),
    "best_epoch": (int, NoneType),
    "duration_s": (int, float),
}


def utc_now() -> str:
    """Now, as UTC text of fixed width that sorts by time."""
    return to_utc_text(dt.datetime.now(dt.UTC))


def to_utc_text(moment: dt.datetime) -> str:
    """An aware time as `2026-11-24T02:11:46.123456Z`; raises ValueError for a naive one."""
    if moment.tzinfo is None:
        raise ValueError("naive time")
    return moment.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def from_utc_text(text: str) -> dt.datetime:
    """The inverse of `to_utc_text`."""
    return dt.datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=dt.UTC)


def check_utf8(what: str, text: str) -> None:
    """Raise ConfigError for a text that no file, ledger or page can hold."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigError(
            f"{what} is not UTF-8 (character {error.start + 1})", hint="check the terminal's encoding"
        ) from error


def allocate_run(runs_dir: Path) -> Path:
    """Make the next run folder; a number is never given twice, even when its folder was deleted."""
    counter = runs_dir / ".last"
    with FileLock(runs_dir / ".lock"):
        remove_leftovers(runs_dir)
        last = max([_read_counter(counter), *list_run_numbers(runs_dir)[:1]])
        folder = runs_dir / f"exp{last + 1}"
        with translate_os_errors(folder, "create"):
            folder.mkdir()
        write_json(counter, last + 1)
    return folder


def _read_counter(path: Path) -> int:
    try:
        return int(path.read_text())
    except (FileNotFoundError, ValueError):
        return 0


def list_run_numbers(runs_dir: Path) -> list[int]:
    """Numbers of the run folders, newest first."""
    try:
        with os.scandir(runs_dir) as entries:
            matches = [RUN_NAME.fullmatch(entry.name) for entry in entries]
    except FileNotFoundError:
        return []
    return sorted((int(match[1]) for match in matches if match), reverse=True)


def load_run(runs_dir: Path, name: str) -> RunRecord:
    """The record of a run, its status corrected when its process has died, and completed by what it had logged.

    Raises UnknownRunError when there is no such run, StorageError when run.json cannot be read.
    """
    folder = runs_dir / name
    path = folder / "run.json"
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        known = {f.name for f in fields(RunRecord)}.difference(MARK_FIELDS)
        record = RunRecord(**{key: value for key, value in raw.items() if key in known}, **read_marks(folder))
        check_record(record)
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()  # what could not be written again is damage
    except FileNotFoundError:
        if RUN_NAME.fullmatch(name) and folder.is_dir():
            return _load_unrecorded(folder)
        newest = list_run_numbers(runs_dir)[:1]
        hint = f"the newest is exp{newest[0]}; tracker runs lists them" if newest else "tracker run train makes one"
        raise UnknownRunError(f"no run {name or repr(name)} in {runs_dir}", hint=hint) from None
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise StorageError(f"cannot read {path}: {error}", hint="restore the file from a backup") from error
    if record.status == "running" and not _is_alive(folder, record):
        from tracker.killed import complete  # late: it reads with this module

        return complete(
            folder, RunRecord(**{**raw_fields(record), "status": "killed", "finished_at": record.heartbeat})
        )
    return record


def check_record(record: RunRecord) -> None:
    """Raise ValueError for a value that no program has written there."""
    for name, kinds in RECORD_KINDS.items():
        value = getattr(record, name)
        if type(value) not in kinds:
            raise ValueError(f"{name} is {value!r}")
    for name in ("created_at", "heartbeat", "finished_at"):
        if text := getattr(record, name):
            from_utc_text(text)
    if any(type(value) not in (int, float, NoneType) for value in record.summary.values()):
        raise ValueError("summary has a value that is no number")
    if any(type(value) not in (str, NoneType) for value in record.fingerprints.values()):
        raise ValueError("fingerprints has a value that is no text")


def read_marks(folder: Path) -> dict[str, Any]:
    """What marks.json of a run folder has of `MARK_FIELDS`; raises StorageError for a damaged file."""
    path = folder / MARKS
    try:
        marks = parse_json(path.read_text(encoding="utf-8"))
        found = {name: marks[name] for name in MARK_FIELDS}
        _check_marks(**found)
        found["tags"] = tuple(found["tags"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        hint = f"restore the file from a backup, or delete it: {folder.name} then has no tags and is not archived"
        raise StorageError(f"cannot read {path}: {error}", hint=hint) from error
    return found


def _check_marks(tags: Any, archived_at: Any, freed: Any) -> None:
    """Raise ValueError or TypeError for what no program has written there."""
    if type(tags) is not list or not all(type(tag) is str for tag in tags):
        raise ValueError(f"tags is {tags!r}")
    if type(freed) is not dict:
        raise ValueError(f"freed is {freed!r}")
    for text in (*([] if archived_at is None else [archived_at]), *freed.values()):
        from_utc_text(text)
    json.dumps([tags, freed], ensure_ascii=False).encode()


def _load_unrecorded(folder: Path) -> RunRecord:
    """The record of a run that is being made, or whose process died before it wrote one; it has no uid.

    Raises StorageError when the folder has more than that: then run.json was lost.
    """
    with translate_os_errors(folder, "read"):
        names = {path.name for path in folder.iterdir()}
        since = to_utc_text(dt.datetime.fromtimestamp(folder.stat().st_mtime, dt.UTC))
    if any(name not in FIRST_FILES and not TEMPORARY.fullmatch(name) for name in names):
        raise StorageError(f"{folder / 'run.json'} is missing", hint="restore the file from a backup")
    record = RunRecord(name=folder.name, uid="", created_at=since, heartbeat=since, **read_marks(folder))
    if is_abandoned(folder):
        return replace(record, status="killed", finished_at=since, error="killed before its first record")
    return record


def is_abandoned(folder: Path) -> bool:
    """Whether a run's process died before it wrote the record; one that is about to write it holds the lock."""
    if not folder.is_dir() or (folder / "run.json").exists():
        return False
    if not (folder / ".lock").exists():
        return True  # it is not made here: that would change the folder's time
    lock = FileLock(folder / ".lock")
    try:
        free = lock.acquire(wait=False)
    except StorageError:  # a read-only copy: by its age
        return time.time() - folder.stat().st_mtime > STALE_HEARTBEAT_S
    lock.release()
    return free


def raw_fields(record: RunRecord) -> dict[str, Any]:
    """The fields of a record without copying its tables."""
    return {f.name: getattr(record, f.name) for f in fields(record)}


def _is_alive(folder: Path, record: RunRecord) -> bool:
    """Whether the process of a running run still lives: by its lock here, by its heartbeat elsewhere."""
    if record.host == os.uname().nodename:
        if record.pid == os.getpid():
            return True
        lock = FileLock(folder / ".lock")
        try:
            free = lock.acquire(wait=False)
        except StorageError:
            free = False  # a read-only copy: fall back on the heartbeat
        else:
            lock.release()
            return not free
    age = dt.datetime.now(dt.UTC) - from_utc_text(record.heartbeat)
    return age.total_seconds() < STALE_HEARTBEAT_S


def list_runs(runs_dir: Path, *, limit: int | None = None, archived: bool = True) -> list[RunRecord]:
    """The newest runs first; a folder whose record cannot be read is listed as `broken`.

    Without `archived`, the newest of those that were not put away.
    """
    records: list[RunRecord] = []
    for number in list_run_numbers(runs_dir):
        if limit is not None and len(records) >= limit:
            break
        name = f"exp{number}"
        try:
            record = load_run(runs_dir, name)
        except StorageError as error:
            record = _describe_broken(runs_dir / name, error)
        if archived or record.archived_at is None:
            records.append(record)
    return records


def _describe_broken(folder: Path, error: StorageError) -> RunRecord:
    record = RunRecord(name=folder.name, uid="", status="broken", error=str(error))
    try:
        return replace(record, **read_marks(folder))
    except StorageError:
        return record


def is_archived(folder: Path) -> bool:
    """Whether a run was put away; one whose marks cannot be read is not."""
    try:
        return read_marks(folder).get("archived_at") is not None
    except StorageError:
        return False


def count_archived(runs_dir: Path) -> int:
    """How many runs were put away."""
    return sum(is_archived(runs_dir / f"exp{number}") for number in list_run_numbers(runs_dir))


def find_latest(runs_dir: Path) -> str:
    """The newest finished run with predictions that is not archived; raises UnknownRunError."""
    for number in list_run_numbers(runs_dir):
        name = f"exp{number}"
        if (runs_dir / name / "predictions.csv").is_file():
            record = load_run(runs_dir, name)
            if record.status == "finished" and record.archived_at is None:
                return name
    raise UnknownRunError("no finished run with predictions yet", hint="tracker run train makes one")


def load_config(runs_dir: Path, name: str) -> dict[str, dict[str, Any]]:
    """The config of a run as nested tables; raises StorageError or ConfigError."""
    path = runs_dir / name / "config.toml"
    tables = read_toml(path)
    problems = list(_find_foreign(tables))
    if problems:
        raise ConfigError(
            f"{render_count(len(problems), 'wrong value')} in {path}:", problems=problems, hint="restore the file"
        )
    return tables


def load_trained_config(runs_dir: Path, record: RunRecord) -> dict[str, dict[str, Any]]:
    """The config of a run that this program trained or inferred; raises ConfigError for one of any other loop."""
    if record.uid and record.kind in ("train", "infer") and not record.fingerprints.get("data"):
        raise ConfigError(
            f"{record.name} was made by another program or by a loop of your own: its model and its data are"
            " unknown here",
            hint="train, predict and explain where it was trained; run.save_probabilities or tracker adopt bring the"
            f" result (tracker show {record.name} has its config)",
        )
    return load_config(runs_dir, record.name)


def _find_foreign(tables: Mapping[str, Any]) -> Iterator[str]:
    """A line for everything that no program writes into a config, as a date is."""
    for section, table in tables.items():
        if not isinstance(table, Mapping):
            yield f"{section}: is a table, write [{section}]"
            continue
        for key, value in table.items():
            for item in value if isinstance(value, list) else [value]:
                if isinstance(item, dt.date | dt.time):
                    yield f"{section}.{key}: expected a number, a text, true, false or a list, not {item}"


def read_points(path: Path) -> Iterator[dict[str, Any]]:
    """The points of a metrics.jsonl in the order logged; a torn last line is skipped."""
    try:
        with path.open("rb") as file:
            for line in file:
                point = parse_point(line)
                if point is not None:
                    yield point
    except FileNotFoundError:
        return


def read_new_points(path: Path, offset: int) -> Iterator[tuple[int, dict[str, Any] | None]]:
    """(end offset, point) of every complete line from `offset` on, of a file that may still grow.

    The point is None where the line is torn or makes no sense.
    """
    try:
        with path.open("rb") as file:
            file.seek(offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                offset += len(line)
                yield offset, parse_point(line)
    except FileNotFoundError:
        return


def parse_point(line: bytes) -> dict[str, Any] | None:
    """One line of metrics.jsonl as {time, step, epoch, values}; None when it is torn, or lacks one of these."""
    try:
        point: dict[str, Any] = json.loads(line)
        point["values"] = {key: float(value) for key, value in point["values"].items()}
        whole = all(type(point[key]) is int and abs(point[key]) < LARGEST_STEP for key in ("step", "epoch"))
        timed = type(point["time"]) in (int, float) and abs(point["time"]) < LARGEST_STEP
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
        return None
    return point if whole and timed else None


def drop_system(values: Mapping[str, float]) -> dict[str, float]:
    """The values of a point without the machine's figures."""
    return {name: value for name, value in values.items() if not name.startswith(SYSTEM_PREFIX)}


def read_curves(path: Path) -> Curves:
    """Curves by metric name; a step logged again after a resume counts once, the machine's figures are left out."""
    curves: dict[str, dict[int, tuple[int, float]]] = {}
    for point in read_points(path):
        for key, value in drop_system(point["values"]).items():
            curves.setdefault(key, {})[point["step"]] = (point["epoch"], value)
    return curves
