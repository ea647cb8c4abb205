"""Thirty-two processes at one ledger, and writers killed with kill -9: nothing doubled, lost or
half-written.

Of a ledger that wrote two scores in two transactions instead of one, 4 of 60 kills left a half. So
80 kills overlook such a fault once in 250 times, and on both databases once in 60,000; `make kills`
takes 400, whose appends are slower.
"""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import time
from multiprocessing.connection import Connection
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from tests.support.ledger_rows import draft
from tests.support.workspaces import make_workspace
from tracker.core.errors import RefusedError
from tracker.ledger.append import open_ledger
from tracker.ledger.chain import verify_ledger
from tracker.ledger.connection import read_rows
from tracker.ledger.read import list_submissions
from tracker.workspace.tracker_toml import Workspace

pytestmark = pytest.mark.slow

PROCESSES = 32
KILLS = int(os.environ.get("LEDGER_KILLS", "80"))
LIMIT_S = 240


@pytest.fixture(scope="module")
def context() -> ForkServerContext:
    """Processes that start in milliseconds, since the server that forks them has imported all that
    they need.

    That is this module too, where their functions are: without it each would import pytest and
    numpy by itself.
    """
    found = multiprocessing.get_context("forkserver")
    dialects = ("sqlalchemy.dialects.sqlite", "sqlalchemy.dialects.postgresql.psycopg")
    found.set_forkserver_preload([__name__, "tracker.ledger.append", *dialects])
    return found


@pytest.fixture
def shared(ledger_url: str, tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws", ledger_url=ledger_url, competition={"daily_limit": 5})


def unlimited(workspace: Workspace) -> Workspace:
    from dataclasses import replace

    return replace(workspace, competition=replace(workspace.competition, daily_limit=0))


def submit_one(workspace: Workspace, answer: str, gate: str, results: Connection) -> None:
    """Wait for the gate, submit, and tell the number, 0 when refused."""
    while not Path(gate).exists():
        time.sleep(0.001)
    try:
        with open_ledger(workspace) as ledger:
            results.send(ledger.append_submission(draft(answer), workspace.competition).number)
    except RefusedError:
        results.send(0)
    results.close()


def submit_at_once(
    context: ForkServerContext, workspace: Workspace, answers: list[str]
) -> list[int]:
    """The numbers that as many processes got, sorted; 0 for each refusal."""
    gate = workspace.root / "gate"
    gate.unlink(missing_ok=True)
    started = []
    for answer in answers:
        ours, theirs = context.Pipe(duplex=False)
        child = context.Process(target=submit_one, args=(workspace, answer, str(gate), theirs))
        child.start()
        theirs.close()
        started.append((child, ours))
    gate.touch()
    numbers = []
    for child, ours in started:
        assert ours.poll(LIMIT_S)
        numbers.append(ours.recv())
        ours.close()
        child.join(LIMIT_S)
        assert child.exitcode == 0
        child.close()
    return sorted(numbers)


def test_of_32_equal_submissions_one_is_accepted(
    context: ForkServerContext, shared: Workspace
) -> None:
    assert submit_at_once(context, unlimited(shared), ["0"] * PROCESSES) == [0] * (
        PROCESSES - 1
    ) + [1]
    assert len(list_submissions(shared)) == 1


def test_32_different_submissions_are_numbered_without_a_gap(
    context: ForkServerContext, shared: Workspace
) -> None:
    answers = [f"answer {number}" for number in range(PROCESSES)]
    assert submit_at_once(context, unlimited(shared), answers) == list(range(1, PROCESSES + 1))
    assert verify_ledger(shared.ledger_url).problem == ""


def test_of_32_submissions_the_daily_limit_lets_5_through(
    context: ForkServerContext, shared: Workspace
) -> None:
    answers = [f"answer {number}" for number in range(PROCESSES)]
    assert submit_at_once(context, shared, answers) == [0] * (PROCESSES - 5) + [1, 2, 3, 4, 5]


def write_on(workspace: Workspace, seed: int, told: Connection) -> None:
    """Submit, score and note without end; tell every number once it was acknowledged."""
    number = 0
    while True:
        number += 1
        with open_ledger(workspace) as ledger:
            done = ledger.append_submission(draft(f"{seed}-{number}"), workspace.competition).number
            told.send(done)
            ledger.append_missing(done, {("public", "f1"): 0.5, ("public", "accuracy"): 0.5})
            ledger.append_note(kind="note", text="kept", submission=done)


def test_writers_killed_again_and_again_leave_no_half_row_and_lose_nothing(
    context: ForkServerContext, shared: Workspace
) -> None:
    workspace, rng = unlimited(shared), random.Random(5)  # noqa: S311
    acknowledged: set[int] = set()
    running = [start_writer(context, workspace, seed) for seed in range(2)]
    for kill in range(KILLS):
        child, ours = running.pop(rng.randrange(len(running)))
        if kill % 2:
            assert ours.poll(LIMIT_S)  # every other one comes to write, however busy the machine is
        # a row takes a few milliseconds: the kills fall on every part of writing one
        time.sleep(rng.uniform(0.0, 0.03))
        acknowledged |= end_writer(child, ours)
        running.append(start_writer(context, workspace, kill + 10))
    for child, ours in running:
        acknowledged |= end_writer(child, ours)
    found = verify_ledger(workspace.ledger_url)
    assert found.problem == ""
    numbers = [row.number for row in list_submissions(workspace)]
    assert numbers == list(range(1, len(numbers) + 1))
    assert acknowledged <= set(numbers)
    assert len(numbers) >= KILLS / 2
    pairs = read_rows(workspace.ledger_url, "SELECT count(*) AS n FROM scores GROUP BY submission")
    assert {row["n"] for row in pairs} == {2}


def start_writer(
    context: ForkServerContext, workspace: Workspace, seed: int
) -> tuple[multiprocessing.process.BaseProcess, Connection]:
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=write_on, args=(workspace, seed, theirs))
    child.start()
    theirs.close()
    return child, ours


def end_writer(child: multiprocessing.process.BaseProcess, ours: Connection) -> set[int]:
    """Kill -9, then the numbers that it had been given."""
    assert child.pid
    child.kill()
    child.join(LIMIT_S)
    assert child.exitcode == -signal.SIGKILL
    numbers = set()
    try:
        while ours.poll():
            numbers.add(ours.recv())
    except EOFError:
        pass
    ours.close()
    return numbers
