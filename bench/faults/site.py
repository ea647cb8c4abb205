"""The folder of one fault: a workspace and the commands that run in it."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bench.faults.strike import VARIABLE
from tests.support.forks import DRAWS, FIRST, Child, Forks
from tracker.run_folder.read import list_runs
from tracker.run_folder.record import RunRecord
from tracker.workspace.tracker_toml import Workspace, load_workspace

LIMIT_S = 180.0
NO_PLAN: dict[str, Any] = {
    **{"act": "", "role": "", "at": -1, "amount": 0, "keeper": 0, "filler": "", "kaggle": 0},
    "count": False,
}
POLL_S = 0.01
CODES = {0, 1, 2, 3, 130}
BUG = ("Traceback", "this is a bug")
SETTINGS = {
    "OMP_NUM_THREADS": "1",
    "TRACKER_AUTHOR": "kim",
    "TRACKER_MLFLOW_WAIT_S": "60",
    "KAGGLE_USERNAME": "ann",
    "KAGGLE_KEY": "0123456789abcdef",
}


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    words: tuple[str, ...]
    code: int
    out: str
    err: str

    @property
    def problem(self) -> str:
        """Why no command may end so; empty for one that says what is wrong."""
        if self.code >= 0 and self.code not in CODES:
            return f"tracker {' '.join(self.words)}: exit code {self.code}: {self.err[-300:]}"
        if any(word in self.err for word in BUG):
            return f"tracker {' '.join(self.words)}: {self.err[-1500:]}"
        return ""


@dataclass
class Site:
    """`root` is the workspace; beside it are the other files of the fault."""

    folder: Path
    forks: Forks
    env: dict[str, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    kaggle: Any = None

    @property
    def root(self) -> Path:
        """The workspace."""
        return self.folder / "ws"

    @property
    def notes(self) -> Path:
        """Where the processes and their parent leave files for each other."""
        return self.folder / "notes"

    @property
    def hers(self) -> Site:
        """The workspace of a teammate."""
        env = {**self.env, "TRACKER_AUTHOR": "mina"}
        return Site(self.folder / "mina", self.forks, env, self.problems)

    @property
    def workspace(self) -> Workspace:
        """The workspace as it is now."""
        with self.settings():
            return load_workspace(self.root)

    @property
    def runs(self) -> list[RunRecord]:
        """The newest first."""
        return list_runs(self.root / "runs")

    @contextmanager
    def settings(self) -> Iterator[None]:
        """The environment of the commands for this process."""
        before = dict(os.environ)
        os.environ.update({**SETTINGS, **self.env})
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)

    def start(
        self,
        words: Sequence[str],
        *,
        plan: Mapping[str, Any] | None = None,
        root: Path | None = None,
    ) -> Child:
        """A tracker command in the background, struck as the plan says."""
        self.notes.mkdir(exist_ok=True)
        places = {"root": str(root or self.root), "folder": str(self.notes)}
        port = self.kaggle.port if self.kaggle else 0
        whole = {**NO_PLAN, **places, "kaggle": port, **(plan or {})}
        env = {**SETTINGS, **self.env, DRAWS: "yes"}  # pictures have faults, too
        env |= {FIRST: "bench.faults.strike:begin", VARIABLE: json.dumps(whole)}
        return self.forks.start(
            *words,
            cwd=root or self.root,
            spares=2 if words[1:2] == ("queue",) else 0,
            session=True,
            **env,
        )

    def finish(self, words: Sequence[str], child: Child) -> Ended:
        """Wait for a command, and note what no command may do."""
        try:
            out, err = child.communicate(LIMIT_S)
        except TimeoutError:
            child.kill()
            self.problems.append(f"tracker {' '.join(words)} hangs")
            out, err = child.communicate(LIMIT_S)
        ended = Ended(tuple(words), child.wait(), out, err)
        if ended.problem:
            self.problems.append(ended.problem)
        return ended

    def run(self, *words: str) -> Ended:
        """A tracker command to its end."""
        return self.finish(words, self.start(words))

    def must(self, *words: str) -> Ended:
        """A command after the fault, which must succeed."""
        ended = self.run(*words)
        if ended.code != 0 and not ended.problem:
            self.problems.append(
                f"tracker {' '.join(words)}: exit {ended.code}: {ended.err[-400:]}"
            )
        return ended

    def wait_for_processes(self) -> None:
        """Wait until all commands have ended, and what they left in the background."""
        deadline = time.monotonic() + LIMIT_S
        self.notes.mkdir(exist_ok=True)  # a template may have started none
        with (self.notes / "alive").open("a") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    return
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        self.problems.append("a process in the background does not end")
                        return
                time.sleep(POLL_S)

    def clear(self) -> None:
        """Remove the folder, also where what a killed training has just started writes there."""
        deadline = time.monotonic() + LIMIT_S
        while self.folder.exists() and time.monotonic() < deadline:
            shutil.rmtree(self.folder, ignore_errors=True)

    def copy_to(self, template: Path) -> None:
        """Keep the workspace as a template; again where a file was removed meanwhile, as the last
        copier of a killed training does with a journal."""
        deadline = time.monotonic() + LIMIT_S
        while True:
            try:
                shutil.copytree(self.folder, template, symlinks=True)
                return
            except shutil.Error:
                if time.monotonic() > deadline:
                    raise
                shutil.rmtree(template, ignore_errors=True)

    def copy_from(self, template: Path) -> None:
        """Have a workspace as the template is."""
        self.clear()
        shutil.copytree(template, self.folder, symlinks=True)
