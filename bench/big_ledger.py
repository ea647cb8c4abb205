"""How does the ledger do with 100,000 submissions and 100,000 runs, and how fast is a fingerprint
of 1,000,000 rows?"""

from __future__ import annotations

import argparse
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from timing import print_ratios, time_commands

from tracker.core.errors import DuplicateError
from tracker.ledger.append import CHAIN, CHAINED, Draft, open_engine, open_ledger
from tracker.ledger.chain import canonical_json, row_hash, verify_ledger
from tracker.run_folder.record import RunRecord
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace

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
    """`count` runs, each submitted and scored once, chained as the ledger does it."""
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
        shared = {
            "author": "ann",
            "host": "box",
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
        append("run", {**run, **shared, "summary": "{}", "path": "runs"})
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


def measure_duplicate(workspace: Workspace, rounds: int) -> float:
    """Median milliseconds of the ledger's refusal of predictions that were sent before."""
    answers = Answers.of({"i": "0"})
    answers.__dict__["fingerprint"] = "sha256:77"
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


def measure_fingerprint(folder: Path) -> tuple[float, float]:
    """Seconds and peak megabytes of reading and fingerprinting a CSV of 1,000,000 rows."""
    path = folder / "million.csv"
    path.write_text(
        "ImageID,ans\n" + "".join(f"image{n:07d}.jpg,{n % 2}\n" for n in range(1_000_000))
    )
    done = subprocess.run(
        [sys.executable, "-c", FINGERPRINT, str(path)], capture_output=True, text=True, check=True
    )
    seconds, megabytes = done.stdout.split()
    return float(seconds), float(megabytes)


def main() -> None:
    """Print all figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--ledger-url", default="sqlite:///ledger.db")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        seconds, megabytes = measure_fingerprint(
            Path(folder)
        )  # first: a child's peak counts its parent's
        print(f"fingerprint of 1,000,000 rows: {seconds:.2f} s, {megabytes:.0f} MB")
        root = Path(folder) / "ws"
        competition = {"classes": ["a", "b"], "name": "bench"}
        workspace = init_workspace(
            root, data={}, competition=competition, ledger_url=arguments.ledger_url
        )
        fill(workspace, arguments.rows)
        tracker = str(Path(sys.executable).parent / "tracker")
        commands = {
            "import sqlalchemy": [sys.executable, "-c", "import sqlalchemy"],
            "tracker leaderboard": [tracker, "leaderboard"],
            "tracker runs": [tracker, "runs"],
        }
        medians = time_commands(commands, rounds=arguments.rounds, cwd=root)
        print_ratios(f"{arguments.rows:,} submissions and runs", medians, base="import sqlalchemy")
        print(f"a duplicate is refused in {measure_duplicate(workspace, 200):.2f} ms (median)")
        started = time.perf_counter()
        found = verify_ledger(workspace.ledger_url)
        seconds = time.perf_counter() - started
        print(
            f"verify: {found.rows:,} rows, {found.rows / seconds:,.0f} rows/s,"
            f" {found.problem or 'all agree'}"
        )


if __name__ == "__main__":
    main()
