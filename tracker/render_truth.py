"""What `tracker leaderboard truth` and `tracker select` print: sentences, with the assumptions beside the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.report import render_number, render_value
from tracker.truth import SMALL

if TYPE_CHECKING:
    from tracker.truth import Relation, Truth

WORDS = {"val": "validation", "public": "public", "private": "private"}


def render_truth(found: Truth) -> str:
    """The whole answer as lines."""
    lines = [f"{found.submissions} submissions, {found.scored} with public scores"]
    if not found.relations:
        lines.append("nothing to relate yet: no submission has two of validation, public and private score")
    for relation in found.relations:
        lines += ["", *_describe_relation(relation)]
    if len(found.schemes) > 1:
        lines += ["", "the validation scheme was changed, so validation scores of these groups do not compare:"]
        for scheme in found.schemes:
            values = ", ".join(f"{key} {render_value(value)}" for key, value in scheme["values"].items())
            lines.append(f"  {join_numbers(scheme['numbers'])}: {values}")
    return "\n".join([*lines, "", *_describe_luck(found), ""])


def _describe_relation(relation: Relation) -> Iterator[str]:
    few = " (few: take it as a hint)" if relation.n < SMALL else ""
    yield f"{WORDS[relation.x]} -> {WORDS[relation.y]} {relation.metric}: {relation.n} submissions{few}"
    if relation.left_out:
        yield f"  left out, of another validation scheme: {join_numbers(relation.left_out)}"
    if relation.repeats:
        yield f"  {relation.repeats} of them repeat earlier scores exactly and do not narrow the interval"
    if relation.line is None:
        why = f"all have the same {WORDS[relation.x]} score" if relation.n >= 3 else "three are needed"
        yield f"  no line: {why}"
    else:
        line = relation.line
        sign = "+" if line.intercept >= 0 else "-"
        yield (
            f"  {WORDS[relation.y]} = {line.slope:.3f} * {WORDS[relation.x]} {sign} {abs(line.intercept):.4f}, "
            f"residual standard deviation {line.residual_sd:.4f}"
        )
    if relation.rank is not None:
        rank = relation.rank
        bounds = f", 95 % interval {rank.low:.3f} to {rank.high:.3f}" if rank.low is not None else ", no interval"
        yield f"  Spearman {rank.rho:.3f}{bounds}"
    for item in relation.outliers:
        expected = f"{render_number(item.y)} where {render_number(item.expected)} was to be expected"
        yield f"  far off: submission {item.number}, {expected} ({item.distance:+.1f} standard deviations)"


def _describe_luck(found: Truth) -> Iterator[str]:
    luck, sample = found.luck, found.sample
    if sample.public:
        yield f"public images: {sample.public} ({sample.source})"
    if luck is None:
        if not sample.public:
            yield "how much of the best score is luck: unknown without the number of public images"
            yield "  try: tracker leaderboard truth --public-images N, or public_share in tracker.toml"
        return
    score = f"public {luck.metric} {render_number(luck.score)}"
    yield f"the best of {luck.looks} looks is submission {luck.best} with {score}; of that, luck is"
    yield f"  {luck.low:.4f} if all scores are the true skills, and up to {luck.high:.4f} if all are equally good"
    yield f"  a score's own noise: {luck.own_sd:.4f}, by {luck.source}"
    yield "  assumed: normal noise, the same for all; looks at the leaderboard did not steer what was tried next"


def join_numbers(numbers: Sequence[int]) -> str:
    """`submissions 1, 2 and 3`."""
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return f"submission {words[0]}"
    return f"submissions {', '.join(words[:-1])} and {words[-1]}"
