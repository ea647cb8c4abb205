"""One training of a queue or a sweep: a process of its own that is found again after a crash."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tracker.core.errors import AlreadyTrainedError, TrackerError, UnknownRunError
from tracker.core.signals import Preempted
from tracker.jobs.background import POLL_S, Child
from tracker.jobs.logs import stream_logs
from tracker.jobs.stop import stop_run
from tracker.ledger.resolve import resolve_run
from tracker.run_folder.output import OUTPUT_NAME
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord
from tracker.training.config import SECTIONS, Config, config_to_dict, list_options
from tracker.training.config_reading import read_sections, render_assignment
from tracker.training.input.channels import resolve_input
from tracker.training.key_names import COMMON_NAMES
from tracker.training.reading import Key, list_keys, read_keys
from tracker.training.recipes import RECIPES
from tracker.training.tables import flatten
from tracker.training.targets import check_config
from tracker.workflows.resolve import FLAGS, resolve_config
from tracker.workflows.reuse import find_reusable_run
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

# What a queue's [[run]] or a sweep's [base] may say, beside the flags of `tracker run train`.
KEYS = (
    Key("config", str, "A config file; relative to the file that names it."),
    Key("from", str, "The parent, as for --from."),
    Key("recipe", str, "A recipe, as for --recipe.", choices=tuple(RECIPES)),
    Key("set", dict, "Config keys.", expected="a table, as in set = { optim.lr = 1e-3 }"),
    Key("note", str, "What is tried."),
    Key("force", bool, "Train although a run has the same config, data and code."),
)


@dataclass(frozen=True, kw_only=True)
class Training:
    """What `tracker run train` is asked for."""

    config_file: Path | None = None
    parent: str = ""
    recipe: str = ""
    assignments: tuple[str, ...] = ()
    note: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    force: bool = False

    def resolve(self, workspace: Workspace) -> Config:
        """The config that it will train; raises ConfigError with every problem, UnknownRunError,
        StorageError."""
        parent = resolve_run(workspace, self.parent) if self.parent else None
        return resolve_config(
            workspace,
            config_file=self.config_file,
            parent=parent,
            assignments=self.assignments,
            recipe=self.recipe,
        )

    def to_arguments(self) -> list[str]:
        """The command line, without `tracker`."""
        words = ["run", "train", *([str(self.config_file)] if self.config_file else [])]
        words += ["--from", self.parent] if self.parent else []
        words += ["--recipe", self.recipe] if self.recipe else []
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


def list_training_keys() -> dict[str, Key]:
    """The keys of a training by name; a flag is the config key that it stands for."""
    keys = {known.name: known for known in KEYS}
    for word, name in FLAGS.items():
        section, _, option = name.partition(".")
        keys[word] = list_keys(SECTIONS[section])[option]
    return keys


def read_training(table: Mapping[str, Any], folder: Path, problems: list[str]) -> Training:
    """A training from its table; each wrong value is a line in `problems` and left out.

    Files are relative to `folder`.
    """
    # Other keys of a config are written within set, by whatever name.
    flags = {name: word for word, name in FLAGS.items()}
    values = read_keys(
        list_training_keys(),
        table,
        problems,
        elsewhere=[f"set.{name}" for name in list_options()],
        aliases={word: flags.get(name, f"set.{name}") for word, name in COMMON_NAMES.items()},
    )
    wrong: list[str] = []
    changes = flatten(read_sections(values.get("set", {}), wrong))
    problems += [f"set.{problem}" for problem in wrong]
    short = {FLAGS[word]: value for word, value in values.items() if word in FLAGS}
    problems += [f"{flags[name]}: is in set, too, as {name}" for name in short if name in changes]
    config = values.get("config")
    return Training(
        config_file=None if config is None else (folder / Path(config).expanduser()).resolve(),
        parent=values.get("from", ""),
        recipe=values.get("recipe", ""),
        assignments=tuple(
            render_assignment(name, value) for name, value in (short | changes).items()
        ),
        note=values.get("note", ""),
        force=values.get("force", False),
    )


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
    except Preempted as error:
        stop_training(workspace, child, name, str(error), saves=True)
        raise
    except KeyboardInterrupt:
        stop_training(workspace, child, name, "the command that started it was interrupted")
        raise
    return load_run(workspace.runs_dir, name) if run else None


def stop_training(
    workspace: Workspace, child: Child, name: str, reason: str, *, saves: bool = False
) -> None:
    """End a process like Ctrl-C in it does, and wait until it is gone; with `saves` it first saves
    last.pth within its epoch."""
    try:
        stop_run(workspace, name, reason=reason, saves=saves)
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
