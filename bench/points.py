"""How long does it take to copy a long run to MLflow? Against MLflow's own log_batch on the same
points, by turns."""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from figures import Row, record
from timing import print_ratios, time_calls

from tracker.core.settings import quiet_libraries
from tracker.mirror.copy import Connections, sync_run
from tracker.mirror.targets.mlflow import BATCH
from tracker.mirror.targets.mlflow_server import connect
from tracker.mirror.targets.mlflow_view import ensure_experiment
from tracker.run_folder.points import read_points
from tracker.run_folder.recorder import Recorder
from tracker.setup.init import init_workspace
from tracker.workspace.tracker_toml import Workspace

OURS, PEER, LIMIT = "tracker sync", "MLflow log_batch alone", "reading alone"


def make_run(folder: Path, steps: int) -> Workspace:
    """A workspace with one run of `steps` points of five values."""
    data = folder / "data"
    data.mkdir()
    workspace = init_workspace(
        folder / "ws", data={}, competition={"classes": ["cat", "dog"]}, leaderboard="manual"
    )
    recorder = Recorder.create(
        workspace.runs_dir, kind="train", config={}, parent=None, note="", fingerprints={}
    )
    with (recorder.folder / "metrics.jsonl").open("a") as file:
        for step in range(1, steps + 1):
            values = {
                "train/loss": 1 / step,
                "train/accuracy": step / 1e6,
                "lr": 0.1,
                "norm": step * 1.1,
                "m": step / 7,
            }
            point = {"time": 1.764e9 + step / 10, "step": step, "epoch": 1, "values": values}
            file.write(json.dumps(point) + "\n")
    recorder.finish("finished")
    return workspace


def sync_anew(workspace: Workspace) -> Callable[[], None]:
    """A call that copies the run as if it had never been copied."""

    def run() -> None:
        client = connect(workspace)
        for found in client.search_runs([ensure_experiment(client, workspace)]):
            client.delete_run(found.info.run_id)
        (workspace.runs_dir / "exp1" / "mlflow.json").unlink(missing_ok=True)
        sync_run(workspace, "exp1", Connections({"MLflow": client}))

    return run


def log_batches(workspace: Workspace) -> Callable[[], None]:
    """A call that sends the same points through MLflow's interface, 1,000 a batch, and nothing
    else."""
    from mlflow.entities import Metric

    def run() -> None:
        client = connect(workspace)
        run_id = client.create_run(ensure_experiment(client, workspace)).info.run_id
        batch = []
        for point in read_points(workspace.runs_dir / "exp1" / "metrics.jsonl"):
            time_ms = round(point["time"] * 1000)
            batch += [
                Metric(key, value, time_ms, point["step"]) for key, value in point["values"].items()
            ]
            if len(batch) >= BATCH:
                client.log_batch(run_id, metrics=batch)
                batch = []
        client.log_batch(run_id, metrics=batch)

    return run


def read_lines(workspace: Workspace) -> None:
    """Read each point, and do nothing with it."""
    with (workspace.runs_dir / "exp1" / "metrics.jsonl").open() as file:
        for line in file:
            json.loads(line)


def main() -> None:
    """Print both, in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        workspace = make_run(Path(folder), arguments.steps)
        calls = {
            OURS: sync_anew(workspace),
            PEER: log_batches(workspace),
            LIMIT: lambda: read_lines(workspace),
        }
        medians = time_calls(calls, rounds=arguments.rounds)
    title = f"{arguments.steps * 5:,} points to a SQLite file, {arguments.rounds} rounds"
    print_ratios(title, medians, base=OURS, unit="s", scale=1)
    ours, theirs = medians[OURS], medians[PEER]
    record(
        [
            Row(
                f"copy {arguments.steps * 5:,} points to MLflow's SQLite file",
                f"{ours:.1f} s, TensorBoard's events too",
                f"{PEER} {theirs:.1f} s",
                f"{medians[LIMIT]:.1f} s (reading the points' file)",
                f"half of what {PEER} takes",
                ours <= theirs / 2,
                "inserting the rows into MLflow's tables is the most of it",
            )
        ]
    )


if __name__ == "__main__":
    main()
