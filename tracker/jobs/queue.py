"""A file of trainings that run one after another: `[[run]]` tables with options of `run train`.

`.tracker/queues/NAME/state.json` has the state of each, by a hash of its table and its config file:
entries may be added, edited and moved at any time. The state is on disk before a training starts,
so a queue that was killed can continue.
"""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tracker.core.errors import InterruptedByUserError, RefusedError, TrackerError, UnknownRunError
from tracker.core.locks import FileLock
from tracker.core.signals import terminate_as_interrupt
from tracker.jobs.background import POLL_S, Child
from tracker.jobs.job import (
    Job,
    JobCallbacks,
    JobEnd,
    Training,
    describe_problem,
    find_equal_run,
    find_run,
    log,
    read_training,
    run_training,
)
from tracker.run_folder.output import outlive_terminal
from tracker.training.errors import ConfigError, StorageError
from tracker.training.files import check_regular, remove_leftovers, write_json
from tracker.training.libraries import TRAINING, require
from tracker.training.reading import REQUIRED, Key, parse_tables, read_keys, refuse
from tracker.training.tables import parse_json, read_given_toml
from tracker.workspace.tracker_toml import Workspace


def parse_runs(raw: Any) -> list[Mapping[str, Any]]:
    """The tables of a queue, one or more; raises ValueError."""
    tables = parse_tables(raw)
    if not tables:
        raise ValueError("tables")
    return tables


RUNS = Key("run", list, "The trainings.", REQUIRED, parse=parse_runs, expected="[[run]] tables")


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A `[[run]]` table; `key` is its content, `problems` what is wrong with it."""

    number: int
    key: str
    training: Training
    problems: tuple[str, ...] = ()

    @property
    def label(self) -> str:
        """Its name in the table of results: its note, or what it changes."""
        recipe = [f"recipe {self.training.recipe}"] if self.training.recipe else []
        changes = [*recipe, *self.training.assignments]
        return self.training.note or ", ".join(changes) or "as it is"


@dataclass(frozen=True, kw_only=True)
class QueueResult:
    """The result of an entry; `reason` is empty when its own run finished."""

    entry: int
    label: str
    run: str | None
    status: str
    val_f1: float | None
    metrics: Mapping[str, float | None]
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)


def read_queue(file: Path, workspace: Workspace | None = None) -> list[Entry]:
    """The entries of a queue file; raises ConfigError or StorageError when it is none.

    With a workspace, a file that is refused is told what is wrong with the configs of its entries,
    too.
    """
    problems: list[str] = []
    tables = read_keys({"run": RUNS}, read_given_toml(file), problems)
    entries, seen = [], Counter[str]()
    for number, table in enumerate(tables.get("run", ()), start=1):
        wrong: list[str] = []
        training = read_training(table, file.resolve().parent, wrong)
        key = hash_table(table, training.config_file)
        seen[key] += 1
        entries.append(
            Entry(number=number, key=f"{key}-{seen[key]}", training=training, problems=tuple(wrong))
        )
    # Wrong entries alone are no reason to refuse a file: the others are trained.
    if problems:
        for entry in entries:
            problems += [f"run[{entry.number}].{problem}" for problem in entry.problems]
            if workspace and not entry.problems:
                problems += _find_config_problems(workspace, entry)
    refuse(problems, file, hint='see "A queue of runs" in docs/training.md')
    return entries


def _find_config_problems(workspace: Workspace, entry: Entry) -> list[str]:
    """What is wrong with the config of an entry, as far as that can be known before it is trained.

    An entry before it may make the run that it starts from.
    """
    from tracker.training.model.hub import find_source

    try:
        config = entry.training.resolve(workspace)
        find_source(config.model.name, workspace.root)
    except UnknownRunError:
        return []
    except TrackerError as error:
        problems = getattr(error, "problems", ()) or [describe_problem(error)]
        return [f"run[{entry.number}]: {problem}" for problem in problems]
    return []


def hash_table(table: Mapping[str, Any], config_file: Path | None) -> str:
    """A short hash of what a table of a file says, and of the config file that it names."""
    try:
        if config_file:
            check_regular(config_file)
        config = config_file.read_text(encoding="utf-8") if config_file else ""
    except (OSError, UnicodeDecodeError):
        config = ""
    canonical = json.dumps([table, config], sort_keys=True, default=str)
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def find_folder(workspace: Workspace, file: Path, kind: str) -> Path:
    """The folder with the state of a queue or sweep file; `kind` is queues or sweeps."""
    # Two files with the same name in different folders are different queues.
    path_hash = hashlib.sha256(workspace.relative(file).encode()).hexdigest()[:8]
    return workspace.state_dir / kind / f"{file.stem}-{path_hash}"


def find_output(folder: Path, pid: int, *, alone: bool) -> Path:
    """The folder for the output of a detached command."""
    return folder if alone else folder / f"join-{pid}"


@contextmanager
def claim_folder(
    workspace: Workspace, file: Path, kind: str, *, alone: bool = True
) -> Iterator[Path]:
    """The folder of a file, claimed while this process works on it, `alone` or not.

    Raises RefusedError when another process works on it.
    """
    folder = find_folder(workspace, file, kind)
    lock = FileLock(folder / "lock")
    if alone and not lock.acquire(wait=False):
        hint = "wait for it, or kill it"
        if kind == "sweeps":
            hint += ", or join it with --join"
        holder = lock.find_holder()
        raise RefusedError(f"process {holder} is already working on {file}", hint=hint)
    remove_leftovers(folder)
    try:
        with outlive_terminal(workspace) as output:
            output.attach_folder(
                find_output(folder, os.getpid(), alone=alone),
                f"kill {os.getpid()} ends this command",
            )
            yield folder
    finally:
        lock.release()


def run_queue(workspace: Workspace, file: Path) -> list[QueueResult]:
    """Train every entry that has not finished yet; after a failed one the others are still trained.

    The file is read again after each entry. Raises ConfigError for a wrong file, RefusedError when
    another process works on it, and InterruptedByUserError.
    """
    require(*TRAINING)
    entries = read_queue(file, workspace)
    with claim_folder(workspace, file, "queues") as folder, terminate_as_interrupt():
        queue = _Queue(workspace, file, folder / "state.json")
        for entry in entries:
            queue.warn(entry)
        queue.wait_for_others({entry.key for entry in entries})
        results: dict[str, QueueResult] = {}
        while left := [entry for entry in entries if entry.key not in results]:
            results[left[0].key] = queue.work(left[0], len(entries))
            entries = _read_again(file, entries)
    return sorted(results.values(), key=lambda result: result.entry)


def _read_again(file: Path, entries: list[Entry]) -> list[Entry]:
    try:
        return read_queue(file)
    except (ConfigError, StorageError) as error:
        log(f"{describe_problem(error)}; the queue continues with the entries read before")
        return entries


class _Queue:
    """The states of the entries on disk, and the training of one entry."""

    def __init__(self, workspace: Workspace, file: Path, path: Path) -> None:
        self._workspace = workspace
        self._file = file
        self._path = path
        self._states: dict[str, dict[str, Any]] = {}
        try:
            self._states = parse_json(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            pass
        except (OSError, ValueError) as error:
            raise StorageError(
                f"cannot read {path}: {error}", hint="delete it to start the queue again"
            ) from error

    def warn(self, entry: Entry) -> None:
        """Warn at the beginning that an entry will fail, as far as that can be known.

        When it is trained, `latest` and `sota` may mean other runs.
        """
        try:
            if entry.problems or entry.training.parent not in ("latest", "sota"):
                self._check(entry)
        except UnknownRunError:
            pass  # an entry before it may make that run
        except TrackerError as error:
            log(f"entry {entry.number} will fail: {describe_problem(error)}")

    def wait_for_others(self, keys: Collection[str]) -> None:
        """Wait for trainings of an earlier call whose entry is no longer in the file.

        Only one training runs at a time.
        """
        for key, state in self._states.items():
            child = Child(self._workspace, state.get("pid", 0), state.get("started", ""))
            if key in keys or state["status"] != "running" or not child.is_alive():
                continue
            name = state["run"] or f"process {child.pid}"
            log(
                f"waiting for {name}: its entry ({state['entry']}) was changed or removed; tracker"
                " stop ends it"
            )
            while child.is_alive():
                time.sleep(POLL_S)

    def work(self, entry: Entry, total: int) -> QueueResult:
        """Train an entry, unless it has finished; raises InterruptedByUserError."""
        state = self._states.get(entry.key, {})
        if state.get("status") != "finished":
            log(f"entry {entry.number} of {total}: {entry.label}")
            # Train, whatever comes of it.
            try:
                end = self._train(entry, state)
            except KeyboardInterrupt:
                hint = f"tracker run queue {shlex.quote(str(self._file))}"
                raise InterruptedByUserError(
                    f"interrupted in entry {entry.number}", hint=hint
                ) from None
            except TrackerError as error:
                run = find_run(self._workspace, self._states.get(entry.key, {}).get("run", ""))
                end = JobEnd(run, "failed", describe_problem(error))
            # Save the end before saying it.
            state = {
                "status": end.status,
                "run": end.run.name if end.run else "",
                "reason": end.reason,
            }
            self._keep(entry, **state)
            reason = f": {end.reason}" if end.reason else ""
            log(f"entry {entry.number} {end.status}{reason}")
        record = find_run(self._workspace, state["run"])
        return QueueResult(
            entry=entry.number,
            label=entry.label,
            run=state["run"] or None,
            status=state["status"],
            val_f1=record.summary.get("val/f1") if record else None,
            metrics=dict(record.summary) if record else {},
            reason=state["reason"],
        )

    def _train(self, entry: Entry, state: Mapping[str, Any]) -> JobEnd:
        job = Job(**{key: state[key] for key in ("pid", "started", "run") if key in state})
        # A training that has started is not checked again: it is waited for or resumed.
        if not job.pid:
            config = self._check(entry)
            if not entry.training.force and (same := find_equal_run(self._workspace, config)):
                return JobEnd(same, "finished", f"{same.name} has the same config, data and code")
        callbacks = JobCallbacks(
            save_job=lambda job: self._keep(entry, status="running", **asdict(job)),
            on_output=lambda _, text: log(text.removesuffix("\n")),
        )
        return run_training(self._workspace, entry.training, job, callbacks)

    def _check(self, entry: Entry) -> Any:
        if entry.problems:
            raise ConfigError("; ".join(entry.problems))
        return entry.training.resolve(self._workspace)

    def _keep(self, entry: Entry, **changes: Any) -> None:
        self._states[entry.key] = {
            **self._states.get(entry.key, {}),
            "entry": entry.label,
            **changes,
        }
        write_json(self._path, self._states)
