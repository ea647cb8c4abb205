"""A leaderboard elsewhere: the user uploads the file and types the scores with `tracker score`."""

from __future__ import annotations

from tracker.leaderboards import Leaderboard
from tracker.workspace.member_file import read_member
from tracker.workspace.metrics import render_score_command
from tracker.workspace.tracker_toml import Competition, Workspace


class ManualLeaderboard(Leaderboard):
    """Knows no scores and sends nothing."""

    def __init__(self, workspace: Workspace) -> None:
        self._is_member = read_member(workspace.root) is not None

    def next_step(self, number: int, competition: Competition) -> str:
        """Upload the file and type its scores; a member's may be computed by the owner's machine.

        What the team shares does not say which: the owner's solution is not shared.
        """
        typed = f"upload the file, then: {render_score_command(competition, number, every=True)}"
        if not self._is_member:
            return typed
        there = "where the owner's machine has the solution, tracker sync there scores it"
        return f"{there}; else {typed}"
