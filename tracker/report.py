"""Views of plain data: tables for people, JSON for programs."""

from __future__ import annotations

import json
import math
import os
import re
import sys
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TextIO, TypeGuard, TypeVar

from tracker.configdiff import ENSEMBLE, list_following
from tracker.list_marks import BEST, Marks, explain_marks, style_marks
from tracker.metrics import NO_PUBLIC_SCORE, choose_figures
from tracker.settings import allows_color, get_columns
from tracker.table import CUT, Cell, Column, Styled, draw_table, paint, wrap
from tracker.training.numbers import render_count, render_float

if TYPE_CHECKING:  # annotations only: a command loads what it computes with, not every kind of result
    from tracker.audit import Audit
    from tracker.comparison.advice import Advice
    from tracker.examine import CheckReport
    from tracker.jobs.queue import Outcome
    from tracker.jobs.sweep import SweepResult
    from tracker.ledger.history import Event
    from tracker.ledger.records import Note, Submission
    from tracker.members import Member
    from tracker.quota import Quota
    from tracker.runs import RunRecord
    from tracker.workspace import Competition

_WIDE: ContextVar[bool | None] = ContextVar("wide", default=None)  # None: the command has no --wide
LONGEST_WORD = 64
FEW_KEYS = 3  # that one of two configs does not know, named
NARROW = 80  # columns of a terminal that does not tell how many it has
PLAIN_SIGNS = str.maketrans({CUT: "~", "\u251c": "|", "\u2514": "`", "\u2502": "|"})
Validation = Mapping[
    int, Mapping[str, float]
]  # {submission: {metric: value}}, see list_validation in tracker/ledger/read.py
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


def print_text(text: str, *, style: str = "", end: str = "\n") -> None:
    """Lines on stdout, cleaned, wrapped between words where a terminal is narrower."""
    body = text.removesuffix("\n")
    lines = wrap(clean_text(body), find_width())
    _write([paint(line, style) if has_color() else line for line in lines], end=text[len(body) :] + end)


def print_note(text: str, *, before: str = "", style: str = "") -> None:
    """A remark on stderr, cleaned, and wrapped in a terminal; `style` is that of the word `before` it."""
    width = find_width(sys.stderr) if _is_terminal(sys.stderr) else None  # programs read it line by line
    first, *others = wrap(before + clean_text(text), width)
    first = paint(before, style) + first.removeprefix(before)
    print("\n".join([first, *others]), file=sys.stderr, flush=True)


@contextmanager
def show_all(wide: bool) -> Iterator[None]:
    """Tables that are printed here show every column and character if `wide`; for views of several tables."""
    token = _WIDE.set(wide)
    try:
        yield
    finally:
        _WIDE.reset(token)


def print_table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str = "",
    legend: str = "",
    wide: bool | None = None,
    shows_all: str = "",
) -> None:
    """A table on stdout, `legend` below it; nothing in user texts is markup or steers the terminal.

    With `wide`, every column and every character; None is what `show_all` says around it. `shows_all` names what shows
    them where it is not --wide. A column that is a bare title is a text, but for the first.
    """
    if wide is None:
        wide = _WIDE.get()
        shows_all = shows_all or ("a pipe" if wide is None else "")
    known = [
        column if isinstance(column, Column) else Column(column, text=place > 0) for place, column in enumerate(columns)
    ]
    heads = [replace(column, title=_clean_cell(column.title)) for column in known]
    plain = [column.text and not isinstance(given, Column) for column, given in zip(known, columns, strict=True)]
    cells = [
        [_keep_word(_clean_cell(cell)) if bare else _clean_cell(cell) for cell, bare in zip(row, plain, strict=True)]
        for row in rows
    ]
    width = None if wide else find_width()
    lines = draw_table(heads, cells, width=width, color=has_color(), shows_all=shows_all or "--wide")
    above = wrap(clean_text(title), width) if title else []
    below = wrap(legend, width) if legend else []
    _write(["", *above, *lines, *below, ""])


CellT = TypeVar("CellT", str, Cell)


def _clean_cell(cell: CellT) -> CellT:
    """A cell on one line."""
    if isinstance(cell, Styled):
        shorter = tuple(clean_text(text.replace("\n", " ")) for text in cell.shorter)
        return replace(cell, text=clean_text(cell.text.replace("\n", " ")), shorter=shorter)
    return clean_text(cell.replace("\n", " "))


def _keep_word(cell: Cell) -> Cell:
    """A cell of a bare title that is never cut where it is one word of code: a number, a name, a fingerprint."""
    is_word = isinstance(cell, str) and cell.isascii() and " " not in cell and len(cell) <= LONGEST_WORD
    return Styled(str(cell), whole=True) if is_word else cell


def _write(lines: Sequence[str], *, end: str = "\n") -> None:
    text = "\n".join(lines)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN_SIGNS)
    print(text, end=end)


def find_width(stream: TextIO | None = None) -> int | None:
    """Columns of stdout or `stream`: what COLUMNS asks for, or the terminal's; None for a pipe or a file."""
    if (columns := get_columns()) is not None:
        return columns
    output: TextIO | None = stream or sys.stdout
    if not _is_terminal(output):
        return None
    try:
        return os.get_terminal_size(output.fileno()).columns or NARROW
    except OSError:
        return NARROW


def has_color(stream: TextIO | None = None) -> bool:
    """Whether stdout or `stream` is a terminal that may have colors."""
    return _is_terminal(stream or sys.stdout) and allows_color()


def _is_terminal(stream: TextIO | None) -> TypeGuard[TextIO]:
    """Whether it is a terminal, and neither closed nor missing, as stdout is after `>&-`."""
    return stream is not None and not stream.closed and stream.isatty()


def render_number(value: Any, *, signed: bool = False) -> str:
    """A number in four significant digits; `-` when unknown."""
    if isinstance(value, float):
        return render_float(value, signed=signed)
    return "-" if value is None else str(value)


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


def render_value(value: Any, *, whole: bool = False) -> str:
    """A config value as it is typed, its floats in four significant digits but for `whole`; `-` when there is none."""
    if value is None or isinstance(value, str):
        return "-" if value is None else value
    return json.dumps(value if whole else _shorten(value), ensure_ascii=False)


def _shorten(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_shorten(item) for item in value]
    if not isinstance(value, float) or not math.isfinite(value):
        return value
    return float(f"{value:.4g}") if abs(value) < 1000 else float(round(value))


def render_values(values: Sequence[Any]) -> list[str]:
    """Config values beside each other: whole where four digits would make different ones look the same."""
    short, whole = ([render_value(value, whole=digits) for value in values] for digits in (False, True))
    return short if len(set(short)) == len(set(whole)) else whole


def render_change(diff: Mapping[str, Sequence[Any]] | None, not_known: Sequence[str] = ()) -> str:
    """A config diff on one line: `optim.lr 0.001 -> 0.002`, and how many keys one of two programs never logged."""
    if diff is None:
        return "-"
    unknown = [tell_unknown(not_known)] if not_known else []
    following = list_followers(diff)
    made = ", ".join(list_changes(diff)) + (f" (and with it {', '.join(following)})" if following else "")
    return "; ".join([*([made] if made else ()), *unknown]) or "no config key"


def style_change(
    diff: Mapping[str, Sequence[Any]] | None, not_known: Sequence[str] = (), *, before: str = ""
) -> Styled:
    """The same as a cell that is cut between changes: `optim.lr 0.001 -> 0.002, 3 more keys`."""
    whole = before + render_change(diff, not_known)
    if not diff and not not_known:
        return Styled(whole)
    changes = [*list_changes(diff or {}), *list_followers(diff or {})]
    rest = [f"{len(not_known)} not known"] if not_known else []
    shorter = []
    for shown in range(len(changes) - (not rest), -1, -1):
        heads = [changes[:shown]]
        if shown == 1:
            heads.append([changes[0].partition(" ")[0]])  # its name alone
        more = render_count(len(changes) - shown, "more key" if shown else "key")
        for head in heads:
            parts = [*head, *([more] if shown < len(changes) else ())]
            shorter.append(before + "; ".join([*([", ".join(parts)] if parts else ()), *rest]))
    return Styled(whole, shorter=tuple(shorter))


def list_changes(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """A config diff in words, a text for each change; what an ensemble is made of is one of them.

    Keys that follow from another one are none: `list_followers` has them.
    """
    following = list_following(diff)
    others = [(key, pair) for key, pair in diff.items() if not key.startswith(ENSEMBLE) and key not in following]
    made = render_ensemble_change(diff)
    return [*([made] if made else ()), *(f"{key} {' -> '.join(render_values(pair))}" for key, pair in others)]


def tell_unknown(keys: Sequence[str]) -> str:
    """How many keys one of two programs never logged, by name where they are few; none of them is called a change."""
    named = f": {', '.join(keys)}" if len(keys) <= FEW_KEYS else ""
    return f"{len(keys)} {'key is' if len(keys) == 1 else 'keys are'} known of one of the two alone{named}"


def list_followers(diff: Mapping[str, Sequence[Any]]) -> list[str]:
    """The keys that follow from another one, as the crop follows from the model, in the words of `list_changes`."""
    return [f"{key} {' -> '.join(render_values(diff[key]))}" for key in list_following(diff)]


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
    *,
    marks: Marks | None = None,
    wide: bool = False,
) -> None:
    """A line a run; what was noted last has a column when anything was."""
    marks = marks or Marks()
    noted = any(record.uid in notes for record in records)
    tagged = any(record.tags for record in records)
    measured = _list_measured(record.summary for record in records)
    chosen = choose_figures(competition, measured)
    figures = [*chosen, "loss"] if "loss" in measured and "loss" not in chosen else chosen
    primary = competition.primary_metric if competition.primary_metric in chosen else "".join(chosen[:1])
    columns = [
        Column("run"),
        Column("kind", leaves=9),
        Column("status", leaves=1),
        Column("parent", leaves=8),
        Column("best epoch", leaves=3, right=True),
        *[Column(f"val/{name}", leaves=_order_figure(name, primary), right=True) for name in figures],
        Column("submission", leaves=2, right=True),
        Column(f"created ({competition.time_zone})", leaves=7),
        Column("note", leaves=1, text=True),
        *([Column("tags", leaves=5, text=True)] if tagged else ()),
        *([Column("noted last", leaves=5, text=True)] if noted else ()),
    ]
    used: list[str] = []
    rows: list[list[Cell]] = []
    for record in records:
        number = submitted.get(record.uid)
        own = marks.list_marks(number, record.name)
        used += own
        row: list[Cell] = [
            Styled(" ".join([record.name, *own]), style_marks(own)),
            record.kind,
            style_status(record.status, archived=record.archived_at is not None),
            record.parent or "-",
            render_number(record.best_epoch),
            *[render_number(record.summary.get(f"val/{name}")) for name in figures],
            "-" if number is None else str(number),
            competition.local_time(record.created_at),
            record.note or record.error.partition("\n")[0],
            *([", ".join(record.tags) or "-"] if tagged else ()),
            *([render_newest(notes.get(record.uid, ()))] if noted else ()),
        ]
        rows.append(row)
    print_table(columns, rows, legend=explain_marks(used), wide=wide)


def _order_figure(name: str, primary: str) -> int:
    """When a validation figure leaves: the deciding metric last, accuracy and other metrics before the loss."""
    if name == primary:
        return 1
    return 4 if name == "loss" else 6


STATUS_STYLES = {"finished": "green", "running": "cyan", "interrupted": "yellow", "killed": "red", "failed": "red"}


def style_status(status: str, *, archived: bool = False) -> Styled:
    """How a run ended, in its color, and whether it was put away since."""
    return Styled(f"{status}, archived" if archived else status, STATUS_STYLES.get(status, ""))


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


def print_notes(notes: Sequence[Note], competition: Competition) -> None:
    """Every remark with its day and author; nothing when there is none."""
    if notes:
        days = [competition.local_time(note.time, "%Y-%m-%d") for note in notes]
        rows = [
            (day, note.author, str(note.submission or "-"), str(note)) for day, note in zip(days, notes, strict=True)
        ]
        columns = (
            f"noted ({competition.time_zone})",
            Column("by", leaves=2),
            Column("submission", leaves=3, right=True),
            "note",
        )
        print_table(columns, rows)


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
        "status": style_status(record.status, archived=record.archived_at is not None).text
        + (f": {record.error}" if record.error else ""),
        "kind": record.kind,
        "parent": record.parent or "-",
        "note": record.note or "-",
        **({"tags": ", ".join(record.tags)} if record.tags else {}),
        "author": f"{record.author} on {record.host}",
        **_describe_time(record, comp),
    }
    print_table((record.name, ""), list(about.items()))
    figures = sorted(record.summary.items(), key=lambda pair: not pair[0].startswith("val/"))
    if figures:
        trained = record.kind == "train" and record.fingerprints.get("weights") and record.best_epoch
        title = "metric at best epoch" if trained else "metric"  # of a loop each one's best
        print_table((title, "value"), [(name, render_number(value)) for name, value in figures])
    for sentence in advice.sentences if advice else ():
        print_text(sentence)
    print_members(members, comp)
    if rows:
        print_leaderboard(rows, comp, validation, sota=None, was_sota=())
    print_notes(notes, comp)
    _print_config(config)
    if config.full:
        for name, value in record.fingerprints.items():  # with its name beside it one is wider than 80 columns
            print_text(f"fingerprint of {name}:\n  {value or '-'}")


def _describe_time(record: RunRecord, comp: Competition) -> dict[str, str]:
    """When it was made, how long it took, of how many epochs; how long it took elsewhere nobody knows."""
    zone, seconds = comp.time_zone, "%Y-%m-%d %H:%M:%S"
    when = comp.local_time(record.created_at, seconds)
    freed = {f"{name} freed ({zone})": comp.local_time(at, seconds) for name, at in record.freed.items()}
    epochs = {"epochs": f"{record.epoch}, best {render_number(record.best_epoch)}"}
    without_epochs = record.kind != "train" and not record.epoch
    if "adopted_from" in record.facts:
        adopted = comp.local_time(str(record.facts.get("adopted_at", record.created_at)), seconds)
        begun = {f"trained ({zone})": f"{when} to {comp.local_time(record.finished_at or record.created_at, seconds)}"}
        begun = begun if "adopted_at" in record.facts else {}  # older ones know only when they were adopted
        return {f"adopted ({zone})": adopted, **begun, **(epochs if record.epoch else {}), **freed}
    times = {f"created ({zone})": when, "duration": f"{record.duration_s:.0f} s"}
    return (times if without_epochs else times | epochs) | freed


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
        are = "is" if shown.left_out == 1 else "are"
        count = render_count(shown.left_out, "config key")
        print_text(f"{count} {are} as in {shown.base_name}, --full shows all")


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
    was_sota: Collection[int],
    ancestors: Collection[int] = (),
    duplicates: Mapping[int, int] | None = None,
    ranks: Mapping[int, int] | None = None,
    wide: bool | None = None,
) -> None:
    """The submissions with their marks; with `ranks`, and what was noted last, where there are any.

    `ancestors` are numbers of submissions that SOTA was made from, `duplicates` the earlier ones that some repeat.
    """
    measured = choose_figures(competition, {name for row in rows for name in validation.get(row.number, ())})
    columns = [
        Column("number"),
        Column("rank", leaves=1, right=True),
        Column("run", leaves=2),
        *_list_score_columns(competition, measured),
        Column("memo", leaves=1, text=True),
        Column("change to SOTA then", leaves=8, text=True),
        Column("noted last", leaves=7, text=True),
    ]
    marks = Marks(now=sota, then=was_sota, ancestors=[str(number) for number in ancestors], duplicates=duplicates or {})
    used: list[str] = []
    table: list[list[Cell]] = []
    for row in rows:
        own = marks.list_marks(row.number, str(row.number))
        used += own
        figures = validation.get(row.number, {})
        table.append(
            [
                Styled(" ".join([str(row.number), *own]), style_marks(own)),
                render_number((ranks or {}).get(row.number)),
                row.run or "-",
                *[
                    metric.render(row.scores.get(f"{split}_{metric.name}"))
                    for split in ("public", "private")
                    for metric in competition.metrics
                ],
                *[render_number(figures.get(name)) for name in measured],
                row.memo,
                style_change(row.config_diff, row.not_known, before=f"to {row.sota}: ") if row.sota else "-",
                render_newest(row.notes),
            ]
        )
    left_out = {"rank"} if ranks is None else set()
    left_out |= set() if any(row.notes for row in rows) else {"noted last"}
    kept = [place for place, column in enumerate(columns) if column.title not in left_out]
    print_table(
        [columns[place] for place in kept],
        [[cells[place] for place in kept] for cells in table],
        legend=explain_marks(used),
        wide=wide,
        shows_all="tracker leaderboard --wide" if wide is None and _WIDE.get() is None else "",
    )


def _list_score_columns(competition: Competition, measured: Sequence[str]) -> Iterator[Column]:
    """Scores and validation figures; all but those of the deciding metric leave early."""
    for split, leaves in (("public", 1), ("private", 6)):
        for metric in competition.metrics:
            minor = metric.name != competition.primary_metric
            yield Column(f"{split} {metric.name}", leaves=leaves + 9 if minor else leaves, right=True)
    deciding = competition.primary_metric if competition.primary_metric in measured else "".join(measured[:1])
    for name in measured:
        yield Column(f"val {name}", leaves=3 if name == deciding else 12, right=True)


def _short(fingerprint: str | None) -> str:
    return (fingerprint or "unknown").replace("sha256:", "")[:19]


def print_check(report: CheckReport, competition: Competition) -> None:
    """What submit would say, its answer first."""
    print_text(report.answer)
    print_check_details(report, competition)
    print_text(render_quota(report.quota, competition))
    if report.quota.left == 1 and not report.refusal:
        print_text("it would be the last one")
    print_text("would be refused" if report.refusal else "would be accepted")  # the answer says why


def print_check_details(report: CheckReport, competition: Competition) -> None:
    """What the answer of check rests on."""
    from tracker.members import print_members

    what = f", {report.ensemble}" if report.ensemble else ""
    print_text(f"{report.run}: {render_count(report.images, 'prediction')}, {_short(report.fingerprint)}{what}")
    print_members(report.members, competition)
    if report.sota is not None:
        change = render_change(report.config_diff, report.not_known)
        print_text(f"change to SOTA (submission {report.sota}): {change}")
        for name, (old, new) in report.validation.items():
            reason = report.not_comparable.get(name, "")
            remark = f" (not comparable: {reason})" if reason and None not in (old, new) else ""
            print_text(f"  {name}: {render_number(old)} -> {render_number(new)}{remark}")
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
    left_out += f"; {expected['metric']} lies from 0 to 1" if expected.get("limited") else ""
    return (
        f"{name} {render_number(expected['value'])}, {low} to {high} in 95 of 100 cases "
        f"(line through {render_count(expected['n'], 'submission')}{few}{left_out})"
    )


def render_submission_scores(row: Submission, competition: Competition) -> str:
    """The scores of a submission that are known, in one line; empty when none is."""
    known = []
    for split in ("public", "private", "overall"):
        for metric in competition.metrics:
            value = row.scores.get(f"{split}_{metric.name}")
            if value is not None:
                known.append(f"{split} {metric.name} {metric.render(value)}")
    return ", ".join(known)


def render_quota(quota: Quota, competition: Competition) -> str:
    """What is left to submit, in one line."""
    until = f", deadline {competition.local_time(quota.deadline)} ({competition.time_zone})" if quota.deadline else ""
    if quota.left is None:
        return f"no daily limit, {quota.used} submitted today{until}"
    return f"{quota.left} of {quota.limit} submissions left{until}"


def print_audit(audit: Audit, competition: Competition) -> None:
    """How the submissions were spent."""
    chain = " -> ".join(map(str, audit.sota_chain))
    print_text(f"{render_count(audit.submissions, 'submission')}, {f'SOTA: {chain}' if chain else NO_PUBLIC_SCORE}")
    for item in audit.wasted:
        print_text(f"spent in vain: {item['number']} is {item['equal_to']} again ({item['evidence']})")
    one = [f"{item['number']} ({item['key']})" for item in audit.one_key]
    print_text(f"one key away from the SOTA then: {', '.join(one) or 'none'}")
    several = [f"{item['number']} ({len(item['keys'])} keys)" for item in audit.several_keys]
    print_text(f"several at once, so nobody can say which helped: {', '.join(several) or 'none'}")
    print_text("by author: " + (", ".join(f"{name} {count}" for name, count in audit.by_author.items()) or "-"))
    print_text(
        f"by day ({competition.time_zone}): "
        + (", ".join(f"{day} {count}" for day, count in audit.by_day.items()) or "-")
    )
    if audit.unscored:
        print_text(f"no score yet: {', '.join(map(str, audit.unscored))} (tracker score N)")
    for number, note in audit.notes:
        print_text(f"noted on {number}, {note.author}: {note}")
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
    print_table(columns, rows, wide=wide)


def print_outcomes(outcomes: Sequence[Outcome], competition: Competition, *, wide: bool = False) -> None:
    """What became of the entries of a queue."""
    names = choose_figures(competition, _list_measured(outcome.metrics for outcome in outcomes))
    columns = [
        Column("entry", right=True),
        Column("label", leaves=1, text=True),
        Column("run"),
        Column("status", leaves=1),
        *[Column(f"val {name}", leaves=_order_figure(name, names[0]), right=True) for name in names],
        Column("reason", leaves=1, text=True),
    ]
    rows: list[list[Cell]] = []
    for outcome in outcomes:
        figures = [render_number(outcome.metrics.get(f"val/{name}")) for name in names]
        about: list[Cell] = [str(outcome.entry), outcome.label, outcome.run or "-", style_status(outcome.status)]
        rows.append([*about, *figures, outcome.reason or "-"])
    print_table(columns, rows, wide=wide)


def print_sweep(found: SweepResult, *, wide: bool = False) -> None:
    """The trials of a sweep, and how to go on from the best."""
    names = list(dict.fromkeys(name for trial in found.trials for name in trial.values))
    columns = [
        Column("trial"),
        Column("run"),
        Column("state", leaves=1),
        Column(found.monitor, leaves=1, right=True),
        *[Column(name, leaves=2) for name in names],
        Column("reason", leaves=1, text=True),
    ]
    top = next((trial.value for trial in found.trials if trial.number == found.best), None)
    rows: list[list[Cell]] = []
    for trial in found.trials:
        is_best = found.best is not None and trial.value == top
        name = Styled(f"{trial.number} {BEST}", "bold green") if is_best else str(trial.number)
        about: list[Cell] = [name, trial.run or "-", style_status(trial.state), render_number(trial.value)]
        rows.append([*about, *[render_value(trial.values.get(key)) for key in names], trial.reason or "-"])
    legend = explain_marks([BEST] if found.best is not None else [])
    print_table(columns, rows, title=found.study, legend=legend, wide=wide)
    if found.best is None:
        print_text("no trial has been completed")
        return
    best = next(trial for trial in found.trials if trial.number == found.best)
    print_text(f"best: trial {best.number}, {found.monitor} {render_number(best.value)}, {best.run} on {best.host}")
    print_text(f"train from it: tracker run train --from {best.run}")
