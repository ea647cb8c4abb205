"""Prediction files: read, check against the competition, compare, and fingerprint."""

from __future__ import annotations

import base64
import csv
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
from tracker.training.numbers import render_count
from tracker.training.tables import read_columns
from tracker.workspace.tracker_toml import Competition

MAX_LISTED = 5  # ids or answers that an error lists
MAX_ANSWER_CHARS = 50  # characters of an unknown answer that an error shows
ROWS_PER_PART = 1000  # rows that are joined and encoded at a time
# Python may be set to refuse an int of more digits, but never of fewer than 640
_WHOLE = re.compile(r"([+-]?[0-9]{1,640})(?:\.0*)?")
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Answers:
    """One answer for each image id; `ids` and `answers` have the same order, and ids are unique."""

    ids: Sequence[str]
    answers: Sequence[str]

    @classmethod
    def of(cls, by_id: Mapping[str, str]) -> Answers:
        """The answers of a mapping {id: answer}."""
        return cls(list(by_id), list(by_id.values()))

    @cached_property
    def by_id(self) -> Mapping[str, str]:
        """{id: answer}; made on first use, because that takes as long as reading the file."""
        return dict(zip(self.ids, self.answers, strict=True))

    @cached_property
    def canonical(self) -> bytes:
        """`id,answer` lines in UTF-8, sorted by id; quoted as in CSV only where necessary."""
        return b"".join(self._lines())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `canonical`: order, other columns, line ends and quoting do not matter."""
        import hashlib  # loads OpenSSL, 2 ms that lists can do without

        digest = hashlib.sha256()
        for part in self._lines():
            digest.update(part)
        return "sha256:" + digest.hexdigest()

    def _lines(self) -> Iterator[bytes]:
        rows: Iterable[tuple[str, str]] = zip(self.ids, self.answers, strict=True)
        items = iter(rows if _is_sorted(self.ids) else sorted(rows))
        while part := list(itertools.islice(items, ROWS_PER_PART)):
            text = "\n".join(map(",".join, part)) + "\n"
            # most files need no quotes: one look at a whole part is faster than one at each field
            plain = '"' not in text and "\r" not in text
            if not plain or {text.count(","), text.count("\n")} != {len(part)}:
                text = "".join([f"{_quote(name)},{_quote(answer)}\n" for name, answer in part])
            yield text.encode()

    def pack(self) -> str:
        """`canonical` as text for the ledger."""
        return base64.b64encode(zlib.compress(self.canonical, 9)).decode()


@dataclass(frozen=True)
class AnswerDiff:
    """The difference of two tables.

    `total` images are in both, `changed` of them have different answers; `moves` counts the changes
    by (old, new) answer.
    """

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
    """An answer without surrounding spaces; `07` and `7.0` become `7`."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return str(int(whole[1])) if whole else text


def load_answers(path: Path, competition: Competition) -> Answers:
    """Read a prediction CSV.

    Raises DataError for a missing file or column, RefusedError for an id that is listed twice.
    """
    columns = (competition.id_column, competition.label_column)
    ids: list[str] = []
    answers: list[str] = []
    for names, texts in read_columns(path, columns):
        # each different text is normalized once: there are few, and many rows
        normalized = {text: normalize_answer(text) for text in set(texts)}
        ids += names
        answers += map(normalized.__getitem__, texts)
    if not _is_sorted(ids) and len(set(ids)) != len(ids):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        raise RefusedError(
            f"{path}: {_list_some(twice, 'id')} listed twice",
            hint="every image needs exactly one row",
        )
    return Answers(ids, answers)


def _is_sorted(names: Sequence[str]) -> bool:
    """Whether each name is greater than the one before it, so that they are sorted and unique."""
    return all(map(operator.lt, names, itertools.islice(names, 1, None)))


def unpack_answers(packed: str) -> Answers:
    """The inverse of `Answers.pack`."""
    text = zlib.decompress(base64.b64decode(packed)).decode()
    return Answers.of(dict(csv.reader(io.StringIO(text, newline=""))))


def check_answers(answers: Answers, competition: Competition, ids: Sequence[str] | None) -> None:
    """Raise RefusedError unless the ids are exactly `ids` (if known) and every answer is valid."""
    if not answers.ids:
        raise RefusedError("the prediction file has no rows")
    if ids is not None:
        missing = sorted(set(ids) - set(answers.by_id))
        foreign = sorted(set(answers.by_id) - set(ids))
        if missing:
            raise RefusedError(
                f"{_list_some(missing, 'image')} without a prediction", hint="predict every image"
            )
        if foreign:
            raise RefusedError(
                f"{_list_some(foreign, 'id')} not in the competition",
                hint="submit only the ids of the competition",
            )
    valid = set(competition.answer_words)
    wrong = []
    for name, answer in answers.by_id.items():
        if answer not in valid:
            wrong.append(f"{name}={answer[:MAX_ANSWER_CHARS]!r}")
    if wrong and valid:
        known = ", ".join(competition.answer_words[:20])
        raise RefusedError(
            f"{_list_some(sorted(wrong), 'answer')} unknown: expected one of {known}",
            hint=_explain_answers(competition),
        )


def _explain_answers(competition: Competition) -> str:
    """The hint that says what an answer is in this competition: class names, or their numbers."""
    words, classes = competition.answer_words, competition.classes
    if tuple(words) == tuple(classes):
        return "write the name of the class"
    pairs = [f"{word} is {name}" for word, name in zip(words, classes, strict=True)]
    return f"write the number of the class: {', '.join(pairs[:20])}"


def diff_answers(old: Answers, new: Answers) -> AnswerDiff:
    """Compare the answers of the images that are in both tables."""
    total = 0
    moves: Counter[tuple[str, str]] = Counter()
    for name, after in new.by_id.items():
        before = old.by_id.get(name)
        if before is None:
            continue
        total += 1
        if before != after:
            moves[before, after] += 1
    return AnswerDiff(total, sum(moves.values()), dict(moves.most_common()))


def _list_some(names: Sequence[str], noun: str) -> str:
    """`7 images (a, b, c, d, e and 2 more)`."""
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{render_count(len(names), noun)} ({', '.join(names[:MAX_LISTED])}{rest})"
