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
    rank: int | None = None,
) -> ActiveRun:
    """Begin a run in the workspace around `root` (the current folder); use it in a `with` statement.

    `config` may be nested as you like. With `follow`, MLflow and TensorBoard get the run while it is made; else
    `tracker sync` copies it later. A run that is still open when the script ends is finished; failed, after an error or
    sys.exit with a code; interrupted, after Ctrl-C.

    Where a launcher has started several processes (torchrun, accelerate, srun), the first makes the run; in the others
    the methods do nothing, and `folder` is one that is deleted at the end. `rank` is the place of this process, where
    the launcher's variables do not say it; with 0 it makes a run whatever they say.
    Raises UnknownRunError outside a workspace, StorageError when nothing can be written there.
    """
    from tracker.api import begin_in_group  # late: importing tracker must not load what only a run needs

    return begin_in_group(config, note=note, parent=parent, root=root, follow=follow, rank=rank)
