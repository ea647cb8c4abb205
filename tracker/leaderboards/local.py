"""A leaderboard on this machine: a solution CSV with a column Usage (Public or Private)."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tracker.core.errors import RefusedError
from tracker.leaderboards import Leaderboard, Scores
from tracker.training.errors import ConfigError, DataError
from tracker.training.metrics import find_kind, is_resampled, list_resampled
from tracker.training.numbers import render_count
from tracker.training.tables import LINE, read_table
from tracker.workspace.predictions import Answers, normalize_answer
from tracker.workspace.tracker_toml import Metric, Workspace

USAGES = ("public", "private")


class LocalLeaderboard(Leaderboard):
    """Scores against the solution; each command reads the file again."""

    def __init__(self, workspace: Workspace) -> None:
        self._competition = workspace.competition
        self._path = workspace.leaderboard_options.get("solution", "")

    def check_settings(self) -> None:
        """Read the solution.

        Raises ConfigError for a metric that cannot be computed here, DataError for wrong rows.
        """
        _ = self._solution  # reads the file
        unknown = [
            metric.name for metric in self._competition.metrics if not is_resampled(metric.kind)
        ]
        if unknown:
            raise ConfigError(
                f"the local leaderboard cannot compute {', '.join(unknown)}",
                hint=(
                    f"set a kind of competition.metrics to {' or '.join(list_kinds())}, or use the"
                    " manual leaderboard"
                ),
            )

    def score_public(self, answers: Answers) -> Scores:
        """Scores on the public images."""
        return self._score(answers, ("public",))

    def score_private(self, answers: Answers) -> Scores:
        """Scores on the private images, and over all images."""
        return self._score(answers, ("private", "overall"))

    def find_solution(self) -> Path | None:
        """The solution CSV."""
        return Path(self._path) if self._path else None

    @cached_property
    def _solution(self) -> Mapping[str, tuple[str, str]]:
        """{id: (correct answer, usage)} in lower case.

        Raises ConfigError without a solution, DataError with every wrong row.
        """
        path = self.find_solution()
        if path is None:
            raise ConfigError("leaderboard.solution: kind local needs the solution CSV")
        competition = self._competition
        columns = (LINE, competition.id_column, competition.label_column, "Usage")
        words = set(competition.answer_words)
        solution, problems = {}, []
        for line, name, text, usage in read_table(path, columns):
            answer = normalize_answer(text)
            if answer not in words:
                problems.append(f"{path}:{line}: unknown answer {answer!r}")
            if usage.lower() not in USAGES:
                problems.append(f"{path}:{line}: Usage must be Public or Private, not {usage!r}")
            solution[name] = (answer, usage.lower())
        if problems or not solution:
            raise DataError(
                f"{render_count(len(problems), 'problem')} in the solution:",
                problems=problems or [f"{path} is empty"],
            )
        return solution

    def _score(self, answers: Answers, splits: tuple[str, ...]) -> Scores:
        self.check_settings()
        if answers.by_id.keys() != self._solution.keys():
            raise RefusedError(
                f"the predictions have {len(answers.by_id)} ids, the solution has"
                f" {len(self._solution)}, and they are not the same",
                hint="check leaderboard.solution and data.eval_dir",
            )
        scores = {}
        words = self._competition.answer_words
        for split in splits:
            labels, guesses = [], []
            for name, (label, usage) in self._solution.items():
                if split in (usage, "overall"):
                    labels.append(label)
                    guesses.append(answers.by_id[name])
            if not labels:  # a solution without private images has no private scores
                continue
            for metric in self._competition.metrics:
                scores[split, metric.name] = compute_metric(metric, labels, guesses, words)
        return scores


def list_kinds() -> list[str]:
    """The kinds of metrics that can be computed from answers alone, without probabilities."""
    return [metric.kind for metric in list_resampled()]


def compute_metric(
    metric: Metric, labels: list[str], guesses: list[str], words: tuple[str, ...]
) -> float:
    """The metric of answers, which are all in `words`; raises ConfigError for another metric."""
    import numpy as np

    from tracker.training.scores import confusion_matrix, count_classes

    computed = find_kind(metric.kind)
    if computed is None or not computed.is_resampled:
        known = ", ".join(list_kinds())
        raise ConfigError(
            f"{metric.name}: kind {metric.kind} cannot be computed", hint=f"known: {known}"
        )
    index_of = {word: index for index, word in enumerate(words)}
    rows = np.array([index_of[word] for word in labels], dtype=np.int64)
    columns = np.array([index_of[word] for word in guesses], dtype=np.int64)
    return float(computed.score(count_classes(confusion_matrix(rows, columns, len(words)))))
