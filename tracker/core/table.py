"""Tables and lines of text for terminals of any width: plain data in, lines out.

A row is one line. If a terminal is too narrow for all columns, the less important ones are hidden
and listed below the table; only texts (memos, notes, reasons) are cut, at their end. Without a
width nothing is hidden or cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

GAP = "  "
CUT = "\u2026"  # the end of a text that was cut
RULE = "-"  # box characters are two columns wide in terminals with Korean fonts
COMFORTABLE_WIDTH = 20  # a text gets this width before less important columns are hidden for it
MIN_WIDTH = 8  # a narrower text column says too little to be shown
MINOR = 9  # columns with higher `leaves` are hidden until texts with `least` have `ROOMY_WIDTH`
ROOMY_WIDTH = 32
IMPORTANT = 3  # columns with higher `leaves` are hidden early where nearly all rows are empty
SPARSE = 6  # nearly all: one of so many rows, or fewer, has a value
MAX_HIDDEN_NAMES = 16  # so many hidden columns are listed by name
EMPTY = ("", "-")
# Joiners, vowels and ends of Hangul blocks, letters of flags like that of Wales: zero width.
INVISIBLE = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u1160-\u11ff\U000e0020-\U000e007f]")
JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"
COMMAND = re.compile(r" *((next|train from it): )?(tracker|cd) ")
SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Column(NamedTuple):
    """A column: its title, and what happens to it in a narrow terminal.

    Columns are hidden in the order of `leaves`: the highest first, 1 only if a text would not even
    have `MIN_WIDTH` columns, 0 never. Empty columns above 1 are hidden before any text is cut, and
    above `IMPORTANT` also those that are empty in nearly all rows. A
    `text` is cut at its end, except for `whole` cells; any other column is shown whole or not at
    all. A text keeps `least` columns, where that is given, before other columns are hidden, and
    `ROOMY_WIDTH` before those above `MINOR` are. Columns with `right` are numbers. Columns of one
    `group` are hidden together, because one of them alone misleads. Columns with `returns` come
    back, the most important first, where hiding a wider one left room for them.
    """

    title: str
    leaves: int = 0
    right: bool = False
    text: bool = False
    group: str = ""
    least: int = 0
    returns: bool = False


class Styled(NamedTuple):
    """A cell with a style, which is words of `SGR` as in `bold green`.

    A `whole` cell is never cut, such as a number in a column of texts. If the text does not fit,
    the first of the `shorter` texts that fits is shown; if none does, the last is cut, or the
    column leaves if the cell is `whole`.
    """

    text: str
    style: str = ""
    whole: bool = False
    shorter: tuple[str, ...] = ()


Cell = str | Styled


def draw_table(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Cell]],
    *,
    width: int | None,
    color: bool = False,
    shows_all: str = "--wide",
) -> list[str]:
    """The lines of a table: titles, a rule, a line for each row, and a line about hidden columns.

    `width` is in columns of the terminal, None for no limit; `shows_all` is the option that shows
    what is hidden. A column that no row has a value in is left out without a word.
    """
    table = [_style_row(row) for row in rows]
    widths = fit_columns(columns, table, width)
    titles = [Styled(column.title, "bold") for column in columns]
    lines = [_draw_row(columns, titles, widths, color=color)]
    lines.append(paint(GAP.join(RULE * own for own in widths.values()), "dim" if color else ""))
    drawn = [_draw_row(columns, row, widths, color=color) for row in table]
    lines += drawn
    hidden = [
        column.title
        for index, column in enumerate(columns)
        if index not in widths and any(row[index].text not in EMPTY for row in table)
    ]
    was_cut = width is not None and any(_is_cut(row, widths) for row in table)
    if hidden:
        more = len(hidden) - MAX_HIDDEN_NAMES
        rest = [f"{more} more"] if more > 0 else []
        names = ", ".join([*hidden[:MAX_HIDDEN_NAMES], *rest])
        lines += wrap(f"hidden at this width: {names}; {shows_all} shows all", width)
        if was_cut and any(CUT in line for line in drawn):
            lines += wrap(f"{CUT} cut at this width", width)
    elif was_cut:
        lines += wrap(f"{CUT} cut at this width; {shows_all} shows all", width)
    return lines


def _style_row(row: Sequence[Cell]) -> list[Styled]:
    return [cell if isinstance(cell, Styled) else Styled(cell) for cell in row]


def _is_cut(row: Sequence[Styled], widths: dict[int, int]) -> bool:
    return any(measure(row[index].text) > width for index, width in widths.items())


def _draw_row(
    columns: Sequence[Column], row: Sequence[Styled], widths: dict[int, int], *, color: bool
) -> str:
    parts = []
    last = list(widths)[-1]
    for index, width in widths.items():
        cell = row[index]
        text = cell.text
        taken = measure(text)
        if taken > width:
            text = _fit_text(cell, width)
            taken = measure(text)
        space = " " * (width - taken)
        shown = paint(text, cell.style if color else "")
        if columns[index].right:
            parts.append(space + shown)
        else:
            parts.append(shown if index == last else shown + space)
    return GAP.join(parts).rstrip(" ")


def _fit_text(cell: Styled, width: int) -> str:
    """The longest text of a cell that fits, else the last one cut."""
    if cell.text and measure(cell.text) <= width:
        return cell.text
    return _fit_shorter(cell, width)


@lru_cache(maxsize=4096)  # very many rows have the same change
def _fit_shorter(cell: Styled, width: int) -> str:
    fitting = (text for text in cell.shorter if measure(text) <= width)
    return next(fitting, None) or cut((cell.text, *cell.shorter)[-1], width)


def fit_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[Styled]], width: int | None
) -> dict[int, int]:
    """{index: width} of the columns that are shown; only columns of texts may be cut."""
    full, whole, empty = _measure_columns(columns, rows)
    own_widths = dict(full)
    if width is None or _add(full) <= width:
        return full
    # empty columns are hidden first, then the less important ones
    may_hide = [index for index in full if columns[index].leaves]
    order = sorted(may_hide, key=lambda index: (index not in empty, -columns[index].leaves))
    _hide_empty(columns, order, empty, full, width)
    order = [index for index in order if index in full]
    narrow = full
    for least, stay in ((ROOMY_WIDTH, MINOR), (COMFORTABLE_WIDTH, 1), (MIN_WIDTH, 0)):
        narrow = {
            index: min(own, max(_find_least(columns[index], least), whole[index]))
            for index, own in full.items()
        }
        for index in order:
            if _add(narrow) > width and index in narrow and columns[index].leaves > stay:
                for member in _list_group(columns, index):
                    del narrow[member], full[member]
        if _add(narrow) <= width:
            break
    for index in _list_returning(columns, order, narrow, own_widths, width):
        narrow[index] = full[index] = own_widths[index]
    return _fill(columns, rows, dict(sorted(narrow.items())), dict(sorted(full.items())), width)


def _list_returning(
    columns: Sequence[Column],
    order: Sequence[int],
    narrow: dict[int, int],
    own_widths: dict[int, int],
    width: int,
) -> list[int]:
    """The hidden columns with `returns` that fit beside the others, texts as wide as is usual."""
    taken = {
        index: max(least, min(own_widths[index], COMFORTABLE_WIDTH))
        for index, least in narrow.items()
    }
    returning = []
    for index in reversed(order):
        wider = taken | {index: own_widths[index]}
        if columns[index].returns and index not in narrow and _add(wider) <= width:
            taken = wider
            returning.append(index)
    return returning


def _find_least(column: Column, width: int) -> int:
    """What a text keeps while less important columns are hidden for `width`."""
    if width == ROOMY_WIDTH:
        return max(column.least, ROOMY_WIDTH if column.least else COMFORTABLE_WIDTH)
    return width if width == MIN_WIDTH else column.least or width


def _fill(
    columns: Sequence[Column],
    rows: Sequence[Sequence[Styled]],
    narrow: dict[int, int],
    full: dict[int, int],
    width: int,
) -> dict[int, int]:
    """Widen texts to the whole `width`; what shorter texts leave free is for others."""
    widths = _widen(narrow, full, width - _add(narrow))
    cut_ones = [index for index in widths if widths[index] < full[index]]
    used = {
        index: max(measure(_fit_text(row[index], widths[index])) for row in rows)
        for index in cut_ones
        if any(row[index].shorter for row in rows)
    }
    tight = {index: max(own, measure(columns[index].title)) for index, own in used.items()}
    if not any(own < widths[index] for index, own in tight.items()):
        return widths
    widths |= tight
    # first the columns that need it anyway, then those that gave it
    widths = _widen(widths, full | tight, width - _add(widths))
    return _widen(widths, full, width - _add(widths))


def _measure_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[Styled]]
) -> tuple[dict[int, int], dict[int, int], set[int]]:
    """(width of the longest cell, width below which a cell would be damaged, empty columns).

    Empty are also those that nearly no row has a value in.
    """
    full, whole, empty = {}, {}, set()
    for index, column in enumerate(columns):
        cells = [row[index] for row in rows]
        widths = [measure(cell.text) for cell in cells]
        full[index] = max(measure(column.title), *widths, 0)
        uncut = [_measure_shortest(cell) for cell in cells if cell.whole]
        whole[index] = max(measure(column.title), *uncut, 0) if column.text else full[index]
        known = sum(cell.text not in EMPTY for cell in cells)
        sparse = known * SPARSE <= len(cells) and column.leaves > IMPORTANT
        if not known or sparse:
            empty.add(index)
    return full, whole, empty


def _measure_shortest(cell: Styled) -> int:
    if not cell.shorter:
        return measure(cell.text)
    return _measure_shorter(cell)


@lru_cache(maxsize=4096)
def _measure_shorter(cell: Styled) -> int:
    return min(map(measure, (cell.text, *cell.shorter)))


def _hide_empty(
    columns: Sequence[Column],
    order: Sequence[int],
    empty: set[int],
    full: dict[int, int],
    width: int,
) -> None:
    """Take empty columns out of the widths `full` until the others fit."""
    for index in order:
        if _add(full) > width and _is_hidden_first(columns, index, empty):
            for member in _list_group(columns, index):
                full.pop(member, None)


def _is_hidden_first(columns: Sequence[Column], index: int, empty: set[int]) -> bool:
    """Whether a column leaves before a text is cut: its whole group takes room and says nothing."""
    return columns[index].leaves > 1 and empty.issuperset(_list_group(columns, index))


def _list_group(columns: Sequence[Column], index: int) -> list[int]:
    """The indices of the columns that are hidden together with this one, including itself."""
    group = columns[index].group
    if not group:
        return [index]
    return [other for other, column in enumerate(columns) if column.group == group]


def fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> bool:
    """Whether `width` has room for every column; texts may be cut."""
    table = [_style_row(row) for row in rows]
    shown = fit_columns(columns, table, width)
    return width is None or (len(shown) == len(columns) and _add(shown) <= width)


def _add(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _widen(widths: dict[int, int], full: dict[int, int], room: int) -> dict[int, int]:
    """Share `room` equally among the columns that are narrower than their longest cell."""
    narrow = [index for index in widths if widths[index] < full[index]]
    while narrow and room > 0:
        share = max(1, room // len(narrow))
        for index in narrow:
            more = min(share, full[index] - widths[index], room)
            widths[index] += more
            room -= more
        narrow = [index for index in narrow if widths[index] < full[index]]
    return widths


def measure(text: str) -> int:
    """The columns of a terminal that a text takes at most.

    Terminals disagree on emoji of several characters: one that joins them needs fewer columns than
    are counted here.
    """
    if text.isascii():
        return len(text)
    columns = before = 0
    for letter in text:
        own = 2 - before if letter == EMOJI_STYLE and before else _measure_letter(letter)
        columns += own
        before = own or before
    return columns


@lru_cache(maxsize=4096)
def _measure_letter(letter: str) -> int:
    if unicodedata.east_asian_width(letter) in "WF":
        return 2
    is_mark = unicodedata.category(letter) in ("Mn", "Me")
    return 0 if is_mark or INVISIBLE.match(letter) else 1


def split_clusters(text: str) -> Iterator[str]:
    """What readers see as one character: a joined emoji, a letter with accents, a Hangul block."""
    cluster = ""
    for letter in text:
        joined = (
            _measure_letter(letter) == 0
            or "\U0001f3fb" <= letter <= "\U0001f3ff"  # skin tones
            or cluster.endswith(JOINER)
            or (_is_flag(letter) and len(cluster) == 1 and _is_flag(cluster))
        )
        if cluster and not joined:
            yield cluster
            cluster = ""
        cluster += letter
    if cluster:
        yield cluster


def _is_flag(letter: str) -> bool:
    """Whether it is a regional indicator: two of them make a flag."""
    return "\U0001f1e6" <= letter <= "\U0001f1ff"


def cut(text: str, width: int) -> str:
    """A text of at most `width` columns: whole, or its beginning and an ellipsis.

    No character is split. Two columns are kept for the ellipsis: it is that wide in terminals with
    Korean fonts.
    """
    if measure(text) <= width:
        return text
    shown = ""
    for cluster in split_clusters(text):
        if measure(shown + cluster) > width - 2:
            break
        shown += cluster
    return shown.rstrip() + CUT


def wrap(text: str, width: int | None) -> list[str]:
    """Lines of at most `width` columns, broken between words; continuation lines are indented.

    A word that is longer than a line stays whole. So does a command, because people copy it: the
    terminal breaks these lines.
    """
    lines = []
    for line in text.split("\n"):
        if width is None or measure(line) <= width or COMMAND.match(line):
            lines.append(line)
            continue
        indent = line[: len(line) - len(line.lstrip(" "))] + GAP
        shown = ""
        for word in re.findall(r" *[^ ]+", line):
            if shown.strip() and measure(shown) + measure(word) > width:
                lines.append(shown)
                shown = indent + word.lstrip(" ")
            else:
                shown += word
        lines.append(shown)
    return lines


def paint(text: str, style: str) -> str:
    """A text in a style, as escape codes; unchanged without a style."""
    codes = ";".join(SGR[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text
