"""Runs, the submission ledger and comparison; no torch anywhere.

`tracker.start_run(config)` records your own training loop as a run like any other.
`tracker.runs()`, `submissions()`, `curves("exp12")` and `predictions("exp12")` are data frames.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tracker.core.version import __version__

if TYPE_CHECKING:
    from tracker.frames import curves, predictions, runs, submissions
    from tracker.workflows.own_loop.active_run import ActiveRun

__all__ = ["__version__", "curves", "predictions", "runs", "start_run", "submissions"]

_FRAMES = ("curves", "predictions", "runs", "submissions")


def __getattr__(name: str) -> Any:
    """The functions of tracker/frames.py, loaded when they are first asked for."""
    if name in _FRAMES:
        from tracker import frames

        return getattr(frames, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


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
    """Start a run in the workspace of `root` (default: the current folder); use it with `with`.

    `config` may be nested. `parent` is the run that this one changes: exp12, latest, sota or s12
    (the run of submission 12). `tags` are words to find it by, made of letters, digits and
    . : / + = - _; {"who": "mina"} is the tag who=mina. With `follow`, MLflow and TensorBoard get
    the run while it is made, without it `tracker sync` copies it later. A run that is still open
    when the script ends is finished; after an error or sys.exit with a code it is failed; after
    Ctrl-C, SIGTERM or `tracker stop` it is interrupted. Unless `quiet`, stderr gets a line when it
    starts and one when it ends.

    `resume` is the name of a killed, interrupted or failed run to continue. Its points and files
    stay, and a step that is logged again counts once. It keeps its config: pass the same one, or
    {}; only the number of epochs or steps may change. `note` and `parent` replace its own, `tags`
    are added.

    Under a launcher with several processes (torchrun, accelerate, srun) the first makes the run. In
    the others the methods do nothing, and `folder` is temporary. `rank` is the rank of this process
    where the launcher does not set it; rank 0 always makes a run. Raises UnknownRunError outside a
    workspace and for an unknown run, ConfigError for a run that cannot be resumed and for wrong
    tags, StorageError when nothing can be written there.
    """
    # Imported late: importing tracker must not load what only a run needs.
    try:
        from tracker.workflows.own_loop.begin import begin_in_group

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
    except KeyboardInterrupt as error:
        from tracker.workflows.own_loop.script_end import explain_early_stop

        explain_early_stop(error)
        raise
