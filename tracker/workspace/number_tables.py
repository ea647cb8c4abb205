"""Tables of numbers, a row for each image: ten rows, or a hundred thousand of 120 numbers each."""

from __future__ import annotations

import codecs
import itertools
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, overload

from tracker.training.files import check_regular
from tracker.training.libraries import is_installed

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
# Bytes of a file from which on it is worth the tenth of a second of importing pyarrow
LARGE_FILE = 1_000_000
BLOCK = 16_000_000  # bytes that pyarrow reads at a time
RANKED_AT_ONCE = 1_000_000  # numbers whose ranks are made at a time: bounds the memory


def is_number(text: str) -> bool:
    """Whether a text without blanks around it is a finite decimal number."""
    return NUMBER.fullmatch(text) is not None and math.isfinite(float(text))


def render_shortest(value: float) -> str:
    """The shortest decimals that are this number: `0.5`, and `1` for 1.0."""
    return repr(value).removesuffix(".0") if value else "0"


class Numbers(Sequence[str]):
    """The rows of a table as texts, which are made when they are asked for.

    `table` is float64 [images, columns]; the text of a row has its numbers in shortest decimals
    with spaces between.
    """

    def __init__(self, table: NDArray[np.float64]) -> None:
        self.table = table

    def __len__(self) -> int:
        """The number of images."""
        return len(self.table)

    @overload
    def __getitem__(self, index: int) -> str: ...
    @overload
    def __getitem__(self, index: slice) -> Numbers: ...
    def __getitem__(self, index: int | slice) -> str | Numbers:
        """The text of a row."""
        if isinstance(index, slice):
            return Numbers(self.table[index])
        return " ".join(map(render_shortest, self.table[index].tolist()))

    def __iter__(self) -> Iterator[str]:
        """The texts of all rows."""
        for row in self.table:
            yield " ".join(map(render_shortest, row.tolist()))


def join_answers(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    """The answers of several parts of a table; `Numbers` where all parts are."""
    tables = [part.table for part in parts if isinstance(part, Numbers)]
    if parts and len(tables) == len(parts):
        import numpy as np

        return Numbers(np.concatenate(tables))
    return list(itertools.chain.from_iterable(parts))


def take_rows(answers: Sequence[str], rows: Sequence[int]) -> Sequence[str]:
    """The answers of these rows."""
    if isinstance(answers, Numbers):
        return Numbers(answers.table[list(rows)])
    return [answers[row] for row in rows]


def parse_numbers(columns: Sequence[Sequence[str]]) -> NDArray[np.float64] | None:
    """The table of the cells of its columns; None where a cell is no finite number."""
    import numpy as np

    table = np.empty((len(columns[0]), len(columns)), order="F")
    for index, column in enumerate(columns):
        cells = list(map(str.strip, column))
        if not all(map(is_number, cells)):
            return None
        table[:, index] = list(map(float, cells))
    return table + 0.0  # -0.0 becomes 0


class ReadNumbers(NamedTuple):
    """What a fast reader found in a CSV: ids, float64 [images, columns], other columns as texts.

    `file_hash` is the SHA-256 of the file's bytes.
    """

    ids: list[str]
    table: NDArray[np.float64]
    texts: dict[str, list[str]]
    file_hash: str


def read_large(
    path: Path, id_column: str, columns: Sequence[str], texts: Sequence[str] = ()
) -> ReadNumbers | None:
    """The numbers of a large CSV by pyarrow, equal to those of `read_columns` and Python's float.

    None for a small file, and for one that the slow reader may read in another way: it is asked
    then, and it has the messages. `texts` are other columns, taken where the file has them.
    """
    try:
        check_regular(path)
        if path.stat().st_size < LARGE_FILE:
            return None
        content = path.read_bytes()
    except OSError:
        return None
    return parse_large(content, id_column, columns, texts)


def parse_large(
    content: bytes, id_column: str, columns: Sequence[str], texts: Sequence[str] = ()
) -> ReadNumbers | None:
    """`read_large` of the bytes of a file."""
    import hashlib

    import numpy as np

    header, start = _read_header(content)
    wanted = [id_column, *columns, *(name for name in texts if name in header)]
    if any(header.count(name) != 1 for name in wanted) or len(set(wanted)) != len(wanted):
        return None
    # pyarrow decodes only columns that are wanted, and skips a mark where the rows begin
    if not _is_utf8(content) or content.startswith(codecs.BOM_UTF8, start):
        return None
    found = _read_by_arrow(content, start, header, wanted, {id_column, *texts})
    if found is None or not found.num_rows:
        return None
    table = np.empty((found.num_rows, len(columns)), order="F")
    for index, name in enumerate(columns):
        first = 0
        for chunk in found.column(name).chunks:
            # adding 0 makes -0.0 a 0
            np.add(chunk.to_numpy(), 0.0, out=table[first : first + len(chunk), index])
            first += len(chunk)
        if not np.isfinite(table[:, index]).all():
            return None
    others = {name: _list_texts(found, name) for name in wanted if name in {id_column, *texts}}
    return ReadNumbers(
        others.pop(id_column), table, others, "sha256:" + hashlib.sha256(content).hexdigest()
    )


def _list_texts(found: Any, name: str) -> list[str]:
    return list(map(str.strip, found.column(name).to_pylist()))


def _read_header(content: bytes) -> tuple[list[str], int]:
    """(names of the columns, where the rows begin); no names where the line is no plain header."""
    start = content.find(b"\n") + 1
    try:
        line = content[:start].decode("utf-8-sig").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        return [], start
    names = [_unquote(cell).strip() for cell in line.split(",")]
    # a quote that is left may hold a comma or the end of a line
    return ([] if '"' in "".join(names) or "\r" in line else names), start


def _unquote(cell: str) -> str:
    quoted = len(cell) > 1 and cell[0] == cell[-1] == '"'
    return cell[1:-1] if quoted else cell


def _is_utf8(content: bytes) -> bool:
    try:
        return content.isascii() or bool(content.decode())
    except UnicodeDecodeError:
        return False


def _read_by_arrow(
    content: bytes, start: int, header: Sequence[str], wanted: Sequence[str], texts: set[str]
) -> Any:
    """The table of the rows from `start` on; None where pyarrow is missing or refuses a row."""
    if not is_installed("pyarrow"):
        return None
    import pyarrow as pa
    from pyarrow import csv as arrow

    # names that are not wanted may be there twice, which pyarrow would not take
    names = [name if name in wanted else f"\0{index}" for index, name in enumerate(header)]
    kinds = {name: pa.string() if name in texts else pa.float64() for name in wanted}
    try:
        return arrow.read_csv(
            pa.BufferReader(pa.py_buffer(memoryview(content)[start:])),
            # one thread: a process that forks later must not have others
            read_options=arrow.ReadOptions(use_threads=False, block_size=BLOCK, column_names=names),
            convert_options=arrow.ConvertOptions(
                column_types=kinds, include_columns=list(wanted), null_values=[]
            ),
        )
    except pa.ArrowException:
        return None


def correlate_ranks(old: NDArray[np.float64], new: NDArray[np.float64]) -> float | None:
    """The lowest Spearman correlation of a column of two tables [images, columns] of one shape.

    Columns that are constant in one of them do not count; None if no other is left.
    """
    import numpy as np

    lowest = []
    step = max(1, RANKED_AT_ONCE // max(1, len(old)))
    for first in range(0, old.shape[1], step):
        ranks = [rank_columns(table[:, first : first + step]) for table in (old, new)]
        spread = np.sqrt((ranks[0] ** 2).sum(axis=1) * (ranks[1] ** 2).sum(axis=1))
        products = (ranks[0] * ranks[1]).sum(axis=1)
        known = spread > 0
        if known.any():
            lowest.append(float((products[known] / spread[known]).min()))
    return min(lowest, default=None)


def rank_columns(table: NDArray[np.float64]) -> NDArray[np.float64]:
    """The ranks [columns, images] in each column less their mean; equal numbers share theirs."""
    import numpy as np

    rows = np.ascontiguousarray(table.T)
    order = np.argsort(rows, axis=1)
    ordered = np.take_along_axis(rows, order, axis=1)
    position = np.arange(rows.shape[1])
    differs = ordered[:, 1:] != ordered[:, :-1]
    edge = np.ones((len(rows), 1), dtype=bool)
    first = np.maximum.accumulate(np.where(np.hstack([edge, differs]), position, 0), axis=1)
    ends = np.where(np.hstack([differs, edge]), position, len(position))[:, ::-1]
    last = np.minimum.accumulate(ends, axis=1)[:, ::-1]
    ranks = np.empty(rows.shape)
    np.put_along_axis(ranks, order, (first + last) / 2 - (len(position) - 1) / 2, axis=1)
    return ranks
