"""Two runs side by side: what was changed, what came of it, is it real. Plain data; tracker/console/diff.py
prints it."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from fnmatch import fnmatchcase
from typing import Any

from tracker.comparison.advice import Advice, by_epoch
from tracker.comparison.comparable import explain_incomparable, is_searched
from tracker.comparison.evidence import ChangedImage, Evidence, Move, weigh
from tracker.comparison.members import Member, list_members
from tracker.comparison.statistics.paired import RESAMPLES, FoldTest, Paired
from tracker.comparison.subject import Side, load_side
from tracker.comparison.verdict import write_verdict
from tracker.core.config_diff import describe_ensemble, diff_configs, list_unknown
from tracker.ledger.records import Note
from tracker.training.errors import TrackerError
from tracker.training.metrics import METRICS, list_figures
from tracker.training.tables import flatten
from tracker.workspace.competition import Workspace
from tracker.workspace.metrics import higher_is_better
from tracker.workspace.predictions import diff_answers

Point = tuple[int, float | None]
NOT_COMPARED = ("train/images_per_s", "train/lr", "train/data_wait")


@dataclass(frozen=True, kw_only=True)
class RunDiff:
    """What differs between run `a` and run `b`; `better` is "a" or "b", None for a tie or an
    unknown side.

    `ignored` keys differ, too; `not_known` are keys that one side, another program's run, never
    logged: they are not
    known to have changed, and no changes.
    `not_comparable` says of which metrics neither side is better, and why. `statistics` and
    `folds` are of the validation images; where they are None, `problem` and `folds_problem` say
    why. `gap` is
    validation minus training at the best epoch. `curves` has (epoch, value), None for what is no
    number. `moves` counts the images that changed class, `images` are some of them. `ensembles`
    says in words what each side that is one is made of, `members` how its members scored.
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
    statistics: Paired | None
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
) -> RunDiff:
    """Compare two runs or submissions; with `everything`, equal and ignored config keys and equal
    metrics are included.

    `images` is how many of the changed images are listed. Without `statistics`, the validation
    images are not read.
    """
    left, right = load_side(workspace, a), load_side(workspace, b)
    if statistics:
        evidence = weigh(workspace.runs_dir, left, right, resamples=resamples, images=images)
    else:
        evidence = Evidence(problem="left out by --no-stats")
    data = (left.fingerprints.get("data"), right.fingerprints.get("data"))
    recorded = left.recorded or right.recorded
    differing = diff_configs(left.config, right.config, data=data, recorded=recorded)
    ignored = [
        key
        for key in differing
        if any(fnmatchcase(key, pattern) for pattern in workspace.diff_ignore)
    ]
    config = {key: values for key, values in differing.items() if key not in ignored}
    unknown = list_unknown(left.config, right.config, recorded=recorded)
    not_known = [
        key
        for key in unknown
        if not any(fnmatchcase(key, pattern) for pattern in workspace.diff_ignore)
    ]
    not_comparable = _find_incomparable(left, right)
    metrics = _diff_metrics(workspace, left, right, not_comparable, everything=everything)
    own = [
        workspace.competition.primary_metric,
        *(metric.name for metric in workspace.competition.metrics),
    ]
    figures = list(dict.fromkeys([*own, *list_figures()]))
    validation = {
        name: [side.metrics.get(f"val/{name}") for side in (left, right)]
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
            flattered=[side.name for side in ensembles if is_searched(side.config)],
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
        gap={name: [_find_gap(side, name) for side in (left, right)] for name in figures},
        curves=_pair_curves(left, right, figures),
        advice=[left.advice, right.advice],
        moves={"validation": evidence.moves, "evaluation": moves},
        images={"validation": evidence.images, "evaluation": changed},
        notes={side.name: side.notes for side in (left, right) if side.notes},
        ensembles={side.name: describe_ensemble(side.config["ensemble"]) for side in ensembles},
        members={side.name: list_members(workspace, side.config) for side in ensembles},
    )


def _pair_configs(left: Side, right: Side) -> dict[str, list[Any]]:
    """Every key of either config."""
    a, b = flatten(left.config), flatten(right.config)
    return {key: [a.get(key), b.get(key)] for key in [*a, *(key for key in b if key not in a)]}


def _find_gap(side: Side, name: str) -> float | None:
    val, train = side.metrics.get(f"val/{name}"), side.metrics.get(f"train/{name}")
    return None if val is None or train is None else val - train


def _pair_curves(left: Side, right: Side, figures: Sequence[str]) -> dict[str, list[list[Point]]]:
    """The curves of losses and scores by epoch that a side has; null where a value is no number."""
    found = {}
    for name in [f"{part}/{figure}" for figure in figures for part in ("train", "val")]:
        pair = [by_epoch(side.curves.get(name, {})) for side in (left, right)]
        if any(pair):
            found[name] = [
                [(epoch, value if math.isfinite(value) else None) for epoch, value in curve.items()]
                for curve in pair
            ]
    return found


def _find_incomparable(left: Side, right: Side) -> dict[str, str]:
    """The metrics of both sides that do not compare, and why."""
    shared = [
        name
        for name in left.metrics
        if left.metrics[name] is not None and right.metrics.get(name) is not None
    ]
    reasons = {name: explain_incomparable(left.basis, right.basis, name) for name in shared}
    return {name: reason for name, reason in reasons.items() if reason}


def _diff_metrics(
    workspace: Workspace,
    left: Side,
    right: Side,
    not_comparable: Mapping[str, str],
    *,
    everything: bool,
) -> dict[str, dict[str, Any]]:
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
        if delta and name not in not_comparable:
            better = (
                "b" if (delta > 0) == higher_is_better(workspace.competition.metrics, name) else "a"
            )
        found[name] = {"a": a, "b": b, "delta": delta, "better": better}
    return found


def _diff_predictions(
    workspace: Workspace, left: Side, right: Side, images: int
) -> tuple[dict[str, Any] | None, list[Move], list[ChangedImage]]:
    """Share of equal predictions over the images that both predicted, None when one has none; and
    what changed."""
    try:
        old, new = left.answers(), right.answers()
    except TrackerError as error:
        return {"equal_share": None, "changed": None, "total": None, "problem": str(error)}, [], []
    if old is None or new is None:
        return None, [], []
    diff = diff_answers(old, new)
    names = dict(
        zip(workspace.competition.answer_words, workspace.competition.classes, strict=True)
    )
    moves = [
        Move(truth=None, a=names.get(a, a), b=names.get(b, b), images=number)
        for (a, b), number in diff.moves.items()
    ]
    changed = (name for name, answer in new.by_id.items() if old.by_id.get(name, answer) != answer)
    listed = [
        (name, old.by_id[name], new.by_id[name]) for name in itertools.islice(changed, images)
    ]
    found = [
        ChangedImage(id=name, truth=None, a=names.get(a, a), b=names.get(b, b))
        for name, a, b in listed
    ]
    return (
        {"equal_share": diff.equal_share, "changed": diff.changed, "total": diff.total},
        moves,
        found,
    )


def _diff_fingerprint(left: Side, right: Side, name: str) -> dict[str, Any]:
    a, b = left.fingerprints.get(name), right.fingerprints.get(name)
    return {"equal": a == b, "a": a, "b": b}
