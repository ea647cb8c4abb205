"""The table of `tracker compare` for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.list_marks import BEST, MEANINGS, Marks, explain_marks, style_marks
from tracker.markdown import escape, render_table
from tracker.report import (
    find_width,
    print_table,
    print_text,
    render_newest,
    render_number,
    render_value,
    render_values,
)
from tracker.table import Column, Styled, fits

if TYPE_CHECKING:
    from tracker.comparison.compare import Comparison, Row, Spread
    from tracker.workspace import Competition

SIDE_BY_SIDE = 4  # so many runs are columns, as in diff, where there is room; more are lines
TEXTS = ("note", "noted last")
PLUS_MINUS = "\u00b1"


def print_comparison(
    found: Comparison, competition: Competition, *, marks: Marks | None = None, wide: bool = False
) -> None:
    """Few runs side by side, many below each other; then what the table does not say."""
    header, lines = build_cells(found, competition, marks)
    legend = explain_marks([*_list_marks(found, marks or Marks()), *[BEST] * bool(found.best)])
    columns: list[Column] = [Column(""), *[Column(line[0].text, text=True) for line in lines]]
    rows = list(zip([Styled(name) for name in header], *lines, strict=True))[1:]
    if lines and (len(lines) > SIDE_BY_SIDE or not (wide or fits(columns, rows, find_width()))):
        columns, rows = list(_list_columns(header, found, competition)), [tuple(line) for line in lines]
    if lines:
        print_table(columns, rows, legend=legend, wide=wide)
    for line in describe(found):
        print_text(line)


def _list_columns(header: Sequence[str], found: Comparison, competition: Competition) -> Iterator[Column]:
    """Training figures leave first, then config keys from the last on, then metrics, the deciding one last."""
    deciding = [f"{split}{competition.primary_metric}" for split in ("public_", "val/", "private_")]
    for place, name in enumerate(header):
        if name in found.keys:
            yield Column(name, leaves=100 + place)
        elif name in found.metrics:
            early = not name.startswith(("val/", "public_", "private_", "overall_"))
            yield Column(name, leaves=1 if name in deciding else 1000 + place if early else 10 + place, right=True)
        else:
            leaves = {"run": 0, "note": 1, "submission": 5, "noted last": 999}[name]
            yield Column(name, leaves=leaves, text=name in TEXTS)


def _list_marks(found: Comparison, marks: Marks) -> list[str]:
    return [mark for row in found.rows for mark in mark_row(row, marks)]


def mark_row(row: Row, marks: Marks) -> list[str]:
    """The marks of all runs of a row."""
    own = [mark for number in row.submissions for mark in marks.list_marks(number, None)]
    own += [mark for name in row.runs for mark in marks.list_marks(None, name)]
    return sorted(set(own), key=lambda mark: (*MEANINGS, mark).index(mark))


def render_markdown(found: Comparison, competition: Competition) -> str:
    """The whole table for pasting."""
    header, lines = build_cells(found, competition)
    cells = [[escape(cell.text.strip()) for cell in line] for line in lines]
    table = render_table([escape(name) for name in header], cells)
    legend = [explain_marks([BEST])] if found.best else []
    return table + "\n" + "".join(f"- {escape(line)}\n" for line in [*legend, *describe(found)])


def render_csv(found: Comparison) -> str:
    """The whole table for a spreadsheet, numbers in full; `NAME sd` and `NAME n` where a row has several runs."""
    grouped = any(len(row.runs) > 1 for row in found.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [name + suffix for name in found.metrics for suffix in ("", *(" sd", " n") * grouped)]
    writer.writerow(["runs", "submissions", *found.keys, *titles, "note", "noted"])
    for row in found.rows:
        values = [row.config[key] for key in found.keys]
        config = ["" if value is None else render_value(value, whole=True) for value in values]
        numbers: list[float | int | str | None] = []
        for name in found.metrics:
            spread = row.metrics.get(name)
            values = [spread.mean, spread.sd, spread.n] if spread else [None, None, None]
            numbers += values if grouped else values[:1]
        notes = " / ".join(map(str, row.notes))
        writer.writerow([" ".join(row.runs), " ".join(map(str, row.submissions)), *config, *numbers, row.note, notes])
    return text.getvalue()


def build_cells(
    found: Comparison, competition: Competition, marks: Marks | None = None
) -> tuple[list[str], list[list[Styled]]]:
    """Header and lines; columns that would be empty in every line are left out."""
    header = ["run", "submission", *found.metrics, *found.keys, *TEXTS]
    config = {key: render_values([row.config[key] for row in found.rows]) for key in found.keys}
    lines = []
    for place, row in enumerate(found.rows):
        own = mark_row(row, marks or Marks())
        name = Styled(" ".join([name_row(row), *own]), style_marks(own), whole=True)
        metrics = [_render_metric(found, place, metric, competition) for metric in found.metrics]
        values = [Styled(config[key][place], whole=True) for key in found.keys]
        submissions = Styled(", ".join(map(str, row.submissions)) or "-", whole=True)
        lines.append([name, submissions, *metrics, *values, Styled(row.note or "-"), Styled(render_newest(row.notes))])
    kept = [
        place
        for place, name in enumerate(header)
        if name not in ("submission", *TEXTS) or any(line[place].text != "-" for line in lines)
    ]
    return [header[place] for place in kept], [[line[place] for place in kept] for line in lines]


def _render_metric(found: Comparison, place: int, name: str, competition: Competition) -> Styled:
    """A figure; where one of its column is the best, the others have blanks in place of the mark."""
    text = render_spread(found.rows[place].metrics.get(name), name, competition)
    if name not in found.best:
        return Styled(text, whole=True)
    if found.best[name] == place:
        return Styled(f"{text} {BEST}", "green", whole=True)
    return Styled(text + " " * (1 + len(BEST)), whole=True)


def name_row(row: Row) -> str:
    """The runs of a row: all of up to three, else the first, the last and how many."""
    if len(row.runs) <= 3:
        return ", ".join(row.runs)
    return f"{row.runs[0]} .. {row.runs[-1]} ({len(row.runs)})"


def render_spread(spread: Spread | None, name: str, competition: Competition) -> str:
    """A mean, and its standard deviation and number where there are several runs."""
    if spread is None:
        return "-"
    split, _, rest = name.partition("_")
    score = next((m for m in competition.metrics if split in ("public", "private", "overall") and m.name == rest), None)
    mean = score.render(spread.mean) if score else render_number(spread.mean)
    if spread.sd is None:
        return f"{mean} ({spread.runs} repeats of one seed)" if spread.runs > 1 else mean
    sd = score.render(spread.sd) if score else render_number(spread.sd)
    repeats = f" seeds, {spread.runs} runs" if spread.runs > spread.n else ""
    return f"{mean.removesuffix(' %')} {PLUS_MINUS} {sd} ({spread.n}{repeats})"


def describe(found: Comparison) -> Iterator[str]:
    """What the table leaves out, in sentences."""
    several = sum(len(row.runs) > 1 for row in found.rows)
    yield f"{found.runs} of {found.considered} runs in {len(found.rows)} rows; {found.equal_keys} config keys are equal"
    if found.not_known:
        keys = "key is" if len(found.not_known) == 1 else "keys are"
        yield f"{len(found.not_known)} {keys} not known of every run; those that know them are compared by them"
    if found.rows and not found.keys:
        yield "no config key differs"
    if several:
        yield (
            f"mean {PLUS_MINUS} standard deviation (number) where runs differ in train.seed or data.fold alone; "
            "repeats of one seed, or with equal weights, count once (--each: a row each)"
        )
    sentences = [*dict.fromkeys(sentence for found_in in found.not_comparable.values() for sentence in found_in)]
    for sentence in sentences:
        names = [name for name, told in found.not_comparable.items() if sentence in told]
        yield f"{', '.join(names)}: not comparable: {sentence}"
    for line in found.skipped:
        yield f"left out: {line}"
