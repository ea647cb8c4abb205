"""Prediction tables: reading, checking against the competition, comparing, and their canonical
fingerprint."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import operator
import re
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tracker.core.errors import RefusedError
from tracker.training.tables import read_columns
from tracker.workspace.competition import Competition

SHOWN = 5
LONGEST = 50  # characters of an unknown answer that an error shows
PART = 1000
_WHOLE = re.compile(
    r"([+-]?[0-9]{1,640})(?:\.0*)?"
)  # Python may refuse to read more digits than that
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Answers:
    """One answer for every image id; `ids` and `answers` are in one order, and no id comes twice."""

    ids: Sequence[str]
    answers: Sequence[str]

    @classmethod
    def of(cls, by_id: Mapping[str, str]) -> Answers:
        """The answers of a table by id."""
        return cls(list(by_id), list(by_id.values()))

    @cached_property
    def by_id(self) -> Mapping[str, str]:
        """{id: answer}; made when it is asked for, which is as much work as reading the file."""
        return dict(zip(self.ids, self.answers, strict=True))

    @cached_property
    def canonical(self) -> bytes:
        """`id,answer` lines sorted by id, in UTF-8; fields quoted as in CSV only where they must be."""
        return b"".join(self._lines())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `canonical`: row order, columns, line ends, BOM and quoting do not change it."""
        found = hashlib.sha256()
        for part in self._lines():
            found.update(part)
        return "sha256:" + found.hexdigest()

    def _lines(self) -> Iterator[bytes]:
        rows: Iterable[tuple[str, str]] = zip(self.ids, self.answers, strict=True)
        items = iter(rows if _ascend(self.ids) else sorted(rows))
        while part := list(itertools.islice(items, PART)):
            text = "\n".join(map(",".join, part)) + "\n"
            if (
                '"' in text
                or "\r" in text
                or text.count(",") != len(part)
                or text.count("\n") != len(part)
            ):
                text = "".join([f"{_quote(name)},{_quote(answer)}\n" for name, answer in part])
            yield text.encode()

    def pack(self) -> str:
        """`canonical` as text for the ledger."""
        return base64.b64encode(zlib.compress(self.canonical, 9)).decode()


@dataclass(frozen=True)
class AnswerDiff:
    """How two tables differ: images in both, those with another answer, and (from, to) counts of
    the changes."""

    total: int
    changed: int
    moves: Mapping[tuple[str, str], int]

    @property
    def equal_share(self) -> float:
        """Share of images with the same answer."""
        return 1 - self.changed / self.total if self.total else 0.0


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def normalize_answer(text: str) -> str:
    """An answer without blanks; whole numbers in their shortest form (`07` and `7.0` are `7`)."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


def load_answers(path: Path, competition: Competition) -> Answers:
    """Read a prediction CSV; raises DataError for a missing file or column, RefusedError for an id
    listed twice."""
    columns = (competition.id_column, competition.label_column)
    ids: list[str] = []
    found: list[str] = []
    for names, answers in read_columns(path, columns):
        short = {answer: normalize_answer(answer) for answer in set(answers)}
        ids += names
        found += map(short.__getitem__, answers)
    if not _ascend(ids) and len(set(ids)) != len(ids):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        raise RefusedError(
            f"{path}: {_some(twice, 'id')} listed twice", hint="every image needs exactly one row"
        )
    return Answers(ids, found)


def _ascend(names: Sequence[str]) -> bool:
    """Whether each name is greater than the one before it, as in most tables: then nothing must be
    looked up."""
    return all(map(operator.lt, names, itertools.islice(names, 1, None)))


def unpack_answers(packed: str) -> Answers:
    """The inverse of `Answers.pack`."""
    text = zlib.decompress(base64.b64decode(packed)).decode()
    return Answers.of(dict(row for row in csv.reader(io.StringIO(text, newline=""))))


def check_answers(answers: Answers, competition: Competition, ids: Sequence[str] | None) -> None:
    """Raise RefusedError unless the ids are exactly `ids` (when known) and every answer is a known
    one."""
    if not answers.ids:
        raise RefusedError("the prediction file has no rows")
    if ids is not None:
        missing = sorted(set(ids) - set(answers.by_id))
        foreign = sorted(set(answers.by_id) - set(ids))
        if missing:
            raise RefusedError(
                f"{_some(missing, 'image')} without a prediction", hint="predict every image"
            )
        if foreign:
            raise RefusedError(
                f"{_some(foreign, 'id')} not in the competition", hint="submit its ids only"
            )
    words = set(competition.answer_words)
    wrong = sorted(
        f"{name}={answer[:LONGEST]!r}"
        for name, answer in answers.by_id.items()
        if answer not in words
    )
    if wrong and words:
        known = ", ".join(competition.answer_words[:20])
        numbered = [
            f"{word} is {name}"
            for word, name in zip(competition.answer_words, competition.classes, strict=True)
        ]
        by_number = tuple(competition.answer_words) != tuple(competition.classes)
        hint = (
            f"the number of each class: {', '.join(numbered[:20])}"
            if by_number
            else "the name of each class"
        )
        raise RefusedError(f"{_some(wrong, 'answer')} unknown: expected one of {known}", hint=hint)


def diff_answers(old: Answers, new: Answers) -> AnswerDiff:
    """Compare the images that are in both."""
    shared = [name for name in new.by_id if name in old.by_id]
    moves = Counter(
        (old.by_id[name], new.by_id[name]) for name in shared if old.by_id[name] != new.by_id[name]
    )
    return AnswerDiff(len(shared), sum(moves.values()), dict(moves.most_common()))


def _some(names: Sequence[str], word: str) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {word}{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{rest})"
