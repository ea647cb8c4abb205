"""A leaderboard of one's own: labeled images that training never sees."""

from __future__ import annotations

from pathlib import Path

from tracker.leaderboards.local import LocalLeaderboard
from tracker.workspace.holdout import FOLDER, SOLUTION, check_seal
from tracker.workspace.tracker_toml import Workspace


class HoldoutLeaderboard(LocalLeaderboard):
    """Scores against the sealed labels of the held-out images."""

    def __init__(self, workspace: Workspace) -> None:
        super().__init__(workspace)
        self._sealed = workspace.root / FOLDER / SOLUTION

    def check_settings(self) -> None:
        """Check the seal, then the labels; raises DataError and ConfigError."""
        check_seal(self._sealed)
        super().check_settings()

    def find_solution(self) -> Path | None:
        """The solution CSV."""
        return self._sealed
