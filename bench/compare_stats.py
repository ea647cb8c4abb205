"""What do the statistics of `tracker diff` cost, against `import pandas`?

Two runs have validation images of 18 classes, one in five wrong; the statistics take 10,000
resamples. Competitions of log loss (18 classes) and of ROC AUC (two classes) take 2,000 of these,
too. Times of whole processes in turn: `diff`, `diff --no-stats`, and an interpreter that
imports pandas. The goal is about the difference of the first two, for 10,000 images. The limit is
what a bootstrap that draws image by image cannot save: copying a float for each image and resample.
What commands keep of the statistics of two runs is taken away before each `diff`.
"""

from __future__ import annotations

import argparse
import itertools
import shutil
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from compare_runs import make_run
from figures import Row, record
from timing import print_table, run_process, time_calls

from tracker.comparison.compared_pairs import FOLDER
from tracker.comparison.statistics import outcomes, paired
from tracker.core.settings import quiet_libraries
from tracker.setup.init import init_workspace
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace

CLASSES = {"f1": 18, "log_loss": 18, "roc_auc": 2}
GOALS = {"f1": 1.5, "log_loss": 3, "roc_auc": 3}
RESAMPLES = {"f1": paired.RESAMPLES, "log_loss": outcomes.RESAMPLES, "roc_auc": outcomes.RESAMPLES}
REASON = "a third is numpy's import, half are the resamples, a tenth is reading both validation.npz"
CHUNK = 100  # resamples that are copied at once: 4 MB of 10,000 images


def build(root: Path, images: int, metric: str) -> Workspace:
    """Two runs with curves, predictions, and what they said about the same validation images."""
    classes = CLASSES[metric]
    names = tuple(f"class{number}" for number in range(classes))
    competition: dict[str, Any] = {"classes": names, "name": "bench"}
    if metric != "f1":
        competition["answer"] = "columns"
    workspace = init_workspace(root, data={}, competition=competition, metrics=[metric])
    rng = np.random.default_rng(0)
    truth = rng.integers(0, classes, images)
    first = np.where(rng.random(images) < 0.8, truth, rng.integers(0, classes, images))
    second = np.where(rng.random(images) < 0.85, first, rng.integers(0, classes, images))
    ids = tuple(f"{number:06d}_female_Asian_45/mask{number % 5}.jpg" for number in range(images))
    for number, guesses in enumerate((first, second), start=1):
        make_run(workspace, 0.001 * number)
        scores = rng.random((images, classes)).astype(np.float32)
        scores[np.arange(images), guesses] = 2
        path = workspace.runs_dir / f"exp{number}" / "validation.npz"
        save_probabilities(path, Predictions(ids, scores, names, labels=truth, logits=scores))
    return workspace


def measure_copying(images: int, resamples: int) -> float:
    """Seconds to copy a float for each image and resample."""
    source = np.ones((CHUNK, images), dtype=np.float32)
    target = np.empty_like(source)
    started = time.perf_counter()
    for _ in range(resamples // CHUNK):
        np.copyto(target, source)
    return time.perf_counter() - started


def measure(workspace: Workspace, rounds: int) -> dict[str, float]:
    """Median seconds of `diff` that compares the two runs for the first time, and of the others."""
    diff = [sys.executable, "-P", "-m", "tracker.cli", "diff", "exp1", "exp2"]

    def run(*words: str) -> None:
        run_process(words, cwd=workspace.root)

    def compare_anew() -> None:
        shutil.rmtree(workspace.root / ".tracker" / FOLDER, ignore_errors=True)
        run(*diff)

    calls = {
        "diff": compare_anew,
        "plain": lambda: run(*diff, "--no-stats"),
        "pandas": lambda: run(sys.executable, "-c", "import pandas"),
    }
    return time_calls(calls, rounds=rounds)


def judge(metric: str, images: int, medians: Mapping[str, float]) -> Row:
    """The verdict over the statistics of a competition of this metric."""
    cost, pandas = medians["diff"] - medians["plain"], medians["pandas"]
    resamples = RESAMPLES[metric]
    copying = measure_copying(images, resamples)
    return Row(
        f"statistics of the first `tracker diff` of two runs, {metric}, {images:,} images,"
        f" {resamples:,} resamples",
        f"{cost * 1e3:.0f} ms",
        f"`import pandas` {pandas * 1e3:.0f} ms",
        f"{copying * 1e3:.0f} ms (copying a float for each image and resample)",
        f"{GOALS[metric]:g} times `import pandas`",
        cost <= GOALS[metric] * pandas,
        REASON,
    )


def main() -> None:
    """Print the medians, and the ratio that the goal is about."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--images", type=int, nargs="+", default=[3_780, 10_000])
    arguments = parser.parse_args()
    quiet_libraries()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for metric, images in itertools.product(CLASSES, arguments.images):
            workspace = build(Path(folder) / f"{metric}{images}", images, metric)
            medians = measure(workspace, arguments.rounds)
            record([judge(metric, images, medians)])
            cost = medians["diff"] - medians["plain"]
            figures = [f"{seconds * 1e3:.0f}" for seconds in (*medians.values(), cost)]
            rows.append(
                (
                    metric,
                    f"{images:,}",
                    *figures,
                    f"{cost / medians['pandas']:.2f}",
                    f"{GOALS[metric]:g}",
                )
            )
    columns = (
        "metric",
        "images",
        "diff, ms",
        "diff --no-stats, ms",
        "import pandas, ms",
        "statistics, ms",
        "ratio to pandas",
        "goal",
    )
    print_table(f"Statistics of diff, {arguments.rounds} rounds", columns, rows)


if __name__ == "__main__":
    main()
