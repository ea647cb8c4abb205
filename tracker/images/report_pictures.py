"""The output of explain, data suspects and data remove-background."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tracker.core.table import Column, Styled
from tracker.core.terminal import print_table, print_text
from tracker.training.numbers import render_count, render_share

if TYPE_CHECKING:
    from tracker.images.cutout import ChannelStatistics, CutoutResult
    from tracker.images.explain import Explanation
    from tracker.images.suspects import SuspectReport
    from tracker.training.inspect.duplicates import Pair
    from tracker.training.inspect.suspects import Suspect

SHOWN = 15  # lines of a table; the files have all
SHORT_PARTS = 12  # the columns of `train, eval`, which less important columns leave for


def print_explanation(explanation: Explanation, *, wide: bool = False) -> None:
    """The images on the sheet, and where it is."""
    rows = [
        (image.id, image.truth or "-", image.guess, f"{image.sure:.2f}")
        for image in explanation.images
    ]
    columns = (
        "image",
        Column("truth", leaves=2),
        Column("guess", leaves=1),
        Column("probability", leaves=3, right=True),
    )
    print_table(columns, rows, wide=wide)
    kinds = {"wrong": "wrong validation", "uncertain": "validation", "named": "named"}
    of_all = render_count(explanation.candidates, f"{kinds[explanation.pick]} image")
    print_text(f"{explanation.sheet}: {len(explanation.images)} of {of_all}")
    if explanation.earlier:
        print_text(f"the sheet of the call before is now {explanation.earlier}")


def print_cutout(result: CutoutResult) -> None:
    """What was written, and the config lines for it."""
    report = result.report
    copied = f", {render_count(report.copied, 'other file')} copied" if report.copied else ""
    print_text(
        f"{result.out}: {render_count(report.cut, 'image')} cut out, {report.before} already"
        f" there{copied}"
    )
    if result.measured:
        print("\n[data]")
    for part in result.measured:
        print("\n".join(_render_measured(part)))


def _render_measured(part: ChannelStatistics) -> list[str]:
    """Lines of a config. It has one mean for all parts, so that of the evaluation is a comment."""
    lines = [f"{part.key} = {json.dumps(part.folder, ensure_ascii=False)}"] if part.key else []
    remark = f"  # {part.images} images"
    channels = [f"mean = {list(part.mean)}{remark}", f"std = {list(part.std)}"]
    if part.key == "eval_dir":
        channels = [f"# its own {line}" for line in channels]
    return lines + channels


def print_suspects(report: SuspectReport, *, wide: bool = False) -> None:
    """The first suspects and pairs, how much of the data was judged, and what to do next."""
    # Labels, and how much the model is worth.
    if report.suspects:
        _print_labels(report, wide=wide)
    for line in describe_model(report):
        print_text(line)
    print_text(
        f"it judges {report.covered} of {report.images} training images: those that it was not"
        " trained on"
    )
    if report.covered < report.images:
        print_text("an ensemble of folds judges all of them:")
        print(f"  tracker run train --from {report.source} --folds 5")
    # Pairs.
    if report.pairs:
        _print_pairs(report, wide=wide)
    print_text(
        f"{render_count(len(report.pairs), 'pair')} of nearly equal images (at most"
        f" {report.threshold} of 256 bits differ){_count_differing_labels(report)}"
    )
    # The files, and what to do with them.
    print_text("\n".join(report.files))
    if report.suspects:
        table = next(name for name in report.files if name.endswith(".csv"))
        print_text(f"where a suggestion is right, write yes under accept in {table}; then")
        # The config of the first member has its fold: alone it would repeat this fold only.
        every = f" --folds {report.folds}" if report.folds else ""
        assigned = shlex.quote(f"data.label_fixes={table}")
        print(f"  tracker run train --from {report.source}{every} --set {assigned}")


def _print_labels(report: SuspectReport, *, wide: bool) -> None:
    rows = [
        (
            str(number),
            one.id,
            one.field,
            one.given,
            one.suggested,
            f"{one.score:.2f}",
            _count_against(one),
        )
        for number, one in enumerate(report.suspects[:SHOWN], start=1)
    ]
    columns = (
        Column("#", right=True),
        Column("id"),
        Column("field", leaves=3),
        Column("given", leaves=1),
        Column("suggested", leaves=1),
        Column("p(given)", leaves=2, right=True),
        Column("images against", leaves=4, right=True),
    )
    print_table(columns, rows, wide=wide)
    _print_order(report)


def _print_pairs(report: SuspectReport, *, wide: bool) -> None:
    rows = []
    for number, pair in enumerate(report.pairs[:SHOWN], start=1):
        labels, distance = _render_labels(pair), str(pair.distance)
        rows.append((str(number), pair.a.id, pair.b.id, _style_parts(pair), labels, distance))
    columns = (
        Column("#", right=True),
        Column("image"),
        Column("nearly equal"),
        Column("parts", leaves=1, text=True, least=SHORT_PARTS),
        Column("labels", leaves=2, text=True),
        Column("bits", leaves=3, right=True),
    )
    print_table(columns, rows, wide=wide)
    if len(report.pairs) > SHOWN:
        print_text(
            f"the first {SHOWN} of {len(report.pairs)} pairs, the nearest first; all are in"
            f" {_name_file(report, 'pairs')}"
        )


def _print_order(report: SuspectReport) -> None:
    """The order of the suspects, and which file has all of them."""
    count = len(report.suspects)
    shown = (
        f"the first {SHOWN} of {count} labels" if count > SHOWN else render_count(count, "label")
    )
    rest = f"; all are in {_name_file(report, 'labels')}" if count > SHOWN else ""
    rules = []
    if any(suspect.confident for suspect in report.suspects):
        rules.append("first those of confident learning")
    if len({suspect.against for suspect in report.suspects}) > 1:
        rules.append("those with more images against them")
    order = ", then ".join([*rules, "by p(given), the lowest first"])
    print_text(f"{shown}: {order}{rest}")


def _name_file(report: SuspectReport, name: str) -> str:
    """The written table with that name."""
    return next((file for file in report.files if file.endswith(f"{name}.csv")), "the files below")


def describe_model(report: SuspectReport) -> Iterator[str]:
    """How many labels the model doubts, how often it is right, and whether to trust its doubts."""
    weak = [strength for strength in report.model if strength.weak]
    doubts = [suspect for suspect in report.suspects if report.find_strength(suspect) in weak]
    if others := len(report.suspects) - len(doubts):
        confident = sum(suspect.confident for suspect in report.suspects)
        yield (
            f"{report.run} doubts {render_count(others, 'label')}, {confident} of them by confident"
            " learning"
        )
    elif not doubts:
        yield f"{report.run} doubts no label"
    if doubts:
        yield (
            f"doubts of a weak model: {report.run} predicts another label for"
            f" {render_count(len(doubts), 'label')}"
        )
    for strength in report.model:
        # With several fields, the one called label is the mask.
        what = "labels"
        if len(report.model) > 1:
            what = {"label": "masks"}.get(strength.field, f"{strength.field}s")
        majority = render_share(strength.majority)
        yield (
            f"  it agrees with {render_share(strength.accuracy)} of the {strength.judged} {what}"
            f" that it judges (always predicting the most common one: {majority})"
        )
        if strength.weak and strength.credible < 0.5:
            yield (
                "  so most of these doubts are mistakes of the model: if 3.3 % of the labels are"
                " wrong, as in public test sets (Northcutt et al. 2021), at most"
                f" {render_share(strength.credible, decimals=0)} of such doubts are right"
            )
        elif strength.weak:
            yield "  that may be chance: always predicting the most common one is as good"


def _count_differing_labels(report: SuspectReport) -> str:
    """In how many pairs the labels differ, because a narrow table hides the labels."""
    differing = sum(pair.labels_differ for pair in report.pairs)
    return f"; the labels of {differing} differ" if differing else ""


def _count_against(suspect: Suspect) -> str:
    return f"{suspect.against} of {len(suspect.images)}"


def _style_parts(pair: Pair) -> Styled:
    """The parts of the data that both images are of: `train, eval` where there is little room."""
    whole = f"{pair.a.split}, {pair.b.split}"
    return Styled(
        whole, shorter=(whole.replace("validation", "val").replace("evaluation", "eval"),)
    )


def _render_labels(pair: Pair) -> str:
    if pair.labels_differ:
        return f"{pair.a.label} / {pair.b.label}"
    return pair.a.label or pair.b.label or "-"
