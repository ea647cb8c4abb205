"""The run in processes of rank 1 and above: its methods do nothing."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.run_folder.record import RunRecord
from tracker.workflows.own_loop.active_run import FIGURES, ActiveRun, load_last


class NullRun(ActiveRun):
    """The run in a process of a group that is not the first: it records nothing."""

    def __init__(self, last: Path | None = None) -> None:
        self._scratch: Path | None = None
        self._last = last  # last.pth of the run that the first process resumes

    def __repr__(self) -> str:
        """`<run of another process>`."""
        return "<run of another process>"

    @property
    def name(self) -> str:
        """Empty: only the first process knows."""
        return ""

    @property
    def folder(self) -> Path:
        """A temporary folder, deleted when the process ends."""
        if self._scratch is None:
            self._scratch = Path(tempfile.mkdtemp(prefix="tracker-"))
            atexit.register(shutil.rmtree, self._scratch, ignore_errors=True)
        return self._scratch

    def log(
        self, values: Mapping[str, float], *, step: int | None = None, epoch: int | None = None
    ) -> None:
        """Do nothing."""

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
        """Do nothing."""

    def load_last(self) -> dict[str, Any] | None:
        """The state that the first process saved before the run was resumed."""
        return load_last(self._last) if self._last else None

    def change_length(self, tables: Mapping[str, Mapping[str, Any]]) -> None:
        """Do nothing."""

    def set_parent(self, name: str) -> None:
        """Do nothing."""

    def add_config(self, config: Mapping[str, Any]) -> None:
        """Do nothing."""

    def log_figure(self, name: str, figure: Any) -> Path:
        """Do nothing; returns the path that the first process writes to."""
        return self.folder / FIGURES / name

    def log_file(self, path: Path | str, name: str = "") -> Path:
        """Do nothing; returns the file itself."""
        return Path(path)

    def save_best(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str = ""
    ) -> None:
        """Do nothing."""

    def save_better(
        self, weights: Any, *, epoch: int, metrics: Mapping[str, float], monitor: str, higher: bool
    ) -> None:
        """Do nothing."""

    def replace_best(self, weights: Any, *, epoch: int, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def save_probabilities(self, ids: Sequence[Any], probabilities: Any) -> None:
        """Do nothing."""

    def save_validation(
        self,
        ids: Sequence[Any],
        labels: Any,
        probabilities: Any,
        *,
        groups: Sequence[Any] | None = None,
    ) -> None:
        """Do nothing."""

    def save_predictions(self, answers: Mapping[str, Any] | Path | str) -> None:
        """Do nothing."""

    def fingerprint_predictions(self) -> None:
        """Do nothing."""

    def set_summary(self, metrics: Mapping[str, float]) -> None:
        """Do nothing."""

    def take_over(self, original: RunRecord, weights: str | None) -> None:
        """Do nothing."""

    def add_facts(self, values: Mapping[str, Any]) -> None:
        """Do nothing."""

    def add_file(self, path: Path) -> None:
        """Do nothing."""

    def mark_trained(self) -> None:
        """Do nothing."""

    def finish(
        self, status: str = "finished", *, error: str = "", times: tuple[str, str] | None = None
    ) -> RunRecord:
        """An empty record."""
        return RunRecord(name="", uid="", status=status, error=error)

    def discard(self) -> None:
        """Do nothing."""

    def end(self, error: BaseException | None) -> None:
        """Do nothing."""
