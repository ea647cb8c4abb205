"""The verdict on two runs as sentences: what changed, did it help, is it real."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.comparison.statistics.decision import ALPHA, excludes_zero, is_below_limit
from tracker.comparison.statistics.groups import FEW
from tracker.core.config_diff import (
    list_changes,
    list_implied_keys,
    render_change,
    render_unknown_keys,
)
from tracker.core.text import render_number
from tracker.training.metrics import METRICS, find_kind, first_metric
from tracker.training.numbers import (
    render_count,
    render_decimals,
    render_digits,
    render_share,
)
from tracker.workspace.metrics import are_equal, higher_is_better, metric_title

if TYPE_CHECKING:
    from tracker.comparison.evidence import Evidence
    from tracker.comparison.statistics.paired import Difference, FoldTest, PairedComparison
    from tracker.workspace.tracker_toml import Competition, Metric

# 117 of 4,000 equal pairs, DECISIONS.md, "Runs are called different when the interval excludes 0".
WHY_ALPHA = "the limit that keeps false alarms under 1 in 20"
SHOWN = "4 times of 5"  # how often a difference of `smallest` is found: paired.POWER
LARGE = 100  # of numbers whose decimals say nothing
INSEPARABLE = "their effects cannot be separated"
MAX_KEYS = 3  # changed keys; the table below has them all


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
    """A few lines, the most important first.

    The competition's own metric decides if it is tested, otherwise macro F1. `validation` has the
    competition's metrics and those of METRICS for both runs, None where unknown. `not_comparable`
    says why some of them cannot be compared. `flattered` are the
    sides whose weights were searched on the validation images.
    """
    lines = [f"{names[0]} -> {names[1]}: {_name_changes(config, not_known)}"]
    metric = choose_tested(competition.primary, evidence.paired) if evidence.paired else ""
    if evidence.paired:
        if evidence.paired.metrics[metric].smallest is None:
            lines.append(_describe_equal(evidence, metric, names, metrics, predictions))
        else:
            told = _describe_test(evidence.paired, metric, names, is_flattered=bool(flattered))
            lines.append(told)
        lines += _explain_other_pair(evidence.paired.metrics[metric], metrics.get(f"val/{metric}"))
        if not flattered:
            lines += _list_other_metrics(evidence.paired, metric, names)
        lines += describe_units(evidence.paired)
    else:
        scores = _describe_scores(competition, validation, names, not_comparable, evidence.problem)
        if flattered:
            scores = [line.replace(" is ahead;", " has the better figure;") for line in scores]
        lines += scores
    if flattered:
        lines.append(
            f"flattered: the weights of {' and '.join(flattered)} were searched on these validation"
            " images, so validation scores, interval and p do not count as evidence"
        )
    if evidence.paired and evidence.folds and metric in evidence.folds:
        lines.append(_describe_folds(evidence.folds[metric], evidence.paired.metrics[metric]))
    public = metrics.get(f"public_{competition.primary.name}")
    if public and public["delta"]:
        old, new = (competition.primary.render(public[side]) for side in ("a", "b"))
        better = _choose_name(public["better"], names)
        lines.append(
            f"public {competition.primary.name} {old} -> {new}: {better} is ahead"
            f"{_count_answers(competition, metrics, predictions)}"
        )
    return lines


def choose_tested(metric: Metric, paired: PairedComparison) -> str:
    """The name of the tested metric that speaks for a metric of the competition: its own test.

    Otherwise the most decisive one that was tested.
    """
    computed = find_kind(metric.kind)
    wanted = (metric.name, computed.name if computed else "", first_metric())
    return next((name for name in wanted if name in paired.metrics), next(iter(paired.metrics)))


def is_other_pair(difference: Difference, logged: Sequence[float]) -> bool:
    """Whether the scores of the saved predictions are not those that were logged.

    A training loop of the user's own may save those of another epoch than its best.
    """
    pairs = zip((difference.a, difference.b), logged, strict=True)
    return any(
        not are_equal(saved, value) and render_number(saved) != render_number(float(value))
        for saved, value in pairs
    )


def _explain_other_pair(difference: Difference, logged: Mapping[str, Any] | None) -> list[str]:
    """That the answer is about other scores than the logged ones, where it is."""
    if logged is None or logged["a"] is None or logged["b"] is None:
        return []
    pair = (logged["a"], logged["b"])
    if not is_other_pair(difference, pair):
        return []
    a, b = map(render_number, pair)
    return [
        f"logged is another pair, {difference.title} {a} -> {b}: the predictions that were saved"
        " are of another epoch or model, and the answer is about these predictions alone"
    ]


def name_answer(difference: Difference, samples: int) -> str:
    """The words for a tested difference, the same in every command."""
    if difference.answer == "equal":
        return "no difference at all"
    if difference.answer == "not shown":
        return f"no difference that {samples:,} samples can show"
    return difference.answer


def _count_answers(
    competition: Competition,
    metrics: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Any] | None,
) -> str:
    """How few images may decide a public score: nothing else tells its noise.

    The images with other answers are not the lead: a lead of one image may come of ten of them.
    """
    if predictions is None or predictions["changed"] is None:
        return ", not tested for chance"
    changed, total, share = predictions["changed"], predictions["total"], competition.public_share
    public = "public and private together"
    if share:
        public += f", about {changed * share:.0f} of them public"
    counted = f"; the answers to {changed} of {total} images differ ({public})"
    accuracy = metrics.get("public_accuracy")
    if share and accuracy and accuracy["delta"]:
        net = abs(accuracy["delta"]) * share * total
        images = render_count(max(1, round(net)), "image")
        counted += f"; by public accuracy the runs are about {images} apart"
    return f"{counted}; not tested for chance"


def render_range(low: float, high: float, *, signed: bool = False) -> str:
    """Two numbers, with enough decimals to differ from each other and from 0: `0.006 to 0.019`.

    Large and tiny ones have four significant digits.
    """
    for decimals in (3, 4, 5):
        first, last = (render_decimals(end, decimals, signed=signed) for end in (low, high))
        hides_value = (low and not float(first)) or (high and not float(last))
        if first != last and not hides_value:
            break
    if max(abs(low), abs(high)) >= LARGE or (first == last and low != high):
        first, last = (render_number(value, signed=signed) for value in (low, high))
    return f"{first} to {last}"


def _name_changes(config: Mapping[str, list[Any]], not_known: Sequence[str]) -> str:
    changes = list_changes(config)
    unknown = f"; {render_unknown_keys(not_known)}" if not_known else ""
    if len(changes) <= MAX_KEYS:
        told = render_change(config) if config else "no config key changed"
        return f"{told}{f'; {INSEPARABLE}' if len(changes) > 1 else ''}{unknown}"
    following = len(list_implied_keys(config))
    verb = "follows" if following == 1 else "follow"
    others = f" (and {following} that {verb} from them)" if following else ""
    return f"{len(changes)} config keys changed{others}: {INSEPARABLE}{unknown}"


def _choose_name(side: str | None, names: tuple[str, str]) -> str:
    return names[side == "b"]


def _describe_test(
    paired: PairedComparison, metric: str, names: tuple[str, str], *, is_flattered: bool = False
) -> str:
    """Whether the difference is real; of a flattered score, that it is no evidence."""
    difference = paired.metrics[metric]
    samples = f"{paired.samples:,} samples"
    scores = f"{difference.title} {render_number(difference.a)} -> {render_number(difference.b)}"
    assert difference.smallest is not None  # noqa: S101  (`_describe_equal` tells of these)
    if not difference.higher_is_better:
        scores = f"{scores}, lower is better"
    if difference.better and is_flattered:
        better = _choose_name(difference.better, names)
        return f"no evidence: {better} has the better figure ({scores}, {samples})"
    if difference.better:
        low, high = sorted((abs(difference.low), abs(difference.high)))
        p_value = f"p = {render_digits(difference.p, 2)}, below the limit of {ALPHA:g}"
        better = f"{_choose_name(difference.better, names)} is better"
        return f"{better} by {render_range(low, high)} ({scores}, {samples}; {p_value})"
    answer = name_answer(difference, paired.samples)
    if difference.answer == "too close to call":
        return f"{answer}: {scores} on {samples}; {_explain_close(difference)}"
    interval = f"95 % interval {render_range(difference.low, difference.high, signed=True)}"
    return (
        f"{answer}: {scores}, {interval} includes 0"
        f" (a true difference of {_render_size(difference.smallest)} would show {SHOWN})"
    )


def _explain_close(difference: Difference) -> str:
    """Why it is too close to call: the two tests disagree, or other random draws could decide."""
    interval = f"95 % interval {render_range(difference.low, difference.high, signed=True)}"
    # one end may be limited to what the metric can be
    half_width = max(difference.high - difference.delta, difference.delta - difference.low)
    is_outside = excludes_zero(difference.delta, half_width, difference.resamples)
    is_below = is_below_limit(difference.p, difference.resamples)
    chance = f"two equally good runs would differ this much in {render_share(difference.p)} of"
    limit = f"the limit is {100 * ALPHA:g} %"
    if is_outside is not False and is_below is False:
        return f"{chance} cases, and {limit}"
    if is_outside is False and is_below is not False:
        return f"{interval} includes 0, though {chance} cases ({limit})"
    near = []
    if is_outside is None:
        near.append(f"an end of the {interval} is near 0")
    if is_below is None:
        near.append(f"p = {render_digits(difference.p, 2)} is near the limit of {ALPHA:g}")
    return f"{' and '.join(near)}, so other random draws could decide otherwise"


def describe_units(paired: PairedComparison) -> list[str]:
    """What was resampled, where it is not single images, or where it should not be."""
    if paired.groups_problem:
        return [
            f"resampled image by image, because {paired.groups_problem}: images of one group are"
            " alike, so the interval is too narrow"
        ]
    if not paired.unit:
        return []
    line = f"resampled by {paired.unit} ({render_count(paired.units, 'group')})"
    if paired.is_rough:
        line += f": fewer than {FEW} groups, so the interval is rough"
    return [line]


def _describe_equal(
    evidence: Evidence,
    metric: str,
    names: tuple[str, str],
    metrics: Mapping[str, Mapping[str, Any]],
    predictions: Mapping[str, Any] | None,
) -> str:
    """That the predictions are equal; predictions that differ may have equal scores, too.

    It is no difference at all only where no other figure of validation and no answer differs.
    """
    paired = evidence.paired
    assert paired is not None  # noqa: S101  (`write_verdict` has looked)
    difference, samples = paired.metrics[metric], f"{paired.samples:,} samples"
    if metric in METRICS and not evidence.moves:
        equal = f"the predictions are equal on all {samples} of the validation set"
    else:
        score = f"{difference.title} {render_number(difference.a)} in both"
        equal = f"{score}, however the {samples} of the validation set are drawn"
    others = [
        f"{name} differs ({_choose_name(item['better'], names)} is ahead)"
        for name, item in metrics.items()
        if name.startswith("val/") and name.count("/") == 1 and item["better"]
    ]
    if others:
        return f"{equal}; {', '.join(others)}"
    if evidence.moves or (predictions and predictions["changed"]):
        return equal
    return f"no difference at all: {equal}"


def _render_size(value: float) -> str:
    return render_decimals(value, 3) if 0.0005 <= value < LARGE else render_number(value)


def _list_other_metrics(paired: PairedComparison, metric: str, names: tuple[str, str]) -> list[str]:
    """The other metrics that disagree with the deciding one."""
    lines = []
    decided = paired.metrics[metric].better
    for difference in paired.metrics.values():
        ahead = _find_side_ahead(difference)
        if difference.better is None and decided and ahead and ahead != decided:
            lines.append(
                f"by {difference.title} alone, {_choose_name(ahead, names)} is ahead"
                f" ({name_answer(difference, paired.samples)})"
            )
        if difference.better is None or difference.better == decided:
            continue
        low, high = sorted((abs(difference.low), abs(difference.high)))
        better = _choose_name(difference.better, names)
        lines.append(
            f"by {difference.title} alone, {better} is better by {render_range(low, high)}"
        )
    return lines


def _find_side_ahead(difference: Difference) -> str | None:
    """The side with the better figure, real or not."""
    if are_equal(difference.a, difference.b):
        return None
    return "b" if (difference.delta > 0) == difference.higher_is_better else "a"


def _describe_folds(test: FoldTest, difference: Difference) -> str:
    sign = 1 if difference.higher_is_better else -1
    ahead = sum(sign * b > sign * a for a, b in zip(test.a, test.b, strict=True))
    conclusion = "it excludes 0: a difference"
    if test.low <= 0 <= test.high:
        conclusion = "it includes 0: no difference shown"
    delta = f"{difference.title} {render_number(test.delta, signed=True)}"
    interval = f"95 % interval {render_range(test.low, test.high, signed=True)}"
    p_value = f"p = {render_digits(test.p, 2)}"
    return (
        f"over {len(test.a)} folds: {delta} ({interval}, {p_value}; {conclusion}),"
        f" better in {ahead} of them"
    )


def _describe_scores(
    competition: Competition,
    validation: Mapping[str, Sequence[float | None]],
    names: tuple[str, str],
    not_comparable: Mapping[str, str],
    problem: str,
) -> list[str]:
    """The deciding validation score, or the next known one, where there are no statistics."""
    titles = {metric.name: metric.title for metric in METRICS.values()}
    titles |= {metric.name: metric_title(metric) for metric in competition.metrics}
    unknown = f"is it real? Unknown: {problem}"
    for name in sorted(validation, key=lambda name: name != competition.primary_metric):
        a, b = validation[name]
        if a is None or b is None:
            continue
        scores = f"val {titles.get(name, name)} {render_number(a)} -> {render_number(b)}"
        if reason := not_comparable.get(f"val/{name}"):
            return [f"{scores}: not comparable: {reason}"]
        if are_equal(a, b):
            return [f"{scores}; {unknown}"]
        better = names[(b > a) == higher_is_better(competition.metrics, name)]
        return [f"{scores}, {better} is ahead; {unknown}"]
    return [f"no validation score is known for both; {unknown}"]
