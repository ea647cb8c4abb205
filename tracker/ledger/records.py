"""The ledger's rows as objects: a submission with its scores and notes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any, NamedTuple

from tracker.training.machine import host_name

# `Submission.is_rejected` in SQL, for a submission `s`.
REJECTED = (
    "EXISTS (SELECT 1 FROM notes n WHERE n.submission = s.number AND n.kind = 'rejected') AND NOT"
    " EXISTS (SELECT 1 FROM scores c WHERE c.submission = s.number)"
)


class LedgerRow(NamedTuple):
    """A run, a score or a note as it is in its table; `seq` is its place in the old ledger."""

    seq: int
    kind: str
    values: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class RowProblem:
    """A row that does not agree with the chain, as in "row 17 (score of submission 3) was changed".

    `key` stands for the row as it is now: if it is changed again, it is another problem.
    `submission` is the one whose score it is, if it is one.
    """

    text: str
    key: str
    submission: int | None = None


@dataclass(frozen=True, kw_only=True)
class Note:
    """A note on a submission, or on a run by its uid; `time` is UTC text."""

    submission: int | None
    run_uid: str | None
    kind: str
    text: str
    author: str
    time: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return dict(vars(self))

    def __str__(self) -> str:
        return f"rejected: {self.text}" if self.kind == "rejected" else self.text


class Submission(NamedTuple):
    """A submission, its newest scores by `<split>_<metric>`, and the notes on it and on its run.

    `imported` has the columns of an imported table that the ledger has none for, where one of them
    is a validation metric. `not_known` are the config keys that only one of it and the SOTA of that
    time has, because another program never logged them; they are not in `config_diff`. `run_name`
    is the name of its run for people of this workspace: `exp1`, or `mina/exp1` for another's.
    """

    number: int
    run: str | None
    run_uid: str | None
    memo: str
    predictions_fingerprint: str | None
    weights_fingerprint: str | None
    config_fingerprint: str | None
    data_fingerprint: str | None
    code_fingerprint: str | None
    config: Mapping[str, Any]
    sota: int | None
    config_diff: Mapping[str, Sequence[Any]] | None
    best_epoch: int | None
    train_loss: float | None
    train_accuracy: float | None
    train_f1: float | None
    val_loss: float | None
    val_accuracy: float | None
    val_f1: float | None
    author: str | None
    host: str | None
    submitted_at: str | None
    file: str | None
    scores: Mapping[str, float] = {}
    notes: Sequence[Note] = ()
    not_known: Sequence[str] = ()
    imported: Mapping[str, str] = {}
    run_name: str | None = None

    @property
    def is_rejected(self) -> bool:
        """Whether the leaderboard rejected the file; what has a score was accepted after all."""
        return not self.scores and any(note.kind == "rejected" for note in self.notes)

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json; an imported metric is among the validation scores there."""
        plain = {**self._asdict(), "notes": [note.to_dict() for note in self.notes]}
        del plain["imported"]
        return plain


class ScoredSubmission(NamedTuple):
    """The number of a submission, and its newest scores by `<split>_<metric>`."""

    number: int
    scores: dict[str, float]


class SentFile(NamedTuple):
    """What a submission says of its file, and of the run whose predictions it has.

    `run_name` is as in `Submission`; None for what another host sent.
    """

    number: int
    run: str | None
    run_uid: str | None
    host: str | None
    file: str | None
    predictions_fingerprint: str | None
    run_name: str | None = None


def was_sent_here(row: Submission | SentFile) -> bool:
    """Whether the copy of what was sent is to lie in this workspace: it lies with its sender.

    The ledger has the sender's host, not the workspace, and a teammate may send a run of this one:
    the file is then called after the run's name there, as in kim-exp2-c87fa4669969.csv.
    """
    is_own = row.run is not None and row.run == row.run_name
    return (
        is_own
        and row.host == host_name()
        and PurePath(str(row.file)).name.startswith(f"{row.run}-")
    )


class Origin(NamedTuple):
    """Where a submission came from: its run, and the best submission of that time."""

    number: int
    run: str | None
    run_uid: str | None
    sota: int | None
