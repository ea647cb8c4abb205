"""The index of very many runs that this thread looks at now, and what it remembers of them.

index.py has the index, and is loaded where there are so many runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from tracker.run_folder.record import RUN_NAME, list_run_numbers

if TYPE_CHECKING:
    from tracker.run_folder.index import Reader, RunIndex

T = TypeVar("T")
FEWEST = 500  # of fewer runs the folders are read as quickly, and SQLite need not be loaded


class _Held(threading.local):
    """The indexes by their folders, None where there is none, and what `remember` has of each."""

    def __init__(self) -> None:
        self.indexes: dict[Path, RunIndex | None] = {}
        self.memories: dict[Path, dict[Any, Any]] = {}


_held = _Held()


def find_index(runs_dir: Path) -> RunIndex | None:
    """The index that is looked at now; None where nothing is, or where there is none."""
    return _held.indexes.get(runs_dir)


def find_look(runs_dir: Path, name: str) -> tuple[RunIndex, int] | None:
    """The index that is looked at now, and the number of a run of this workspace."""
    index = _held.indexes.get(runs_dir) if _held.indexes else None
    match = RUN_NAME.fullmatch(name) if index is not None else None
    return (index, int(match[1])) if index is not None and match else None


@contextmanager
def hold_look(runs_dir: Path, read: Reader) -> Iterator[RunIndex | None]:
    """The index, up to date; None for few runs, and where none can be had.

    Inside, `find_look` has it, and the files are not looked at again.
    """
    if runs_dir in _held.indexes:
        yield _held.indexes[runs_dir]
        return
    numbers = list_run_numbers(runs_dir)
    with _open_index(runs_dir, numbers, read) if len(numbers) >= FEWEST else nullcontext() as index:
        _held.indexes[runs_dir], _held.memories[runs_dir] = index, {}
        try:
            yield index
        finally:
            del _held.indexes[runs_dir], _held.memories[runs_dir]


def _open_index(
    runs_dir: Path, numbers: Sequence[int], read: Reader
) -> AbstractContextManager[RunIndex | None]:
    from tracker.run_folder.index import open_index

    return open_index(runs_dir, numbers, read)


def remember(runs_dir: Path, key: Any, make: Callable[[], T]) -> T:
    """What `make` returns, made once for a key while the runs of one moment are looked at."""
    memory = _held.memories.get(runs_dir)
    if memory is None:
        return make()
    if key not in memory:
        memory[key] = make()
    made: T = memory[key]
    return made


def remember_of(runs_dir: Path, what: str, rows: Sequence[Any], make: Callable[[], T]) -> T:
    """`remember` for what is made of a list of rows, which nobody changes; `what` names it.

    The memory keeps the list, so that its id stays its own.
    """
    made, _ = remember(runs_dir, (what, id(rows)), lambda: (make(), rows))
    return made
