"""How validation, public and private scores go together, and how lucky the best score is.

Private scores are those in the ledger: typed in, imported, sent by the leaderboard or revealed. The
private answers of a sealed solution are never read. The relations are those of score_relation.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

from tracker.comparison.comparable import (
    basis_of_run,
    is_known,
)
from tracker.comparison.members import is_flattered, list_flattered
from tracker.comparison.score_relation import (
    ScoreRelation,
    explain_no_prediction,
    find_group,
    group_by_scheme,
    is_validation_unknown,
    list_schemes,
    relate,
)
from tracker.core.list_marks import FLATTERED
from tracker.ledger.read import list_submissions
from tracker.ledger.records import Submission
from tracker.run_folder.read import look_once
from tracker.run_folder.record import RunRecord
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.comparison.expected_scores import SelectionBias
    from tracker.comparison.leaderboard_noise import SampleSizes

_PAIRS = (("val", "public"), ("val", "private"), ("public", "private"))


@dataclass(frozen=True, kw_only=True)
class PublicPrediction:
    """The public score to expect of a run: 95 % interval `low` to `high`, or `reason` why not.

    `limited` says that the line went beyond the possible values of the metric, so the figures are
    cut off there.
    """

    metric: str
    validation: float | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    left_out: int
    reason: str
    limited: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class CvLb:
    """Cross-validation against the leaderboard.

    `schemes` has the submissions of each validation scheme and what distinguishes it, the largest
    first. Neither `flattered` submissions (their weights were searched on the validation images)
    nor those of an `unknown` scheme are in a line with validation.
    """

    submissions: int
    scored: int
    relations: Sequence[ScoreRelation]
    schemes: Sequence[Mapping[str, Any]]
    flattered: Sequence[int]
    unknown: Sequence[int]
    sample: SampleSizes
    luck: SelectionBias | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def compare_cv_with_leaderboard(workspace: Workspace, *, public_images: int = 0) -> CvLb:
    """Relate the scores of every submission in the ledger.

    `public_images` is their number where nothing else says it. Raises ConfigError for a number
    below 0, LedgerError if the ledger cannot be reached.
    """
    with look_once(workspace.runs_dir):
        return _compare(workspace, list_submissions(workspace), public_images)


def _compare(workspace: Workspace, rows: Sequence[Submission], public_images: int) -> CvLb:
    from tracker.comparison.expected_scores import estimate_selection_bias
    from tracker.comparison.leaderboard_noise import count_public_images

    metrics = [metric.name for metric in workspace.competition.metrics]
    schemes = group_by_scheme(workspace, rows)
    sample = count_public_images(workspace, given=public_images)
    relations: list[ScoreRelation] = []
    for metric, (x, y) in product(metrics, _PAIRS):
        relations += relate(workspace, rows, schemes, (metric, x, y))
    return CvLb(
        submissions=len(rows),
        scored=sum(_has_public_score(row) for row in rows),
        relations=relations,
        schemes=list_schemes(schemes),
        flattered=list_flattered(workspace, rows),
        unknown=[row.number for row in rows if is_validation_unknown(workspace, row)],
        sample=sample,
        luck=estimate_selection_bias(workspace, rows, sample),
    )


def _has_public_score(row: Submission) -> bool:
    return any(name.startswith("public_") for name in row.scores)


def predict_public_score(
    workspace: Workspace, record: RunRecord, config: Mapping[str, Any]
) -> PublicPrediction:
    """The primary public score to expect of a run, by submissions with its validation scheme."""
    metric = workspace.competition.primary_metric
    rows = list_submissions(workspace)
    schemes = group_by_scheme(workspace, rows)
    basis = basis_of_run(workspace, record, config)
    index = find_group(schemes, basis)
    relations = relate(workspace, rows, schemes, (metric, "val", "public"))
    relation = next((item for item in relations if item.scheme == index), None)
    n = relation.points if relation else 0
    own = record.summary.get(f"val/{metric}")
    value = low = high = None
    reason, limited = "", False
    if own is None:
        reason = f"the run has no val/{metric}"
    elif is_flattered(workspace, config):
        reason = f"the validation score of {record.name} is {FLATTERED}"
    elif not is_known(basis):
        reason = f"how {record.name} validated is not known"
    elif relation is None or relation.line is None:
        same = "" if n < 3 else ", all with the same validation score"
        reason = (
            "needs 3 scored submissions with the validation scheme of this run;"
            f" there are {n}{same}"
        )
    elif not relation.predicts:
        reason = explain_no_prediction(relation)
    else:
        predicted = relation.line.predict(own)
        value, low, high = (workspace.competition.primary.clip(number) for number in predicted)
        limited = (value, low, high) != predicted
    return PublicPrediction(
        metric=metric,
        validation=own,
        value=value,
        low=low,
        high=high,
        n=n,
        left_out=sum(item.n for item in relations if item is not relation),
        reason=reason,
        limited=limited,
    )
