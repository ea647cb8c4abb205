"""Runs, the submission ledger and comparison; no torch anywhere.

`tracker.start_run(config)` gives a training loop of one's own the record, fingerprints and ledger
of every other run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.version import __version__

if TYPE_CHECKING:
    from tracker.workflows.own_loop.active_run import ActiveRun

__all__ = ["__version__", "start_run"]


def start_run(
    config: Mapping[str, Any],
    *,
    note: str = "",
    parent: str | None = None,
    tags: Sequence[str] | Mapping[str, str] = (),
    resume: str | None = None,
    root: Path | None = None,
    follow: bool = True,
    rank: int | None = None,
    quiet: bool = False,
) -> ActiveRun:
    """Begin a run in the workspace around `root` (the current folder); use it in a `with`
    statement.

    `config` may be nested as you like. `parent` is the run that this one is a change of: exp12,
    latest, sota or s12
    (the run of submission 12). `tags` are words to find it by, of letters, digits and . : / + = -
    _; {"who": "mina"} is the tag who=mina. With `follow`, MLflow and TensorBoard get the run while
    it is made; else `tracker sync` copies it later. A run that is still open when the script ends
    is finished; failed, after an error or sys.exit with a code; interrupted, after Ctrl-C, SIGTERM
    or `tracker stop`. Unless `quiet`, a line on stderr says that it begins, and another how it
    ended.

    `resume` is a run that was killed, interrupted or failed, and goes on: its points and files
    stay, a step that is
    logged again counts once. It has its config; another one is refused, {} and another number of
    epochs or steps are not. `note` and `parent` take the place of its own, `tags` are added to
    them.

    Where a launcher has started several processes (torchrun, accelerate, srun), the first makes the
    run; in the others the methods do nothing, and `folder` is one that is deleted at the end.
    `rank` is the place of this process, where the launcher's variables do not say it; with 0 it
    makes a run whatever they say. Raises UnknownRunError outside a workspace and for a run that
    there is not, ConfigError for one that cannot be resumed and for wrong tags, StorageError when
    nothing can be written there.
    """
    from tracker.workflows.own_loop.begin import (
        begin_in_group,  # late: importing tracker must not load what only a run needs
    )

    return begin_in_group(
        config,
        note=note,
        parent=parent,
        tags=tags,
        resume=resume,
        root=root,
        follow=follow,
        rank=rank,
        quiet=quiet,
    )
