"""A submission as plain data: what `--json` prints and a frame has a row of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from tracker.comparison.marks import read_submission_marks
from tracker.comparison.search import search_submissions
from tracker.ledger.read import list_validation_scores
from tracker.ledger.records import Submission
from tracker.run_folder.read import look_once
from tracker.workspace.tracker_toml import Competition, Workspace

if TYPE_CHECKING:
    from tracker.core.list_marks import Marks


def submission_to_json(
    row: Submission,
    competition: Competition,
    validation: Mapping[int, Mapping[str, float]],
    *,
    sota: int | None,
    was: bool,
) -> dict[str, Any]:
    """The documented object of a submission: null where unknown.

    `validation` is {number: {metric: value}}, from `list_validation_scores` of the ledger.
    """
    plain = row.to_dict()
    scores = plain.pop("scores")
    splits = ("public", "private")
    known: dict[str, float | None] = {}
    for metric in competition.metrics:
        known |= {f"{split}_{metric.name}": None for split in splits}
        known[f"val_{metric.name}"] = validation.get(row.number, {}).get(metric.name)
    return {**known, **plain, **scores, "is_sota": row.number == sota, "was_sota": was}


def list_submission_rows(
    workspace: Workspace, *, sort: str = "", limit: int = 0
) -> Iterator[dict[str, Any]]:
    """The newest submissions, or the first by `sort` (`limit` 0: all), as documented objects.

    Each has its rank and the number of the first submission with the same predictions. Raises
    ConfigError for a name to sort by that no submission has.
    """
    competition = workspace.competition
    # very many ask for as many runs
    with nullcontext() if limit else look_once(workspace.runs_dir):
        rows, ranks = search_submissions(workspace, sort=sort, limit=limit)
        marks = read_submission_marks(workspace, rows)
        validation = list_validation_scores(workspace, rows)
    return _describe_rows(competition, rows, ranks, marks, validation)


def _describe_rows(
    competition: Competition,
    rows: Sequence[Submission],
    ranks: Mapping[int, int],
    marks: Marks,
    validation: Mapping[int, Mapping[str, float]],
) -> Iterator[dict[str, Any]]:
    for row in rows:
        was = row.number in marks.then or row.number == marks.now
        known = submission_to_json(row, competition, validation, sota=marks.now, was=was)
        known["rank"] = ranks.get(row.number)
        known["duplicate_of"] = marks.duplicates.get(row.number)
        yield known
