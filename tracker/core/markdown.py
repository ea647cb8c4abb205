"""Markdown from users' texts: escaping, and tables."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection, Iterable, Sequence

from tracker.core.text import clean_text

# Characters that are Markdown anywhere in a line; `_` inside a word is not.
_INLINE = re.compile(r"[\\`*\[\]|~$]|(?<![^\W_])_|_(?![^\W_])")
# The beginnings of a line that make it a list, a heading or a quotation.
_START = re.compile(r"^(\d*)(>|#(?=#*(?: |$))|[-+=](?= |[-=]*$)|(?<=\d)[.)](?= |$))")
_TAG_END = re.compile(r"(?<=[^\s-])>")  # arrows and comparisons stay readable
_RIGHT_TO_LEFT = {"R", "AL", "AN"}
_FIRST_STRONG_ISOLATE, _END_OF_ISOLATE = "\u2068", "\u2069"


def escape(text: str | None) -> str:
    """A text on one line that Markdown and HTML show literally; `-` when it is empty.

    It has no control characters. Right-to-left text is isolated, so that it does not change the
    direction of the text next to it.
    """
    line = clean_text(" ".join((text or "").split()))
    if line in ("", "-"):
        return "-"
    shown = _INLINE.sub(lambda mark: "\\" + mark[0], line)
    shown = shown.replace("&", "&amp;").replace("<", "&lt;")
    shown = _TAG_END.sub("&gt;", shown)
    shown = _START.sub(r"\1\\\2", shown)
    if any(unicodedata.bidirectional(letter) in _RIGHT_TO_LEFT for letter in line):
        return f"{_FIRST_STRONG_ISOLATE}{shown}{_END_OF_ISOLATE}"
    return shown


def render_table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], *, numbers: Collection[int] = ()
) -> str:
    """A table of escaped cells; the columns whose index is in `numbers` are aligned right."""
    rules = ["---:" if index in numbers else "---" for index in range(len(columns))]
    lines = [columns, rules, *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)
