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
from typing import TYPE_CHECKING, NamedTuple

from tracker.core.errors import RefusedError
from tracker.training.numbers import render_count
from tracker.training.tables import LINE, read_columns
from tracker.workspace.answer_kinds import find_answer_kind
from tracker.workspace.number_tables import (
    Numbers,
    correlate_ranks,
    join_answers,
    read_large,
    take_rows,
)
from tracker.workspace.tracker_toml import Competition

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MAX_LISTED = 5  # ids or answers that an error lists
MAX_ANSWER_CHARS = 50  # characters of an unknown answer that an error shows
ROWS_PER_PART = 1000  # rows that are joined and encoded at a time
# Numbers up to which a row of the ledger has the whole table: two such tables are compared in a few
# milliseconds, and the row has half a megabyte.
EXACT_NUMBERS = 30_000
# Numbers in the sample of a sketch. From 250 rows on, a rank correlation of 0.9999 moves a row by
# one place of the sample, so fewer could not tell it from 1.
SKETCH_NUMBERS = 30_720
SKETCH_ROWS, FEWEST_ROWS = 2048, 32
SUMMARIES = 4
SKETCH_MARK = "sketch1:"
NUMBERS_MARK = "numbers1:"  # before packed numbers: base64 has no colon
_NEEDS_QUOTES = re.compile(r'[",\r\n]')
_SHAPE = re.compile(rb"numbers ([0-9]{1,9}) x ([0-9]{1,9})\n")


@dataclass(frozen=True)
class Answers:
    """One answer for each image id; `ids` and `answers` have the same order, and ids are unique.

    Where every answer is of numbers, `answers` are `Numbers`. `path` is the file they were read
    from, and `file_hash` the SHA-256 of its bytes, where they were read at once.
    """

    ids: Sequence[str]
    answers: Sequence[str]
    path: Path | None = None
    file_hash: str = ""

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
        """The same bytes for the same answers, in whatever form they were written.

        `id,answer` lines in UTF-8, sorted by id; quoted as in CSV only where necessary. For numbers
        the line `numbers N x C`, N lines with the ids, sorted, and the C columns, sorted by name,
        of N float64 each, little-endian, with 0 for -0.0.
        """
        return b"".join(self._parts())

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of `canonical`: order, other columns, line ends and quoting do not matter."""
        import hashlib  # loads OpenSSL, 2 ms that lists can do without

        digest = hashlib.sha256()
        for part in self._parts():
            digest.update(part)
        return "sha256:" + digest.hexdigest()

    def _parts(self) -> Iterator[bytes]:
        """`canonical`, piece by piece."""
        if isinstance(self.answers, Numbers):
            yield from _list_number_parts(self.ids, self.answers.table)
            return
        rows: Iterable[tuple[str, str]] = zip(self.ids, self.answers, strict=True)
        items = iter(rows if _is_sorted(self.ids) else sorted(rows))
        while part := list(itertools.islice(items, ROWS_PER_PART)):
            text = "\n".join(map(",".join, part)) + "\n"
            # most files need no quotes: one look at a whole part is faster than one at each field
            plain = '"' not in text and "\r" not in text
            if not plain or {text.count(","), text.count("\n")} != {len(part)}:
                text = "".join([f"{_quote(name)},{_quote(answer)}\n" for name, answer in part])
            yield text.encode()

    @cached_property
    def sketch(self) -> Sketch:
        """What the ledger keeps of a large table of numbers."""
        return _draw_sketch(self)

    def pack(self) -> str:
        """`canonical` as text for the ledger; of a large table of numbers a sketch."""
        if isinstance(self.answers, Numbers) and self.answers.table.size > EXACT_NUMBERS:
            return self.sketch.pack()
        mark = NUMBERS_MARK if isinstance(self.answers, Numbers) else ""
        return mark + base64.b64encode(zlib.compress(self.canonical, 9)).decode()


def _list_number_parts(ids: Sequence[str], table: NDArray[np.float64]) -> Iterator[bytes]:
    """`Answers.canonical` of a table of numbers, a column at a time."""
    import numpy as np

    order = None
    if not _is_sorted(ids):
        order = np.array(sorted(range(len(ids)), key=ids.__getitem__), dtype=np.int64)
        ids = [ids[index] for index in order]
    lines = "\n".join(map(_quote, ids)) + "\n" if ids else ""
    yield f"numbers {len(ids)} x {table.shape[1]}\n{lines}".encode()
    for column in table.T:
        values = column if order is None else column[order]
        yield np.ascontiguousarray(values, dtype="<f8").tobytes()


@dataclass(frozen=True)
class Sketch:
    """What the ledger keeps of a large table of numbers; the file has the rest.

    `sample` has the rows whose ids have the lowest hashes, so two tables of the same images have
    the same rows in it. `summary` is float64 [least, greatest, mean, standard deviation; columns]
    of all `images` rows.
    """

    sample: Answers
    images: int
    fingerprint: str
    summary: NDArray[np.float64]

    def pack(self) -> str:
        """The sketch as text for the ledger."""
        columns = self.summary.shape[1]
        head = f"{self.fingerprint} {self.images} {columns}\n".encode()
        content = head + self.summary.astype("<f8").tobytes() + self.sample.canonical
        return SKETCH_MARK + base64.b64encode(zlib.compress(content, 1)).decode()


def _draw_sketch(answers: Answers) -> Sketch:
    import hashlib

    import numpy as np

    if not isinstance(answers.answers, Numbers):
        raise TypeError("only tables of numbers have a sketch")
    table = answers.answers.table
    size = min(SKETCH_ROWS, max(FEWEST_ROWS, SKETCH_NUMBERS // table.shape[1]))
    hashes = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in answers.ids]
    drawn = sorted(range(len(hashes)), key=hashes.__getitem__)[:size]
    drawn.sort(key=answers.ids.__getitem__)
    sample = Answers([answers.ids[row] for row in drawn], Numbers(table[drawn]))
    summary = np.stack(
        [table.min(axis=0), table.max(axis=0), table.mean(axis=0), table.std(axis=0)]
    )
    return Sketch(sample, len(table), answers.fingerprint, summary)


class AnswerDiff(NamedTuple):
    """The difference of two tables.

    `total` images are in both, `changed` of them have different answers; `moves` counts the changes
    by (old, new) answer, where answers are classes. Where they are numbers, `greatest` is the
    largest difference of one number, and `rank_correlation` Spearman's, of the column where it is
    lowest; None where every number of a table is the same. Of `sampled` rows where a sketch was
    compared: `changed` and `rank_correlation` are estimates then, and `greatest` is the least that
    it can be.
    """

    total: int
    changed: int
    moves: Mapping[tuple[str, str], int]
    greatest: float | None = None
    rank_correlation: float | None = None
    sampled: int = 0

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
    answers = _read_answers(path, competition)
    ids = answers.ids
    if not _is_sorted(ids) and len(set(ids)) != len(ids):
        twice = [name for name, count in Counter(ids).items() if count > 1]
        shown = _add_lines(answers, competition, twice)
        raise RefusedError(
            f"{path}: {_list_some(shown, 'id')} listed twice",
            hint="every image needs exactly one row",
        )
    return answers


def _read_answers(path: Path, competition: Competition) -> Answers:
    kind, columns = find_answer_kind(competition), competition.value_columns
    if kind.is_number:
        large = read_large(path, competition.id_column, sorted(columns))
        if large is not None:
            return Answers(large.ids, Numbers(large.table), path, large.file_hash)
    ids: list[str] = []
    parts = []
    for names, *cells in read_columns(path, (competition.id_column, *columns)):
        ids += names
        parts.append(kind.read(cells, competition))
    return Answers(ids, join_answers(parts), path)


def _is_sorted(names: Sequence[str]) -> bool:
    """Whether each name is greater than the one before it, so that they are sorted and unique."""
    return all(map(operator.lt, names, itertools.islice(names, 1, None)))


def unpack(packed: str) -> Answers | Sketch:
    """The inverse of `Answers.pack`; raises ValueError or zlib.error for another text."""
    return _unpack_sketch(packed) if packed.startswith(SKETCH_MARK) else unpack_answers(packed)


def _unpack_sketch(packed: str) -> Sketch:
    import numpy as np

    content = zlib.decompress(base64.b64decode(packed.removeprefix(SKETCH_MARK)))
    end = content.index(b"\n") + 1
    fingerprint, images, columns = content[:end].decode().split()
    start = end + 8 * SUMMARIES * int(columns)
    summary = np.frombuffer(content[end:start], dtype="<f8").reshape(SUMMARIES, int(columns))
    return Sketch(_parse_numbers(content[start:]), int(images), fingerprint, summary)


def unpack_answers(packed: str) -> Answers:
    """`unpack` of whole answers; of a sketch only its sample."""
    if packed.startswith(SKETCH_MARK):
        return _unpack_sketch(packed).sample
    content = zlib.decompress(base64.b64decode(packed.removeprefix(NUMBERS_MARK)))
    if packed.startswith(NUMBERS_MARK):
        return _parse_numbers(content)
    return Answers.of(dict(csv.reader(io.StringIO(content.decode(), newline=""))))


def _parse_numbers(content: bytes) -> Answers:
    """The answers of `Answers.canonical` of numbers; raises ValueError."""
    import numpy as np

    end = content.index(b"\n") + 1
    shape = _SHAPE.fullmatch(content[:end])
    if shape is None:
        raise ValueError("no table of numbers")
    rows, columns = int(shape[1]), int(shape[2])
    start = len(content) - 8 * rows * columns
    text = content[end:start].decode()
    # one look for a quote: reading plain lines by csv takes ten times as long
    plain = '"' not in text
    ids = text.split("\n")[:-1] if plain else [name for (name,) in csv.reader(io.StringIO(text))]
    if start < end or len(ids) != rows or len(set(ids)) != rows:
        raise ValueError("the table of numbers is cut off")
    values = np.frombuffer(content, dtype="<f8", offset=start).reshape(columns, rows)
    return Answers(ids, Numbers(values.T))


def check_answers(answers: Answers, competition: Competition, ids: Sequence[str] | None) -> None:
    """Raise RefusedError unless the ids are exactly `ids` (if known) and every answer is valid."""
    if not answers.ids:
        raise RefusedError("the prediction file has no rows")
    for problem in [] if ids is None else find_wrong_ids(answers, competition, ids):
        raise problem
    kind = find_answer_kind(competition)
    suspects = find_suspects(answers, competition)
    # each different text is looked at once: of classes there are few, and many rows
    texts = {text for _, text in suspects}
    reasons = {text: kind.find_wrong(text, competition) for text in texts}
    wrong = [(name, text) for name, text in suspects if reasons[text]]
    if wrong:
        wrong.sort()
        shown = [f"{name}={text[:MAX_ANSWER_CHARS]!r}" for name, text in wrong]
        shown = _add_lines(answers, competition, [name for name, _ in wrong], shown)
        raise RefusedError(
            f"{_list_some(shown, 'answer')} {kind.wrong}: {reasons[wrong[0][1]]}",
            hint=kind.explain(competition),
        )


def find_wrong_ids(
    answers: Answers, competition: Competition, ids: Sequence[str]
) -> list[RefusedError]:
    """What is wrong with the ids, which should be exactly `ids`: missing ones, unknown ones."""
    known, given = set(ids), set(answers.ids)
    missing, foreign = sorted(known - given), sorted(given - known)
    problems = []
    if known and len(given) > 1 and known.isdisjoint(given):
        shown = _list_some(foreign, "id")
        text = f"none of the {shown} is in the competition, whose ids are as {missing[0]}"
        return [RefusedError(text, hint="are these the predictions of other images?")]
    if missing:
        text = f"{_list_some(missing, 'image')} without a prediction"
        problems.append(RefusedError(text, hint="predict every image"))
    if foreign:
        shown = _list_some(_add_lines(answers, competition, foreign), "id")
        hint = "submit only the ids of the competition"
        problems.append(RefusedError(f"{shown} not in the competition", hint=hint))
    return problems


def find_suspects(answers: Answers, competition: Competition) -> list[tuple[str, str]]:
    """(id, answer) of the answers that may be wrong: of numbers few, of others all."""
    kind = find_answer_kind(competition)
    if not isinstance(answers.answers, Numbers):
        return list(zip(answers.ids, answers.answers, strict=True))
    if not kind.is_number or answers.answers.table.shape[1] != len(competition.value_columns):
        return list(zip(answers.ids, answers.answers, strict=True))
    if kind.find_suspects is None:
        return []
    rows = kind.find_suspects(answers.answers.table, competition).tolist()
    return [(answers.ids[row], answers.answers[row]) for row in rows]


def diff_answers(old: Answers, new: Answers, competition: Competition) -> AnswerDiff:
    """Compare the answers of the images that are in both tables."""
    if find_answer_kind(competition).is_number:
        return _diff_numbers(old, new)
    pairs = []
    for name, after in new.by_id.items():
        before = old.by_id.get(name)
        if before is not None:
            pairs.append((before, after))
    moves = Counter((before, after) for before, after in pairs if before != after)
    return AnswerDiff(len(pairs), moves.total(), dict(moves.most_common()))


def diff_unpacked(old: Answers | Sketch, new: Answers, competition: Competition) -> AnswerDiff:
    """`diff_answers` of what the ledger has of an earlier table."""
    if isinstance(old, Answers):
        return diff_answers(old, new, competition)
    if not isinstance(new.answers, Numbers):
        return diff_answers(old.sample, new, competition)
    if old.fingerprint == new.fingerprint:
        return AnswerDiff(old.images, 0, {}, 0.0, 1.0)
    sampled = diff_answers(old.sample, new.sketch.sample, competition)
    # the tables are not equal, so one row differs at least
    changed = max(1, round(old.images * (1 - sampled.equal_share)))
    greatest = sampled.greatest
    if greatest is not None and old.summary.shape == new.sketch.summary.shape:
        # no summary can move by more than the greatest difference of a number
        greatest = max(greatest, float(abs(old.summary - new.sketch.summary).max()))
    return AnswerDiff(
        old.images, changed, {}, greatest, sampled.rank_correlation, len(old.sample.ids)
    )


def _diff_numbers(old: Answers, new: Answers) -> AnswerDiff:
    """The difference of two tables of numbers, of whatever form the rows are."""
    import numpy as np

    before, after = _take_shared(old, new)
    total = len(before)
    if not (isinstance(before, Numbers) and isinstance(after, Numbers)):
        # rows of another form, from before tracker.toml was changed
        return AnswerDiff(total, sum(map(operator.ne, before, after)), {})
    if before.table.shape != after.table.shape or before.table.size == 0:
        return AnswerDiff(total, total, {})
    distance = np.abs(before.table - after.table)
    changed = int(distance.any(axis=1).sum())
    if not changed:
        return AnswerDiff(total, 0, {}, 0.0, 1.0)
    correlation = correlate_ranks(before.table, after.table)
    return AnswerDiff(total, changed, {}, float(distance.max()), correlation)


def _take_shared(old: Answers, new: Answers) -> tuple[Sequence[str], Sequence[str]]:
    """The answers of the images that are in both tables, in one order."""
    if list(old.ids) == list(new.ids):
        return old.answers, new.answers
    position = {name: index for index, name in enumerate(old.ids)}
    pairs = []
    for index, name in enumerate(new.ids):
        if name in position:
            pairs.append((position[name], index))
    return take_rows(old.answers, [a for a, _ in pairs]), take_rows(
        new.answers, [b for _, b in pairs]
    )


def _add_lines(
    answers: Answers, competition: Competition, names: Sequence[str], shown: Sequence[str] = ()
) -> list[str]:
    """The ids, or the texts `shown` of them, the first few with their lines in the file."""
    texts = list(shown or names)
    if answers.path is None:
        return texts
    lines: dict[str, list[str]] = {name: [] for name in names[:MAX_LISTED]}
    for numbers, ids in read_columns(answers.path, (LINE, competition.id_column)):
        for number, name in zip(numbers, ids, strict=True):
            if name in lines:
                lines[name].append(number)
    for index, name in enumerate(names[:MAX_LISTED]):
        word = "line" if len(lines[name]) == 1 else "lines"
        texts[index] += f" in {word} {' and '.join(lines[name][:MAX_LISTED])}"
    return texts


def _list_some(names: Sequence[str], noun: str) -> str:
    """`7 images (a, b, c, d, e and 2 more)`."""
    rest = f" and {len(names) - MAX_LISTED} more" if len(names) > MAX_LISTED else ""
    return f"{render_count(len(names), noun)} ({', '.join(names[:MAX_LISTED])}{rest})"
