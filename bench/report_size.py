"""How long does `tracker report` take with 1,000 submissions and 1,000 runs, and how large is its
page?"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import tomli_w
from timing import print_ratios, time_commands

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


def main() -> None:
    """Print times and sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=1000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        fill(
            init_workspace(root, data={}, competition={"classes": ["a", "b"], "name": "bench"}),
            arguments.rows,
        )
        tracker = [sys.executable, "-P", "-m", "tracker.cli"]
        closed = [sys.executable, "-c", WITHOUT_MLFLOW]
        commands = {
            "import mlflow": [sys.executable, "-c", "import mlflow"],
            "tracker tree": [*tracker, "tree"],
            "tracker report, MLflow away": closed,
            "tracker report": [*tracker, "report"],
            "tracker report --md": [*tracker, "report", "--md", "report.md"],
        }
        medians = time_commands(commands, rounds=arguments.rounds, cwd=root)
        print_ratios(f"{arguments.rows:,} submissions and runs", medians, base="import mlflow")
        for name in ("report.html", "report.md"):
            print(f"{name}: {(root / name).stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main()
