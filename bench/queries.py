"""How long does the same question take with other trackers? The 50 best of 1,000 and of 10,000 runs
whose val/f1 is above 0.8, the best first, on this machine alone.

Each is asked by its own interface, and returns the runs with their settings: tracker an Arrow
table, MLflow and aim objects, trackio rows of an SQL query that its user writes. Whole processes,
as a script or a notebook's start takes them, and the question asked again in the same process. The
peers have the environments of peers.py; their runs are made once and kept beside these, since some
take minutes for them. All must give the same answer. The limit is the bare query to MLflow's SQLite
file.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from figures import Row, record
from peer_programs import PEERS
from peers import OURS, install, make_env, run
from peers import PLACE as ENVIRONMENTS
from timing import measure_process, print_table

PLACE = ENVIRONMENTS / "runs"
SHOWN, LEAST = 50, 0.8
ASKABLE = [name for name, one in PEERS.items() if one.ask or one.no_question]
GOAL = "less than every peer"
WHY_SLOWER = (
    "a third (1,000 runs) to a half (10,000) looks at the times of three files of every run, so"
    " that one that ended a moment ago is there; the rest reads and tests each row of the index"
)
SLOW_TO_FILL = {"aim": 1_000, "trackio": 10_000}  # and the most runs that are made of each
KEYS = 30  # of a run's settings, as many as a training has
AGAIN = 5  # askings of the same process after the first
PREAMBLE = """
import json, statistics, sys, time
COUNT, SHOWN, LEAST = int(sys.argv[1]), {shown}, {least}
def config(number):
    return {{"key00": number / 7, **{{f"key{{key:02d}}": key / 7 for key in range(1, {keys})}}}}
def score(number): return number * 7919 % 10007 / 10007
"""
ASKED = """
{ask}
times = []
for _ in range({again} + 1):
    started = time.perf_counter()
    found = ask()
    times.append(time.perf_counter() - started)
figures = [statistics.median(times[1:]), len(found), round(found[0], 6), round(found[-1], 6)]
print("MEASURED", json.dumps(figures))
"""
LIMIT = """
import sqlite3
store = sqlite3.connect("mlflow.db")
def ask():
    sql = "SELECT value FROM latest_metrics WHERE key = 'val/f1' AND value > ? ORDER BY value DESC"
    return [value for value, in store.execute(sql + " LIMIT ?", (LEAST, SHOWN))]
"""


@dataclass(frozen=True)
class Source:
    """A tracker with its runs, ready to be asked: its interpreter, its folder and its snippet."""

    python: Path
    place: Path
    ask: str
    runs: int

    def build_command(self, program: str) -> list[str]:
        """The interpreter with a program that may use the names of the preamble."""
        preamble = PREAMBLE.format(shown=SHOWN, least=LEAST, keys=KEYS)
        return [str(self.python), "-c", preamble + program, str(self.runs)]


@dataclass(frozen=True)
class Asked:
    """What a question cost a tracker: seconds of a whole process, and asked again in one.

    `answer` is how many runs it found, the best and the last val/f1.
    """

    whole_s: float
    again_s: float
    answer: Sequence[float]


def prepare(name: str, runs: int, *, make: bool) -> Source:
    """Install a tracker, and make so many runs of it where they are missing; raises RuntimeError
    that says why it cannot be asked about them."""
    peer, place = PEERS[name], PLACE / f"{name}-{runs}"
    if peer.no_question:
        raise RuntimeError(peer.no_question)
    if runs > SLOW_TO_FILL.get(name, runs):
        most = SLOW_TO_FILL[name]
        raise RuntimeError(f"making more than {most:,} runs takes it too long")
    is_filled = (place / "filled").exists()
    if not is_filled and not make and name in SLOW_TO_FILL:
        raise RuntimeError("its runs are made in the long form only")
    python = install(name, *peer.frames)
    source = Source(python, place, peer.ask, runs)
    if is_filled:
        return source
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    started = time.monotonic()
    if name == OURS:
        words = ["init", ".", "--classes", "a,b", "--no-pretrained"]
        run([str(python), "-m", "tracker.cli", *words], cwd=place)
    run(source.build_command(peer.fill), cwd=place)
    print(f"{name}: {runs:,} runs made in {time.monotonic() - started:.0f} s", flush=True)
    (place / "filled").touch()
    return source


def ask_all(sources: Mapping[str, Source], rounds: int) -> dict[str, Asked]:
    """Ask all in turn; all must have the same answer."""
    again: dict[str, Sequence[float]] = {}
    for name, one in sources.items():
        words = one.build_command(ASKED.format(ask=one.ask, again=AGAIN))
        (line,) = [text for text in run(words, cwd=one.place).splitlines() if "MEASURED " in text]
        again[name] = json.loads(line.removeprefix("MEASURED "))
    answers = {name: tuple(answer) for name, (_, *answer) in again.items()}
    assert len(set(answers.values())) <= 1, answers
    times: dict[str, list[float]] = {name: [] for name in sources}
    for _ in range(rounds):
        for name, one in sources.items():
            words = one.build_command(f"{one.ask}\nask()")
            times[name].append(measure_process(words, one.place, make_env(one.place)).wall)
    return {
        name: Asked(statistics.median(times[name]), seconds, answer)
        for name, (seconds, *answer) in again.items()
    }


def measure(
    names: Sequence[str], runs: int, rounds: int, *, make: bool
) -> tuple[dict[str, Asked], Asked | None, dict[str, str]]:
    """What the question costs each, the bare query, and why some cannot be asked."""
    sources, problems = {}, {}
    for name in names:
        try:
            sources[name] = prepare(name, runs, make=make)
        except (RuntimeError, OSError) as error:
            problems[name] = str(error)
    if "mlflow" in sources:
        store = sources["mlflow"].place
        sources["limit"] = Source(Path(sys.executable), store, LIMIT, runs)
    asked = ask_all(sources, rounds)
    return asked, asked.pop("limit", None), problems


def list_rows(
    asked: Mapping[str, Asked], limit: Asked | None, problems: Mapping[str, str], runs: int
) -> list[tuple[str, ...]]:
    """The lines of the table."""
    known = {**asked, **({"the bare SQL query": limit} if limit else {})}
    return [
        *(
            (f"{runs:,}", name, f"{one.whole_s:.2f}", f"{one.again_s * 1e3:.1f}", "")
            for name, one in known.items()
        ),
        *((f"{runs:,}", name, "", "", problem) for name, problem in problems.items()),
    ]


def record_figures(
    asked: Mapping[str, Asked], limit: Asked | None, problems: Mapping[str, str], runs: int
) -> None:
    """The rows of BENCHMARKS.md: a process that asks, and the question asked again in it."""
    others = {name: one for name, one in asked.items() if name != OURS}
    if OURS not in asked or not others:
        return
    ours, what = asked[OURS], f"the {SHOWN} best of {runs:,} runs with val/f1 > {LEAST}"
    silent = f"; {', '.join(problems)}: not asked, see the table" if problems else ""

    def judge(form: str, own: float, peers: Mapping[str, float], least: float | None) -> Row:
        known = [f"{name} {describe(seconds)}" for name, seconds in peers.items()]
        lowest = f"{describe(least)} (the bare SQL query)" if least else ""
        reached = own < min(peers.values())
        text = ", ".join(known) + silent
        return Row(f"{what}, {form}", describe(own), text, lowest, GOAL, reached, WHY_SLOWER)

    wholes = {name: one.whole_s for name, one in others.items()}
    agains = {name: one.again_s for name, one in others.items()}
    record(
        [
            judge("a process that asks", ours.whole_s, wholes, limit and limit.whole_s),
            judge("asked again in a process", ours.again_s, agains, limit and limit.again_s),
        ]
    )


def describe(seconds: float) -> str:
    """Seconds as text, or milliseconds where there are few."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:,.3g} ms"


def main() -> None:
    """Print a row for each tracker and number of runs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=ASKABLE, default=ASKABLE)
    parser.add_argument("--runs", type=int, nargs="+", default=[1_000, 10_000])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--quick", action="store_true", help="1,000 runs, once, those that are made already"
    )
    arguments = parser.parse_args()
    sizes, rounds = arguments.runs, arguments.rounds
    if arguments.quick:
        sizes, rounds = [1_000], 1
    rows: list[tuple[str, ...]] = []
    for runs in sizes:
        found = measure(arguments.only, runs, rounds, make=not arguments.quick)
        rows += list_rows(*found, runs)
        record_figures(*found, runs)
    columns = ("runs", "tracker", "whole process, s", "again, ms", "")
    title = f"The {SHOWN} best runs with val/f1 > {LEAST}, medians of {rounds} and of {AGAIN}"
    print_table(title, columns, rows)


if __name__ == "__main__":
    main()
