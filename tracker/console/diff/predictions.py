"""Which images are answered differently: predictions, right and wrong by class, single images."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence

from tracker.comparison.diff import RunDiff
from tracker.comparison.evidence import ChangedImage, Move
from tracker.console.diff.sections import Section
from tracker.core.table import Column, Styled
from tracker.core.text import render_answer, render_number
from tracker.training.numbers import render_share

MOVES = 8  # kinds of change to predictions; --json has them all


def render_predictions(diff: RunDiff) -> str:
    """How many of the predictions differ, in one sentence."""
    result = diff.predictions
    if result is None:
        return "predictions: not both runs have them"
    if result["equal_share"] is None:
        return f"predictions: {result['problem']}"
    if not result["changed"]:
        return f"predictions: all {result['total']} equal"
    if "greatest_difference" in result:
        correlation = render_number(result["rank_correlation"])
        return (
            f"predictions: {result['changed']} of {result['total']} differ, by at most"
            f" {render_number(result['greatest_difference'])}; rank correlation {correlation}"
        )
    return (
        f"predictions: {result['changed']} of {result['total']} differ"
        f" ({render_share(result['equal_share'])} equal)"
    )


def list_moves(diff: RunDiff) -> Iterator[Section]:
    """Which validation images are right or wrong now, by true class, and where predictions went."""
    validation, evaluation = diff.moves["validation"], diff.moves["evaluation"]
    if validation:
        columns = (
            Column("true class"),
            Column(f"right in {diff.b} only", leaves=2, right=True, group="sides"),
            Column(f"right in {diff.a} only", leaves=2, right=True, group="sides"),
            Column("wrong in both, differently", leaves=4, right=True),
            Column("most frequent change", leaves=3),
        )
        yield Section(columns=columns, rows=_count_by_class(validation))
    if evaluation:
        yield Section(lines=[*render_moves(diff, MOVES)])
    yield from list_changed_images(diff)


def render_moves(diff: RunDiff, most: int) -> Iterator[str]:
    """Where the predictions went, the `most` common changes by name."""
    changes = diff.moves["evaluation"]
    moves = [
        f"{render_answer(move.a)} -> {render_answer(move.b)} {move.images}"
        for move in changes[:most]
    ]
    if len(changes) > most:
        moves.append(f"and {len(changes) - most} other changes")
    if moves:
        yield f"predictions moved: {', '.join(moves)}"


def list_changed_images(diff: RunDiff) -> Iterator[Section]:
    """The images that --images asks for."""
    for kind, title in (("validation", "validation image"), ("evaluation", "image to predict")):
        if diff.images[kind]:
            sides = [Column(name, leaves=2, group="sides") for name in (diff.a, diff.b)]
            heads = (Column(title), Column("truth", leaves=3), *sides, Column("now", leaves=4))
            yield Section(columns=heads, rows=[_render_image(image) for image in diff.images[kind]])


def _count_by_class(moves: Sequence[Move]) -> list[tuple[Styled, ...]]:
    """A row for each true class that has changed, the most changed first."""
    counts: dict[str, Counter[str]] = {}
    most: dict[str, Move] = {}
    for move in moves:
        name = move.truth or "-"
        most.setdefault(name, move)
        counts.setdefault(name, Counter())[_name_change(move)] += move.images
    order = sorted(counts, key=lambda name: -counts[name].total())
    rows = []
    for name in order:
        changes = [str(counts[name][change]) for change in ("right", "wrong", "wrong as before")]
        commonest = f"{most[name].a} -> {most[name].b} {most[name].images}"
        rows.append(tuple(map(Styled, (name, *changes, commonest))))
    return rows


def _name_change(changed: Move | ChangedImage) -> str:
    if changed.truth is None:
        return "-"
    return (
        "right"
        if changed.b == changed.truth
        else "wrong"
        if changed.a == changed.truth
        else "wrong as before"
    )


def _render_image(image: ChangedImage) -> tuple[Styled, ...]:
    answers = (image.truth or "-", render_answer(image.a), render_answer(image.b))
    return tuple(map(Styled, (image.id, *answers, _name_change(image))))
