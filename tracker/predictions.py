"""Prediction tables: reading, checking against the competition, comparing, and their canonical fingerprint."""

from __future__ import annotations

import base64
import csv
import hashlib
import io
import itertools
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from tracker.errors import RefusedError
from tracker.workspace import Competition
from training.tables import read_columns, read_table

SHOWN = 5
PART = 1000
_WHOLE = re.compile(r"([+-]?\d+)(?:\.0*)?")
_NEEDS_QUOTES = re.compile(r'[",\r\n]')


@dataclass(frozen=True)
class Answers:
    """One answer for every image id."""

    by_id: Mapping[str, str]

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
        names = sorted(self.by_id)
        in_order = names == list(self.by_id)  # as a rule: then nothing needs to be looked up
        items = iter(self.by_id.items()) if in_order else ((name, self.by_id[name]) for name in names)
        while part := list(itertools.islice(items, PART)):
            text = "\n".join(map(",".join, part)) + "\n"
            if '"' in text or "\r" in text or text.count(",") != len(part) or text.count("\n") != len(part):
                text = "".join([f"{_quote(name)},{_quote(answer)}\n" for name, answer in part])
            yield text.encode()

    def pack(self) -> str:
        """`canonical` as text for the ledger."""
        return base64.b64encode(zlib.compress(self.canonical, 9)).decode()


@dataclass(frozen=True)
class AnswerDiff:
    """How two tables differ: images in both, those with another answer, and (from, to) counts of the changes."""

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
    """Read a prediction CSV; raises DataError for a missing file or column, RefusedError for an id listed twice."""
    columns = (competition.id_column, competition.label_column)
    by_id: dict[str, str] = {}
    rows = 0
    for names, answers in read_columns(path, columns):
        short = {answer: normalize_answer(answer) for answer in set(answers)}
        by_id.update(zip(names, map(short.__getitem__, answers), strict=True))
        rows += len(names)
    if len(by_id) != rows:
        counts = Counter(name for name, _ in read_table(path, columns))
        twice = [name for name, count in counts.items() if count > 1]
        raise RefusedError(f"{path}: {_some(twice, 'id')} listed twice", hint="every image needs exactly one row")
    return Answers(by_id)


def unpack_answers(packed: str) -> Answers:
    """The inverse of `Answers.pack`."""
    text = zlib.decompress(base64.b64decode(packed)).decode()
    return Answers(dict(row for row in csv.reader(io.StringIO(text, newline=""))))


def check_answers(answers: Answers, competition: Competition, ids: Sequence[str] | None) -> None:
    """Raise RefusedError unless the ids are exactly `ids` (when known) and every answer is a known one."""
    if not answers.by_id:
        raise RefusedError("the prediction file has no rows")
    if ids is not None:
        missing = sorted(set(ids) - set(answers.by_id))
        foreign = sorted(set(answers.by_id) - set(ids))
        if missing:
            raise RefusedError(f"{_some(missing, 'image')} without a prediction", hint="predict every image")
        if foreign:
            raise RefusedError(f"{_some(foreign, 'id')} not in the competition", hint="submit its ids only")
    words = set(competition.answer_words)
    wrong = sorted(f"{name}={answer!r}" for name, answer in answers.by_id.items() if answer not in words)
    if wrong and words:
        known = ", ".join(competition.answer_words[:20])
        raise RefusedError(f"{_some(wrong, 'answer')} unknown", hint=f"expected one of {known}")


def diff_answers(old: Answers, new: Answers) -> AnswerDiff:
    """Compare the images that are in both."""
    shared = [name for name in new.by_id if name in old.by_id]
    moves = Counter((old.by_id[name], new.by_id[name]) for name in shared if old.by_id[name] != new.by_id[name])
    return AnswerDiff(len(shared), sum(moves.values()), dict(moves.most_common()))


def _some(names: Sequence[str], word: str) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f"{len(names)} {word}{'s' * (len(names) > 1)} ({', '.join(names[:SHOWN])}{rest})"
