"""Fourteen real competitions in miniature, from `tracker init` to a scored submission.

`python bench/competitions.py` prints a table: seconds of each command, the score that the ledger
has, and its difference from scikit-learn's of the same files. One epoch of a tiny model on 28
images: the score says nothing about the model.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from tests.support.competition_way import Way, go_the_whole_way, judge
from tests.support.competitions import FOURTEEN, OTHERS, build_competition

STEPS = ("init", "data check", "train", "check", "submit", "submit again")


def run_command(words: tuple[str, ...], folder: Path) -> tuple[int, str]:
    """A tracker command in an interpreter of its own."""
    done = subprocess.run(
        [sys.executable, "-P", "-m", "tracker.cli", *words],
        cwd=folder,
        env={**os.environ, "TRACKER_MLFLOW_URI": "http://127.0.0.1:9"},  # no copy to MLflow
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def measure(name: str, folder: Path) -> tuple[Way, str, float]:
    """The way of a competition, its metric, and the difference from scikit-learn's score."""
    miniature = build_competition(name, folder, read_only=True)
    way = go_the_whole_way(miniature, folder / f"{name}-workspace", run_command)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # float32 rows that sum to 1 up to their rounding
        return way, miniature.metric, abs(way.score - judge(miniature, way))


def main() -> None:
    """Print a row for each competition."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="some of them; all when none is given")
    names = parser.parse_args().names or [*FOURTEEN, *OTHERS]
    print(f"{'competition':42}{'metric':18}{'score':>8}{'off by':>9}", end="")
    print("".join(f"{step + ' s':>16}" for step in STEPS))
    with tempfile.TemporaryDirectory() as folder:
        for name in names:
            way, metric, off = measure(name, Path(folder))
            print(f"{name:42}{metric:18}{way.score:8.4f}{off:9.0e}", end="")
            print("".join(f"{way.seconds[step]:16.1f}" for step in STEPS), flush=True)
            wrong = {step: code for step, code in way.codes.items() if code}
            if wrong != {"submit again": 3}:
                print(f"  exit codes: {wrong}")


if __name__ == "__main__":
    main()
