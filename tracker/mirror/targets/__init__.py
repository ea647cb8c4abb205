"""Trackers that runs are copied to: a module for each, with a line in TARGETS below.

No other room imports mlflow. `tracker/mirror/copy.py` copies a run folder to each of them and keeps
a state file for each. After a crash it repeats the last step, so a target must accept the same step
twice without doubling it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tracker.core.errors import TrackerError
from tracker.ledger.heads import read_submission_heads
from tracker.ledger.read import list_notes, list_submissions_of
from tracker.ledger.records import Note, Submission
from tracker.run_folder.record import OPEN, RunRecord
from tracker.training.files import write_json
from tracker.workspace.tracker_toml import Workspace

TARGETS = {  # module:class, loaded when a run is copied
    "tensorboard": "tracker.mirror.targets.tensorboard:TensorboardTarget",
    "mlflow": "tracker.mirror.targets.mlflow:MlflowTarget",
}
ANSWER_S = 10.0  # a server must answer the first request within this time
MESSAGE_LIMIT = 200  # lines in the log of a copy: a run with many odd names must not fill the disk


class TargetError(TrackerError):
    """A target could not be reached or refused something; what was not copied is copied later."""


class TargetUnreachableError(TargetError):
    """The target's server does not answer at all."""


class Point(NamedTuple):
    """A line of metrics.jsonl: byte offset of its end, ms since 1970, step, {metric: value}."""

    offset: int
    time_ms: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class RunInfo:
    """What is known about a run beside its points and files; it may change after the end."""

    workspace: Workspace
    record: RunRecord

    @cached_property
    def submissions(self) -> Sequence[Submission]:
        """The run's rows of the ledger; raises LedgerError, after points and files were copied."""
        return list_submissions_of(self.workspace, self.record)

    @cached_property
    def notes(self) -> Sequence[Note]:
        """The notes on the run and on its submissions; raises LedgerError."""
        return list_notes(self.workspace, [self.record.uid]).get(self.record.uid, [])

    @cached_property
    def head_keys(self) -> Sequence[str]:
        """For each of the run's submissions the newest row of the ledger about it, as a head.

        Raises LedgerError.
        """
        numbers = [row.number for row in self.submissions]
        return [head.key for head in read_submission_heads(self.workspace, numbers)]

    @property
    def text(self) -> str:
        """The run's note, the memos of its submissions and the notes on it, as Markdown."""
        return describe_text(self.record, self.submissions, self.notes)


def describe_text(
    record: RunRecord, submissions: Iterable[Submission], notes: Iterable[Note]
) -> str:
    """A run's note, the memos of its submissions and the notes on it, as plain text."""
    parts = [record.note] if record.note else []
    parts += [f"Submission {row.number}: {row.memo}" for row in submissions]
    parts += [f"{note.time[:10]}, {note.author}: {note}" for note in notes]
    return "\n\n".join(parts)


class State:
    """What was copied so far: a JSON object in the run folder. `fixed` is added at each save."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        self.fixed: dict[str, Any] = {}

    def load(self) -> None:
        """Read the file; a missing or damaged one is an empty state."""
        self.values = read_state(self._path)

    def get(self, name: str, default: Any = None) -> Any:
        """A value, `default` if there is none."""
        return self.values.get(name, default)

    def save(self, **changes: Any) -> None:
        """Change values and write the file."""
        self.values = {**self.values, **changes, **self.fixed}
        write_json(self._path, self.values)

    def forget(self, *, keep: Iterable[str] = ()) -> None:
        """Start again, in memory only: nothing was copied."""
        self.values = {name: value for name, value in self.values.items() if name in keep}


def read_state(path: Path) -> dict[str, Any]:
    """The content of a state file, empty when it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


class Target:
    """One run's copy in one tracker. A new tracker overrides what it supports."""

    title: ClassVar[str]  # in messages: "MLflow is behind"
    state_name: ClassVar[str]  # its state file in the run folder, different for each target
    remote: ClassVar[bool] = True  # whether a run waits at its end until the copy is complete
    library: ClassVar[str] = ""  # the import name of the library that it needs
    batch = 1000  # about so many values are passed to `points` at once

    def __init__(self, workspace: Workspace, folder: Path, connection: Any) -> None:
        self.workspace = workspace
        self.folder = folder
        self.connection = connection
        self.state = State(folder / self.state_name)

    # --- the connection, one for many runs ---

    @classmethod
    def check_reachable(cls, workspace: Workspace) -> None:
        """Ask quickly whether it answers, before `connect` loads a library.

        Raises TargetUnreachableError.
        """

    @classmethod
    def check_login(cls, workspace: Workspace) -> None:
        """Ask whether it takes this user; raises TargetError."""

    @classmethod
    def connect(cls, workspace: Workspace) -> Any:
        """What the runs of a workspace share, such as a client.

        Raises TargetError or MissingLibraryError.
        """
        return None

    @classmethod
    def find_outage(cls, workspace: Workspace) -> str:
        """Why it did not answer another run of the workspace; empty if it did."""
        return ""

    @classmethod
    def note_no_answer(cls, workspace: Workspace) -> None:
        """Tell other runs of the workspace that it has not answered yet."""

    # --- the copy; each may be repeated ---

    def load_state(self) -> None:
        """Read the state before a push, without what is about another place."""
        self.state.load()

    def start(self, record: RunRecord) -> bool:
        """Find or create the run's place, at each push; False when nothing should be copied.

        After creating a new one, call `self.state.forget()`: everything is copied again.
        """
        return True

    def params(self, values: Mapping[str, Any]) -> None:
        """The whole config by `section.key`, when config.toml has changed."""

    def points(self, batch: Sequence[Point]) -> None:
        """New points, each (name, step) once; after a crash the last batch is repeated."""

    def artifact(self, path: Path, name: str) -> None:
        """A file of an ended run that is new or has changed; `name` is its path in the folder."""

    def find_incomplete(self, sizes: Mapping[str, int]) -> list[str]:
        """The artifacts that do not have these sizes in bytes; they are copied again."""
        return []

    def find_changed(self, hashes: Mapping[str, str], *, skip: Collection[str] = ()) -> list[str]:
        """The artifacts that are missing or whose content has another SHA-256, except `skip`."""
        return []

    def note(self, text: str) -> None:
        """The run's note, memos and notes, Markdown, whenever they have changed."""

    def end(self, status: str) -> None:
        """The end of the run: finished, failed, interrupted or killed; again after a resume."""

    def summarize(self, info: RunInfo) -> list[Any]:
        """What `describe` sends, as JSON values; `describe` is called when they have changed."""
        return [info.text, info.record.status]

    def describe(self, info: RunInfo, summary: list[Any]) -> None:
        """Send the summary by `note` and `end`.

        A tracker that takes more at once overrides this and `summarize`.
        """
        text, status = summary
        text_before, status_before = self.state.get("described") or ["", ""]
        if text != text_before:
            self.note(text)
        if status not in (*OPEN, status_before):
            self.end(status)

    def is_settled(self, record: RunRecord) -> bool:
        """Check after a description was sent; False when all must be copied to another place."""
        return True

    def archive(self, record: RunRecord) -> None:
        """Hide the complete copy of an archived run."""

    def fail(self) -> None:
        """A step has failed: what is known about the place may be wrong."""

    def translate(self, error: BaseException) -> TrackerError | None:
        """A library's error as a TargetError; None for a bug of this program."""
        return TargetError(f"{self.title}: {error}") if isinstance(error, OSError) else None

    def log_once(self, text: str) -> None:
        """Write a line to the log of the copy, once for each run."""
        # "told" is the key in the state files of earlier versions.
        known = self.state.get("told", [])
        if text not in known and len(known) < MESSAGE_LIMIT:
            print(f"{self.folder.name}: {text}", file=sys.stderr, flush=True)
            self.state.save(told=[*known, text])


def list_targets() -> list[type[Target]]:
    """The classes of the trackers that runs are copied to."""
    return [_load(path) for path in TARGETS.values()]


def name_remote() -> str:
    """The remote trackers as a subject: `MLflow is`, or `MLflow and X are`."""
    titles = [target.title for target in list_targets() if target.remote]
    verb = "is" if len(titles) == 1 else "are"
    return f"{' and '.join(titles)} {verb}"


def _load(path: str) -> type[Target]:
    module, _, name = path.partition(":")
    target: type[Target] = getattr(import_module(module), name)
    return target
