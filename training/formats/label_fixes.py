"""Corrections of labels from a CSV; images and folders are not changed.

Columns `id,field,value`, a line for each correction:

    1498-1,gender,female            a person of format mask_profiles, by the id in the folder's name
    1498-1,age,45
    20,swap,normal/incorrect_mask   two photographs of a person that were named the wrong way round
    cat/7.png,label,dog             an image of any format
    0042,label,dog boat             its classes where an image may have several; none: nothing
    0042,label,37.5                 its number where an image has one

With a column `accept`, only lines with `yes` in it are applied. Other columns are for people.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tracker.training.tables import LINE, read_table

FIELDS = ("gender", "age", "swap", "label")
ACCEPTED, REJECTED = ("yes", "y", "true", "1", "x"), ("", "no", "n", "false", "0")


@dataclass
class LabelFixes:
    """The corrections, by id and field; `problems` gets each value that is not accepted."""

    table: Path | None = None
    problems: list[str] = field(default_factory=list)
    _values: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)
    _used: set[tuple[str, str]] = field(default_factory=set)

    @classmethod
    def read(cls, table: Path | None, problems: list[str]) -> LabelFixes:
        """Read the CSV; without one, nothing is corrected.

        Raises DataError when the file or a column is missing.
        """
        fixes = cls(table, problems)
        columns = (LINE, "id", "field", "value", "accept")
        rows = read_table(table, columns, accept="yes") if table else []
        for line, name, kind, value, accept in rows:
            before = fixes._values.get((name, kind))
            if accept.lower() in REJECTED:
                continue
            if accept.lower() not in ACCEPTED:
                problems.append(f"{table}:{line}: accept is {accept!r}, expected yes or no")
            elif kind not in FIELDS:
                problems.append(
                    f"{table}:{line}: unknown field {kind!r}, expected {', '.join(FIELDS)}"
                )
            elif before and before[1] != value:
                problems.append(
                    f"{table}:{line}: {name} {kind} is {before[1]!r} in line {before[0]}"
                )
            else:
                fixes._values[name, kind] = (line, value)
        if rows and not fixes._values and not problems:
            problems.append(
                f"{table}: none of its {len(rows)} lines is accepted: write yes in the"
                " column accept, or remove the column"
            )
        return fixes

    def fix_gender(self, person: str, gender: str, known: Sequence[str]) -> str:
        """The person's gender, corrected if there is a line about it."""
        return self._take(person, "gender", gender, known)

    def fix_age(self, person: str, age: int) -> int:
        """The person's age, corrected if there is a line about it."""
        return int(self._take(person, "age", str(age), [str(number) for number in range(130)]))

    def fix_photo(self, person: str, photo: str, known: Sequence[str]) -> str:
        """The kind of a photograph, swapped with another of the person if the CSV says so."""
        pairs = {f"{a}/{b}": (a, b) for a, b in itertools.permutations(known, 2)}
        pair = pairs.get(self._take(person, "swap", "", list(pairs)), ())
        return next(iter(set(pair) - {photo})) if photo in pair else photo

    def fix_label(self, image: str, label: int, classes: Sequence[str]) -> int:
        """The image's class, corrected if there is a line about it."""
        return classes.index(self._take(image, "label", classes[label], classes))

    def fix_values(
        self, image: str, values: Sequence[float], classes: Sequence[str]
    ) -> Sequence[float]:
        """0 or 1 for each class, or the number [1] without `classes`; corrected if there is a line.

        A value is the names of all classes that the image has, with spaces between; empty or none
        where it has none of them.
        """
        from tracker.training.formats.samples import LabelValues
        from tracker.training.numbers import read_number

        line, value = self._values.get((image, "label"), ("", ""))
        if not line:
            return values
        self._used.add((image, "label"))
        if classes:
            words = [] if value == "none" else value.split()
            words = [value] if value in classes else words
            if set(words) <= set(classes):
                places = tuple(place for place, name in enumerate(classes) if name in words)
                return LabelValues(len(classes), places)
            expected = f"some of {', '.join(classes[:8])}, with spaces between"
        else:
            number = read_number(value)
            if math.isfinite(number):
                return (number,)
            expected = "a number"
        self.problems.append(f"{self.table}:{line}: unknown label {value!r}, expected {expected}")
        return values

    def list_unused(self) -> list[str]:
        """A problem for each line whose person or image does not exist."""
        problems = []
        for (name, kind), (line, _) in self._values.items():
            if (name, kind) not in self._used:
                thing = "image" if kind == "label" else "person"
                problems.append(f"{self.table}:{line}: no {thing} {name} in the training data")
        return problems

    def _take(self, name: str, kind: str, now: str, known: Sequence[str]) -> str:
        line, value = self._values.get((name, kind), ("", now))
        if not line:
            return now
        first = (name, kind) not in self._used
        self._used.add((name, kind))
        if value in known:
            return value
        if first:
            shown = ", ".join(known[:8])
            self.problems.append(
                f"{self.table}:{line}: unknown {kind} {value!r}, expected one of {shown}"
            )
        return now
