"""From probabilities to an answer: arg max, thresholds, cut points, the best k."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tracker.training.config import EvalConfig
from tracker.training.errors import ConfigError, DataError
from tracker.training.files import write_text
from tracker.training.formats.samples import Task, TaskMetric
from tracker.training.metrics import find_kind
from tracker.training.predict import DECISION
from tracker.training.predict.probabilities import (
    Predictions,
    measure_classes,
    save_probabilities,
)
from tracker.training.scorers import Outcome, compute
from tracker.training.tables import write_table

GRID = np.arange(0.02, 0.99, 0.01)  # thresholds that are tried
ROUNDS = 3  # over the classes; more changes hardly a threshold


@dataclass(frozen=True, kw_only=True)
class Decision:
    """How probabilities become answers.

    `rule` is "argmax", "thresholds" (of each class), "expected" (the rounded expected class) or
    "cuts" (`values` are limits of the expected class). `note` says what tuning changed.
    """

    rule: str
    values: tuple[float, ...] = ()
    note: str = ""


def has_choice(task: Task) -> bool:
    """Whether there is another way from scores to answers than the plain one.

    Scores and lists of the best classes are answers as they are.
    """
    answers = task.answer not in ("columns", "probability", "ranked")
    return answers and task.target in ("binary", "labels", "ordered")


def plain_decision(task: Task, config: EvalConfig) -> Decision:
    """The decision before anything is tuned."""
    if task.target == "labels" or (task.target == "binary" and config.threshold != 0.5):
        return Decision(rule="thresholds", values=(config.threshold,) * len(task.classes))
    if task.target == "ordered" and config.decide == "expected":
        return Decision(rule="expected")
    return Decision(rule="argmax")


def choose_decision(task: Task, config: EvalConfig, validation: Predictions) -> Decision:
    """The decision of the config, tuned on the validation images where it says so.

    Tuned are thresholds of "binary" and "labels", and cut points of "ordered", for the deciding
    metric of the competition.
    """
    plain = plain_decision(task, config)
    metric = task.metrics[0] if task.metrics else None
    if config.decide != "tuned" or metric is None or validation.labels is None:
        return plain
    computed = find_kind(metric.kind)
    if computed is None or "decided" not in computed.needs:
        return plain
    measure = _build_measure(task, metric, validation)
    if task.target == "ordered":
        tuned = _tune_cuts(measure, len(task.classes))
    elif task.target in ("binary", "labels"):
        tuned = _tune_thresholds(measure, plain, len(task.classes))
    else:
        return plain
    before, after = measure(plain), measure(tuned)
    if after <= before:
        return plain
    sign = 1 if metric.higher_is_better else -1
    note = (
        f"{tuned.rule} tuned on {len(validation.ids)} validation images: {metric.name}"
        f" {sign * before:.4f} -> {sign * after:.4f} on these same images, which flatters it"
    )
    return Decision(rule=tuned.rule, values=tuned.values, note=note)


def decide(probabilities: NDArray[Any], task: Task, decision: Decision) -> NDArray[Any]:
    """Class numbers [images], 0 and 1 [images, classes], or numbers [images]."""
    if task.target == "number":
        numbers: NDArray[Any] = probabilities[:, 0]
        return numbers
    if decision.rule == "thresholds":
        if task.target == "labels":
            return (probabilities >= np.asarray(decision.values)).astype(np.int64)
        return (probabilities[:, 1] >= decision.values[-1]).astype(np.int64)
    if decision.rule in ("expected", "cuts"):
        classes = probabilities.shape[1]
        expected = probabilities @ np.arange(classes)
        cuts = decision.values or tuple(np.arange(classes - 1) + 0.5)
        return np.searchsorted(np.sort(cuts), expected, side="right").astype(np.int64)
    chosen: NDArray[Any] = probabilities.argmax(axis=1).astype(np.int64)
    return chosen


def build_outcome(predictions: Predictions, task: Task, decision: Decision) -> Outcome:
    """Truth and predictions of labeled images, for the metrics of the competition."""
    truth = np.asarray(predictions.labels)
    if task.target == "number":
        truth = truth[:, 0]
    elif task.target == "labels":
        truth = truth.astype(np.int64)
    scores = predictions.probabilities.astype(np.float64)
    return Outcome(
        classes=len(task.classes),
        truth=truth,
        decided=decide(scores, task, decision),
        scores=None if task.target == "number" else scores,
        ids=np.array(predictions.ids) if any(metric.function for metric in task.metrics) else None,
    )


def measure(
    validation: Predictions,
    task: Task,
    decision: Decision | None = None,
    *,
    on_failure: Callable[[str], None] = lambda _: None,
) -> dict[str, float]:
    """val/NAME of the metrics of labeled images: the competition's, and those of every run.

    All are of the classes that `decision` gives, by default the plain one. NaN where a metric is
    not defined for these images, and where a judge's function fails: `on_failure` gets why.
    """
    decision = decision or plain_decision(task, EvalConfig())
    usual = {}
    if validation.has_classes:
        usual = measure_classes(validation, decide(validation.probabilities, task, decision))
    own = [metric for metric in task.metrics if f"val/{metric.name}" not in usual]
    if not own:
        return usual
    outcome = build_outcome(validation, task, decision)
    values = {f"val/{metric.name}": compute_metric(metric, outcome, on_failure) for metric in own}
    return values | usual


def compute_metric(
    metric: TaskMetric, outcome: Outcome, on_failure: Callable[[str], None] = lambda _: None
) -> float:
    """A metric of an outcome; NaN where it is not defined or its function fails."""
    if metric.function is not None:
        try:
            return metric.function(outcome)
        except (DataError, ConfigError) as error:
            on_failure(str(error))
            return float("nan")
    computed = find_kind(metric.kind)
    assert computed is not None  # noqa: S101  (a task has no other metrics)
    assert computed.from_outcome is not None  # noqa: S101
    try:
        return compute(computed.from_outcome, outcome, metric.parameters)
    except DataError:
        return float("nan")


def render_rows(
    predictions: Predictions, task: Task, decision: Decision
) -> tuple[tuple[str, ...], list[list[Any]]]:
    """(columns, rows) of predictions.csv: the id, then what the competition asks for."""
    scores, words = predictions.probabilities, task.answer_words
    columns: tuple[str, ...] = (task.label_column,)
    cells: list[list[Any]]
    if task.answer == "columns":
        columns = task.answer_columns or task.classes
        cells = [[_shorten(value) for value in row] for row in scores]
    elif task.answer == "probability":
        cells = [[_shorten(value)] for value in scores[:, -1]]
    elif task.answer == "ranked":
        order = np.argsort(-scores, axis=1, kind="stable")[:, : task.top_k]
        cells = [[" ".join(words[index] for index in row)] for row in order]
    else:
        decided = decide(scores, task, decision)
        if task.answer == "number":
            cells = [[_shorten(value)] for value in decided]
        elif task.answer == "labels":
            table = decided if decided.ndim == 2 else np.eye(len(words), dtype=int)[decided]
            cells = [[" ".join(words[index] for index in np.flatnonzero(row))] for row in table]
        else:
            cells = [[words[index]] for index in decided]
    rows = [[name, *row] for name, row in zip(predictions.ids, cells, strict=True)]
    return (task.id_column, *columns), rows


def save_predictions(
    run_dir: Path, predictions: Predictions, task: Task, decision: Decision
) -> Path:
    """Write probabilities.npz, then predictions.csv as the competition asks; returns its path.

    Raises StorageError.
    """
    save_probabilities(run_dir / "probabilities.npz", predictions)
    path = run_dir / "predictions.csv"
    write_table(path, *render_rows(predictions, task, decision))
    return path


def save_decision(run_dir: Path, decision: Decision) -> None:
    """Write decision.json, unless the decision is the plain arg max; raises StorageError."""
    path = run_dir / DECISION
    if decision.rule == "argmax":
        path.unlink(missing_ok=True)
        return
    write_text(path, json.dumps(asdict(decision), indent=1) + "\n")


def load_decision(run_dir: Path, task: Task) -> Decision:
    """The decision of a run folder, the plain one where none is saved; raises DataError."""
    path = run_dir / DECISION
    try:
        saved = json.loads(path.read_text(encoding="utf-8"))
        return Decision(
            rule=str(saved["rule"]), values=tuple(map(float, saved["values"])), note=saved["note"]
        )
    except FileNotFoundError:
        return plain_decision(task, EvalConfig())
    except (OSError, ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise DataError(f"cannot read {path}: {error}") from error


def _shorten(value: Any) -> str:
    """The shortest text of a number, in its own precision."""
    return str(value)


Measure = Callable[[Decision], float]


def _build_measure(task: Task, metric: TaskMetric, validation: Predictions) -> Measure:
    """The metric of a decision, where more is better; -inf where it is not defined."""
    sign = 1 if metric.higher_is_better else -1

    def measure(decision: Decision) -> float:
        value = compute_metric(metric, build_outcome(validation, task, decision))
        return -np.inf if np.isnan(value) else sign * value

    return measure


def _tune_thresholds(measure: Measure, plain: Decision, classes: int) -> Decision:
    """One threshold for all classes, then each class by itself, the others as they are."""

    def build(values: tuple[float, ...]) -> Decision:
        return Decision(rule="thresholds", values=values)

    start = build(plain.values or (0.5,) * classes)
    candidates = [start, *(build((float(value),) * classes) for value in GRID)]
    scores = [measure(candidate) for candidate in candidates]
    score = max(scores)
    best = candidates[scores.index(score)]
    for _ in range(ROUNDS if classes > 2 else 0):
        before = best
        for index in range(classes):
            for value in GRID:
                values = (*best.values[:index], float(value), *best.values[index + 1 :])
                changed = measure(build(values))
                if changed > score:
                    best, score = build(values), changed
        if best == before:
            break
    return best


def _tune_cuts(measure: Measure, classes: int) -> Decision:
    """Limits between the classes, from halfway on, by the Nelder-Mead search."""
    from scipy.optimize import minimize

    def loss(values: NDArray[np.float64]) -> float:
        return -measure(Decision(rule="cuts", values=tuple(np.sort(values).tolist())))

    start = np.arange(classes - 1) + 0.5
    # the metric is a step function: a first simplex of a tenth of a class leaves the first step
    simplex = np.vstack([start, start + 0.1 * np.eye(classes - 1)])
    options = {"initial_simplex": simplex, "maxfev": 200 * classes}
    result = minimize(loss, start, method="Nelder-Mead", options=options)
    return Decision(rule="cuts", values=tuple(np.sort(result.x).tolist()))
