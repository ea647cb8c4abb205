"""How validation, public and private scores go together, and how lucky the best score is.

Validation scores compare only within one validation scheme. Private scores are those in the ledger:
typed in, imported, sent by the leaderboard or revealed. The private answers of a sealed solution
are never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

from tracker.comparison.comparable import SCHEME_KEYS, Scheme, find_scheme
from tracker.comparison.leaderboard_noise import (
    SampleSizes,
    SelectionBias,
    count_public_images,
    estimate_selection_bias,
)
from tracker.comparison.statistics.regression import (
    Line,
    RankCorrelation,
    find_outliers,
    fit_line,
    rank_correlation,
)
from tracker.ledger.read import find_metric_value, list_submissions
from tracker.ledger.records import Submission
from tracker.runs.record import RunRecord
from tracker.workspace.competition import Workspace

_PAIRS = (("val", "public"), ("val", "private"), ("public", "private"))


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A submission far from the line; `distance` is in residual standard deviations."""

    number: int
    x: float
    y: float
    expected: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class ScoreRelation:
    """How score `y` goes with score `x` over submissions `numbers`.

    `repeats` of the `n` points copy an earlier point. `scheme` is the index of the validation
    scheme in `CvLb.schemes`, None without validation scores. `reason` says why there is no line.
    """

    metric: str
    x: str
    y: str
    scheme: int | None
    n: int
    numbers: Sequence[int]
    repeats: int
    line: Line | None
    reason: str
    rank: RankCorrelation | None
    outliers: Sequence[Outlier]


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
    first.
    """

    submissions: int
    scored: int
    relations: Sequence[ScoreRelation]
    schemes: Sequence[Mapping[str, Any]]
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
    rows = list_submissions(workspace)
    metrics = [metric.name for metric in workspace.competition.metrics]
    schemes = group_by_scheme(workspace, rows)
    sample = count_public_images(workspace, given=public_images)
    relations: list[ScoreRelation] = []
    for metric, (x, y) in product(metrics, _PAIRS):
        relations += _relate(workspace, rows, schemes, (metric, x, y))
    return CvLb(
        submissions=len(rows),
        scored=sum(_has_public_score(row) for row in rows),
        relations=relations,
        schemes=_list_schemes(schemes),
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
    scheme = find_scheme(workspace, config, data=record.fingerprints.get("data"))
    relations = _relate(workspace, rows, schemes, (metric, "val", "public"))
    relation = next((item for item in relations if schemes[item.scheme or 0][0] == scheme), None)
    n = relation.n if relation else 0
    own = record.summary.get(f"val/{metric}")
    value = low = high = None
    reason, limited = "", False
    if own is None:
        reason = f"the run has no val/{metric}"
    elif relation is None or relation.line is None:
        same = "" if n < 3 else ", all with the same validation score"
        reason = (
            "needs 3 scored submissions with the validation scheme of this run;"
            f" there are {n}{same}"
        )
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
        left_out=sum(item.n for item in relations) - n,
        reason=reason,
        limited=limited,
    )


def relate_cv_to_public(
    workspace: Workspace, rows: Sequence[Submission], metric: str
) -> dict[int, ScoreRelation]:
    """Validation against public score within each submission's validation scheme, by number."""
    schemes = group_by_scheme(workspace, rows)
    relations = _relate(workspace, rows, schemes, (metric, "val", "public"))
    by_number: dict[int, ScoreRelation] = {}
    for relation in relations:
        by_number.update(dict.fromkeys(relation.numbers, relation))
    return by_number


def group_by_scheme(
    workspace: Workspace, rows: Sequence[Submission]
) -> list[tuple[Scheme, list[int]]]:
    """Validation schemes with their submissions; the largest first, then the oldest."""
    metrics = [metric.name for metric in workspace.competition.metrics]
    groups: dict[str, tuple[Scheme, list[int]]] = {}
    for row in rows:
        if any(find_metric_value(workspace, row, "val", name) is not None for name in metrics):
            scheme = find_scheme(workspace, row.config, data=row.data_fingerprint)
            groups.setdefault(json.dumps(scheme, sort_keys=True), (scheme, []))[1].append(
                row.number
            )
    return sorted(groups.values(), key=lambda group: -len(group[1]))


def _relate(
    workspace: Workspace,
    rows: Sequence[Submission],
    schemes: Sequence[tuple[Scheme, Sequence[int]]],
    names: tuple[str, str, str],
) -> list[ScoreRelation]:
    """(metric, x, y) over the submissions with both scores, the largest group first.

    Validation scores are related within each scheme.
    """
    metric, x, y = names
    scheme_of: dict[int, int] = {}
    for index, (_, numbers) in enumerate(schemes):
        scheme_of.update(dict.fromkeys(numbers, index))
    groups: dict[int | None, list[tuple[int, float, float]]] = {}
    for row in rows:
        a, b = (find_metric_value(workspace, row, part, metric) for part in (x, y))
        if a is not None and b is not None:
            scheme = scheme_of[row.number] if x == "val" else None
            groups.setdefault(scheme, []).append((row.number, a, b))
    relations = [_build_relation(names, scheme, points) for scheme, points in groups.items()]
    return sorted(relations, key=lambda item: (-item.n, item.scheme or 0))


def _build_relation(
    names: tuple[str, str, str], scheme: int | None, points: Sequence[tuple[int, float, float]]
) -> ScoreRelation:
    metric, x, y = names
    xs, ys = [a for _, a, _ in points], [b for _, _, b in points]
    line, distinct = fit_line(xs, ys), len(set(zip(xs, ys, strict=True)))
    outliers = []
    for index, distance in find_outliers(line, xs, ys) if line else ():
        assert line is not None  # noqa: S101
        expected = line.intercept + line.slope * xs[index]
        number = points[index][0]
        outliers.append(
            Outlier(number=number, x=xs[index], y=ys[index], expected=expected, distance=distance)
        )
    reason = ""
    if line is None:
        part = "validation" if x == "val" else x
        reason = f"all have the same {part} score"
        if len(points) < 3:
            reason = f"needs three, there are {len(points)}"
    return ScoreRelation(
        metric=metric,
        x=x,
        y=y,
        scheme=scheme,
        n=len(points),
        numbers=[point[0] for point in points],
        repeats=len(points) - distinct,
        line=line,
        reason=reason,
        rank=rank_correlation(xs, ys, distinct=distinct),
        outliers=outliers,
    )


def _list_schemes(schemes: Sequence[tuple[Scheme, Sequence[int]]]) -> list[dict[str, Any]]:
    """{values, numbers} of each scheme; `values` has the keys in which the schemes differ."""
    differing = []
    for key in SCHEME_KEYS:
        if len({json.dumps(scheme.get(key)) for scheme, _ in schemes}) > 1:
            differing.append(key)
    listed = []
    for scheme, numbers in schemes:
        values = {key: scheme.get(key) for key in differing}
        listed.append({"values": values, "numbers": numbers})
    return listed
