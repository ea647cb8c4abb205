"""The run as the other processes of a launcher see it: the methods do nothing."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.runs.record import RunRecord
from tracker.workflows.own_loop.active_run import FIGURES, ActiveRun, load_last


class NullRun(ActiveRun):
    """The run in a process of its group that is not the first: it writes nothing."""

    def __init__(self, last: Path | None = None) -> None:
        self._scratch: Path | None = None
        self._last = last  # of the run that the first process goes on with

    def __repr__(self) -> str:
        """`<run of another process>`."""
        return "<run of another process>"

    @property
    def name(self) -> str:
        """Empty: only the first process knows."""
        return ""

    @property
    def folder(self) -> Path:
        """A folder that is deleted when the process ends."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="tracker-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def log(
        self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Nothing."""

    @property
    def status(self) -> str:
        """`running`: nothing ends here."""
        return "running"

    @property
    def last_step(self) -> int:
        """0: nothing is counted here."""
        return 0

    @property
    def last_epoch(self) -> int:
        """0: nothing is counted here."""
        return 0

    @property
    def best(self) -> dict[str, float]:
        """Empty: the first process decides."""
        return {}

    def save_last(self, state: Mapping[str, Any]) -> None:
        """Nothing."""

    def load_last(self) -> dict[str, Any] | None:
        """What the first process kept before the run was resumed."""
        return load_last(self._last) if self._last else None

    def change_length(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Nothing."""

    def set_parent(self, name: str) -> None:
        """Nothing."""

    def add_config(self, config: Mapping[str, Any]) -> None:
        """Nothing."""

    def log_figure(self, name: str, figure: Any) -> Path:
        """Nothing; returns where the first process has it."""
        return self.folder / FIGURES / name

    def log_file(self, path: Path | str, name: str = "") -> Path:
        """Nothing; returns the file itself."""
        return Path(path)

    def save_best(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str = ""
    ) -> None:
        """Nothing."""

    def save_better(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str, higher: bool
    ) -> None:
        """Nothing."""

    def replace_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def save_probabilities(self, ids: Sequence[Any], probabilities: Any) -> None:
        """Nothing."""

    def save_validation(self, ids: Sequence[Any], labels: Any, probabilities: Any) -> None:
        """Nothing."""

    def save_predictions(self, answers: Mapping[str, Any] | Path | str) -> None:
        """Nothing."""

    def fingerprint_predictions(self) -> None:
        """Nothing."""

    def set_summary(self, metrics: Mapping[str, float]) -> None:
        """Nothing."""

    def add_facts(self, values: Mapping[str, Any]) -> None:
        """Nothing."""

    def add_file(self, path: Path) -> None:
        """Nothing."""

    def mark_trained(self) -> None:
        """Nothing."""

    def finish(
        self, status: str = "finished", *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """A record of no run."""
        return RunRecord(name="", uid="", status=status, error=error)

    def end(self, error: BaseException | None) -> None:
        """Nothing."""
