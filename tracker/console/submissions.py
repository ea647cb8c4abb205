"""Submissions on a terminal: leaderboard, check, audit, history."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from tracker.console.notes import render_newest
from tracker.core.config_diff import (
    ENSEMBLE,
    describe_ensemble_briefly,
    describe_ensemble_step,
    describe_other_ensemble,
    is_searched,
    list_changes,
    list_implied_changes,
    render_change,
    render_unknown_keys,
)
from tracker.core.list_marks import SEARCHED, Marks, explain_marks, mark_flattered, style_marks
from tracker.core.table import CUT, Cell, Column, Styled, measure
from tracker.core.terminal import WIDE, print_table, print_text
from tracker.core.text import render_answer, render_number
from tracker.training.numbers import render_count, render_share
from tracker.workspace.metrics import NO_PUBLIC_SCORE, choose_metrics, describe_limits

if TYPE_CHECKING:
    from tracker.comparison.audit import Audit
    from tracker.comparison.check_report import CheckReport
    from tracker.ledger.history import Event
    from tracker.ledger.records import Submission
    from tracker.workspace.tracker_toml import Competition


ARROW = " -> "  # between the old and the new value of a key
# the columns that less important ones leave for; a change is as wide as its title
FIRST_CHANGE, SHORT_MEMO = 19, 20
SHORTEST_MEMO = 8  # of one submission: its scores stay
SHOWN_CHANGES = 4  # of the keys that changed from SOTA, in check without --full
FULL_CHECK = "--full also shows: members, validation, moved answers, near submissions"

Validation = Mapping[
    int, Mapping[str, float]
]  # {submission: {metric: value}}, see list_validation_scores in tracker/ledger/read.py


def style_change(diff: Mapping[str, Sequence[Any]] | None, not_known: Sequence[str] = ()) -> Styled:
    """The same as a cell that is cut between changes: `optim.lr 0.001 -> 0.002, loss.name …`, or
    `optim.lr 0.001 -> 0.002, 3 more keys …` where there is no room for their names.

    The sign stands where something is left out, and never at a name or a number, which are whole.

    The shortest form says something by itself and is never cut: `3 keys`, `soft of 3`, `single`.
    """
    whole = render_change(diff, not_known)
    if not diff and not not_known:
        return Styled(whole, whole=True)
    # what follows from another key is no key more, as check and audit count them
    changes = list_changes(diff or {}) or list_implied_changes(diff or {})
    rest = [f"{len(not_known)} not known"] if not_known else []
    shorter = []
    brief, briefest = _shorten_ensemble(diff or {})
    # The members of an ensemble without their weights, a key without its old value or without both.
    if len(changes) == 1:
        heads = [changes[0].partition(" (")[0], *(brief or _list_brief(changes[0]))]
        shorter += ["; ".join([head, *rest]) for head in heads]
    unknown = f" + {len(not_known)} unknown" if not_known else ""
    is_whole = not rest and not list_implied_changes(diff or {})
    if not briefest and len(changes) > 1:  # what differs comes before what it was
        names = [change.partition(" ")[0] for change in changes]
        for shown in range(len(changes) - 1, -1, -1):
            shorter.append("; ".join([", ".join([*changes[:shown], *names[shown:]]), *rest]))
    for shown in range(len(changes) - is_whole, 0, -1):
        kept = [changes[:shown]]
        if shown == 1 and not briefest:
            kept += [[head] for head in _list_brief(changes[0])]
        more = render_count(len(changes) - shown, "more key")
        for keys in kept:
            parts = [*keys, *([more] if shown < len(changes) else ())]
            shorter.append("; ".join([", ".join(parts), *rest]))
    count = render_count(len(changes), "key")
    if briefest and len(changes) == 1:
        count = briefest
    shorter.append("; ".join([count, *rest]) if rest and changes else "")
    least = count + unknown if changes else rest[0]
    cut = [text if CUT in text else f"{text} {CUT}" for text in shorter if text]
    return Styled(whole, whole=True, shorter=(*cut, least))


def put_before(text: str, cell: Styled) -> Styled:
    """A cell with the same text before each of its forms."""
    if not text:
        return cell
    shorter = tuple(text + other for other in cell.shorter)
    return cell._replace(text=text + cell.text, shorter=shorter)


def _list_brief(change: str) -> list[str]:
    """`optim.lr … -> 0.002` and `optim.lr` of `optim.lr 0.001 -> 0.002`."""
    key = change.partition(" ")[0]
    _, arrow, new = change.partition(ARROW)
    has_pair = arrow and not change.startswith(ENSEMBLE[:-1])
    return [f"{key} {CUT}{arrow}{new}", key] if has_pair else [key]


def _shorten_ensemble(diff: Mapping[str, Sequence[Any]]) -> tuple[list[str], str]:
    """Shorter words for the change of an ensemble, and the shortest; empty where none changed."""
    old, new = (
        {
            key.removeprefix(ENSEMBLE): pair[side]
            for key, pair in diff.items()
            if key.startswith(ENSEMBLE)
        }
        for side in (0, 1)
    )
    if not new:
        return [], ""
    if new.get("members") and not old.get("members"):
        words = describe_ensemble_briefly(new)
        method, of, count = words.partition(" ensemble of ")
        return [words], f"{method} of {count.partition(' ')[0]}" if of else words
    if old.get("members") and not new.get("members"):
        return ["no longer an ensemble"], "single"
    how_many = [f"ensemble: {len(new)} keys"] if len(new) > 1 else []
    return [f"ensemble: {', '.join(new)}", *how_many], "ensemble"


def print_leaderboard(
    rows: Sequence[Submission],
    competition: Competition,
    validation: Validation,
    *,
    marks: Marks,
    ranks: Mapping[int, int] | None = None,
    rank_title: str = "rank",
    wide: bool | None = None,
) -> None:
    """The submissions with their marks; with `ranks`, and what was noted last, where there are any.

    `marks` are those of `read_submission_marks` in tracker/comparison/marks.py.
    """
    measured = choose_metrics(
        competition, {name for row in rows for name in validation.get(row.number, ())}
    )
    changes = [_style_change_to_sota(row) for row in rows]
    alone = len(rows) == 1  # as after `score`: what was typed is shown
    columns = [
        Column("number"),
        Column(rank_title, leaves=1, right=True),
        Column("run", leaves=2),
        Column("author", leaves=9),
        *_list_score_columns(competition, measured, alone=alone),
        Column("memo", leaves=1, text=True, least=SHORTEST_MEMO if alone else SHORT_MEMO),
        Column(
            "change to SOTA then",
            leaves=7,
            text=True,
            least=measure_first(changes, FIRST_CHANGE),
        ),
        Column("noted last", leaves=8, text=True),
    ]
    searched = [
        (row.number, row.number in marks.flattered or is_searched(row.config)) for row in rows
    ]
    flattered = {
        name: [too_good and name in validation.get(number, {}) for number, too_good in searched]
        for name in measured
    }
    used: list[str] = []
    table: list[list[Cell]] = []
    any_flattered = {name: any(flattered[name]) for name in measured}
    for place, row in enumerate(rows):
        own = marks.list_marks(row.number, str(row.number))
        used += own
        figures = validation.get(row.number, {})
        used += [SEARCHED] if any(flattered[name][place] for name in measured) else []
        table.append(
            [
                Styled(" ".join([str(row.number), *own]), style_marks(own)),
                render_number((ranks or {}).get(row.number)),
                row.run_name or "-",
                row.author or "-",
                *[
                    metric.render(row.scores.get(f"{split}_{metric.name}"))
                    for split in ("public", "private")
                    for metric in competition.metrics
                ],
                *[
                    mark_flattered(
                        render_number(figures.get(name)),
                        flattered=flattered[name][place],
                        any_of_column=any_flattered[name],
                    )
                    for name in measured
                ],
                f"rejected: {row.memo}" if row.is_rejected else row.memo,
                changes[place],
                render_newest(row.notes),
            ]
        )
    left_out = {rank_title} if ranks is None else set()
    left_out |= {"author"} if len({row.author for row in rows}) < 2 else set()
    left_out |= set() if any(row.notes for row in rows) else {"noted last"}
    if not wide:  # before the end of a competition nobody has private scores
        left_out |= _list_unknown_private(rows, competition)
    kept = [index for index, column in enumerate(columns) if column.title not in left_out]
    print_table(
        [columns[index] for index in kept],
        [[cells[index] for index in kept] for cells in table],
        legend=explain_marks(used),
        wide=wide,
        shows_all="tracker leaderboard --wide" if wide is None and WIDE.get() is None else "",
    )


def _list_unknown_private(rows: Sequence[Submission], competition: Competition) -> set[str]:
    """The columns of private scores, where no submission has one."""
    names = [metric.name for metric in competition.metrics]
    if any(f"private_{name}" in row.scores for row in rows for name in names):
        return set()
    return {f"private {name}" for name in names}


def _style_change_to_sota(row: Submission) -> Styled:
    if not row.sota:
        return Styled("-")
    return put_before(f"to {row.sota}: ", style_change(row.config_diff, row.not_known))


def measure_first(changes: Sequence[Styled], most: int) -> int:
    """The columns that show the first key of each change and its new value, at most `most`."""
    return min(most, max(map(_measure_first, changes), default=0))


def _measure_first(change: Styled) -> int:
    texts = [text for text in (change.text, *change.shorter) if ARROW in text]
    return measure([change.text, *change.shorter, *texts][-1])


def _list_score_columns(
    competition: Competition, measured: Sequence[str], *, alone: bool
) -> Iterator[Column]:
    """Scores and validation figures; all but those of the deciding metric leave early.

    Those of one submission, which stands `alone`, stay longer than what was changed.
    """
    scores = {"public": (1, 4), "private": (2, 5)} if alone else {"public": (1, 10)}
    for split in ("public", "private"):
        deciding_leaves, others = scores.get(split, (6, 15))
        for metric in competition.metrics:
            is_deciding = metric.name == competition.primary_metric
            leaves = deciding_leaves if is_deciding else others
            yield Column(f"{split} {metric.name}", leaves=leaves, right=True)
    deciding = (
        competition.primary_metric
        if competition.primary_metric in measured
        else "".join(measured[:1])
    )
    for name in measured:
        yield Column(
            f"val {name}", leaves=3 if name == deciding else 6 if alone else 12, right=True
        )


def _shorten_move(move: str) -> str:
    """`(empty) -> 1 3 10 5` for a move of answers that may be very long, or empty."""
    old, arrow, new = move.partition(" -> ")
    return f"{render_answer(old)}{arrow}{render_answer(new)}"


def _shorten_fingerprint(fingerprint: str | None) -> str:
    return (fingerprint or "unknown").replace("sha256:", "")[:19]


def print_check(report: CheckReport, competition: Competition, *, full: bool = False) -> None:
    """What submit would say: its answer first, then only what changes the decision."""
    from tracker.workspace.quota import BEFORE_DEADLINE, render_quota

    print_text(report.answer)
    if report.refusal and report.duplicate is None and report.sota is not None:
        print_text(report.comparison)
    print_check_details(report, competition, full=full)
    print_text(render_quota(report.quota, competition))
    if report.quota.left == 1 and not report.refusal:
        print_text(f"it would be the last one{BEFORE_DEADLINE * report.quota.frees_none}")
    if not full and report.duplicate is None:
        print_text(FULL_CHECK)
    if report.hint:
        print_text(f"try: {report.hint}")
    print_text("would be refused" if report.refusal else "would be accepted")  # the answer says why


def print_check_details(
    report: CheckReport, competition: Competition, *, full: bool = False
) -> None:
    """What the answer of check rests on; without `full` only what the answer does not say."""
    if full:
        _print_whole_check(report, competition)
        return
    runs = [item["run_name"] for item in report.nearest if item["number"] == report.duplicate]
    same = f", those of {runs[0]}" if runs and runs[0] not in (None, report.run) else ""
    told = describe_ensemble_step(report.config_diff or {}) and report.duplicate is None
    what = f", {report.ensemble}" if report.ensemble and not told else ""
    print_text(f"{report.run}: {render_count(report.images, 'prediction')}{same}{what}")
    if report.duplicate is not None:
        return
    print_changes(report, report.comparison)
    if report.expected["value"] is not None:
        print_text(_render_expected(report.expected, competition))
    _print_looks(report)
    for item in report.nearest[:1]:
        _print_near(item, report.sota)


def print_changes(report: CheckReport, answer: str) -> None:
    """The keys that changed from SOTA, but for a single one that `answer` names."""
    diff = report.config_diff or {}
    changes = list_changes(diff)
    in_answer = describe_ensemble_step(diff) or describe_other_ensemble(diff)
    if in_answer or not changes:
        return
    if len(changes) == 1 and changes[0].partition(" ")[0] in answer:
        return
    more = len(changes) - SHOWN_CHANGES
    rest = [render_count(more, "more key")] if more > 0 else []
    shown = ", ".join([*changes[:SHOWN_CHANGES], *rest])
    unknown = f"; {render_unknown_keys(report.not_known)}" if report.not_known else ""
    print_text(f"change to SOTA (submission {report.sota}): {shown}{unknown}")


def _print_whole_check(report: CheckReport, competition: Competition) -> None:
    """Everything that check knows."""
    from tracker.console.members import print_members

    what = f", {report.ensemble}" if report.ensemble else ""
    print_text(
        f"{report.run}: {render_count(report.images, 'prediction')},"
        f" {_shorten_fingerprint(report.fingerprint)}{what}"
    )
    print_members(report.members, competition)
    if report.sota is not None:
        change = render_change(report.config_diff, report.not_known)
        print_text(f"change to SOTA (submission {report.sota}): {change}")
        for name, (old, new) in report.validation.items():
            if old is None and new is None:
                continue  # nothing to compare
            reason = report.not_comparable.get(name, "")
            remark = f" (not comparable: {reason})" if reason and None not in (old, new) else ""
            print_text(f"  {name}: {render_number(old)} -> {render_number(new)}{remark}")
        if report.changed_from_sota:
            moves = list(report.changed_from_sota.items())
            print_text(
                f"answers moved from submission {report.sota}: "
                + ", ".join(f"{_shorten_move(name)} {count}" for name, count in moves[:8])
            )
    print_text(_render_expected(report.expected, competition))
    _print_looks(report)
    for item in report.nearest:
        _print_near(item, report.sota)


def _print_looks(report: CheckReport) -> None:
    if report.looks is not None:
        print_text(
            f"look {report.looks + 1} at the held-out images: each submission is one, and the best"
            " of many is partly luck (tracker leaderboard cv-lb)"
        )


def _print_near(item: Mapping[str, Any], sota: int | None) -> None:
    """An earlier submission whose predictions are near, and whether it is SOTA."""
    who = ", ".join(
        [*filter(None, [item["run_name"]]), *(["SOTA"] if item["number"] == sota else [])]
    )
    which = f"submission {item['number']}{f' ({who})' if who else ''}"
    print_text(f"nearest: {which}, {_render_near(item)}")


def _render_near(item: Mapping[str, Any]) -> str:
    """How far an earlier submission is: by classes, or by numbers."""
    if item.get("greatest_difference") is None:
        return f"{item['changed']} differ, {render_share(item['equal_share'])} equal"
    sampled = item.get("sampled")
    most = "at least" if sampled else "at most"
    of = f" (of a sample of {sampled:,} rows, its file is not here)" if sampled else ""
    return (
        f"{item['changed']} differ by {most} {render_number(item['greatest_difference'])}, rank"
        f" correlation {render_number(item['rank_correlation'])}{of}"
    )


def _render_expected(expected: Mapping[str, Any], competition: Competition) -> str:
    """The public score that submissions of the same validation scheme let one expect."""
    name = f"expected public {expected['metric']}"
    left_out = (
        f", {expected['left_out']} of another scheme left out" if expected["left_out"] else ""
    )
    if expected["value"] is None:
        return f"{name}: unknown, {expected['reason']}{left_out}"
    low, high = (render_number(expected[side]) for side in ("low", "high"))
    few = ", few" if expected["n"] < 10 else ""
    limits = describe_limits(competition.metric(expected["metric"]))
    left_out += f"; {expected['metric']} is {limits}" if expected.get("limited") else ""
    return (
        f"{name} {render_number(expected['value'])}, {low} to {high} in 95 of 100 cases "
        f"(line through {render_count(expected['n'], 'submission')}{few}{left_out})"
    )


def render_submission_scores(row: Submission, competition: Competition, *, beside: str = "") -> str:
    """The scores of a submission that are known, in one line; empty when none is.

    `beside` is a score, as `public_f1`, that stands next to the line already.
    """
    known = []
    for split in ("public", "private", "overall"):
        for metric in competition.metrics:
            name = f"{split}_{metric.name}"
            value = row.scores.get(name)
            if value is not None and name != beside:
                known.append(f"{split} {metric.name} {metric.render(value)}")
    if any(name.startswith("overall ") for name in known):
        known[-1] += " (overall: the public and private images together)"
    return ", ".join(known)


def print_audit(audit: Audit, competition: Competition) -> None:
    """How the submissions were spent."""
    chain = " -> ".join(map(str, audit.sota_chain))
    print_text(
        f"{render_count(audit.submissions, 'submission')},"
        f" {f'SOTA: {chain}' if chain else NO_PUBLIC_SCORE}"
    )
    for item in audit.wasted:
        print_text(f"wasted: {item['number']} repeats {item['equal_to']} ({item['evidence']})")
    one = [f"{item['number']} ({item['key']})" for item in audit.one_key]
    print_text(f"one key changed from the SOTA then: {', '.join(one) or 'none'}")
    several = [f"{item['number']} ({len(item['keys'])} keys)" for item in audit.several_keys]
    print_text(
        f"several keys changed, their effects cannot be separated: {', '.join(several) or 'none'}"
    )
    other_groups = {
        "an ensemble on one side or both": [item["number"] for item in audit.ensembles],
        "of another program, keys unknown": [item["number"] for item in audit.keys_unknown],
        "no key changed from the SOTA then": audit.no_key,
        "no SOTA then to compare with": audit.without_sota,
    }
    for title, numbers in other_groups.items():
        if numbers:
            print_text(f"{title}: {', '.join(map(str, numbers))}")
    print_text(
        "by author: "
        + (", ".join(f"{name} {count}" for name, count in audit.by_author.items()) or "-")
    )
    print_text(
        f"by day ({competition.time_zone}): "
        + (", ".join(f"{day} {count}" for day, count in audit.by_day.items()) or "-")
    )
    if audit.unscored:
        print_text(f"no score yet: {', '.join(map(str, audit.unscored))} (tracker score N)")
    for number, note in audit.notes:
        whose = "the run of " if note.submission is None else ""
        print_text(f"note on {whose}submission {number} by {note.author}: {note}")
    for item in audit.missing:
        print_text(f"gone: {item['file']} ({item['what']})")
    for item in audit.freed:
        day = competition.local_time(item["freed_at"], "%Y-%m-%d")
        print_text(f"freed by tracker clean on {day}: {item['file']} ({item['what']})")


def print_history(events: Sequence[Event], competition: Competition, *, wide: bool = False) -> None:
    """A line for each row of the ledger, in the order they were added."""
    rows = [
        (
            str(event.seq),
            competition.local_time(event.time),
            event.author or "-",
            event.kind,
            str(event.submission or "-"),
            event.text,
        )
        for event in events
    ]
    columns = [
        Column("row", right=True),
        Column(f"time ({competition.time_zone})", leaves=2),
        Column("author", leaves=3),
        Column("kind", leaves=1),
        Column("submission", leaves=1, right=True),
        Column("what", leaves=1, text=True),
    ]
    legend = ""
    if any(event.kind == "run" for event in events):
        legend = "the time of a run is its end; its row was added in this place, later"
    print_table(columns, rows, legend=legend, wide=wide)
