"""The interface that the training loop logs to."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class RunLogger(Protocol):
    """Receives facts, metrics and files of a run; the loop waits, so each call must be fast."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Facts of the setup (number of parameters, device, class names)."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """One point of one or more curves; `step` counts optimizer steps, `epoch` counts from 1."""

    def artifact(self, path: Path) -> None:
        """A finished file in the run folder that belongs to the record."""
