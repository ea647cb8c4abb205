"""The page with the results of the series: docs/faults.md."""

from __future__ import annotations

import json
import os
import platform
import sqlite3
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from bench.faults.one import Verdict
from bench.faults.plan import TITLES, plan_fault
from bench.faults.scenarios import SCENARIOS

KINDS = {
    "lost": "lost",
    "torn": "torn",
    "doubled": "doubled",
    "ledger": "ledger does not verify",
    "untrue": "untrue status",
    "mlflow": "MLflow differs",
    "commands": "command ended wrongly",
}
HEAD = """\
# Random faults

<!-- Written by `python -m bench.faults --write` from what the series found: do not edit. -->

`make faults` strikes whole commands with 200 random faults: kill -9 of the training, of its
loader, of the process that copies to MLflow, of the queue; SIGTERM; a disk that is full; a folder
that becomes read-only; a file that is torn, emptied or has a flipped bit; a clock that is set
back; an MLflow server that is gone, slow or answers nonsense; a second command at the same time.
Afterwards the ordinary commands bring everything to its end, and then must hold: no logged point
and no row is lost, no file under its final name is torn, nothing was submitted or sent twice, the
ledger verifies, every status is true, a resumed training has the weights of one without a fault,
and after `tracker sync` MLflow has what the run folders have.

The seed alone says what is struck, by what and when; moments are counted in steps (files opened,
written, renamed; SQL), not in seconds. `make faults SEED=1042` repeats one fault, `make faults
SERIES=1` are the 200 with seeds from 1000 on. A series that was cut off goes on where it was.
Full disks and read-only folders are real ones, in a mount namespace of their own (`unshare`);
where a machine has none, they are skipped and counted. The clock is set back within Python: the
times of files stay the system's.

## What it has found

Mended since, each with a test of its own:

- A training that was killed between its last checkpoint and its record, and then resumed, was
  `finished` without its last epoch, and named another best epoch.
- A full disk, or kill -9, while MLflow made its tables left a database that no later sync could
  use.
- A writer of MLflow's database that died in a transaction left a journal, and every sync said
  "attempt to write a readonly database"; so did a ledger that is a restored backup.
- A read-only folder was called a bug of tracker, and MLflow's traceback of a full disk was shown.
- The later of two upgrades of a ledger at once advised to restore a backup.
- Temporary files of a run that died before its first record were never removed.

Not among these faults: a server that answers 200 to points and tags and keeps nothing. After each
batch the latest values and the tags are asked for, and the command says what was not kept
(`tests/tracker/test_mlflow_log.py`).
"""


def read_results(path: Path) -> list[Verdict]:
    """The verdicts that a series has so far."""
    if not path.is_file():
        return []
    return [Verdict(**json.loads(line)) for line in path.read_text().splitlines()]


def write_page(page: Path, series: Sequence[Path]) -> None:
    """Write the page with all series."""
    found = {path.stem.removeprefix("series-"): read_results(path) for path in series}
    everything = [verdict for verdicts in found.values() for verdict in verdicts]
    parts = [HEAD, render_machine(everything), "## The series\n", render_series(found)]
    parts += ["## What was struck by what\n", CROSS, render_cross(everything)]
    if bad := [verdict for verdict in everything if verdict.problems]:
        lines = [f"- {one.seed}, {one.scenario}, {one.fault}: {one.text}" for one in bad]
        parts += ["## What did not hold\n", "\n".join(lines) + "\n"]
    page.write_text("\n".join(parts))


CROSS = (
    "The number of faults that struck, and after which everything held; a dash: there is no such"
    " fault.\n"
)


def render_machine(verdicts: Sequence[Verdict]) -> str:
    """Machine, versions and commits."""
    commits = ", ".join(sorted({verdict.commit for verdict in verdicts} - {""}))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("torch", "mlflow", "sqlalchemy"))
    return (
        f"Measured on {platform.system()} {platform.machine()} with {os.cpu_count()} cores, Python"
        f" {platform.python_version()}, SQLite {sqlite3.sqlite_version}, {libraries}; commits"
        f" {commits}.\n"
    )


def render_series(found: dict[str, list[Verdict]]) -> str:
    """A row for each series."""
    head = ["series", "faults", "struck", "skipped", *KINDS.values(), "minutes"]
    rows = [head, ["---"] * len(head)]
    for name, verdicts in found.items():
        counts = [len(verdicts), sum(bool(one.where) for one in verdicts)]
        counts.append(sum(bool(one.skipped) for one in verdicts))
        counts += [sum(kind in one.problems for one in verdicts) for kind in KINDS]
        minutes = sum(one.seconds for one in verdicts) / 60
        rows.append([name, *map(str, counts), f"{minutes:.1f}"])
    return render_rows(rows)


def render_cross(verdicts: Sequence[Verdict]) -> str:
    """Scenarios by faults."""
    struck: Counter[tuple[str, str]] = Counter()
    held: Counter[tuple[str, str]] = Counter()
    for verdict in verdicts:
        place = (verdict.scenario, plan_fault(verdict.seed).kind)
        struck[place] += bool(verdict.where)
        held[place] += bool(verdict.where) and not verdict.problems
    rows = [["", *TITLES.values()], ["---"] * (1 + len(TITLES))]
    for scenario in SCENARIOS:
        row = [scenario.name]
        for kind in TITLES:
            place = (scenario.name, kind)
            known = kind in scenario.kinds or (kind == "server" and scenario.asks_mlflow)
            whole = str(struck[place])
            cell = whole if held[place] == struck[place] else f"{held[place]} of {whole}"
            row.append(cell if known else "-")
        rows.append(row)
    return render_rows(rows)


def render_rows(rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
