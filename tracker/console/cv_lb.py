"""What `tracker leaderboard cv-lb` and `tracker select` print: sentences, with the assumptions
beside the figures."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.comparison.leaderboard_noise import MIN_TO_SHRINK
from tracker.comparison.score_relation import explain_no_prediction
from tracker.comparison.statistics.regression import (
    CONFIDENCE,
    FEW_POINTS,
    MIN_TO_RANK,
    describe_rank,
)
from tracker.core.list_marks import FLATTERED
from tracker.core.text import join_numbers, render_number, render_value
from tracker.training.numbers import render_count, render_share

if TYPE_CHECKING:
    from tracker.comparison.cv_lb import CvLb
    from tracker.comparison.expected_scores import Contender, SelectionBias
    from tracker.comparison.leaderboard_noise import SampleSizes
    from tracker.comparison.score_relation import ScoreRelation
    from tracker.comparison.selection import (
        PrivateLeader,
        Selection,
        SimulatedSet,
        Simulation,
    )
    from tracker.workspace.tracker_toml import Competition

MAX_NAMED = 4  # submissions in a sentence that is long already
WORDS = {"val": "validation", "public": "public", "private": "private"}
SURE = render_share(CONFIDENCE, decimals=0)
SURELY = f"with {SURE} certainty"  # what Line.separates asks for


def render_cv_lb(result: CvLb) -> str:
    """The whole answer as lines."""
    count = render_count(result.submissions, "submission")
    lines = [f"{count}, {result.scored} with a public score"]
    if not result.relations:
        lines.append(_explain_nothing(result))
    for relation in result.relations:
        if relation.scheme is None or relation.line is not None:
            lines += ["", *_describe_relation(relation, schemes=len(result.schemes))]
    lines += _explain_no_lines(result.relations)
    if result.flattered:
        lines.append(f"in no line of validation: {_name_flattered(result.flattered)}")
    if result.unknown:
        numbers = join_numbers(result.unknown)
        lines.append(f"in no line of validation, as how they validated is not known: {numbers}")
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


def _explain_nothing(result: CvLb) -> str:
    """Why there is no relation at all."""
    if not (result.flattered or result.unknown):
        return (
            "nothing to relate yet: no submission has two of validation, public and private score"
        )
    return (
        "nothing to relate yet: no submission that can be in a line has two of validation, public"
        " and private score"
    )


def _name_flattered(numbers: Sequence[int]) -> str:
    """`the validation score of submission 7 is flattered: weights were searched on these ...`."""
    score, are = ("score", "is") if len(numbers) == 1 else ("scores", "are")
    return f"the validation {score} of {join_numbers(numbers)} {are} {FLATTERED}"


def _describe_relation(relation: ScoreRelation, *, schemes: int) -> Iterator[str]:
    few = " (few: take it as a hint)" if relation.points < FEW_POINTS else ""
    yield f"{_name_relation(relation)}: {relation.n} submissions{few}"
    if relation.scheme is not None and schemes > 1:
        yield f"  of one validation scheme: {join_numbers(relation.numbers)}"
    if relation.repeats:
        is_one = relation.repeats == 1
        repeat = "is a duplicate" if is_one else "are duplicates"
        yield f"  {relation.repeats} of them {repeat}: {relation.points} points count"
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
    if relation.n >= MIN_TO_RANK:  # else no line, for the same reason
        yield f"  {describe_rank(relation.rank, relation.n, points=relation.points)}"
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


def _name_source(sample: SampleSizes) -> str:
    """Who says how many images are public."""
    return "as the solution says" if sample.source == "solution" else sample.source


def _describe_noise(result: CvLb) -> Iterator[str]:
    luck, sample = result.luck, result.sample
    if sample.public:
        yield f"public images: {sample.public}, {_name_source(sample)}"
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
    yield _describe_best(luck)
    if luck.luck is None:
        count = len(luck.among)
        yield (
            f"  how much of it is luck cannot be estimated: that needs {MIN_TO_SHRINK} submissions"
            f" that could be the best, there {'is' if count == 1 else 'are'} {count}"
        )
    if len(luck.among) == 1:
        yield (
            "  by public score no other could be the best: they are below it by more than chance"
            f" ({SURE})"
        )
    elif len(luck.among) < luck.looks:
        yield (
            f"  counted among the {len(luck.among)} that could be the best, as their public scores"
            f" differ from it by no more than chance ({SURE}): {join_numbers(luck.among)}"
        )
    if luck.own_sd is not None:
        yield f"  a score's own noise: {render_number(luck.own_sd)}, by {luck.source}"
    if luck.luck is not None and luck.private is None:
        yield (
            "  assumed: normal noise, the same for all; looks at the leaderboard did not steer what"
            " was tried next"
        )


def _describe_best(luck: SelectionBias) -> str:
    """The best public score and what is to be expected of it, or came of it."""
    best = f"the best of {luck.looks} is submission {luck.best} with public {luck.metric}"
    score = render_number(luck.score)
    if luck.equal:
        have = "has" if len(luck.equal) == 1 else "have"
        score += f" ({_name_some(luck.equal)} {have} the same)"
    expected = _describe_expected(luck.contender, luck.metric, luck.private)
    return "; ".join([f"{best} {score}", *filter(None, [expected])])


def _describe_expected(item: Contender, metric: str, private: float | None) -> str:
    """What is to be expected of a submission, or what came of it: the same words in both views.

    Empty where luck cannot be estimated, and where none is seen.
    """
    if private is not None:
        return f"its private {metric} is {render_number(private)}"
    expected = render_number(item.expected)
    if item.by_validation is not None:
        return (
            f"validation {render_number(item.validation)} predicts"
            f" {render_number(item.by_validation)}, so expect {expected}"
        )
    if expected == render_number(item.public):
        return ""
    kind = "luck" if item.luck > 0 else "bad luck"
    return f"likely {kind} {render_number(abs(item.luck))}, so expect {expected}"


def render_selection(result: Selection, competition: Competition) -> str:
    """The choice and its reason first, then what is known of each, and what was left out."""
    by_number = {item.number: item for item in result.contenders}
    ranks = [
        item.number for item in sorted(result.contenders, key=lambda item: _rank(item, competition))
    ]
    lines = [_conclude(result, ranks, competition)]
    for number in result.chosen:
        lines.append(f"  {_describe_chosen(by_number[number], ranks, result)}")
    lines += [*_describe_difference(result), *_name_as_good(result, ranks)]
    lines += [*_describe_next(result), *_list_passed(result, ranks)]
    lines += _list_left_out(result)
    lines += (
        _describe_simulation(result.simulation, result)
        if result.simulation
        else _explain_why_not(result)
    )
    if result.private is not None:
        lines.append(
            f"private scores are in the ledger: {_name_leader(result.private, result)}; the choice"
            " did not use them"
        )
    return _explain_once("\n".join(lines)) + "\n"


def _explain_once(text: str) -> str:
    """The text with what `flattered` means said at its first place alone."""
    before, first, after = text.partition(FLATTERED)
    return before + first + after.replace(FLATTERED, FLATTERED.partition(":")[0])


def _name_leader(private: PrivateLeader, result: Selection) -> str:
    """Who has the best private score, and whether it is chosen; equal ones share it."""
    score = f"private {result.metric} {render_number(private.score)}"
    leaders = [number for number, value in private.scores.items() if value == private.score]
    if len(leaders) == 1:
        among = "is among the chosen" if private.chosen else "is not among the chosen"
        return f"submission {private.leader} led with {score} and {among}"
    chosen = [number for number in leaders if number in result.chosen]
    if not chosen:
        return f"{join_numbers(leaders)} share the best {score} and are not among the chosen"
    are = "is" if len(chosen) == 1 else "are"
    return (
        f"{join_numbers(leaders)} share the best {score}; of these, {join_numbers(chosen)} {are}"
        " among the chosen"
    )


def _conclude(result: Selection, ranks: Sequence[int], competition: Competition) -> str:
    """What to choose and why, in one sentence. It rests on the ledger alone."""
    best_public = [number for number in ranks if number not in result.set_aside]
    best_public = best_public[: len(result.chosen)]
    aside = _list_better_aside(result, ranks)
    apart = f"apart from {join_numbers(aside)} (flattered), " if aside else ""
    reason = _find_main_reason(result, best_public, apart)
    private = _describe_private_scores(result, best_public, competition)
    return f"choose {join_numbers(result.chosen)}: {reason}{private}"


def _list_better_aside(result: Selection, ranks: Sequence[int]) -> list[int]:
    """The flattered ones that stand behind the chosen with a better public score."""
    last = max(ranks.index(number) for number in result.chosen)
    return [number for number in ranks[:last] if number in result.set_aside]


def _is_revealed(simulated: Simulation) -> bool:
    """Whether private answers are simulated with: they have no say in the choice."""
    return "revealed solution" in simulated.source


def _find_favored(simulated: Simulation) -> SimulatedSet | None:
    """The set that does best on average, where it is another one and that can be seen."""
    favored, chosen = simulated.favored, simulated.chosen
    is_same = {*favored.numbers} == {*chosen.numbers}
    if is_same or render_number(favored.mean_best) == render_number(chosen.mean_best):
        return None
    return favored


def _judge_gain(simulated: Simulation) -> float:
    """The gain of the choice in its expected score; 0 where what is shown would be the same."""
    shown = {render_number(item.mean_best) for item in (simulated.by_public, simulated.chosen)}
    return simulated.find_gain() if len(shown) > 1 else 0.0


def _has_no_choice(simulated: Simulation) -> bool:
    """Whether only the chosen ones could be simulated: then they hold the best every time."""
    return len(simulated.among) <= len(simulated.chosen.numbers)


def _find_main_reason(result: Selection, by_public: Sequence[int], apart: str) -> str:
    """Why these; `by_public` are as many with the best public scores, `apart` from some."""
    chosen = set(result.chosen)
    order = [item.number for item in result.contenders if item.number not in result.set_aside]
    usual = order[: len(chosen)]
    it_is, it_has = ("it is", "it has") if len(chosen) == 1 else ("they are", "they have")
    if len(result.contenders) == len(chosen):
        return f"{it_is} all that there is to choose from"
    if result.instead_of is not None:
        return _explain_favor(result, by_public[0], result.instead_of)
    if chosen == set(by_public):
        known = [item.by_validation for item in result.contenders if item.number in chosen]
        agrees = ", and validation agrees" if None not in known else ""
        return f"{apart}{it_has} the best public {result.metric}{agrees}{_admit_untold(result)}"
    if chosen == set(usual):
        return _explain_validation(result, by_public)
    others = [number for number in result.chosen if number not in usual]
    passed = [number for number in usual if number not in chosen]
    by_number = {item.number: item for item in result.contenders}
    figures = [by_number[number].expected for number in (*passed, *others)]
    kind = "expected"
    if all(item.by_validation is None for item in result.contenders):
        kind, figures = "public", [by_number[number].public for number in (*passed, *others)]
    score = "the same" if len(set(figures)) == 1 else f"a better {kind}"
    return _explain_unlike(result, others, passed, score=f"with {score} {result.metric}")


def _explain_unlike(
    result: Selection, others: Sequence[int], passed: Sequence[int], *, score: str
) -> str:
    """Why `others` were chosen before `passed`: how much each differs from the rest of the choice.

    `score` says what `passed` have to show for themselves.
    """
    rest = [number for number in result.chosen if number not in others] or [*result.chosen]
    nearest = {}
    for number in (*others, *passed):
        known = _list_shares(number, result)
        shares = [known[other] for other in rest if other in known]
        nearest[number] = min(shares, default=None)
    better, them = ("better", "the two") if len(result.chosen) == 2 else ("best", "they")
    reason = (
        f"only the {better} one counts in the end, and it can be expected to be higher when {them}"
        " differ more"
    )
    own = [share for number in others if (share := nearest[number]) is not None]
    left = [share for number in passed if (share := nearest[number]) is not None]
    if not own or not left:
        return f"{reason} than with {join_numbers(passed)}, {score}"
    differ = "differs" if len(others) == 1 else "differ"
    least = "at least " if len(others) > 1 else ""
    most = "at most " if len(passed) > 1 else "only " if max(left) < min(own) else ""
    return (
        f"{reason}: {join_numbers(others)} {differ} from {join_numbers(rest)} on"
        f" {least}{render_share(min(own))} of the images, {join_numbers(passed)}, {score}, on"
        f" {most}{render_share(max(left))}"
    )


def _admit_untold(result: Selection) -> str:
    """Who may be as good as the chosen ones, and why these were chosen all the same."""
    untold = [number for number in result.untold if number not in result.set_aside]
    if not untold:
        return ""
    known = {item.number: item for item in result.contenders}
    worst = max(result.chosen, key=[*known].index)
    equal = [number for number in untold if known[number].public == known[worst].public]
    lower = [number for number in untold if number not in equal]
    single = len(result.chosen) == 1
    said = ""
    if equal:
        nearest = min(equal, key=[*known].index)
        validates = _validates(known[worst], known[nearest])
        decides = "the better validation decides" if validates else "the earlier one is taken"
        are, than = "is" if len(equal) == 1 else "are", "" if single else f" as {worst}"
        public = f"by public {result.metric}"
        said = f"; {_name_some(equal)} {are} as good{than} {public}, and {decides}"
    if lower:
        last = "" if single or equal else " as the last of them"
        said += (
            f"; {_name_some(lower)} may be as good{last}, as their public scores differ by no more"
            f" than chance ({SURE}): the better public score decides"
        )
    return said


def _name_as_good(result: Selection, ranks: Sequence[int]) -> Iterator[str]:
    """Who would do as well as the last chosen one by the simulation, and why that one was taken.

    Nothing where the first sentence has said so by public scores.
    """
    best_public = [number for number in ranks if number not in result.set_aside]
    is_said = {*result.chosen} == {*best_public[: len(result.chosen)]} and result.untold
    if is_said or not result.as_good:
        return
    known = {item.number: item for item in result.contenders}
    last, first = known[result.chosen[-1]], known[result.as_good[0]]
    if render_number(first.expected) != render_number(last.expected):
        is_taken = f"expected {result.metric} decides"
    elif first.public != last.public:
        is_taken = f"public {result.metric} decides"
    else:
        is_taken = "validation decides" if _validates(last, first) else "the earlier one is taken"
    place = "" if len(result.chosen) == 1 else f" in the place of {last.number}"
    yield f"  {_name_some(result.as_good)} would do as well{place}: {is_taken}"


def _name_some(numbers: Sequence[int]) -> str:
    """`submissions 3 and 4`, or `5 others`."""
    return join_numbers(numbers) if len(numbers) <= MAX_NAMED else f"{len(numbers)} others"


def _validates(last: Contender, following: Contender) -> bool:
    """Whether validation put `last` before one with the same public score."""
    is_undecided = last.undecided and following.undecided
    return is_undecided and last.validation != following.validation


def _list_passed(result: Selection, ranks: Sequence[int]) -> Iterator[str]:
    """Who was passed over though a score speaks for it, and why."""
    following = _find_next(result)
    told = None if following is None else following.number  # `_describe_next` has said why
    if aside := [number for number in _list_better_aside(result, ranks) if number != told]:
        them = "it" if len(result.chosen) == 1 else "them"
        stand = "stands" if len(aside) == 1 else "stand"
        yield (
            f"{join_numbers(aside)} {stand} behind {them}: public scores do not tell them apart,"
            f" and {_name_flattered(aside)}"
        )
    best = result.validates_best
    if best is not None and best not in result.chosen:
        item = next(other for other in result.contenders if other.number == best)
        yield (
            f"the best validation score has submission {best}, {render_number(item.validation)};"
            f" it is not used: {item.unused}"
        )


def _explain_validation(result: Selection, by_public: Sequence[int]) -> str:
    """Why others than the best public ones, where expected scores decide."""
    passed = [number for number in by_public if number not in result.chosen]
    if passed == list(result.lucky) and result.private is not None:
        chosen = "it" if len(result.chosen) == 1 else "them"
        return f"by validation, more is to be expected of {chosen}"
    if passed == list(result.lucky):
        whose = "the higher public score of" if len(passed) == 1 else "the higher public scores of"
        likely = f"{'is' if len(passed) == 1 else 'are'} likely luck ({SURE} sure)"
        return f"by validation, {whose} {join_numbers(passed)} {likely}"
    rest = [number for number in result.chosen if number not in by_public]
    unclear = [number for number in passed if number not in result.lucky]
    has, them = ("has", "it") if len(rest) == 1 else ("have", "them")
    by_number = {item.number: item for item in result.contenders}
    if any(by_number[number].by_validation is None for number in (*rest, *unclear)):
        return f"{join_numbers(rest)} {has} the higher expected {result.metric}"
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
    own = best(known[number] for number in preferred)
    others = [known[number] for number in passed]
    verdict = "agree" if best(own, *others) == own else "say otherwise"
    if own in others and verdict == "agree":
        verdict = "are equal"
    scores = [
        f"submission {number} has {render_number(known[number])}"
        for number in (*preferred, *passed)
    ]
    return f". The private scores {verdict}: {', '.join(scores)}"


def _rank(item: Contender, competition: Competition) -> float:
    """By public score; of a tie, the contenders stay in their order."""
    return -item.public if competition.primary.higher_is_better else item.public


def _describe_chosen(item: Contender, ranks: Sequence[int], result: Selection) -> str:
    """`9 (exp10): public f1 0.9165, the best; validation 0.8967 predicts 0.9164`, and so on."""
    public = {other.number: other.public for other in result.contenders}
    equal = [number for number in ranks if public[number] == item.public]
    place = ranks.index(equal[0]) + 1
    rank = "the best" if place == 1 else f"number {place}"
    if others := [number for number in equal if number != item.number]:
        several = f"{len(others)} others"
        rank += f", equal to {join_numbers(others) if len(others) <= MAX_NAMED else several}"
    run = f" ({item.run_name})" if item.run_name else ""
    reasons = [f"{item.number}{run}: public {result.metric} {render_number(item.public)}, {rank}"]
    if item.by_validation is None and item.validation is not None:
        reasons.append(f"validation {render_number(item.validation)} not used ({item.unused})")
    private = result.private.scores.get(item.number) if result.private else None
    if expected := _describe_expected(item, result.metric, private):
        reasons.append(expected)
    shares = _list_shares(item.number, result)
    if len(shares) > 1:
        near = min(shares, key=lambda number: shares[number])
        reasons.append(f"differs least from {near}, {_render_difference(shares[near], result)}")
    return "; ".join(reasons)


def _describe_difference(result: Selection) -> Iterator[str]:
    """How much the answers of two chosen ones differ."""
    if not result.differing and len(result.chosen) > 1:
        yield "  how much their answers differ is unknown"
    if len(result.chosen) == 2:
        shares = _list_shares(result.chosen[0], result).values()
        yield from (
            f"  their answers differ {_render_difference(share, result)}" for share in shares
        )


def _render_difference(difference: float, result: Selection) -> str:
    """The share of images whose answers differ, or the greatest difference of numbers."""
    if result.greatest:
        return f"by at most {render_number(difference)}"
    return f"on {render_share(difference)} of the images"


def _describe_next(result: Selection) -> Iterator[str]:
    """The best expected one that was not chosen, and why not; nothing when all were."""
    following = _find_next(result)
    if following is None:
        return
    order = [contender.number for contender in result.contenders]
    place = order.index(following.number)
    worst = max(result.chosen, key=order.index)
    why = ""
    if following.number in result.set_aside:
        why = f"; {_explain_set_aside(following.number, result)}"
    elif place > order.index(worst):
        last = next(item for item in result.contenders if item.number == worst)
        is_tie = (last.expected, last.public) == (following.expected, following.public)
        which = "validates better" if _validates(last, following) else "is earlier"
        why = f"; equal to {worst}, which {which}" if is_tie else ""
    elif following.number == result.instead_of:
        why = f"; not told from {worst} by validation {SURELY}"
    elif shares := _list_shares(following.number, result):
        near = min(shares, key=lambda number: shares[number])
        why = f"; it differs from {near} on only {render_share(shares[near])} of the images"
    private = result.private.scores.get(following.number) if result.private else None
    is_estimated = following.by_validation is not None or following.luck != 0
    kind = "expected" if is_estimated else "public"
    score = f"{kind} {result.metric} {render_number(following.expected)}"
    if private is not None:
        score = f"private {result.metric} {render_number(private)}"
    yield f"next after the chosen: submission {following.number}, {score}{why}"


def _find_next(result: Selection) -> Contender | None:
    """The best expected one that was not chosen."""
    left = (other for other in result.contenders if other.number not in result.chosen)
    return next(left, None)


def _explain_set_aside(number: int, result: Selection) -> str:
    """Why a flattered one is not chosen; that public scores cannot tell it, where they cannot."""
    if number in result.untold:
        return f"public scores cannot tell it from the chosen, and its validation is {FLATTERED}"
    return f"its validation is {FLATTERED}"


def _list_left_out(result: Selection) -> Iterator[str]:
    """The submissions that could not be chosen."""
    if result.unscored:
        numbers = join_numbers(result.unscored)
        yield f"no public score yet, so not considered: {numbers} (tracker sync, or tracker score)"
    if result.repeats:
        yield f"equal to earlier ones, so not considered: {join_numbers(result.repeats)}"


def _list_shares(number: int, result: Selection) -> dict[int, float]:
    """How much it differs, by chosen submission, where it is known: see `_render_difference`."""
    shares = {
        other: (result.greatest or result.differing).get(
            f"{min(number, other)},{max(number, other)}"
        )
        for other in result.chosen
    }
    return {other: share for other, share in shares.items() if share is not None}


def _describe_simulation(simulated: Simulation, result: Selection) -> Iterator[str]:
    left_out = ", ".join(
        f"{join_numbers(numbers)} ({reason})" for reason, numbers in simulated.left_out.items()
    )
    if _has_no_choice(simulated):
        nothing = "nothing is left to compare the choice with"
        yield f"not simulated: {f'{left_out}; so ' if left_out else ''}{nothing}"
        return
    unused = "" if simulated.used else ", not used for the choice"
    yield f"{simulated.draws} simulated private parts ({simulated.source}){unused}:"
    if simulated.not_real:
        yield f"  a model for all of them: {simulated.not_real}"
    yield from _compare_simulated(simulated, result.metric)
    if simulated.used:
        yield _describe_own_noise(result)
    if left_out:
        yield f"  not simulated: {left_out}"


def _compare_simulated(simulated: Simulation, metric: str) -> Iterator[str]:
    """How the choice does among all that were simulated, and the best public ones beside it."""
    among, public = len(simulated.among), simulated.by_public
    yield f"  the choice {_describe_simulated_set(simulated.chosen, metric, among)}"
    if set(public.numbers) != set(simulated.chosen.numbers):
        single = len(public.numbers) == 1
        names = "one" if single else "ones"
        listed = ", ".join(map(str, public.numbers))
        words = _describe_simulated_set(public, metric, among)
        yield f"  the best public {names} ({listed}) {words}"
        yield from _weigh_simulated(simulated, f"the best public {names}", single=single)
    favored = _find_favored(simulated)
    if favored is not None and {*favored.numbers} != {*public.numbers}:
        listed = ", ".join(map(str, favored.numbers))
        words = _describe_simulated_set(favored, metric, among)
        yield f"  the simulation favors {listed}, which {words}{_explain_unheeded(simulated)}"
    if render_number(simulated.possible) == render_number(simulated.chosen.mean_best):
        yield "  no other choice does better here"


def _explain_unheeded(simulated: Simulation) -> str:
    """Why the simulation's set is not the choice, where the choice rests on the simulation."""
    best = simulated.by_public.numbers[0]
    if not simulated.used or best in simulated.favored.numbers:
        return ""
    return f"; {best} is always chosen, for no validation speaks against the best public score"


def _weigh_simulated(simulated: Simulation, public: str, *, single: bool) -> Iterator[str]:
    """Which of choice and best public ones to prefer; nothing where the choice is ahead in all."""
    gain, often = _judge_gain(simulated), simulated.is_public_more_often_best()
    is_best, has = ("is the very best", "has") if single else ("hold the very best", "have")
    aside = f"; {public} {is_best} more often" if often else ""
    if gain > 0 and often:
        decides = ", and that decides" if simulated.used else ""
        yield f"  the choice has the better average{decides}{aside}"
    elif gain == 0:
        yield f"  {_describe_no_gain(simulated)}{aside if _is_share_certain(simulated) else ''}"
    elif gain < 0:
        which = "the revealed" if _is_revealed(simulated) else "validation"
        kept = "" if simulated.used else f" on {which} images, which have no say in the choice"
        yield f"  {public} {has} the better average{kept}"


def _is_share_certain(simulated: Simulation) -> bool:
    """Whether the percentages have no error but that of the draws: validation images are few."""
    return simulated.used or _is_revealed(simulated)


def _describe_no_gain(simulated: Simulation) -> str:
    """That neither choice nor best public ones are to be preferred, and by which error."""
    averages = (simulated.by_public.mean_best, simulated.chosen.mean_best)
    if len({render_number(value) for value in averages}) == 1:
        return "the averages are equal"
    percentages = "" if _is_share_certain(simulated) else "; the percentages are no surer"
    return (
        f"the averages differ by {render_number(abs(averages[0] - averages[1]))}, with a standard"
        f" error of {render_number(simulated.error)}: too little to prefer one (that takes three"
        f" standard errors){percentages}"
    )


def _describe_own_noise(result: Selection) -> str:
    unlike = "; private scores have no say in the choice, nor in this noise"
    unlike = unlike if result.private else ""
    return (
        f"  a score's own noise: {render_number(result.own_sd)}, by {result.noise_source};"
        f" number of images: {_name_source(result.sample)}{unlike}"
    )


def _describe_simulated_set(item: SimulatedSet, metric: str, among: int) -> str:
    """How often the best of all is in a set, and what the set scores: its best one counts."""
    score, share = (
        f"{metric} {render_number(item.mean_best)}",
        f"{render_share(item.holds_best, decimals=0)}",
    )
    if len(item.numbers) == 1:
        return f"is the best of {among} in {share}, on average {score}"
    which = _name_best(item.numbers)
    return f"would hold the best of {among} in {share}; the {which} has {score} on average"


def _name_best(numbers: Sequence[int]) -> str:
    return "better one" if len(numbers) == 2 else "best one"


def _explain_why_not(result: Selection) -> Iterator[str]:
    if len(result.contenders) == len(result.chosen):
        return  # the first sentence says that there was nothing to choose from
    if len(result.contenders) == len(result.chosen) + len(result.set_aside):
        yield f"not simulated: {join_numbers(result.set_aside)} ({FLATTERED})"
    elif searched := [
        item.number
        for item in result.contenders
        if item.number in result.chosen and item.unused == FLATTERED
    ]:
        yield f"not simulated on validation images: {join_numbers(searched)} ({FLATTERED})"
    elif result.own_sd is not None:
        aside = result.set_aside
        flattered = f"{join_numbers(aside)} ({FLATTERED}), " if aside else ""
        yield f"not simulated: {flattered}the others (too far below the best public score)"
    elif result.sample.public is None:
        yield "not simulated: the number of public images is unknown (--public-images N)"
    else:
        yield f"not simulated: how noisy {result.metric} is cannot be measured from answers"
