"""Scores of submissions: typed in, computed where the solution is known, and revealed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from tracker.core.errors import RefusedError, TrackerError, render_error
from tracker.leaderboards import Scores, build_leaderboard
from tracker.ledger.read import (
    find_score,
    get_submission,
    list_packed_answers,
    list_submissions,
    list_unscored,
    load_sent_answers,
)
from tracker.ledger.records import Submission
from tracker.training.errors import ConfigError, DataError
from tracker.training.numbers import render_count
from tracker.workspace.leaderboard_kinds import DEFAULT, KINDS
from tracker.workspace.member_file import find_author
from tracker.workspace.metrics import render_score_command
from tracker.workspace.tracker_toml import Competition, Workspace, parse_score

if TYPE_CHECKING:
    from tracker.workspace.predictions import Answers


def score(
    workspace: Workspace,
    number: int,
    scores: Mapping[tuple[str, str], float],
    *,
    force: bool = False,
) -> Submission:
    """Record scores from the leaderboard; a correction is a new row, the old value stays.

    Raises ConfigError without a score, and for a submission that tracker scored itself;
    RefusedError where somebody else has recorded another score, unless `force`.
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
            f"the {kind.name} leaderboard already scored submission {number}",
            hint=(
                f"{_describe_solution(workspace, row)}to type scores in, set"
                f' kind = "{DEFAULT.name}" in tracker.toml'
            ),
        )
    if not force:
        _refuse_contradiction(workspace, number, scores)
    with open_ledger(workspace) as ledger:
        ledger.append_missing(number, scores)  # a score that is typed twice adds one row
    return get_submission(workspace, number)


def _refuse_contradiction(
    workspace: Workspace, number: int, scores: Mapping[tuple[str, str], float]
) -> None:
    """Raise RefusedError where a teammate has typed or computed another score than this one."""
    own = find_author(workspace.root)
    for (split, name), value in scores.items():
        known = find_score(workspace, number, split, name)
        if known is None or known["author"] == own or known["value"] == value:
            continue
        metric = workspace.competition.metric(name)
        raise RefusedError(
            f"{known['author']} has recorded {split} {name} {metric.render(known['value'])} for"
            f" submission {number}, not {metric.render(value)}",
            hint="ask first; the same with --force corrects it, and the old value stays in the"
            " history",
        )


def describe_interrupted_score(
    workspace: Workspace, number: int, scores: Mapping[tuple[str, str], float]
) -> tuple[str, str]:
    """Whether the ledger has the scores after Ctrl-C, and what to do next; raises LedgerError."""
    row = get_submission(workspace, number)
    if all(row.scores.get("_".join(key)) == value for key, value in scores.items()):
        return f", but the scores of submission {number} are recorded", "tracker sync"
    return ": no score was recorded", ""


def describe_interrupted_reveal(workspace: Workspace) -> tuple[str, str]:
    """How many submissions a reveal that Ctrl-C ended has opened, and how it goes on."""
    rows = list_submissions(workspace)
    opened = sum(map(_is_revealed, rows))
    if not opened:
        return ": nothing was opened", ""
    left = len(list_sealed(workspace, rows))
    state = f", but the private scores of {render_count(opened, 'submission')} are open"
    return state, "tracker leaderboard reveal" if left else "tracker leaderboard"


def _describe_solution(workspace: Workspace, row: Submission) -> str:
    """Where computed scores come from, and how private ones are opened where they are not yet."""
    board = build_leaderboard(workspace)
    path = board.find_solution()
    if path is None or not path.is_file():
        return ""
    told = f"its scores come from {workspace.relative(path)}"
    with suppress(TrackerError):  # a wrong solution is told where it is read for scores
        if board.has_private() and not _is_revealed(row):
            told += ", the private ones with tracker leaderboard reveal"
    return f"{told}; "


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
    """Those of `rows` whose private scores can be computed here, but have not been revealed."""
    if not KINDS[workspace.leaderboard].knows_solution:
        return []
    return [row for row in rows if row.predictions_fingerprint and not _is_revealed(row)]


def _is_revealed(row: Submission) -> bool:
    return any(name.startswith(("private_", "overall_")) for name in row.scores)


def reveal(workspace: Workspace) -> list[Submission]:
    """Score every submission on the private images, except those that were revealed before."""
    from tracker.ledger.append import open_ledger

    board = build_leaderboard(workspace)
    if not board.kind.knows_solution:
        raise ConfigError(
            f"the {workspace.leaderboard} leaderboard has no hidden scores here",
            hint=render_score_command(workspace.competition, split="private"),
        )
    board.check_settings()
    known = {number for number, *_ in list_packed_answers(workspace)}
    with open_ledger(workspace) as ledger:
        for row in list_submissions(workspace):
            if row.number not in known:  # imported without its answers
                continue
            hidden = _score_here(workspace, row.number, board.score_private)
            fresh = {key: value for key, value in hidden.items() if "_".join(key) not in row.scores}
            if hidden:
                ledger.append_missing(row.number, fresh, {"revealed": "private scores revealed"})
    return list_submissions(workspace)


def _score_here(workspace: Workspace, number: int, measure: Callable[[Answers], Scores]) -> Scores:
    """The scores of a submission's answers; none, with a note, where they cannot be scored.

    A teammate's file may be elsewhere, and an imported row may have answers that nobody can score:
    the other submissions go on.
    """
    from tracker.workspace.predictions import check_answers

    try:
        answers = load_sent_answers(workspace, number)
        if answers is None:
            return {}
        check_answers(answers, workspace.competition, None)
        return measure(answers)
    except (DataError, RefusedError) as error:
        told = "" if f"submission {number}" in str(error) else f"submission {number}: "
        print(f"not scored: {told}{render_error(error)}", file=sys.stderr)
        return {}


def score_missing(workspace: Workspace) -> list[int]:
    """Score submissions without a public score, after a killed submit; returns their numbers."""
    from tracker.ledger.append import open_ledger

    board = build_leaderboard(workspace)
    if not board.kind.knows_solution:
        return []
    board.check_settings()
    done = []
    for row in list_unscored(workspace):
        if public := _score_here(workspace, row.number, board.score_public):
            with open_ledger(workspace) as ledger:
                if ledger.append_missing(row.number, public):
                    done.append(row.number)
    return done


def score_again(workspace: Workspace, numbers: Iterable[int]) -> list[Submission]:
    """Compute the known scores of these submissions anew; those that got other scores, with them.

    For rows of the ledger that were changed. Without a solution nothing is computed.
    """
    from tracker.ledger.append import open_ledger

    board = build_leaderboard(workspace)
    if not board.kind.knows_solution:
        return []
    board.check_settings()
    done = []
    for number in numbers:
        scores = _score_here(workspace, number, board.score_public)
        if scores and _is_revealed(get_submission(workspace, number)):
            scores = {**scores, **_score_here(workspace, number, board.score_private)}
        if not scores:
            continue
        with open_ledger(workspace) as ledger:
            if ledger.append_missing(number, scores):
                done.append(get_submission(workspace, number))
    return done
