"""The kinds of leaderboards as plain data: name, keys in tracker.toml, abilities.

A new kind is a file in `tracker/leaderboards/` with a class like `Leaderboard`, and an entry below.
This module imports nothing of tracker, so that the reader of tracker.toml can use it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class LeaderboardOption(NamedTuple):
    """A key of [leaderboard] in tracker.toml; its value is a text.

    `needs`: what the value is, for the message when it is missing; empty if it may be missing.
    `is_path`: it is the path of a file, relative to tracker.toml. `flag`: the option of `tracker
    init` that sets it, if there is one. `unused`: why the other kinds do not use that option.
    """

    key: str
    default: str = ""
    needs: str = ""
    is_path: bool = False
    flag: str = ""
    unused: str = ""


class LeaderboardKind(NamedTuple):
    """A kind of leaderboard.

    `sentence` is its comment in tracker.toml, `implementation` is "module:Class".
    `needs_upload_by_hand`: the user uploads the file and types the scores. `sends`: tracker sends
    the file. `knows_solution`: tracker computes every score; the private ones stay hidden until the
    user reveals them. `counts_looks`: people are told how often they have seen a score, because
    nobody else limits it.
    """

    name: str
    sentence: str
    implementation: str
    options: tuple[LeaderboardOption, ...] = ()
    needs_upload_by_hand: bool = False
    sends: bool = False
    knows_solution: bool = False
    counts_looks: bool = False


KINDS: dict[str, LeaderboardKind] = {}


def register(kind: LeaderboardKind) -> None:
    """Add a kind; it replaces one of the same name."""
    KINDS[kind.name] = kind


def list_options() -> list[LeaderboardOption]:
    """The keys of [leaderboard], of every kind."""
    return [option for kind in KINDS.values() for option in kind.options]


def choose_kind(given: Iterable[str]) -> str:
    """The name of the kind that has one of the keys `given`; the default kind if none has."""
    keys = set(given)
    for kind in KINDS.values():
        if any(option.key in keys for option in kind.options):
            return kind.name
    return DEFAULT.name


DEFAULT = LeaderboardKind(
    name="manual",
    sentence="scores are typed in with `tracker score`.",
    implementation="tracker.leaderboards.manual:ManualLeaderboard",
    needs_upload_by_hand=True,
)
LOCAL = LeaderboardKind(
    name="local",
    sentence="scored here against a solution CSV.",
    implementation="tracker.leaderboards.local:LocalLeaderboard",
    options=(
        LeaderboardOption(
            key="solution",
            needs="the solution CSV",
            is_path=True,
            flag="--solution",
            unused="only a local leaderboard reads a solution",
        ),
    ),
    knows_solution=True,
)
KAGGLE = LeaderboardKind(
    name="kaggle",
    sentence=(
        'sent to the competition of this name by the official client (pip install "kaggle>=2.2").'
    ),
    implementation="tracker.leaderboards.kaggle:KaggleLeaderboard",
    options=(
        LeaderboardOption(
            key="competition",
            needs="the competition's name in its address",
            flag="--kaggle",
            unused="nothing is sent to Kaggle",
        ),
    ),
    sends=True,
)
HOLDOUT = LeaderboardKind(
    name="holdout",
    sentence="scored here on the images that `tracker init --holdout` keeps out of training.",
    implementation="tracker.leaderboards.holdout:HoldoutLeaderboard",
    knows_solution=True,
    counts_looks=True,
)

for _kind in (DEFAULT, LOCAL, KAGGLE, HOLDOUT):
    register(_kind)
