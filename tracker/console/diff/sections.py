"""Sections of a view: lines and tables, on the terminal or as Markdown."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from tracker.console.textplot import PLAIN
from tracker.core.markdown import escape, render_table
from tracker.core.table import Column, Styled
from tracker.core.terminal import print_table, print_text
from tracker.core.text import clean_text


class Section(NamedTuple):
    """Lines of text, or a table with its columns; `drawing` lines keep their blanks."""

    lines: Sequence[str] = ()
    columns: Sequence[Column] = ()
    rows: Sequence[Sequence[Styled]] = ()
    drawing: bool = False


def print_sections(sections: Sequence[Section], *, wide: bool | None) -> None:
    """Print the sections with one empty line around each table and drawing."""
    # a section has a table, lines, or both: one part for each, so that neighbors are known
    parts = []
    for section in sections:
        if section.rows:
            parts.append(Section(columns=section.columns, rows=section.rows))
        if section.lines:
            parts.append(Section(lines=section.lines, drawing=section.drawing))
    for position, part in enumerate(parts):
        following = parts[position + 1] if position + 1 < len(parts) else None
        if part.rows:  # a table brings the empty line above it
            blank_below = following is None or not following.rows
            print_table(part.columns, part.rows, wide=wide, blank_below=blank_below)
            continue
        for line in part.lines:
            if part.drawing:
                print(fit_output(clean_text(line)))
            else:
                print_text(line, style="bold" if position == 0 else "")
        if following is not None and not following.rows and following.drawing != part.drawing:
            print()


def render_sections(sections: Iterable[Section]) -> str:
    """The sections as Markdown."""
    parts = []
    for position, section in enumerate(sections):
        if section.rows:
            rows = [[escape(cell.text) for cell in row] for row in section.rows]
            parts.append(
                render_table([escape(column.title) for column in section.columns], rows).rstrip(
                    "\n"
                )
            )
        if section.drawing and section.lines:
            parts.append("\n".join(["```text", *map(clean_text, section.lines), "```"]))
        elif section.lines:
            bold = "**" if position == 0 else ""
            parts.append("\n".join(f"- {bold}{escape(line)}{bold}" for line in section.lines))
    return "\n\n".join(parts)


def fit_output(line: str) -> str:
    """Block characters where the output can have them."""
    try:
        line.encode(sys.stdout.encoding or "ascii")
    except UnicodeEncodeError:
        return line.translate(PLAIN)
    return line
