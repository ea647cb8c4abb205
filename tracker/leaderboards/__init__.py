"""Leaderboards, a file for each kind; `tracker.workspace.leaderboard_kinds` lists the kinds.

Imports `workspace` and below.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from tracker.core.errors import TrackerError
from tracker.workspace.leaderboard_kinds import KINDS, LeaderboardKind

if TYPE_CHECKING:
    from tracker.workspace.predictions import Answers
    from tracker.workspace.tracker_toml import Competition, Workspace

Scores = Mapping[tuple[str, str], float]  # (split, metric): value


class LeaderboardError(TrackerError):
    """A remote leaderboard cannot be reached or rejected a file; the ledger has the submission."""


@dataclass(frozen=True, kw_only=True)
class SendResult:
    """The result of sending a file: its id there, the reason of a rejection, the scores so far."""

    reference: str = ""
    rejected: str = ""
    scores: Scores = field(default_factory=dict)


class Leaderboard(Protocol):
    """Where submissions go. These methods do nothing; a kind overrides those that it needs."""

    kind: LeaderboardKind

    def __init__(self, workspace: Workspace) -> None:
        """Store settings of the workspace; no file is read yet."""

    def check_settings(self) -> None:
        """Raise ConfigError or DataError when settings or files are wrong, such as the solution."""

    def score_public(self, answers: Answers) -> Scores:
        """Public scores, empty when they are not known yet; called before anything is written.

        Raises DataError or RefusedError when the leaderboard does not accept the answers today.
        """
        return {}

    def score_private(self, answers: Answers) -> Scores:
        """Private and overall scores, for the reveal; empty when this kind cannot compute them."""
        return {}

    def send(self, path: Path, message: str, *, sent: bool) -> SendResult:
        """Send the file; called after the row is in the ledger. Raises LeaderboardError.

        The file is sent only once, however often this is called. `sent`: the ledger has a note that
        it was sent, so only its score is fetched.
        """
        return SendResult()

    def find_solution(self) -> Path | None:
        """The CSV with id, correct answer and Usage (Public or Private); None when unknown."""
        return None

    def has_private(self) -> bool:
        """Whether private scores can be computed here; raises ConfigError or DataError."""
        return False

    def next_step(self, number: int, competition: Competition) -> str:
        """What the user must do after a submission, in one line; empty when nothing."""
        return ""


def build_leaderboard(workspace: Workspace) -> Leaderboard:
    """The leaderboard of tracker.toml; it reads files and asks servers only in its methods."""
    kind = KINDS[workspace.leaderboard]
    module, _, name = kind.implementation.partition(":")
    board = cast("Leaderboard", getattr(importlib.import_module(module), name)(workspace))
    board.kind = kind
    return board
