"""What must hold after a fault, when everything was brought to its end.

What does not hold is told in plain sentences, by kind.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from bench.faults.mlflow_copy import find_differences
from bench.faults.site import Site
from tracker.core.errors import TrackerError
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import read_rows
from tracker.run_folder.points import parse_point
from tracker.training.files import TEMPORARY
from tracker.training.predict.probabilities import load_probabilities
from tracker.training.run.checkpoint import load_checkpoint
from tracker.training.tables import read_toml
from tracker.workspace.predictions import load_answers

CHAIN = "SELECT seq, hash FROM chain ORDER BY seq"
LOST, TORN, DOUBLED, LEDGER, UNTRUE, MLFLOW = (
    *("lost", "torn", "doubled", "ledger"),
    *("untrue", "mlflow"),
)
TRAINED_BY_US = "train/batch_loss"
REFERENCE = "exp3"


@dataclass(frozen=True)
class Before:
    """What a workspace had before the fault."""

    chain: tuple[tuple[int, str], ...]
    points: dict[str, bytes]  # by run

    @classmethod
    def of(cls, site: Site) -> Before:
        """What it has now."""
        points = {}
        for path in sorted(site.root.glob("runs/*/metrics.jsonl")):
            points[path.parent.name] = path.read_bytes()
        return cls(tuple(read_chain(site)), points)


def read_chain(site: Site) -> list[tuple[int, str]]:
    """The hashes of the ledger's rows in order."""
    # not by our own reader, which refuses a ledger that is to be upgraded
    path = site.workspace.ledger_url.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(CHAIN).fetchall()


def find_problems(site: Site, before: Before, store: tuple[Path, Path]) -> dict[str, list[str]]:
    """What does not hold, by kind; empty lists are left out. `store`: MLflow's database, and the
    folder of its artifacts."""
    acknowledged = site.notes / "acknowledged"
    found: dict[str, list[str]] = {}
    looks: dict[str, Callable[[], Iterator[str]]] = {
        LOST: lambda: find_lost(site, before, acknowledged),
        TORN: lambda: find_torn(site),
        DOUBLED: lambda: find_doubled(site),
        LEDGER: lambda: find_ledger_problems(site),
        UNTRUE: lambda: find_untrue(site),
        MLFLOW: lambda: find_mlflow_problems(site, store),
    }
    for kind, look in looks.items():
        with site.settings():
            try:
                problems = list(look())
            except TrackerError as error:
                problems = [f"cannot be looked at: {error}"]
        if problems:
            found[kind] = problems
    return found


# --- Lost ---


def find_lost(site: Site, before: Before, acknowledged: Path) -> Iterator[str]:
    """Points that were on disk, rows of the ledger, and steps of a finished training."""
    chain = read_chain(site)
    if tuple(chain[: len(before.chain)]) != before.chain:
        yield "the ledger lacks rows that it had"
    for run, old in before.points.items():
        path = site.root / "runs" / run / "metrics.jsonl"
        if not path.is_file() or not path.read_bytes().startswith(old):
            yield f"{run}: points that were there before"
    if acknowledged.is_file():
        yield from find_lost_points(site, acknowledged)
    for run in site.runs:
        if run.status == "finished" and run.kind == "train" and int(run.name[3:]) > 2:
            yield from find_missing_steps(site, run.name, run.epoch)


def find_lost_points(site: Site, acknowledged: Path) -> Iterator[str]:
    """Lines that the system had taken, and that are not there."""
    lines: dict[str, Counter[str]] = {}
    for text in acknowledged.read_text().splitlines():
        name, line = json.loads(text)
        lines.setdefault(name, Counter())[line] += 1
    for name, wanted in lines.items():
        path = site.root / name
        content = path.read_text(errors="replace") if path.is_file() else ""
        lost = wanted - Counter(content.splitlines(keepends=True))
        if lost:
            yield f"{name}: {lost.total()} points, the first {next(iter(lost))!r}"


def find_missing_steps(site: Site, name: str, epochs: int) -> Iterator[str]:
    """Steps of a training that were never logged, and epochs without validation."""
    steps, validated = set(), set()
    with (site.root / "runs" / name / "metrics.jsonl").open("rb") as file:
        for line in file:
            point = parse_point(line)
            if point is None:
                continue
            if TRAINED_BY_US in point["values"]:
                steps.add(point["step"])
            if "val/f1" in point["values"]:
                validated.add(point["epoch"])
    if not steps:
        return
    if steps != set(range(1, max(steps) + 1)):
        yield f"{name}: steps {sorted(set(range(1, max(steps) + 1)) - steps)}"
    if validated != set(range(1, epochs + 1)):
        yield f"{name}: validated in epochs {sorted(validated)} of {epochs}"


# --- Torn ---


def find_torn(site: Site) -> Iterator[str]:
    """Files under their final names that cannot be read as a whole."""
    for path in sorted(site.root.rglob("*")):
        name = path.relative_to(site.root).as_posix()
        if path.is_symlink() or not path.is_file():
            continue
        if TEMPORARY.fullmatch(path.name) and "runs/" in name:
            yield f"{name} was left over"
        try:
            read_whole(path, site)
        except (TrackerError, OSError, ValueError, KeyError, sqlite3.Error) as error:
            yield f"{name}: {error}"


def read_whole(path: Path, site: Site) -> None:
    """Read a file as what its name says; raises an error of its reader."""
    readers: dict[str, Callable[[Path], object]] = {
        ".json": lambda path: json.loads(path.read_text()),
        ".toml": read_toml,
        ".jsonl": check_lines,
        ".pth": load_checkpoint,
        ".npz": load_probabilities,
        ".png": check_picture,
        ".db": check_database,
    }
    sent = path.parent.name == "submissions" and path.suffix == ".csv"
    if sent or path.name == "predictions.csv":
        load_answers(path, site.workspace.competition)
    elif path.suffix in readers and not TEMPORARY.fullmatch(path.name):
        reader = check_columns if path.name == "images.npz" else readers[path.suffix]
        reader(path)


def check_columns(path: Path) -> None:
    """Read every array of the table of checked images."""
    with np.load(path) as columns:
        for name in columns.files:
            columns[name]


def check_picture(path: Path) -> None:
    """Read all of a picture; those of some templates are empty."""
    if path.stat().st_size:
        with Image.open(path) as image:
            np.asarray(image)


def check_database(path: Path) -> None:
    """Raise ValueError for a database that SQLite does not find whole."""
    with closing(sqlite3.connect(path)) as connection:
        (answer,) = connection.execute("PRAGMA integrity_check").fetchone()
    if answer != "ok":
        raise ValueError(answer)


def check_lines(path: Path) -> None:
    """Raise ValueError for more than one line that was cut off: a fault cuts off one."""
    bad = 0
    for line in path.read_bytes().splitlines():
        try:
            json.loads(line)
        except ValueError:
            bad += 1
    if bad > 1:
        raise ValueError(f"{bad} damaged lines")


# --- Doubled ---


def find_doubled(site: Site) -> Iterator[str]:
    """What was submitted, sent or made twice."""
    url = site.workspace.ledger_url
    rows = read_rows(url, "SELECT number, predictions_fingerprint AS print FROM submissions")
    prints = Counter(row["print"] for row in rows if row["print"])
    for fingerprint, count in prints.items():
        if count > 1:
            yield f"{fingerprint} was submitted {count} times"
    numbers = sorted(row["number"] for row in rows)
    if numbers != list(range(1, len(numbers) + 1)):
        yield f"submissions are numbered {numbers}"
    uids = Counter(run.uid for run in site.runs if run.uid)
    yield from (f"the run {uid} is there {count} times" for uid, count in uids.items() if count > 1)
    notes = Counter(run.note for run in site.runs if run.status == "finished" and run.note == "one")
    if notes["one"] > 1:
        yield f"the entry of the queue was finished {notes['one']} times"
    if site.kaggle is not None:
        sent = Counter(site.kaggle.uploads[row["token"]] for row in site.kaggle.submissions)
        if sent and max(sent.values()) > 1:
            yield f"sent {max(sent.values())} times"
        if len(sent) != len(rows):
            yield f"{len(sent)} sent, {len(rows)} in the ledger"


# --- The ledger, the statuses, MLflow ---


def find_ledger_problems(site: Site) -> Iterator[str]:
    """What `ledger verify` says; a backup that is there must be one, too."""
    url = site.workspace.ledger_url
    if problem := verify_ledger(url).problem:
        yield problem
    backup = site.root / "backup.db"
    if backup.is_file() and (problem := verify_ledger(f"sqlite:///{backup}").problem):
        yield f"{backup.name}: {problem}"


def find_untrue(site: Site) -> Iterator[str]:
    """Statuses that are not true, and trainings that do not equal the one without a fault."""
    weights = {run.name: run.fingerprints.get("weights") for run in site.runs}
    indexed = read_rows(
        site.workspace.ledger_url,
        "SELECT uid, status FROM runs WHERE seq IN (SELECT max(seq) FROM runs GROUP BY uid)",
    )
    known = {row["uid"]: row["status"] for row in indexed}
    for run in site.runs:
        if run.status in ("running", "broken"):
            yield f"{run.name} is {run.status}: {run.error}"
        if run.uid in known and known[run.uid] != run.status:
            yield f"{run.name} is {run.status}, the ledger says {known[run.uid]}"
        if run.status == "finished":
            yield from find_unfinished(site, run.name)
        trained = run.status == "finished" and run.note != "one" and int(run.name[3:]) > 3
        if trained and weights[run.name] != weights[REFERENCE]:
            yield f"{run.name} has other weights than without the fault"


def find_unfinished(site: Site, name: str) -> Iterator[str]:
    """Files that a finished run lacks, or that are not those of its record."""
    folder = site.root / "runs" / name
    for file in ("best.pth", "predictions.csv", "probabilities.npz", "config.toml"):
        if not (folder / file).is_file():
            yield f"{name} is finished without {file}"
            return
    record = next(run for run in site.runs if run.name == name)
    found = load_answers(folder / "predictions.csv", site.workspace.competition).fingerprint
    if found != record.fingerprints.get("predictions"):
        yield f"{name}: predictions.csv is not that of its record"


def find_mlflow_problems(site: Site, store: tuple[Path, Path]) -> Iterator[str]:
    """Runs that MLflow has otherwise than the run folders, of those that were copied."""
    for run in site.runs:
        if (site.root / "runs" / run.name / "mlflow.json").is_file():
            yield from find_differences(site, run, *store)
