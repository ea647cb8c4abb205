"""The verdict on two runs in words: what was changed, did it help, is it real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.comparison.statistics.paired import LEVEL
from tracker.core.config_diff import list_changes, render_change, tell_unknown
from tracker.core.text import render_number
from tracker.training.metrics import METRICS, find_kind, first_metric, is_better
from tracker.workspace.metrics import higher_is_better, name_metric

if TYPE_CHECKING:
    from tracker.comparison.evidence import Evidence
    from tracker.comparison.statistics.paired import FoldTest, Paired
    from tracker.workspace.competition import Competition

# 117 of 4,000 equal pairs: DECISIONS.md, "Runs are called different when the interval excludes 0".
WHY_LEVEL = "the limit that keeps false alarms under 1 in 20"
SHOWN = 3  # changed keys; the table below has them all


def write_verdict(
    competition: Competition,
    names: tuple[str, str],
    *,
    config: Mapping[str, list[Any]],
    not_known: Sequence[str],
    metrics: Mapping[str, Mapping[str, Any]],
    validation: Mapping[str, Sequence[float | None]],
    not_comparable: Mapping[str, str],
    evidence: Evidence,
    flattered: Sequence[str] = (),
    predictions: Mapping[str, Any] | None = None,
) -> list[str]:
    """A few lines, the most important first; macro F1 decides unless the competition's own metric
    is resampled, too.

    `validation` has the competition's metrics and those of METRICS of both runs as far as they are
    known;
    `not_comparable` says why some of them do not compare. `flattered` are the sides whose weights
    were searched on the validation images.
    """
    computed = find_kind(competition.primary.kind)
    metric = computed.name if computed and computed.is_resampled else first_metric()
    lines = [f"{names[0]} -> {names[1]}: {_name_changes(config, not_known)}"]
    if evidence.paired:
        lines.append(_judge(evidence.paired, metric, names))
        lines += _mind_the_others(evidence.paired, metric, names)
    else:
        lines += _compare(competition, validation, names, not_comparable, evidence.problem)
    if flattered:
        lines.append(
            f"flattered: the weights of {' and '.join(flattered)} were searched on these validation"
            " images, so validation scores, interval and p do not count as evidence"
        )
    if evidence.folds:
        lines.append(_judge_folds(evidence.folds[metric], metric))
    public = metrics.get(f"public_{competition.primary.name}")
    if public and public["delta"]:
        old, new = (competition.primary.render(public[side]) for side in ("a", "b"))
        lines.append(
            f"public {competition.primary.name} {old} -> {new}: {_name(public['better'], names)} is"
            f" ahead{_count_answers(competition, predictions)}"
        )
    return lines


def _count_answers(competition: Competition, predictions: Mapping[str, Any] | None) -> str:
    """On how few images a public score rests: nothing else tells its noise."""
    if predictions is None or predictions["changed"] is None:
        return ", not tested for chance"
    changed, total, share = predictions["changed"], predictions["total"], competition.public_share
    public = f", about {changed * share:.0f} of them public" if share else ""
    return f" by answers that differ on {changed} of {total} images{public}; not tested for chance"


def render_range(low: float, high: float, *, signed: bool = False) -> str:
    """Two numbers with as many decimals as tell them from each other and from zero: `0.006 to
    0.019`."""
    for decimals in (3, 4, 5):
        texts = [f"{value:{'+' * signed}.{decimals}f}" for value in (low, high)]
        if texts[0] != texts[1] and all(
            float(text) or not value for text, value in zip(texts, (low, high), strict=True)
        ):
            break
    return " to ".join(texts)


def _name_changes(config: Mapping[str, list[Any]], not_known: Sequence[str]) -> str:
    changes = list_changes(config)
    unknown = f"; {tell_unknown(not_known)}" if not_known else ""
    if len(changes) <= SHOWN:
        return ("no config key changed" if not config else render_change(config)) + unknown
    return f"{len(changes)} config keys changed, so nobody can say which of them did it{unknown}"


def _name(side: str | None, names: tuple[str, str]) -> str:
    return names[side == "b"]


def _judge(paired: Paired, metric: str, names: tuple[str, str]) -> str:
    """Is it real?"""
    found = paired.metrics[metric]
    samples = f"{paired.samples:,} samples"
    scores = f"{METRICS[metric].title} {render_number(found.a)} -> {render_number(found.b)}"
    if found.smallest is None:
        return f"no difference at all: the same guesses on all {samples} of the validation"
    if found.better:
        low, high = sorted((abs(found.low), abs(found.high)))
        surely = f"p = {found.p:.2g}, below the limit of {LEVEL:g}"
        return (
            f"{_name(found.better, names)} is better by {render_range(low, high)} ({scores},"
            f" {samples}; {surely})"
        )
    interval = f"95 % interval {render_range(found.low, found.high, signed=True)}"
    if not found.low <= 0 <= found.high:
        return (
            f"too close to call: {scores}, {interval}, but p = {found.p:.2g} is above {LEVEL:g}, "
            f"{WHY_LEVEL} ({samples})"
        )
    return (
        f"no difference that {samples} can show: {scores}, {interval} with 0 in it "
        f"(a true difference of {found.smallest:.3f} would show)"
    )


def _mind_the_others(paired: Paired, metric: str, names: tuple[str, str]) -> list[str]:
    """The other metrics, where they say something else."""
    lines = []
    for other, found in paired.metrics.items():
        if found.better is None or found.better == paired.metrics[metric].better:
            continue
        low, high = sorted((abs(found.low), abs(found.high)))
        title, better = METRICS[other].title, _name(found.better, names)
        lines.append(f"by {title} alone {better} is better by {render_range(low, high)}")
    return lines


def _judge_folds(test: FoldTest, metric: str) -> str:
    better = f"val/{metric}"
    ahead = sum(is_better(better, b, a) for a, b in zip(test.a, test.b, strict=True))
    counts = (
        "0 is in it: no difference shown"
        if test.low <= 0 <= test.high
        else "0 is outside: a difference"
    )
    return (
        f"over {len(test.a)} folds: {METRICS[metric].title}"
        f" {render_number(test.delta, signed=True)} (95 % interval"
        f" {render_range(test.low, test.high, signed=True)}, p = {test.p:.2g}; {counts}), better in"
        f" {ahead} of them"
    )


def _compare(
    competition: Competition,
    validation: Mapping[str, Sequence[float | None]],
    names: tuple[str, str],
    not_comparable: Mapping[str, str],
    problem: str,
) -> list[str]:
    """The deciding validation score, or the next best one, where nothing more is known."""
    words = {metric.name: metric.title for metric in METRICS.values()}
    words |= {metric.name: name_metric(metric) for metric in competition.metrics}
    unknown = f"is it real? Unknown: {problem}"
    for name in sorted(validation, key=lambda name: name != competition.primary_metric):
        a, b = validation[name]
        if a is None or b is None:
            continue
        scores = f"val {words.get(name, name)} {render_number(a)} -> {render_number(b)}"
        if reason := not_comparable.get(f"val/{name}"):
            return [f"{scores}: not comparable: {reason}"]
        if a == b:
            return [f"{scores}; {unknown}"]
        better = names[(b > a) == higher_is_better(competition.metrics, name)]
        return [f"{scores}, {better} is ahead; {unknown}"]
    return [f"no validation score of both is known; {unknown}"]
