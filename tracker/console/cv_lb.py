"""What `tracker leaderboard cv-lb` and `tracker select` print: sentences, with the assumptions
beside the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.comparison.cv_lb import explain_no_prediction
from tracker.comparison.leaderboard_noise import MIN_PRIVATE_SCORES
from tracker.comparison.statistics.regression import CONFIDENCE, FEW_POINTS
from tracker.core.list_marks import FLATTERED
from tracker.core.text import render_number, render_value

if TYPE_CHECKING:
    from tracker.comparison.cv_lb import CvLb, ScoreRelation
    from tracker.comparison.selection import Contender, Selection, SimulatedSet, Simulation
    from tracker.workspace.tracker_toml import Competition

WORDS = {"val": "validation", "public": "public", "private": "private"}
SURELY = f"with {CONFIDENCE:.0%} certainty"  # what Line.tells_apart asks for
MOST_PAIRS = 4  # differences that are printed one by one


def render_cv_lb(result: CvLb) -> str:
    """The whole answer as lines."""
    lines = [f"{result.submissions} submissions, {result.scored} with public scores"]
    if not result.relations:
        lines.append(
            "nothing to relate yet: no submission has two of validation, public and private score"
        )
    for relation in result.relations:
        if relation.scheme is None or relation.line is not None:
            lines += ["", *_describe_relation(relation, schemes=len(result.schemes))]
    lines += _explain_no_lines(result.relations)
    if result.flattered:
        lines.append(f"in no line of validation, {FLATTERED}: {join_numbers(result.flattered)}")
    if result.unknown:
        numbers = join_numbers(result.unknown)
        lines.append(f"in no line of validation, how it validated is not known: {numbers}")
    if len(result.schemes) > 1:
        lines += [
            "",
            (
                "the validation scheme was changed, so validation scores of these groups do not"
                " compare:"
            ),
        ]
        for scheme in result.schemes:
            values = ", ".join(
                f"{key} {render_value(value)}" for key, value in scheme["values"].items()
            )
            lines.append(f"  {join_numbers(scheme['numbers'])}: {values}")
    return "\n".join([*lines, "", *_describe_noise(result), ""])


def _describe_relation(relation: ScoreRelation, *, schemes: int) -> Iterator[str]:
    few = " (few: take it as a hint)" if relation.n < FEW_POINTS else ""
    yield f"{_name_relation(relation)}: {relation.n} submissions{few}"
    if relation.scheme is not None and schemes > 1:
        yield f"  of one validation scheme: {join_numbers(relation.numbers)}"
    if relation.repeats:
        yield (
            f"  {relation.repeats} of them repeat earlier scores exactly and do not narrow the"
            " interval"
        )
    if relation.line is None:
        yield f"  no line: {relation.reason}"
    else:
        line = relation.line
        sign = "+" if line.intercept >= 0 else "-"
        intercept = render_number(abs(line.intercept))
        yield (
            f"  {WORDS[relation.y]} = {render_number(line.slope)} * {WORDS[relation.x]} {sign}"
            f" {intercept}, residual standard deviation {render_number(line.residual_sd)}"
        )
        if not relation.predicts:
            yield f"  {explain_no_prediction(relation)}"
    if relation.rank is not None:
        rank = relation.rank
        bounds = (
            f", 95 % interval {rank.low:.3f} to {rank.high:.3f}"
            if rank.low is not None
            else ", no interval"
        )
        yield f"  Spearman {rank.rho:.3f}{bounds}"
    for item in relation.outliers:
        expected = f"{render_number(item.y)}, the line predicts {render_number(item.expected)}"
        yield (
            f"  far off: submission {item.number}: {expected} ({item.distance:+.1f} residual"
            " standard deviations)"
        )


def _explain_no_lines(relations: Sequence[ScoreRelation]) -> list[str]:
    """Of validation schemes without a line why there is none, one line each."""
    lines: list[str] = []
    heading = ""
    for relation in relations:
        if relation.scheme is not None and relation.line is None:
            if heading != (heading := f"no line for {_name_relation(relation)}:"):
                lines += ["", heading]
            lines.append(f"  {join_numbers(relation.numbers)}: {relation.reason}")
    return lines


def _name_relation(relation: ScoreRelation) -> str:
    return f"{WORDS[relation.x]} -> {WORDS[relation.y]} {relation.metric}"


def _describe_noise(result: CvLb) -> Iterator[str]:
    luck, sample = result.luck, result.sample
    if sample.public:
        yield f"public images: {sample.public} ({sample.source})"
    if luck is None and not sample.public:
        yield "how much of the best score is luck: unknown without the number of public images"
        yield "  try: tracker leaderboard cv-lb --public-images N, or public_share in tracker.toml"
    elif luck is None:
        yield (
            "how much of the best score is luck: unknown, it needs two scored submissions and a"
            " noise to reckon with"
        )
    if luck is None:
        return
    score = f"public {luck.metric} {render_number(luck.score)}"
    yield f"the best of {luck.looks} looks is submission {luck.best} with {score}; of that, luck is"
    low, high = (
        render_number(max(0.0, luck.low)),
        render_number(luck.high),
    )  # below zero by the draws alone
    yield f"  {low} if all scores are the true skills, and up to {high} if all are equally good"
    yield f"  a score's own noise: {render_number(luck.own_sd)}, by {luck.source}"
    yield (
        "  assumed: normal noise, the same for all; looks at the leaderboard did not steer what was"
        " tried next"
    )


def render_selection(result: Selection, competition: Competition) -> str:
    """The choice with its reasons as lines."""
    by_number = {item.number: item for item in result.contenders}
    ranks = [
        item.number for item in sorted(result.contenders, key=lambda item: _rank(item, competition))
    ]
    lines = [f"choose {join_numbers(result.chosen)}"]
    for number in result.chosen:
        lines.append(f"  {number}: {_list_reasons(by_number[number], ranks, result)}")
    if result.repeats:
        lines.append(f"not considered, equal to earlier ones: {join_numbers(result.repeats)}")
    lines += (
        _describe_simulation(result.simulation, result)
        if result.simulation
        else _explain_why_not(result)
    )
    if result.private is not None:
        among = "is among the chosen" if result.private.chosen else "is not among the chosen"
        score = f"private {result.metric} {render_number(result.private.score)}"
        leader = f"submission {result.private.leader} led with {score} and {among}"
        lines.append(f"private scores are in the ledger: {leader}; the choice did not use them")
    return "\n".join([*lines, _conclude(result, ranks, competition)]) + "\n"


def _conclude(result: Selection, ranks: Sequence[int], competition: Competition) -> str:
    """What to do and why, in one sentence."""
    count = len(result.chosen)
    reason = _find_main_reason(result, ranks[:count])
    final = "as the final one" if count == 1 else f"as the final {count}"
    private = _describe_private_scores(result, ranks[:count], competition)
    return (
        f"so: choose {join_numbers(result.chosen)} {final}:"
        f" {_describe_uncertainty(result)}{reason}{private}"
    )


def _describe_uncertainty(result: Selection) -> str:
    """That the choice is no better than one by lot, where the simulation says so."""
    simulated, count = result.simulation, len(result.chosen)
    if simulated is None or simulated.chosen.holds_best > count / len(simulated.among):
        return ""
    chance = count / len(simulated.among)
    return (
        f"the scores cannot tell them apart (the choice has the best of all in"
        f" {simulated.chosen.holds_best:.0%}, one by lot in {chance:.0%}); chosen because "
    )


def _find_main_reason(result: Selection, by_public: Sequence[int]) -> str:
    """Why these; `by_public` are as many with the best public scores."""
    chosen, usual = (
        set(result.chosen),
        [item.number for item in result.contenders[: len(result.chosen)]],
    )
    it_is, it_has = ("it is", "it has") if len(chosen) == 1 else ("they are", "they have")
    if len(result.contenders) == len(chosen):
        return f"{it_is} all that there is to choose from"
    if result.instead_of is not None:
        return _explain_favor(result, by_public[0], result.instead_of)
    if chosen == set(by_public):
        judged = any(item.by_validation is not None for item in result.contenders)
        unused = next((item.unused for item in result.contenders if item.unused), "")
        agrees = ", and validation agrees" if judged else f"; {unused}" if unused else ""
        return f"{it_has} the best public {result.metric}{agrees}"
    if chosen == set(usual):
        return _explain_validation(result, by_public)
    others = [number for number in result.chosen if number not in usual]
    passed = [number for number in usual if number not in chosen]
    return (
        f"{join_numbers(others)} may be right where the rest is wrong, while"
        f" {join_numbers(passed)}, with higher expected {result.metric}, would say nearly the same"
        " as the rest"
    )


def _explain_validation(result: Selection, by_public: Sequence[int]) -> str:
    """Why others than the best public ones, where expected scores decide."""
    passed = [number for number in by_public if number not in result.chosen]
    if passed == list(result.lucky) and result.private is not None:
        chosen = "it" if len(result.chosen) == 1 else "them"
        return f"by validation, more is to be expected of {chosen}"
    if passed == list(result.lucky):
        whose = "the higher public score of" if len(passed) == 1 else "the higher public scores of"
        likely = f"{'is' if len(passed) == 1 else 'are'} likely luck ({CONFIDENCE:.0%} sure)"
        return f"by validation, {whose} {join_numbers(passed)} {likely}"
    rest = [number for number in result.chosen if number not in by_public]
    unclear = [number for number in passed if number not in result.lucky]
    has, them = ("has", "it") if len(rest) == 1 else ("have", "them")
    return (
        f"{join_numbers(rest)} {has} the higher expected {result.metric}, though validation cannot"
        f" tell {them} from {join_numbers(unclear)} {SURELY}"
    )


def _explain_favor(result: Selection, best: int, rival: int) -> str:
    """Why the best public one stands where validation would have another."""
    expected = {item.number: render_number(item.expected) for item in result.contenders}
    rest = [number for number in result.chosen if number != best]
    reason = (
        f"validation cannot tell submission {best} from submission {rival} {SURELY} (expected"
        f" {result.metric} {expected[best]} and {expected[rival]}), so the higher public score"
        " decides"
    )
    return f"{reason}; {join_numbers(rest)} beside it" if rest else reason


def _describe_private_scores(
    result: Selection, by_public: Sequence[int], competition: Competition
) -> str:
    """Whether the known private scores agree with what was preferred to a higher figure."""
    if result.private is None:
        return ""
    preferred = [number for number in result.chosen if number not in by_public]
    passed = [number for number in by_public if number not in result.chosen]
    if result.instead_of is not None:
        preferred, passed = [by_public[0]], [result.instead_of]
    known = result.private.scores
    if not preferred or any(number not in known for number in (*preferred, *passed)):
        return ""
    best = max if competition.primary.higher_is_better else min
    ahead = best((*preferred, *passed), key=lambda number: known[number])
    verdict = "agree" if ahead in preferred else "say otherwise"
    scores = [
        f"submission {number} has {render_number(known[number])}"
        for number in (*preferred, *passed)
    ]
    return f". The private scores {verdict}: {', '.join(scores)}"


def _rank(item: Contender, competition: Competition) -> tuple[float, int]:
    return (-item.public if competition.primary.higher_is_better else item.public), item.number


def _list_reasons(item: Contender, ranks: Sequence[int], result: Selection) -> str:
    place = ranks.index(item.number) + 1
    words = "the best" if place == 1 else f"number {place} by"
    reasons = [f"{words} public {result.metric} ({render_number(item.public)})"]
    if item.by_validation is not None:
        side = "above" if item.public > item.by_validation else "below"
        reasons.append(
            f"validation {render_number(item.validation)} predicts"
            f" {render_number(item.by_validation)}, its public score is {side} that"
        )
    elif item.validation is not None:
        reasons.append(
            f"validation {render_number(item.validation)} counts for nothing: {item.unused}"
        )
    reasons += [*_compare_with_next(item, result), *_describe_difference(item, result)]
    return "; ".join(reasons)


def _compare_with_next(item: Contender, result: Selection) -> Iterator[str]:
    """Why it and not the best expected one that was not chosen; nothing when all were."""
    order = [contender.number for contender in result.contenders]
    following = next(
        (other for other in result.contenders if other.number not in result.chosen), None
    )
    if following is None:
        return
    own, others = (
        f"expected score {render_number(item.expected)}",
        render_number(following.expected),
    )
    if order.index(item.number) < order.index(following.number):
        equal = ": equal, so the earlier one" if item.expected == following.expected else ""
        yield (
            f"{own}, the best of those not chosen is submission {following.number} with"
            f" {others}{equal}"
        )
        return
    if following.number == result.instead_of:
        yield (
            f"{own}, not distinguished from submission {following.number} ({others}) by validation"
            f" {SURELY}"
        )
        return
    shares = _list_shares(following.number, result)
    near = min(shares, key=lambda number: shares[number]) if shares else None
    why = (
        ""
        if near is None
        else f", which differs from {near} on only {shares[near]:.1%} of the images"
    )
    yield f"{own}, chosen rather than submission {following.number} ({others}){why}"


def _describe_difference(item: Contender, result: Selection) -> Iterator[str]:
    """How much it differs from the other chosen ones; of many only from the nearest."""
    shares = _list_shares(item.number, result)
    if len(shares) > MOST_PAIRS:
        near = min(shares, key=lambda number: shares[number])
        yield f"differs least from {near}, on {shares[near]:.1%} of the images"
    else:
        yield from (
            f"differs from {other} on {share:.1%} of the images" for other, share in shares.items()
        )
    if not result.differing and len(result.chosen) > 1:
        yield "answers unknown, so not how much it differs from the others"


def _list_shares(number: int, result: Selection) -> dict[int, float]:
    """The share of images on which it differs, by chosen submission, where it is known."""
    shares = {
        other: result.differing.get(f"{min(number, other)},{max(number, other)}")
        for other in result.chosen
    }
    return {other: share for other, share in shares.items() if share is not None}


def _describe_simulation(simulated: Simulation, result: Selection) -> Iterator[str]:
    told = "" if simulated.used else "for information, not used for the choice: "
    among = join_numbers(sorted(simulated.among))
    yield f"{told}in {simulated.draws} simulated private parts ({simulated.source}), among {among}:"
    named = {"the choice": simulated.chosen}
    single = len(simulated.by_public.numbers) == 1
    usual, do = ("the best public one", "does") if single else ("the best public ones", "do")
    if set(simulated.by_public.numbers) != set(simulated.chosen.numbers):
        listed = ", ".join(map(str, simulated.by_public.numbers))
        named[f"{usual} ({listed})"] = simulated.by_public
    for words, item in named.items():
        plural = words != "the choice" and not single
        yield f"  {words} {_describe_simulated_set(item, result.metric, plural=plural)}"
    gaps = [
        abs(simulated.possible - item.mean_best) for item in (simulated.by_public, simulated.chosen)
    ]
    if simulated.by_public.holds_best > simulated.chosen.holds_best or gaps[0] < gaps[1]:
        yield (
            f"  {usual} {do} better here; the choice keeps to expected scores and differing answers"
        )
    if render_number(simulated.possible) == render_number(simulated.chosen.mean_best):
        yield "  no other choice has more"
    else:
        limit = (
            f"who names the best of all each time has {render_number(simulated.possible)} on"
            " average"
        )
        yield f"  {limit}: no choice reaches that, for the best is not known before"
    if simulated.used:
        unlike = (
            f"; leaderboard cv-lb measures it from {MIN_PRIVATE_SCORES} or more private scores,"
            " this command does not"
        )
        unlike = unlike if result.private else ""
        size = f"number of images: {result.sample.source}"
        yield (
            f"  a score's own noise: {render_number(result.own_sd)}, by {result.noise_source};"
            f" {size}{unlike}"
        )
    for reason, numbers in simulated.left_out.items():
        yield f"  not simulated, {reason}: {join_numbers(numbers)}"


def _describe_simulated_set(item: SimulatedSet, metric: str, *, plural: bool) -> str:
    """How often the best of all is in a set, and what the set scores by its best on average."""
    score, count = render_number(item.mean_best), len(item.numbers)
    if count == 1:
        return f"is the best of all in {item.holds_best:.0%}, and has {metric} {score} on average"
    which = "the better one" if count == 2 else f"the best one of {count}"
    have = "have" if plural else "has"
    return (
        f"{have} the best of all in {item.holds_best:.0%}; {which} counts each time: {metric}"
        f" {score} on average"
    )


def _explain_why_not(result: Selection) -> Iterator[str]:
    if len(result.contenders) == 1:
        yield "only one submission exists to choose from"
    elif len(result.contenders) == len(result.chosen):
        yield f"only {len(result.chosen)} submissions exist to choose from, all are chosen"
    elif searched := [
        item.number
        for item in result.contenders
        if item.number in result.chosen and item.unused == FLATTERED
    ]:
        yield f"not simulated on validation images: {join_numbers(searched)} ({FLATTERED})"
    elif result.own_sd is None and result.sample.public is None:
        yield "not simulated: the number of public images is unknown (--public-images N)"
    else:
        yield f"not simulated: how noisy {result.metric} is cannot be measured from answers"


def join_numbers(numbers: Sequence[int]) -> str:
    """`submissions 1, 2 and 3`."""
    words = [str(number) for number in numbers]
    if len(words) == 1:
        return f"submission {words[0]}"
    return f"submissions {', '.join(words[:-1])} and {words[-1]}"
