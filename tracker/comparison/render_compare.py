"""The table of `tracker compare` for a terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tracker.markdown import escape, render_table
from tracker.report import NARROW, find_width, print_table, print_text, render_newest, render_number, render_value

if TYPE_CHECKING:
    from tracker.comparison.compare import Comparison, Row, Spread
    from tracker.workspace import Competition

SIDE_BY_SIDE = 4  # so many runs are columns, as in diff; more are lines
WIDEST_NOTE = 40
PADDING = 3  # what a table puts between two columns
PLUS_MINUS = "\u00b1"


def print_comparison(found: Comparison, competition: Competition) -> None:
    """Few runs side by side, many below each other with as many columns as fit; then what the table does not say."""
    header, lines = build_cells(found, competition)
    left_out: list[str] = []
    if len(found.rows) <= SIDE_BY_SIDE:
        print_table(("", *[line[0] for line in lines]), list(zip(header, *lines, strict=True))[1:])
    elif lines:
        header, lines, left_out = _fit(header, lines, [*found.keys], find_width())
        print_table(header, lines)
    for line in describe(found, left_out):
        print_text(line)


def render_markdown(found: Comparison, competition: Competition) -> str:
    """The whole table for pasting."""
    header, lines = build_cells(found, competition)
    table = render_table([escape(name) for name in header], [[escape(cell) for cell in line] for line in lines])
    return table + "\n" + "".join(f"- {escape(line)}\n" for line in describe(found, ()))


def render_csv(found: Comparison) -> str:
    """The whole table for a spreadsheet, numbers in full; `NAME sd` and `NAME n` where a row has several runs."""
    grouped = any(len(row.runs) > 1 for row in found.rows)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    titles = [name + suffix for name in found.metrics for suffix in ("", *(" sd", " n") * grouped)]
    writer.writerow(["runs", "submissions", *found.keys, *titles, "note", "noted"])
    for row in found.rows:
        config = ["" if row.config[key] is None else render_value(row.config[key]) for key in found.keys]
        numbers: list[float | int | str | None] = []
        for name in found.metrics:
            spread = row.metrics.get(name)
            values = [spread.mean, spread.sd, spread.n] if spread else [None, None, None]
            numbers += values if grouped else values[:1]
        notes = " / ".join(map(str, row.notes))
        writer.writerow([" ".join(row.runs), " ".join(map(str, row.submissions)), *config, *numbers, row.note, notes])
    return text.getvalue()


def build_cells(found: Comparison, competition: Competition) -> tuple[list[str], list[list[str]]]:
    """Header and lines as texts; columns that would be empty in every line are left out."""
    header = ["run", "submission", *found.keys, *found.metrics, "note", "noted last"]
    lines = []
    for place, row in enumerate(found.rows):
        metrics = []
        for name in found.metrics:
            mark = " *" if found.best.get(name) == place else ""
            metrics.append(render_spread(row.metrics.get(name), name, competition) + mark)
        config = [render_value(row.config[key]) for key in found.keys]
        submissions = ", ".join(map(str, row.submissions)) or "-"
        lines.append([name_row(row), submissions, *config, *metrics, row.note or "-", render_newest(row.notes)])
    kept = [
        place
        for place, name in enumerate(header)
        if name not in ("submission", "note", "noted last") or any(line[place] != "-" for line in lines)
    ]
    return [header[place] for place in kept], [[line[place] for place in kept] for line in lines]


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
    sd = score.render(spread.sd) if score else f"{spread.sd:.4f}"
    repeats = f" seeds, {spread.runs} runs" if spread.runs > spread.n else ""
    return f"{mean.removesuffix(' %')} {PLUS_MINUS} {sd} ({spread.n}{repeats})"


def describe(found: Comparison, left_out: Sequence[str]) -> Iterator[str]:
    """What the table leaves out, in sentences."""
    several = sum(len(row.runs) > 1 for row in found.rows)
    yield f"{found.runs} of {found.considered} runs in {len(found.rows)} rows; {found.equal_keys} config keys are equal"
    if found.rows and not found.keys:
        yield "no config key differs"
    if several:
        yield (
            f"mean {PLUS_MINUS} standard deviation (number) where runs differ in train.seed or data.fold alone; "
            "repeats of one seed, or with equal weights, count once (--each: a row each)"
        )
    if found.best:
        yield "* the best of the table"
    sentences = [*dict.fromkeys(sentence for found_in in found.not_comparable.values() for sentence in found_in)]
    for sentence in sentences:
        names = [name for name, told in found.not_comparable.items() if sentence in told]
        yield f"{', '.join(names)}: not comparable: {sentence}"
    if left_out:
        yield f"no room for: {', '.join(left_out)} (--csv, --md and --json have everything)"
    for line in found.skipped:
        yield f"left out: {line}"


def _fit(
    header: list[str], lines: list[list[str]], keys: list[str], width: int
) -> tuple[list[str], list[list[str]], list[str]]:
    """As many columns as are readable in `width`: config keys and then metrics give way, from the last on.

    In a narrow terminal notes and submissions give way before them.
    """
    sizes = {}
    for place, name in enumerate(header):
        longest = max(len(name), *(len(line[place]) for line in lines)) + PADDING
        sizes[place] = min(longest, WIDEST_NOTE) if name in ("note", "noted last") else longest
    fixed = [place for place, name in enumerate(header) if name in ("run", "submission", "note", "noted last")]
    metrics = [place for place, name in enumerate(header) if place not in fixed and name not in keys]
    first, rest = metrics[:3], metrics[3:]
    wanted = [*first, *(place for place, name in enumerate(header) if name in keys), *rest]
    if width < NARROW:
        fixed, last = fixed[:1], fixed[1:]
        wanted += last
    wanted = [*fixed, *wanted]
    kept: list[int] = []
    for place in wanted:
        if place in fixed or sum(sizes[other] for other in kept) + sizes[place] <= width:
            kept.append(place)
    left_out = [name for place, name in enumerate(header) if place not in kept]
    kept.sort()
    return [header[place] for place in kept], [[line[place] for place in kept] for line in lines], left_out
