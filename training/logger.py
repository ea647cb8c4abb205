"""What the loop reports to: three methods, no vendor."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol


class RunLogger(Protocol):
    """Receives what a run reports; the loop waits for each call, so each must be quick."""

    def params(self, values: Mapping[str, Any]) -> None:
        """Facts found while setting up (number of parameters, device, class names)."""

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        """One point of one or more curves; `step` counts optimizer steps, `epoch` counts from 1."""

    def artifact(self, path: Path) -> None:
        """A finished file in the run folder that belongs to the record."""
