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
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.tracker_toml import Competition

MAX_LISTED = 5  # ids or answers that an error lists
MAX_ANSWER_CHARS = 50  # characters of an unknown answer that an error shows
ROWS_PER_PART = 1000  # rows that are joined and encoded at a time
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
    by (old, new) answer, where answers are classes. Where they are numbers, `greatest` is the
    largest difference of one number, and `rank_correlation` Spearman's, of the column where it is
    lowest; None where every number of a table is the same.
    """

    total: int
    changed: int
    moves: Mapping[tuple[str, str], int]
    greatest: float | None = None
    rank_correlation: float | None = None

    @property
    def equal_share(self) -> float:
        """Share of images with the same answer."""
        return 1 - self.changed / self.total if self.total else 0.0


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _NEEDS_QUOTES.search(text) else text


def load_answers(path: Path, competition: Competition) -> Answers:
    """Read a prediction CSV.

    Raises DataError for a missing file or column, RefusedError for an id that is listed twice.
    """
    kind = find_answer_kind(competition)
    ids: list[str] = []
    answers: list[str] = []
    for names, *cells in read_columns(path, (competition.id_column, *competition.value_columns)):
        ids += names
        answers += kind.read(cells, competition)
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
    kind = find_answer_kind(competition)
    reasons = {text: kind.find_wrong(text, competition) for text in set(answers.answers)}
    wrong = [(name, text) for name, text in answers.by_id.items() if reasons[text]]
    if wrong:
        shown = [f"{name}={text[:MAX_ANSWER_CHARS]!r}" for name, text in sorted(wrong)]
        raise RefusedError(
            f"{_list_some(shown, 'answer')} {kind.wrong}: {reasons[sorted(wrong)[0][1]]}",
            hint=kind.explain(competition),
        )


def diff_answers(old: Answers, new: Answers, competition: Competition) -> AnswerDiff:
    """Compare the answers of the images that are in both tables."""
    pairs = []
    for name, after in new.by_id.items():
        before = old.by_id.get(name)
        if before is not None:
            pairs.append((before, after))
    differing = [(before, after) for before, after in pairs if before != after]
    if not find_answer_kind(competition).is_number:
        moves = Counter(differing)
        return AnswerDiff(len(pairs), len(differing), dict(moves.most_common()))
    greatest, correlation = _compare_numbers(pairs) if differing else (0.0, 1.0)
    return AnswerDiff(len(pairs), len(differing), {}, greatest, correlation)


def _compare_numbers(pairs: Sequence[tuple[str, str]]) -> tuple[float | None, float | None]:
    """(greatest difference, lowest Spearman correlation of a column) of texts with numbers."""
    import numpy as np
    from scipy.stats import rankdata

    try:
        old = np.array([list(map(float, text.split())) for text, _ in pairs])
        new = np.array([list(map(float, text.split())) for _, text in pairs])
    except ValueError:  # rows of another form, from before tracker.toml was changed
        return None, None
    if old.shape != new.shape or old.size == 0:
        return None, None
    ranks = [rankdata(table, axis=0) for table in (old, new)]
    centered = [table - table.mean(axis=0) for table in ranks]
    spread = np.sqrt((centered[0] ** 2).sum(axis=0) * (centered[1] ** 2).sum(axis=0))
    products = (centered[0] * centered[1]).sum(axis=0)
    known = spread > 0
    correlation = float((products[known] / spread[known]).min()) if known.any() else None
    return float(np.abs(old - new).max()), correlation


def _list_some(names: Sequence[str], noun: str) -> str:
    """`7 images (a, b, c, d, e and 2 more)`."""
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{render_count(len(names), noun)} ({', '.join(names[:MAX_LISTED])}{rest})"
