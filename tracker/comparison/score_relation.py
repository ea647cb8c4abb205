"""Whether one score of the submissions predicts another: points, line, and what it rests on.

Validation scores compare only within one validation scheme.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tracker.comparison.comparable import (
    DATA,
    SCHEME_KEYS,
    VALIDATION,
    Basis,
    Scheme,
    basis_of_submission,
    is_known,
    is_same_scheme,
)
from tracker.comparison.duplicates import find_duplicates
from tracker.comparison.members import find_row_config, is_flattered, list_flattered
from tracker.comparison.statistics.regression import (
    FEW_POINTS,
    MIN_ORDERED,
    MIN_TO_RANK,
    Line,
    RankCorrelation,
    drop_rank,
    find_outliers,
    fit_line,
    hold_without,
    rank_correlation,
    rank_values,
    show_agreement,
)
from tracker.core.list_marks import FLATTERED
from tracker.ledger.read import metric_getter
from tracker.ledger.records import Submission
from tracker.run_folder.look import remember, remember_of
from tracker.training.numbers import render_count
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

UNKNOWN_VALIDATION = "how it validated is not known"
MAX_LEFT_OUT = 100  # points without each of which a line is looked at again
AGREEMENT = 0.5  # Spearman's rho; where it may be higher, validation may yet predict


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

    `repeats` of the `n` are duplicates of another one among them (`find_duplicates`): rho has them,
    but the line, the intervals and what follows from them count each answer once. `scheme` is the
    index of the validation scheme in `CvLb.schemes`, None without validation scores. `reason` says
    why there is no line. `predicts`: the line rises and separates its outermost points, the
    interval of rho leaves out 0, and all that holds whichever single point is left out; any other
    line predicts nothing. `rests_on` is the only submission without which it does not hold.
    `refuted`: the points speak against it; with neither, they are too few to tell.
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
        """The number of submissions that repeat no other one."""
        return self.n - self.repeats


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
        few = f"{render_count(points, 'point')} are too few to tell whether {part} predicts the"
        agrees = not _holds_no_agreement(relation.rank)
        why = ": they agree, but with one left out that is uncertain" if agrees else ""
        return f"{few} {relation.y} score{why}"
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
    if is_validation_unknown(workspace, row):
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


def find_group(groups: Sequence[SchemeGroup], basis: Basis) -> int | None:
    """The index of the largest group that a run belongs to."""
    if not is_known(basis):
        return None
    return next((index for index, group in enumerate(groups) if group.holds(basis)), None)


def is_validation_unknown(workspace: Workspace, row: Submission) -> bool:
    """Whether it has a validation score, and nobody knows on which images."""
    if not _is_validated(workspace, row):
        return False
    return not is_known(basis_of_submission(workspace, row))


def _is_validated(workspace: Workspace, row: Submission) -> bool:
    return any(get(row) is not None for get in _list_getters(workspace))


def _list_getters(workspace: Workspace) -> Sequence[Callable[[Submission], float | None]]:
    """The validation score of each metric of the competition."""
    metrics = workspace.competition.metrics
    return remember(
        workspace.runs_dir,
        "validation scores",
        lambda: [metric_getter(workspace, "val", metric.name) for metric in metrics],
    )


def relate_cv_to_public(
    workspace: Workspace, rows: Sequence[Submission], metric: str
) -> dict[int, ScoreRelation]:
    """Validation against public score within each submission's validation scheme, by number."""
    schemes = group_by_scheme(workspace, rows)
    relations = relate(workspace, rows, schemes, (metric, "val", "public"))
    by_number: dict[int, ScoreRelation] = {}
    for relation in relations:
        by_number.update(dict.fromkeys(relation.numbers, relation))
    return by_number


def group_by_scheme(workspace: Workspace, rows: Sequence[Submission]) -> list[SchemeGroup]:
    """Validation schemes with their validated submissions; the largest first, then the oldest.

    Unknown schemes are left out. A row that belongs in several groups joins them.
    """
    return remember_of(
        workspace.runs_dir, "schemes", rows, lambda: _group_by_scheme(workspace, rows)
    )


def _group_by_scheme(workspace: Workspace, rows: Sequence[Submission]) -> list[SchemeGroup]:
    groups: list[SchemeGroup] = []
    # the group of each different basis: very many rows are like an earlier one
    group_of: dict[tuple[Any, ...], SchemeGroup] = {}
    texts: dict[int, tuple[str, Scheme]] = {}  # which keeps the scheme, so that its id is its own
    for row in rows:
        if not _is_validated(workspace, row):
            continue
        basis = basis_of_submission(workspace, row)
        if id(basis.scheme) not in texts:
            texts[id(basis.scheme)] = json.dumps(basis.scheme, sort_keys=True), basis.scheme
        scheme, _ = texts[id(basis.scheme)]
        key = (basis.own, basis.recorded, scheme, basis.checksums)
        if key in group_of:
            group_of[key].numbers.append(row.number)
        elif is_known(basis):
            groups = _add_to_groups(groups, basis, row.number)
            alone = {id(group) for group in groups}
            for other, group in group_of.items():  # those that were joined to this one
                group_of[other] = group if id(group) in alone else groups[-1]
            group_of[key] = groups[-1]
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


def relate(
    workspace: Workspace,
    rows: Sequence[Submission],
    schemes: Sequence[SchemeGroup],
    names: tuple[str, str, str],
) -> list[ScoreRelation]:
    """(metric, x, y) over the submissions with both scores, the largest group first.

    Validation scores are related within each scheme; `schemes` are what `group_by_scheme` says of
    these rows.
    """
    what = f"related {' '.join(names)}"
    return remember_of(
        workspace.runs_dir, what, schemes, lambda: _relate(workspace, rows, schemes, names)
    )


def _relate(
    workspace: Workspace,
    rows: Sequence[Submission],
    schemes: Sequence[SchemeGroup],
    names: tuple[str, str, str],
) -> list[ScoreRelation]:
    metric, x, y = names
    scheme_of: dict[int, int] = {}
    for index, group in enumerate(schemes):
        scheme_of.update(dict.fromkeys(group.numbers, index))
    groups: dict[int | None, list[tuple[int, float, float]]] = {}
    flattered = set(list_flattered(workspace, rows) if x == "val" else [])
    get_x, get_y = (metric_getter(workspace, part, metric) for part in (x, y))
    for row in rows:
        if x == "val" and (row.number not in scheme_of or row.number in flattered):
            continue
        a, b = get_x(row), get_y(row)
        if a is not None and b is not None:
            scheme = scheme_of[row.number] if x == "val" else None
            groups.setdefault(scheme, []).append((row.number, a, b))
    copied = remember_of(workspace.runs_dir, "copied", rows, lambda: _find_copied(rows))
    relations = [
        _build_relation(names, scheme, points, copied) for scheme, points in groups.items()
    ]
    return sorted(relations, key=lambda item: (-item.n, item.scheme or 0))


def _find_copied(rows: Sequence[Submission]) -> dict[int, int]:
    """{number: the earlier submission that it repeats}."""
    return {item["number"]: item["equal_to"] for item in find_duplicates(rows)}


def _build_relation(
    names: tuple[str, str, str],
    scheme: int | None,
    points: Sequence[tuple[int, float, float]],
    copied: Mapping[int, int],
) -> ScoreRelation:
    """`copied` has the earlier submission that each duplicate repeats."""
    metric, x, y = names
    numbers = [number for number, _, _ in points]
    # Of duplicates the first with both scores counts, also where the one that they repeat has none.
    first: dict[int, tuple[int, float, float]] = {}
    for point in points:
        first.setdefault(_find_original(point[0], copied), point)
    different = [*first.values()]
    distinct = len(different)
    line = fit_line([a for _, a, _ in different], [b for _, _, b in different])
    rank = rank_correlation([a for _, a, _ in points], [b for _, _, b in points], distinct=distinct)
    needed = _list_needed(different)
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
        rests_on=needed[0] if needed and len(needed) == 1 else None,
    )


def _find_original(number: int, copied: Mapping[int, int]) -> int:
    """The first submission with the answers of this one."""
    while number in copied:
        number = copied[number]
    return number


def _list_outliers(line: Line, points: Sequence[tuple[int, float, float]]) -> list[Outlier]:
    """The points (submission, x, y) that are far from the line."""
    xs, ys, outliers = [x for _, x, _ in points], [y for _, _, y in points], []
    for index, distance in find_outliers(line, xs, ys):
        expected = line.intercept + line.slope * xs[index]
        number = points[index][0]
        outliers.append(
            Outlier(number=number, x=xs[index], y=ys[index], expected=expected, distance=distance)
        )
    return outliers


def _list_needed(points: Sequence[tuple[int, float, float]]) -> list[int] | None:
    """The submissions, each by itself, without which the others show no line.

    None if all show none. Of very many points only the `MAX_LEFT_OUT` that pull most at the line
    are left out in turn: any other moves it less than these. Where sums tell that the line is far
    from falling, it is not fitted again.
    """
    if len(points) < MIN_TO_RANK:
        return None
    import numpy as np

    xs, ys = np.array([x for _, x, _ in points]), np.array([y for _, _, y in points])
    order = np.lexsort((ys, xs))  # by x, then by y
    xs, ys = xs[order], ys[order]
    ranks = (rank_values(xs), rank_values(ys))
    if not _shows_line(xs, ys, ranks):
        return None
    asked: Sequence[int] = range(len(points))
    if len(points) > MAX_LEFT_OUT:
        asked = _list_farthest(xs, ys)
    needed = []
    held = hold_without(xs, ys, ranks)
    for index in asked:
        if held[index]:
            continue
        left = (drop_rank(ranks[0], index), drop_rank(ranks[1], index))
        if not _shows_line(np.delete(xs, index), np.delete(ys, index), left):
            needed.append(points[order[index]][0])
    return needed


def _list_farthest(xs: NDArray[np.float64], ys: NDArray[np.float64]) -> list[int]:
    """The indexes of the `MAX_LEFT_OUT` points that pull most at a line, in their order."""
    middle_x, middle_y = (math.fsum(values.tolist()) / len(values) for values in (xs, ys))
    pull = abs((xs - middle_x) * (ys - middle_y))
    return sorted((-pull).argsort(kind="stable")[:MAX_LEFT_OUT].tolist())


def _shows_line(
    xs: NDArray[np.float64],
    ys: NDArray[np.float64],
    ranks: tuple[NDArray[np.float64], NDArray[np.float64]],
) -> bool:
    """Whether points, by x, agree in order, and their line tells the outermost two apart.

    A line that falls shows nothing.
    """
    line = fit_line(xs, ys)
    if line is None or line.slope <= 0 or not line.separates(float(xs[0]), float(xs[-1])):
        return False
    return show_agreement(*ranks)


def _is_refuted(rank: RankCorrelation | None, distinct: int) -> bool:
    """Whether agreement is out of the question: above the whole interval of rho.

    Of few points, any agreement at all; of many, agreement worth the name.
    """
    if rank is None:
        return False
    if rank.high is None:  # of scores in exactly one order there is no interval
        return rank.rho < 0 and distinct >= MIN_ORDERED
    return rank.high < (0.0 if distinct < FEW_POINTS else AGREEMENT)


def list_schemes(groups: Sequence[SchemeGroup]) -> list[dict[str, Any]]:
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
