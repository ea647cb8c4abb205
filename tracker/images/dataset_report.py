"""Tables for people about a data set: its parts, classes and split."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from tracker.core.table import Column
from tracker.core.terminal import print_table, print_text
from tracker.core.text import render_number
from tracker.training.numbers import render_count

if TYPE_CHECKING:
    from tracker.images.dataset import DataCheck
    from tracker.training.inspect.survey import SplitTable, Survey

SHOWN_SIZES = 3  # in a cell of the table
PART_WORDS = {"train": "training", "val": "validation"}  # the CSV keeps the short ones


def print_check(check: DataCheck) -> None:
    """Notes, then every problem and what to do, or the number of images."""
    for note in check.notes:
        print_text(note)
    if check.problems:
        print_text(f"{render_count(len(check.problems), 'problem')} in the data:")
        for problem in check.problems:
            print_text(f"  {problem}")
        _print_written(check)
        return
    counts = (
        f"{check.training} training, {check.validation} validation, {check.evaluation} evaluation"
        " images"
    )
    print_text(f"{counts}: all can be used\ndata fingerprint {check.fingerprint}")


def _print_written(check: DataCheck) -> None:
    """The CSV of images to exclude, and whether training is possible with it."""
    if check.written is None:
        return
    name, left = check.written.exclude, check.written.left
    print_text(
        f"{name}: {check.written.broken} broken, {check.written.images} training images to exclude"
    )
    if left:
        print_text(f"{render_count(len(left), 'problem')} left with it:")
        print_text("\n".join(f"  {problem}" for problem in left))
    else:
        assigned = shlex.quote(f"data.exclude={name}")
        print_text(f"next: tracker run train --set {assigned}")


def print_survey(survey: Survey, *, wide: bool = False) -> None:
    """The parts, then classes, attributes and ages side by side."""
    _print_parts(survey, wide=wide)
    labeled = {name: part for name, part in survey.parts.items() if part.classes}
    classes = {name: part.classes for name, part in labeled.items()}
    if classes:
        _print_counts("class", classes, "images", wide=wide, totals=_count_images(survey))
    for attribute in next(iter(labeled.values()), survey.parts["training"]).attributes:
        values = {name: part.attributes[attribute] for name, part in labeled.items()}
        _print_counts(attribute, values, "images", wide=wide)
    if survey.age_bands:
        first, second = survey.age_bands
        print_text(f"age: young below {first}, middle below {second}, then old")
        decades = {name: _by_decade(part.ages) for name, part in labeled.items()}
        known = sorted({decade for counts in decades.values() for decade in counts})
        ages = {}
        for name, counts in decades.items():
            ages[name] = {f"{decade} to {decade + 9}": counts[decade] for decade in known}
        _print_counts("years", ages, "people", wide=wide)


def _print_parts(survey: Survey, *, wide: bool) -> None:
    columns = (
        "part",
        Column("images", leaves=1, right=True),
        Column("people", leaves=2, right=True),
        Column("mean R, G, B", leaves=3),
        Column("std R, G, B", leaves=4),
        # A long list for photographs from many cameras.
        Column("width x height", leaves=6, text=True),
        Column("format", leaves=5),
    )
    rows = []
    for name, part in survey.parts.items():
        people = "-" if part.people is None else str(part.people)
        mean = ", ".join(render_number(value) for value in part.mean)
        std = ", ".join(render_number(value) for value in part.std)
        sizes, formats = _render_counts(part.sizes), _render_counts(part.formats)
        rows.append((name, str(part.images), people, mean, std, sizes, formats))
    print_table(columns, rows, wide=wide)


def print_split(table: SplitTable, *, wide: bool = False) -> None:
    """The number of images of each class in each part of the split."""
    prefix = "fold " if table.column == "fold" else ""
    _print_counts(
        "range" if table.means else "class",
        {f"{prefix}{PART_WORDS.get(part, part)}": each for part, each in table.counts.items()},
        "images",
        wide=wide,
        totals={f"{prefix}{PART_WORDS.get(part, part)}": n for part, n in table.sizes.items()},
    )
    if table.means:
        means = [f"{prefix}{part} {render_number(mean)}" for part, mean in table.means.items()]
        print_text(f"mean: {', '.join(means)}")


def list_warnings(table: SplitTable) -> list[str]:
    """A sentence for each class that is missing in a validation part."""
    prefix = "fold " if table.column == "fold" else ""
    return [
        f"no image with {name} in {prefix}{part}"
        if table.means
        else f"no image of class {name} in {prefix}{part}: its F1 is 0 there"
        for part, name in table.missing
    ]


def _print_counts(
    what: str,
    parts: Mapping[str, Mapping[str, int]],
    unit: str,
    *,
    wide: bool,
    totals: Mapping[str, int] | None = None,
) -> None:
    """A row for each name, and for each part its count and share.

    `totals` where they are not the sums: an image may have several classes.
    """
    totals = totals or {part: sum(counts.values()) for part, counts in parts.items()}
    names = list(next(iter(parts.values())))
    rows = []
    for name in names:
        shares = [_render_share(counts[name], totals[part]) for part, counts in parts.items()]
        rows.append((name, *shares))
    columns = [
        Column(f"{part} {unit}", leaves=number, right=True)
        for number, part in enumerate(parts, start=1)
    ]
    last = ("all", *[str(total) for total in totals.values()])
    print_table([what, *columns], [*rows, last], wide=wide)


def _count_images(survey: Survey) -> dict[str, int]:
    return {name: part.images for name, part in survey.parts.items() if part.classes}


def _render_share(count: int, total: int) -> str:
    return f"{count} ({100 * count / total:.1f} %)" if total else "0"


def _render_counts(counts: Mapping[str, int]) -> str:
    """The most common ones, and how many others."""
    shown: Sequence[tuple[str, int]] = list(counts.items())[:SHOWN_SIZES]
    if len(counts) == 1:
        return shown[0][0]
    more = [f"{len(counts) - SHOWN_SIZES} more"] if len(counts) > SHOWN_SIZES else []
    return ", ".join([f"{name} ({count})" for name, count in shown] + more)


def _by_decade(ages: Mapping[int, int]) -> Counter[int]:
    decades: Counter[int] = Counter()
    for age, people in ages.items():
        decades[age // 10 * 10] += people
    return decades
