"""What explain, data suspects and data remove-background print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tracker.core.table import Column
from tracker.core.terminal import print_table, print_text
from tracker.training.numbers import render_count

if TYPE_CHECKING:
    from tracker.images.cutout import ChannelStatistics, CutoutResult
    from tracker.images.explain import Explanation
    from tracker.images.suspects import SuspectReport
    from tracker.training.inspect.duplicates import Pair

SHOWN = 15  # lines of a table; all are in the files


def print_explanation(found: Explanation, *, wide: bool = False) -> None:
    """What is on the sheet, and where that is."""
    rows = [
        (image.id, image.truth or "-", image.guess, f"{image.sure:.2f}") for image in found.images
    ]
    columns = (
        "image",
        Column("truth", leaves=2),
        Column("guess", leaves=1),
        Column("probability", leaves=3, right=True),
    )
    print_table(columns, rows, wide=wide)
    what = {"wrong": "wrong validation", "uncertain": "validation", "named": "named"}[found.pick]
    print_text(
        f"{found.sheet}: {len(found.images)} of {render_count(found.candidates, f'{what} image')}"
    )


def print_cutout(done: CutoutResult) -> None:
    """What was written, and the config lines for it."""
    report = done.report
    copied = f", {render_count(report.copied, 'other file')} copied" if report.copied else ""
    print_text(
        f"{done.out}: {render_count(report.cut, 'image')} cut out, {report.before} there"
        f" already{copied}"
    )
    if done.measured:
        print("\n[data]")
    for part in done.measured:
        print("\n".join(_render_measured(part)))


def _render_measured(part: ChannelStatistics) -> list[str]:
    """Lines of a config; there is one mean for training and evaluation, so that of the latter is a
    remark."""
    lines = [f"{part.key} = {json.dumps(part.folder, ensure_ascii=False)}"] if part.key else []
    remark = f"  # {part.images} images"
    channels = [f"mean = {list(part.mean)}{remark}", f"std = {list(part.std)}"]
    return lines + (
        [f"# its own {line}" for line in channels] if part.key == "eval_dir" else channels
    )


def print_suspects(found: SuspectReport, *, wide: bool = False) -> None:
    """The first of what was found, how much of the data it is about, and what to do with it."""
    suspects, pairs = found.suspects, found.pairs
    if suspects:
        rows = [
            (str(number), s.id, s.field, s.given, s.suggested, f"{s.score:.2f}", str(len(s.images)))
            for number, s in enumerate(suspects[:SHOWN], start=1)
        ]
        columns = (
            Column("#", right=True),
            Column("id"),
            Column("field", leaves=3),
            Column("given", leaves=1),
            Column("suggested", leaves=1),
            Column("p(given)", leaves=2, right=True),
            Column("images", leaves=4, right=True),
        )
        print_table(columns, rows, wide=wide)
        _print_order(found)
    for line in describe_model(found):
        print_text(line)
    print_text(
        f"it judges {found.covered} of {found.images} training images, those that it was not"
        " trained on"
    )
    if found.covered < found.images:
        print(
            f"  tracker run train --from {found.source} --folds 5 makes an ensemble that judges all"
            " of them"
        )
    if pairs:
        lines = [
            (
                str(number),
                p.a.id,
                p.b.id,
                f"{p.a.split}, {p.b.split}",
                _render_labels(p),
                str(p.distance),
            )
            for number, p in enumerate(pairs[:SHOWN], start=1)
        ]
        heads = (
            Column("#", right=True),
            Column("image"),
            Column("nearly equal"),
            Column("parts", leaves=3),
            Column("labels", leaves=1, text=True),
            Column("bits", leaves=2, right=True),
        )
        print_table(heads, lines, wide=wide)
        if len(pairs) > SHOWN:
            print_text(
                f"the first {SHOWN} of {len(pairs)} pairs, the nearest first; all are in"
                f" {_name_file(found, 'pairs')}"
            )
    print_text(
        f"{render_count(len(pairs), 'pair')} of nearly equal images (at most {found.threshold} of"
        " 256 bits differ)"
    )
    print_text("\n".join(found.files))
    if suspects:
        table = next(name for name in found.files if name.endswith(".csv"))
        print_text(f"where a suggestion is right, write yes under accept in {table}; then")
        print(f"  tracker run train --from {found.source} --set data.label_fixes={table}")


def _print_order(found: SuspectReport) -> None:
    """In which order suspects come, and where those are that the table leaves out."""
    count = len(found.suspects)
    shown = (
        f"the first {SHOWN} of {count} labels" if count > SHOWN else render_count(count, "label")
    )
    rest = f"; all are in {_name_file(found, 'labels')}" if count > SHOWN else ""
    order = (
        "those that confident learning found first, then those with more images against them, then"
        " by p(given)"
    )
    print_text(f"{shown}: {order}{rest}")


def _name_file(found: SuspectReport, name: str) -> str:
    """The table of that name among what was written."""
    return next((file for file in found.files if file.endswith(f"{name}.csv")), "the files below")


def describe_model(found: SuspectReport) -> Iterator[str]:
    """How many labels the model doubts, how often it is right, and what its doubts are worth."""
    weak = [strength for strength in found.model if strength.weak]
    doubts = [suspect for suspect in found.suspects if found.find_strength(suspect) in weak]
    if others := len(found.suspects) - len(doubts):
        confident = sum(suspect.confident for suspect in found.suspects)
        look = "looks" if others == 1 else "look"
        by = f"{confident} of them by confident learning"
        yield f"{render_count(others, 'label')} {look} wrong to {found.run}, {by}"
    elif not doubts:
        yield f"no label looks wrong to {found.run}"
    if doubts:
        yield (
            f"a weak model's doubts: {found.run} would give {render_count(len(doubts), 'label')}"
            " otherwise"
        )
    for strength in found.model:
        what = (
            "labels"
            if len(found.model) == 1
            else {"label": "masks"}.get(strength.field, f"{strength.field}s")
        )
        yield (
            f"  it agrees with {strength.accuracy:.1%} of the {strength.judged} {what} that it"
            f" judges (the commonest one alone: {strength.majority:.1%})"
        )
        if strength.weak and strength.credible < 0.5:
            yield (
                "  so most of these doubts are its own mistakes: where 3.3 % of the labels are"
                " wrong, as in public test sets (Northcutt et al. 2021), at most"
                f" {strength.credible:.0%} of such doubts are right"
            )
        elif strength.weak:
            yield "  that may be chance: it does not know more than the commonest one"


def _render_labels(pair: Pair) -> str:
    if pair.labels_differ:
        return f"{pair.a.label} / {pair.b.label}"
    return pair.a.label or pair.b.label or "-"
