"""Output for a terminal: lines, notes, tables and JSON, in its width, in color if it has colors."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache
from typing import Any, TextIO, TypeGuard, TypeVar

from tracker.core.json_layout import JsonLayout
from tracker.core.settings import allows_color, get_columns, has_cursor
from tracker.core.table import (
    COMFORTABLE_WIDTH,
    CUT,
    GAP,
    Cell,
    Column,
    Styled,
    draw_table,
    measure,
    paint,
    wrap,
)
from tracker.core.text import clean_text

WIDE: ContextVar[bool | None] = ContextVar("wide", default=None)  # None: the command has no --wide

MAX_WORD_CHARS = 64  # a fingerprint without its prefix; a longer word is cut like a text

DEFAULT_WIDTH = 80  # the width of a terminal that does not report its width

PLAIN_SIGNS = str.maketrans({CUT: "~", "\u251c": "|", "\u2514": "`", "\u2502": "|"})


def print_json(value: Any) -> None:
    """Print one JSON document; NaN and infinity, which JSON does not have, become null.

    The items of an iterator are printed as a list, one after the other: very many fill a memory.
    """
    layout = JsonLayout()
    if not isinstance(value, Iterator):
        print(_render_json(layout, value, 0))
        return
    before = "[\n "
    for item in value:
        print(before + _render_json(layout, item, 1), end="")
        before = ",\n "
    print("[]" if before[0] == "[" else "\n]")


def _render_json(layout: JsonLayout, value: Any, depth: int) -> str:
    try:
        return layout.render(value, depth)
    except ValueError:
        return layout.render(_drop_non_finite(value), depth)


def _drop_non_finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _drop_non_finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_drop_non_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def print_text(text: str, *, style: str = "", end: str = "\n") -> None:
    """Print lines without control characters, wrapped between words in a narrow terminal."""
    body = text.removesuffix("\n")
    lines = wrap(clean_text(body), find_width())
    if has_color():
        lines = [paint(line, style) for line in lines]
    _write(lines, end=text[len(body) :] + end)


def print_note(text: str, *, before: str = "", style: str = "") -> None:
    """Print a remark on stderr without control characters, wrapped in a terminal.

    `before` is the word in front of it, such as "error: ", and `style` is that word's style.
    """
    # not wrapped for programs: they read stderr line by line
    width = find_width(sys.stderr) if _is_terminal(sys.stderr) else None
    first, *others = wrap(before + clean_text(text), width)
    first = paint(before, style) + first.removeprefix(before)
    print("\n".join([first, *others]), file=sys.stderr, flush=True)


@contextmanager
def show_all(wide: bool) -> Iterator[None]:
    """Tables printed in this block show every column and character if `wide` is true."""
    token = WIDE.set(wide)
    try:
        yield
    finally:
        WIDE.reset(token)


def print_table(
    columns: Sequence[str | Column],
    rows: Iterable[Sequence[Cell]],
    *,
    title: str = "",
    legend: str = "",
    wide: bool | None = None,
    shows_all: str = "",
    blank_below: bool = True,
) -> None:
    """Print a table with `legend` below it; control characters in users' texts are made visible.

    With `wide`, every column and every character is shown; None takes the value of the `show_all`
    block around it. `shows_all` is what shows everything, if it is not --wide. A column may be only
    a title: then it is a text, except for the first column. Without `blank_below` another table
    follows, which brings the empty line.
    """
    if wide is None:
        wide = WIDE.get()
        if wide is None and not shows_all:
            shows_all = "a pipe"  # the command has no --wide, but a pipe has no width
    heads, bare = [], []
    for index, given in enumerate(columns):
        column = given if isinstance(given, Column) else Column(given, text=index > 0)
        heads.append(column._replace(title=_clean_cell(column.title)))
        bare.append(column.text and not isinstance(given, Column))
    cells = [_clean_row(row, bare) for row in rows]
    width = None if wide else find_width()
    lines = draw_table(
        heads, cells, width=width, color=has_color(), shows_all=shows_all or "--wide"
    )
    above = wrap(clean_text(title), width) if title else []
    below = wrap(legend, width) if legend else []
    _write(["", *above, *lines, *below, *([""] if blank_below else ())])


def fold_pairs(pairs: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """The rows of a table of names and texts: a text too long for the terminal takes several."""
    width = None if WIDE.get() else find_width()
    if width is None:
        return list(pairs)
    names = max(measure(name) for name, _ in pairs)
    room = max(width - names - len(GAP), COMFORTABLE_WIDTH)
    rows: list[tuple[str, str]] = []
    for name, text in pairs:
        first, *others = wrap(clean_text(text.replace("\n", " ")), room)
        rows += [(name, first), *(("", line.strip()) for line in others)]
    return rows


def _clean_row(row: Sequence[Cell], bare: Sequence[bool]) -> list[Cell]:
    """The cells of a row on one line each; `bare` marks columns that were given as a title only."""
    cells: list[Cell] = []
    for cell, is_bare in zip(row, bare, strict=True):
        clean = _clean_cell(cell)
        cells.append(_keep_word(clean) if is_bare else clean)
    return cells


CellT = TypeVar("CellT", str, Cell)


def _clean_cell(cell: CellT) -> CellT:
    """A cell on one line."""
    if isinstance(cell, Styled):
        return _clean_styled(cell)
    return clean_text(cell.replace("\n", " "))


@lru_cache(maxsize=4096)  # very many rows have the same change
def _clean_styled(cell: Styled) -> Styled:
    shorter = tuple(clean_text(text.replace("\n", " ")) for text in cell.shorter)
    return cell._replace(text=clean_text(cell.text.replace("\n", " ")), shorter=shorter)


def _keep_word(cell: Cell) -> Cell:
    """A cell that is never cut if it is one word, such as a number, a name or a fingerprint."""
    if not isinstance(cell, str):
        return cell
    is_word = cell.isascii() and " " not in cell and len(cell) <= MAX_WORD_CHARS
    return Styled(cell, whole=True) if is_word else cell


def _write(lines: Sequence[str], *, end: str = "\n") -> None:
    text = "\n".join(lines)
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        text = text.translate(PLAIN_SIGNS)
    print(text, end=end)


def find_width(stream: TextIO | None = None) -> int | None:
    """The width of stdout or `stream`: COLUMNS, or the terminal's; None for a pipe or a file."""
    if (columns := get_columns()) is not None:
        return columns
    output: TextIO | None = stream or sys.stdout
    if not _is_terminal(output):
        return None
    try:
        return os.get_terminal_size(output.fileno()).columns or DEFAULT_WIDTH
    except OSError:
        return DEFAULT_WIDTH


def has_color(stream: TextIO | None = None) -> bool:
    """Whether stdout or `stream` is a terminal that may have colors."""
    return _is_terminal(stream or sys.stdout) and allows_color()


def _is_terminal(stream: TextIO | None) -> TypeGuard[TextIO]:
    """Whether it is a terminal that is open; stdout is None after `>&-`."""
    return stream is not None and not stream.closed and stream.isatty()


STATUS_STYLES = {
    "finished": "green",
    "running": "cyan",
    "pending": "blue",
    "preempted": "blue",
    "interrupted": "yellow",
    "killed": "red",
    "failed": "red",
}


def style_status(status: str, *, archived: bool = False) -> Styled:
    """The status of a run in its color, and whether the run is archived."""
    return Styled(f"{status}, archived" if archived else status, STATUS_STYLES.get(status, ""))


def has_screen() -> bool:
    """Whether stdout is a terminal whose lines can be drawn anew."""
    return _is_terminal(sys.stdout) and has_cursor()
