"""What does a command cost before it does any work? Against importing Typer alone.

CPU time of whole processes (user and system), in turn within one run: others use the machine, too,
and their load moves the wall clock, which is printed beside it, more than the CPU time. A ratio of
a command is the median of its ratios to `import typer` in the same round. `--against` measures
another checkout beside this one, each with a ledger of its own.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from compare_stats import build
from figures import Row, record
from timing import QUIET, Cost, measure_process, print_table

from tracker.comparison.compared_pairs import FOLDER
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
    "tracker diff exp1 exp2 (again)": 3.2,
    "tracker diff exp1 exp2 (after training)": 3.2,
    "tracker check exp2": 3.0,
    "tracker check exp2 (again)": 3.0,
    "tracker check exp2 (after training)": 3.0,
}
AGAIN = " (again)"  # the statistics of these two runs are known from the command before
TRAINED = " (after training)"  # they are known from the end of the newer run's training
# what `tracker run train` does while it waits for the copies of the run
END_TRAINING = """
import sys
from tracker.comparison.likely_pairs import compare_likely_pairs
from tracker.run_folder.read import load_run
from tracker.workspace.tracker_toml import find_workspace
workspace = find_workspace()
sys.exit(not list(compare_likely_pairs(workspace, load_run(workspace.runs_dir, "exp2"))))
"""
OWN_MODULES = "modules of our own are left: training.config 5 ms, tracker_toml and ledger.records 2"
STATISTICS = (
    "the first comparison of two runs imports numpy (0.7) and numpy.random (0.15), reads two"
    " validation.npz (0.05), and makes 10,000 resamples of 18 classes (0.45)"
)
CHECK = f"{STATISTICS}; check imports 28 modules more than diff, among them OpenSSL's hashes (0.3)"
REASONS = {
    **dict.fromkeys(GOALS, OWN_MODULES),
    "tracker diff exp1 exp2": STATISTICS,
    "tracker check exp2": CHECK,
}
MLFLOW_GOAL = 20  # `mlflow --help` takes this many times as long as `tracker --help`


def make_env(checkout: Path) -> dict[str, str]:
    """The environment in which `tracker` is the program of a checkout, and compiled once."""
    env = {**os.environ, **QUIET, "PYTHONPATH": str(checkout / ".editable")}
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    return env


def prepare(folder: Path, checkout: Path) -> Path:
    """A workspace with two runs and one submission, scored; returns its folder.

    The checkout writes the ledger, which a program of an earlier schema would not open.
    """
    root = build(folder / "ws", IMAGES, "f1").root
    for name in ("exp1", "exp2"):
        path = root / "runs" / name / "predictions.csv"
        path.write_text("".join(path.read_text().splitlines(keepends=True)[: IMAGES + 1]))
    # no copy of the run is made
    env = {**make_env(checkout), "TRACKER_MLFLOW_URI": "http://127.0.0.1:9"}
    (root / "ledger.db").unlink()
    for line in ("ledger init", "submit exp1 --memo baseline", "score 1 --public-f1 0.5"):
        command = [str(PROGRAMS / "tracker"), *line.split()]
        subprocess.run(command, cwd=root, env=env, check=True, capture_output=True)
    return root


def end_training(workspace: Path, checkout: Path) -> None:
    """Compare the newer run as the end of its training does; an earlier checkout compares nothing.

    Raises CalledProcessError where this one compares nothing.
    """
    command = [sys.executable, "-c", END_TRAINING]
    env = make_env(checkout)
    subprocess.run(command, cwd=workspace, env=env, check=checkout == ROOT, capture_output=True)


def measure_commands(
    commands: Mapping[str, Sequence[str]], workspaces: Mapping[Path, Path], *, rounds: int
) -> dict[tuple[str, Path], list[Cost]]:
    """The cost of each command with each checkout, in its workspace, a figure for each round.

    A round before the first compiles the modules and does not count. What is kept of the statistics
    of two runs is taken away before each command but those of AGAIN, and computed as at the end of
    a training before those of TRAINED.
    """
    costs: dict[tuple[str, Path], list[Cost]] = {}
    for number in range(rounds + 1):
        for name, words in commands.items():
            for checkout, workspace in workspaces.items():
                if not name.endswith(AGAIN):
                    shutil.rmtree(workspace / ".tracker" / FOLDER, ignore_errors=True)
                if name.endswith(TRAINED):
                    end_training(workspace, checkout)
                cost = measure_process(words, workspace, make_env(checkout))
                if number:
                    costs.setdefault((name, checkout), []).append(cost)
    return costs


def find_ratio(values: Iterable[float], bases: Iterable[float]) -> float:
    """The median of the ratios round by round."""
    return statistics.median(value / base for value, base in zip(values, bases, strict=True))


def find_figures(costs: Sequence[Cost], bases: Sequence[Cost]) -> list[str]:
    """CPU milliseconds, their ratio to the base, and the ratio of the wall clock."""
    cpu = [cost.cpu for cost in costs]
    return [
        f"{statistics.median(cpu) * 1e3:.1f}",
        f"{find_ratio(cpu, [base.cpu for base in bases]):.2f}",
        f"{find_ratio([cost.wall for cost in costs], [base.wall for base in bases]):.2f}",
    ]


def print_goals(
    costs: Mapping[tuple[str, Path], Sequence[Cost]], checkouts: Iterable[Path]
) -> None:
    """A row for each command: its CPU time and ratios with each checkout, and the goal."""
    columns = ["what"]
    for checkout in checkouts:
        label = "" if checkout == ROOT else f" ({checkout.name})"
        columns += [f"CPU, ms{label}", f"ratio{label}", f"wall ratio{label}"]
    rows = []
    for name in (BASE, *GOALS):
        row = [name]
        for checkout in checkouts:
            row += find_figures(costs[name, checkout], costs[BASE, checkout])
        row.append(f"{GOALS[name]:.1f}" if name in GOALS else "")
        rows.append(row)
        if name in GOALS:
            record([judge(name, costs)])
    rounds = len(costs[BASE, ROOT])
    print_table(f"Start-up, medians of {rounds} rounds", [*columns, "goal"], rows)


def judge(name: str, costs: Mapping[tuple[str, Path], Sequence[Cost]]) -> Row:
    """The verdict over a command of this checkout."""
    cpu, ratio, _ = find_figures(costs[name, ROOT], costs[BASE, ROOT])
    reached = float(ratio) <= GOALS[name]
    return Row(
        f"start of `{name}`, against `import typer`",
        f"{ratio} ({cpu} ms)",
        limit="1.00",
        goal=f"{GOALS[name]:.1f}",
        reached=reached,
        reason=REASONS.get(name, ""),
    )


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
    commands |= {name: [tracker, *name.partition(" (")[0].split()[1:]] for name in GOALS}
    with tempfile.TemporaryDirectory() as folder:
        workspaces = {
            checkout: prepare(Path(folder) / str(number), checkout)
            for number, checkout in enumerate(checkouts)
        }
        costs = measure_commands(commands, workspaces, rounds=arguments.rounds)
        print_goals(costs, checkouts)
        mlflow = {"mlflow": [sys.executable, "-m", "mlflow", "--help"]}
        slow = measure_commands(mlflow, {ROOT: workspaces[ROOT]}, rounds=1)["mlflow", ROOT]
    own = statistics.median(cost.cpu for cost in costs["tracker --help", ROOT])
    slower = statistics.median(cost.cpu for cost in slow) / own
    print(f"mlflow --help: {slower:.1f} times tracker --help (goal: at least {MLFLOW_GOAL})")


if __name__ == "__main__":
    main()
