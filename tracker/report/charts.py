"""The two charts of the report: the timeline of scores, and one score against another."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from markupsafe import Markup

from tracker.comparison.statistics.regression import FEW_POINTS, describe_rank
from tracker.core.list_marks import FLATTERED
from tracker.report.data import Scatter, SubmissionEntry, label_metric
from tracker.report.svg import Drawing, Scale, fit_scale
from tracker.training.numbers import render_count
from tracker.workspace.metrics import NO_PUBLIC_SCORE
from tracker.workspace.tracker_toml import Metric

MAX_LABELED = 40  # beyond, only SOTA's steps have a label of their own
MAX_JOINED = 60  # beyond, public and private of a submission are not joined by a line
MAX_LARGE = 60  # beyond, points are smaller
MAX_TITLED = 500  # beyond, only the newest points and SOTA's steps have a title: the table has all
MAX_STEPS_LISTED = 10  # in the sentence below the timeline


def draw_timeline(
    entries: Sequence[SubmissionEntry], metric: Metric, *, width: float, height: float, name: str
) -> Markup:
    """Public and private score by submission number, with the best public score so far."""
    public, private = f"public_{metric.name}", f"private_{metric.name}"
    scored = list_scored(entries, metric)
    if not scored:
        return Markup("")
    left, right, bottom = 46.0, width - 16, height - 28
    numbers = [entry.number for entry in entries]
    x = Scale(min(numbers) - 0.5, max(numbers) + 0.5, left, right)
    known = []
    for entry in scored:
        known += [entry.values[key] for key in (public, private) if key in entry.values]
    y = fit_scale(known, bottom, 16.0)
    drawing = Drawing(width, height)
    _draw_rows(drawing, y, metric, (left, right))
    drawing.reserve_line((0, 0), (left - 4, height))
    for number in _pick_numbers(numbers, int(width / 36)):
        drawing.text((x(number), height - 8), "middle", str(number), "tick")
    steps = [entry for entry in entries if entry.was_sota]
    rising = _list_rising(steps, metric)
    _draw_steps(drawing, [(x(entry.number), y(entry.values[public])) for entry in rising], right)
    titled = {entry.number for entry in [*scored[-MAX_TITLED:], *steps]}
    for entry in scored:
        joined, is_titled = len(scored) <= MAX_JOINED, entry.number in titled
        _draw_entry(drawing, entry, metric, x(entry.number), y, joined=joined, titled=is_titled)
    for entry in reversed(steps):
        text = metric.render(entry.values[public])
        drawing.label((x(entry.number), y(entry.values[public])), text, "label strong")
    return drawing.finish(
        name, f"{label_metric(metric.name)} by submission", describe_timeline(entries, metric)
    )


def list_scored(entries: Sequence[SubmissionEntry], metric: Metric) -> list[SubmissionEntry]:
    """The submissions in the timeline: those with a public or a private score."""
    return [
        entry
        for entry in entries
        if {f"public_{metric.name}", f"private_{metric.name}"} & entry.values.keys()
    ]


def _draw_rows(
    drawing: Drawing, scale: Scale, metric: Metric, between: tuple[float, float]
) -> None:
    """Horizontal grid lines with their values."""
    ticks = scale.ticks(6)
    for tick, text in zip(ticks, render_ticks(ticks), strict=True):
        drawing.line((between[0], scale(tick)), (between[1], scale(tick)), "grid")
        drawing.text((between[0] - 8, scale(tick) + 4), "end", text, "tick")


def render_ticks(ticks: Sequence[float]) -> list[str]:
    """The labels of the ticks, all with as many digits as the finest one needs."""
    digits = 0
    while digits < 6 and not _are_exact(ticks, digits):
        digits += 1
    return [f"{value:.{digits}f}" for value in ticks]


def _are_exact(values: Sequence[float], digits: int) -> bool:
    return all(math.isclose(value, round(value, digits), abs_tol=1e-9) for value in values)


def _pick_numbers(numbers: Sequence[int], most: int) -> list[int]:
    """Submission numbers for the axis: all of them, or round ones."""
    if len(numbers) <= most:
        return list(numbers)
    round_numbers = Scale(min(numbers), max(numbers), 0, 1).ticks(most, whole=True)
    return [int(number) for number in round_numbers]


def _list_rising(steps: Sequence[SubmissionEntry], metric: Metric) -> list[SubmissionEntry]:
    """Those of the steps that are better than all of a smaller number.

    A row that was scored late stands before one that was SOTA until then.
    """
    key = f"public_{metric.name}"
    rising: list[SubmissionEntry] = []
    for entry in steps:
        if not rising or metric.is_better(entry.values[key], rising[-1].values[key]):
            rising.append(entry)
    return rising


def _draw_steps(drawing: Drawing, corners: Sequence[tuple[float, float]], right: float) -> None:
    """The staircase of the best score so far, to the right edge."""
    if not corners:
        return
    path = f"M{corners[0][0]:.1f} {corners[0][1]:.1f}"
    ends = [*corners[1:], (right, corners[-1][1])]
    for (x, y), (following, level) in zip(corners, ends, strict=True):
        path += f"H{following:.1f}V{level:.1f}"
        drawing.reserve_line((x, y), (following, y))
        drawing.reserve_line((following, y), (following, level))
    drawing.path(path, "steps")


def _draw_entry(
    drawing: Drawing,
    entry: SubmissionEntry,
    metric: Metric,
    x: float,
    y: Scale,
    *,
    joined: bool,
    titled: bool,
) -> None:
    """The public score filled, the private one hollow.

    A SOTA score is larger, a duplicate of an earlier submission is a cross.
    """
    scores = {}
    for split in ("private", "public"):
        score = entry.values.get(f"{split}_{metric.name}")
        if score is not None:
            scores[split] = score
    if joined and len(scores) == 2:
        drawing.line((x, y(scores["private"])), (x, y(scores["public"])), "joined")
    for split, value in scores.items():
        kind, radius = split, 3.5 if joined else 2.5
        if split == "public" and entry.was_sota:
            kind, radius = "public first", 5.0
        if split == "public" and entry.equal_to is not None:
            at = y(value)
            drawing.path(f"M{x - 4:.1f} {at - 4:.1f}l8 8m0 -8l-8 8", "duplicate")
            kind = "hidden"
        title = f"{entry.number}, {split} {metric.render(value)}: {entry.memo}"
        drawing.dot((x, y(value)), radius, kind, title if titled else "")


def describe_timeline(entries: Sequence[SubmissionEntry], metric: Metric) -> str:
    """The timeline in words: how many submissions are drawn, and which became SOTA."""
    steps = [entry for entry in entries if entry.was_sota]
    if not steps:
        return f"{render_count(len(entries), 'submission')}, {NO_PUBLIC_SCORE}."
    drawn = len(list_scored(entries, metric))
    count = render_count(drawn, "submission")
    if drawn != len(entries):
        count = f"{drawn} of {len(entries)} submissions have a score"
    key = f"public_{metric.name}"
    # each of them beat the one before, so this is the order in which they were scored
    steps.sort(key=lambda entry: entry.values[key], reverse=not metric.higher_is_better)
    listed = steps[-MAX_STEPS_LISTED:]
    scores = [f"{metric.render(entry.values[key])} ({entry.number})" for entry in listed]
    what = f"{len(steps)} became SOTA"
    if len(listed) < len(steps):
        what += f", the last {len(listed)}"
    lower = "" if metric.higher_is_better else ", lower is better"
    return (
        f"{count}; {what} with this public {label_metric(metric.name)} (submission{lower}):"
        f" {', '.join(scores)}."
    )


def draw_scatter(
    relation: Scatter,
    metrics: tuple[Metric, Metric],
    steps: Iterable[int],
    *,
    size: float,
    name: str,
    close: bool = False,
) -> Markup:
    """One score against another, with the line of equal values if both have the same metric.

    Both axes then have the same scale, except in a `close` view.
    """
    left, top, right, bottom = 46.0, 12.0, size - 12, size - 42
    xs, ys = [x for _, x, _ in relation.points], [y for _, _, y in relation.points]
    both = xs + ys if relation.same_metric and not close else []
    x, y = fit_scale(both or xs, left, right), fit_scale(both or ys, bottom, top)
    drawing = Drawing(size, size)
    _draw_rows(drawing, y, metrics[1], (left, right))
    across, up = title_axis(relation.x, metrics[0]), title_axis(relation.y, metrics[1])
    ticks = x.ticks(5)
    for tick, text in zip(ticks, render_ticks(ticks), strict=True):
        drawing.line((x(tick), top), (x(tick), bottom), "grid")
        drawing.text((x(tick), bottom + 16), "middle", text, "tick")
    drawing.text(
        ((left + right) / 2, size - 6),
        "middle",
        f"{across} \u2192",
        "axis",
    )
    drawing.text((left, top - 2), "start", f"{up} \u2191", "axis")
    low, high = max(x.low, y.low), min(x.high, y.high)
    if relation.same_metric and low < high:
        drawing.line((x(low), y(low)), (x(high), y(high)), "equal")
    best = set(steps)
    ordered = sorted(relation.points, key=lambda point: (point[0] in best, point[0]))
    titled = best.union(sorted(number for number, _, _ in ordered)[-MAX_TITLED:])
    others = set(relation.others)
    for number, a, b in ordered:
        kind = "public first" if number in best else "public"
        drawing.dot(
            (x(a), y(b)),
            4 if len(ordered) <= MAX_LARGE else 2.5,
            f"{kind} other" if number in others else kind,
            f"{number}: {metrics[0].render(a)}, {metrics[1].render(b)}" if number in titled else "",
        )
    for number, a, b in reversed(ordered):
        if number in best or len(ordered) <= MAX_LABELED:
            drawing.label((x(a), y(b)), str(number), "label strong" if number in best else "label")
    return drawing.finish(name, title_scatter(relation), describe_scatter(relation))


def title_axis(key: str, metric: Metric) -> str:
    """The name of an axis, and that lower is better where it is."""
    return name_axis(key) + ("" if metric.higher_is_better else " (lower is better)")


def name_axis(key: str) -> str:
    """The score of an axis: `val_f1` is `validation F1`."""
    split, _, metric = key.partition("_")
    return f"{'validation' if split == 'val' else split} {label_metric(metric)}"


def title_scatter(relation: Scatter) -> str:
    """The heading of a scatter."""
    first, second = name_axis(relation.x), name_axis(relation.y)
    return f"{first[:1].upper()}{first[1:]} against {second}"


def describe_scatter(relation: Scatter) -> str:
    """A scatter in words: the rank correlation and its caveats."""
    count = render_count(relation.ranked, "submission")
    of_all = f"{relation.ranked} of {render_count(len(relation.points), 'submission')}"
    if relation.schemes > 1:
        others = f"the largest of {relation.schemes} validation schemes, which do not compare"
        count = f"{of_all}, those of {others}"
    elif relation.flattered:
        count = of_all
    if relation.flattered:
        numbers = ", ".join(map(str, relation.flattered))
        count += f" (without {numbers}, {FLATTERED})"
    told = describe_rank(relation.rank, relation.ranked)
    if relation.rank is None:
        return f"{count}: {told}."
    caution = " Few submissions: read it with caution." if relation.ranked < FEW_POINTS else ""
    return f"{told}, over {count}.{caution}"
