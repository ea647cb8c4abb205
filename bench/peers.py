"""How large are other experiment trackers, how long do they take to import, and what does a logged
point cost? Each is installed into an environment of its own below build/peers, and logs offline.

A peer that cannot be installed here is named with pip's reason, and the others are measured.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from timing import QUIET, print_table

ROOT = Path(__file__).resolve().parent.parent
PLACE = ROOT / "build" / "peers"
LIMIT_S = 900
VALUES = {"train/loss": 0.5, "train/lr": 0.001, "val/f1": 0.7, "val/loss": 0.6}

# A program: `log(step)` logs VALUES; what comes before it is not timed.
BEGIN = {
    "tracker": """
import tracker
run = tracker.start_run({}, note="n")
def log(step): run.log(VALUES, step=step)
""",
    "mlflow": """
import time
from mlflow import MlflowClient
from mlflow.entities import Metric
client = MlflowClient("sqlite:///mlflow.db")
run_id = client.create_run(client.create_experiment("bench")).info.run_id
def log(step):
    now = round(time.time() * 1000)
    client.log_batch(run_id, metrics=[Metric(k, v, now, step) for k, v in VALUES.items()])
""",
    "wandb": """
import wandb
run = wandb.init(mode="offline", project="bench")
def log(step): run.log(VALUES, step=step)
""",
    "aim": """
from aim import Run
run = Run(repo=".")
def log(step):
    for name, value in VALUES.items(): run.track(value, name=name, step=step)
""",
    "trackio": """
import trackio
trackio.init(project="bench")
def log(step): trackio.log(VALUES, step=step)
""",
    "swanlab": """
import swanlab
swanlab.init(project="bench", mode="offline", logdir=".")
def log(step): swanlab.log(VALUES, step=step)
""",
}
TIMED = """
import json, os, sys, time
VALUES = json.loads(sys.argv[1])
started = time.perf_counter()
{begin}
ready = time.perf_counter() - started
times = []
for step in range(1, int(sys.argv[2]) + 1):
    before = time.perf_counter()
    log(step)
    times.append(time.perf_counter() - before)
times.sort()
print("MEASURED", json.dumps([ready, times[len(times) // 2]]), flush=True)
os._exit(0)  # what a tracker does at its end is not part of a point's cost
"""


@dataclass(frozen=True)
class Row:
    """What was measured of a tracker; `problem` where it could not be."""

    name: str
    version: str = ""
    megabytes: float = 0.0
    packages: int = 0
    ready_s: float = 0.0
    call_us: float = 0.0
    problem: str = ""


def install(name: str) -> Path:
    """The interpreter of the peer's environment; raises RuntimeError with pip's reason."""
    python = PLACE / name / "bin" / "python"
    done = PLACE / name / "installed"
    if done.exists():
        return python
    run([sys.executable, "-m", "venv", str(PLACE / name)])
    what = str(ROOT) if name == "tracker" else name
    run([str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", what])
    done.touch()
    return python


def run(command: list[str], *, cwd: Path = ROOT) -> str:
    """What a command prints; raises RuntimeError with its last line."""
    settings = {**os.environ, **QUIET, "WANDB_SILENT": "true", "AIM_TELEMETRY": "0"}
    try:
        done = subprocess.run(
            command,
            cwd=cwd,
            env=settings,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise RuntimeError(f"more than {LIMIT_S} s") from error
    if done.returncode:
        lines = (done.stderr or done.stdout).strip().splitlines()
        raise RuntimeError(lines[-1] if lines else f"exit {done.returncode}")
    return done.stdout


def measure(name: str, *, calls: int) -> Row:
    """Install a tracker, and measure it in an empty folder."""
    try:
        python = install(name)
        with tempfile.TemporaryDirectory() as folder:
            place = Path(folder)
            if name == "tracker":
                words = ["init", ".", "--classes", "a,b", "--no-pretrained"]
                run([str(python), "-m", "tracker.cli", *words], cwd=place)
            program = TIMED.format(begin=BEGIN[name])
            printed = run([str(python), "-c", program, json.dumps(VALUES), str(calls)], cwd=place)
        (line,) = [one for one in printed.splitlines() if one.startswith("MEASURED ")]
        ready, call = json.loads(line.removeprefix("MEASURED "))
        packages = json.loads(run([str(python), "-m", "pip", "list", "--format", "json"]))
        project = "submission-ledger" if name == "tracker" else name
        found = [one["version"] for one in packages if one["name"].lower() == project]
        size = sum(file.stat().st_size for file in (PLACE / name).rglob("*") if file.is_file())
        others = [one for one in packages if one["name"] not in ("pip", "setuptools")]
        return Row(name, found[0] if found else "", size / 1e6, len(others), ready, call * 1e6)
    except (RuntimeError, OSError, ValueError) as error:
        return Row(name, problem=str(error))


def main() -> None:
    """Print a row for each tracker."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=list(BEGIN), default=list(BEGIN))
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--quick", action="store_true", help="200 calls each")
    arguments = parser.parse_args()
    PLACE.mkdir(parents=True, exist_ok=True)
    calls = 200 if arguments.quick else arguments.calls
    started = time.monotonic()
    rows = [measure(name, calls=calls) for name in arguments.only]
    cells = [
        (
            (row.name, "", "", "", "", row.problem[:60])
            if row.problem
            else (
                f"{row.name} {row.version}",
                f"{row.megabytes:,.0f}",
                str(row.packages),
                f"{row.ready_s:.2f}",
                f"{row.call_us:,.0f}",
                "",
            )
        )
        for row in rows
    ]
    columns = ("tracker", "MB", "packages", "s to a run", "us a call of four", "not measured")
    print_table(f"Offline, {calls} calls, medians", columns, cells)
    print(f"{time.monotonic() - started:.0f} s, installing what was not there")


if __name__ == "__main__":
    main()
