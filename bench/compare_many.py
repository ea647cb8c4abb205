"""How long does `tracker compare` take with 200 runs out of 10,000, against `import pandas` and
`mlflow runs list`?

Every run folder has the files of a training of 30 epochs; 40 settings with 5 seeds each among any
200 in a row, and one run in ten was submitted and scored.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

from big_ledger import fill
from compare_runs import make_run
from timing import print_ratios, time_commands

from tracker.setup.init import init_workspace
from tracker.workspace.tracker_toml import Workspace

SEEDS = 5


def copy_runs(workspace: Workspace, count: int) -> None:
    """Copies of exp1 until there are `count`, with other learning rates and seeds; u1, u11, ... are
    in the ledger."""
    source = workspace.runs_dir / "exp1"
    record = json.loads((source / "run.json").read_text())
    config = (source / "config.toml").read_text()
    for number in range(2, count + 1):
        folder = workspace.runs_dir / f"exp{number}"
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns("predictions.csv"))
        uid = f"u{number}" if number % 10 == 1 else uuid.uuid4().hex
        summary = {
            name: value * (0.9 + number % 97 / 1000) for name, value in record["summary"].items()
        }
        (folder / "run.json").write_text(
            json.dumps({**record, "name": folder.name, "uid": uid, "summary": summary})
        )
        lr, seed = 0.001 * (1 + number // SEEDS % 40), number % SEEDS
        text = config.replace("lr = 0.001", f"lr = {lr}").replace("seed = 42", f"seed = {seed}")
        assert number % SEEDS == 0 or text != config
        (folder / "config.toml").write_text(text)


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=10_000)
    arguments = parser.parse_args()
    tracker = [sys.executable, "-P", "-m", "tracker.cli"]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        workspace = init_workspace(
            root, data={}, competition={"classes": ["a", "b"], "name": "bench"}
        )
        make_run(workspace, 0.001)
        copy_runs(workspace, arguments.runs)
        fill(workspace, arguments.runs)
        words = [*tracker, "compare"]
        commands = {
            "import pandas": [sys.executable, "-c", "import pandas"],
            "compare (newest 200)": words,
            "compare exp5001..exp5200": [*words, "exp5001..exp5200"],
            "compare --where --sort": [
                *words,
                "--where",
                "val/f1 > 0.75 and optim.lr < 0.03",
                "--sort",
                "val/f1",
            ],
            "compare --limit 0": [*words, "--limit", "0", "--where", "optim.lr = 0.003"],
        }
        medians = time_commands(commands, rounds=arguments.rounds, cwd=root)
        print_ratios(f"200 runs of {arguments.runs:,}", medians, base="import pandas")


if __name__ == "__main__":
    main()
