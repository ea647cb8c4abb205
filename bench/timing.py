"""Times commands side by side: machines are shared and noisy, so only ratios of medians of one run
mean anything."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Hashable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypeVar

from rich.console import Console
from rich.table import Table

Name = TypeVar("Name", bound=Hashable)
READ_FILES = """
import sys
with open(sys.argv[1]) as listing:
    for line in listing:
        with open(line[:-1], "rb") as file:
            file.read()
"""
QUIET = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "true",
    "NO_ALBUMENTATIONS_UPDATE": "1",
}


def time_commands(
    commands: Mapping[str, Sequence[str]], *, rounds: int, cwd: Path | None = None
) -> dict[str, float]:
    """Median seconds of whole processes; every round runs each command once, after a round that
    does not count."""

    def run(words: Sequence[str]) -> Callable[[], None]:
        return lambda: run_process(words, cwd=cwd)

    return time_calls({name: run(words) for name, words in commands.items()}, rounds=rounds)


def time_calls(
    calls: Mapping[Name, Callable[[], None]], *, rounds: int, warm: Collection[Name] = ()
) -> dict[Name, float]:
    """Median seconds of each call, interleaved round by round, after a round that does not count.

    What those of `warm` read has been read before: they are not called in that round.
    """
    times: dict[Name, list[float]] = {name: [] for name in calls}
    for number in range(rounds + 1):
        for name, call in calls.items():
            if not number and name in warm:
                continue
            started = time.perf_counter()
            call()
            if number:
                times[name].append(time.perf_counter() - started)
    return {name: statistics.median(values) for name, values in times.items()}


def run_process(
    words: Sequence[str], *, cwd: Path | None = None, env: Mapping[str, str] | None = None
) -> None:
    """Run a command to its end; raises CalledProcessError when it fails."""
    settings = {**os.environ, **QUIET, **(env or {})}
    settings.pop(
        "PYTHONDONTWRITEBYTECODE", None
    )  # else our modules are compiled at every start, installed ones not
    subprocess.run(words, cwd=cwd, env=settings, check=True, capture_output=True)


def build_reading(paths: Iterable[Path], listing: Path) -> list[str]:
    """A command that only reads these files: a limit for commands that need what is in them."""
    listing.write_text("".join(f"{path}\n" for path in paths))
    return [sys.executable, "-I", "-c", READ_FILES, str(listing)]


class Cost(NamedTuple):
    """What a process took, in seconds: of the processors, and of the clock."""

    cpu: float
    wall: float


def measure_process(words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> Cost:
    """What a process takes; raises CalledProcessError when it fails."""
    started = time.perf_counter()
    child = subprocess.Popen(
        words, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    wall = time.perf_counter() - started
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(words))
    return Cost(usage.ru_utime + usage.ru_stime, wall)


def print_ratios(
    title: str, medians: Mapping[str, float], *, base: str, unit: str = "ms", scale: float = 1e3
) -> None:
    """A table of medians and their ratio to `base`."""
    rows = [
        (name, f"{median * scale:.1f}", f"{median / medians[base]:.2f}")
        for name, median in medians.items()
    ]
    print_table(title, ("what", f"median {unit}", f"ratio to {base}"), rows)


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """A plain table on stdout."""
    table = Table(title=title, title_justify="left")
    for column in columns:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    Console(width=110).print(table)
