"""The kinds of leaderboards as plain data: what each is called, its keys in tracker.toml, what it
can do.

A new kind is a file in this folder with a class after `Leaderboard`, and an entry below. This
module imports nothing, so that whoever reads tracker.toml can ask it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class LeaderboardOption:
    """A key of [leaderboard] in tracker.toml; its value is a text.

    `needs`: what the kind needs it for, said where it is missing; empty: it may be missing.
    `is_path`: it names a
    file, relative to tracker.toml. `flag`: the option of `tracker init` that sets it, if it has one
    of its own, and
    `unused`: why that option says nothing to the other kinds.
    """

    key: str
    default: str = ""
    needs: str = ""
    is_path: bool = False
    flag: str = ""
    unused: str = ""


@dataclass(frozen=True, kw_only=True)
class LeaderboardKind:
    """A kind of leaderboard.

    `sentence` is its comment in tracker.toml, `implementation` is "module:Class".
    `needs_upload_by_hand`: a person
    uploads the file and types the scores. `sends`: the file goes elsewhere by itself.
    `knows_solution`: every score is computed here, and private ones are sealed until they are
    revealed.
    """

    name: str
    sentence: str
    implementation: str
    options: tuple[LeaderboardOption, ...] = ()
    needs_upload_by_hand: bool = False
    sends: bool = False
    knows_solution: bool = False


KINDS: dict[str, LeaderboardKind] = {}


def register(kind: LeaderboardKind) -> None:
    """Make a kind known; one of the same name is replaced."""
    KINDS[kind.name] = kind


def list_options() -> list[LeaderboardOption]:
    """The keys of [leaderboard], of every kind."""
    return [option for kind in KINDS.values() for option in kind.options]


def choose_kind(given: Iterable[str]) -> str:
    """The kind that the keys `given` belong to; the first one, which needs none, when they belong
    to none."""
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

for _kind in (DEFAULT, LOCAL, KAGGLE):
    register(_kind)
