"""Leaderboards, one file a kind: a new kind is a module with such a class and a line in `build_leaderboard`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tracker.errors import TrackerError
from tracker.predictions import Answers
from tracker.workspace import Workspace

Scores = Mapping[tuple[str, str], float]  # (split, metric): value


class LeaderboardError(TrackerError):
    """A leaderboard elsewhere cannot be reached or did not take a file; the ledger has the submission."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of sending a file: its name there, the reason when it was refused, the scores known so far."""

    reference: str = ""
    rejected: str = ""
    scores: Scores = field(default_factory=dict)


class Leaderboard(Protocol):
    """Where submissions go."""

    def score_public(self, answers: Answers) -> Scores:
        """Before anything is written: public scores, empty when not known yet.

        Raises DataError or RefusedError when these answers cannot be taken, or not today.
        """

    def send(self, path: Path, message: str, *, sent: bool) -> Outcome:
        """After the ledger has the row: send the file, once however often this is called; raises LeaderboardError.

        `sent`: the ledger has noted that the file is there, only its score is to be fetched.
        """

    def score_hidden(self, answers: Answers) -> Scores:
        """Private and overall scores for the day they are revealed; empty when this kind has none."""


def build_leaderboard(workspace: Workspace) -> Leaderboard:
    """The leaderboard named in tracker.toml."""
    if workspace.leaderboard == "local":
        from tracker.leaderboards.local import LocalLeaderboard

        return LocalLeaderboard(workspace)
    if workspace.leaderboard == "kaggle":
        from tracker.leaderboards.kaggle import KaggleLeaderboard

        return KaggleLeaderboard(workspace)
    from tracker.leaderboards.manual import ManualLeaderboard

    return ManualLeaderboard()
