"""A file damaged in thousands of ways, and read: an error of ours in one line, or it is read.

`FUZZ_SECONDS` goes on for so long over each format, `FUZZ_FROM` begins at another number (make
fuzz). A find is named by its number, and made again by it.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tracker.core.errors import TrackerError

SECONDS = float(os.environ.get("FUZZ_SECONDS", "0"))
FIRST = int(os.environ.get("FUZZ_FROM", "0"))
HANG_S = 30.0 if SECONDS == 0 else 5.0  # the suite may run on a busy machine
MOST_KB = 1 << 20  # of memory
VARIANTS = 500  # about 0.4 s a format
FEW = 60  # variants of what is slow to read, or of which there are many kinds
TOKENS = [
    token.encode("utf-8", "surrogatepass")
    for token in (
        *(
            "null",
            "true",
            "-1",
            "1e999",
            "NaN",
            '"NaN"',
            '""',
            "{}",
            "[]",
            "[[[[",
            "\x00",
            "\n",
            "\r\n",
            ",",
            '"',
            "'",
        ),
        *(
            ":",
            "=",
            "[",
            "]",
            "{",
            "}",
            "9" * 30,
            "9" * 5000,
            "0x1",
            "1979-05-27T07:32:00Z",
            "07:32:00",
            "\ud800",
        ),
        *(
            "\\ud800",
            "정확도",
            "a.b.c = 1\n",
            "[[run]]\n",
            "[data]\n",
            "&a",
            "*a",
            "<<: *a\n",
            "!!int x",
            "\ufeff",
        ),
    )
]
STRANGE: tuple[Any, ...] = (
    *(
        None,
        True,
        -1,
        0,
        1.5,
        10**30,
        -(10**400),
        float("nan"),
        float("inf"),
        "",
        "x",
        "\x00",
        "\ud800",
    ),
    *([], {}, [None], {"": {}}),
)


@dataclass
class Tried:
    """What the damaged files of one format came to, for the table that `make fuzz` prints."""

    format: str
    files: int = 0
    refused: int = 0  # by an error of ours; the others were read
    longest_s: float = 0.0  # for one file
    grown_mb: int = 0  # by the process, over all files
    found: bool = True  # until the last file has been read


TRIED: list[Tried] = []


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """A line for each format, at the end of `make fuzz`."""
    if SECONDS == 0 or not TRIED:
        return
    lines = [f"{'format':<24} {'files':>8} {'refused':>8} {'longest s':>9} {'MB':>5} found"]
    lines += [
        f"{one.format:<24} {one.files:>8} {one.refused:>8} {one.longest_s:>9.2f}"
        f" {one.grown_mb:>5} {int(one.found)}"
        for one in TRIED
    ]
    files, found = sum(one.files for one in TRIED), sum(one.found for one in TRIED)
    run = f"{len(TRIED)} formats, {SECONDS:g} s each from number {FIRST}"
    for line in (*lines, f"{run}: {files} files, {found} found"):
        terminalreporter.write_line(line)


def damage_bytes(content: bytes, rng: random.Random) -> bytes:
    """One to four places changed, repeated, cut out or moved."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(data) + 1)
        end = min(len(data), start + rng.choice((1, 1, 2, 8, 60)))
        how = rng.randrange(6)
        if how == 0:
            data[start:end] = bytes(rng.randrange(256) for _ in range(end - start))
        elif how == 1:
            del data[start:end]
        elif how == 2:
            data[start:start] = rng.choice(TOKENS)
        elif how == 3:
            data[start:end] = rng.choice(TOKENS)
        elif how == 4:
            place = rng.randrange(len(data) + 1)
            data[place:place] = data[start:end]
        else:
            del data[start:]
    return bytes(data)


def damage_value(value: Any, rng: random.Random) -> Any:
    """JSON with one key or value taken out, doubled or made strange, at any depth."""
    if isinstance(value, dict) and value and rng.random() < 0.9:
        key = rng.choice(list(value))
        how = rng.randrange(4)
        if how == 0:
            return {name: item for name, item in value.items() if name != key}
        if how == 1:
            return {**value, rng.choice(("", "x", "\x00", f"{key} ")): value[key]}
        return {**value, key: damage_value(value[key], rng)}
    if isinstance(value, list) and value and rng.random() < 0.9:
        place = rng.randrange(len(value))
        return [*value[:place], damage_value(value[place], rng), *value[place + rng.randrange(2) :]]
    return rng.choice(STRANGE)


def damage(content: bytes, rng: random.Random) -> bytes:
    """`content` damaged as bytes or, where it is JSON (or a line of it is), as values."""
    lines = content.splitlines(keepends=True)
    parts = [content, *([rng.choice(lines)] if lines else [])]
    if rng.random() < 0.5:
        for part in parts:
            with contextlib.suppress(ValueError):
                changed = json.dumps(damage_value(json.loads(part), rng)).encode()
                return content.replace(part, changed + b"\n" * part.endswith(b"\n"), 1)
    return damage_bytes(content, rng)


def damaged(name: str, content: bytes, variants: int) -> Iterator[tuple[int, bytes]]:
    """Numbered variants of a file, the same ones for the same numbers; more while there is time."""
    deadline = time.monotonic() + SECONDS
    number = FIRST
    while number < FIRST + variants or time.monotonic() < deadline:
        yield number, damage(content, random.Random(f"{name} {number}"))  # noqa: S311
        number += 1


def check_damaged(
    name: str, path: Path, read: Callable[[Path], object], variants: int = VARIANTS
) -> None:
    """Read the file whole, then damaged, then put it back as it was."""
    content = path.read_bytes()
    read(path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    handler = signal.signal(signal.SIGALRM, _end_hang)
    tried = Tried(name)
    TRIED.append(tried)
    try:
        for number, changed in damaged(name, content, variants):
            path.write_bytes(changed)
            signal.setitimer(signal.ITIMER_REAL, HANG_S)
            begun = time.monotonic()
            try:
                read(path)
            except TrackerError as error:
                assert str(error), number
                tried.refused += 1
            except BaseException as error:
                raise AssertionError(
                    f"{name} {number}: {type(error).__name__}: {error}\n{changed[:2000]!r}"
                ) from error
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            tried.files += 1
            tried.longest_s = max(tried.longest_s, time.monotonic() - begun)
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            tried.grown_mb = (peak - before) // 1024
            assert peak - before < MOST_KB, f"{name} {number}: {tried.grown_mb} MB"
        tried.found = False
    finally:
        signal.signal(signal.SIGALRM, handler)
        path.write_bytes(content)


def _end_hang(*_: object) -> None:
    raise TimeoutError(f"it takes more than {HANG_S:.0f} s")
