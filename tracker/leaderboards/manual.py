"""A leaderboard elsewhere: a person uploads the file and types the scores with `tracker score`."""

from __future__ import annotations

from pathlib import Path

from tracker.leaderboards import Outcome, Scores
from tracker.predictions import Answers


class ManualLeaderboard:
    """Knows no scores."""

    def score_public(self, answers: Answers) -> Scores:
        """Nothing yet: `tracker score` records them."""
        return {}

    def send(self, path: Path, message: str, *, sent: bool) -> Outcome:
        """Nothing to send."""
        return Outcome()

    def score_hidden(self, answers: Answers) -> Scores:
        """Nothing: `tracker score` records them."""
        return {}
