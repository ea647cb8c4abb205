"""How many submissions a second do several processes add to one ledger at once, and is one lost?

On SQLite, and on PostgreSQL where there is one, each with its own care for the disk. Every writer
appends as `tracker submit` does: guards, duplicates, quota, best score, chain. The limit is one
process that commits bare rows of the same size to the same database. Beside it as many processes
log runs of the same settings to MLflow's SQLite store, whatever our database is.
"""

from __future__ import annotations

import argparse
import multiprocessing
import secrets
import shutil
import sqlite3
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import ForkServerContext
from pathlib import Path
from queue import Empty
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from figures import Row, record
from timing import print_table

from tracker.core.settings import quiet_libraries
from tracker.ledger.append import Draft, open_ledger
from tracker.ledger.chain import canonical_json, verify_ledger
from tracker.ledger.read import list_submissions
from tracker.run_folder.record import RunRecord
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict
from tracker.workspace.predictions import Answers
from tracker.workspace.tracker_toml import Workspace

SETTINGS = {key: str(value) for key, value in config_to_dict(Config())["optim"].items()}
START_LIMIT_S = 120.0
GOAL_WAIT_S = 5.0  # the longest that a writer may wait for the others
MLFLOW = "MLflow, SQLite"


@dataclass(frozen=True)
class Written:
    """What writers did in `seconds`: how long each append took, and what went wrong."""

    writers: int
    seconds: float
    times: Sequence[float]
    lost: int
    problem: str = ""

    @property
    def speed(self) -> float:
        """Appends a second, of all together."""
        return len(self.times) / self.seconds


def append_forever(workspace: Workspace) -> Iterator[None]:
    """A submission of its own kind at each step."""
    config = config_to_dict(Config())
    with open_ledger(workspace) as ledger:
        while True:
            answers = Answers.of({"i": secrets.token_hex(8)})
            record = RunRecord(name="exp1", uid="x")
            draft = Draft(record=record, config=config, memo="m", answers=answers, file="f")
            ledger.append_submission(draft, workspace.competition)
            yield


def log_forever(uri: str) -> Iterator[None]:
    """A run of MLflow's with its settings and two scores at each step."""
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param

    quiet_libraries()
    client = MlflowClient(tracking_uri=uri)
    params = [Param(key, value) for key, value in SETTINGS.items()]
    while True:
        run_id = client.create_run("0").info.run_id
        scores = [Metric(name, 0.5, 0, 0) for name in ("f1", "accuracy")]
        client.log_batch(run_id, metrics=scores, params=params)
        yield


def write(steps: Callable[[], Iterator[None]], gate: Any, seconds: float, results: Any) -> None:
    """Take the first step, wait for the others, step for so many seconds, and tell the times."""
    times: list[float] = []
    problem = ""
    iterator = steps()
    try:
        next(iterator)
        results.put("ready")
        gate.wait(START_LIMIT_S)
        started = before = time.perf_counter()
        while before - started < seconds:
            next(iterator)
            now = time.perf_counter()
            times.append(now - before)
            before = now
    except Exception as error:  # noqa: BLE001 the table says what went wrong
        problem = f"{type(error).__name__}: {str(error).splitlines()[0]}"
        results.put("ready")
    results.put((times, problem))


def run_writers(
    context: ForkServerContext, steps: Callable[[], Iterator[None]], writers: int, seconds: float
) -> tuple[list[float], str]:
    """The times of all writers, and the first problem."""
    results, gate = context.Queue(), context.Event()
    started = [
        context.Process(target=write, args=(steps, gate, seconds, results)) for _ in range(writers)
    ]
    for process in started:
        process.start()
    try:
        told = [results.get(timeout=START_LIMIT_S + seconds) for _ in started]
        gate.set()
        told = [results.get(timeout=START_LIMIT_S + seconds) for _ in started]
    except Empty:
        return [], "a writer did not end"
    finally:
        for process in started:
            process.kill() if process.is_alive() and not gate.is_set() else process.join()
    problems = [problem for _, problem in told if problem]
    return [one for times, _ in told for one in times], problems[0] if problems else ""


def measure_ledger(
    context: ForkServerContext, workspace: Workspace, writers: int, seconds: float
) -> Written:
    """Writers of one ledger; what was told to be written must be there once, in a whole chain."""
    before = len(list_submissions(workspace))
    times, problem = run_writers(context, partial(append_forever, workspace), writers, seconds)
    found = [one.number for one in list_submissions(workspace)][before:]
    lost = writers + len(times) - len(set(found))  # each took a step before the gate
    chain = verify_ledger(workspace.ledger_url).problem
    return Written(writers, seconds, times, lost, problem or chain or "")


def measure_mlflow(
    context: ForkServerContext, folder: Path, writers: int, seconds: float
) -> Written:
    """Writers of MLflow's store in one SQLite file."""
    from mlflow import MlflowClient

    empty, store = folder / "mlflow.db", folder / f"mlflow{writers}.db"
    if not empty.exists():
        MlflowClient(tracking_uri=f"sqlite:///{empty}").search_experiments()  # makes the tables
    shutil.copy(empty, store)
    uri = f"sqlite:///{store}"
    times, problem = run_writers(context, partial(log_forever, uri), writers, seconds)
    return Written(writers, seconds, times, 0, problem)


def measure_limit(url: str, folder: Path, seconds: float) -> float:
    """Bare rows a second, each committed to a SQLite file, or to a table of this PostgreSQL."""
    connection: Any
    if url.startswith("sqlite"):
        connection, mark = sqlite3.connect(folder / "bare.db"), "?"
    else:
        import psycopg

        connection, mark = psycopg.connect(url.replace("+psycopg", "")), "%s"
    text = canonical_json(config_to_dict(Config()))
    connection.execute("CREATE TABLE bare (config TEXT)")
    started, rows = time.perf_counter(), 0
    while time.perf_counter() - started < seconds:
        connection.execute(f"INSERT INTO bare (config) VALUES ({mark})", (text,))
        connection.commit()
        rows += 1
    connection.execute("DROP TABLE bare")
    connection.commit()
    connection.close()
    return rows / seconds


@contextmanager
def open_databases(folder: Path) -> Iterator[dict[str, str]]:
    """The URL of an empty ledger by the name of its database."""
    from tests.support.servers import find_postgres, running_postgres

    known = {"SQLite": "sqlite:///ledger.db"}
    programs = find_postgres()
    if programs is None:
        print("PostgreSQL: not measured, there is none here")
        yield known
        return
    with running_postgres(programs, folder / "log") as server:
        yield {**known, "PostgreSQL": server.create_database()}


def list_cells(name: str, one: Written) -> tuple[str, ...]:
    """A line of the table."""
    if not one.times:
        return (name, str(one.writers), "", "", "", "", one.problem[:60])
    median, longest = statistics.median(one.times), max(one.times)
    figures = (f"{one.speed:,.0f}", f"{median * 1e3:.1f}", f"{longest * 1e3:,.0f}")
    return (name, str(one.writers), *figures, str(one.lost), one.problem[:60])


def judge(database: str, one: Written, peer: Written, limit: float) -> Row:
    """The verdict over one database."""
    longest = max(one.times, default=0.0)
    theirs = f"MLflow on SQLite: {peer.speed:,.0f} runs a second"
    ours = (
        f"{one.speed:,.0f} a second, the longest {longest:.2f} s,"
        f" {one.lost} of {len(one.times):,} lost or doubled"
    )
    held = not one.lost and not one.problem and bool(one.times)
    return Row(
        f"submissions by {one.writers} writer{'s at once' * (one.writers > 1)}, {database}",
        ours,
        f"{theirs}; {peer.problem}" if peer.problem else theirs,
        f"{limit:,.0f} bare rows a second, each committed, one writer of {database}",
        f"none lost, none doubled, the longest {GOAL_WAIT_S:g} s",
        held and longest <= GOAL_WAIT_S,
        one.problem
        or "a writer that finds the ledger locked asks again later, and others come first",
    )


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--writers", type=int, nargs="+", default=[1, 8])
    options = parser.parse_args()
    quiet_libraries()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tracker.ledger.append", "psycopg", "mlflow"])
    rows = []
    with tempfile.TemporaryDirectory() as name, open_databases(Path(name)) as databases:
        folder = Path(name)
        peers = {n: measure_mlflow(context, folder, n, options.seconds) for n in options.writers}
        for database, url in databases.items():
            limit = measure_limit(url, folder, options.seconds)
            rows.append((f"{database}, bare rows", "1", f"{limit:,.0f}", "", "", "", ""))
            competition = {"classes": ["a", "b"], "name": "bench"}
            root = folder / database
            workspace = init_workspace(root, data={}, competition=competition, ledger_url=url)
            for writers, peer in peers.items():
                found = measure_ledger(context, workspace, writers, options.seconds)
                rows.append(list_cells(database, found))
                record([judge(database, found, peer, limit)])
        rows += [list_cells(MLFLOW, peer) for peer in peers.values()]
    title = f"Writers of one ledger for {options.seconds:g} s"
    columns = ("database", "writers", "a second", "median ms", "longest ms", "lost", "")
    print_table(title, columns, rows)


if __name__ == "__main__":
    main()
