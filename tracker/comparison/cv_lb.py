"""How validation, public and private scores go together, and how lucky the best score is.

Validation scores compare only within one validation scheme. Private scores are those in the ledger:
typed in, imported, sent by the leaderboard or revealed. The private answers of a sealed solution
are never read.
"""

from __future__ import annotations

import json
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from typing import TYPE_CHECKING, Any

from tracker.comparison.audit import find_duplicates
from tracker.comparison.comparable import (
    DATA,
    SCHEME_KEYS,
    VALIDATION,
    Basis,
    Scheme,
    basis_of_run,
    basis_of_submission,
    is_known,
    is_same_scheme,
)
from tracker.comparison.members import find_row_config, is_flattered, list_flattered
from tracker.comparison.statistics.regression import (
    FEW_POINTS,
    MIN_ORDERED,
    MIN_TO_RANK,
    Line,
    RankCorrelation,
    find_outliers,
    fit_line,
    rank_correlation,
    shows_agreement,
)
from tracker.core.list_marks import FLATTERED
from tracker.ledger.read import find_metric_value, list_submissions
from tracker.ledger.records import Submission
from tracker.run_folder.record import RunRecord
from tracker.training.numbers import render_count
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.comparison.leaderboard_noise import SampleSizes, SelectionBias

UNKNOWN_VALIDATION = "how it validated is not known"
MAX_LEFT_OUT = 100  # points without each of which a line is looked at again
AGREEMENT = 0.5  # Spearman's rho; where it may be higher, validation may yet predict
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

    `repeats` of the `n` points copy an earlier one, or are of its duplicates: rho has them, but the
    line, the intervals and what follows from them count each point once. `scheme` is the index of
    the validation scheme in `CvLb.schemes`, None without validation scores. `reason` says why there
    is no line. `predicts`: the line rises and separates its outermost points, the interval of rho
    leaves out 0, and all that holds whichever single point is left out; any other line predicts
    nothing. `rests_on` is the only submission without which it does not hold. `refuted`: the points
    speak against it; with neither, they are too few to tell.
    """

    metric: str
    x: str
    y: str
    scheme: int | None
    n: int
    numbers: Sequence[int]
    repeats: int
    line: Line | None
    predicts: bool
    refuted: bool
    reason: str
    rank: RankCorrelation | None
    outliers: Sequence[Outlier]
    rests_on: int | None = None

    @property
    def points(self) -> int:
        """The number of different points."""
        return self.n - self.repeats


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
    from tracker.comparison.leaderboard_noise import count_public_images, estimate_selection_bias

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
        flattered=list_flattered(workspace, rows),
        unknown=[row.number for row in rows if _is_unknown(workspace, row)],
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
    index = _find_group(schemes, basis)
    relations = _relate(workspace, rows, schemes, (metric, "val", "public"))
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


def explain_no_prediction(relation: ScoreRelation) -> str:
    """Why no score is expected by a line that is there."""
    part = "validation" if relation.x == "val" else relation.x
    if relation.refuted:
        return f"{part} does not predict the {relation.y} score here ({relation.points} points)"
    if relation.rests_on is not None:
        return (
            f"{part} predicts the {relation.y} score here by submission {relation.rests_on} alone:"
            " without it, the other points show no line"
        )
    points = relation.points
    if points < FEW_POINTS or _holds_no_agreement(relation.rank):
        return (
            f"{render_count(points, 'point')} are too few to tell whether {part} predicts the"
            f" {relation.y} score"
        )
    return (
        f"{part} and {relation.y} score rise together here, but too loosely to predict one from the"
        f" other ({points} points)"
    )


def _holds_no_agreement(rank: RankCorrelation | None) -> bool:
    """Whether the true rank correlation may be 0."""
    return rank is None or rank.low is None or rank.low <= 0


def explain_unused(workspace: Workspace, row: Submission, relation: ScoreRelation | None) -> str:
    """Why the validation score of a submission predicts no public score; empty where it does."""
    if is_flattered(workspace, find_row_config(workspace, row)):
        return FLATTERED
    if _is_unknown(workspace, row):
        return UNKNOWN_VALIDATION
    if relation is None:
        return "no line: needs three"
    if relation.line is None:
        return f"no line: {relation.reason}"
    return "" if relation.predicts else explain_no_prediction(relation)


def is_undecided(relation: ScoreRelation) -> bool:
    """Whether there is a line, but too few points to tell whether it predicts."""
    return relation.line is not None and not relation.predicts and not relation.refuted


@dataclass(frozen=True, kw_only=True)
class SchemeGroup:
    """The validated submissions of one validation scheme, and what they were measured on."""

    bases: list[Basis] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)

    def holds(self, basis: Basis) -> bool:
        """Whether validation scores on this basis belong in the group's line."""
        return any(is_same_scheme(basis, other) for other in self.bases)

    @property
    def scheme(self) -> Scheme:
        """The keys that tell the group from others; images of own loops by validation.npz."""
        known = [basis for basis in self.bases if not basis.own and basis.scheme]
        basis = (known or self.bases)[0]
        if known or not basis.checksums:
            return basis.scheme
        images = f"{VALIDATION} {basis.checksums[0]:08x}{basis.checksums[1]:08x}"
        return {**basis.scheme, DATA: images}


def _find_group(groups: Sequence[SchemeGroup], basis: Basis) -> int | None:
    """The index of the largest group that a run belongs to."""
    if not is_known(basis):
        return None
    return next((index for index, group in enumerate(groups) if group.holds(basis)), None)


def _is_unknown(workspace: Workspace, row: Submission) -> bool:
    """Whether it has a validation score, and nobody knows on which images."""
    if not _is_validated(workspace, row):
        return False
    return not is_known(basis_of_submission(workspace, row))


def _is_validated(workspace: Workspace, row: Submission) -> bool:
    metrics = workspace.competition.metrics
    return any(
        find_metric_value(workspace, row, "val", metric.name) is not None for metric in metrics
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


def group_by_scheme(workspace: Workspace, rows: Sequence[Submission]) -> list[SchemeGroup]:
    """Validation schemes with their validated submissions; the largest first, then the oldest.

    Unknown schemes are left out. A row that belongs in several groups joins them.
    """
    groups: list[SchemeGroup] = []
    for row in rows:
        if not _is_validated(workspace, row):
            continue
        basis = basis_of_submission(workspace, row)
        if is_known(basis):
            groups = _add_to_groups(groups, basis, row.number)
    for group in groups:
        group.numbers.sort()
    return sorted(groups, key=lambda group: (-len(group.numbers), group.numbers[0]))


def _add_to_groups(groups: Sequence[SchemeGroup], basis: Basis, number: int) -> list[SchemeGroup]:
    """The groups with one more submission; those that it belongs to are one from then on."""
    holding: list[SchemeGroup] = []
    others: list[SchemeGroup] = []
    for group in groups:
        (holding if group.holds(basis) else others).append(group)
    joined = holding[0] if holding else SchemeGroup()
    for group in holding[1:]:
        joined.bases.extend(group.bases)
        joined.numbers.extend(group.numbers)
    # One basis of each kind is enough: the next comparison may have to read its file.
    if not any(_measures_the_same(basis, other) for other in joined.bases):
        joined.bases.append(basis)
    joined.numbers.append(number)
    return [*others, joined]


def _measures_the_same(a: Basis, b: Basis) -> bool:
    return (a.own, a.scheme, a.checksums) == (b.own, b.scheme, b.checksums)


def _relate(
    workspace: Workspace,
    rows: Sequence[Submission],
    schemes: Sequence[SchemeGroup],
    names: tuple[str, str, str],
) -> list[ScoreRelation]:
    """(metric, x, y) over the submissions with both scores, the largest group first.

    Validation scores are related within each scheme.
    """
    metric, x, y = names
    scheme_of: dict[int, int] = {}
    for index, group in enumerate(schemes):
        scheme_of.update(dict.fromkeys(group.numbers, index))
    groups: dict[int | None, list[tuple[int, float, float]]] = {}
    flattered = set(list_flattered(workspace, rows) if x == "val" else [])
    for row in rows:
        if x == "val" and (row.number not in scheme_of or row.number in flattered):
            continue
        a, b = (find_metric_value(workspace, row, part, metric) for part in (x, y))
        if a is not None and b is not None:
            scheme = scheme_of[row.number] if x == "val" else None
            groups.setdefault(scheme, []).append((row.number, a, b))
    copied = {item["number"]: item["equal_to"] for item in find_duplicates(rows)}
    relations = [
        _build_relation(names, scheme, points, copied) for scheme, points in groups.items()
    ]
    return sorted(relations, key=lambda item: (-item.n, item.scheme or 0))


def _build_relation(
    names: tuple[str, str, str],
    scheme: int | None,
    points: Sequence[tuple[int, float, float]],
    copied: Mapping[int, int],
) -> ScoreRelation:
    """`copied` has the earlier submission that each duplicate repeats."""
    metric, x, y = names
    numbers = [number for number, _, _ in points]
    different: dict[tuple[float, float], int] = {}
    here = set(numbers)
    for number, a, b in points:
        if copied.get(number) not in here:
            different.setdefault((a, b), number)
    distinct = len(different)
    xs, ys = [a for a, _ in different], [b for _, b in different]
    line = fit_line(xs, ys)
    rank = rank_correlation([a for _, a, _ in points], [b for _, _, b in points], distinct=distinct)
    needed = _list_needed(sorted(different))
    reason = ""
    if line is None:
        part = "validation" if x == "val" else x
        apart = " but duplicates" if distinct < len(points) else ""
        reason = f"all{apart} have the same {part} score"
        if distinct < MIN_TO_RANK:
            which = " without duplicates" if apart else ""
            reason = f"needs three, there are {distinct}{which}"
    return ScoreRelation(
        metric=metric,
        x=x,
        y=y,
        scheme=scheme,
        n=len(points),
        numbers=numbers,
        repeats=len(points) - distinct,
        line=line,
        predicts=needed == [],
        refuted=line is not None and needed is None and _is_refuted(rank, distinct),
        reason=reason,
        rank=rank,
        outliers=_list_outliers(line, different) if line else (),
        rests_on=different[needed[0]] if needed and len(needed) == 1 else None,
    )


def _list_outliers(line: Line, points: Mapping[tuple[float, float], int]) -> list[Outlier]:
    """The points {(x, y): submission} that are far from the line."""
    xs, ys, outliers = [x for x, _ in points], [y for _, y in points], []
    for index, distance in find_outliers(line, xs, ys):
        expected = line.intercept + line.slope * xs[index]
        number = points[xs[index], ys[index]]
        outliers.append(
            Outlier(number=number, x=xs[index], y=ys[index], expected=expected, distance=distance)
        )
    return outliers


def _list_needed(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]] | None:
    """The points, each by itself, without which the others show no line; None if all show none.

    Of very many points only the `MAX_LEFT_OUT` farthest from the line's middle are left out in
    turn: any other moves the line less than these.
    """
    if not _shows_line(points):
        return None
    asked: Sequence[int] = range(len(points))
    if len(points) > MAX_LEFT_OUT:
        asked = _list_farthest(points)
    needed = []
    for index in asked:
        if not _shows_line([*points[:index], *points[index + 1 :]]):
            needed.append(points[index])
    return needed


def _list_farthest(points: Sequence[tuple[float, float]]) -> list[int]:
    """The indexes of the `MAX_LEFT_OUT` points that pull most at a line, in their order."""
    middle = [statistics.fmean(values) for values in zip(*points, strict=True)]
    pull = [abs((x - middle[0]) * (y - middle[1])) for x, y in points]
    farthest = sorted(range(len(points)), key=lambda index: -pull[index])[:MAX_LEFT_OUT]
    return sorted(farthest)


def _shows_line(points: Sequence[tuple[float, float]]) -> bool:
    """Whether distinct points, by x, agree in order, and their line tells the outermost two apart.

    A line that falls shows nothing.
    """
    xs, ys = [x for x, _ in points], [y for _, y in points]
    line = fit_line(xs, ys)
    if line is None or line.slope <= 0 or not line.separates(xs[0], xs[-1]):
        return False
    return shows_agreement(xs, ys)


def _is_refuted(rank: RankCorrelation | None, distinct: int) -> bool:
    """Whether agreement is out of the question: above the whole interval of rho.

    Of few points, any agreement at all; of many, agreement worth the name.
    """
    if rank is None:
        return False
    if rank.high is None:  # of scores in exactly one order there is no interval
        return rank.rho < 0 and distinct >= MIN_ORDERED
    return rank.high < (0.0 if distinct < FEW_POINTS else AGREEMENT)


def _list_schemes(groups: Sequence[SchemeGroup]) -> list[dict[str, Any]]:
    """{values, numbers} of each scheme; `values` has the keys in which the schemes differ."""
    differing = []
    schemes = [group.scheme for group in groups]
    for key in SCHEME_KEYS:
        if len({json.dumps(scheme.get(key)) for scheme in schemes}) > 1:
            differing.append(key)
    listed = []
    for scheme, group in zip(schemes, groups, strict=True):
        values = {key: scheme.get(key) for key in differing}
        listed.append({"values": values, "numbers": group.numbers})
    return listed
