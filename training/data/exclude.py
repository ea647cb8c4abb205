"""Training images that data.exclude excludes; the folders are not changed.

`data.exclude` is glob patterns with commas between, and paths of CSVs with a column `path` (or
`id`); other columns
are for people. The path of an image is relative to data.train_dir; that of a folder leaves out all
of it. `*` matches across folders; a pattern without a slash also matches the name of a file or a
folder.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from tracker.training.config import locate
from tracker.training.numbers import render_count
from tracker.training.tables import LINE, read_table

CSV = ".csv"


@dataclass(frozen=True)
class Rule:
    """A pattern, or a path from a line of a CSV.

    `source` is the name for people: the pattern itself, or the name of the CSV.
    """

    text: str
    source: str
    line: str = ""
    reason: str = ""
    pattern: re.Pattern[str] | None = None


@dataclass
class Exclude:
    """The rules of a config, and the training images that they have excluded so far."""

    paths: dict[str, Rule] = field(default_factory=dict)
    patterns: list[Rule] = field(default_factory=list)
    left_out: dict[str, Rule] = field(default_factory=dict)

    @classmethod
    def read(
        cls,
        entries: str,
        root: Path,
        problems: list[str],
        *,
        folders: Sequence[str],
        id_column: str,
    ) -> Exclude:
        """Read data.exclude; `folders` are prefixes that its paths may have.

        Raises DataError for a missing CSV.
        """
        exclude = cls()
        for text in split_entries(entries):
            if text.lower().endswith(CSV):
                exclude._read_csv(text, root, problems, folders=folders, id_column=id_column)
            else:
                cut = _cut_prefix(text, folders)
                exclude.patterns.append(Rule(cut, text, pattern=re.compile(fnmatch.translate(cut))))
        return exclude

    def _read_csv(
        self, text: str, root: Path, problems: list[str], *, folders: Sequence[str], id_column: str
    ) -> None:
        table = locate(root, text)
        columns = dict.fromkeys((LINE, "path", "id", id_column, "reason"))
        rows = read_table(
            table, tuple(columns), **dict.fromkeys([name for name in columns if name != LINE], "")
        )
        for row in rows:
            cells = dict(zip(columns, row, strict=True))
            name = cells["path"] or cells["id"] or cells[id_column]
            if not name:
                problems.append(
                    f"{table}:{cells[LINE]}: no path (of its columns, path or id is read)"
                )
                continue
            rule = Rule(_cut_prefix(name, folders), text, f"{table}:{cells[LINE]}", cells["reason"])
            self.paths.setdefault(rule.text, rule)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is left out."""
        return not (self.paths or self.patterns)

    def covers(self, name: str) -> bool:
        """Whether the training image, or folder, of this name is left out."""
        if name not in self.left_out:
            rule = self._find_rule(name)
            if rule is None:
                return False
            self.left_out[name] = rule
        return True

    def describe(self, eval_ids: Iterable[str]) -> list[str]:
        """Sentences for the user about the images that each rule excluded.

        Evaluation images that match a rule are predicted anyway, and a sentence says so.
        """
        notes = []
        if self.left_out:
            counts = Counter(rule.source for rule in self.left_out.values())
            parts = ", ".join(f"{source}: {count}" for source, count in counts.items())
            notes.append(
                f"left out of the training images by data.exclude: {len(self.left_out)} ({parts})"
            )
        hit = Counter(rule.source for name in eval_ids if (rule := self._find_rule(name)))
        notes += [
            f"data.exclude: {source} also matches {render_count(count, 'evaluation image')};"
            " they are predicted anyway"
            for source, count in hit.items()
        ]
        return notes

    def list_unused(self, eval_ids: Iterable[str]) -> list[str]:
        """A problem for each rule that matches no image."""
        rules = [*self.paths.values(), *self.patterns]
        used = {id(rule) for rule in self.left_out.values()}
        unused = [rule for rule in rules if id(rule) not in used]
        names = [*self.left_out, *eval_ids] if unused else []
        # a rule is used, too, where another one excluded its image first
        parts: set[str] = set()
        for name in names:
            parts.update(_list_parts(name))
        problems = []
        for rule in unused:
            if rule.text not in parts and not any(_matches(rule, name) for name in names):
                problems.append(f"{rule.line or 'data.exclude'}: no training image {rule.text}")
        return problems

    def to_rows(self) -> Iterator[tuple[str, str]]:
        """The excluded images, as (path, reason)."""
        for name, rule in self.left_out.items():
            yield name, rule.reason or f"data.exclude: {rule.source}"

    def _find_rule(self, name: str) -> Rule | None:
        if not self.paths and not self.patterns:
            return None
        for part in _list_parts(name):
            if part in self.paths:
                return self.paths[part]
        return next((rule for rule in self.patterns if _matches(rule, name)), None)


def split_entries(entries: str) -> list[str]:
    """The patterns and tables that data.exclude names."""
    stripped = [entry.strip() for entry in entries.split(",")]
    return [entry for entry in stripped if entry]


def _list_parts(name: str) -> list[str]:
    """A path and the folders it lies in: a/b/c, a/b, a."""
    path = PurePosixPath(name)
    return [path.as_posix(), *(parent.as_posix() for parent in path.parents if parent.name)]


def _matches(rule: Rule, name: str) -> bool:
    """Whether a pattern matches a path or one of its folders; a path of a CSV is no pattern."""
    if rule.pattern is None:
        return False
    parts = _list_parts(name)
    candidates = (
        parts if "/" in rule.text else [*parts, *(PurePosixPath(part).name for part in parts)]
    )
    return any(rule.pattern.match(candidate) for candidate in candidates)


def _cut_prefix(text: str, folders: Sequence[str]) -> str:
    """A path relative to the training folder, however it was written."""
    text = text.strip().removeprefix("./").rstrip("/")
    longest = max(
        (folder for folder in folders if text.startswith(f"{folder}/")), key=len, default=""
    )
    return text.removeprefix(f"{longest}/") if longest else text
