"""One training of a queue or a sweep: a process of its own that is found again after a crash."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tracker.core.errors import AlreadyTrainedError, TrackerError, UnknownRunError
from tracker.jobs.background import POLL_S, Child
from tracker.jobs.logs import stream_logs
from tracker.jobs.stop import stop_run
from tracker.ledger.resolve import resolve_run
from tracker.runs.output import OUTPUT_NAME
from tracker.runs.read import load_run
from tracker.runs.record import RunRecord
from tracker.training.config import Config, config_to_dict, render_assignment
from tracker.training.input.channels import resolve_input
from tracker.training.tables import flatten
from tracker.training.targets import check_config
from tracker.workflows.resolve import FLAGS, resolve_config
from tracker.workflows.reuse import find_reusable_run
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

KEYS: Mapping[str, type] = {"config": str, "from": str, "set": dict, "note": str, "force": bool}


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `tracker run train` is asked for."""

    config_file: Path | None = None
    parent: str = ""
    assignments: tuple[str, ...] = ()
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    def resolve(self, workspace: Workspace) -> Config:
        """The config that it will train; raises ConfigError with every problem, UnknownRunError,
        StorageError."""
        parent = resolve_run(workspace, self.parent) if self.parent else None
        return resolve_config(
            workspace, config_file=self.config_file, parent=parent, assignments=self.assignments
        )

    def to_arguments(self) -> list[str]:
        """The command line, without `tracker`."""
        words = ["run", "train", *([str(self.config_file)] if self.config_file else [])]
        words += ["--from", self.parent] if self.parent else []
        for assignment in self.assignments:
            words += ["--set", assignment]
        for name, value in self.facts.items():
            words += ["--fact", f"{name}={value}"]
        return [
            *words,
            *(["--note", self.note] if self.note else []),
            *(["--force"] if self.force else []),
        ]


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is saved to find a started training again: its process, and its run once it exists."""

    pid: int = 0
    started: str = ""
    run: str = ""


@dataclass(frozen=True)
class JobEnd:
    """How a training ended; `reason` says why it did not finish, or why it was skipped."""

    run: RunRecord | None
    status: str
    reason: str = ""


@dataclass(frozen=True)
class JobCallbacks:
    """What a queue or a sweep does at each step of a job.

    `save_job` writes the job to disk before it starts. `on_output` gets the run's name and its
    output, piece by piece.
    """

    save_job: Callable[[Job], None]
    on_output: Callable[[str, str], None]


def read_training(table: Mapping[str, Any], folder: Path) -> tuple[Training, list[str]]:
    """A training from the keys of `KEYS` and `FLAGS`, and what is wrong with them; files are
    relative to `folder`."""
    problems = [
        f"{key}: unknown key (known: {', '.join((*KEYS, *FLAGS))})"
        for key in table
        if key not in {*KEYS, *FLAGS}
    ]
    words = {str: "a text", bool: "true or false", dict: "a table, as in set = { optim.lr = 1e-3 }"}
    wrong = [key for key, kind in KEYS.items() if key in table and not _fits(table[key], kind)]
    problems += [f"{key}: expected {words[KEYS[key]]}, not {table[key]!r}" for key in wrong]
    known = {key: value for key, value in table.items() if key not in wrong}
    changes = known.get("set", {})
    problems += [
        f"set.{section}: expected section.key, as in set = {{ optim.lr = 1e-3 }}"
        for section, keys in changes.items()
        if not isinstance(keys, Mapping)
    ]
    nested = flatten(
        {section: keys for section, keys in changes.items() if isinstance(keys, Mapping)}
    )
    flags = {FLAGS[key]: value for key, value in known.items() if key in FLAGS}
    twice = [
        f"{key}: stands in set, too, as {name}"
        for key, name in FLAGS.items()
        if key in known and name in nested
    ]
    problems += twice
    values = flags | nested
    assignments = []
    for name, value in values.items():
        try:
            assignments.append(render_assignment(name, value))
        except TypeError:  # a date, of which TOML has four kinds and a config none
            problems.append(
                f"{name}: expected a number, a text, true, false or a list, not {value}"
            )
    training = Training(
        config_file=(
            (folder / Path(known["config"]).expanduser()).resolve() if "config" in known else None
        ),
        parent=known.get("from", ""),
        assignments=tuple(assignments),
        note=known.get("note", ""),
        force=known.get("force", False),
    )
    return training, problems


def _fits(value: Any, kind: type) -> bool:
    """Whether a value is of this kind; a text with a NUL can be neither a path nor a word of a
    command line."""
    return type(value) is kind and not (isinstance(value, str) and "\0" in value)


def find_equal_run(workspace: Workspace, config: Config) -> RunRecord | None:
    """The finished run with this config, data and code; raises DataError for bad images."""
    task, data = prepare_data(workspace, config)
    check_config(config, task)
    tables = config_to_dict(resolve_input(config, data, root=workspace.root))
    try:
        find_reusable_run(workspace, tables, data.fingerprint)
    except AlreadyTrainedError as error:
        return load_run(workspace.runs_dir, error.run)
    return None


def run_training(
    workspace: Workspace, training: Training, job: Job, callbacks: JobCallbacks
) -> JobEnd:
    """Train to the end.

    When `job` says that the training has started before, wait for it, or resume it if it has died.
    KeyboardInterrupt ends the run, so that it can be resumed, and is raised again.
    """
    # Wait for a process of an earlier call.
    before = find_run(workspace, job.run)
    if job.pid:
        child = Child(workspace, job.pid, job.started)
        before = _watch(workspace, child, job, callbacks) or before
        child.take_output()
    if before and (before.status == "finished" or before.facts.get("pruned")):
        return _end_of(before)
    # Start a new process, or one that resumes the run.
    name = before.name if before else ""
    resume = ["run", "train", "--from", name, "--resume"]
    arguments = resume if before else training.to_arguments()
    shown = _size(workspace.runs_dir / name / OUTPUT_NAME) if before else 0

    def to_job(child: Child) -> Job:
        return Job(pid=child.pid, started=child.started, run=name)

    child = Child.start(
        workspace,
        arguments,
        cwd=workspace.root,
        before_start=lambda child: callbacks.save_job(to_job(child)),
    )
    record = _watch(workspace, child, to_job(child), callbacks, shown=shown)
    if record is None:
        reason = find_reason(child.take_output()) or f"it ended with code {child.exit_code}"
        return JobEnd(before, "failed", reason)
    return _end_of(record)


def _watch(
    workspace: Workspace, child: Child, job: Job, callbacks: JobCallbacks, *, shown: int = 0
) -> RunRecord | None:
    """Wait for the end of a process; returns the run that it made, if any.

    Its output from byte `shown` on is passed to `on_output`.
    """
    name = job.run
    try:
        alive = child.is_alive()
        if run := child.wait_for_run():
            name = run.name
            callbacks.save_job(replace(job, run=name))
        if run and alive:
            for text in stream_logs(workspace, name, follow=True, offset=shown):
                callbacks.on_output(name, text)
        while child.is_alive():
            time.sleep(POLL_S)
    except KeyboardInterrupt:
        _stop(workspace, child, name)
        raise
    return load_run(workspace.runs_dir, name) if run else None


def _stop(workspace: Workspace, child: Child, name: str) -> None:
    """End a process like Ctrl-C in it does, and wait until it is gone."""
    try:
        stop_run(workspace, name, reason="the command that started it was interrupted")
    except TrackerError:  # the run has ended by itself, or there is none yet
        child.terminate()
    while child.is_alive():
        time.sleep(POLL_S)


def _end_of(record: RunRecord) -> JobEnd:
    reasons = {"finished": "", "killed": "its process was killed"}
    return JobEnd(record, record.status, one_line(reasons.get(record.status, record.error)))


def find_run(workspace: Workspace, name: str) -> RunRecord | None:
    """A run's record; None for no name, or when its folder has been deleted."""
    try:
        return load_run(workspace.runs_dir, name) if name else None
    except UnknownRunError:
        return None


def find_reason(output: str) -> str:
    """The error that ended a command, from all its output."""
    return one_line(output.rpartition("error: ")[2])


def describe_problem(error: TrackerError) -> str:
    """An error in one line; the problems of a config without their heading."""
    return "; ".join(getattr(error, "problems", ())) or one_line(str(error))


def one_line(text: str) -> str:
    """A text of several lines as one."""
    return "; ".join(line.strip() for line in text.splitlines() if line.strip()).replace(
        ":; ", ": "
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def log(line: str) -> None:
    """A line of progress, on stderr."""
    from tracker.core.text import clean_text

    print(clean_text(line), file=sys.stderr, flush=True)
