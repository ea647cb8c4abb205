"""How long does `tracker compare` take with 200 runs out of 10,000, against `import pandas` and
`mlflow runs list`?

Every run folder has the files of a training of 30 epochs; 40 settings with 5 seeds each among any
200 in a row, and one run in ten was submitted and scored. The limit is an interpreter that reads
run.json and config.toml of the runs in the answer and does nothing with them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import uuid
from collections.abc import Mapping
from pathlib import Path

from big_ledger import fill
from compare_runs import make_run
from figures import Row, record
from timing import build_reading, print_ratios, time_commands

from tracker.setup.init import init_workspace
from tracker.workspace.tracker_toml import Workspace

SEEDS = 5
SHOWN = 200  # without --limit
BASE = "import pandas"
REASON = (
    "half of it reads each run from the index and makes what is compared, the rest groups seeds"
)
GOAL_S, GOAL_ALL_S = 2.0, 3.0  # of 200 runs, of all


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


def list_commands(count: int) -> dict[str, list[str]]:
    """The questions to time; the range is in the middle."""
    compare = [sys.executable, "-P", "-m", "tracker.cli", "compare"]
    middle = f"exp{count // 2 + 1}..exp{count // 2 + SHOWN}"
    where = ["--where", "val/f1 > 0.75 and optim.lr < 0.03", "--sort", "val/f1"]
    return {
        BASE: [sys.executable, "-c", BASE],
        "compare (newest 200)": compare,
        f"compare {middle}": [*compare, middle],
        "compare --where --sort": [*compare, *where],
        "compare --limit 0 --where": [*compare, "--limit", "0", "--where", "optim.lr = 0.003"],
        "compare --limit 0": [*compare, "--limit", "0"],
    }


def list_limits(workspace: Workspace, count: int) -> dict[str, list[str]]:
    """Reading alone: the newest 200 runs, and all."""
    limits = {}
    for shown in (SHOWN, count):
        folders = (workspace.runs_dir / f"exp{n}" for n in range(count - shown + 1, count + 1))
        files = (folder / name for folder in folders for name in ("run.json", "config.toml"))
        limits[f"reading {shown:,} runs alone"] = build_reading(
            files, workspace.root / f"files{shown}.txt"
        )
    return limits


def judge(name: str, count: int, medians: Mapping[str, float]) -> Row:
    """The verdict over one question; a condition is asked of every run, so its limit is all."""
    goal = GOAL_ALL_S if "--limit 0" in name else GOAL_S
    read = count if "--" in name else SHOWN
    return Row(
        f"`tracker {name}`, {count:,} runs",
        f"{medians[name]:.2f} s",
        limit=f"{medians[f'reading {read:,} runs alone']:.2f} s (reading {read:,} runs' files)",
        goal=f"{goal:g} s",
        reached=medians[name] <= goal,
        reason=REASON,
    )


def main() -> None:
    """Print the medians."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, default=10_000)
    arguments = parser.parse_args()
    count = arguments.runs
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder) / "ws"
        workspace = init_workspace(
            root, data={}, competition={"classes": ["a", "b"], "name": "bench"}
        )
        make_run(workspace, 0.001)
        copy_runs(workspace, count)
        fill(workspace, count)
        commands = {**list_commands(count), **list_limits(workspace, count)}
        medians = time_commands(commands, rounds=arguments.rounds, cwd=root)
    print_ratios(f"{SHOWN} runs of {count:,}", medians, base=BASE)
    record([judge(name, count, medians) for name in commands if name.startswith("compare")])


if __name__ == "__main__":
    main()
