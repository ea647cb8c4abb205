"""How a script with an open run ends: its exit code, and no traceback after a stop.

Python tells nobody the code of a sys.exit while the interpreter ends, so it is recorded here.
"""

from __future__ import annotations

import builtins
import functools
import sys
import traceback
from collections.abc import Callable
from types import TracebackType
from typing import Any

from tracker.core.errors import TrackerError
from tracker.core.hints import find_hint
from tracker.run_folder.output import notify
from tracker.training.watch import is_loader_terminated, is_lost_reader
from tracker.workflows.own_loop.termination import has_open_run, has_received_sigterm

INTERRUPTED = 130  # the exit code of a stopped script, as a shell gives it after Ctrl-C

# Each list holds the newest one only, or nothing.
_EXITS: list[SystemExit] = []  # from sys.exit, exit or quit
_STOPS: list[BaseException] = []  # the error that interrupted a run
_REFUSALS: list[TrackerError] = []  # why a run could not start
_LIBRARY_STOPS: list[BaseException] = []  # a stop that a library answers with sys.exit(1)


def record_exit_code() -> None:
    """Wrap sys.exit, exit and quit, once: from now on their last code is known.

    Does nothing at a prompt and in a notebook, where an exit does not end the script.
    """
    if hasattr(sys, "ps1"):
        return
    for module, name in ((sys, "exit"), (builtins, "exit"), (builtins, "quit")):
        exit_function = getattr(module, name, None)
        if exit_function is not None and not hasattr(exit_function, "__wrapped__"):
            setattr(module, name, _record_code_of(exit_function))


def _record_code_of(exit_function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(exit_function, updated=())
    def recording_exit(code: Any = None, /) -> Any:
        if _LIBRARY_STOPS and sys.exc_info()[1] is _LIBRARY_STOPS[-1]:
            code = INTERRUPTED
        _EXITS[:] = [SystemExit(code)]
        return exit_function(code)

    return recording_exit


def find_script_error(error_before: BaseException | None) -> BaseException | None:
    """The error or sys.exit that ends the script; None when it reached its end.

    `error_before` is the last uncaught error from before the run.
    """
    # Python sets last_value whatever sys.excepthook does with the error.
    error: BaseException | None = getattr(sys, "last_value", None)
    if error is not error_before:
        return error
    return _EXITS[-1] if _EXITS else None


def exit_with_interrupted_code(error: BaseException) -> None:
    """Let the script that this error ends exit with 130, even if a library calls sys.exit(1)."""
    if isinstance(error, SystemExit):
        error.code = INTERRUPTED
    else:
        _LIBRARY_STOPS[:] = [error]


def is_stop(error: BaseException) -> bool:
    """Whether it is Ctrl-C or SIGTERM, or a data loader that was terminated with this process."""
    return isinstance(error, KeyboardInterrupt) or is_loader_terminated(error)


def remember_stop(error: BaseException) -> None:
    """This error has interrupted a run: `hide_stop_traceback` hides its traceback."""
    _STOPS[:] = [error]


def explain_early_stop(error: KeyboardInterrupt) -> None:
    """Ctrl-C while a run was to start, but before there was one: say so, without a traceback."""
    hide_stop_traceback()
    if error not in _STOPS:
        remember_stop(error)
        notify("interrupted before the run started: nothing was recorded")


def show_refusal_briefly(error: TrackerError) -> None:
    """If this error, of a run that cannot start, ends the script, show it in two lines."""
    _REFUSALS[:] = [error]
    if not hasattr(sys, "ps1") and sys.excepthook is sys.__excepthook__:
        sys.excepthook = _show_refusal


def _show_refusal(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if not isinstance(error, TrackerError) or error not in _REFUSALS:
        sys.__excepthook__(kind, error, trace)
        return
    notify(f"error: {error}")
    if hint := find_hint(error):
        notify(f"  try: {hint}")
    raise SystemExit(error.exit_code)


def _has_stopped_run(error: BaseException) -> bool:
    """Whether this error is a stop of a run, or what a stop has broken in a library.

    The exception of a stop may come anywhere. What the script itself raises is an error of its own.
    """
    if is_stop(error):
        return has_open_run() or error in _STOPS
    if _is_raised_by_script(error):
        return False
    if has_open_run() and has_received_sigterm():
        return True
    cause: BaseException | None = error
    while cause is not None and cause not in _STOPS:
        cause = cause.__cause__ or cause.__context__
    return cause is not None


def _is_raised_by_script(error: BaseException) -> bool:
    """Whether a line of the script raised it, not one of a library."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and frames[-1].f_globals.get("__name__") == "__main__"


def hide_stop_traceback() -> None:
    """End a script that is stopped while its run is open without a traceback.

    The run's last line says everything. A hook that somebody else has set stays, and any other
    error is shown as always, that of a run which cannot start in two lines.
    """
    if hasattr(sys, "ps1") or sys.excepthook not in (sys.__excepthook__, _show_refusal):
        return

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if is_lost_reader(error):  # in a loader process, which has this hook from its parent
            return
        if not _has_stopped_run(error):
            _show_refusal(kind, error, trace)
        elif not isinstance(error, KeyboardInterrupt):  # Python exits with 130 after that one
            raise SystemExit(INTERRUPTED)

    sys.excepthook = hook
