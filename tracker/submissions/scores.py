"""Scores of submissions: typed in, computed here where the solution is known, revealed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from tracker.leaderboards import build_leaderboard
from tracker.ledger.read import (
    get_packed_answers,
    get_submission,
    list_packed_answers,
    list_submissions,
    list_unscored,
)
from tracker.ledger.records import Submission
from tracker.training.errors import ConfigError
from tracker.workspace.competition import Competition, Workspace, parse_score
from tracker.workspace.leaderboard_kinds import DEFAULT, KINDS
from tracker.workspace.metrics import render_score_command
from tracker.workspace.predictions import unpack_answers


def score(workspace: Workspace, number: int, scores: Mapping[tuple[str, str], float]) -> Submission:
    """Record what the leaderboard said about a submission; a correction is recorded beside the old
    value.

    Raises ConfigError without a score, and where the local leaderboard has computed them.
    """
    from tracker.ledger.append import open_ledger

    if not scores:
        raise ConfigError(
            "no score given", hint=render_score_command(workspace.competition, number, every=True)
        )
    row = get_submission(workspace, number)
    kind = KINDS[workspace.leaderboard]
    if kind.knows_solution and row.predictions_fingerprint:
        raise ConfigError(
            f"the {kind.name} leaderboard has scored submission {number} itself",
            hint=(
                f'private scores stay sealed there; kind = "{DEFAULT.name}" in tracker.toml takes'
                " typed ones"
            ),
        )
    with open_ledger(workspace) as ledger:
        ledger.append_missing(number, scores)  # what is typed again adds no row
    return get_submission(workspace, number)


def parse_scores(
    competition: Competition, given: Mapping[str, Sequence[str]]
) -> dict[tuple[str, str], float]:
    """{(split, metric): value} from `metric=value` texts by split; raises ConfigError."""
    scores = {}
    for split, texts in given.items():
        for text in texts:
            name, equals, value = text.partition("=")
            if not equals:
                raise ConfigError(
                    f"--{split} {text}: expected metric=value, as in --{split} auc=0.913"
                )
            if (split, name.strip()) in scores:
                raise ConfigError(
                    f"the {split} {name.strip()} was given twice", hint="give each score once"
                )
            scores[split, name.strip()] = parse_score(competition.metric(name.strip()), value)
    return scores


def list_sealed(workspace: Workspace, rows: Iterable[Submission]) -> list[Submission]:
    """Those of `rows` whose private scores can be computed here and were not; none where they come
    from elsewhere."""
    if not KINDS[workspace.leaderboard].knows_solution:
        return []
    return [
        row
        for row in rows
        if row.predictions_fingerprint
        and not any(name.startswith(("private_", "overall_")) for name in row.scores)
    ]


def reveal(workspace: Workspace) -> list[Submission]:
    """Score every submission on the private images and record it; submissions already revealed stay
    as they are."""
    from tracker.ledger.append import open_ledger

    board = build_leaderboard(workspace)
    if not board.kind.knows_solution:
        raise ConfigError(
            f"the {workspace.leaderboard} leaderboard has nothing sealed here",
            hint=render_score_command(workspace.competition, split="private"),
        )
    board.check_settings()
    packed = {number: text for number, _, text in list_packed_answers(workspace)}
    with open_ledger(workspace) as ledger:
        for row in list_submissions(workspace):
            hidden = (
                board.score_private(unpack_answers(packed[row.number]))
                if row.number in packed
                else {}
            )
            fresh = {key: value for key, value in hidden.items() if "_".join(key) not in row.scores}
            if hidden:
                ledger.append_missing(row.number, fresh, {"revealed": "private scores revealed"})
    return list_submissions(workspace)


def score_missing(workspace: Workspace) -> list[int]:
    """Score submissions whose public score is missing because submit was cut off; returns their
    numbers."""
    from tracker.ledger.append import open_ledger

    board = build_leaderboard(workspace)
    if not board.kind.knows_solution:
        return []
    board.check_settings()
    done = []
    for row in list_unscored(workspace):
        if packed := get_packed_answers(workspace, row.number):
            found = board.score_public(unpack_answers(packed))
            with open_ledger(workspace) as ledger:
                if ledger.append_missing(row.number, found):
                    done.append(row.number)
    return done
