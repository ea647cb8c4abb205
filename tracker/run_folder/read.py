"""Read runs from their folders: one run, all runs, their configs; a killed run is completed."""

from __future__ import annotations

import datetime as dt
import errno
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.clock import from_utc_text, to_utc_text
from tracker.core.errors import UnknownRunError
from tracker.core.locks import is_locked
from tracker.run_folder.look import find_index, find_look, hold_look
from tracker.run_folder.members import link_members, list_member_names
from tracker.run_folder.record import (
    MARK_FIELDS,
    MARKS,
    RUN_NAME,
    STALE_HEARTBEAT_S,
    RunRecord,
    check_record,
    is_abandoned,
    is_archived,
    list_run_numbers,
    raw_fields,
    read_marks,
    run_folder,
)
from tracker.training.errors import ConfigError, StorageError
from tracker.training.files import TEMPORARY, translate_os_errors
from tracker.training.machine import host_name
from tracker.training.numbers import render_count
from tracker.training.tables import parse_json, read_toml

if TYPE_CHECKING:
    from tracker.run_folder.index import RunIndex, SettledRun

HOW_TO_MAKE_ONE = "tracker run train, or a script with tracker.start_run(...), makes one"
PLAIN = {str, int, float, bool}
_RECORDED = frozenset(f.name for f in fields(RunRecord)).difference(MARK_FIELDS)
# the files that a run folder may have before run.json is written
FIRST_FILES = {".lock", ".lock.held", "config.toml", "env.json", "output.log", MARKS}


def load_run(runs_dir: Path, name: str) -> RunRecord:
    """The record of a run; if its process died, the status is `killed` and the points are added.

    Raises UnknownRunError when there is no such run, StorageError when run.json cannot be read.
    """
    if look := find_look(runs_dir, name):
        index, number = look
        if (known := index.load_record(number)) is not None:
            return known
    folder = run_folder(runs_dir, name)
    try:
        record = _read_record(folder)
    except FileNotFoundError:
        if RUN_NAME.fullmatch(name) and folder.is_dir():
            return _load_unrecorded(folder)
        newest = list_run_numbers(runs_dir)[:1]
        hint = HOW_TO_MAKE_ONE
        if newest:
            hint = f"the newest is exp{newest[0]}; tracker runs lists them"
        raise UnknownRunError(f"no run {name or repr(name)} in {runs_dir}", hint=hint) from None
    if record.status == "running" and not _is_alive(folder, record):
        from tracker.run_folder.killed import (
            complete_record,  # late: killed.py imports this room's code
        )

        changes = {"status": "killed", "finished_at": record.heartbeat}
        return complete_record(folder, RunRecord(**{**raw_fields(record), **changes}))
    return record


def _read_record(folder: Path) -> RunRecord:
    """run.json and the marks as they are; raises FileNotFoundError without run.json, StorageError
    when it cannot be read."""
    path = folder / "run.json"
    try:
        raw = parse_json(path.read_text(encoding="utf-8"))
        own = {key: value for key, value in raw.items() if key in _RECORDED}
        record = RunRecord(**own, **read_marks(folder))
        check_record(record)
        # a value that cannot be written back as JSON means that the file is damaged
        json.dumps(raw, ensure_ascii=False, allow_nan=False).encode()
    except (OSError, ValueError, TypeError, AttributeError) as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOENT, errno.ENAMETOOLONG):
            raise FileNotFoundError(path) from error
        raise StorageError(
            f"cannot read {path}: {error}", hint="restore the file from a backup"
        ) from error
    return record


def _load_unrecorded(folder: Path) -> RunRecord:
    """The record of a run without run.json: it is starting, or it died before; it has no uid.

    Raises StorageError when the folder has files of a later time: then run.json was lost.
    """
    with translate_os_errors(folder, "read"):
        names = {path.name for path in folder.iterdir()}
        changed = folder.stat().st_mtime
    if any(name not in FIRST_FILES and not TEMPORARY.fullmatch(name) for name in names):
        raise StorageError(
            f"{folder / 'run.json'} is missing", hint="restore the file from a backup"
        )
    marks, abandoned = read_marks(folder), is_abandoned(folder)
    since = to_utc_text(dt.datetime.fromtimestamp(changed, dt.UTC))
    record = RunRecord(name=folder.name, uid="", created_at=since, heartbeat=since, **marks)
    if abandoned:
        return replace(
            record, status="killed", finished_at=since, error="killed before its first record"
        )
    return record


def _is_alive(folder: Path, record: RunRecord) -> bool:
    """Whether the process of a running run is alive: its lock on this host, else its heartbeat."""
    if record.host == host_name():
        if record.pid == os.getpid():
            return True
        held = is_locked(folder / ".lock")
        if held is not None:
            return held
        # a read-only copy: the heartbeat decides
    age = dt.datetime.now(dt.UTC) - from_utc_text(record.heartbeat)
    return age.total_seconds() < STALE_HEARTBEAT_S


def list_runs(
    runs_dir: Path, *, limit: int | None = None, archived: bool = True
) -> list[RunRecord]:
    """The newest runs first; a folder whose record cannot be read is listed as `broken`.

    Without `archived`, archived runs are left out, also from the `limit`.
    """
    records: list[RunRecord] = []
    for record in _read_all(runs_dir) if limit is None else _read_newest(runs_dir):
        if limit is not None and len(records) >= limit:
            break
        if archived or record.archived_at is None:
            records.append(record)
    return records


def _read_newest(runs_dir: Path) -> Iterator[RunRecord]:
    for number in list_run_numbers(runs_dir):
        yield load_listed(runs_dir, number)


def _read_all(runs_dir: Path) -> Iterator[RunRecord]:
    with look_once(runs_dir) as index:
        if index is None:
            yield from _read_newest(runs_dir)
            return
        for number, record in index.read_records():
            yield record or load_listed(runs_dir, number)


def load_listed(runs_dir: Path, number: int) -> RunRecord:
    """A run as lists have it: `broken` where its record cannot be read."""
    name = f"exp{number}"
    try:
        return load_run(runs_dir, name)
    except StorageError as error:
        return _describe_broken(runs_dir / name, error)


@contextmanager
def look_once(runs_dir: Path) -> Iterator[RunIndex | None]:
    """Every reader of runs inside sees those of the same moment, and all files are looked at once.

    Yields the index of very many runs, None where there is none. A run that is written inside is
    not seen there. The index is a cache, see index.py.
    """
    with hold_look(runs_dir, lambda name: _read_settled(runs_dir, name)) as index:
        yield index


def _read_settled(runs_dir: Path, name: str) -> SettledRun | None:
    """A run for the index: only one whose record and config depend on nothing but its files."""
    from tracker.run_folder.index import SettledRun  # late: only very many runs have an index

    try:
        record = _read_record(runs_dir / name)
        if record.status == "running" or record.name != name:
            return None
        tables = _read_config(runs_dir, name)
    except (OSError, StorageError):
        return None
    except ConfigError:
        return SettledRun(record, None)
    # the names of members depend on the folders of these
    return None if list_member_names(tables) else SettledRun(record, tables)


def count_archived(runs_dir: Path) -> int:
    """How many runs are archived."""
    index = find_index(runs_dir)
    numbers = list_run_numbers(runs_dir) if index is None else index.list_archived()
    count = 0
    for number in numbers:
        # asked in one call: most of very many runs have no marks
        if os.access(f"{runs_dir}/exp{number}/{MARKS}", os.F_OK):
            count += is_archived(runs_dir / f"exp{number}")
    return count


def list_running(runs_dir: Path) -> list[RunRecord]:
    """The running runs that are not archived, newest first; no other run.json is parsed."""
    records: list[RunRecord] = []
    with look_once(runs_dir) as index:
        # a run that the index knows has ended
        numbers = list_run_numbers(runs_dir) if index is None else index.list_unknown()
    for number in numbers:
        name = f"exp{number}"
        with suppress(StorageError, UnknownRunError):
            if _may_be_running(f"{runs_dir}/{name}/run.json"):
                record = load_run(runs_dir, name)
                if record.status == "running" and record.archived_at is None:
                    records.append(record)
    return records


def _may_be_running(path: str) -> bool:
    """Whether a run.json has the word, or is not there yet."""
    try:
        with open(path, "rb") as file:  # noqa: PTH123 a third of the time, for very many runs
            return b"running" in file.read()
    except OSError:
        return True


def _describe_broken(folder: Path, error: StorageError) -> RunRecord:
    record = RunRecord(name=folder.name, uid="", status="broken", error=str(error))
    try:
        return replace(record, **read_marks(folder))
    except StorageError:
        return record


NEIGHBORS = 10  # runs before `latest` that may have ended after it


def find_latest(runs_dir: Path) -> str:
    """The finished run with predictions and the highest number that is not archived.

    By number, as the lists have them, not by the time it ended: a run in the background that ends
    late does not take its place. Raises UnknownRunError.
    """
    for number in list_run_numbers(runs_dir):
        name = f"exp{number}"
        if (runs_dir / name / "predictions.csv").is_file():
            record = load_run(runs_dir, name)
            if record.status == "finished" and record.archived_at is None:
                return name
    newest = _find_newest(runs_dir)
    raise UnknownRunError(
        "no finished run with predictions yet" + (f": {_describe_lack(newest)}" if newest else ""),
        hint=(f"tracker show {newest.name}; " if newest else "") + HOW_TO_MAKE_ONE,
    )


def describe_newer_than_latest(runs_dir: Path) -> str:
    """Why the newest run is not `latest`, or which runs ended after it, though they have lower
    numbers; empty where there is no such run, or where no run is `latest`.
    """
    newest = _find_newest(runs_dir)
    if newest is None:
        return ""
    try:
        latest = find_latest(runs_dir)
    except UnknownRunError:
        return ""  # the same facts are in the message of that error
    reasons = [_describe_lack(newest)] if latest != newest.name else []
    if later := _list_ended_after(runs_dir, latest):
        has = "has a lower number" if len(later) == 1 else "have lower numbers"
        reasons.append(f"{', '.join(later)} ended later, but {has}")
    return f"latest is {latest}: {'; '.join(reasons)}" if reasons else ""


def _list_ended_after(runs_dir: Path, latest: str) -> list[str]:
    """Finished runs with predictions whose number is lower than that of `latest`, but that ended
    later; only the nearest are looked at.
    """
    end = load_run(runs_dir, latest).finished_at or ""
    numbers = [n for n in list_run_numbers(runs_dir) if n < int(latest.removeprefix("exp"))]
    later = []
    for name in (f"exp{number}" for number in numbers[:NEIGHBORS]):
        if not (runs_dir / name / "predictions.csv").is_file():
            continue
        with suppress(StorageError, UnknownRunError):
            record = load_run(runs_dir, name)
            is_candidate = record.status == "finished" and record.archived_at is None
            if is_candidate and (record.finished_at or "") > end:
                later.append(name)
    return later


def _find_newest(runs_dir: Path) -> RunRecord | None:
    """The newest run that is not archived."""
    for number in list_run_numbers(runs_dir):
        with suppress(StorageError, UnknownRunError):
            record = load_run(runs_dir, f"exp{number}")
            if record.archived_at is None:
                return record
    return None


def _describe_lack(record: RunRecord) -> str:
    """Why a run is not `latest`: `exp7 was interrupted`."""
    if record.status == "finished":
        return f"{record.name} has no predictions"
    verbs = {"interrupted": "was ", "killed": "was ", "preempted": "was ", "failed": ""}
    return f"{record.name} {verbs.get(record.status, 'is ')}{record.status}"


def load_config(runs_dir: Path, name: str) -> dict[str, dict[str, Any]]:
    """The config of a run as nested tables; raises StorageError or ConfigError.

    The members of an ensemble have the names of runs here, see `tracker.run_folder.members`. Inside
    `look_once`, runs with the same config may get the same tables: nobody changes them.
    """
    if look := find_look(runs_dir, name):
        index, number = look
        if (known := index.load_tables(number)) is not None:
            return known
    return link_members(runs_dir, name, _read_config(runs_dir, name))


def _read_config(runs_dir: Path, name: str) -> dict[str, dict[str, Any]]:
    """config.toml as it is; raises as `load_config` does."""
    path = run_folder(runs_dir, name) / "config.toml"
    tables = read_toml(path)
    problems = list(_find_foreign(tables))
    if problems:
        raise ConfigError(
            f"{render_count(len(problems), 'problem')} in {path}:",
            problems=problems,
            hint="restore the file from a backup",
        )
    return tables


def load_compared_config(runs_dir: Path, record: RunRecord) -> dict[str, dict[str, Any]]:
    """The config of a run for comparisons: with bfloat16 where "auto" was found to mean that.

    Of two runs with "auto", one may have trained in it and the other in float32. Raises like
    `load_config`.
    """
    tables = load_config(runs_dir, record.name)
    train = tables.get("train", {})
    if train.get("precision") == "auto" and record.facts.get("auto_precision") == "bf16-mixed":
        return {**tables, "train": {**train, "precision": "bf16-mixed"}}
    return tables


def load_trained_config(runs_dir: Path, record: RunRecord) -> dict[str, dict[str, Any]]:
    """The config of a run of `tracker run`; raises ConfigError for a run of any other loop."""
    if record.uid and record.kind in ("train", "infer") and not record.fingerprints.get("data"):
        hint = (
            "train, predict and explain where it was trained; run.save_probabilities or"
            f" tracker adopt bring the result (tracker show {record.name} has its config)"
        )
        raise ConfigError(
            f"{record.name} was made by another program or by a loop of your own: its model and its"
            " data are unknown here",
            hint=hint,
        )
    return load_config(runs_dir, record.name)


def _find_foreign(tables: Mapping[str, Any]) -> Iterator[str]:
    """A problem for each value that no program writes into a config, such as a date."""
    expected = "expected a number, a text, true, false or a list"
    for section, table in tables.items():
        if not isinstance(table, Mapping):
            yield f"{section}: is a table, write [{section}]"
            continue
        if PLAIN.issuperset(map(type, table.values())):
            continue
        for key, value in table.items():
            items = value if isinstance(value, list) else [value]
            for item in items:
                if isinstance(item, dt.date | dt.time):
                    yield f"{section}.{key}: {expected}, not {item}"
