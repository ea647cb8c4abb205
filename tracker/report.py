"""Views of plain data: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tracker.metrics import NO_PUBLIC_SCORE, choose_figures

if TYPE_CHECKING:  # annotations only: a command loads what it computes with, not every kind of result
    from tracker.audit import Audit
    from tracker.comparison.advice import Advice
    from tracker.jobs.queue import Outcome
    from tracker.jobs.sweep import SweepResult
    from tracker.ledger.history import Event
    from tracker.ledger.read import Note, Submission
    from tracker.members import Member
    from tracker.quota import Quota
    from tracker.runs import RunRecord
    from tracker.submit import CheckReport
    from tracker.workspace import Competition

PIPED_WIDTH = 240
NARROW = 80  # columns of a terminal below which a table leaves columns out rather than squeezing all
BETWEEN = 3  # columns that a table puts between two of its own
LONGEST_WORD = 20
ENSEMBLE = "ensemble."  # keys of a config that say what an ensemble is made of
FEW_LETTERS = 5  # the narrowest column that is worth its place
Validation = Mapping[int, Mapping[str, float]]  # {submission: {metric: value}}, see tracker.ledger.read.list_validation
# Controls, line separators, what turns the direction of other text, and bytes that are not UTF-8; newlines stay.
_STEERING = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def print_json(value: Any) -> None:
    """One JSON document on stdout; null where a number is not finite, which JSON cannot say."""
    try:
        text = json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False)
    except ValueError:
        text = json.dumps(_drop_non_finite(value), indent=1, ensure_ascii=False, allow_nan=False)
    print(text)


def _drop_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _drop_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def clean_text(text: str) -> str:
    """A text that cannot steer a terminal or turn its neighbours: such characters are shown as `\\x1b` or `\\u202e`."""
    return _STEERING.sub(lambda found: ascii(found[0])[1:-1], text)


def print_text(text: str, *, end: str = "\n") -> None:
    """Lines on stdout, cleaned."""
    print(clean_text(text), end=end)


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, title: str = "") -> None:
    """A table on stdout; nothing in user texts is markup or steers the terminal."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    width = find_width()
    heads = [clean_text(name) for name in columns]
    cells = [[clean_text(cell) for cell in row] for row in rows]
    widths = _fit_columns(heads, cells, width) if width < NARROW else dict.fromkeys(range(len(heads)))
    table = Table(title=Text(clean_text(title)) if title else None, box=box.SIMPLE_HEAD)
    for place, own in widths.items():
        table.add_column(Text(heads[place]), width=own, overflow="fold")
    for row in cells:
        table.add_row(*[Text(row[place]) for place in widths])
    Console(width=width, highlight=False).print(table)
    left_out = [name for place, name in enumerate(heads) if place not in widths]
    if left_out:
        print_text(f"no room for: {', '.join(left_out)}")


def _fit_columns(heads: Sequence[str], rows: Sequence[Sequence[str]], width: int) -> dict[int, int]:
    """{place: width} of the columns that can be read in `width`, from the left; the first is always among them.

    A column needs its longest word, but no more than `LONGEST_WORD`; the first two make do with less, so that a table
    of keys and values shows both. What is left over makes them wider, from the left.
    """
    from rich.cells import cell_len

    room = width - 1
    wanted: dict[int, int] = {}
    widths: dict[int, int] = {}
    for place, head in enumerate(heads):
        texts = [head, *(row[place] for row in rows)]
        words = (word for text in texts for word in text.split())
        wanted[place] = max(1, *(cell_len(line) for text in texts for line in (text.splitlines() or [""])))
        least = min(max((cell_len(word) for word in words), default=1), LONGEST_WORD)
        if place == 0:
            least = min(least, max(FEW_LETTERS, width // 2 - BETWEEN))
        elif place == 1:
            least = min(least, max(FEW_LETTERS, room - BETWEEN))
        if least + BETWEEN <= room:
            widths[place] = least
            room -= least + BETWEEN
    for place, least in widths.items():
        more = min(wanted[place] - least, room)
        widths[place] += more
        room -= more
    return widths


def find_width(piped: int = PIPED_WIDTH) -> int:
    """Columns of the output: the terminal's, what COLUMNS says, or `piped` for a pipe or a file."""
    return shutil.get_terminal_size((piped, 24)).columns


def render_number(value: Any) -> str:
    """A number in a few characters; `-` when unknown."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.4f}" if 0.001 <= abs(value) < 10000 or value == 0 else f"{value:.3g}"
    return str(value)


def render_scores(summary: Mapping[str, float | None], competition: Competition) -> str:
    """The validation figures of a run's last line."""
    names = choose_figures(competition, _list_measured([summary])) or [competition.primary_metric]
    return ", ".join(f"val {name} {render_number(summary.get(f'val/{name}'))}" for name in names)


def _list_measured(summaries: Iterable[Mapping[str, float | None]]) -> set[str]:
    """The validation figures, without `val/`, that one of the runs knows."""
    known = {name for summary in summaries for name, value in summary.items() if value is not None}
    return {name.removeprefix("val/") for name in known if name.startswith("val/")}


def render_end(record: RunRecord, competition: Competition) -> str:
    """How a run ended, or how far it has come, in one line."""
    if record.status == "finished":
        at = f"best epoch {record.best_epoch}, " if record.best_epoch else ""
        return f"{record.name} finished: {at}{render_scores(record.summary, competition)}"
    reason = f" ({record.error.partition(chr(10))[0]})" if record.error else ""
    best = f", best {record.best_epoch}: {render_scores(record.summary, competition)}" if record.best_epoch else ""
    return f"{record.name} {record.status}{reason} after epoch {record.epoch}{best}"


def render_value(value: Any) -> str:
    """A config value as it is typed; `-` when a side does not have the key."""
    return "-" if value is None else value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def render_change(diff: Mapping[str, Sequence[Any]] | None) -> str:
    """A config diff on one line: `optim.lr 0.001 -> 0.002`."""
    if diff is None:
        return "-"
    if not diff:
        return "no config key"
    return ", ".join(list_changes(diff))


def list_changes(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """A config diff in words, a text for each change; what an ensemble is made of is one of them."""
    others = [(key, pair) for key, pair in diff.items() if not key.startswith(ENSEMBLE)]
    made = render_ensemble_change(diff)
    return [*([made] if made else ()), *(f"{key} {render_value(a)} -> {render_value(b)}" for key, (a, b) in others)]


def render_ensemble_change(diff: Mapping[str, Sequence[Any]]) -> str:
    """What became of the keys that say what an ensemble is made of; empty where none of them differs."""
    pairs = {key.removeprefix(ENSEMBLE): pair for key, pair in diff.items() if key.startswith(ENSEMBLE)}
    if not pairs:
        return ""
    old, new = ({key: pair[side] for key, pair in pairs.items()} for side in (0, 1))
    if new.get("members") and not old.get("members"):
        return describe_ensemble(new)
    if old.get("members") and not new.get("members"):
        return f"no ensemble any more (was {describe_ensemble(old)})"
    return "ensemble: " + ", ".join(f"{key} {_list_values(old[key])} -> {_list_values(new[key])}" for key in pairs)


def describe_ensemble(table: Mapping[str, Any]) -> str:
    """The section `ensemble` of a config: `weighted ensemble of exp5, exp7 (2, 6)`."""
    weights = f" ({_list_values(table['weights'])})" if table.get("weights") else ""
    return f"{table.get('method') or ''} ensemble of {_list_values(table.get('members') or [])}{weights}".strip()


def _list_values(values: Any) -> str:
    if not isinstance(values, list | tuple):
        return render_value(values)
    return ", ".join(f"{value:g}" if isinstance(value, int | float) else str(value) for value in values) or "none"


def runs_to_json(
    records: Sequence[RunRecord],
    configs: Mapping[str, Any],
    submitted: Mapping[str, int],
    notes: Mapping[str, Sequence[Note]],
) -> list[dict[str, Any]]:
    """The documented object of `tracker runs --json`."""
    return [
        {
            **record.to_dict(),
            "config": configs.get(record.name),
            "metrics": dict(record.summary),
            "submission": submitted.get(record.uid),
            "notes": [note.to_dict() for note in notes.get(record.uid, ())],
        }
        for record in records
    ]


def print_runs(
    records: Sequence[RunRecord],
    submitted: Mapping[str, int],
    notes: Mapping[str, Sequence[Note]],
    competition: Competition,
) -> None:
    """A line a run, newest first; what was noted last has a column when anything was."""
    noted = any(record.uid in notes for record in records)
    measured = _list_measured(record.summary for record in records)
    chosen = choose_figures(competition, measured)
    figures = [f"val/{name}" for name in chosen]
    if "loss" in measured and "loss" not in chosen:
        figures.append("val/loss")
    rows = [
        (
            record.name,
            record.kind,
            record.status,
            record.parent or "-",
            render_number(record.best_epoch),
            *[render_number(record.summary.get(name)) for name in figures],
            str(submitted.get(record.uid, "-")),
            record.created_at[:16].replace("T", " "),
            record.note or record.error.partition("\n")[0],
            *([render_newest(notes.get(record.uid, ()))] if noted else ()),
        )
        for record in records
    ]
    columns = ["run", "kind", "status", "parent", "best epoch", *figures, "submission", "created (UTC)", "note"]
    print_table([*columns, "noted last"] if noted else columns, rows)


def render_newest(notes: Sequence[Note]) -> str:
    """What was noted last, and how many remarks there are before it; `-` for none."""
    earlier = f" (+{len(notes) - 1})" if len(notes) > 1 else ""
    return f"{notes[-1]}{earlier}" if notes else "-"


def render_corrections(
    before: Mapping[str, float], after: Mapping[str, float], competition: Competition
) -> Iterator[str]:
    """A line for each score that had another value."""
    for name, old in before.items():
        if after[name] != old:
            metric = competition.metric(name.partition("_")[2])
            yield f"{name.replace('_', ' ')} was {metric.render(old)}; the old value stays in the ledger's history"


def print_notes(notes: Sequence[Note]) -> None:
    """Every remark with its day and author; nothing when there is none."""
    if notes:
        rows = [(note.time[:10], note.author, str(note.submission or "-"), str(note)) for note in notes]
        print_table(("noted (UTC)", "by", "submission", "note"), rows)


@dataclass(frozen=True)
class ShownConfig:
    """The keys of a config that are shown: all of them, or those that differ from `base`, the config `base_name`."""

    values: Mapping[str, Any]
    base_name: str = ""
    base: Mapping[str, Any] | None = None
    left_out: int = 0
    full: bool = False


def print_run(
    record: RunRecord,
    config: ShownConfig,
    rows: Sequence[Submission],
    comp: Competition,
    *,
    validation: Validation,
    notes: Sequence[Note],
    advice: Advice | None,
    members: Sequence[Member],
) -> None:
    """Everything about one run: what came of it, then what it was made from."""
    from tracker.members import print_members

    about = {
        "status": record.status + (f": {record.error}" if record.error else ""),
        "kind": record.kind,
        "parent": record.parent or "-",
        "note": record.note or "-",
        "author": f"{record.author} on {record.host}",
        "created (UTC)": record.created_at[:19].replace("T", " "),
        "duration": f"{record.duration_s:.0f} s",
        "epochs": f"{record.epoch}, best {render_number(record.best_epoch)}",
    }
    print_table((record.name, ""), list(about.items()))
    figures = sorted(record.summary.items(), key=lambda pair: not pair[0].startswith("val/"))
    if figures:
        print_table(("metric at best epoch", "value"), [(name, render_number(value)) for name, value in figures])
    for sentence in advice.sentences if advice else ():
        print_text(sentence)
    print_members(members, comp)
    if rows:
        print_leaderboard(rows, comp, validation, sota=None, was_sota=())
    print_notes(notes)
    _print_config(config)
    if config.full:
        prints = [(name, value or "-") for name, value in record.fingerprints.items()]
        print_table(("fingerprint", "value"), prints)


def _print_config(shown: ShownConfig) -> None:
    """The config, or what of it differs and from what."""
    if shown.base is None:
        print_table(("config", "value"), [(key, render_value(value)) for key, value in shown.values.items()])
        return
    pairs = [(key, render_value(shown.base.get(key)), render_value(value)) for key, value in shown.values.items()]
    if pairs:
        print_table(("config", shown.base_name, "this run"), pairs)
    elif shown.left_out:
        print_text(f"config: no difference from {shown.base_name}")
    if shown.left_out:
        print_text(f"{shown.left_out} config keys are as in {shown.base_name}, --full shows them")


def submission_to_json(
    row: Submission, competition: Competition, validation: Validation, *, sota: int | None, was: bool
) -> dict[str, Any]:
    """The documented object of a submission: null where unknown."""
    plain = row.to_dict()
    scores = plain.pop("scores")
    splits = ("public", "private")
    known: dict[str, float | None] = {}
    for metric in competition.metrics:
        known |= {f"{split}_{metric.name}": None for split in splits}
        known[f"val_{metric.name}"] = validation.get(row.number, {}).get(metric.name)
    return {**known, **plain, **scores, "is_sota": row.number == sota, "was_sota": was}


def print_leaderboard(
    rows: Sequence[Submission],
    competition: Competition,
    validation: Validation,
    *,
    sota: int | None,
    was_sota: Sequence[int],
) -> None:
    """The submission table, SOTA marked: ** now, * when it was made; with what was noted last, if anything was."""
    noted = any(row.notes for row in rows)
    columns = [f"{split} {metric.name}" for split in ("public", "private") for metric in competition.metrics]
    figures = choose_figures(competition, {name for row in rows for name in validation.get(row.number, ())})
    table = []
    for row in rows:
        mark = " **" if row.number == sota else " *" if row.number in was_sota else ""
        scores = [
            metric.render(row.scores.get(f"{split}_{metric.name}"))
            for split in ("public", "private")
            for metric in competition.metrics
        ]
        change = f"to {row.sota}: {render_change(row.config_diff)}" if row.sota else "-"
        own = [render_number(validation.get(row.number, {}).get(name)) for name in figures]
        remark = [render_newest(row.notes)] if noted else []
        table.append((f"{row.number}{mark}", row.run or "-", *scores, *own, row.memo, change, *remark))
    heads = ["number", "run", *columns, *(f"val {name}" for name in figures), "memo", "change to SOTA then"]
    print_table([*heads, "noted last"] if noted else heads, table)


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "unknown").replace("sha256:", "")[:19]


def print_check(report: CheckReport, competition: Competition) -> None:
    """What submit would say, its answer first."""
    print_text(report.answer)
    print_check_details(report, competition)
    print_text(render_quota(report.quota))
    if report.quota.left == 1 and not report.refusal:
        print_text("it would be the last one")
    print_text(f"would be refused: {report.refusal}" if report.refusal else "would be accepted")


def print_check_details(report: CheckReport, competition: Competition) -> None:
    """What the answer of check rests on."""
    from tracker.members import print_members

    what = f", {report.ensemble}" if report.ensemble else ""
    print_text(f"{report.run}: {report.images} predictions, {_short(report.fingerprint)}{what}")
    print_members(report.members, competition)
    if report.sota is not None:
        print_text(f"change to SOTA (submission {report.sota}): {render_change(report.config_diff)}")
        if report.incomparable:
            print_text(f"validation scores do not compare ({report.incomparable}):")
        for name, (old, new) in report.validation.items():
            print_text(f"  {name}: {render_number(old)} -> {render_number(new)}")
        if report.changed_from_sota:
            moves = list(report.changed_from_sota.items())
            print_text("answers moved: " + ", ".join(f"{name} {count}" for name, count in moves[:8]))
    print_text(_render_expected(report.expected))
    for item in report.nearest:
        share = item["equal_share"] * 100
        print_text(
            f"nearest: submission {item['number']} ({item['run']}), {item['changed']} differ, {share:.2f} % equal"
        )


def _render_expected(expected: Mapping[str, Any]) -> str:
    """What the submissions with the same validation scheme make of a candidate's validation score."""
    name = f"expected public {expected['metric']}"
    left_out = f", {expected['left_out']} of another scheme left out" if expected["left_out"] else ""
    if expected["value"] is None:
        return f"{name}: unknown, {expected['reason']}{left_out}"
    low, high = (render_number(expected[side]) for side in ("low", "high"))
    few = ", few" if expected["n"] < 10 else ""
    return (
        f"{name} {render_number(expected['value'])}, {low} to {high} in 95 of 100 cases "
        f"(line through {expected['n']} submissions{few}{left_out})"
    )


def render_quota(quota: Quota) -> str:
    """What is left to submit, in one line."""
    until = f", deadline {quota.deadline[:16].replace('T', ' ')} UTC" if quota.deadline else ""
    if quota.left is None:
        return f"no daily limit, {quota.used} submitted today{until}"
    return f"{quota.left} of {quota.limit} submissions left{until}"


def print_audit(audit: Audit) -> None:
    """How the submissions were spent."""
    chain = " -> ".join(map(str, audit.sota_chain))
    print_text(f"{audit.submissions} submissions, {f'SOTA: {chain}' if chain else NO_PUBLIC_SCORE}")
    for item in audit.wasted:
        print_text(f"spent in vain: {item['number']} is {item['equal_to']} again ({item['evidence']})")
    one = [f"{item['number']} ({item['key']})" for item in audit.one_key]
    print_text(f"one key away from the SOTA then: {', '.join(one) or 'none'}")
    several = [f"{item['number']} ({len(item['keys'])} keys)" for item in audit.several_keys]
    print_text(f"several at once, so nobody can say which helped: {', '.join(several) or 'none'}")
    print_text("by author: " + (", ".join(f"{name} {count}" for name, count in audit.by_author.items()) or "-"))
    print_text("by day (UTC): " + (", ".join(f"{day} {count}" for day, count in audit.by_day.items()) or "-"))
    if audit.unscored:
        print_text(f"no score yet: {', '.join(map(str, audit.unscored))} (tracker score N)")
    for number, note in audit.notes:
        print_text(f"noted on {number}, {note.author}: {note}")
    for item in audit.missing:
        print_text(f"gone: {item['file']} ({item['what']})")


def print_history(events: Sequence[Event]) -> None:
    """A line for each row of the ledger, in the order they were added."""
    rows = [
        (
            str(event.seq),
            (event.time or "-")[:16].replace("T", " "),
            event.author or "-",
            event.kind,
            str(event.submission or "-"),
            event.text,
        )
        for event in events
    ]
    print_table(("row", "time (UTC)", "author", "kind", "submission", "what"), rows)


def print_outcomes(outcomes: Sequence[Outcome], competition: Competition) -> None:
    """What became of the entries of a queue."""
    names = choose_figures(competition, _list_measured(outcome.metrics for outcome in outcomes))
    rows = []
    for outcome in outcomes:
        figures = [render_number(outcome.metrics.get(f"val/{name}")) for name in names]
        label = f"{outcome.entry} {outcome.label}"
        rows.append((label, outcome.run or "-", outcome.status, *figures, outcome.reason or "-"))
    print_table(("entry", "run", "status", *(f"val {name}" for name in names), "reason"), rows)


def print_sweep(found: SweepResult) -> None:
    """The trials of a sweep, and how to go on from the best."""
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.values))
    rows = [
        (
            f"{trial.number}{' **' if trial.number == found.best else ''}",
            trial.run or "-",
            trial.state,
            render_number(trial.value),
            *[render_number(trial.values.get(name)) for name in names],
            trial.reason or "-",
        )
        for trial in found.trials
    ]
    print_table(("trial", "run", "state", found.monitor, *names, "reason"), rows, title=found.study)
    if found.best is None:
        print_text("no trial has been completed")
        return
    best = next(trial for trial in found.trials if trial.number == found.best)
    print_text(f"best: trial {best.number}, {found.monitor} {render_number(best.value)}, {best.run} on {best.host}")
    print_text(f"train from it: tracker run train --from {best.run}")
