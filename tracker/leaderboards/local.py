"""A leaderboard on this machine: a solution CSV with a column Usage (Public or Private)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tracker.core.errors import RefusedError
from tracker.leaderboards import Leaderboard, Scores
from tracker.training.errors import ConfigError, DataError
from tracker.training.metrics import FUNCTION, find_kind, list_kinds
from tracker.training.numbers import render_count
from tracker.training.tables import LINE, read_columns
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.judge_function import Judged, call_function, load_function
from tracker.workspace.number_tables import Numbers, read_large, take_rows
from tracker.workspace.predictions import Answers, find_suspects
from tracker.workspace.tracker_toml import Competition, Metric, Workspace

USAGES = ("public", "private")
NEEDS = {
    "decided": "classes or numbers",
    "scores": "probabilities or scores",
    "ranked": "ranked classes or scores",
}


MAX_PROBLEMS = 10  # wrong rows of a solution that are named: they are often all wrong alike
ANSWERS_ARE_NAMES = (
    'these are the names of the classes: --answers name of "tracker init", or answers = "name" in'
    " tracker.toml"
)


class LocalLeaderboard(Leaderboard):
    """Scores against the solution; each command reads the file again."""

    def __init__(self, workspace: Workspace) -> None:
        self._competition = workspace.competition
        self._root = workspace.root
        self._path = workspace.leaderboard_options.get("solution", "")

    def check_settings(self) -> None:
        """Read the solution.

        Raises ConfigError for a metric that cannot be computed here, DataError for wrong rows.
        """
        _ = self._solution  # reads the file
        for metric in self._competition.metrics:
            check_metric(metric, self._competition, self._root)

    def score_public(self, answers: Answers) -> Scores:
        """Scores on the public images."""
        return self._score(answers, ("public",))

    def score_private(self, answers: Answers) -> Scores:
        """Scores on the private images, and over all images."""
        return self._score(answers, ("private", "overall"))

    def find_solution(self) -> Path | None:
        """The solution CSV."""
        return Path(self._path) if self._path else None

    def has_private(self) -> bool:
        """Whether the solution has private images; raises ConfigError or DataError."""
        return "private" in self._solution.usages

    @cached_property
    def _solution(self) -> Solution:
        """The right answers and their usage.

        Raises ConfigError without a solution, DataError with the first wrong rows.
        """
        path = self.find_solution()
        if path is None:
            raise ConfigError("leaderboard.solution: kind local needs the solution CSV")
        return _read_large_solution(path, self._competition) or _read_solution(
            path, self._competition
        )

    def _score(self, answers: Answers, splits: tuple[str, ...]) -> Scores:
        self.check_settings()
        solution, position = self._solution, {}
        if answers.ids != solution.ids:
            position = {name: row for row, name in enumerate(answers.ids)}
            if position.keys() != set(solution.ids):
                raise RefusedError(
                    f"the predictions have {len(answers.ids)} ids, the solution has"
                    f" {len(solution.ids)}, and they are not the same",
                    hint="check leaderboard.solution and data.eval_dir",
                )
        scores = {}
        for split in splits:
            rows = [row for row, usage in enumerate(solution.usages) if split in (usage, "overall")]
            if not rows:  # a solution without private images has no private scores
                continue
            ids = [solution.ids[row] for row in rows]
            guessed = [position[name] for name in ids] if position else rows
            truths = take_rows(solution.answers, rows)
            guesses = take_rows(answers.answers, guessed)
            judged = Judged(ids, truths, guesses, self._competition)
            for metric in self._competition.metrics:
                scores[split, metric.name] = compute_metric(metric, judged, self._root)
        return scores


@dataclass(frozen=True)
class Solution:
    """The right answers, and whether each is of a public or a private image, in lower case."""

    ids: list[str]
    answers: Sequence[str]
    usages: Sequence[str]


def _read_large_solution(path: Path, competition: Competition) -> Solution | None:
    """The solution of a large table of numbers; None where it is none, or a row is wrong."""
    kind = find_answer_kind(competition)
    if not kind.is_number:
        return None
    columns = sorted(competition.value_columns)
    found = read_large(path, competition.id_column, columns, ["Usage"])
    if found is None or len(set(found.ids)) != len(found.ids):
        return None
    usages = [usage.lower() for usage in found.texts.get("Usage", ["public"] * len(found.ids))]
    answers = Answers(found.ids, Numbers(found.table))
    if kind.find_wrong_truth is not None:
        suspects: Iterable[str] = set(answers.answers)
        find_wrong = kind.find_wrong_truth
    else:
        suspects = [text for _, text in find_suspects(answers, competition)]
        find_wrong = kind.find_wrong
    if not set(usages) <= set(USAGES) or any(find_wrong(text, competition) for text in suspects):
        return None
    return Solution(found.ids, answers.answers, usages)


def _read_solution(path: Path, competition: Competition) -> Solution:
    """The solution row by row; raises DataError with the first wrong rows and their lines."""
    kind = find_answer_kind(competition)
    find_wrong = kind.find_wrong_truth or kind.find_wrong
    columns = (LINE, competition.id_column, *competition.value_columns, "Usage")
    problems: list[str] = []
    wrong_answers: set[str] = set()
    solution: dict[str, tuple[str, str]] = {}
    for lines, names, *cells, usages in read_columns(path, columns, Usage="Public"):
        texts = kind.read(cells, competition)
        for line, name, text, usage in zip(lines, names, texts, usages, strict=True):
            wrong = find_wrong(text, competition)
            if wrong:
                wrong_answers.add(text)
                problems.append(f"{path}:{line}: {kind.wrong} answer {text!r}: {wrong}")
            if usage.lower() not in USAGES:
                problems.append(f"{path}:{line}: Usage must be Public or Private, not {usage!r}")
            if solution.setdefault(name, (text, usage.lower())) != (text, usage.lower()):
                problems.append(f"{path}:{line}: {name} was listed before as something else")
    if problems or not solution:
        raise DataError(
            f"{render_count(len(problems), 'problem')} in the solution:",
            problems=_list_some(problems) or [f"{path} is empty"],
            hint=ANSWERS_ARE_NAMES if set() < wrong_answers <= {*competition.classes} else "",
        )
    right = [text for text, _ in solution.values()]
    return Solution(list(solution), right, [usage for _, usage in solution.values()])


def _list_some(problems: Sequence[str]) -> list[str]:
    more = len(problems) - MAX_PROBLEMS
    return [*problems[:MAX_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]


def check_metric(metric: Metric, competition: Competition, root: Path) -> None:
    """Raise ConfigError for a metric that cannot be computed from this competition's answers."""
    if metric.kind == FUNCTION:
        load_function(metric, root)
        return
    computed = find_kind(metric.kind)
    provided = find_answer_kind(competition).provides
    if computed is None:
        raise ConfigError(
            f"the local leaderboard cannot compute {metric.name}",
            hint=(
                f"set its kind in competition.metrics to one of {', '.join(list_kinds())}, or use"
                " the manual leaderboard"
            ),
        )
    if not set(computed.needs) & set(provided):
        raise ConfigError(
            f"{metric.name} needs {NEEDS[computed.needs[0]]}, and an answer is"
            f" {competition.answer!r} here",
            hint="set competition.answer in tracker.toml to what predictions.csv says",
        )
    if computed.averages and metric.average not in computed.averages:
        raise ConfigError(
            f"{metric.name}: average {metric.average!r} is none of {computed.kind}",
            hint=f"one of: {', '.join(computed.averages)}",
        )


def compute_metric(metric: Metric, judged: Judged, root: Path) -> float:
    """The metric of answers that `check_answers` has passed.

    Raises ConfigError for a metric that cannot be computed, DataError where it is not defined for
    these images.
    """
    from tracker.training.scorers import compute
    from tracker.training.scores import confusion_matrix, count_classes

    if metric.kind == FUNCTION:
        return call_function(metric, judged, root)
    check_metric(metric, judged.competition, root)
    computed = find_kind(metric.kind)
    assert computed is not None  # noqa: S101  (`check_metric` has looked)
    outcome = judged.outcome
    if computed.is_resampled and outcome.truth.ndim == 1 and outcome.decided is not None:
        confusion = confusion_matrix(outcome.truth, outcome.decided, outcome.classes)
        return float(computed.score(count_classes(confusion)))
    assert computed.from_outcome is not None  # noqa: S101  (every kind has one)
    try:
        return compute(computed.from_outcome, outcome, metric.parameters)
    except DataError as error:
        raise DataError(f"{metric.name}: {error}") from error
