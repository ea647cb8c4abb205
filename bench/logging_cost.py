"""What does logging four scalars cost the training loop, and what does kill -9 lose of what was
logged?"""

from __future__ import annotations

import argparse
import json
import mmap
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Row, record
from timing import print_ratios, time_calls

from tracker.core.settings import quiet_libraries
from tracker.run_folder.recorder import Recorder

VALUES = {"train/loss": 0.51, "train/accuracy": 0.83, "lr": 0.0002, "train/images_per_s": 311.5}
COST_GOAL = 2.0  # times a bare line
KILL_AFTER_S = (0.05, 0.5)
START_LIMIT_S = 60.0
CHILD = """
import mmap, sys
from pathlib import Path
from tracker.run_folder.recorder import Recorder
recorder = Recorder.create(
    Path(sys.argv[1]), kind="train", config={}, parent=None, note="", fingerprints={}
)
with open(sys.argv[2], "r+b") as file:
    # shared memory: never blocks, outlives the process
    last = memoryview(mmap.mmap(file.fileno(), 8)).cast("Q")
for step in range(1, 10**9):
    recorder.metrics({"a": 0.1, "b": 0.2, "c": 0.3, "d": 0.4}, step=step, epoch=1)
    last[0] = step
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

    recorder = Recorder.create(
        folder / "runs", kind="train", config={}, parent=None, note="", fingerprints={}
    )
    bare = (folder / "bare.jsonl").open("w")
    board = SummaryWriter(str(folder / "board"))
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    run_id = client.create_run(client.create_experiment("bench")).info.run_id

    def write_line(step: int) -> None:
        point = {"time": round(time.time(), 3), "step": step, "epoch": 1, "values": VALUES}
        bare.write(json.dumps(point) + "\n")
        bare.flush()

    def write_board(step: int) -> None:
        for key, value in VALUES.items():
            board.add_scalar(key, value, step)

    def write_mlflow(step: int) -> None:
        now = round(time.time() * 1000)
        client.log_batch(
            run_id, metrics=[Metric(key, value, now, step) for key, value in VALUES.items()]
        )

    calls = {
        "tracker": (1000, lambda step: recorder.metrics(VALUES, step=step, epoch=1)),
        "bare JSON line, flushed": (1000, write_line),
        "TensorBoard": (200, write_board),
        "MLflow log_batch, SQLite": (10, write_mlflow),
    }
    medians = time_calls(
        {name: repeat(call, times) for name, (times, call) in calls.items()}, rounds=rounds
    )
    each = {name: medians[name] / times for name, (times, _) in calls.items()}
    print_ratios(
        f"Logging four scalars, {rounds} rounds", each, base="tracker", unit="us a call", scale=1e6
    )
    ours, bare_us = (each[name] * 1e6 for name in ("tracker", "bare JSON line, flushed"))
    others = ", ".join(
        f"{name} {seconds * 1e6:,.0f} us" for name, seconds in list(each.items())[2:]
    )
    record(
        [
            Row(
                "log four values, against a bare JSON line",
                f"{ours / bare_us:.2f} ({ours:.1f} us)",
                others,
                f"1.00 ({bare_us:.1f} us)",
                f"{COST_GOAL}",
                ours / bare_us <= COST_GOAL,
                "others used the processors at the same time",
            )
        ]
    )
    recorder.finish("finished")
    bare.close()
    board.close()


def measure_loss(folder: Path, kills: int) -> None:
    """Print how many points whose call had returned were missing after kill -9 in the middle of
    logging."""
    rng = random.Random(1)  # noqa: S311
    lost = returned = torn = 0
    for number in range(kills):
        runs = folder / f"killed{number}"
        told = kill_while_logging(runs, after_s=rng.uniform(*KILL_AFTER_S))
        lines = (runs / "exp1" / "metrics.jsonl").read_bytes().split(b"\n")
        found = {json.loads(line)["step"] for line in lines[:-1]}
        returned += told
        lost += len(set(range(1, told + 1)) - found)
        torn += bool(lines[-1])
    print(
        f"kill -9 while logging, {kills} times: {returned:,} calls had returned, {lost} of their"
        " points are missing"
    )
    what = f"points lost of {returned:,} logged, {kills} times kill -9"
    record([Row(what, str(lost), limit="0", goal="0", reached=not lost)])
    print(f"torn last lines, of calls that had not returned: {torn}")


def kill_while_logging(runs: Path, *, after_s: float) -> int:
    """Start a process that logs, kill it while it does, and return the last step whose call had
    returned.

    Raises RuntimeError when the process was not logging at the time: then the kill would prove
    nothing.
    """
    counter = runs.with_suffix(".last")
    counter.write_bytes(bytes(8))
    with counter.open("r+b") as file, mmap.mmap(file.fileno(), 8) as shared:
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(runs), str(counter)])
        try:
            deadline = time.monotonic() + START_LIMIT_S
            while not any(shared[:8]) and child.poll() is None and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(after_s)
            before = int.from_bytes(shared[:8], sys.byteorder)
            time.sleep(0.01)
            moving = int.from_bytes(shared[:8], sys.byteorder) > before
        finally:
            child.kill()
            child.wait()
        if not moving:
            raise RuntimeError(
                f"the process was not logging when it was killed, after step {before}"
            )
        return int.from_bytes(shared[:8], sys.byteorder)


def main() -> None:
    """Print the cost, then the loss."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--kills", type=int, default=20)
    arguments = parser.parse_args()
    quiet_libraries()
    with tempfile.TemporaryDirectory() as folder:
        measure_cost(Path(folder), arguments.rounds)
        measure_loss(Path(folder), arguments.kills)


if __name__ == "__main__":
    main()
