"""Random faults, and whether anything is lost, torn, doubled or untrue afterwards: a line each.

`make faults` has 200 of them, `make faults SEED=123` one again, `make faults SERIES=1` others. A
series that was cut off goes on where it was; `--again` begins anew.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from bench.faults.one import Lab, Verdict
from bench.faults.plan import plan_fault
from bench.faults.table import KINDS, read_results, write_page
from tests.support.forks import serving_forks

SERIES = 1000  # seeds of a series: faults 0 to 199, 1000 to 1199, ...
RESULTS = Path("build", "faults")
PAGE = Path("docs", "faults.md")


def main() -> int:
    """Print the verdicts and their sum; 1 when something did not hold."""
    arguments = parse_arguments()
    if arguments.write:
        write_page(PAGE, sorted(RESULTS.glob("*.jsonl")))
        return 0
    seeds = arguments.seed or list(
        range(arguments.series * SERIES, arguments.series * SERIES + arguments.count)
    )
    results = None if arguments.seed else RESULTS / f"series-{arguments.series}.jsonl"
    done = []
    if results is not None:
        results.parent.mkdir(parents=True, exist_ok=True)
        if arguments.again:
            results.unlink(missing_ok=True)
        done = read_results(results)
    left = [seed for seed in seeds if seed not in {verdict.seed for verdict in done}]
    if done:
        print(f"{len(done)} are known from {results}; --again begins anew")
    deadline = time.monotonic() + 60 * arguments.minutes
    with (
        tempfile.TemporaryDirectory(prefix="faults-") as folder,
        serving_forks() as forks,
        Lab(Path(folder), forks) as lab,
    ):
        for verdict in strike_all(lab, left, deadline, keep=arguments.keep):
            done.append(verdict)
            if results is not None:
                with results.open("a") as file:
                    file.write(json.dumps(asdict(verdict)) + "\n")
    return print_sum(done, left=len(seeds) - len(done))


def parse_arguments() -> argparse.Namespace:
    """The options of the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, nargs="+", help="these faults alone")
    parser.add_argument("--series", type=int, default=0, help="which seeds: 1 is 1000 and up")
    parser.add_argument("--count", type=int, default=200, help="faults of a series")
    parser.add_argument("--minutes", type=float, default=600.0, help="begin none after that")
    parser.add_argument("--again", action="store_true", help="begin the series anew")
    parser.add_argument("--keep", type=Path, help="a folder for the files of what does not hold")
    parser.add_argument("--write", action="store_true", help=f"write {PAGE} from the results")
    return parser.parse_args()


def strike_all(
    lab: Lab, seeds: Sequence[int], deadline: float, *, keep: Path | None
) -> Iterator[Verdict]:
    """The faults one after another, each with a line."""
    for seed in seeds:
        if time.monotonic() > deadline:
            print("the time is over: the same command goes on")
            return
        verdict = lab.strike(plan_fault(seed))
        about = f"{verdict.scenario}: {verdict.fault}"
        print(f"{seed:5}  {about:48}  {verdict.where[:60]:60}  {verdict.text}", flush=True)
        if keep is not None and verdict.problems:
            shutil.rmtree(keep / str(seed), ignore_errors=True)
            shutil.copytree(lab.site().folder, keep / str(seed), symlinks=True)
        yield verdict


def print_sum(verdicts: Sequence[Verdict], *, left: int) -> int:
    """The sum in a line; the exit code."""
    bad = [verdict for verdict in verdicts if verdict.problems]
    counts = {
        "faults": len(verdicts),
        "struck": sum(bool(verdict.where) for verdict in verdicts),
        "skipped": sum(bool(verdict.skipped) for verdict in verdicts),
    }
    for kind in KINDS:
        counts[kind] = sum(kind in verdict.problems for verdict in verdicts)
    print(", ".join(f"{name} {count}" for name, count in counts.items()))
    if bad:
        print(f"again: python -m bench.faults --seed {' '.join(str(one.seed) for one in bad)}")
    if left:
        print(f"{left} are left")
    return int(bool(bad))


if __name__ == "__main__":
    sys.exit(main())
