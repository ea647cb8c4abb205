"""How long does a person wait for `tracker --help`? Against importing Typer alone, and against
MLflow's own help."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from timing import print_ratios, time_commands


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    programs = Path(sys.executable).parent
    commands = {
        "import typer": [sys.executable, "-c", "import typer"],
        "tracker --help": [str(programs / "tracker"), "--help"],
        "mlflow --help": [str(programs / "mlflow"), "--help"],
    }
    print_ratios(
        f"Start-up, {rounds} rounds", time_commands(commands, rounds=rounds), base="import typer"
    )


if __name__ == "__main__":
    main()
