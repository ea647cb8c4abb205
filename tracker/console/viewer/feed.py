"""What the viewer shows, read in threads of its own: no key waits for a disk or a server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from tracker.core.errors import TrackerError, render_error
from tracker.run_folder.read import load_run
from tracker.run_folder.running import RunningRun, RunWatcher
from tracker.workspace.tracker_toml import Workspace

T = TypeVar("T")


class Poller(Generic[T]):
    """Reads again and again in a thread; `latest` is what it found, `problem` why it is old.

    `crash` is an error that nobody expected: the thread has ended.
    """

    def __init__(
        self, read: Callable[[], T], first: T, *, every_s: float, wake: Callable[[], None]
    ) -> None:
        self.latest = first
        self.problem = ""
        self.crash: Exception | None = None
        self._read, self._every_s, self._wake = read, every_s, wake
        self._again = threading.Event()
        self._stopped = False
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begin, unless it has begun."""
        if self._thread.ident is None:
            self._thread.start()

    def hurry(self) -> None:
        """Read again now."""
        self._again.set()

    def stop(self) -> None:
        """Read no more."""
        self._stopped = True
        self._again.set()

    def _run(self) -> None:
        while not self._stopped:
            self._again.clear()
            try:
                self.latest, self.problem = self._read(), ""
            except TrackerError as error:
                self.problem = render_error(error)
            except Exception as error:  # noqa: BLE001 - raised again where it is seen
                self.crash = error
            self._wake()
            if self.crash:
                return
            self._again.wait(self._every_s)


@dataclass(frozen=True, kw_only=True)
class OwnView:
    """The running runs of this workspace, with what a condition can ask for where it was wanted."""

    runs: Sequence[RunningRun] = ()
    values: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    names: Collection[str] | None = None


class OwnFeed:
    """Reads the running runs of this workspace, and those that were `named`, however they ended.

    `pinned` and `with_values` may change any time.
    """

    def __init__(self, workspace: Workspace, named: Sequence[str] = ()) -> None:
        self.pinned: Collection[str] = ()
        self.with_values = False
        self._workspace = workspace
        self._watcher = RunWatcher(workspace, named)

    def read(self) -> OwnView:
        """The runs now; raises LedgerError or StorageError."""
        runs = self._watcher.read(self.pinned)
        if not self.with_values:
            return OwnView(runs=runs)
        values = load_condition_values(self._workspace, runs)
        return OwnView(runs=runs, values=values, names=list_names(self._workspace, values))


def load_condition_values(
    workspace: Workspace, runs: Sequence[RunningRun]
) -> dict[str, dict[str, Any]]:
    """What `runs --where` knows of each run, by its key.

    A metric that has no best epoch yet has its newest value.
    """
    from tracker.comparison.compared_run import load_values

    known: dict[str, dict[str, Any]] = {}
    for run in runs:
        known[run.key] = {name: curve[-1][1] for name, curve in run.curves.items() if curve}
        with suppress(TrackerError):  # it was deleted a moment ago
            record = load_run(workspace.runs_dir, run.name)
            (values,) = load_values(workspace, [record])
            known[run.key] |= {
                name: value
                for name, value in values.items()
                if value is not None or name not in known[run.key]
            }
    return known


def list_names(workspace: Workspace, values: Mapping[str, Mapping[str, Any]]) -> set[str]:
    """The names that a condition may have."""
    from tracker.comparison.search import list_known_names

    names = set(list_known_names(workspace.competition))
    for own in values.values():
        names.update(own)
    return names
