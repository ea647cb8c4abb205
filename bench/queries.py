"""How long does the same question take with other trackers? The 50 best of 1,000 and of 10,000 runs
whose val/f1 is above 0.8, the best first, on this machine alone.

Whole processes, as a script or a command takes them, and the question alone, asked a second time in
the same process. The peers have the environments of peers.py; their runs are made once and kept
below build/queries, since some take minutes for them. All must give the same answer. The limit is
an interpreter that asks MLflow's SQLite file the bare query.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import Row, record, weigh
from peer_programs import PEERS
from peers import OURS, PLACE as PEERS_PLACE, install, make_env, run
from timing import measure_process, print_table

PLACE = PEERS_PLACE / "runs"
SHOWN, LEAST = 50, 0.8
ASKABLE = [name for name, one in PEERS.items() if one.ask or one.no_question]
WHY_SLOWER = "each run.json is read, where a database has an index of values"
MOST = {"aim": 1_000, "trackio": 10_000}  # runs: it needs minutes to make them
KEYS = 30  # of a run's settings, as many as a training has
PREAMBLE = """
import json, sys, time
COUNT, SHOWN, LEAST = int(sys.argv[1]), {shown}, {least}
CONFIG = {{f"key{{number:02d}}": number / 7 for number in range({keys})}}
def score(number): return number * 7919 % 10007 / 10007
"""
ASKED = """
{ask}
times = []
for _ in range(2):
    started = time.perf_counter()
    found = ask()
    times.append(time.perf_counter() - started)
print("MEASURED", json.dumps([times, len(found), round(found[0][1], 6), round(found[-1][1], 6)]))
"""
LIMIT = """
import sqlite3
store = sqlite3.connect("mlflow.db")
store.execute(
    "SELECT run_uuid, value FROM latest_metrics WHERE key = 'val/f1' AND value > 0.8"
    " ORDER BY value DESC LIMIT 50"
).fetchall()
"""


@dataclass(frozen=True)
class Asked:
    """What a question cost a tracker: seconds of a whole process, and of the second asking in it.

    `answer` is how many runs it found, the best and the last val/f1; `problem` says why there is
    none.
    """

    name: str
    runs: int
    whole_s: float = 0.0
    again_s: float = 0.0
    answer: Sequence[float] = ()
    problem: str = ""


def make_program(snippet: str) -> str:
    """A snippet with the names that it may use."""
    return PREAMBLE.format(shown=SHOWN, least=LEAST, keys=KEYS) + snippet


def fill(name: str, python: Path, runs: int) -> Path:
    """The folder with so many runs of a tracker, made where it is missing; raises RuntimeError."""
    place = PLACE / f"{name}-{runs}"
    if (place / "filled").exists():
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    started = time.monotonic()
    if name == OURS:
        words = ["init", ".", "--classes", "a,b", "--no-pretrained"]
        run([str(python), "-m", "tracker.cli", *words], cwd=place)
    run([str(python), "-c", make_program(PEERS[name].fill), str(runs)], cwd=place)
    print(f"{name}: {runs:,} runs made in {time.monotonic() - started:.0f} s", flush=True)
    (place / "filled").touch()
    return place


def measure(name: str, runs: int, rounds: int) -> Asked:
    """Ask one tracker about so many runs."""
    if PEERS[name].no_question:
        return Asked(name, runs, problem=PEERS[name].no_question)
    if runs > MOST.get(name, runs):
        return Asked(name, runs, problem=f"making more than {MOST[name]:,} runs takes it too long")
    try:
        python = install(name)
        place = fill(name, python, runs)
        program = make_program(ASKED.format(ask=PEERS[name].ask))
        words = [str(python), "-c", program, str(runs)]
        (line,) = [one for one in run(words, cwd=place).splitlines() if one.startswith("MEASURED ")]
        (_, again), *answer = json.loads(line.removeprefix("MEASURED "))
        once = [str(python), "-c", make_program(f"{PEERS[name].ask}\nask()"), str(runs)]
        costs = [measure_process(once, place, make_env(place)).wall for _ in range(rounds)]
    except (RuntimeError, OSError, ValueError) as error:
        return Asked(name, runs, problem=str(error))
    return Asked(name, runs, statistics.median(costs), again, answer)


def measure_limit(runs: int, rounds: int) -> float:
    """Seconds of an interpreter that asks the bare query; 0 where MLflow has no file."""
    place = PLACE / f"mlflow-{runs}"
    if not (place / "filled").exists():
        return 0.0
    words = [sys.executable, "-I", "-c", LIMIT]
    return statistics.median(measure_process(words, place, {}).wall for _ in range(rounds))


def list_cells(one: Asked) -> tuple[str, ...]:
    """A line of the table."""
    if one.problem:
        return (f"{one.runs:,}", one.name, "", "", "", one.problem)
    figures = (f"{one.whole_s:.2f}", f"{one.again_s * 1e3:.0f}", f"{one.answer[0]:.0f}")
    return (f"{one.runs:,}", one.name, *figures, "")


def record_figures(asked: Sequence[Asked], runs: int, limit_s: float) -> None:
    """The rows of BENCHMARKS.md: a process that asks, and the question alone."""
    known = {one.name: one for one in asked if not one.problem}
    others = [one for one in known.values() if one.name != OURS]
    if OURS not in known or not others:
        return
    ours = known[OURS]
    what = f"the {SHOWN} best of {runs:,} runs with val/f1 > {LEAST}"
    limit = f"{limit_s:.2f} s (the SQL query alone)" if limit_s else ""
    whole = {one.name: one.whole_s for one in others}
    again = {one.name: one.again_s for one in others}
    record(
        [
            Row(
                f"{what}, a process that asks",
                f"{ours.whole_s:.2f} s",
                ", ".join(f"{name} {seconds:.2f} s" for name, seconds in whole.items()),
                limit,
                "less than every peer",
                ours.whole_s < min(whole.values()),
                WHY_SLOWER,
            ),
            Row(
                f"{what}, asked again in the same process",
                f"{ours.again_s * 1e3:.0f} ms",
                ", ".join(f"{name} {seconds * 1e3:.0f} ms" for name, seconds in again.items()),
                verdict=weigh(ours.again_s, again, WHY_SLOWER),
            ),
        ]
    )


def main() -> None:
    """Print a row for each tracker and number of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ASKABLE, default=ASKABLE)
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="1,000 runs, twice, of those that make them soon"
    )
    arguments = parser.parse_args()
    names, sizes, rounds = arguments.only, arguments.runs, arguments.rounds
    if arguments.quick:
        names, sizes, rounds = [name for name in names if name not in MOST], [1_000], 2
    rows = []
    for runs in sizes:
        asked = [measure(name, runs, rounds) for name in names]
        answers = {one.name: one.answer for one in asked if not one.problem}
        assert len({tuple(answer) for answer in answers.values()}) <= 1, answers
        rows += [list_cells(one) for one in asked]
        record_figures(asked, runs, measure_limit(runs, rounds))
    columns = ("runs", "tracker", "whole process, s", "again, ms", "found", "")
    title = f"The {SHOWN} best runs with val/f1 > {LEAST}, medians of {rounds}"
    print_table(title, columns, rows)


if __name__ == "__main__":
    main()
