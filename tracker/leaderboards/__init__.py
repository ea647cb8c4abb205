"""Leaderboards, one file a kind: a new kind is a module with such a class and a line in `build_leaderboard`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from tracker.predictions import Answers
from tracker.workspace import Workspace

Scores = Mapping[tuple[str, str], float]  # (split, metric): value


class Leaderboard(Protocol):
    """Where submissions go."""

    def score_public(self, answers: Answers) -> Scores:
        """Public scores, empty when they are not known yet; raises DataError or RefusedError."""

    def score_hidden(self, answers: Answers) -> Scores:
        """Private and overall scores for the day they are revealed; empty when this kind has none."""


def build_leaderboard(workspace: Workspace) -> Leaderboard:
    """The leaderboard named in tracker.toml."""
    if workspace.leaderboard == "local":
        from tracker.leaderboards.local import LocalLeaderboard

        return LocalLeaderboard(workspace)
    from tracker.leaderboards.manual import ManualLeaderboard

    return ManualLeaderboard()
