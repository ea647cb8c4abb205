"""Does a run arrive in MLflow once and whole, whatever answers are lost? A line for each mode,
`--seeds` runs."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from tests.support.proxy import MODES, Outcome, copy_through
from tests.support.servers import mlflow_with_sqlite
from tracker.mirror import targets as mirror_targets

AT_ONCE = 20


def measure(server: str, folder: Path, mode: str, seeds: int, delay_s: float) -> list[Outcome]:
    """A run for each seed, some at once: most of the time is waiting."""

    def copy(seed: int) -> Outcome:
        place = folder / f"{mode.replace(' ', '-')}-{seed}"
        return copy_through(server, place, mode, seed=seed, delay_s=delay_s)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(copy, range(seeds)))


def main() -> int:
    """Print the table; 1 when anything was lost or doubled."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--modes", nargs="+", choices=MODES, default=MODES)
    parser.add_argument(
        "--delay", type=float, default=5.0, help="seconds of an answer that is slow"
    )
    arguments = parser.parse_args()
    perfect = True
    print(
        "| MLflow | seeds | requests that went wrong | runs | points | lost | doubled | torn files"
        " | s |"
    )
    print("|---|---|---|---|---|---|---|---|---|")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with mlflow_with_sqlite(folder) as server:
            for mode in arguments.modes:
                limit = 2.0 if mode == "hangs" else 20.0
                os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = f"{limit:.0f}"
                mirror_targets.ANSWER_S = limit
                started = time.monotonic()
                found = measure(server, folder, mode, arguments.seeds, arguments.delay)
                runs, points = sum(one.runs for one in found), sum(one.points for one in found)
                lost, doubled = sum(one.lost for one in found), sum(one.doubled for one in found)
                torn, faults = sum(one.torn for one in found), sum(one.faults for one in found)
                seconds = time.monotonic() - started
                row = [
                    mode,
                    len(found),
                    faults,
                    runs,
                    points,
                    lost,
                    doubled,
                    torn,
                    f"{seconds:.0f}",
                ]
                print("| " + " | ".join(map(str, row)) + " |", flush=True)
                perfect = perfect and all(one.perfect for one in found)
    return 0 if perfect else 1


if __name__ == "__main__":
    sys.exit(main())
