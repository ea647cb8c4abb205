"""Two runs side by side: what changed, whether it helped, whether the difference is real.

Plain data; `console` shows it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from tracker.comparison.advice import Advice, by_epoch
from tracker.comparison.comparable import explain_incomparable
from tracker.comparison.evidence import ChangedImage, Evidence, Move, compare_validation
from tracker.comparison.members import Member, find_data, is_flattered, list_members
from tracker.comparison.statistics.decision import RESAMPLES
from tracker.comparison.subject import Subject, load_subject
from tracker.comparison.verdict import write_verdict
from tracker.core.config_diff import INHERITED, describe_ensemble, diff_configs, list_unknown
from tracker.core.errors import TrackerError
from tracker.ledger.connection import one_moment
from tracker.ledger.records import Note
from tracker.training.metrics import METRICS, list_figures
from tracker.training.tables import flatten
from tracker.workspace.metrics import are_same, higher_is_better, is_no_score
from tracker.workspace.predictions import diff_answers
from tracker.workspace.tracker_toml import Workspace

if TYPE_CHECKING:
    from tracker.comparison.statistics.paired import FoldTest, PairedComparison

Point = tuple[int, float | None]
UNCOMPARED_METRICS = ("train/images_per_s", "train/lr", "train/data_wait")


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What differs between run `a` and run `b`.

    `better` is "a" or "b", None for a tie or an unknown value. `ignored` keys differ, too.
    `not_known` are keys that a run of another program never logged: not known to have changed.
    `not_comparable` says for which metrics neither run is better, and why.

    `statistics` and `folds` are about the validation images; where they are None, `problem` and
    `folds_problem` say why. `gap` is validation minus training at the best epoch. `curves` has
    (epoch, value), None for a value that is not finite. `moves` counts the images whose predicted
    class changed, `images` lists some of them. `ensembles` describes each side that is an ensemble,
    `members` has the scores of its members. `flattered` says of each side whether its validation
    figures flatter it: then neither side is better by them.
    """

    a: str
    b: str
    verdict: Sequence[str]
    config: Mapping[str, list[Any]]
    ignored: Sequence[str]
    not_known: Sequence[str]
    metrics: Mapping[str, Mapping[str, Any]]
    not_comparable: Mapping[str, str]
    best_epoch: list[int | None]
    predictions: Mapping[str, Any] | None
    code: Mapping[str, Any]
    data: Mapping[str, Any]
    submissions: list[int | None]
    statistics: PairedComparison | None
    problem: str
    folds: Mapping[str, FoldTest] | None
    folds_problem: str
    gap: Mapping[str, list[float | None]]
    curves: Mapping[str, list[list[Point]]]
    advice: list[Advice | None]
    moves: Mapping[str, Sequence[Move]]
    images: Mapping[str, Sequence[ChangedImage]]
    notes: Mapping[str, Sequence[Note]]
    ensembles: Mapping[str, str]
    members: Mapping[str, Sequence[Member]]
    flattered: list[bool]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for --json."""
        statistics = self.statistics.to_dict() if self.statistics else None
        return {**asdict(self), "statistics": statistics}


def diff_runs(
    workspace: Workspace,
    a: str,
    b: str,
    *,
    everything: bool = False,
    statistics: bool = True,
    resamples: int = RESAMPLES,
    images: int = 0,
    keep: bool = True,
) -> RunDiff:
    """Compare two runs or submissions.

    With `everything`, equal and ignored config keys and equal metrics are included. `images` is the
    number of changed images to list. Without `statistics`, the validation images are not read. With
    `keep`, what they say is kept in the workspace.
    """
    with one_moment(workspace.ledger_url):
        left, right = load_subject(workspace, a), load_subject(workspace, b)
    if statistics:
        evidence = compare_validation(
            workspace, left, right, resamples=resamples, images=images, keep=keep
        )
    else:
        evidence = Evidence(problem="skipped because of --no-stats")
    left, right = (_add_data(workspace, side) for side in (left, right))
    data = (left.fingerprints.get("data"), right.fingerprints.get("data"))
    recorded = left.recorded or right.recorded
    differing = diff_configs(left.config, right.config, data=data, recorded=recorded)
    ignored = [key for key in differing if _is_ignored(workspace, key)]
    config = {key: values for key, values in differing.items() if key not in ignored}
    unknown = list_unknown(left.config, right.config, recorded=recorded)
    not_known = [key for key in unknown if not _is_ignored(workspace, key)]
    not_comparable = _find_incomparable(left, right)
    flattered = [is_flattered(workspace, side.config) for side in (left, right)]
    metrics = _diff_metrics(
        workspace,
        left,
        right,
        not_comparable,
        everything=everything,
        samples=evidence.paired.samples if evidence.paired else 0,
        is_flattered=any(flattered),
    )
    own = [
        workspace.competition.primary_metric,
        *(metric.name for metric in workspace.competition.metrics),
    ]
    figures = list(dict.fromkeys([*own, *list_figures()]))
    validation = {
        name: (left.metrics.get(f"val/{name}"), right.metrics.get(f"val/{name}"))
        for name in [*own, *METRICS]
    }
    predictions, moves, changed = _diff_predictions(workspace, left, right, images)
    ensembles = [side for side in (left, right) if "ensemble" in side.config]
    return RunDiff(
        a=left.name,
        b=right.name,
        verdict=write_verdict(
            workspace.competition,
            (left.name, right.name),
            config=config,
            not_known=not_known,
            metrics=metrics,
            validation=validation,
            not_comparable=not_comparable,
            evidence=evidence,
            predictions=predictions,
            flattered=_name_flattered(workspace, ensembles),
        ),
        config=_pair_configs(left, right) if everything else config,
        ignored=[] if everything else ignored,
        not_known=not_known,
        metrics=metrics,
        not_comparable={name: reason for name, reason in not_comparable.items() if name in metrics},
        best_epoch=[left.best_epoch, right.best_epoch],
        predictions=predictions,
        code=_diff_fingerprint(left, right, "code"),
        data=_diff_fingerprint(left, right, "data"),
        submissions=[left.submission, right.submission],
        statistics=evidence.paired,
        problem=evidence.problem,
        folds=evidence.folds,
        folds_problem=evidence.folds_problem,
        gap={name: [_find_gap(left, name), _find_gap(right, name)] for name in figures},
        curves=_pair_curves(left, right, figures),
        advice=[left.advice, right.advice],
        moves={"validation": evidence.moves, "evaluation": moves},
        images={"validation": evidence.images, "evaluation": changed},
        notes={side.name: side.notes for side in (left, right) if side.notes},
        ensembles={side.name: describe_ensemble(side.config["ensemble"]) for side in ensembles},
        members={side.name: list_members(workspace, side.config) for side in ensembles},
        flattered=flattered,
    )


def _add_data(workspace: Workspace, side: Subject) -> Subject:
    """An ensemble has the data of its members, where they agree."""
    if side.fingerprints.get("data") or "ensemble" not in side.config:
        return side
    data = find_data(workspace, side.config)
    return side._replace(fingerprints={**side.fingerprints, "data": data})


def _name_flattered(workspace: Workspace, ensembles: Sequence[Subject]) -> list[str]:
    """Whose weights were searched on the validation images: a side, or a member of it."""
    names = []
    for side in ensembles:
        searched = side.config["ensemble"].get("searched")
        if searched and searched != INHERITED:
            names.append(side.name)
        elif is_flattered(workspace, side.config):
            names.append(f"a member of {side.name}")
    return names


def _is_ignored(workspace: Workspace, key: str) -> bool:
    return any(fnmatchcase(key, pattern) for pattern in workspace.diff_ignore)


def _pair_configs(left: Subject, right: Subject) -> dict[str, list[Any]]:
    """{key: [left, right]} of every key of either config."""
    a, b = flatten(left.config), flatten(right.config)
    return {key: [a.get(key), b.get(key)] for key in {**a, **b}}


def _find_gap(side: Subject, name: str) -> float | None:
    val, train = side.metrics.get(f"val/{name}"), side.metrics.get(f"train/{name}")
    return None if val is None or train is None else val - train


def _pair_curves(
    left: Subject, right: Subject, figures: Sequence[str]
) -> dict[str, list[list[Point]]]:
    """Curves of losses and scores by epoch; None for a value that is not finite."""
    curves = {}
    for figure, part in itertools.product(figures, ("train", "val")):
        name = f"{part}/{figure}"
        pair = [_list_points(side, name) for side in (left, right)]
        if any(pair):
            curves[name] = pair
    return curves


def _list_points(side: Subject, name: str) -> list[Point]:
    curve = by_epoch(side.curves.get(name, {}))
    return [(epoch, value if math.isfinite(value) else None) for epoch, value in curve.items()]


def _find_incomparable(left: Subject, right: Subject) -> dict[str, str]:
    """{metric: reason} of the metrics of both runs that cannot be compared."""
    shared = [
        name
        for name in left.metrics
        if left.metrics[name] is not None and right.metrics.get(name) is not None
        if not is_no_score(name)
    ]
    reasons = {name: explain_incomparable(left.basis, right.basis, name) for name in shared}
    return {name: reason for name, reason in reasons.items() if reason}


def _diff_metrics(
    workspace: Workspace,
    left: Subject,
    right: Subject,
    not_comparable: Mapping[str, str],
    *,
    everything: bool,
    samples: int = 0,
    is_flattered: bool = False,
) -> dict[str, dict[str, Any]]:
    """Leaderboard scores first, then the metrics of the best epochs.

    Both runs validated on the same `samples` images, if that is known. With `is_flattered`, no
    validation figure makes a run better.
    """
    names = sorted({**left.metrics, **right.metrics}, key=lambda name: "/" in name)
    metrics = {}
    for name in names:
        a, b = left.metrics.get(name), right.metrics.get(name)
        same = a == b or (a is not None and b is not None and are_same(name, a, b, samples=samples))
        if name in UNCOMPARED_METRICS or (same and not everything):
            continue
        delta = None if a is None or b is None else b - a
        better = None
        counts = name not in not_comparable and not is_no_score(name)
        if is_flattered and name.startswith("val/"):
            counts = False
        if delta and not same and counts:
            b_is_better = (delta > 0) == higher_is_better(workspace.competition.metrics, name)
            better = "b" if b_is_better else "a"
        metrics[name] = {"a": a, "b": b, "delta": delta, "better": better}
    return metrics


def _diff_predictions(
    workspace: Workspace, left: Subject, right: Subject, images: int
) -> tuple[dict[str, Any] | None, list[Move], list[ChangedImage]]:
    """The share of equal predictions over shared images, and what changed.

    The share is None if a run has no predictions.
    """
    try:
        old, new = left.answers(), right.answers()
    except TrackerError as error:
        return {"equal_share": None, "changed": None, "total": None, "problem": str(error)}, [], []
    if old is None or new is None:
        return None, [], []
    diff = diff_answers(old, new, workspace.competition)
    names = workspace.competition.class_names
    moves = [
        Move(truth=None, a=names.get(a, a), b=names.get(b, b), images=number)
        for (a, b), number in diff.moves.items()
    ]
    changed = (name for name, answer in new.by_id.items() if old.by_id.get(name, answer) != answer)
    listed = [
        (name, old.by_id[name], new.by_id[name]) for name in itertools.islice(changed, images)
    ]
    changed_images = [
        ChangedImage(id=name, truth=None, a=names.get(a, a), b=names.get(b, b))
        for name, a, b in listed
    ]
    shares: dict[str, Any] = {
        "equal_share": diff.equal_share,
        "changed": diff.changed,
        "total": diff.total,
    }
    if diff.greatest is not None:
        shares["greatest_difference"] = diff.greatest
        shares["rank_correlation"] = diff.rank_correlation
    return shares, moves, changed_images


def _diff_fingerprint(left: Subject, right: Subject, name: str) -> dict[str, Any]:
    a, b = left.fingerprints.get(name), right.fingerprints.get(name)
    return {"equal": a == b, "a": a, "b": b}
