"""The first line of check, submit and score: better than SOTA or not, a duplicate, a refusal."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.core.config_diff import (
    describe_ensemble_step,
    describe_other_ensemble,
    list_changes,
    render_unknown_keys,
)
from tracker.core.list_marks import FLATTERED
from tracker.core.text import render_number
from tracker.ledger.records import Submission
from tracker.training.metrics import find_kind
from tracker.training.numbers import render_decimals, render_digits
from tracker.workspace.metrics import NO_PUBLIC_SCORE, are_equal

if TYPE_CHECKING:
    from tracker.comparison.leaderboard_noise import SampleSizes
    from tracker.comparison.statistics.paired import PairedComparison
    from tracker.core.errors import DuplicateError
    from tracker.workspace.tracker_toml import Competition, Metric

# Scores are typed with four decimals: 1 of 160 images is 0.00625, and 0.0062 is one image, too.
ONE_IMAGE_ROUNDING = 0.02
Pairs = Mapping[str, Sequence[float | None]]


def render_check_headline(
    competition: Competition,
    *,
    duplicate: DuplicateError | None,
    earlier: Submission | None = None,
    sota: Submission | None,
    validation: Pairs,
    config_diff: Mapping[str, Sequence[Any]] | None,
    not_comparable: Mapping[str, str],
    searched: bool,
    sota_searched: bool = False,
    not_known: Sequence[str] = (),
    paired: PairedComparison | None = None,
) -> str:
    """The first line of check where nothing is refused, or the run is a duplicate.

    `earlier` is the submission of this very run, where it was submitted already.

    `validation` has {val_f1: [SOTA's, this run's]}.

    `paired` is the test of SOTA (a) and this run (b) on their validation images, None where they
    cannot be tested.

    `searched`, `sota_searched`: weights of an ensemble, or of a member, were searched on the
    validation images.
    `not_known`: the config keys that only one of the two has.
    """
    if earlier is not None:
        return _render_earlier(competition, earlier)
    if duplicate is not None:
        rejected = ", which the leaderboard rejected" if duplicate.rejected else ""
        return f"duplicate of submission {duplicate.number}{rejected}"
    if sota is None:
        return NO_PUBLIC_SCORE
    caveat = _find_caveat(searched=searched, sota_searched=sota_searched)
    result = _compare_by_validation(
        competition, validation, not_comparable, caveat=caveat, paired=None if caveat else paired
    )
    changes = _count_changes(config_diff or {}, not_known)
    if searched and FLATTERED not in result:
        changes += f". Its validation score is {FLATTERED}"
    return f"{result}; {changes}"


def _render_earlier(competition: Competition, row: Submission) -> str:
    """`already submitted as 3 on 2026-11-27 15:05: public f1 0.5833`."""
    metric = competition.primary
    score = row.scores.get(f"public_{metric.name}")
    result = (
        "no public score yet" if score is None else f"public {metric.name} " + metric.render(score)
    )
    if row.is_rejected:
        result = "the leaderboard rejected it"
    at = competition.local_time(row.submitted_at)
    return f"already submitted as {row.number} on {at}: {result}"


def render_submit_headline(
    competition: Competition,
    row: Submission,
    before: Submission | None,
    after: Submission | None,
    *,
    checked: str,
    count_images: Callable[[], SampleSizes],
) -> str:
    """The first line of submit: the public score against SOTA; without a score, check's line."""
    if row.scores.get(f"public_{competition.primary_metric}") is None:
        without = f"submitted as {row.number}, no public score yet"
        return without if checked == NO_PUBLIC_SCORE else f"{without}; {checked}"
    return render_score_headline(competition, row, before, after, count_images)


def render_score_headline(
    competition: Competition,
    row: Submission,
    before: Submission | None,
    after: Submission | None,
    count_images: Callable[[], SampleSizes],
) -> str:
    """The first line of score; `before` and `after` are SOTA before and after this score.

    `count_images` is asked for the number of public images where a gap may be less than one.
    """
    metric, key = competition.primary, f"public_{competition.primary_metric}"
    own = row.scores.get(key)
    if own is None or after is None:
        return f"recorded for submission {row.number}; it has no public {metric.name} yet"
    name = f"public {metric.name}"
    was_sota = before is not None and before.number == row.number
    if after.number == row.number:
        if before is None:
            return f"first SOTA: {name} {metric.render(own)}"
        old = before.scores.get(key)
        state = "still SOTA"
        if not was_sota:
            state = f"new SOTA{_admit_small_gap(metric, old, own, count_images)}"
        return f"{state}: {name} {_render_pair(metric, old, own)}"
    best = after.scores[key]
    lost = "no longer SOTA, " if was_sota else ""
    where = f"SOTA, submission {after.number}: {name}"
    if own == best:
        return f"{lost}equal to {where} {metric.render(own)}"
    return f"{lost}{_render_gap(metric, own, best)} {where} {_render_pair(metric, best, own)}"


def _admit_small_gap(
    metric: Metric, old: float | None, new: float, count_images: Callable[[], SampleSizes]
) -> str:
    """` by less than one image of 160 public ones`, where the gap is smaller than that.

    Only of a share of the images: in macro F1, an image of a rare class is much more than 1 / 160,
    and one of a common class can be less.
    """
    computed = find_kind(metric.kind)
    if old is None or computed is None or not computed.of_images:
        return ""
    sample = count_images()
    if not sample.public or abs(new - old) * sample.public >= 1 - ONE_IMAGE_ROUNDING:
        return ""
    about = "" if sample.source in ("solution", "as given") else "about "
    return f" by less than one image of {about}{sample.public:,} public ones"


def _find_caveat(*, searched: bool, sota_searched: bool) -> str:
    """What makes a score too good: the weights of an ensemble were chosen by it."""
    if searched and sota_searched:
        return f", both {FLATTERED}"
    if sota_searched:
        return f", but SOTA's score is {FLATTERED}"
    return f", {FLATTERED}" if searched else ""


def _compare_by_validation(
    competition: Competition,
    validation: Pairs,
    not_comparable: Mapping[str, str],
    *,
    caveat: str,
    paired: PairedComparison | None = None,
) -> str:
    """Above or below SOTA by the deciding metric, or by the first that both have."""
    names = sorted(validation, key=lambda name: name != f"val_{competition.primary_metric}")
    known = {metric.name: metric for metric in competition.metrics}
    for name in names:
        old, new = validation[name]
        metric = known.get(name.removeprefix("val_"))
        if metric is None or old is None or new is None:
            continue
        if reason := not_comparable.get(name):
            return f"not comparable with SOTA by validation: {reason}"
        if are_equal(old, new):
            return f"equal to SOTA by validation ({metric.name} {metric.render(new)}){caveat}"
        pair = f"{metric.name} {_render_pair(metric, old, new)}"
        # Of a flattered score the caveat says it.
        gain = "" if caveat else ", unknown whether real"
        if paired:
            gain = judge_gain(paired, metric, is_gain=metric.is_better(new, old), logged=(old, new))
        return f"{_render_gap(metric, new, old)} SOTA by validation ({pair}){gain}{caveat}"
    return "not comparable with SOTA by validation: they have no metric in common"


def judge_gain(
    paired: PairedComparison,
    metric: Metric,
    *,
    is_gain: bool,
    logged: tuple[float, float] | None = None,
) -> str:
    """Whether a difference to SOTA is real, as in `diff`, or empty when no test says so.

    A metric that is not tested has the test of the most decisive one that is, which is then named.
    Where the saved predictions have other scores than the `logged` pair that stands before it, it
    says which: p is about them.
    """
    from tracker.comparison.verdict import choose_tested, is_other_pair, name_answer

    kind = find_kind(metric.kind)
    name = choose_tested(metric, paired)
    difference = paired.metrics[name]
    is_own = name == metric.name or (kind is not None and kind.name == name)
    by = "" if is_own else f" by {difference.title}"
    answer = name_answer(difference, paired.samples)
    saved = ""
    if is_own and logged and is_other_pair(difference, logged):
        pair = f"{metric.name} {metric.render(difference.a)} -> {metric.render(difference.b)}"
        saved = f"other than logged: {pair}"
    if difference.smallest is None:
        others = f"; {saved}" if saved else ""
        equal = "the predictions on the validation images are equal"
        if any(item.smallest is not None for item in paired.metrics.values()):
            equal = f"{difference.title} is the same, however the validation images are drawn"
        return f", {answer} ({equal}{others})"
    units = f"; by {paired.unit}, {paired.units:,} groups" if paired.unit else ""
    p_value = f"(p = {render_digits(difference.p, 2)}{units})"
    if saved:
        answer = f"by the saved predictions ({saved}) {answer}"
    if difference.better is None:
        return f", {answer}{by} {p_value}"
    if (difference.better == "b") != is_gain:
        which = f" ({saved})" if saved else ""
        return f", but the saved predictions{which} say the opposite{by} {p_value}"
    return f", {answer}{by} {p_value}"


def _render_gap(metric: Metric, value: float, best: float) -> str:
    """The distance of a value from the best one, with its direction."""
    shown = _render_size(abs(value - best))
    if metric.higher_is_better:
        direction = "above" if value > best else "below"
    else:
        direction = "better than" if value < best else "worse than"
    return f"{shown} {direction}"


def _render_size(gap: float) -> str:
    """The size of a gap as people write it, never as 7.036e-05."""
    if gap < 0.0001:
        return "less than 0.0001"
    if gap < 1:
        return render_decimals(gap, 4)  # as many decimals as the scores it lies between
    return f"{gap:.0f}" if gap >= 1e6 else render_number(gap)


def _render_pair(metric: Metric, old: float | None, new: float) -> str:
    if old is None or old == new:
        return metric.render(new)
    return f"{metric.render(old)} -> {metric.render(new)}"


def _count_changes(diff: Mapping[str, Sequence[Any]], not_known: Sequence[str]) -> str:
    """The number of changes, or the change itself if it is only one.

    An ensemble beside a single model is no one change, and where keys are not known, one known
    change may not be the only one.
    """
    if step := describe_ensemble_step(diff):
        return step
    known = "known " if not_known else ""
    unknown = f", {render_unknown_keys(not_known)}" if not_known else ""
    if others := describe_other_ensemble(diff):
        return f"{others}{unknown}"
    changes = list_changes(diff)
    if not changes:
        return f"no {known}config key changed{unknown}"
    if len(changes) > 1:
        return f"{len(changes)} keys changed at once{unknown}"
    return f"one {known}change: {changes[0]}{unknown}"
