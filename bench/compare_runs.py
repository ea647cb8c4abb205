"""How long do `tracker runs`, `show` and `diff` take with 5 runs and with 10,000, against MLflow's
commands?

Both sides have the same runs: run folders here, rows of MLflow's SQLite store there. The ledger is
empty: none was submitted. All sizes are timed in turn in one run, so that they can be compared with
each other; MLflow's commands are timed at the largest. It has no `diff`: what is left to its users
is `mlflow runs describe` for each run, and `diff` is set against one of these. The limit is an
interpreter that reads the files of both runs and does nothing with them.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sqlite3
import sys
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from figures import Row, record
from timing import build_reading, print_table, run_process, time_calls

from tracker.core.settings import quiet_libraries
from tracker.mirror.copy import sync_run
from tracker.run_folder.recorder import Recorder
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict, merge
from tracker.workspace.tracker_toml import Workspace

EPOCHS = 30
LIMIT = "reading alone"
LIST, DESCRIBE = "mlflow runs list", "mlflow runs describe"
PEERS = {
    "tracker runs": LIST,
    "tracker show exp1": DESCRIBE,
    "tracker diff exp1 exp2": DESCRIBE,
}
REASON = "imports are the most of it: see startup.py"
GROWS = "`show` looks into the folder of every run for a job of Slurm that may be gone"
QUICKER_GOAL, SLOWER_GOAL = 18.0, 1.1  # than the peer; with many runs than with few


def make_run(workspace: Workspace, lr: float) -> None:
    """A finished run with a curve, as training leaves it."""
    config = merge(config_to_dict(Config()), {"optim": {"lr": lr}})
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="train",
        config=config,
        parent=None,
        note="",
        fingerprints={"data": "sha256:d"},
    )
    for epoch in range(1, EPOCHS + 1):
        values = {
            "train/loss": 1 / epoch,
            "val/loss": 1.1 / epoch,
            "val/f1": 1 - 1 / epoch,
            "val/accuracy": 0.9,
        }
        recorder.metrics(values, step=epoch, epoch=epoch)
    recorder.progress(epoch=EPOCHS, best_epoch=EPOCHS, summary=values)
    answers = "".join(
        f"i{number:05d}.png,{number % (2 + int(lr * 1000))}\n" for number in range(12_600)
    )
    (recorder.folder / "predictions.csv").write_text("ImageID,ans\n" + answers)
    recorder.finish("finished")


def copy_runs(workspace: Workspace, count: int) -> None:
    """Copies of exp1 until there are `count` run folders, and as many runs in MLflow's store."""
    first = json.loads((workspace.runs_dir / "exp1" / "run.json").read_text())
    uids = []
    for number in range(3, count + 1):
        folder = workspace.runs_dir / f"exp{number}"
        shutil.copytree(
            workspace.runs_dir / "exp1",
            folder,
            ignore=shutil.ignore_patterns("predictions.csv", "tensor*"),
        )
        uids.append(uuid.uuid4().hex)
        (folder / "run.json").write_text(
            json.dumps({**first, "name": folder.name, "uid": uids[-1]})
        )
    run_id = json.loads((workspace.runs_dir / "exp1" / "mlflow.json").read_text())["run_id"]
    with sqlite3.connect(workspace.root / "mlflow.db") as store:
        for table in ("runs", "params", "latest_metrics", "metrics", "tags"):
            copy_rows(store, table, run_id, uids)
    store.close()


def copy_rows(store: sqlite3.Connection, table: str, run_id: str, uids: list[str]) -> None:
    """Copy the rows of one run for each new run id."""
    cursor = store.execute(f"SELECT * FROM {table} WHERE run_uuid = ?", (run_id,))
    names = [column[0] for column in cursor.description]
    place = names.index("run_uuid")
    rows = cursor.fetchall()

    def renamed(uid: str) -> list[tuple[Any, ...]]:
        return [(*row[:place], uid, *row[place + 1 :]) for row in rows]

    marks = ", ".join("?" for _ in names)
    store.executemany(
        f"INSERT INTO {table} VALUES ({marks})", [row for uid in uids for row in renamed(uid)]
    )


def build(root: Path, count: int) -> Workspace:
    """A workspace with `count` runs and the same number in its MLflow store; exp1 and exp2 have
    predictions."""
    workspace = init_workspace(root, data={}, competition={"classes": ["a", "b"], "name": "bench"})
    for lr in (0.001, 0.002):
        make_run(workspace, lr)
    for name in ("exp1", "exp2"):
        sync_run(workspace, name)
    copy_runs(workspace, count)
    return workspace


def list_calls(workspace: Workspace) -> dict[str, Callable[[], None]]:
    """The commands to time in this workspace."""
    copied = json.loads((workspace.runs_dir / "exp1" / "mlflow.json").read_text())
    programs = Path(sys.executable).parent
    store = {"MLFLOW_TRACKING_URI": workspace.mlflow_uri}
    files = [file for name in ("exp1", "exp2") for file in (workspace.runs_dir / name).iterdir()]
    reading = build_reading(filter(Path.is_file, files), workspace.root / "files.txt")

    def call(line: str, *options: str) -> Callable[[], None]:
        program, *words = line.split()
        command = [str(programs / program), *words, *options]
        return lambda: run_process(command, cwd=workspace.root, env=store)

    return {
        **{line: call(line) for line in PEERS},
        LIST: call(LIST, "--experiment-id", copied["experiment_id"]),
        DESCRIBE: call(DESCRIBE, "--run-id", copied["run_id"]),
        LIMIT: lambda: run_process(reading, cwd=workspace.root),
    }


def measure(folder: Path, counts: list[int], rounds: int) -> None:
    """Print medians at every size, against MLflow's commands at the largest and against the first
    size."""
    few, many = counts[0], counts[-1]
    calls: dict[tuple[int, str], Callable[[], None]] = {}
    for count in counts:
        for name, call in list_calls(build(folder / f"ws{count}", count)).items():
            if count == many or name not in (LIST, DESCRIBE):
                calls[count, name] = call
    # copying the runs has loaded MLflow in this process already
    medians = time_calls(calls, rounds=rounds, warm=[(many, LIST), (many, DESCRIBE)])
    rows = []
    for (count, name), own in medians.items():
        peer = PEERS.get(name, "")
        quicker = f"{medians[many, peer] / own:.1f}" if peer and count == many else ""
        first = f"{own / medians[few, name]:.2f}" if (few, name) in medians else ""
        rows.append((f"{count:,}", name, f"{own * 1e3:.1f}", quicker, first))
    columns = ("runs", "what", "median ms", "times quicker than mlflow", f"ratio to {few:,} runs")
    print_table(f"Comparing runs, {rounds} rounds", columns, rows)
    for name, peer in PEERS.items():
        own = medians[many, name]
        record([judge(name, many, own, (peer, medians[many, peer]), medians[many, LIMIT])])
        if many > few and name != "tracker runs":  # which reads the newest 50, or all of 5
            ratio = own / medians[few, name]
            what = f"`{name}`, {many:,} runs against {few:,}"
            goal = f"{SLOWER_GOAL} at most"
            record([Row(what, f"{ratio:.2f}", "", "1.00", goal, ratio <= SLOWER_GOAL, GROWS)])


def judge(name: str, count: int, own: float, peer: tuple[str, float], limit: float) -> Row:
    """The verdict over a command with so many runs, against one of MLflow's."""
    command, theirs = peer
    note = ", of one run: it has no diff" if "diff" in name else ""
    return Row(
        f"`{name}`, {count:,} runs",
        f"{own:.2f} s, {theirs / own:.1f} times quicker",
        f"`{command}` {theirs:.2f} s{note}",
        f"{limit:.2f} s (reading both runs' files)",
        f"{QUICKER_GOAL:g} times quicker",
        theirs >= QUICKER_GOAL * own,
        REASON,
    )


def main() -> None:
    """Print one table for all sizes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--runs", type=int, nargs="+", default=[5, 10_000])
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), arguments.runs, arguments.rounds)


if __name__ == "__main__":
    main()
