"""Whether the difference is real: intervals and tests of the paired comparison."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from tracker.comparison.diff import RunDiff
from tracker.comparison.statistics.decision import ALPHA
from tracker.comparison.verdict import WHY_ALPHA, render_range
from tracker.console.diff.sections import Section
from tracker.core.table import Column, Styled
from tracker.core.text import render_number

if TYPE_CHECKING:
    from tracker.comparison.statistics.paired import Difference, PairedComparison
from tracker.training.numbers import render_count, render_digits


def list_statistics(diff: RunDiff) -> Iterator[Section]:
    """The table of differences with their intervals, and how they were tested."""
    paired = diff.statistics
    if paired is None:
        yield Section(lines=[f"no statistics: {diff.problem}"])
        return
    rows = [_render_difference(item) for item in paired.metrics.values()]
    title = f"{paired.samples:,} validation images"
    columns = (
        Column(title),
        *[Column(name, leaves=2, right=True, group="sides") for name in (diff.a, diff.b)],
        Column("delta", right=True),
        Column("95 % interval", leaves=3),
        Column("swap test p", leaves=4, right=True),
        Column("detectable", leaves=5, right=True),
    )
    yield Section(columns=columns, rows=rows)
    lines = [
        (
            "a difference is called real where the 95 % interval leaves out 0 and the swap test"
            f" has p <= {ALPHA:g}, {WHY_ALPHA}; both by more than the error of the resamples"
        ),
        *_render_mcnemar(diff, paired),
        *_render_resamples(paired),
    ]
    if diff.folds_problem:
        lines.append(f"no test over folds: {diff.folds_problem}")
    yield Section(lines=lines)


def _render_difference(result: Difference) -> tuple[Styled, ...]:
    texts = (
        result.title if result.higher_is_better else f"{result.title} (lower is better)",
        render_number(result.a),
        render_number(result.b),
        render_number(result.delta, signed=True),
        render_range(result.low, result.high, signed=True),
        render_digits(result.p, 3),
        render_number(result.smallest),
    )
    return tuple(map(Styled, texts))


def _render_mcnemar(diff: RunDiff, paired: PairedComparison) -> Iterator[str]:
    """How many images only one run has right; nothing where they have no class."""
    test = paired.mcnemar
    if test is not None:
        yield (
            f"right in {diff.b} only: {test.only_b:,}, in {diff.a} only: {test.only_a:,} (McNemar p"
            f" = {render_digits(test.p, 3)}); {paired.resamples:,} resamples{_name_units(paired)}"
        )


def _render_resamples(paired: PairedComparison) -> Iterator[str]:
    """The numbers of resamples that are not yet named, and the metrics without any."""
    named = None if paired.mcnemar is None else paired.resamples
    counts: dict[int, list[str]] = {}
    for item in paired.metrics.values():
        counts.setdefault(item.resamples, []).append(item.title)
    for number, titles in counts.items():
        if number != named:
            units = "" if named is not None else _name_units(paired)
            yield f"{', '.join(titles)}: {number:,} resamples{units}"
    if paired.undefined:
        yield f"not defined for these validation images: {', '.join(paired.undefined)}"


def _name_units(paired: PairedComparison) -> str:
    """What was resampled, where it is not single images."""
    return f", by {paired.unit} ({render_count(paired.units, 'group')})" if paired.unit else ""
