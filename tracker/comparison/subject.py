"""What can be compared: a run of this workspace, or a submission known only from the ledger."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

from tracker.comparison.advice import Advice, advise_run
from tracker.comparison.comparable import Basis, basis_of_run, basis_of_submission
from tracker.comparison.members import find_row_config
from tracker.ledger.read import (
    find_sota,
    get_submission,
    has_run,
    list_notes,
    list_submissions_of,
    load_sent_answers,
    read_imported_metric,
)
from tracker.ledger.records import Note, Submission
from tracker.ledger.resolve import load_resolved, parse_submission
from tracker.run_folder.points import Curves, read_curves
from tracker.run_folder.read import load_compared_config
from tracker.run_folder.record import RunRecord, run_folder
from tracker.workspace.metrics import COLUMNS, deciding_first, list_model_metrics
from tracker.workspace.predictions import Answers, load_answers
from tracker.workspace.tracker_toml import Workspace


class Subject(NamedTuple):
    """A run of this workspace, or a submission known only from the ledger."""

    name: str
    config: Mapping[str, Any]
    metrics: Mapping[str, float | None]
    best_epoch: int | None
    fingerprints: Mapping[str, str | None]
    submission: int | None
    notes: Sequence[Note]
    answers: Callable[[], Answers | None]
    curves: Curves
    basis: Basis
    folder: Path | None = None
    advice: Advice | None = None
    recorded: bool = True  # by a run, not a row of a table kept by hand


def load_subject(workspace: Workspace, word: str) -> Subject:
    """The run or submission named `exp12`, `mina/exp12`, `latest`, `sota` or `s12`.

    Raises UnknownRunError.
    """
    row = None
    if (number := parse_submission(word)) is not None:
        row = get_submission(workspace, number)
    elif word == "sota":
        row = find_sota(workspace)
    if row is None or has_run(workspace, row):
        return _load_run_subject(workspace, load_resolved(workspace, word), row)
    fingerprints = {
        "predictions": row.predictions_fingerprint,
        "weights": row.weights_fingerprint,
        "data": row.data_fingerprint,
        "code": row.code_fingerprint,
    }
    figures = {}
    for part, name in product(("train", "val"), COLUMNS):
        figures[f"{part}/{name}"] = getattr(row, f"{part}_{name}")
    for metric in workspace.competition.metrics:
        imported = read_imported_metric(workspace.competition, row, metric.name)
        if imported is not None:
            figures.setdefault(f"val/{metric.name}", imported)
    return Subject(
        name=f"s{row.number}",
        config=find_row_config(workspace, row),
        metrics={**row.scores, **figures},
        best_epoch=row.best_epoch,
        fingerprints=fingerprints,
        submission=row.number,
        notes=row.notes,
        answers=lambda: load_sent_answers(workspace, row.number),
        curves={},
        basis=basis_of_submission(workspace, row)._replace(name=f"s{row.number}"),
        recorded=row.run_uid is not None,
    )


def _load_run_subject(workspace: Workspace, record: RunRecord, row: Submission | None) -> Subject:
    if row is None:
        row = next(reversed(list_submissions_of(workspace, record)), None)
    folder = run_folder(workspace.runs_dir, record.name)
    config = load_compared_config(workspace.runs_dir, record)
    path, curves = folder / "predictions.csv", read_curves(folder / "metrics.jsonl")
    return Subject(
        name=record.name,
        config=config,
        metrics={**(row.scores if row else {}), **list_model_metrics(record.summary)},
        best_epoch=record.best_epoch,
        fingerprints=record.fingerprints,
        submission=row.number if row else None,
        notes=list_notes(workspace, [record.uid]).get(record.uid, ()),
        answers=lambda: load_answers(path, workspace.competition) if path.is_file() else None,
        folder=folder,
        curves=curves,
        advice=advise_run(record, config, curves, deciding_first(workspace.competition)),
        basis=basis_of_run(workspace, record, config),
    )
