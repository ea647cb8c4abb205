"""How long do submit and the decision about near duplicates take for tables of numbers?

Prints CPU seconds of `submit` (reading, fingerprint, checks, row) and of its decision for one
earlier submission, at 100 x 1, 10,000 x 1, 100,000 x 1 and 100,000 x 120 numbers of 16 digits.
Then CPU seconds and memory of reading and splitting 120,000 images of 3,474 classes, about four
each, as iMet has them.
"""

from __future__ import annotations

import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
from figures import Row, record
from pyarrow import csv

from tracker.ledger.read import list_packed_answers
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit
from tracker.training.config import DataConfig
from tracker.training.data.data import read_labeled
from tracker.training.data.split import split_samples
from tracker.training.formats.samples import Task
from tracker.training.tables import write_table
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.predictions import diff_unpacked, load_answers, unpack
from tracker.workspace.tracker_toml import Workspace

SIZES = ((100, 1), (10_000, 1), (100_000, 1), (100_000, 120))
ROUNDS = 20
SUBMIT_GOAL_S, DECISION_GOAL_MS = 3.0, 5.0  # at the largest size
IMAGES, CLASSES = 120_000, 3474


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


def measure_size(
    workspace: Workspace, rows: int, columns: int
) -> tuple[float, float, float, float, float]:
    """(seconds of submit, milliseconds of a decision, kilobytes of a row, seconds of reading the
    file as a table and no more, milliseconds of comparing two such rows byte by byte) of the second
    table."""
    first, second = (make_run(workspace, rows, columns, seed) for seed in (1, 2))
    submit(workspace, first, "first")
    submitted = measure(lambda: submit(workspace, second, "second"))
    packed, competition = list_packed_answers(workspace)[0][2], workspace.competition
    answers = load_answers(workspace.runs_dir / second / "predictions.csv", competition)

    def decide() -> object:
        return diff_unpacked(unpack(packed), answers, competition)

    decide()  # draws the new table's own sketch, once for all earlier submissions
    decision = statistics.median([measure(decide) for _ in range(ROUNDS)])
    path = workspace.runs_dir / second / "predictions.csv"
    read = measure(lambda: csv.read_csv(path))
    other = bytes(bytearray(packed))
    equal = statistics.median([measure(lambda: packed == other) for _ in range(ROUNDS)])
    return submitted, decision * 1000, len(packed) / 1000, read, equal * 1000


def build_rows(
    size: str, submitted: float, decision: float, read: float, equal: float
) -> list[Row]:
    """The verdicts over the largest table."""
    return [
        Row(
            f"submit a table of {size} numbers, processor time",
            f"{submitted:.2f} s",
            limit=f"{read:.2f} s (reading the CSV)",
            goal=f"{SUBMIT_GOAL_S:g} s",
            reached=submitted <= SUBMIT_GOAL_S,
            reason="each number is read, checked, rounded and hashed",
        ),
        Row(
            f"is a table of {size} numbers nearly an earlier one, for each earlier one",
            f"{decision:.2f} ms",
            limit=f"{equal:.2f} ms (comparing two such rows of the ledger)",
            goal=f"{DECISION_GOAL_MS:g} ms",
            reached=decision <= DECISION_GOAL_MS,
            reason="a sketch of the earlier table is unpacked and compared",
        ),
    ]


def write_labels(folder: Path) -> None:
    """Empty image files, and a table with one to some ten classes for each; a few are common."""
    rng, shares = np.random.default_rng(0), 1 / np.arange(1, CLASSES + 1)
    cumulated = np.cumsum(shares / shares.sum())
    rows = []
    for number in range(IMAGES):
        (folder / f"{number:08x}.png").touch()
        drawn = np.searchsorted(cumulated, rng.random(1 + rng.poisson(3))).tolist()
        rows.append((f"{number:08x}", " ".join(map(str, sorted({*drawn, number % CLASSES})))))
    write_table(folder / "labels.csv", ("id", "labels"), rows)


def measure_labels(folder: Path) -> None:
    """Print the seconds and the memory of reading and of splitting a table of several labels."""
    write_labels(folder)
    words = tuple(map(str, range(CLASSES)))
    task = Task(
        classes=words,
        id_column="id",
        label_column="labels",
        answer_words=words,
        target="labels",
    )
    config = DataConfig(format="csv", split="stratified", train_dir=str(folder), ending=".png")
    started = time.process_time()
    samples = read_labeled(config, task, root=folder)
    read = time.process_time() - started
    split = measure(lambda: split_samples(samples, config))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"{IMAGES:,} images of {CLASSES:,} classes: read in {read:.1f} s, split in {split:.1f} s,"
    )
    print(f"at most {memory:.0f} MB")


def main() -> None:
    """Print a line for each size."""
    with tempfile.TemporaryDirectory() as folder:  # first, since memory is counted at its most
        measure_labels(Path(folder))
    print(f"{'rows':>8} {'columns':>8} {'submit s':>9} {'decision ms':>12} {'row kB':>8}")
    for rows, columns in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            workspace = make_workspace(Path(folder) / "ws", columns)
            submitted, decision, size, read, equal = measure_size(workspace, rows, columns)
        print(f"{rows:>8} {columns:>8} {submitted:>9.2f} {decision:>12.2f} {size:>8.0f}")
    record(
        build_rows(f"{rows:,} x {columns}", submitted, decision, read, equal)
    )  # the last is the largest


if __name__ == "__main__":
    main()
