"""The table of `tracker compare` for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tracker.console.notes import render_newest
from tracker.core.config_diff import (
    CHANNEL_KEYS,
    CROP_OPTIONS,
    describe_ensemble_briefly,
    list_used_members,
)
from tracker.core.list_marks import (
    BEST,
    MEANINGS,
    SEARCHED,
    Marks,
    explain_marks,
    mark_flattered,
    style_marks,
)
from tracker.core.markdown import escape, render_table
from tracker.core.table import Column, Styled, fit_columns, fits
from tracker.core.terminal import find_width, print_table, print_text, style_status
from tracker.core.text import render_number, render_value, render_values
from tracker.training.numbers import render_count, render_digits
from tracker.workspace.metrics import are_same

if TYPE_CHECKING:
    from tracker.comparison.compare import Comparison, Incomparable, Row, Spread
    from tracker.workspace.tracker_toml import Competition

# so many runs are columns, as in diff, where there is room; more are lines unless these lose
# columns
SIDE_BY_SIDE = 4
TEXTS = ("note", "noted last")
ENSEMBLE = "ensemble"  # the title of the column that the keys of ensembles share
LONG = ("tags", "error")  # fields whose values are sentences or lists
ASKED_FIRST = (
    "model.name",
    "optim.lr",
    "data.image_size",
    "train.epochs",
    "augment.name",
    "loss.name",
    "train.batch_size",
)
PLUS_MINUS = "\u00b1"
OF_EACH_RUN = ("created_at", "duration_s", "best_epoch", "parent")  # seldom equal in a row
MAX_BELOW = 8  # so many rows have the keys below for which the table has no room
MAX_REASONS = 3  # not to compare that are told one by one below a narrow table
COUNTS = "mean of"  # where the figures of a narrow table leave out how many there are


def print_comparison(
    result: Comparison, competition: Competition, *, marks: Marks | None = None, wide: bool = False
) -> None:
    """Runs side by side where they fit and are few or would lose columns, else below each other;
    then the keys that had no room, run by run, and remarks."""
    width = None if wide else find_width()
    following = [] if width is None else list_following_keys(result)
    if following:
        result = replace(result, keys=[key for key in result.keys if key not in following])
    if width is not None:
        result = join_ensemble_keys(result)
    header, lines = build_cells(result, competition, marks)
    legend = explain_marks([*_list_marks(result, marks or Marks()), *_list_figure_marks(result)])
    columns = [Column(""), *[Column(line[0].text, text=True) for line in lines]]
    rows: list[tuple[Styled, ...]] = list(
        zip([Styled(name) for name in header], *lines, strict=True)
    )[1:]
    listed = list(_list_columns(header, result, competition))
    if not fits(listed, lines, width) and any(map(_has_spread, result.rows)):
        header, lines = build_cells(result, competition, marks, brief=True)
        listed = list(_list_columns(header, result, competition))
    listed = _keep_a_key(result, header, listed, lines, width)
    below: list[str] = []
    shown = header
    few = len(lines) <= SIDE_BY_SIDE or not fits(listed, lines, width)
    if not (
        few and fits(columns, rows, width) and (width is not None or len(lines) <= SIDE_BY_SIDE)
    ):
        kept = _choose_columns(result, header, listed, lines, width)
        below = list(_list_below(result, lines, listed, kept))
        columns = [listed[place] for place in kept]
        rows = [tuple(line[place] for place in kept) for line in lines]
        shown = [header[kept[place]] for place in fit_columns(columns, rows, width)]
    if lines:
        print_table(columns, rows, legend=legend, wide=wide)
    for line in below:
        print_text(line)
    for line in describe(result, shown=None if width is None else shown, following=following):
        print_text(line)


def _keep_a_key(
    result: Comparison,
    header: Sequence[str],
    columns: list[Column],
    lines: Sequence[Sequence[Styled]],
    width: int | None,
) -> list[Column]:
    """The columns, the first config key more important than validation where else no key fits: a
    comparison shows what differs."""
    keys = [name for name in order_keys(result) if name in header]

    def has_key(listed: Sequence[Column]) -> bool:
        return any(header[place] in keys for place in fit_columns(listed, lines, width))

    if not keys or has_key(columns):
        return columns
    first = header.index(keys[0])
    raised = [*columns]
    raised[first] = columns[first]._replace(leaves=2)  # what stays has the same, and stands left
    return raised if has_key(raised) else columns


def _choose_columns(
    result: Comparison,
    header: Sequence[str],
    columns: Sequence[Column],
    lines: Sequence[Sequence[Styled]],
    width: int | None,
) -> list[int]:
    """The columns of the table; of few rows without the keys that do not fit and stand below."""
    fitting = fit_columns(columns, lines, width)
    return [
        place
        for place, name in enumerate(header)
        if place in fitting or name not in result.keys or len(lines) > MAX_BELOW
    ]


def _list_below(
    result: Comparison,
    lines: Sequence[Sequence[Styled]],
    columns: Sequence[Column],
    kept: Sequence[int],
) -> Iterator[str]:
    """`exp1: model=resnet18, epochs=5` of each row that has a value in the columns that are not
    `kept`."""
    left = [place for place in range(len(columns)) if place not in kept]
    left.sort(key=lambda place: columns[place].leaves)
    if not left:
        return
    said = []
    for row, line in zip(result.rows, lines, strict=True):
        known = [place for place in left if line[place].text != "-"]
        values = ", ".join(f"{columns[place].title}={line[place].text}" for place in known)
        if values:
            said.append(f"  {name_row(row)}: {values}")
    if said:
        yield from ("what else differs:", *said, "")


def join_ensemble_keys(result: Comparison) -> Comparison:
    """Method, members, weights and search of ensembles as one key; those asked for stay as well."""
    own = [key for key in result.keys if key.startswith(f"{ENSEMBLE}.")]
    joined = [key for key in own if key not in result.asked]
    if not joined:
        return result
    rows = [
        replace(row, config={**row.config, ENSEMBLE: _list_ensemble(row.config)})
        for row in result.rows
    ]
    keys = [ENSEMBLE, *[key for key in result.keys if key not in joined]]
    return replace(result, rows=rows, keys=keys)


def _list_ensemble(config: Mapping[str, Any]) -> dict[str, Any] | None:
    """The section `ensemble` of a flat config; None for a single model."""
    if not config.get(f"{ENSEMBLE}.method") and not config.get(f"{ENSEMBLE}.members"):
        return None
    start = f"{ENSEMBLE}."
    return {
        key.removeprefix(start): value for key, value in config.items() if key.startswith(start)
    }


def _style_ensemble(table: Mapping[str, Any] | None) -> Styled:
    """`soft of exp1, exp2`, or `soft of 2 runs` where there is less room."""
    if not table:
        return Styled("-")
    method = str(table.get("method") or "")
    brief = describe_ensemble_briefly(table).replace(" ensemble of ", " of ")
    members = ", ".join(list_used_members(table)[0])
    long = f"{method} of {members}".strip() if members else brief
    return Styled(long, shorter=(brief,), whole=True)


def _list_columns(
    header: Sequence[str], result: Comparison, competition: Competition
) -> Iterator[Column]:
    """The columns of the table, each with the order in which it leaves a narrow terminal.

    What --sort and --where name, the deciding public score and validation figure stay longest,
    then how runs ended, then the config keys that tell rows apart best.

    The deciding public score and validation figure stay longest, then the config keys that tell
    rows apart best. What came of it otherwise (private, other metrics, training figures) and
    notes leave before them.
    """
    stay = [f"{split}{competition.primary_metric}" for split in ("public_", "val/")]
    keys = {key: 100 + place for place, key in enumerate(order_keys(result))}
    leaves = {"run": 0, "submission": 10_000, "note": 10_001, "noted last": 20_000, COUNTS: 20_001}
    if ENSEMBLE in result.keys:
        leaves["note"] = 50  # the keys of a training tell no ensemble from another
    titles = shorten_keys(header, result.keys)
    for place, name in enumerate(header):
        if name in result.asked:
            is_figure = name in result.metrics
            yield Column(
                titles.get(name, name), leaves=1, right=is_figure, text=name in (*TEXTS, *LONG)
            )
        elif name in stay:
            yield Column(name, leaves=2 + stay.index(name), right=True)
        elif name in result.fields:
            yield Column(name, leaves=4)
        elif name == ENSEMBLE and name in keys:
            yield Column(name, leaves=51, text=True)
        elif name in keys:
            yield Column(titles[name], leaves=keys[name], returns=True)
        elif name in result.metrics:
            private = name == f"private_{competition.primary_metric}"
            is_score = name.startswith(("val/", "public_", "private_", "overall_"))
            last = 10_002 if private else 11_000 if is_score else 15_000
            yield Column(name, leaves=last if private else last + place, right=True)
        else:
            # a row of several runs has a shorter name
            yield Column(name, leaves=leaves[name], text=name in ("run", *TEXTS))


def order_keys(result: Comparison) -> list[str]:
    """The keys that differ, in the order that people ask for them (`ASKED_FIRST`), then with the
    fewest values.

    Keys that most rows do not know, or that have one value wherever they are known, come last.
    """

    def rank(key: str) -> tuple[bool, int, int, int]:
        values = [row.config[key] for row in result.rows if row.config[key] is not None]
        unknown = len(result.rows) - len(values)
        different = len({json.dumps(value) for value in values})
        asked = ASKED_FIRST.index(key) if key in ASKED_FIRST else len(ASKED_FIRST)
        return different < 2 or unknown > len(values), asked, different, unknown

    return sorted(result.keys, key=rank)


def shorten_keys(header: Sequence[str], keys: Sequence[str]) -> dict[str, str]:
    """{key: its title}: what comes after the dot where no other column is called so; `model` for
    model.name."""
    short = {}
    for key in keys:
        section, _, last = key.rpartition(".")
        short[key] = section if last == "name" and section else last
    taken = Counter([*short.values(), *header])
    return {
        key: title if taken[title] == 1 or title == key else key for key, title in short.items()
    }


def _list_marks(result: Comparison, marks: Marks) -> list[str]:
    return [mark for row in result.rows for mark in mark_row(row, marks)]


def _list_figure_marks(found: Comparison) -> list[str]:
    """The marks behind figures."""
    marks = [BEST] if found.best else []
    return [*marks, SEARCHED] if any(row.flattered for row in found.rows) else marks


def mark_row(row: Row, marks: Marks) -> list[str]:
    """The marks of all runs of a row, each once."""
    own = [mark for name in row.runs for mark in _mark_run(row, name, marks)]
    return sorted(set(own), key=lambda mark: (*MEANINGS, mark).index(mark))


def _mark_run(row: Row, name: str, marks: Marks) -> list[str]:
    return marks.list_marks(row.numbers.get(name), name)


def render_markdown(result: Comparison, competition: Competition) -> str:
    """The whole table for pasting."""
    header, lines = build_cells(result, competition)
    cells = [[escape(cell.text.strip()) for cell in line] for line in lines]
    table = render_table([escape(name) for name in header], cells)
    legend = [explain_marks(used)] if (used := _list_figure_marks(result)) else []
    return table + "\n" + "".join(f"- {escape(line)}\n" for line in [*legend, *describe(result)])


def render_csv(result: Comparison) -> str:
    """The whole table for a spreadsheet, numbers in full; `NAME sd` and `NAME n` where a row has
    several runs."""
    grouped = any(len(row.runs) > 1 for row in result.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [name + suffix for name in result.metrics for suffix in ("", *(" sd", " n") * grouped)]
    writer.writerow(["runs", "submissions", *result.keys, *titles, "note", "noted"])
    for row in result.rows:
        values = [row.config[key] for key in result.keys]
        config = ["" if value is None else render_value(value, whole=True) for value in values]
        numbers: list[float | int | str | None] = []
        for name in result.metrics:
            spread = row.metrics.get(name)
            values = [spread.mean, spread.sd, spread.n] if spread else [None, None, None]
            numbers += values if grouped else values[:1]
        notes = " / ".join(map(str, row.notes))
        writer.writerow(
            [
                " ".join(row.runs),
                " ".join(map(str, row.submissions)),
                *config,
                *numbers,
                row.note,
                notes,
            ]
        )
    return text.getvalue()


def build_cells(
    result: Comparison,
    competition: Competition,
    marks: Marks | None = None,
    *,
    brief: bool = False,
) -> tuple[list[str], list[list[Styled]]]:
    """Header and lines; columns that would be empty in every line are left out.

    `brief`: figures without the number of runs that they are of, which is a column of its own.
    """
    header = ["run", "submission", *result.fields, *result.metrics, *result.keys, *TEXTS, COUNTS]
    config = {
        key: [
            Styled(text, whole=True)
            for text in render_values([row.config[key] for row in result.rows])
        ]
        for key in result.keys
    }
    if ENSEMBLE in config:
        config[ENSEMBLE] = [_style_ensemble(row.config[ENSEMBLE]) for row in result.rows]
    figures = {
        name: _render_metric(result, name, competition, brief=brief) for name in result.metrics
    }
    lines = []
    for place, row in enumerate(result.rows):
        own = mark_row(row, marks or Marks())
        brief_name = name_row_briefly(row, marks)
        name = Styled(name_row(row, marks), style_marks(own), whole=True, shorter=(brief_name,))
        values = [config[key][place] for key in result.keys]
        submissions = Styled(", ".join(map(str, row.submissions)) or "-", whole=True)
        lines.append(
            [
                name,
                submissions,
                *[_render_field(row, field, competition) for field in result.fields],
                *[figures[name][place] for name in result.metrics],
                *values,
                Styled(row.note or "-"),
                Styled(render_newest(row.notes)),
                Styled(_count_seeds(row) if brief else "-", whole=True),
            ]
        )
    kept = [
        place
        for place, name in enumerate(header)
        if name not in ("submission", *TEXTS, COUNTS)
        or any(line[place].text != "-" for line in lines)
    ]
    return [header[place] for place in kept], [[line[place] for place in kept] for line in lines]


def _render_field(row: Row, name: str, competition: Competition) -> Styled:
    """A value of a run; of several runs the first one's, and that it is only that."""
    value = row.fields[name]
    if value is None:
        return Styled("-")
    if name == "status":
        return style_status(str(value), archived=False)
    text = competition.local_time(value) if name == "created_at" else render_value(value)
    more = (
        f" (of the first of {len(row.runs)} runs)"
        if len(row.runs) > 1 and name in OF_EACH_RUN
        else ""
    )
    return Styled(text + more, whole=name not in LONG)


def _has_spread(row: Row) -> bool:
    return any(spread.runs > 1 for spread in row.metrics.values())


def _count_seeds(row: Row) -> str:
    """`2 seeds, 3 runs`: how many runs a row has, by the metric that most of them have."""
    most = max(row.metrics.values(), key=lambda spread: spread.runs, default=None)
    if most is None or most.runs == 1:
        return "-"
    if most.sd is None:
        return f"{most.runs} repeats"
    return render_count(most.n, "seed") + (f", {most.runs} runs" if most.runs > most.n else "")


def _render_metric(
    result: Comparison, name: str, competition: Competition, *, brief: bool
) -> list[Styled]:
    """The figures of a column and their marks; where another has one, a blank in its place.

    The two marks share a place: a flattered figure is never the best.
    """
    is_validation, is_compared = name.startswith("val/"), name in result.best
    flattered = [row.flattered and is_validation and name in row.metrics for row in result.rows]
    any_of_column = any(flattered)
    best = set(_list_best(result, name) if is_compared else ())
    cells = []
    for place, row in enumerate(result.rows):
        runs, spread = len(row.runs), row.metrics.get(name)
        text = render_spread(spread, name, competition, runs=runs, brief=brief)
        if place in best:
            cells.append(Styled(f"{text} {BEST}", "green", whole=True))
        elif is_compared and not any_of_column:
            cells.append(Styled(text + " " * (1 + len(BEST)), whole=True))
        else:
            own = flattered[place]
            marked = mark_flattered(text, flattered=own, any_of_column=any_of_column)
            cells.append(Styled(marked, whole=True))
    return cells


def _list_best(result: Comparison, name: str) -> list[int]:
    """The places of the best row and of those that compare with it and are equal."""
    top = result.rows[result.best[name]].metrics[name].mean
    apart = {run for item in result.incomparable if item.metric == name for run in item.runs}
    return [
        place
        for place, row in enumerate(result.rows)
        if name in row.metrics
        and are_same(name, row.metrics[name].mean, top)
        and not apart & set(row.runs)
        and not (row.flattered and name.startswith("val/"))
    ]


def name_row(row: Row, marks: Marks | None = None) -> str:
    """The runs of a row, each with its marks: all of up to three, else the first, the last, how
    many, and those that have a mark."""
    named = {name: _mark_run(row, name, marks or Marks()) for name in row.runs}
    marked = [" ".join([name, *own]) for name, own in named.items()]
    if len(row.runs) <= 3:
        return ", ".join(marked)
    count = f"{row.runs[0]} .. {row.runs[-1]} ({len(row.runs)})"
    with_marks = [text for text, own in zip(marked, named.values(), strict=True) if own]
    return f"{count}: {', '.join(with_marks)}" if with_marks else count


def name_row_briefly(row: Row, marks: Marks | None = None) -> str:
    """The first run of a row, the last and how many, and the one with the most important mark."""
    if len(row.runs) == 1:
        return name_row(row, marks)
    named = {name: _mark_run(row, name, marks or Marks()) for name in row.runs}
    marked = [name for name, own in named.items() if own]
    count = f"{row.runs[0]} .. {row.runs[-1]} ({len(row.runs)})"
    if not marked:
        return count
    first = min(marked, key=lambda name: (*MEANINGS, named[name][0]).index(named[name][0]))
    more = f" and {len(marked) - 1} more" if len(marked) > 1 else ""
    return f"{count}: {' '.join([first, *named[first]])}{more}"


def render_spread(
    spread: Spread | None,
    name: str,
    competition: Competition,
    *,
    runs: int = 1,
    brief: bool = False,
) -> str:
    """A mean, and its standard deviation and number where there are several runs; `brief` without
    the number.

    `runs` are those of the row: a figure that only some of them have says of how many it is.
    """
    if spread is None:
        return "-"
    split, _, rest = name.partition("_")
    score = next(
        (
            m
            for m in competition.metrics
            if split in ("public", "private", "overall") and m.name == rest
        ),
        None,
    )
    mean = score.render(spread.mean) if score else render_number(spread.mean)
    some = f"{spread.runs} of {runs}" if spread.runs < runs else ""
    sd = "" if spread.sd is None else f" {PLUS_MINUS} {render_digits(spread.sd, 2)}"
    if brief:
        shown = mean + sd
        return f"{shown} ({some})" if some else shown
    if spread.sd is None:
        count = f"{some} runs" if some else f"{spread.runs} repeats"
        return f"{mean} ({count})" if some or spread.runs > 1 else mean
    repeats = f" seeds, {some or spread.runs} runs" if spread.runs > spread.n else ""
    return f"{mean}{sd} ({spread.n if repeats or not some else some}{repeats})"


def _has_deviation(result: Comparison, shown: Collection[str]) -> bool:
    """Whether a metric that is shown has a standard deviation."""
    return any(
        name in shown and spread.sd is not None
        for row in result.rows
        for name, spread in row.metrics.items()
    )


def list_following_keys(result: Comparison) -> list[str]:
    """The keys that say no more than model.name does: its mean, std and crop.

    A key that was asked for is none of them, nor one of which a model has several values.
    """
    if "model.name" not in result.keys:
        return []
    following = []
    for key in (*CHANNEL_KEYS, *CROP_OPTIONS):
        pairs = {
            json.dumps([row.config.get(name) for name in ("model.name", key)])
            for row in result.rows
        }
        models = {json.dumps(row.config["model.name"]) for row in result.rows}
        if key in result.keys and key not in result.asked and len(pairs) == len(models):
            following.append(key)
    return following


def describe(
    result: Comparison, *, shown: Collection[str] | None = None, following: Sequence[str] = ()
) -> Iterator[str]:
    """What the table leaves out, in sentences; of a narrow one only what is about `shown` columns.

    `following` are the keys that were left out because they follow from the model.
    """
    if result.empty_reason:
        yield result.empty_reason
        yield from (f"left out: {line}" for line in result.skipped)
        return
    several = any(len(row.runs) > 1 for row in result.rows)
    in_rows = f" in {render_count(len(result.rows), 'row')}" if several else ""  # else one each
    yield f"{result.runs} of {render_count(result.considered, 'run')}{in_rows}"
    yield from _describe_keys(result, following, briefly=shown is not None)
    if several and (shown is None or _has_deviation(result, shown)):
        yield f"{PLUS_MINUS}: standard deviation over seeds or folds (--each: each run in a row)"
        if shown is None:
            yield "repeats of one seed, and runs with equal weights, count once"
    yield from _name_rows_over_folds(result)
    if within := _name_within(result, shown):
        yield f"better than the best mean ({BEST}) {within}"
    if any(name.startswith("overall_") for name in (result.metrics if shown is None else shown)):
        yield "overall: on the public and private images together"
    yield from _explain_incomparable(result, shown)
    for line in result.skipped:
        yield f"left out: {line}"


def _describe_keys(result: Comparison, following: Sequence[str], *, briefly: bool) -> Iterator[str]:
    """The config keys that have no column, a line for each reason."""
    if result.equal_keys:
        keys = render_count(result.equal_keys, "config key")
        yield f"equal in all runs: {keys} that can change a result"
    if following:
        yield f"set by the model, so no columns: {', '.join(following)}"
    if result.not_known:
        them = "it" if len(result.not_known) == 1 else "them"
        by = "" if briefly else f" (runs that have {them} are compared by {them})"
        yield f"unknown for some runs: {render_count(len(result.not_known), 'config key')}{by}"
    if result.rows and not result.keys:
        yield "no config key that all know differs" if result.not_known else "no config key differs"


def _name_rows_over_folds(result: Comparison) -> Iterator[str]:
    """Whose mean is over folds: these runs do not compare with each other."""
    from tracker.comparison.comparable import name_folds

    by_folds: dict[str, list[str]] = {}
    for row in result.rows:
        if row.folds:
            by_folds.setdefault(name_folds(row.folds), []).extend(row.runs)
    for folds, runs in by_folds.items():
        yield f"{name_runs(runs)}: over {folds}, each with validation images of its own"


def _name_within(result: Comparison, shown: Collection[str] | None) -> str:
    """`is exp2 alone, in val/f1 (0.7500)`: the best runs that the mean of their row hides."""
    by_run: dict[str, list[str]] = {}
    for name, (run, value) in result.within.items():
        if shown is None or name in shown:
            by_run.setdefault(run, []).append(f"{name} ({render_number(value)})")
    runs = [f"{run} alone, in {', '.join(figures)}" for run, figures in by_run.items()]
    return f"{'is' if len(runs) == 1 else 'are'} {'; '.join(runs)}" if runs else ""


def _explain_incomparable(result: Comparison, shown: Collection[str] | None) -> Iterator[str]:
    """Which runs do not compare with which, and why: by metric, together where it is the same.

    Of a narrow table (`shown`) the first metrics, at most `MAX_REASONS` in full; what further
    reasons there are is counted with its runs, so that nobody takes the others for comparable.
    """
    by_metric: dict[str, list[Incomparable]] = {}
    for item in result.incomparable:
        if shown is None or item.metric in shown:
            by_metric.setdefault(item.metric, []).append(item)
    alike: dict[str, list[str]] = {}
    for metric, items in by_metric.items():
        told = json.dumps(
            [(*item.runs, item.only_other, _leave_out_details(item)) for item in items]
        )
        alike.setdefault(told, []).append(metric)
    for metrics in alike.values() if shown is None else [*alike.values()][:1]:
        items = [item for metric in metrics for item in by_metric[metric]]
        yield from _explain_metrics(result, metrics, items, briefly=shown is not None)
    others = [metric for metrics in [*alike.values()][1:] for metric in metrics]
    if shown is not None and others:
        yield f"other runs do not compare in {', '.join(others)} (--wide tells which)"


def _explain_metrics(
    result: Comparison, metrics: Sequence[str], items: Sequence[Incomparable], *, briefly: bool
) -> Iterator[str]:
    """A sentence for each reason not to compare in these metrics."""
    groups: dict[str, list[Incomparable]] = {}
    for item in items:
        groups.setdefault(_leave_out_details(item), []).append(item)
    reasons = [*groups.values()]
    told = MAX_REASONS if briefly and len(reasons) > MAX_REASONS + 1 else len(reasons)
    where = ", ".join(metrics)
    several = len({(*item.runs,) for item in items if not item.only_other}) > 1
    for same in reasons[:told]:
        sides = [f"{side} in {where}" for side in _name_sides(result, same)]
        # of several groups the reason is only about the largest one, or about the runs themselves
        others = name_runs(dict.fromkeys(item.other for item in same))
        about_other = not same[0].only_other and _name_these_runs(same[0]) == same[0].reason
        against = f"against {others}, " if several and about_other else ""
        yield f"{'; '.join(sides)}: {against}{_join_reasons(same)}"
    if left := [item for same in reasons[told:] for item in same]:
        runs = name_runs(dict.fromkeys(name for item in left for name in item.runs))
        yield (
            f"{runs} do not compare with others in {where} either:"
            f" {len(reasons) - told} other reasons (--wide)"
        )


def describe_order(items: Sequence[Incomparable]) -> Iterator[str]:
    """Which runs a list sorted by a figure has beside others with which they do not compare."""
    groups: dict[tuple[str, str], list[Incomparable]] = {}
    for item in items:
        groups.setdefault((item.other, _leave_out_details(item)), []).append(item)
    reasons = [*groups.values()]
    told = MAX_REASONS if len(reasons) > MAX_REASONS + 1 else len(reasons)
    for same in reasons[:told]:
        runs = name_runs(name for item in same for name in item.runs)
        yield (
            f"{same[0].metric} of {runs} is not comparable with that of {same[0].other}:"
            f" {_join_reasons(same)}"
        )
    if left := [name for same in reasons[told:] for item in same for name in item.runs]:
        yield (
            f"nor is that of {name_runs(left)}, for {len(reasons) - told} other reasons"
            " (tracker compare names them)"
        )


def _name_sides(result: Comparison, items: Sequence[Incomparable]) -> Iterator[str]:
    """`exp7 compares with none of the others`, `exp3, exp4 compare only with each other`."""
    alone: dict[str, None] = {}
    apart: dict[str, dict[str, None]] = {}
    together: dict[str, None] = {}
    for item in items:
        others = _list_others(result, item)
        if item.only_other or len(others) == 1:
            apart.setdefault(item.other, {}).update(dict.fromkeys(item.runs))
        elif len(item.runs) == 1 or _is_row_over_folds(result, item.runs):
            alone.update(dict.fromkeys(item.runs))
        else:
            together[_name_group(result, item.runs)] = None
    for other, runs in apart.items():
        yield f"{name_runs(runs)} {'does' if len(runs) == 1 else 'do'} not compare with {other}"
    for group in together:
        yield f"{group} compare only with each other"
    if alone:
        compare = "compares" if len(alone) == 1 else "compare"
        yield f"{name_runs(alone)} {compare} with none of the others"


def _is_row_over_folds(result: Comparison, runs: Sequence[str]) -> bool:
    """Whether they are one row, and validate on different images themselves."""
    return any(row.folds and {*row.runs} == {*runs} for row in result.rows)


def _name_group(result: Comparison, runs: Sequence[str]) -> str:
    """`exp3, exp4`, or `the rows exp1, exp2 and exp5, exp6` where a row is over folds."""
    rows = [row for row in result.rows if {*row.runs} <= {*runs}]
    if not any(row.folds for row in rows):
        return name_runs(runs)
    return f"the rows {' and '.join(name_runs(row.runs) for row in rows)}"


def _list_others(result: Comparison, item: Incomparable) -> list[str]:
    """The runs that have the metric, beside those of the item."""
    known = [name for row in result.rows if item.metric in row.metrics for name in row.runs]
    return [name for name in known if name not in item.runs]


def _leave_out_details(item: Incomparable) -> str:
    """A reason without what is in brackets, and without the name of the run that it is about."""
    return _name_these_runs(item).partition(" (")[0]


def _name_these_runs(item: Incomparable) -> str:
    # the plain test first: a pattern for each of 10,000 names takes longer than the comparison
    own = [n for n in item.runs if n in item.reason and re.search(rf"\b{n}\b", item.reason)]
    return re.sub(rf"\b{own[0]}\b", "these runs", item.reason) if own else item.reason


def _join_reasons(items: Sequence[Incomparable]) -> str:
    """One reason for all `items`, with its details where they are the same in all."""
    if len({item.reason for item in items}) == 1:
        return items[0].reason
    if len({_name_these_runs(item) for item in items}) == 1:
        return _name_these_runs(items[0])
    return _leave_out_details(items[0])


def name_runs(names: Iterable[str]) -> str:
    """`exp3, exp5..exp7`: runs by number, three or more in a row as a range; others as they are."""
    numbers: dict[str, list[int]] = {}
    for name in names:
        start = name.rstrip("0123456789")
        if start == name:
            start, number = name, -1
        else:
            number = int(name[len(start) :])
        numbers.setdefault(start, []).append(number)
    return ", ".join(
        text for start, result in numbers.items() for text in _name_ranges(start, sorted(result))
    )


def _name_ranges(start: str, numbers: Sequence[int]) -> Iterator[str]:
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][-1] == number - 1:
            parts[-1].append(number)
        else:
            parts.append([number])
    for part in parts:
        if len(part) > 2:
            yield f"{start}{part[0]}..{start}{part[-1]}"
        else:
            yield from (start if number < 0 else f"{start}{number}" for number in part)
