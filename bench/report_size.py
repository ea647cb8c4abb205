"""How long does `tracker report` take with 1,000 and with 5,000 submissions and as many runs, and
how large is its page?

The limit is an interpreter that reads the files of all runs and all rows of submissions and scores,
and writes as many bytes as the page has.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w
from figures import Row, record
from timing import READ_FILES, build_reading, print_ratios, run_process, time_commands

from tracker.ledger.append import open_ledger
from tracker.ledger.historical import HistoricalSubmission
from tracker.run_folder.recorder import Recorder
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict, merge
from tracker.workspace.tracker_toml import Workspace

WITHOUT_MLFLOW = """
import os, sys
os.environ["TRACKER_MLFLOW_URI"] = "http://127.0.0.1:9"  # nothing listens there
sys.argv = ["tracker", "report"]
from tracker import cli
cli.main()
"""
READ_AND_WRITE = f"""{READ_FILES}
import sqlite3
ledger = sqlite3.connect("ledger.db")
for table in ("submissions", "scores"):
    ledger.execute("SELECT * FROM " + table).fetchall()
with open("page.out", "wb") as page:
    page.write(bytes(int(sys.argv[2])))
"""
BASE, REPORT, LIMIT = "import mlflow", "tracker report", "reading and writing alone"
AWAY = f"{REPORT}, MLflow away"
GOALS = {1000: (5.0, 5.0), 5000: (10.0, 10.0)}  # submissions: seconds, MB
REASON = (
    "half of it reads and compares the runs (each run.json eight times), four tenths write the page"
)
REASON_SIZE = "each submission has its line, its memo and its change, folded or not"
MEMOS = (
    "smaller rate",
    "again with 안경 relabelled",
    "תווית מתוקנת",
    "a longer memo, as people write late at night " * 3,
)


def fill(workspace: Workspace, count: int) -> None:
    """`count` runs, each made from an earlier one with two keys changed, and submitted with four
    scores."""
    rng = random.Random(1)  # noqa: S311
    rows = []
    base = config_to_dict(Config())
    first = Recorder.create(
        workspace.runs_dir, kind="train", config=base, parent=None, note="", fingerprints={}
    )
    record = first.finish("finished")
    for number in range(1, count + 1):
        changed = {
            "optim": {"lr": rng.choice([1e-5, 2e-5, 5e-5])},
            "train": {"epochs": rng.randint(1, 15)},
        }
        config: dict[str, Any] = merge(base, changed)
        f1 = 0.78 - 0.5 / number**0.5 + rng.gauss(0, 0.02)
        parent = f"exp{rng.randint(max(1, number - 20), number - 1)}" if number > 1 else None
        summary = {"val/f1": f1, "val/accuracy": f1, "train/loss": 0.5}
        own = {
            "name": f"exp{number}",
            "uid": f"u{number}",
            "parent": parent,
            "note": rng.choice(MEMOS),
        }
        folder = workspace.runs_dir / f"exp{number}"
        folder.mkdir(exist_ok=True)
        (folder / "run.json").write_text(
            json.dumps({**record.to_dict(), **own, "summary": summary})
        )
        (folder / "config.toml").write_text(tomli_w.dumps(config))
        columns = {
            "run": own["name"],
            "run_uid": own["uid"],
            "submitted_at": record.created_at,
            "author": "ann",
        }
        figures = {
            f"{part}_{name}": rng.random()
            for part in ("train", "val")
            for name in ("loss", "accuracy", "f1")
        }
        scores = {
            (s, m): f1 + rng.gauss(0, 0.01)
            for s in ("public", "private")
            for m in ("f1", "accuracy")
        }
        memo = rng.choice(MEMOS)
        rows.append(
            HistoricalSubmission(
                number=number,
                memo=memo,
                columns={**columns, **figures},
                config=config,
                scores=scores,
            )
        )
    with open_ledger(workspace) as ledger:
        ledger.append_historical(rows, workspace.competition)


def measure(root: Path, count: int, rounds: int) -> None:
    """Print times and sizes with so many submissions."""
    workspace = init_workspace(root, data={}, competition={"classes": ["a", "b"], "name": "bench"})
    fill(workspace, count)
    tracker = [sys.executable, "-P", "-m", "tracker.cli"]
    closed = [sys.executable, "-c", WITHOUT_MLFLOW]
    run_process(closed, cwd=root)
    page_bytes = (root / "report.html").stat().st_size
    names = [f"exp{number}" for number in range(1, count + 1)]
    files = [
        workspace.runs_dir / name / file for name in names for file in ("run.json", "config.toml")
    ]
    listing = build_reading(files, root / "files.txt")[-1]
    commands = {
        BASE: [sys.executable, "-c", BASE],
        LIMIT: [sys.executable, "-I", "-c", READ_AND_WRITE, listing, str(page_bytes)],
        "tracker tree": [*tracker, "tree"],
        AWAY: closed,
        REPORT: [*tracker, "report"],
        "tracker report --md": [*tracker, "report", "--md", "report.md"],
    }
    medians = time_commands(commands, rounds=rounds, cwd=root)
    print_ratios(f"{count:,} submissions and runs", medians, base=BASE)
    for name in ("report.html", "report.md"):
        print(f"{name}: {(root / name).stat().st_size / 1e6:.2f} MB")
    record_rows(count, medians, page_bytes / 1e6)


def record_rows(count: int, medians: Mapping[str, float], page_mb: float) -> None:
    """The verdicts over the time, with MLflow and without, and over the size of the page."""
    seconds, megabytes = GOALS.get(count, (None, None))
    limit = f"{medians[LIMIT]:.2f} s (reading runs and rows, writing the bytes)"
    for name in (AWAY, REPORT):
        reached = None if seconds is None else medians[name] <= seconds
        goal = "" if seconds is None else f"{seconds:g} s"
        peer = f"`{BASE}` {medians[BASE]:.2f} s"
        what = f"`{name}`, {count:,} submissions and runs"
        record([Row(what, f"{medians[name]:.2f} s", peer, limit, goal, reached, REASON)])
    reached = None if megabytes is None else page_mb <= megabytes
    goal = "" if megabytes is None else f"{megabytes:g} MB"
    what = f"page of the report, {count:,} submissions and runs"
    record([Row(what, f"{page_mb:.2f} MB", goal=goal, reached=reached, reason=REASON_SIZE)])


def main() -> None:
    """Print times and sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, nargs="+", default=list(GOALS))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for count in arguments.rows:
            measure(Path(folder) / f"ws{count}", count, arguments.rounds)


if __name__ == "__main__":
    main()
