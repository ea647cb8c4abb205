"""Does `--recipe fast` beat the plain defaults? Both are trained with the same seeds and epochs on
a folder of labeled images, and the product's own comparison says what came of it."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from scipy import stats
from timing import print_table


def call(workspace: Path, *words: str, capture: bool = False, check: bool = True) -> str:
    """Call tracker in the workspace; returns what it printed when it is captured."""
    command = [sys.executable, "-P", "-m", "tracker.cli", *words]
    done = subprocess.run(
        command, cwd=workspace, check=check, text=True, stdout=subprocess.PIPE if capture else None
    )
    return done.stdout or ""


def train_all(workspace: Path, options: argparse.Namespace) -> dict[str, list[str]]:
    """Train every seed with the defaults and with the recipe; the names of the runs by kind."""
    kinds = {"defaults": [], "recipe": ["--recipe", options.recipe]}
    names: dict[str, list[str]] = {kind: [] for kind in kinds}
    common = [f"train.epochs={options.epochs}", *options.set]
    assigned = [word for text in common for word in ("--set", text)]
    for seed in range(options.seeds):
        for kind, words in kinds.items():
            note = kind if kind == "defaults" else options.recipe
            call(
                workspace,
                *("run", "train", "--quiet", "--seed", str(seed), "--note", note),
                *words,
                *assigned,
            )
            runs = json.loads(call(workspace, "runs", "--json", "--limit", "1", capture=True))
            names[kind].append(runs[0]["name"])
    return names


def print_differences(workspace: Path, names: dict[str, list[str]], metric: str) -> None:
    """The metric by seed, and the mean difference with its paired 95 % interval."""
    runs = json.loads(call(workspace, "runs", "--json", "--limit", "0", capture=True))
    values = {run["name"]: run["metrics"][metric] for run in runs}
    found = np.array([[values[name] for name in names[kind]] for kind in names]).T
    rows = [
        (str(seed), *(f"{value:.4f}" for value in (*pair, pair[1] - pair[0])))
        for seed, pair in enumerate(found)
    ]
    print_table(metric, ("seed", *names, "difference"), rows)
    differences = found[:, 1] - found[:, 0]
    if len(differences) > 1:
        low, high = stats.t.interval(
            0.95, len(differences) - 1, loc=differences.mean(), scale=stats.sem(differences)
        )
        print(f"mean {differences.mean():+.4f}, 95 % interval {low:+.4f} to {high:+.4f}")


def main() -> None:
    """Train, then print `tracker compare`, `tracker diff` of each seed, and the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("train_dir", type=Path, help="a folder of images for each class")
    parser.add_argument("--eval-dir", type=Path, help="images/ and info.csv to predict")
    parser.add_argument("--solution", type=Path, help="the answers, for a local leaderboard")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--metric", default="val/f1")
    parser.add_argument("--set", action="append", default=[], help="section.key=value for both")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        workspace = Path(name) / "ws"
        words = ["--train-dir", str(options.train_dir.resolve()), "--no-pretrained"]
        words += ["--daily-limit", "0"]
        if options.eval_dir:
            words += ["--eval-dir", str(options.eval_dir.resolve())]
        if options.solution:
            words += ["--solution", str(options.solution.resolve())]
        call(Path(name), "init", str(workspace), *words)
        names = train_all(workspace, options)
        if options.solution:
            for run in [name for pair in zip(*names.values(), strict=True) for name in pair]:
                # equal predictions are refused, which is no error here
                words = ["--memo", "bench", "--yes", "--even-if-similar"]
                call(workspace, "submit", run, *words, check=False)
        for pair in zip(*names.values(), strict=True):
            call(workspace, "diff", *pair)
        call(workspace, "compare", "--sort", options.metric)
        print_differences(workspace, names, options.metric)


if __name__ == "__main__":
    main()
