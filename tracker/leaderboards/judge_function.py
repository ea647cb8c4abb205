"""A judge's own metric: a Python function of the true and the predicted table."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.training.errors import ConfigError, DataError
from tracker.workspace.answer_kinds import find_answer_kind, to_table
from tracker.workspace.tracker_toml import Competition, Metric

if TYPE_CHECKING:
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
    try:
        value = float(function(truth, predictions))
    except Exception as error:  # the judge's code may raise anything
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
    elif competition.answer in ("probability", "number"):
        columns[competition.label_column] = to_table(texts)[:, 0]
    else:
        columns[competition.label_column] = list(texts)
    return pd.DataFrame(columns)
