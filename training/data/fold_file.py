"""The fold of each image from a CSV of the team's own: data.fold_file.

Columns: the id (`id` or the id column of the competition) and `fold`, a whole number; -1 is never
validated on. A table of a split is read as well, by its column `split`, in which `val` is fold 0
and everything else stays in training.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tracker.training.config import DataConfig, locate
from tracker.training.errors import DataError
from tracker.training.formats.samples import Sample, Task
from tracker.training.numbers import render_count
from tracker.training.tables import LINE, read_header, read_table

FOLD, SPLIT = "fold", "split"
PARTS = {"train": -1, "unused": -1, "val": 0, "valid": 0, "validation": 0}
NAMED = 3  # ids that a message lists


@dataclass(frozen=True)
class FoldFile:
    """The folds by id, and the rows that cannot be used, by line."""

    table: Path
    fold_of: dict[str, int]
    problems: tuple[str, ...]

    @classmethod
    def read(cls, config: DataConfig, task: Task, root: Path) -> FoldFile:
        """Read data.fold_file; raises DataError where the file or a column is missing."""
        table = locate(root, config.fold_file)
        header = read_header(table)
        ids = _find_column(table, header, ["id", task.id_column, config.label_id])
        column = _find_column(table, header, [FOLD, SPLIT])
        fold_of: dict[str, int] = {}
        problems = []
        for line, name, text in read_table(table, (LINE, ids, column)):
            fold = _read_fold(text, column)
            if fold is None:
                expected = "a whole number from -1" if column == FOLD else "train or val"
                problems.append(f"{table}:{line}: {column} is {text!r}, expected {expected}")
            elif fold_of.setdefault(name, fold) != fold:
                problems.append(f"{table}:{line}: {name} is in fold {fold_of[name]} already")
        return cls(table, fold_of, tuple(problems))

    def assign(
        self, samples: Sequence[Sample], config: DataConfig, problems: list[str]
    ) -> list[Sample]:
        """The samples with their folds; what does not fit is added to `problems`."""
        problems += self.problems
        missing = [s.id for s in samples if s.id not in self.fold_of]
        if missing and not self.problems:
            problems.append(
                f"{self.table} has no fold for {render_count(len(missing), 'training image')}"
                f" ({_name_some(missing)})"
            )
        assigned = [s._replace(fold=self.fold_of.get(s.id, -1)) for s in samples]
        if len(problems) == 0:
            problems += self._list_wrong_numbers(assigned, config)
            problems += self._list_divided(assigned, config)
        return assigned

    def describe_unused(self, samples: Sequence[Sample]) -> tuple[str, ...]:
        """A sentence about ids that are no training image, if there are any."""
        known = {sample.id for sample in samples}
        unused = [name for name in self.fold_of if name not in known]
        if not unused:
            return ()
        count = render_count(len(unused), "id")
        return (f"{self.table}: {count} without a training image ({_name_some(unused)})",)

    def _list_wrong_numbers(self, samples: Sequence[Sample], config: DataConfig) -> list[str]:
        """A problem where the file has other folds than data.folds and data.fold."""
        found = sorted({s.fold for s in samples if s.fold is not None and s.fold >= 0})
        shown = ", ".join(map(str, found)) or "none"
        if config.folds and found != list(range(config.folds)):
            return [f"{self.table} has the folds {shown}, and data.folds is {config.folds}"]
        if config.fold not in found:
            return [f"{self.table} has the folds {shown}, and data.fold is {config.fold}"]
        return []

    def _list_divided(self, samples: Sequence[Sample], config: DataConfig) -> list[str]:
        """A problem where a value of data.group is in several folds."""
        folds: dict[str, set[int]] = defaultdict(set)
        for sample in samples:
            folds[sample.group].add(-1 if sample.fold is None else sample.fold)
        divided = [group for group, numbers in folds.items() if len(numbers) > 1]
        if not config.group or not divided:
            return []
        count = render_count(len(divided), "group")
        return [f"{self.table} divides {count} of data.group ({_name_some(divided)})"]


def _find_column(table: Path, header: Sequence[str], wanted: Sequence[str]) -> str:
    for name in wanted:
        if name in header:
            return name
    names = " or ".join(dict.fromkeys(name for name in wanted if name))
    raise DataError(f"{table} has no column {names}", hint=f"its columns: {', '.join(header)}")


def _read_fold(text: str, column: str) -> int | None:
    """The fold of a cell, None for what is none; 2.0 is 2, as pandas writes it beside gaps."""
    if column == SPLIT:
        return PARTS.get(text.lower())
    digits = text.removesuffix(".0")
    if digits == "-1":
        return -1
    return int(digits) if digits.isascii() and digits.isdecimal() and len(digits) < 10 else None


def _name_some(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join([*names[:NAMED], *([f"{more} more"] if more > 0 else [])])
