"""Runs, the submission ledger and comparison; no torch anywhere.

`tracker.start_run(config)` gives a training loop of one's own the record, fingerprints and ledger of every other run.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tracker.api import ActiveRun

__all__ = ["__version__", "start_run"]

__version__ = "0.1.0"  # the distribution's: pyproject.toml reads it here


def start_run(
    config: Mapping[str, Any],
    *,
    note: str = "",
    parent: str | None = None,
    root: Path | None = None,
    follow: bool = True,
) -> ActiveRun:
    """Begin a run in the workspace around `root` (the current folder); use it in a `with` statement.

    `config` may be nested as you like. With `follow`, MLflow and TensorBoard get the run while it is made; else
    `tracker sync` copies it later. Raises UnknownRunError outside a workspace, StorageError when nothing can be
    written there.
    """
    from tracker.api import begin  # late: importing tracker must not load what only a run needs

    return begin(config, note=note, parent=parent, root=root, follow=follow)
