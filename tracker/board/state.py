"""What a page depends on at a moment: the ledger's head, the runs, and what MLflow says of others.

A page is made once for a state. Browsers ask with the state that they show, and get nothing while
it is the same.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from tracker.core.errors import TrackerError, render_error
from tracker.ledger.connection import open_reader
from tracker.ledger.heads import observe, read_newest
from tracker.ledger.integrity import check_integrity
from tracker.mirror.pull import is_alone
from tracker.mirror.team import ASK_AGAIN_S, HERE, TeamRun, list_team, read_team_curves
from tracker.run_folder.read import load_listed, look_once
from tracker.run_folder.record import list_run_numbers
from tracker.run_folder.running import RunningRun, RunWatcher
from tracker.workspace.tracker_toml import Workspace

READ_AGAIN_S = 1.0  # many browsers ask: the ledger and the folders are looked at once a second
PAUSE = 4  # times the seconds that the last look at very many runs took
MINUTE_S = 60.0  # clocks on a page are right to the minute, and a death elsewhere is seen


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """What MLflow says of teammates' running runs; `problem` says why they are not known.

    `curves` has the values of `metric` so far by the run's uid.
    """

    running: Sequence[TeamRun] = ()
    metric: str = ""
    curves: Mapping[str, Sequence[float]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class State:
    """What there is now; `key` is another one when a page may look different.

    `running` are the running runs of this workspace; `problem` says that the ledger was changed.
    """

    key: str
    problem: str
    running: Sequence[RunningRun]
    team: Elsewhere


class StateReader:
    """Reads the state, at most once a second however many ask.

    Of very many runs a look takes seconds: it takes a fifth of the time.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._watcher = RunWatcher(workspace)
        self._team = TeamWatcher(workspace)
        self._lock = threading.Lock()
        self._read_at = float("-inf")
        self._pause_s = 0.0
        self._found: State | TrackerError = TrackerError("not read yet")

    def start(self) -> None:
        """Begin to ask for what runs elsewhere."""
        self._team.start()

    def stop(self) -> None:
        """End what `start` began."""
        self._team.stop()

    def ask_team_once(self) -> None:
        """Ask now for what runs elsewhere, and wait for the answer."""
        self._team.ask()

    def read(self) -> State:
        """The state now; raises LedgerError or StorageError."""
        with self._lock:
            if time.monotonic() - self._read_at >= max(READ_AGAIN_S, self._pause_s):
                try:
                    self._found = self._read()
                except TrackerError as error:
                    # those who waited meanwhile get the same: a server may take 10 s to not answer
                    self._found = error
                self._read_at = time.monotonic()
            if isinstance(self._found, TrackerError):
                raise self._found.with_traceback(None)
            return self._found

    def _read(self) -> State:
        with open_reader(self._workspace.ledger_url) as query:
            head = read_newest(query)
            problem = observe(self._workspace, query)
        problem = problem or check_integrity(self._workspace, writes=False).warning
        runs, running = self._read_runs()
        team = self._team.known
        # what changes with each point, as the speed, is drawn with the next epoch or minute
        facts = [
            head.key if head else "",
            problem,
            int(time.time() // MINUTE_S),
            runs,
            [(run.name, run.epoch, run.value) for run in running],
            [(run.name, run.silent, run.best_epoch) for run in team.running],
            team.curves,
            team.problem,
        ]
        return State(
            key=hashlib.sha256(repr(facts).encode("utf-8", "replace")).hexdigest()[:32],
            problem=problem,
            running=running,
            team=team,
        )

    def _read_runs(self) -> tuple[list[object], Sequence[RunningRun]]:
        """What the pages show of the runs, and the running ones.

        Of very many runs, the files of those that ended are only looked at.
        """
        runs_dir = self._workspace.runs_dir
        started = time.monotonic()
        with look_once(runs_dir) as index:
            self._pause_s = PAUSE * (time.monotonic() - started) if index else 0.0
            numbers = list_run_numbers(runs_dir) if index is None else index.list_unknown()
            facts: list[object] = [index.digest()] if index else []
            for run in load_listed(runs_dir, numbers):
                marks = (run.archived_at, run.note, run.tags)
                facts.append((run.name, run.status, run.epoch, *marks))
            return facts, self._watcher.read()


class TeamWatcher:
    """Asks MLflow once a minute for the running runs of others: no page waits for its answer."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._stopped = threading.Event()
        self._metric = f"val/{workspace.competition.primary_metric}"
        self.known = Elsewhere()

    def start(self) -> None:
        """Ask in a thread of its own, unless MLflow is a file of this workspace alone."""
        if not is_alone(self._workspace):
            threading.Thread(target=self._watch, name="team", daemon=True).start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.is_set():
            self.ask()
            self._stopped.wait(ASK_AGAIN_S)

    def ask(self) -> None:
        """Ask once; what was known stays while there is no answer."""
        try:
            team = list_team(self._workspace)
            running = [run for run in team.runs if run.status == "running" and run.place != HERE]
            curves: Mapping[str, Sequence[float]] = self.known.curves
            if running and not team.problem:
                curves = read_team_curves(self._workspace, running, self._metric)
        except TrackerError as error:
            self.known = replace(self.known, problem=render_error(error))
            return
        self.known = Elsewhere(
            running=running, metric=self._metric, curves=curves, problem=team.problem
        )
