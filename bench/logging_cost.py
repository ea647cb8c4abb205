"""What does logging four scalars cost the training loop, and what does kill -9 lose of what was logged?"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from timing import print_ratios, time_calls

from tracker.recorder import Recorder
from tracker.settings import quiet_libraries

VALUES = {"train/loss": 0.51, "train/accuracy": 0.83, "lr": 0.0002, "train/images_per_s": 311.5}
CHILD = """
import sys
from pathlib import Path
from tracker.recorder import Recorder
recorder = Recorder.create(Path(sys.argv[1]), kind="train", config={}, parent=None, note="", fingerprints={})
print(recorder.folder.name, flush=True)
for step in range(1, 10**9):
    recorder.metrics({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, step=step, epoch=1)
    sys.stdout.write(f"{step}\\n")  # reaches the pipe in blocks: the last number told is at most what was logged
"""


def repeat(call: Callable[[int], None], times: int) -> Callable[[], None]:
    """A call that calls `times` times with a running step."""
    steps = iter(range(1, 10**9))

    def run() -> None:
        for _ in range(times):
            call(next(steps))

    return run


def measure_cost(folder: Path, rounds: int) -> None:
    """Print microseconds a call of our recorder, a bare line, TensorBoard and MLflow."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric
    from torch.utils.tensorboard import SummaryWriter

    recorder = Recorder.create(folder / "runs", kind="train", config={}, parent=None, note="", fingerprints={})
    bare = (folder / "bare.jsonl").open("w")
    board = SummaryWriter(str(folder / "board"))
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run_id = client.create_run(client.create_experiment("bench")).info.run_id

    def write_line(step: int) -> None:
        bare.write(json.dumps({"step": step, "values": VALUES}) + "\n")
        bare.flush()

    def write_board(step: int) -> None:
        for key, value in VALUES.items():
            board.add_scalar(key, value, step)

    def write_mlflow(step: int) -> None:
        now = round(time.time() * 1000)
        client.log_batch(run_id, metrics=[Metric(key, value, now, step) for key, value in VALUES.items()])

    calls = {
        "tracker": (1000, lambda step: recorder.metrics(VALUES, step=step, epoch=1)),
        "bare JSON line, flushed": (1000, write_line),
        "TensorBoard": (200, write_board),
        "MLflow log_batch, SQLite": (10, write_mlflow),
    }
    medians = time_calls({name: repeat(call, times) for name, (times, call) in calls.items()}, rounds=rounds)
    each = {name: medians[name] / times for name, (times, _) in calls.items()}
    print_ratios(f"Logging four scalars, {rounds} rounds", each, base="tracker", unit="us a call", scale=1e6)
    recorder.finish("finished")
    bare.close()
    board.close()


def measure_loss(folder: Path, kills: int) -> None:
    """Print how many logged points were missing after kill -9."""
    lost = logged = 0
    for _ in range(kills):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(folder / "killed")], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        time.sleep(0.5)
        child.kill()
        told = [int(word) for word in child.stdout.read().split("\n")[:-1] if word]
        child.wait()
        child.stdout.close()
        lines = (folder / "killed" / name / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        found = {json.loads(line)["step"] for line in lines}
        logged += len(found)
        lost += len(set(told) - found) + (max(found) - len(found))
    print(f"kill -9, {kills} times: {logged:,} points on disk, {lost} lost")


def main() -> None:
    """Print the cost, then the loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kills", type=int, default=10)
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        measure_cost(Path(folder), arguments.rounds)
        measure_loss(Path(folder), arguments.kills)


if __name__ == "__main__":
    main()
