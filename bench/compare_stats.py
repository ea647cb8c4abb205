"""What do the statistics of `tracker diff` cost, against `import pandas`?

Two runs have validation images of 18 classes, one in five wrong; the statistics take 10,000
resamples. Whole processes in turn: `diff`, `diff --no-stats`, and an interpreter that imports
pandas. The goal is about the difference of the first two, for 10,000 images.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from compare_runs import make_run
from timing import print_table, time_commands

from tracker.core.settings import quiet_libraries
from tracker.setup.init import init_workspace
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace

CLASSES = 18
GOAL = 1.5


def build(root: Path, images: int) -> Workspace:
    """Two runs with curves, predictions, and what they said about the same validation images."""
    names = tuple(f"class{number}" for number in range(CLASSES))
    workspace = init_workspace(root, data={}, competition={"classes": names, "name": "bench"})
    rng = np.random.default_rng(0)
    truth = rng.integers(0, CLASSES, images)
    first = np.where(rng.random(images) < 0.8, truth, rng.integers(0, CLASSES, images))
    second = np.where(rng.random(images) < 0.85, first, rng.integers(0, CLASSES, images))
    ids = tuple(f"{number:06d}_female_Asian_45/mask{number % 5}.jpg" for number in range(images))
    for number, guesses in enumerate((first, second), start=1):
        make_run(workspace, 0.001 * number)
        scores = rng.random((images, CLASSES)).astype(np.float32)
        scores[np.arange(images), guesses] = 2
        path = workspace.runs_dir / f"exp{number}" / "validation.npz"
        save_probabilities(path, Predictions(ids, scores, names, labels=truth, logits=scores))
    return workspace


def main() -> None:
    """Print the medians, and the ratio that the goal is about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--images", type=int, nargs="+", default=[3_780, 10_000])
    arguments = parser.parse_args()
    quiet_libraries()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for images in arguments.images:
            workspace = build(Path(folder) / f"ws{images}", images)
            diff = [sys.executable, "-P", "-m", "tracker.cli", "diff", "exp1", "exp2"]
            commands = {
                "diff": diff,
                "plain": [*diff, "--no-stats"],
                "pandas": [sys.executable, "-c", "import pandas"],
            }
            medians = time_commands(commands, rounds=arguments.rounds, cwd=workspace.root)
            cost = medians["diff"] - medians["plain"]
            figures = [f"{seconds * 1e3:.0f}" for seconds in (*medians.values(), cost)]
            rows.append((f"{images:,}", *figures, f"{cost / medians['pandas']:.2f}"))
    columns = (
        "images",
        "diff, ms",
        "diff --no-stats, ms",
        "import pandas, ms",
        "statistics, ms",
        "ratio to pandas",
    )
    print_table(
        f"Statistics of diff, {arguments.rounds} rounds (goal: ratio under {GOAL})", columns, rows
    )


if __name__ == "__main__":
    main()
