"""Leaderboards, one file a kind; registry.py lists the kinds, and no other folder names one."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from tracker.core.errors import TrackerError
from tracker.workspace.leaderboard_kinds import KINDS, Kind

if TYPE_CHECKING:
    from tracker.workspace.competition import Competition, Workspace
    from tracker.workspace.predictions import Answers

Scores = Mapping[tuple[str, str], float]  # (split, metric): value


class LeaderboardError(TrackerError):
    """A leaderboard elsewhere cannot be reached or did not take a file; the ledger has the
    submission."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of sending a file: its name there, the reason when it was refused, the scores known
    so far."""

    reference: str = ""
    rejected: str = ""
    scores: Scores = field(default_factory=dict)


class Leaderboard(Protocol):
    """Where submissions go. The bodies here are those of a kind that does nothing; a kind overrides
    what it does."""

    kind: Kind

    def __init__(self, workspace: Workspace) -> None:
        """Remember what is needed of the workspace; nothing is read yet."""

    def check_settings(self) -> None:
        """Raise ConfigError or DataError when this workspace's leaderboard cannot work, as with a
        wrong solution."""

    def score_public(self, answers: Answers) -> Scores:
        """Before anything is written: public scores, empty when not known yet.

        Raises DataError or RefusedError when these answers cannot be taken, or not today.
        """
        return {}

    def score_private(self, answers: Answers) -> Scores:
        """Private and overall scores for the day they are revealed; empty when this kind has none."""
        return {}

    def send(self, path: Path, message: str, *, sent: bool) -> Outcome:
        """After the ledger has the row: send the file, once however often this is called; raises
        LeaderboardError.

        `sent`: the ledger has noted that the file is there, only its score is to be fetched.
        """
        return Outcome()

    def find_solution(self) -> Path | None:
        """The CSV with every id, its true answer and Usage (Public or Private), None when it is not
        known here."""
        return None

    def next_step(self, number: int, competition: Competition) -> str:
        """What a person has to do after a submission, in one line; empty when nothing."""
        return ""


def build_leaderboard(workspace: Workspace) -> Leaderboard:
    """The leaderboard named in tracker.toml; nothing is read and nobody is asked before one of its
    methods is."""
    kind = KINDS[workspace.leaderboard]
    module, _, name = kind.implementation.partition(":")
    board = cast("Leaderboard", getattr(importlib.import_module(module), name)(workspace))
    board.kind = kind
    return board
