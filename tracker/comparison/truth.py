"""What the scores are worth: validation against public against private, and the luck in the best of many looks.

Validation figures compare only within one validation scheme. Private scores are those that the ledger has: typed in,
imported, told by the leaderboard or revealed. A sealed solution's private answers are never read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from tracker.comparison.luck import Luck, Sample, count_sample, estimate_luck
from tracker.comparison.regression import Line, RankCorrelation, find_outliers, fit_line, rank_correlation
from tracker.errors import TrackerError
from tracker.ledger.read import Submission, has_run, list_submissions
from tracker.runs import RunRecord, load_config, load_run
from tracker.workspace import Workspace
from training.config import Config, config_to_dict
from training.tables import flatten

SCHEME_KEYS = tuple(
    f"data.{name}" for name in ("format", "train_dir", "split", "val_ratio", "folds", "label_fixes", "age_bands")
)
SMALL = 10  # points; fewer are called few
Scheme = Mapping[str, Any]
_PAIRS = (("val", "public"), ("val", "private"), ("public", "private"))


@dataclass(frozen=True, kw_only=True)
class Outlier:
    """A submission far off the line; `distance` in its own standard deviations."""

    number: int
    x: float
    y: float
    expected: float
    distance: float


@dataclass(frozen=True, kw_only=True)
class Relation:
    """How score `y` goes with score `x`; `repeats` of the `n` points are copies of an earlier one."""

    metric: str
    x: str
    y: str
    n: int
    repeats: int
    left_out: Sequence[int]
    line: Line | None
    rank: RankCorrelation | None
    outliers: Sequence[Outlier]


@dataclass(frozen=True, kw_only=True)
class Expectation:
    """The public score that a candidate may expect, in 95 of 100 cases between `low` and `high`; else `reason`."""

    metric: str
    validation: float | None
    value: float | None
    low: float | None
    high: float | None
    n: int
    left_out: int
    reason: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Truth:
    """`schemes` has the submissions of each validation scheme, by what distinguishes it; the current one is last."""

    submissions: int
    scored: int
    relations: Sequence[Relation]
    schemes: Sequence[Mapping[str, Any]]
    sample: Sample
    luck: Luck | None

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        return asdict(self)


def tell_truth(workspace: Workspace, *, public_images: int = 0) -> Truth:
    """Look at every submission of the ledger; `public_images` where nothing else tells their number.

    Raises ConfigError for a number below 0, LedgerError when the ledger is out of reach.
    """
    rows = list_submissions(workspace)
    schemes = {row.number: find_scheme(workspace, row.config) for row in rows}
    metrics = [metric.name for metric in workspace.competition.metrics]
    validated = [row for row in rows if any(find_figure(workspace, row, "val", name) is not None for name in metrics)]
    current = schemes[validated[-1].number] if validated else {}
    scored = _Scored(workspace, rows, schemes, current)
    sample = count_sample(workspace, given=public_images)
    return Truth(
        submissions=len(rows),
        scored=sum(any(name.startswith("public_") for name in row.scores) for row in rows),
        relations=[
            relation
            for metric in metrics
            for x, y in _PAIRS
            if (relation := scored.relate(metric, x, y)).n or relation.left_out
        ],
        schemes=_list_schemes(schemes, [row.number for row in validated], current),
        sample=sample,
        luck=estimate_luck(workspace, rows, sample),
    )


def expect_public(workspace: Workspace, record: RunRecord, config: Mapping[str, Any]) -> Expectation:
    """What the primary public score of a run may be, by the submissions with its validation scheme."""
    metric = workspace.competition.primary_metric
    rows = list_submissions(workspace)
    schemes = {row.number: find_scheme(workspace, row.config) for row in rows}
    scored = _Scored(workspace, rows, schemes, find_scheme(workspace, config))
    relation = scored.relate(metric, "val", "public")
    own = record.summary.get(f"val/{metric}")
    value = low = high = None
    reason = ""
    if own is None:
        reason = f"the run has no val/{metric}"
    elif relation.line is None:
        same = "" if relation.n < 3 else ", all with the same validation score"
        reason = f"a line needs 3 scored submissions with this validation scheme, there are {relation.n}{same}"
    else:
        value, low, high = relation.line.predict(own)
    return Expectation(
        metric=metric,
        validation=own,
        value=value,
        low=low,
        high=high,
        n=relation.n,
        left_out=len(relation.left_out),
        reason=reason,
    )


def relate_validation(workspace: Workspace, rows: Sequence[Submission], metric: str) -> tuple[Relation, set[int]]:
    """Validation against public within the newest validated submission's scheme, and who has that scheme."""
    schemes = {row.number: find_scheme(workspace, row.config) for row in rows}
    validated = [row.number for row in rows if find_figure(workspace, row, "val", metric) is not None]
    current = schemes[validated[-1]] if validated else {}
    relation = _Scored(workspace, rows, schemes, current).relate(metric, "val", "public")
    return relation, {number for number in validated if schemes[number] == current}


def find_scheme(workspace: Workspace, config: Mapping[str, Any]) -> Scheme:
    """How a config validates: the keys that decide on what and against which labels; empty when it does not tell.

    An ensemble has its members' scheme when it is the same for all.
    """
    members = config.get("ensemble", {}).get("members")
    if members:
        schemes = [_scheme_of_run(workspace, name) for name in members]
        return schemes[0] if all(scheme == schemes[0] for scheme in schemes) else {}
    if not config.get("data"):
        return {}
    known = {**_defaults(), **flatten(config)}
    return {key: known[key] for key in SCHEME_KEYS}


@cache
def _defaults() -> dict[str, Any]:
    return flatten(config_to_dict(Config()))


def _scheme_of_run(workspace: Workspace, name: str) -> Scheme:
    try:
        return find_scheme(workspace, load_config(workspace.runs_dir, name))
    except TrackerError:
        return {}


def find_figure(workspace: Workspace, row: Submission, part: str, metric: str) -> float | None:
    """A submission's `val`, `public` or `private` value of a metric, None when it is not known."""
    if part != "val":
        return row.scores.get(f"{part}_{metric}")
    if metric in ("f1", "accuracy"):
        figure: float | None = getattr(row, f"val_{metric}")
        return figure
    if row.run is None or not has_run(workspace, row):
        return None
    return load_run(workspace.runs_dir, row.run).summary.get(f"val/{metric}")


@dataclass(frozen=True)
class _Scored:
    """The submissions, the validation scheme of each, and the scheme that validation scores are to be of."""

    workspace: Workspace
    rows: Sequence[Submission]
    schemes: Mapping[int, Scheme]
    current: Scheme

    def relate(self, metric: str, x: str, y: str) -> Relation:
        """The relation of two scores over the submissions that have both."""
        points, left_out = [], []
        for row in self.rows:
            a, b = (find_figure(self.workspace, row, part, metric) for part in (x, y))
            if a is None or b is None:
                continue
            if x == "val" and self.schemes[row.number] != self.current:
                left_out.append(row.number)
            else:
                points.append((row.number, a, b))
        return _build_relation(metric, x, y, points, left_out)


def _build_relation(
    metric: str, x: str, y: str, points: Sequence[tuple[int, float, float]], left_out: Sequence[int]
) -> Relation:
    xs, ys = [a for _, a, _ in points], [b for _, _, b in points]
    line, distinct = fit_line(xs, ys), len(set(zip(xs, ys, strict=True)))
    outliers = []
    for place, distance in find_outliers(line, xs, ys) if line else ():
        assert line is not None  # noqa: S101
        expected = line.intercept + line.slope * xs[place]
        number = points[place][0]
        outliers.append(Outlier(number=number, x=xs[place], y=ys[place], expected=expected, distance=distance))
    return Relation(
        metric=metric,
        x=x,
        y=y,
        n=len(points),
        repeats=len(points) - distinct,
        left_out=left_out,
        line=line,
        rank=rank_correlation(xs, ys, distinct=distinct),
        outliers=outliers,
    )


def _list_schemes(schemes: Mapping[int, Scheme], numbers: Sequence[int], current: Scheme) -> list[dict[str, Any]]:
    """{values, numbers} of each scheme in order of its first submission, the current one last."""
    groups: dict[str, list[int]] = {}
    for number in numbers:
        groups.setdefault(json.dumps(schemes[number], sort_keys=True), []).append(number)
    found = [(schemes[members[0]], members) for members in groups.values()]
    differing = [key for key in SCHEME_KEYS if len({json.dumps(scheme.get(key)) for scheme, _ in found}) > 1]
    found.sort(key=lambda item: item[0] == current)
    return [{"values": {key: scheme.get(key) for key in differing}, "numbers": members} for scheme, members in found]
