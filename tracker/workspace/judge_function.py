"""A judge's own metric: a Python function of the true and the predicted table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import ConfigError, DataError
from tracker.workspace.answer_kinds import find_answer_kind, index_second, to_table
from tracker.workspace.number_tables import Numbers
from tracker.workspace.tracker_toml import Competition, Metric

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tracker.training.scorers import Outcome

HOW = 'function = "judge.py:score", where score(truth, predictions) returns a number'


def load_function(metric: Metric, root: Path) -> Callable[[Any, Any], Any]:
    """The function that tracker.toml names; raises ConfigError where there is none."""
    import runpy

    file, _, name = metric.function.rpartition(":")
    path = (root / Path(file).expanduser()).resolve()
    if not file.endswith(".py") or not name.isidentifier():
        raise ConfigError(f"{metric.name}: no function {metric.function!r}", hint=HOW)
    if not path.is_file():
        raise ConfigError(f"{metric.name}: no such file: {path}", hint=HOW)
    try:
        function = runpy.run_path(str(path)).get(name)
    except Exception as error:  # the judge's code may raise anything
        raise ConfigError(f"{metric.name}: {path} cannot be run: {error!r}") from error
    if not callable(function):
        raise ConfigError(f"{metric.name}: {path} has no function {name}", hint=HOW)
    loaded: Callable[[Any, Any], Any] = function
    return loaded


@dataclass(frozen=True)
class Judged:
    """The answers of a submission beside the right ones, in the order of `ids`."""

    ids: Sequence[str]
    truths: Sequence[str]
    guesses: Sequence[str]
    competition: Competition

    @cached_property
    def outcome(self) -> Outcome:
        """The answers as arrays, which several metrics share."""
        kind = find_answer_kind(self.competition)
        return kind.decode(self.truths, self.guesses, self.competition)


def call_function(metric: Metric, judged: Judged, root: Path) -> float:
    """The function's value of two frames with the columns of predictions.csv, in one order.

    Raises ConfigError where there is no function, DataError where it fails or returns no number.
    """
    function = load_function(metric, root)
    truth = _build_frame(judged.ids, judged.truths, judged.competition)
    predictions = _build_frame(judged.ids, judged.guesses, judged.competition)
    return _call(metric, function, truth, predictions)


@dataclass(frozen=True)
class OutcomeJudge:
    """A judge's function of labeled images: what a run decides on them, as it would be submitted.

    Calling it raises ConfigError and DataError like `call_function`. The file is run once.
    """

    metric: Metric
    competition: Competition
    root: Path

    def __call__(self, outcome: Outcome) -> float:
        """The function's value of the frames of truth and predictions, in the outcome's order."""
        import numpy as np

        truth, decided = outcome.truth, np.asarray(outcome.decided)
        guess = decided if outcome.scores is None else outcome.scores
        answer = self.competition.answer
        if answer == "columns":
            width = len(self.competition.value_columns)
            is_class = truth.ndim == 1 and outcome.scores is not None
            rows = [np.eye(width)[truth] if is_class else truth, guess]
        elif answer == "probability":
            rows = [
                truth if truth.ndim == 1 else truth[:, -1],
                guess.reshape(len(guess), -1)[:, -1],
            ]
        elif answer == "ranked" and outcome.scores is not None:
            best = np.argsort(-outcome.scores, axis=1, kind="stable")
            rows = [truth, best[:, : self.competition.top_k]]
        else:
            rows = [truth, decided]
        is_ranked = (False, answer == "ranked")
        frames = [
            self._build_frame(outcome, part, is_ranked=ranked)
            for part, ranked in zip(rows, is_ranked, strict=True)
        ]
        return _call(self.metric, self._function, *frames)

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the loaded function: other processes load it from its file."""
        return OutcomeJudge, (self.metric, self.competition, self.root)

    @cached_property
    def _function(self) -> Callable[[Any, Any], Any]:
        return load_function(self.metric, self.root)

    def _build_frame(self, outcome: Outcome, values: NDArray[Any], *, is_ranked: bool) -> Any:
        """A frame of ids and numbers, or of the words for class numbers or for 0 and 1."""
        import numpy as np
        import pandas as pd

        competition = self.competition
        ids = range(len(values)) if outcome.ids is None else outcome.ids
        columns: dict[str, Any] = {competition.id_column: [str(name) for name in ids]}
        if competition.answer in ("columns", "probability", "number"):
            table = np.asarray(values, dtype=np.float64).reshape(len(values), -1)
            columns |= dict(zip(competition.value_columns, table.T, strict=True))
        else:
            lists = _list_classes(values, is_ranked=is_ranked)
            words = competition.answer_words
            columns[competition.label_column] = [" ".join(words[i] for i in row) for row in lists]
        return pd.DataFrame(columns)


def _list_classes(values: NDArray[Any], *, is_ranked: bool) -> list[list[int]]:
    """The classes of each image: from class numbers [images] or [images, k], or from 0 and 1."""
    import numpy as np

    if values.ndim == 1:
        return [[int(value)] for value in values]
    if is_ranked:
        return [list(map(int, row)) for row in values]
    return [np.flatnonzero(row).tolist() for row in values]


def _call(
    metric: Metric, function: Callable[[Any, Any], Any], truth: Any, predictions: Any
) -> float:
    """The function's value; raises DataError where it fails or returns no number."""
    try:
        value = float(function(truth, predictions))
    except (Exception, SystemExit) as error:  # the judge's code may raise anything
        raise DataError(f"{metric.name}: {metric.function} failed: {error!r}") from error
    if not math.isfinite(value):
        raise DataError(f"{metric.name}: {metric.function} returned {value}")
    return value


def _build_frame(ids: Sequence[str], texts: Sequence[str], competition: Competition) -> Any:
    """A pandas frame: ids are texts, answers numbers where the competition asks for numbers."""
    import pandas as pd

    columns: dict[str, Any] = {competition.id_column: list(ids)}
    if competition.answer == "columns":
        names = sorted(competition.value_columns)
        by_name = dict(zip(names, to_table(texts).T, strict=True))
        columns |= {name: by_name[name] for name in competition.value_columns}
    elif competition.answer == "probability" and not isinstance(texts, Numbers):
        # a solution may name the classes
        number_of = index_second(competition)
        numbers = [float(number_of.get(text, text)) for text in texts]
        columns[competition.label_column] = numbers
    elif competition.answer in ("probability", "number"):
        columns[competition.label_column] = to_table(texts)[:, 0]
    else:
        columns[competition.label_column] = list(texts)
    return pd.DataFrame(columns)
