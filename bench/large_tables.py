"""How long do submit and the decision about near duplicates take for tables of numbers?

Prints CPU seconds of `submit` (reading, fingerprint, checks, row) and of its decision for one
earlier submission, at 100 x 1, 10,000 x 1, 100,000 x 1 and 100,000 x 120 numbers of 16 digits.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import csv

from tracker.ledger.read import list_packed_answers
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.predictions import diff_unpacked, load_answers, unpack
from tracker.workspace.tracker_toml import Workspace

SIZES = ((100, 1), (10_000, 1), (100_000, 1), (100_000, 120))
ROUNDS = 20


def make_workspace(root: Path, columns: int) -> Workspace:
    root.mkdir()
    return init_workspace(
        root,
        data={},
        competition={
            "id_column": "id",
            "target": "number",
            "answer": "columns",
            "answer_columns": tuple(f"c{index}" for index in range(columns)),
        },
        metrics=["rmse"],
        leaderboard="manual",
    )


def write_predictions(path: Path, rows: int, columns: int, seed: int) -> None:
    table = np.random.default_rng(seed).random((rows, columns))
    named = {f"c{index}": np.ascontiguousarray(table[:, index]) for index in range(columns)}
    csv.write_csv(pa.table({"id": [f"image{row:06}.jpg" for row in range(rows)], **named}), path)


def make_run(workspace: Workspace, rows: int, columns: int, seed: int) -> str:
    """A finished run whose predictions.csv was put there by hand, as a large one is."""
    with begin({"model": "mine"}, root=workspace.root, follow=False) as run:
        write_predictions(workspace.runs_dir / run.name / "predictions.csv", rows, columns, seed)
        run.fingerprint_predictions()
    return run.name


def measure(work: Callable[[], object]) -> float:
    """CPU seconds of a call."""
    started = time.process_time()
    work()
    return time.process_time() - started


def measure_size(workspace: Workspace, rows: int, columns: int) -> tuple[float, float, float]:
    """(seconds of submit, milliseconds of a decision, kilobytes of a row) of the second table."""
    first, second = (make_run(workspace, rows, columns, seed) for seed in (1, 2))
    submit(workspace, first, "first")
    submitted = measure(lambda: submit(workspace, second, "second"))
    packed, competition = list_packed_answers(workspace)[0][2], workspace.competition
    answers = load_answers(workspace.runs_dir / second / "predictions.csv", competition)

    def decide() -> object:
        return diff_unpacked(unpack(packed), answers, competition)

    decide()  # draws the new table's own sketch, once for all earlier submissions
    decision = statistics.median([measure(decide) for _ in range(ROUNDS)])
    return submitted, decision * 1000, len(packed) / 1000


def main() -> None:
    """Print a line for each size."""
    print(f"{'rows':>8} {'columns':>8} {'submit s':>9} {'decision ms':>12} {'row kB':>8}")
    for rows, columns in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            workspace = make_workspace(Path(folder) / "ws", columns)
            submitted, decision, size = measure_size(workspace, rows, columns)
        print(f"{rows:>8} {columns:>8} {submitted:>9.2f} {decision:>12.2f} {size:>8.0f}")


if __name__ == "__main__":
    main()
