"""Tables and lines of text for terminals of any width: plain data in, lines out.

A row is one line. Where a terminal is too narrow for all columns, the less important ones leave and
are named below the table; only texts (memos, notes, reasons) are cut, at their end. Without a width
nothing is left out or cut.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

GAP = "  "
CUT = "\u2026"  # the end of a text that was cut
RULE = "-"  # box characters are two columns wide in terminals with Korean fonts
COMFORTABLE = 20  # columns of a text before columns of little importance leave for it
LEAST = 8  # columns of a text that is worth its place
MOST_HIDDEN = 16  # columns that are named where they have no room
EMPTY = ("", "-")
# Joiners, what Hangul blocks end with, the letters of flags like Wales's: they add no column.
INVISIBLE = re.compile("[\u200b-\u200f\u2060-\u2064\ufeff\u1160-\u11ff\U000e0020-\U000e007f]")
JOINER, EMOJI_STYLE = "\u200d", "\ufe0f"
COMMAND = re.compile(r" *((next|train from it): )?(tracker|cd) ")
SGR = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


@dataclass(frozen=True)
class Column:
    """A column: its title, and what happens to it in a narrow terminal.

    `leaves` is its place in the order of leaving: the highest leaves first, 1 only where a text
    would not even have
    `LEAST` columns, 0 never. A `text` is cut at its end, but for cells that are `whole`; everything
    else is shown whole
    or not at all. A text has `least` columns, where that is given, before others leave. Columns with
    `right` are numbers. Columns of one `group` leave together: one side
    alone misleads.
    """

    title: str
    leaves: int = 0
    right: bool = False
    text: bool = False
    group: str = ""
    least: int = 0


@dataclass(frozen=True)
class Styled:
    """A cell with a style, words of `SGR` as in `bold green`; `whole` in a column of texts where it
    is a number.

    Where there is no room for the text the first of the `shorter` ones that fits takes its place.
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
    """The lines of a table: titles, a rule, a line for each row, and a line on what `width` has no
    room for.

    `width` is in columns of the terminal, None for as many as it takes; `shows_all` is what makes
    the rest visible.
    """
    table = [[cell if isinstance(cell, Styled) else Styled(cell) for cell in row] for row in rows]
    widths = fit_columns(columns, table, width)
    titles = [Styled(column.title, "bold") for column in columns]
    lines = [_draw_row(columns, titles, widths, color=color)]
    lines.append(paint(GAP.join(RULE * own for own in widths.values()), "dim" if color else ""))
    lines += [_draw_row(columns, row, widths, color=color) for row in table]
    hidden = [column.title for place, column in enumerate(columns) if place not in widths]
    was_cut = any(measure(row[place].text) > own for row in table for place, own in widths.items())
    if hidden:
        more = len(hidden) - MOST_HIDDEN
        rest = [f"{more} more"] if more > 0 else []
        names = ", ".join([*hidden[:MOST_HIDDEN], *rest])
        lines += wrap(f"hidden at this width: {names}; {shows_all} shows all", width)
    elif was_cut:
        lines += wrap(f"{CUT} cut at this width; {shows_all} shows all", width)
    return lines


def _draw_row(
    columns: Sequence[Column], row: Sequence[Styled], widths: dict[int, int], *, color: bool
) -> str:
    parts = []
    last = list(widths)[-1]
    for place, own in widths.items():
        fitting = (text for text in (row[place].text, *row[place].shorter) if measure(text) <= own)
        text = next(fitting, None) or cut(row[place].text, own)
        space = " " * (own - measure(text))
        shown = paint(text, row[place].style if color else "")
        if columns[place].right:
            parts.append(space + shown)
        else:
            parts.append(shown if place == last else shown + space)
    return GAP.join(parts).rstrip(" ")


def fit_columns(
    columns: Sequence[Column], rows: Sequence[Sequence[Styled]], width: int | None
) -> dict[int, int]:
    """{place: width} of the columns that are shown; those that are no texts have the width of their
    longest cell."""
    full, whole, empty = {}, {}, set()
    for place, column in enumerate(columns):
        cells = [row[place] for row in rows]
        widths = [measure(cell.text) for cell in cells]
        full[place] = max(measure(column.title), *widths, 0)
        kept = [own for own, cell in zip(widths, cells, strict=True) if cell.whole]
        whole[place] = max(measure(column.title), *kept, 0) if column.text else full[place]
        if all(cell.text in EMPTY for cell in cells):
            empty.add(place)
    if width is None or _add(full) <= width:
        return full
    leaving = [place for place in full if columns[place].leaves]
    order = sorted(leaving, key=lambda place: (place not in empty, -columns[place].leaves))
    narrow = full
    for least, stay in ((COMFORTABLE, 1), (LEAST, 0)):
        narrow = {
            place: min(own, max(columns[place].least or least, whole[place]))
            for place, own in full.items()
        }
        for place in order:
            if _add(narrow) > width and place in narrow and columns[place].leaves > stay:
                for one in _list_group(columns, place):
                    del narrow[one], full[one]
        if _add(narrow) <= width:
            break
    return _widen(narrow, full, width - _add(narrow))


def _list_group(columns: Sequence[Column], place: int) -> list[int]:
    """The places of the columns that leave with this one, itself among them."""
    group = columns[place].group
    return [
        one
        for one, column in enumerate(columns)
        if one == place or (group and column.group == group)
    ]


def fits(columns: Sequence[Column], rows: Sequence[Sequence[Cell]], width: int | None) -> bool:
    """Whether `width` has room for every column, texts cut where need be."""
    table = [[cell if isinstance(cell, Styled) else Styled(cell) for cell in row] for row in rows]
    shown = fit_columns(columns, table, width)
    return width is None or (len(shown) == len(columns) and _add(shown) <= width)


def _add(widths: dict[int, int]) -> int:
    return sum(widths.values()) + len(GAP) * (len(widths) - 1)


def _widen(widths: dict[int, int], full: dict[int, int], room: int) -> dict[int, int]:
    """Share `room` among the columns that are narrower than their longest cell, the same for each."""
    narrow = [place for place in widths if widths[place] < full[place]]
    while narrow and room > 0:
        share = max(1, room // len(narrow))
        for place in narrow:
            more = min(share, full[place] - widths[place], room)
            widths[place] += more
            room -= more
        narrow = [place for place in narrow if widths[place] < full[place]]
    return widths


def measure(text: str) -> int:
    """The columns of a terminal that a text takes, at most.

    Terminals disagree on emoji of several characters: one that joins them takes fewer columns than
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


def _measure_letter(letter: str) -> int:
    if unicodedata.east_asian_width(letter) in "WF":
        return 2
    is_mark = unicodedata.category(letter) in ("Mn", "Me")
    return 0 if is_mark or INVISIBLE.match(letter) else 1


def split_clusters(text: str) -> Iterator[str]:
    """What a reader takes for single characters: an emoji of several, a letter with its accents, a
    Hangul block."""
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
    """Whether it is one of the two letters that make a flag."""
    return "\U0001f1e6" <= letter <= "\U0001f1ff"


def cut(text: str, width: int) -> str:
    """A text of at most `width` columns: whole, or its beginning and an ellipsis; no character is
    split.

    The ellipsis has room for two columns, which it takes in terminals with Korean fonts.
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
    """Lines of at most `width` columns, broken between words; what follows is indented a little
    more.

    A word that is longer than a line stays whole, and so does a line that is a command, to be
    copied: the terminal breaks them.
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
    """A text with the codes of a style around it; without a style as it is."""
    codes = ";".join(SGR[word] for word in style.split())
    return f"\x1b[{codes}m{text}\x1b[0m" if codes and text else text
