"""Two runs side by side: what was changed and what came of it. Plain data; report.py renders it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from tracker.configdiff import diff_configs
from tracker.errors import TrackerError
from tracker.ledger_read import (
    Note,
    Submission,
    find_sota,
    get_packed_answers,
    get_submission,
    has_run,
    list_notes,
    list_submissions_of,
    resolve_run,
)
from tracker.predictions import Answers, diff_answers, load_answers, unpack_answers
from tracker.runs import load_config, load_run
from tracker.workspace import Competition, Workspace
from training.tables import flatten

LOWER_IS_BETTER = ("loss",)
FIGURES = ("loss", "accuracy", "f1")
NOT_COMPARED = ("train/images_per_s", "train/data_wait", "train/lr")


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What differs between run `a` and run `b`; `better` is "a" or "b", None for a tie or an unknown side."""

    a: str
    b: str
    config: Mapping[str, list[Any]]
    metrics: Mapping[str, Mapping[str, Any]]
    best_epoch: list[int | None]
    predictions: Mapping[str, Any] | None
    code: Mapping[str, Any]
    data: Mapping[str, Any]
    submissions: list[int | None]
    notes: Mapping[str, Sequence[Note]]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Side:
    """What is compared: a run of this workspace, or a submission that is known from the ledger alone."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    best_epoch: int | None
    fingerprints: Mapping[str, str | None]
    submission: int | None
    notes: Sequence[Note]
    answers: Callable[[], Answers | None]


def load_side(workspace: Workspace, word: str) -> Side:
    """The run or submission meant by `exp12`, `latest`, `sota` or `s12`; raises UnknownRunError."""
    row = None
    if word[:1] == "s" and word[1:].isdigit():
        row = get_submission(workspace, int(word[1:]))
    elif word == "sota":
        row = find_sota(workspace)
    if row is None or has_run(workspace, row):
        return _load_run_side(workspace, resolve_run(workspace, word), row)
    prints = {"predictions": row.predictions_fingerprint, "weights": row.weights_fingerprint}
    prints |= {"data": row.data_fingerprint, "code": row.code_fingerprint}
    figures = {f"{part}/{name}": getattr(row, f"{part}_{name}") for part in ("train", "val") for name in FIGURES}
    return Side(
        name=f"s{row.number}",
        config=row.config,
        metrics={**row.scores, **figures},
        best_epoch=row.best_epoch,
        fingerprints=prints,
        submission=row.number,
        notes=row.notes,
        answers=lambda: _unpack(workspace, row.number),
    )


def _unpack(workspace: Workspace, number: int) -> Answers | None:
    packed = get_packed_answers(workspace, number)
    return unpack_answers(packed) if packed else None


def _load_run_side(workspace: Workspace, name: str, row: Submission | None) -> Side:
    record = load_run(workspace.runs_dir, name)
    if row is None:
        row = next(reversed(list_submissions_of(workspace, record)), None)
    path = workspace.runs_dir / name / "predictions.csv"
    return Side(
        name=name,
        config=load_config(workspace.runs_dir, name),
        metrics={**(row.scores if row else {}), **record.summary},
        best_epoch=record.best_epoch,
        fingerprints=record.fingerprints,
        submission=row.number if row else None,
        notes=list_notes(workspace).get(record.uid, ()),
        answers=lambda: load_answers(path, workspace.competition) if path.is_file() else None,
    )


def diff_runs(workspace: Workspace, a: str, b: str, *, everything: bool = False) -> RunDiff:
    """Compare two runs or submissions; with `everything`, equal config keys and metrics are included."""
    left, right = load_side(workspace, a), load_side(workspace, b)
    if everything:
        flat = [flatten(side.config) for side in (left, right)]
        keys = [*flat[0], *(key for key in flat[1] if key not in flat[0])]
        config = {key: [flat[0].get(key), flat[1].get(key)] for key in keys}
    else:
        config = diff_configs(left.config, right.config)
    return RunDiff(
        a=left.name,
        b=right.name,
        config=config,
        metrics=_diff_metrics(workspace, left, right, everything=everything),
        best_epoch=[left.best_epoch, right.best_epoch],
        predictions=_diff_predictions(left, right),
        code=_diff_fingerprint(left, right, "code"),
        data=_diff_fingerprint(left, right, "data"),
        submissions=[left.submission, right.submission],
        notes={side.name: side.notes for side in (left, right) if side.notes},
    )


def _diff_metrics(workspace: Workspace, left: Side, right: Side, *, everything: bool) -> dict[str, dict[str, Any]]:
    """Leaderboard scores first, then the metrics of the best epochs."""
    names = [*left.metrics, *(name for name in right.metrics if name not in left.metrics)]
    names.sort(key=lambda name: "/" in name)
    found = {}
    for name in names:
        a, b = left.metrics.get(name), right.metrics.get(name)
        if name in NOT_COMPARED or (a == b and not everything):
            continue
        delta = None if a is None or b is None else b - a
        better = None
        if delta:
            better = "b" if (delta > 0) == higher_is_better(workspace.competition, name) else "a"
        found[name] = {"a": a, "b": b, "delta": delta, "better": better}
    return found


def higher_is_better(competition: Competition, name: str) -> bool:
    """Direction of a run's metric (`val/loss`) or of a score (`public_f1`); raises ConfigError for an unknown score."""
    if "/" in name:
        return name.rpartition("/")[2] not in LOWER_IS_BETTER
    return competition.metric(name.partition("_")[2]).higher_is_better


def _diff_predictions(left: Side, right: Side) -> dict[str, Any] | None:
    """Share of equal predictions over the images that both predicted, None when one has none."""
    try:
        old, new = left.answers(), right.answers()
    except TrackerError as error:
        return {"equal_share": None, "changed": None, "total": None, "problem": str(error)}
    if old is None or new is None:
        return None
    diff = diff_answers(old, new)
    return {"equal_share": diff.equal_share, "changed": diff.changed, "total": diff.total}


def _diff_fingerprint(left: Side, right: Side, name: str) -> dict[str, Any]:
    a, b = left.fingerprints.get(name), right.fingerprints.get(name)
    return {"equal": a == b, "a": a, "b": b}
