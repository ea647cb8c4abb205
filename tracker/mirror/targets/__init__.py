"""Where runs are copied to: a module for each tracker, and a line for it in TARGETS. mlflow is
imported here alone.

`tracker/mirror/copy.py` replays a run folder to each of them; it keeps what each has in a state
file of its own. After
a crash it repeats the step whose end it did not note, so a target takes the same step twice without
doubling it.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import import_module
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from tracker.ledger.read import list_notes, list_submissions_of
from tracker.ledger.records import Note, Submission
from tracker.runs.record import RunRecord
from tracker.training.errors import TrackerError
from tracker.training.files import write_json
from tracker.workspace.competition import Workspace

TARGETS = {  # module:class of each, loaded when a run is copied
    "tensorboard": "tracker.mirror.targets.tensorboard:TensorboardTarget",
    "mlflow": "tracker.mirror.targets.mlflow:MlflowTarget",
}
ANSWER_S = 10.0  # in which a server must answer the first question
MESSAGE_LIMIT = 200  # lines that a copy writes in its log, in the life of a run


class TargetError(TrackerError):
    """A target could not be reached or refused something; what was not copied is copied later."""


class TargetUnreachableError(TargetError):
    """The target's server does not answer at all."""


class Point(NamedTuple):
    """A line of metrics.jsonl: the byte where it ends, time in ms since 1970, step, values by name."""

    at: int
    time_ms: int
    step: int
    values: dict[str, float]


@dataclass(frozen=True)
class RunInfo:
    """What is known of a run beside its points and files, and changes after its end too."""

    workspace: Workspace
    record: RunRecord

    @cached_property
    def submissions(self) -> Sequence[Submission]:
        """The run's rows of the ledger; raises LedgerError, which keeps no point or file from its
        copy."""
        return list_submissions_of(self.workspace, self.record)

    @cached_property
    def notes(self) -> Sequence[Note]:
        """The notes on the run and on its submissions; raises LedgerError."""
        return list_notes(self.workspace, [self.record.uid]).get(self.record.uid, [])

    @property
    def text(self) -> str:
        """The run's note, the memos of its submissions and the notes on it, as Markdown."""
        return describe_text(self.record, self.submissions, self.notes)


def describe_text(
    record: RunRecord, submissions: Iterable[Submission], notes: Iterable[Note]
) -> str:
    """A run's note, the memos of its submissions and the notes on it, as Markdown."""
    parts = [record.note] if record.note else []
    parts += [f"**Submission {row.number}**: {row.memo}" for row in submissions]
    parts += [f"**{note.time[:10]}, {note.author}**: {note}" for note in notes]
    return "\n\n".join(parts)


class State:
    """How far a copy has come: a JSON object in the run folder. `fixed` is written with it each
    time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.values: dict[str, Any] = {}
        self.fixed: dict[str, Any] = {}

    def load(self) -> None:
        """Read the file; one that is missing or damaged is an empty state."""
        self.values = read_state(self._path)

    def get(self, name: str, default: Any = None) -> Any:
        """A value, `default` when there is none."""
        return self.values.get(name, default)

    def save(self, **changes: Any) -> None:
        """Change values and write the file."""
        self.values = {**self.values, **changes, **self.fixed}
        write_json(self._path, self.values)

    def forget(self, *, keep: Iterable[str] = ()) -> None:
        """Begin anew, in memory: nothing was copied."""
        self.values = {name: value for name, value in self.values.items() if name in keep}


def read_state(path: Path) -> dict[str, Any]:
    """A state file, empty when it is missing or damaged."""
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}


class Target:
    """One run's copy in one tracker. A new tracker overrides what it can show; the rest does
    nothing."""

    title: ClassVar[str]  # in messages: "MLflow is behind"
    state_name: ClassVar[str]  # of its state file in the run folder, no other target's
    remote: ClassVar[bool] = True  # whether a run waits at its end until the copy is whole
    library: ClassVar[str] = ""  # without which nothing can be copied, as it is imported
    batch = 1000  # values that `points` is given at once, about

    def __init__(self, workspace: Workspace, folder: Path, connection: Any) -> None:
        self.workspace = workspace
        self.folder = folder
        self.connection = connection
        self.state = State(folder / self.state_name)

    # --- the connection, one for many runs ---

    @classmethod
    def check_reachable(cls, workspace: Workspace) -> None:
        """A quick look whether it answers, before `connect` loads a library; raises
        TargetUnreachableError."""

    @classmethod
    def connect(cls, workspace: Workspace) -> Any:
        """What all runs of a workspace share, such as a client; raises TargetError or
        MissingLibraryError."""
        return None

    @classmethod
    def find_outage(cls, workspace: Workspace) -> str:
        """Why it did not answer another run of the workspace; empty when it did."""
        return ""

    @classmethod
    def note_no_answer(cls, workspace: Workspace) -> None:
        """Tell other runs of the workspace that it has not answered yet."""

    # --- the copy; each may be repeated ---

    def load_state(self) -> None:
        """Read the state before a push, without what does not hold for this place."""
        self.state.load()

    def start(self, record: RunRecord) -> bool:
        """Find or make the run's place, at each push; False when nothing is to be copied.

        Whoever makes a new one calls `self.state.forget()`: everything is then copied anew.
        """
        return True

    def params(self, values: Mapping[str, Any]) -> None:
        """The whole config by `section.key`, when config.toml has changed."""

    def points(self, batch: Sequence[Point]) -> None:
        """New points, each (name, step) once; a batch is repeated when the process died in it."""

    def artifact(self, path: Path, name: str) -> None:
        """A file of the ended run that is new or has changed; `name` is its path in the run folder."""

    def find_incomplete(self, sizes: Mapping[str, int]) -> list[str]:
        """Names of the artifacts that did not arrive with these sizes in bytes; they are copied
        again."""
        return []

    def note(self, text: str) -> None:
        """The run's note, memos and notes, Markdown, whenever they have changed."""

    def end(self, status: str) -> None:
        """How the run ended: finished, failed, interrupted or killed; again when it was resumed."""

    def summarize(self, info: RunInfo) -> list[Any]:
        """What `describe` sends, as JSON holds it; it is called when this has changed."""
        return [info.text, info.record.status]

    def describe(self, info: RunInfo, summary: list[Any]) -> None:
        """Send it by `note` and `end`; a tracker that takes more of it at once overrides both
        methods."""
        text, status = summary
        text_before, status_before = self.state.get("described") or ["", ""]
        if text != text_before:
            self.note(text)
        if status not in ("running", status_before):
            self.end(status)

    def is_settled(self, record: RunRecord) -> bool:
        """A last look after a description was sent: False when everything has to be copied to
        another place."""
        return True

    def archive(self, record: RunRecord) -> None:
        """Put the whole copy of an archived run out of sight."""

    def fail(self) -> None:
        """A step has failed: what is known of the place may not hold."""

    def translate(self, error: BaseException) -> TrackerError | None:
        """A library's error in our words; None for what is a defect of this program."""
        return TargetError(f"{self.title}: {error}") if isinstance(error, OSError) else None

    def log_once(self, text: str) -> None:
        """A line in the log of the copy, once in the life of a run."""
        known = self.state.get("told", [])
        if text not in known and len(known) < MESSAGE_LIMIT:
            print(f"{self.folder.name}: {text}", file=sys.stderr, flush=True)
            self.state.save(told=[*known, text])


def list_targets() -> list[type[Target]]:
    """The class of each tracker that runs are copied to."""
    return [_load(place) for place in TARGETS.values()]


def list_state_names() -> list[str]:
    """The state files that copies leave in a run folder."""
    return [target.state_name for target in list_targets()]


def name_remote() -> str:
    """Whom a run waits for at its end: `MLflow is`, of several `MLflow and X are`."""
    titles = [target.title for target in list_targets() if target.remote]
    return f"{' and '.join(titles)} {'is' if len(titles) == 1 else 'are'}"


def _load(place: str) -> type[Target]:
    module, _, name = place.partition(":")
    target: type[Target] = getattr(import_module(module), name)
    return target
