"""How does the ledger do with 100,000 submissions and 100,000 runs, and how fast is a fingerprint
of 1,000,000 rows?

The limits are an interpreter that asks the bare SQL query, and reading and hashing the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from figures import Row, record
from timing import print_ratios, time_commands

from tracker.core.errors import DuplicateError
from tracker.ledger.append import CHAIN, CHAINED, Draft, open_engine, open_ledger
from tracker.ledger.chain import canonical_json, row_hash, verify_ledger
from tracker.run_folder.record import RunRecord
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict
from tracker.training.machine import host_name
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace

BASE, LIMIT = "import sqlalchemy", "the SQL query alone"
GOALS = {"tracker leaderboard": 3.0, "tracker runs": 3.0}  # times `import sqlalchemy`
REFUSAL_GOAL_MS, VERIFY_GOAL = 5.0, 50_000  # VERIFY_GOAL: rows a second
FINGERPRINT_GOAL_S, FINGERPRINT_GOAL_MB = 1.0, 300
REASON_FINGERPRINT = "each row is read as CSV and sorted by id before it is hashed"
REASON_LISTS = "imports are the most of it: see startup.py"
REASON_REFUSAL = (
    "an index decides in less than a millisecond; the rest is the message, which calls the run by"
    " the shortest name that no other run has: the table of runs is read, as no index has names"
)
REASON_VERIFY = (
    "each row is written as canonical JSON and hashed, by columns; SQLite looks at every page"
    " meanwhile, which takes about as long"
)
QUERY = """
import sqlite3
ledger = sqlite3.connect("ledger.db")
ledger.execute("SELECT * FROM submissions ORDER BY number DESC LIMIT 50").fetchall()
"""
DB = "ledger.db"
NOW = "2026-11-24T00:00:00.000000Z"
FINGERPRINT = """
import resource, sys, time
from pathlib import Path
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Competition
started = time.perf_counter()
load_answers(Path(sys.argv[1]), Competition(name="c", classes=("a", "b"))).fingerprint
print(time.perf_counter() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
"""


def fill(workspace: Workspace, count: int) -> None:
    """`count` runs, each submitted and scored once, chained as the ledger does it; those with odd
    numbers are this workspace's, the others a teammate's."""
    config = canonical_json(config_to_dict(Config()))
    rng = random.Random(1)  # noqa: S311
    links: list[dict[str, Any]] = []
    rows: dict[str, list[dict[str, Any]]] = {kind: [] for kind in CHAINED}

    def append(kind: str, known: dict[str, Any]) -> None:
        row = {
            column.name: known.get(column.name)
            for column in CHAINED[kind].columns
            if column.name != "seq"
        }
        link = {"seq": len(links) + 1, "kind": kind, "previous": links[-1]["hash"] if links else ""}
        links.append({**link, "hash": row_hash(link, row)})
        rows[kind].append({"seq": link["seq"], **row})

    for number in range(1, count + 1):
        is_own = number % 2
        shared = {
            "author": "ann",
            "host": host_name() if is_own else "box",
            "config": config,
            "weights_fingerprint": f"sha256:w{number}",
        }
        run = {
            "name": f"exp{number}",
            "uid": f"u{number}",
            "kind": "train",
            "status": "finished",
            "created_at": NOW,
        }
        path = f"{workspace.runs_dir.resolve() if is_own else '/elsewhere/runs'}/exp{number}"
        append("run", {**run, **shared, "summary": "{}", "path": path})
        prints = {"predictions_fingerprint": f"sha256:{number}", "file": "f.csv"}
        sent = {
            "number": number,
            "run": run["name"],
            "run_uid": run["uid"],
            "memo": "m",
            "submitted_at": NOW,
        }
        append("submission", {**sent, **prints, **shared, "val_f1": 0.5})
        for metric in ("f1", "accuracy"):
            score = {
                "submission": number,
                "split": "public",
                "metric": metric,
                "value": rng.random(),
            }
            append("score", {**score, "author": "ann", "scored_at": NOW})
    with open_engine(workspace.ledger_url) as engine, engine.begin() as connection:
        connection.execute(sa.insert(CHAIN), links)
        for kind, table in CHAINED.items():
            if rows[kind]:
                connection.execute(sa.insert(table), rows[kind])


def measure_duplicate(workspace: Workspace, rounds: int, *, of: int) -> float:
    """Median milliseconds of the ledger's refusal of predictions that are submission `of`."""
    answers = Answers.of({"i": "0"})
    answers.__dict__["fingerprint"] = f"sha256:{of}"
    draft = Draft(
        record=RunRecord(name="exp1", uid="x"), config={}, memo="m", answers=answers, file="f"
    )
    times = []
    with open_ledger(workspace) as ledger:
        for _ in range(rounds):
            started = time.perf_counter()
            try:
                ledger.append_submission(draft, workspace.competition)
            except DuplicateError:
                times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def measure_lookup(path: Path, rounds: int) -> float:
    """Median milliseconds of the bare query for one fingerprint."""
    query = "SELECT number FROM submissions WHERE predictions_fingerprint = ?"
    times = []
    for _ in range(rounds):
        started = time.perf_counter()
        ledger = sqlite3.connect(path)
        ledger.execute(query, ("sha256:77",)).fetchall()
        ledger.close()
        times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)


def measure_hashing(path: Path) -> float:
    """Rows a second that are read, written as JSON and hashed, and not compared with anything."""
    started, rows = time.perf_counter(), 0
    ledger = sqlite3.connect(path)
    for table in CHAINED.values():
        for row in ledger.execute(f"SELECT * FROM {table.name}"):
            hashlib.sha256(json.dumps(row).encode()).hexdigest()
            rows += 1
    ledger.close()
    return rows / (time.perf_counter() - started)


def measure_fingerprint(folder: Path) -> None:
    """Seconds and peak megabytes of reading and fingerprinting a CSV of 1,000,000 rows."""
    path = folder / "million.csv"
    path.write_text(
        "ImageID,ans\n" + "".join(f"image{n:07d}.jpg,{n % 2}\n" for n in range(1_000_000))
    )
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT, str(path)], capture_output=True, text=True, check=True
    )
    seconds, megabytes = map(float, done.stdout.split())
    started = time.perf_counter()
    hashlib.sha256(path.read_bytes()).hexdigest()
    limit = time.perf_counter() - started
    print(f"fingerprint of 1,000,000 rows: {seconds:.2f} s, {megabytes:.0f} MB")
    record(
        [
            Row(
                "fingerprint of a CSV of 1,000,000 rows",
                f"{seconds:.2f} s, {megabytes:.0f} MB",
                limit=f"{limit:.2f} s (reading and hashing the file)",
                goal=f"{FINGERPRINT_GOAL_S:g} s, {FINGERPRINT_GOAL_MB} MB",
                reached=seconds <= FINGERPRINT_GOAL_S and megabytes <= FINGERPRINT_GOAL_MB,
                reason=REASON_FINGERPRINT,
            )
        ]
    )


def measure_lists(workspace: Workspace, title: str, rounds: int) -> None:
    """Whole processes that list the newest submissions and runs."""
    tracker = str(Path(sys.executable).parent / "tracker")
    commands = {BASE: [sys.executable, "-c", BASE]}
    commands |= {name: [tracker, *name.split()[1:]] for name in GOALS}
    if (workspace.root / DB).exists():
        commands[LIMIT] = [sys.executable, "-I", "-c", QUERY]
    medians = time_commands(commands, rounds=rounds, cwd=workspace.root)
    print_ratios(title, medians, base=BASE)
    for name, goal in GOALS.items():
        ratio = medians[name] / medians[BASE]
        ours = f"{medians[name]:.2f} s, {ratio:.2f} times `{BASE}`"
        limit = f"{medians[LIMIT]:.2f} s ({LIMIT})" if LIMIT in medians else ""
        goal_text = f"{goal:g} times `{BASE}`"
        row = Row(f"`{name}`, {title}", ours, "", limit, goal_text, ratio <= goal, REASON_LISTS)
        record([row])


def measure_checks(workspace: Workspace, title: str) -> None:
    """The refusal of a duplicate, and the verification of the whole chain, inside a process."""
    path = workspace.root / DB
    refusals = {
        "of this workspace's run": measure_duplicate(workspace, 50, of=77),
        "of a teammate's run": measure_duplicate(workspace, 50, of=78),
    }
    for whose, taken in refusals.items():
        print(f"a duplicate {whose} is refused in {taken:.2f} ms (median)")
    started = time.perf_counter()
    found = verify_ledger(workspace.ledger_url)
    speed = found.rows / (time.perf_counter() - started)
    print(f"verify: {found.rows:,} rows, {speed:,.0f} rows/s, {found.problem or 'all agree'}")
    lookup = f"{measure_lookup(path, 200):.2f} ms ({LIMIT})" if path.exists() else ""
    hashed = f"{measure_hashing(path):,.0f} rows/s (reading and hashing)" if path.exists() else ""
    record(
        [
            *(
                Row(
                    f"a duplicate {whose} is refused, {title}",
                    f"{taken:.2f} ms",
                    limit=lookup,
                    goal=f"{REFUSAL_GOAL_MS:g} ms",
                    reached=taken <= REFUSAL_GOAL_MS,
                    reason=REASON_REFUSAL,
                )
                for whose, taken in refusals.items()
            ),
            Row(
                f"the chain is verified, {found.rows:,} rows",
                f"{speed:,.0f} rows/s",
                limit=hashed,
                goal=f"{VERIFY_GOAL:,} rows/s",
                reached=speed >= VERIFY_GOAL and not found.problem,
                reason=REASON_VERIFY,
            ),
        ]
    )


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ledger-url", default="sqlite:///ledger.db", help="limits: SQLite alone")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure_fingerprint(Path(folder))  # first: a child's peak counts its parent's
        root = Path(folder) / "ws"
        competition = {"classes": ["a", "b"], "name": "bench"}
        url = arguments.ledger_url
        workspace = init_workspace(root, data={}, competition=competition, ledger_url=url)
        fill(workspace, arguments.rows)
        title = f"{arguments.rows:,} submissions and runs"
        measure_lists(workspace, title, arguments.rounds)
        measure_checks(workspace, title)


if __name__ == "__main__":
    main()
