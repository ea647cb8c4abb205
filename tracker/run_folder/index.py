"""An index of very many runs: what lists and conditions ask for, without opening each run folder.

It is `.tracker/runs.db`, and only a cache. A row counts while the files of its run have the times,
sizes and inodes that they had when they were read, and while its checksum is right; every other run
is read from its folder. Whoever reads all runs looks at the files' times first and brings the index
up to date; processes that train do not know it. A run whose record depends on more than its files
(it runs, it was killed, it is an ensemble) has a row that says so, and is always read.
"""

from __future__ import annotations

import json
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

from tracker.core.terminal import print_note
from tracker.core.version import __version__
from tracker.run_folder.record import MARKS, RunRecord, raw_fields
from tracker.run_folder.values import flatten_both, list_facts, list_fields, list_known_metrics

# Raise it when a row would be made differently of the same files; other versions are made anew.
VERSION = f"2 {__version__}"
SOURCES = ("run.json", "config.toml", MARKS)  # what a row is made of
# A file may change again within the same tick of its file system's clock: it is read anew.
YOUNG_S = 3.0
THREADS = 8  # where a file server answers late
SAMPLE = 10  # runs whose files tell how soon the disk answers
LATE_S = 1e-4  # for a run: from here on threads pay, on a local disk they take turns at the lock
BATCH = 1000  # runs that are read and written together
MANY = 5000  # runs that are read anew in more than a second
BUSY_S = 1.0  # a wait for another process that writes the index
# Of a damaged database even the text of an error may be no text: a UnicodeDecodeError.
DAMAGED = (sqlite3.Error, ValueError)
RECENT = 256  # records that are kept parsed
TABLES = """
CREATE TABLE version (text TEXT NOT NULL);
CREATE TABLE names (id INTEGER PRIMARY KEY, text TEXT NOT NULL UNIQUE, sum INTEGER NOT NULL);
CREATE TABLE configs (
    id INTEGER PRIMARY KEY, digest TEXT NOT NULL UNIQUE, names INTEGER NOT NULL,
    flat TEXT NOT NULL, sum INTEGER NOT NULL
);
CREATE TABLE tables (id INTEGER PRIMARY KEY, text TEXT NOT NULL, sum INTEGER NOT NULL);
CREATE TABLE runs (
    number INTEGER PRIMARY KEY, state INTEGER NOT NULL, uid TEXT, seal INTEGER NOT NULL,
    archived INTEGER NOT NULL, names INTEGER, config INTEGER, low TEXT, high TEXT,
    sum INTEGER NOT NULL
);
CREATE TABLE records (
    number INTEGER PRIMARY KEY, state INTEGER NOT NULL, text TEXT NOT NULL, sum INTEGER NOT NULL
);
"""


@dataclass(frozen=True)
class SettledRun:
    """A run whose record depends on nothing but its files; `tables` is None for a bad config."""

    record: RunRecord
    tables: Mapping[str, Any] | None


# The settled run of a name; None for any other, whatever the reason.
Reader = Callable[[str], SettledRun | None]


class IndexedValues(NamedTuple):
    """The wanted values of one run, the later ones first where a name is in several."""

    number: int
    uid: str
    archived: bool
    low: Mapping[str, Any]  # facts and fields
    config: Mapping[str, Any]
    high: Mapping[str, Any]  # metrics
    form: tuple[int, int | None]  # for `RunIndex.list_names`


class RunIndex:
    """The runs of a workspace at one moment; `numbers` has all of them, the newest first."""

    def __init__(
        self, runs_dir: Path, numbers: Sequence[int], database: sqlite3.Connection
    ) -> None:
        self.runs_dir, self.numbers = runs_dir, numbers
        self.is_damaged = False  # something was read that nobody wrote
        self._database = database
        # (number, state, uid, config, archived, checksum) of the runs that the index answers for
        self._rows: dict[int, tuple[Any, ...]] = {}
        self._load_config = lru_cache(maxsize=MANY)(self._load_tables)
        self._load = lru_cache(maxsize=RECENT)(self._load_record)

    def refresh(self, read: Reader) -> None:
        """Bring the index up to date, as far as it can be written."""
        states = _read_states(self.runs_dir, self.numbers)
        known = self._read_rows()
        changed = [n for n, state in states.items() if n not in known or known[n][1] != state]
        gone = known.keys() - set(self.numbers)
        if len(changed) > MANY:
            each = f"about 3 seconds for each {10_000:,}"
            print_note(f"making an index of {len(changed):,} run folders, once: {each}")
        try:
            if gone:
                self._remove(gone)
            for start in range(0, len(changed), BATCH):
                part = changed[start : start + BATCH]
                found = {number: read(f"exp{number}") for number in part}
                self._write({number: (states[number], run) for number, run in found.items()})
        except DAMAGED as error:  # or read-only, full, or another process writes
            self.note_damage(error)
        if changed:
            known = self._read_rows()
        for number, row in known.items():
            if row[2] is not None and states.get(number) == row[1]:
                self._rows[number] = row

    def _read_rows(self) -> dict[int, tuple[Any, ...]]:
        rows = self._database.execute("SELECT number, state, uid, config, archived, seal FROM runs")
        return {row[0]: row for row in rows.fetchall()}

    def _remove(self, gone: Iterable[int]) -> None:
        with _writing(self._database):
            for table in ("runs", "records"):
                numbers = [(number,) for number in gone]
                self._database.executemany(f"DELETE FROM {table} WHERE number = ?", numbers)
            self._database.execute(
                "DELETE FROM configs WHERE id NOT IN"
                " (SELECT config FROM runs WHERE config NOT NULL)"
            )
            self._database.execute("DELETE FROM tables WHERE id NOT IN (SELECT id FROM configs)")

    def _write(self, runs: Mapping[int, tuple[int, SettledRun | None]]) -> None:
        with _writing(self._database):
            rows, records = [], []
            for number, (state, run) in runs.items():
                row: tuple[Any, ...] = (number, state, None, 0, 0, *[None] * 4)
                if run is not None:
                    text = json.dumps(raw_fields(run.record))
                    records.append((number, state, text, _sum(number, state, text)))
                    row = self._build_row(number, state, run)
                rows.append((*row, _sum(*row)))
            for table, values in (("runs", rows), ("records", records)):
                marks = ", ".join("?" * len(values[0])) if values else ""
                self._database.executemany(
                    f"INSERT OR REPLACE INTO {table} VALUES ({marks})", values
                )

    def _build_row(self, number: int, state: int, run: SettledRun) -> tuple[Any, ...]:
        low = {**list_facts(run.record), **list_fields(run.record)}
        high = list_known_metrics(run.record)
        names = self._name([list(low), list(high), list(run.record.summary)])
        values = json.dumps(list(low.values())), json.dumps(list(high.values()))
        config = None if run.tables is None else self._add_config(run.tables)
        is_archived = int(run.record.archived_at is not None)
        uid = run.record.uid
        seal = _sum(number, state, uid, config, is_archived)
        return number, state, uid, seal, is_archived, names, config, *values

    def _name(self, names: Sequence[Any]) -> int:
        """The id of lists of names, which few runs have for themselves."""
        text = json.dumps(names)
        found = self._database.execute("SELECT id FROM names WHERE text = ?", (text,)).fetchone()
        if found is None:
            added = "INSERT INTO names (text, sum) VALUES (?, ?)"
            return int(self._database.execute(added, (text, _sum(text))).lastrowid or 0)
        return int(found[0])

    def _add_config(self, tables: Mapping[str, Any]) -> int:
        """The id of a config, which repeated runs share."""
        text = json.dumps(tables)
        digest = blake2b(text.encode(), digest_size=16).hexdigest()
        asked = "SELECT id FROM configs WHERE digest = ?"
        found = self._database.execute(asked, (digest,)).fetchone()
        if found is not None:
            return int(found[0])
        flat = flatten_both(tables)
        names, values = self._name(list(flat)), json.dumps(list(flat.values()))
        added = "INSERT INTO configs (digest, names, flat, sum) VALUES (?, ?, ?, 0)"
        number = int(self._database.execute(added, (digest, names, values)).lastrowid or 0)
        whole = (_sum(number, names, values), number)
        self._database.execute("UPDATE configs SET sum = ? WHERE id = ?", whole)
        self._database.execute(
            "INSERT OR REPLACE INTO tables VALUES (?, ?, ?)", (number, text, _sum(number, text))
        )
        return number

    def _find(self, number: int) -> tuple[Any, ...] | None:
        """(number, state, uid, config, archived) of a run; None where its folder has to be read."""
        *row, seal = self._rows.get(number) or (None,)
        return tuple(row) if row and self._is_right(row, seal) else None

    def find_uid(self, number: int) -> str | None:
        """The uid of a run; None where its folder has to be read."""
        row = self._find(number)
        return row[2] if row else None

    def list_archived(self) -> list[int]:
        """The numbers of the runs that are archived, or whose folders have to be read."""
        rows = {number: self._find(number) for number in self.numbers}
        return [number for number, row in rows.items() if row is None or row[4]]

    def has_all_configs(self) -> bool:
        """Whether each run that the index answers for has a config that can be read."""
        return all(row[3] is not None for row in self._rows.values())

    def list_unknown(self) -> list[int]:
        """The numbers of the runs whose folders have to be read, the newest first."""
        return [number for number in self.numbers if self._find(number) is None]

    def digest(self) -> str:
        """Another text when a file of a run that the index answers for has changed."""
        rows = [row[:2] for row in self._rows.values()]
        return blake2b(repr(rows).encode(), digest_size=16).hexdigest()

    def load_record(self, number: int) -> RunRecord | None:
        """The record of a run; None where its folder has to be read."""
        return self._load(number) if number in self._rows else None

    def _load_record(self, number: int) -> RunRecord | None:
        asked = "SELECT number, state, text, sum FROM records WHERE number = ?"
        for row in self._iterate(asked, number):
            return self._parse_record(row)
        return None

    def read_records(self) -> Iterator[tuple[int, RunRecord | None]]:
        """(number, record) of all runs, the newest first; None where the folder has to be read."""
        asked = "SELECT number, state, text, sum FROM records ORDER BY number DESC"
        for number, row in self._join(asked):
            yield number, self._parse_record(row) if row else None

    def _parse_record(self, row: tuple[Any, ...]) -> RunRecord | None:
        number, state, text, checksum = row
        known = self._rows.get(number)
        if known is None or known[1] != state:
            return None
        if not self._is_right((number, state, text), checksum):
            return None
        raw = _parse(text)
        raw["tags"] = tuple(raw["tags"])
        return RunRecord(**raw)

    def load_tables(self, number: int) -> dict[str, Any] | None:
        """The config of a run as nested tables; None where its folder has to be read.

        Runs with the same config get the same tables, which nobody changes.
        """
        row = self._find(number)
        return None if row is None or row[3] is None else self._load_config(row[3])

    def _load_tables(self, config: int) -> dict[str, Any] | None:
        asked = "SELECT text, sum FROM tables WHERE id = ?"
        for text, checksum in self._iterate(asked, config):
            if self._is_right((config, text), checksum):
                tables: dict[str, Any] = json.loads(text)
                return tables
        return None

    def read_values(self, wanted: Sequence[str]) -> Iterator[IndexedValues | int]:
        """The wanted values of all runs, the newest first; its number where a run has to be read.

        Raises ValueError where the index is damaged.
        """
        own = {key: _Places(lists, wanted) for key, lists in self._list_names().items()}
        configs = self._read_configs(wanted)
        asked = (
            "SELECT number, state, uid, seal, archived, names, config, low, high, sum FROM runs"
            " ORDER BY number DESC"
        )
        nothing: Mapping[str, Any] = {}
        found: dict[int, IndexedValues] = {}
        for row in self._iterate(asked):
            number, state, uid, _, archived, names, config, low, high, checksum = row
            known = self._rows.get(number)
            if known is None or state != known[1] or not self._is_right(row[:-1], checksum):
                continue
            places = own.get(names)
            if places is None or (config is not None and config not in configs):
                continue
            table = nothing if config is None else configs[config]
            values = (places.pick_low(low), table, places.pick_high(high))
            found[number] = IndexedValues(number, uid, bool(archived), *values, (names, config))
        for number in self.numbers:
            yield found.get(number, number)

    def _join(self, sql: str) -> Iterator[tuple[int, tuple[Any, ...] | None]]:
        """(number, row) of all runs; None where the index has no row, or cannot be read on."""
        rows = self._iterate(sql)
        row = next(rows, None)
        for number in self.numbers:
            while row is not None and row[0] > number:
                row = next(rows, None)
            is_own = row is not None and row[0] == number and number in self._rows
            yield number, row if is_own else None

    def _iterate(self, sql: str, *values: Any) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._database.execute(sql, values)
        except DAMAGED as error:  # a damaged page: the runs of the others are read
            self.note_damage(error)

    def _is_right(self, cells: Sequence[Any], checksum: int) -> bool:
        """Whether the cells of a row have the checksum that they were written with."""
        if _sum(*cells) != checksum:
            self.is_damaged = True
            return False
        return True

    def note_damage(self, error: Exception) -> None:
        """Note what an error says, unless the file was only busy, or away for a moment."""
        self.is_damaged |= not isinstance(error, sqlite3.OperationalError)

    def _list_names(self) -> dict[int, list[Any]]:
        rows = self._iterate("SELECT id, text, sum FROM names")
        return {key: json.loads(text) for key, text, sum_ in rows if self._is_right((text,), sum_)}

    def _read_configs(self, wanted: Sequence[str]) -> dict[int, Mapping[str, Any]]:
        """{id: the wanted values} of the configs; few are left of each, so that all fit."""
        lists = self._list_names()
        found: dict[int, Mapping[str, Any]] = {}
        asked = "SELECT id, names, flat, sum FROM configs"
        for key, names, flat, checksum in self._iterate(asked):
            if self._is_right((key, names, flat), checksum) and names in lists:
                places = [
                    (name, lists[names].index(name)) for name in wanted if name in lists[names]
                ]
                values = json.loads(flat) if places else ()
                found[key] = {name: values[place] for name, place in places}
        return found

    def list_names(self, forms: Iterable[tuple[int, int | None]]) -> tuple[set[str], set[str]]:
        """(the names of all values, the names of all metrics) of runs by their `form`."""
        lists = self._list_names()
        chosen = set(forms)
        names_of = dict(self._iterate("SELECT id, names FROM configs"))
        names, metrics = set[str](), set[str]()
        for key in {key for key, _ in chosen}:
            low, high, summary = lists[key]
            names.update(low, high)
            metrics.update(summary)
        for key in {names_of[config] for _, config in chosen if config is not None}:
            names.update(lists[key])
        return names, metrics


class _Places:
    """Where the wanted values are among a run's own values."""

    def __init__(self, lists: Sequence[Any], wanted: Sequence[str]) -> None:
        self._low: list[tuple[str, int]] = []
        self._high: list[tuple[str, int]] = []
        if lists and isinstance(lists[0], list):  # otherwise they are the names of a config
            low, high, _ = lists
            self._low = [(name, low.index(name)) for name in wanted if name in low]
            self._high = [(name, high.index(name)) for name in wanted if name in high]

    def pick_low(self, text: str) -> Mapping[str, Any]:
        return _pick(text, self._low)

    def pick_high(self, text: str) -> Mapping[str, Any]:
        return _pick(text, self._high)


def _pick(text: str, places: Sequence[tuple[str, int]]) -> Mapping[str, Any]:
    if not places:
        return {}
    values = _parse(text)
    return {name: values[place] for name, place in places}


def _parse(text: str) -> Any:
    """The value of a JSON text of our own: a third of the time of json.loads for a short one."""
    return _DECODER.raw_decode(text)[0]


_DECODER = json.JSONDecoder()


def _sum(*cells: Any) -> int:
    """A checksum of the cells of a row: SQLite has none, and a disk may change a bit."""
    return zlib.crc32(repr(cells).encode("utf-8", "surrogatepass"))


@contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[None]:
    database.execute("BEGIN IMMEDIATE")
    try:
        yield
    except BaseException:
        database.execute("ROLLBACK")
        raise
    database.execute("COMMIT")


def _read_states(runs_dir: Path, numbers: Sequence[int]) -> dict[int, int]:
    """{number: times, sizes and inodes of its files}, without runs that changed a moment ago."""
    limit = int((time.time() - YOUNG_S) * 1e9)

    def look(part: Sequence[int]) -> dict[int, int]:
        found = {number: _read_state(f"{runs_dir}/exp{number}", limit) for number in part}
        return {number: state for number, state in found.items() if state is not None}

    states, waits = dict[int, int](), list[float]()
    for number in numbers[:SAMPLE]:
        started = time.perf_counter()
        states |= look([number])
        waits.append(time.perf_counter() - started)
    rest = numbers[SAMPLE:]
    # the middle one: another program may have had the processor during one of them
    if not rest or sorted(waits)[SAMPLE // 2] < LATE_S:
        return states | look(rest)
    step = max(1, len(rest) // (4 * THREADS))
    parts = [rest[start : start + step] for start in range(0, len(rest), step)]
    with ThreadPoolExecutor(THREADS) as pool:
        for found in pool.map(look, parts):
            states |= found
    return states


def _read_state(folder: str, limit: int) -> int | None:
    """What tells the files of a run from later ones: a hash of 64 bits of their times, sizes and
    inodes. None without run.json, and for files younger than `limit`."""
    facts = list[int]()
    for name in SOURCES:
        try:
            one = os.stat(f"{folder}/{name}")  # noqa: PTH116 a third of the time, for very many runs
        except OSError:
            if not facts:
                return None
            facts += (0, 0, 0, 0)
            continue
        modified, changed = one.st_mtime_ns, one.st_ctime_ns
        if modified > limit or changed > limit:
            return None
        facts += (modified, changed, one.st_size, one.st_ino)
    return hash(tuple(facts))


@contextmanager
def open_index(runs_dir: Path, numbers: Sequence[int], read: Reader) -> Iterator[RunIndex | None]:
    """The index, up to date; None where none can be had.

    A damaged one is removed afterwards: else every later command would do without it.
    """
    path = runs_dir.parent / ".tracker" / "runs.db"
    database = _open(path)
    if database is None:
        yield None
        return
    with closing(database):
        found = RunIndex(runs_dir, numbers, database)
        index: RunIndex | None = None
        try:
            found.refresh(read)
            index = found
        except (*DAMAGED, TypeError, LookupError) as error:
            found.note_damage(error)
        yield index
    if found.is_damaged:
        with suppress(OSError):
            path.unlink()


def _open(path: Path) -> sqlite3.Connection | None:
    """A connection to an index of this version; a new one where it is of another, or damaged."""
    for _ in range(2):
        database = None
        try:
            database = sqlite3.connect(path, timeout=BUSY_S, isolation_level=None)
            # it is only a cache: a cut of the power may cost it
            database.execute("PRAGMA synchronous = OFF")
            if not database.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                with _writing(database):
                    for statement in TABLES.split(";\n"):
                        database.execute(statement)
                    database.execute("INSERT INTO version VALUES (?)", (VERSION,))
            if database.execute("SELECT text FROM version").fetchall() == [(VERSION,)]:
                return database
        except sqlite3.OperationalError as error:
            if "no such table" not in str(error):  # busy, read-only, or no folder
                _close(database)
                return None
        except DAMAGED:
            pass
        _close(database)
        with suppress(OSError):
            path.unlink()
    return None


def _close(database: sqlite3.Connection | None) -> None:
    if database is not None:
        database.close()
