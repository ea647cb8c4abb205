"""What a terminal gets: lines, notes, tables and JSON, as wide as it is, in color where it has it."""

from __future__ import annotations

import json
import math
import os
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any, TextIO, TypeGuard, TypeVar

from tracker.core.settings import allows_color, get_columns
from tracker.core.table import CUT, Cell, Column, Styled, draw_table, paint, wrap
from tracker.core.text import clean_text

WIDE: ContextVar[bool | None] = ContextVar("wide", default=None)  # None: the command has no --wide

LONGEST_WORD = 64

NARROW = 80  # columns of a terminal that does not tell how many it has

PLAIN_SIGNS = str.maketrans({CUT: "~", "\u251c": "|", "\u2514": "`", "\u2502": "|"})


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


def print_text(text: str, *, style: str = "", end: str = "\n") -> None:
    """Lines on stdout, cleaned, wrapped between words where a terminal is narrower."""
    body = text.removesuffix("\n")
    lines = wrap(clean_text(body), find_width())
    _write(
        [paint(line, style) if has_color() else line for line in lines], end=text[len(body) :] + end
    )


def print_note(text: str, *, before: str = "", style: str = "") -> None:
    """A remark on stderr, cleaned, and wrapped in a terminal; `style` is that of the word `before`
    it."""
    width = (
        find_width(sys.stderr) if _is_terminal(sys.stderr) else None
    )  # programs read it line by line
    first, *others = wrap(before + clean_text(text), width)
    first = paint(before, style) + first.removeprefix(before)
    print("\n".join([first, *others]), file=sys.stderr, flush=True)


@contextmanager
def show_all(wide: bool) -> Iterator[None]:
    """Tables that are printed here show every column and character if `wide`; for views of several
    tables."""
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
    """A table on stdout, `legend` below it; nothing in user texts is markup or steers the terminal.

    With `wide`, every column and every character; None is what `show_all` says around it.
    `shows_all` names what shows them where it is not --wide. A column that is a bare title is a
    text, but for the first. Without `blank_below` another table follows, which brings the empty line.
    """
    if wide is None:
        wide = WIDE.get()
        shows_all = shows_all or ("a pipe" if wide is None else "")
    known = [
        column if isinstance(column, Column) else Column(column, text=place > 0)
        for place, column in enumerate(columns)
    ]
    heads = [replace(column, title=_clean_cell(column.title)) for column in known]
    plain = [
        column.text and not isinstance(given, Column)
        for column, given in zip(known, columns, strict=True)
    ]
    cells = [
        [
            _keep_word(_clean_cell(cell)) if bare else _clean_cell(cell)
            for cell, bare in zip(row, plain, strict=True)
        ]
        for row in rows
    ]
    width = None if wide else find_width()
    lines = draw_table(
        heads, cells, width=width, color=has_color(), shows_all=shows_all or "--wide"
    )
    above = wrap(clean_text(title), width) if title else []
    below = wrap(legend, width) if legend else []
    _write(["", *above, *lines, *below, *([""] if blank_below else ())])


CellT = TypeVar("CellT", str, Cell)


def _clean_cell(cell: CellT) -> CellT:
    """A cell on one line."""
    if isinstance(cell, Styled):
        shorter = tuple(clean_text(text.replace("\n", " ")) for text in cell.shorter)
        return replace(cell, text=clean_text(cell.text.replace("\n", " ")), shorter=shorter)
    return clean_text(cell.replace("\n", " "))


def _keep_word(cell: Cell) -> Cell:
    """A cell of a bare title that is never cut where it is one word of code: a number, a name, a
    fingerprint."""
    is_word = (
        isinstance(cell, str) and cell.isascii() and " " not in cell and len(cell) <= LONGEST_WORD
    )
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
    """Columns of stdout or `stream`: what COLUMNS asks for, or the terminal's; None for a pipe or a
    file."""
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


STATUS_STYLES = {
    "finished": "green",
    "running": "cyan",
    "interrupted": "yellow",
    "killed": "red",
    "failed": "red",
}


def style_status(status: str, *, archived: bool = False) -> Styled:
    """How a run ended, in its color, and whether it was put away since."""
    return Styled(f"{status}, archived" if archived else status, STATUS_STYLES.get(status, ""))
