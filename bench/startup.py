"""What does a command cost before it does any work? Against importing Typer alone.

CPU time of whole processes, in turn within one run: others use the machine, too, and their load
moves the wall clock more than the CPU time. The ratio of a command is the median of its ratios to
`import typer` in the same round. `--against` measures another checkout beside this one.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from compare_stats import build
from timing import QUIET, print_table

from tracker.core.settings import quiet_libraries

ROOT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
BASE = "import typer"
IMAGES = 100
GOALS = {
    "tracker --help": 1.6,
    "tracker show exp1": 2.0,
    "tracker runs": 2.0,
    "tracker leaderboard": 2.0,
    "tracker diff exp1 exp2 --no-stats": 2.2,
    "tracker diff exp1 exp2": 3.2,
    "tracker check exp2": 3.0,
}
MLFLOW_GOAL = 20  # `mlflow --help` takes this many times as long as `tracker --help`


def prepare(folder: Path) -> Path:
    """A workspace with two runs and one submission, scored; returns its folder."""
    root = build(folder / "ws", IMAGES, "f1").root
    for name in ("exp1", "exp2"):
        path = root / "runs" / name / "predictions.csv"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: IMAGES + 1]))
    tracker = str(PROGRAMS / "tracker")
    unreachable = {"TRACKER_MLFLOW_URI": "http://127.0.0.1:9"}  # no copy of the run is made
    words = [tracker, "submit", "exp1", "--memo", "baseline"]
    subprocess.run(
        words, cwd=root, env={**os.environ, **unreachable}, check=True, capture_output=True
    )
    subprocess.run(
        [tracker, "score", "1", "--public-f1", "0.5"], cwd=root, check=True, capture_output=True
    )
    return root


def measure_cpu(words: Sequence[str], cwd: Path, env: Mapping[str, str]) -> float:
    """User and system CPU seconds of a process; raises CalledProcessError when it fails."""
    child = subprocess.Popen(
        words, cwd=cwd, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, usage = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise subprocess.CalledProcessError(child.returncode, list(words))
    return usage.ru_utime + usage.ru_stime


def measure_commands(
    commands: Mapping[str, Sequence[str]], checkouts: Sequence[Path], *, rounds: int, cwd: Path
) -> dict[tuple[str, Path], list[float]]:
    """CPU seconds of each command with each checkout, a figure for each round.

    A round before the first compiles the modules and does not count.
    """
    times: dict[tuple[str, Path], list[float]] = {}
    for number in range(rounds + 1):
        for name, words in commands.items():
            for checkout in checkouts:
                env = {**os.environ, **QUIET, "PYTHONPATH": str(checkout / ".editable")}
                env.pop("PYTHONDONTWRITEBYTECODE", None)
                seconds = measure_cpu(words, cwd, env)
                if number:
                    times.setdefault((name, checkout), []).append(seconds)
    return times


def find_ratio(values: Sequence[float], bases: Sequence[float]) -> float:
    """The median of the ratios round by round."""
    return statistics.median(value / base for value, base in zip(values, bases, strict=True))


def print_goals(
    times: Mapping[tuple[str, Path], Sequence[float]], checkouts: Sequence[Path]
) -> None:
    """A row for each command: its CPU time and ratio with each checkout, and the goal."""
    rows = []
    for name in (BASE, *GOALS):
        row = [name]
        for checkout in checkouts:
            values = times[name, checkout]
            row.append(f"{statistics.median(values) * 1e3:.1f}")
            row.append(f"{find_ratio(values, times[BASE, checkout]):.2f}")
        row.append(f"{GOALS[name]:.1f}" if name in GOALS else "")
        rows.append(row)
    columns = ["what"]
    for checkout in checkouts:
        label = "" if checkout == ROOT else f" ({checkout.name})"
        columns += [f"CPU, ms{label}", f"ratio{label}"]
    rounds = len(times[BASE, ROOT])
    print_table(f"Start-up, medians of {rounds} rounds", [*columns, "goal"], rows)


def main() -> None:
    """Print the table of all commands, and how much longer MLflow takes for its own help."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument(
        "--against", type=Path, help="A checkout of another commit, measured in turn with this one."
    )
    arguments = parser.parse_args()
    quiet_libraries()
    checkouts = [ROOT]
    if arguments.against:
        checkouts.insert(0, arguments.against.resolve())
    tracker = str(PROGRAMS / "tracker")
    commands = {BASE: [sys.executable, "-c", "import typer"]}
    commands |= {name: [tracker, *name.split()[1:]] for name in GOALS}
    with tempfile.TemporaryDirectory() as folder:
        root = prepare(Path(folder))
        times = measure_commands(commands, checkouts, rounds=arguments.rounds, cwd=root)
        print_goals(times, checkouts)
        mlflow = {"mlflow": [sys.executable, "-m", "mlflow", "--help"]}
        values = measure_commands(mlflow, [ROOT], rounds=3, cwd=root)["mlflow", ROOT]
    own = statistics.median(times["tracker --help", ROOT])
    slower = statistics.median(values) / own
    print(f"mlflow --help: {slower:.1f} times tracker --help (goal: at least {MLFLOW_GOAL})")


if __name__ == "__main__":
    main()
