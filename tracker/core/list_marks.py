"""The marks behind names and numbers: one mark, one meaning, the same in every list."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

NOW, THEN, ANCESTOR, DUPLICATE, BEST = "**", "*", "^", "=", "+"
MEANINGS = {
    NOW: "SOTA now",
    THEN: "SOTA when it was scored",
    ANCESTOR: "SOTA was made from it",
    DUPLICATE: "duplicate (=8: of submission 8)",
    BEST: "the best of the table",
}


@dataclass(frozen=True, kw_only=True)
class Marks:
    """What there is to mark: numbers of submissions, and names of runs (`s7` where a run is not
    here).

    `duplicates` has the number of the earlier submission that a submission repeats.
    """

    now: int | None = None
    then: Collection[int] = ()
    ancestors: Collection[str] = ()
    duplicates: Mapping[int, int] = field(default_factory=dict)

    def list_marks(self, number: int | None, name: str | None) -> list[str]:
        """The marks of a submission or a run; what is SOTA now needs no other mark of SOTA."""
        if number is not None and number == self.now:
            return [NOW]
        marks = [THEN] if number in self.then else []
        if name in self.ancestors:
            marks.append(ANCESTOR)
        if number is not None and number in self.duplicates:
            marks.append(f"{DUPLICATE}{self.duplicates[number]}")
        return marks


def explain_marks(used: Iterable[str]) -> str:
    """The legend of the marks that a list has, on one line; empty where it has none."""
    kinds = {DUPLICATE if mark.startswith(DUPLICATE) else mark for mark in used}
    return ", ".join(f"{mark} {meaning}" for mark, meaning in MEANINGS.items() if mark in kinds)


def style_marks(marks: Collection[str]) -> str:
    """The style of what has these marks."""
    if NOW in marks:
        return "bold green"
    return "bold" if THEN in marks or ANCESTOR in marks else ""
