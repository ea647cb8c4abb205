"""The record of one run (run.json), its folder, and its marks."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from types import NoneType
from typing import Any

from tracker.core.clock import from_utc_text
from tracker.core.locks import FileLock, is_locked
from tracker.training.errors import StorageError
from tracker.training.files import remove_leftovers, translate_os_errors, write_json
from tracker.training.tables import parse_json

STALE_HEARTBEAT_S = 60.0  # 12 missed heartbeats: a slow network disk may delay a few

# The job of a scheduler begins or goes on with it: no process has it now.
WAITING = ("pending", "preempted")
OPEN = ("running", *WAITING)  # a run that will go on by itself

JOB_FACT = "slurm_job"  # the fact of a run that a job of Slurm trains: the job's number

RUN_NAME = re.compile(r"exp([1-9][0-9]*)")
_RUN_NAMES = re.compile(rf"(?<![^/]){RUN_NAME.pattern}(?![^/])")  # of a whole folder at once

MARKS = "marks.json"  # tags and archive state, added later; `tracker.run_folder.marks` writes it

TEAM = Path(".tracker", "team")  # teammates' runs in a workspace; `tracker.mirror.pull` writes it

KILLED_CACHE = ".killed.json"  # what the points of a killed loop add to run.json, see killed.py


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """run.json: what a run is and how it ended; the last three fields are from marks.json."""

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
    # files that tracker clean removed: {name: UTC text}
    freed: Mapping[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)

    def to_file(self) -> dict[str, Any]:
        """Plain values for run.json, without the marks: they may change while the run writes it."""
        return {key: value for key, value in self.to_dict().items() if key not in MARK_FIELDS}


MARK_FIELDS = ("tags", "archived_at", "freed")

_TEXT_FIELDS = (
    *("name", "uid", "kind", "status", "note", "author", "host"),
    *("created_at", "heartbeat", "error"),
)
FIELD_TYPES: Mapping[str, tuple[type, ...]] = {
    **dict.fromkeys(_TEXT_FIELDS, (str,)),
    **dict.fromkeys(("parent", "finished_at", "best_at"), (str, NoneType)),
    **dict.fromkeys(("pid", "epoch"), (int,)),
    **dict.fromkeys(("summary", "facts", "fingerprints"), (dict,)),
    "best_epoch": (int, NoneType),
    "duration_s": (int, float),
}


def run_folder(runs_dir: Path, name: str) -> Path:
    """The folder of a run: `exp12` in runs/, the copy of a teammate's `mina/exp12` in `TEAM`."""
    return runs_dir.parent / TEAM / name if is_pulled(name) else runs_dir / name


def read_threads(record: RunRecord) -> int | None:
    """The threads that a training computed with, in each of its processes; None where unknown."""
    threads = record.facts.get("threads")
    return threads if type(threads) is int and threads > 0 else None


def read_cpu_precision(record: RunRecord) -> str | None:
    """The number format that a training on a CPU computed in; None elsewhere, or where unknown."""
    precision = record.facts.get("precision")
    on_cpu = str(record.facts.get("device", "")).startswith("cpu")
    return precision if on_cpu and precision in ("32-true", "bf16-mixed") else None


def is_pulled(name: str) -> bool:
    """Whether a name is that of a teammate's run, of which a copy was pulled."""
    return "/" in name


def allocate_run(runs_dir: Path) -> Path:
    """Make the next run folder; no number is used twice, even if its folder was deleted."""
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
    """The numbers of the run folders, newest first."""
    try:
        names = "/".join(os.listdir(runs_dir))  # noqa: PTH208 no name has the stroke
    except FileNotFoundError:
        return []
    return sorted(map(int, _RUN_NAMES.findall(names)), reverse=True)


def check_record(record: RunRecord) -> None:
    """Raise ValueError for a field that no version of this program writes so."""
    for name, kinds in FIELD_TYPES.items():
        value = getattr(record, name)
        if type(value) not in kinds:
            raise ValueError(f"{name} is {value!r}")
    for name in ("created_at", "heartbeat", "finished_at"):
        if text := getattr(record, name):
            from_utc_text(text)
    if any(type(value) not in (int, float, NoneType) for value in record.summary.values()):
        raise ValueError("summary has a value that is not a number")
    if any(type(value) not in (str, NoneType) for value in record.fingerprints.values()):
        raise ValueError("fingerprints has a value that is not a text")


def read_marks(folder: Path) -> dict[str, Any]:
    """`MARK_FIELDS` of a run folder, {} without marks.json; raises StorageError for a bad file."""
    path = folder / MARKS
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        marks = {name: raw[name] for name in MARK_FIELDS}
        _check_marks(**marks)
        marks["tags"] = tuple(marks["tags"])
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, TypeError, LookupError) as error:
        hint = (
            f"restore the file from a backup, or delete it: {folder.name} then has no tags and is"
            " not archived"
        )
        raise StorageError(f"cannot read {path}: {error}", hint=hint) from error
    return marks


def _check_marks(tags: Any, archived_at: Any, freed: Any) -> None:
    """Raise ValueError or TypeError for marks that no version of this program writes."""
    if type(tags) is not list or not all(type(tag) is str for tag in tags):
        raise ValueError(f"tags is {tags!r}")
    if type(freed) is not dict:
        raise ValueError(f"freed is {freed!r}")
    if archived_at is not None:
        from_utc_text(archived_at)
    for text in freed.values():
        from_utc_text(text)
    json.dumps([tags, freed], ensure_ascii=False).encode()


def is_abandoned(folder: Path) -> bool:
    """Whether a run's process died before it wrote run.json; a living one holds the lock."""
    if not folder.is_dir() or (folder / "run.json").exists():
        return False
    if not (folder / ".lock").exists():
        return True  # FileLock would create the file, and so change the folder's time
    held = is_locked(folder / ".lock")
    if held is None:  # a read-only copy: by its age
        return time.time() - folder.stat().st_mtime > STALE_HEARTBEAT_S
    return not held


def raw_fields(record: RunRecord) -> dict[str, Any]:
    """The fields of a record without copying its tables."""
    return {f.name: getattr(record, f.name) for f in fields(record)}


def is_archived(folder: Path) -> bool:
    """Whether a run is archived; False if its marks cannot be read."""
    try:
        return read_marks(folder).get("archived_at") is not None
    except StorageError:
        return False
