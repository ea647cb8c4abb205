"""A RunDiff for people: one screen on the terminal, everything with --full, or Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from tracker.comparison.diff import RunDiff
from tracker.comparison.verdict import MAX_KEYS
from tracker.console.diff.config_table import (
    build_config_columns,
    list_config,
    list_config_rows,
    list_differing_prints,
    list_members,
)
from tracker.console.diff.curves import draw_curves, list_advice, list_warnings
from tracker.console.diff.metrics_table import (
    build_metric_columns,
    choose_brief_metrics,
    explain_flattered,
    explain_incomparable,
    find_by_class,
    list_metric_rows,
    list_metrics,
    render_best_epochs,
)
from tracker.console.diff.predictions import (
    list_changed_images,
    list_moves,
    render_moves,
    render_predictions,
)
from tracker.console.diff.sections import Section, fit_output, print_sections, render_sections
from tracker.console.diff.statistics_table import list_statistics
from tracker.core.config_diff import list_changes
from tracker.core.table import Styled, wrap
from tracker.core.terminal import find_width
from tracker.training.numbers import render_count
from tracker.workspace.metrics import is_of_training

SCREEN_LINES = 30  # of the short view: a terminal of 32 lines, less the command and the prompt
LEAST_ROWS = 3  # of a table of the short view, however long its sentences are
BRIEF_MOVES = 3  # kinds of change to predictions in the short view
PIPED_WIDTH = 100


def print_diff(
    diff: RunDiff,
    *,
    full: bool = False,
    everything: bool = False,
    markdown: bool = False,
    wide: bool | None = None,
) -> None:
    """Print one screen that begins with the verdict; `full` has every section.

    `everything` has them, too, and each class beside; Markdown is always full.
    """
    if markdown:  # its texts are cleaned where they are escaped
        print(fit_output(render_markdown(diff, everything=everything)))
        return
    width = find_width() or PIPED_WIDTH
    if full or everything:
        sections = [*list_sections(diff, everything=everything, width=width)]
    else:
        sections = list_brief_sections(diff, width=width)
    print_sections(sections, wide=wide)


def render_markdown(diff: RunDiff, *, everything: bool = False) -> str:
    """The same as Markdown."""
    return render_sections(list_sections(diff, everything=everything, width=PIPED_WIDTH))


def list_brief_sections(diff: RunDiff, *, width: int) -> list[Section]:
    """The verdict and what it rests on, in SCREEN_LINES lines of `width` columns.

    The tables share the lines that the sentences leave, and the last line names what --full adds.
    """
    below = [*explain_flattered(diff), *_list_brief_facts(diff), *_name_others(diff)]
    # the verdict names up to MAX_KEYS changes: a table of them would say the same again
    several = len(list_changes(diff.config)) > MAX_KEYS
    keys = list_config_rows(diff, width) if several else []
    metrics = list_metric_rows(diff, choose_brief_metrics(diff))
    # empty lines, titles and rules: three for each table, and one below the last
    room = SCREEN_LINES - sum(len(wrap(line, width)) for line in [*diff.verdict, *below])
    room -= sum(3 for rows in (keys, metrics) if rows) + 1
    keys = _shorten(keys, max(LEAST_ROWS, room - len(metrics)), "keys")
    metrics = _shorten(metrics, max(LEAST_ROWS, room - len(keys)), "metrics")
    sections = [Section(lines=diff.verdict)]
    if keys:
        sections.append(Section(columns=build_config_columns(diff), rows=keys))
    if metrics:
        sections.append(Section(columns=build_metric_columns(diff), rows=metrics))
    return [*sections, Section(lines=below), *list_changed_images(diff)]


def _shorten(rows: list[tuple[Styled, ...]], room: int, what: str) -> list[tuple[Styled, ...]]:
    """The rows, or as many as there is room for and one that counts the others."""
    if len(rows) <= room:
        return rows
    shown = rows[: room - 1]
    rest = Styled(f"({len(rows) - len(shown)} more {what})")
    empty = [Styled("") for _ in rows[0][1:]]
    return [*shown, (rest, *empty)]


def _list_brief_facts(diff: RunDiff) -> Iterator[str]:
    """The sentences below the tables, the most important first."""
    if not choose_brief_metrics(diff):
        yield "metrics: no difference"
    yield from list_members(diff)
    yield from render_best_epochs(diff)
    yield render_predictions(diff)
    yield from render_moves(diff, BRIEF_MOVES)
    yield from list_differing_prints(diff)
    yield from explain_incomparable(diff, of_training=False)
    for name, advice in list_warnings(diff):
        yield f"{name}: {advice.sentences[0]}"


def _name_others(diff: RunDiff) -> Iterator[str]:
    """One line on what --full has and the short view does not."""
    notes = sum(len(notes) for notes in diff.notes.values())
    parts = {
        "config details": diff.ignored or diff.not_known,
        "training metrics": any(map(is_of_training, diff.metrics)),
        "classes": find_by_class(diff) or diff.moves["validation"],
        "statistics": diff.statistics is not None,
        "curves": any(len(curve) > 1 for pair in diff.curves.values() for curve in pair),
        render_count(notes, "note"): notes,
    }
    names = [name for name, there in parts.items() if there]
    if names:
        yield f"--full also shows: {', '.join(names)}"


def list_sections(diff: RunDiff, *, everything: bool, width: int) -> Iterator[Section]:
    """Every section, in order."""
    yield Section(lines=diff.verdict)
    yield from list_config(diff, width)
    yield from list_metrics(diff, everything=everything)
    yield from list_statistics(diff)
    yield Section(lines=[render_predictions(diff), *list_differing_prints(diff)])
    yield from list_moves(diff)
    yield Section(lines=draw_curves(diff, width), drawing=True)
    yield Section(lines=[*list_advice(diff), *_list_remarks(diff)])


def _list_remarks(diff: RunDiff) -> Iterator[str]:
    for name, notes in diff.notes.items():
        for note in notes:
            yield f"noted on {name}, {note.time[:10]}, {note.author}: {note}"
