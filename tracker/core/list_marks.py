"""The marks behind names and numbers: one mark, one meaning, the same in every list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

NOW, THEN, ANCESTOR, DUPLICATE, BEST, SEARCHED = "**", "*", "^", "=", "+", "~"
APART = "\u2260"
FLATTERED = "flattered: weights were searched on these validation images"
MEANINGS = {
    NOW: "SOTA now",
    THEN: "SOTA when it was scored",
    ANCESTOR: "SOTA was made from it",
    DUPLICATE: "duplicate (=8: of submission 8)",
    BEST: "the best of those that compare",
    SEARCHED: FLATTERED,
    APART: "does not compare with SOTA's: other images or labels, another loss, or not known how",
}


class Marks(NamedTuple):
    """Which submissions (by number) and which runs (by name) have a mark.

    The name is `s7` where the run is not in this workspace. `duplicates` maps a submission to the
    earlier one that it repeats, `flattered` has those whose validation scores flatter them.
    """

    now: int | None = None
    then: Collection[int] = ()
    ancestors: Collection[str] = ()
    duplicates: Mapping[int, int] = {}
    flattered: Collection[int] = ()

    def list_marks(self, number: int | None, name: str | None) -> list[str]:
        """The marks of a submission or a run; the current SOTA has that mark alone."""
        if number is not None and number == self.now:
            return [NOW]
        marks = [THEN] if number in self.then else []
        if name in self.ancestors:
            marks.append(ANCESTOR)
        if number is not None and number in self.duplicates:
            marks.append(f"{DUPLICATE}{self.duplicates[number]}")
        return marks


def mark_flattered(text: str, *, flattered: bool, any_of_column: bool) -> str:
    """A figure of a column with its mark; where others of the column have one, as many blanks.

    One that is not known (`-`) flatters nobody and has none.
    """
    if not any_of_column:
        return text
    is_marked = flattered and text != "-"
    return f"{text} {SEARCHED if is_marked else ' ' * len(SEARCHED)}"


def explain_marks(used: Iterable[str]) -> str:
    """The legend for the marks that a list uses, on one line; empty when it uses none."""
    kinds = {DUPLICATE if mark.startswith(DUPLICATE) else mark for mark in used}
    return ", ".join(f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if mark in kinds)


def style_marks(marks: Collection[str]) -> str:
    """The terminal style of a name with these marks."""
    if NOW in marks:
        return "bold green"
    return "bold" if THEN in marks or ANCESTOR in marks else ""
