"""The tracker command: the single place where errors end the program.

`tracker.commands.table` lists the commands. Typer is imported in `main`, after the garbage
collector has been told to be lazy: it would cost a tenth of the imports.
"""

from __future__ import annotations

import errno
import gc
import io
import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

from tracker.core.errors import InterruptedByUserError, TrackerError
from tracker.core.first_read import on_first_read
from tracker.core.hints import find_hint
from tracker.core.masking import mask_stderr
from tracker.training.errors import mask_secrets
from tracker.training.libraries import translate_import_errors

NO_COMMAND = "NoArgsIsHelpError"  # a group alone: its page has been printed already
READER_GONE = 141  # what a shell says of a program that a pipe without a reader has ended
LONG = {"data", "demo", "run"}  # they hold images and tensors, which may lie in a cycle
UNWRITABLE = (
    errno.EPIPE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EBADF,
)  # of an output
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EROFS)  # the state of a disk, never a bug


def main() -> None:
    """Run the command line; an error is one or two lines on stderr and its exit code."""
    _occupy_standard_files()
    _replace_what_cannot_be_encoded()
    # a short command makes no garbage worth collecting: 20 ms of 200, as each round looks at all
    # that was imported since the last
    gc.set_threshold(20_000 if LONG & set(sys.argv[1:2]) else 200_000, 50, 50)
    debug = "--debug" in sys.argv
    if debug:
        mask_stderr()  # a traceback has the messages of libraries
    else:
        sys.excepthook = _report_bug
    code = _run(debug)
    _notify()
    try:
        _flush()  # the interpreter does it, too, but has no way to tell us that it failed
    except OSError as error:
        code = _end_output(error)
    _leave_memory()
    sys.exit(code)


def _run(debug: bool) -> int | str | None:
    """Run the command, report what ended it, and return the exit code."""
    code = 0
    try:
        code = _invoke()
    except SystemExit as end:
        # rich and Typer call a pipe that nobody reads a failure of their own
        return READER_GONE if isinstance(end.__context__, BrokenPipeError) else end.code
    except KeyboardInterrupt:  # before a command has begun
        _report_end("interrupted", "")
        return InterruptedByUserError.exit_code
    except InterruptedByUserError as error:
        if debug:
            raise
        _report_end(str(error), error.hint)
        return error.exit_code
    except TrackerError as error:
        hint = find_hint(error)
        if debug:
            if hint and not error.hint:  # an error with a hint of its own has this line already
                error.add_note(f"try: {hint}")
            raise
        _report(str(error), hint)
        return error.exit_code
    except OSError as error:
        found = None if debug else _end_by_disk(error)
        if found is None:
            raise
        return found
    return code


def _invoke() -> int:
    """Run the command and return its exit code; a wrong option looks like every other error."""
    import typer

    from tracker.commands.group import USAGE_ERROR
    from tracker.commands.table import app

    on_first_read(_watch_ledger)
    try:
        with translate_import_errors():
            # app() itself would install a hook of its own
            code = typer.main.get_command(app)(prog_name="tracker", standalone_mode=False)
    except USAGE_ERROR as error:  # every wrong option
        if type(error).__name__ != NO_COMMAND:
            message = " ".join(error.format_message().split()).rstrip(".")
            path = error.ctx.command_path if error.ctx else "tracker"
            _report(message[:1].lower() + message[1:], f"{path} --help")
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _notify() -> None:
    """Let a process of its own send what there is to tell, where messages are on."""
    from tracker.core.settings import get_setting

    if not get_setting("TRACKER_NOTIFY_URL"):
        return
    from tracker.core.sender import start_sender
    from tracker.workspace.tracker_toml import find_workspace

    with suppress(TrackerError, OSError):
        start_sender(find_workspace().root)


def _watch_ledger(url: str, query: Any) -> None:
    """Say on stderr which row was changed or is missing, or note the ledger's new head.

    And say that the team has later settings than this workspace.
    """
    from tracker.core.terminal import print_note
    from tracker.ledger.heads import observe
    from tracker.ledger.integrity import check_integrity
    from tracker.workspace.member_file import read_member
    from tracker.workspace.tracker_toml import find_workspace

    try:
        workspace = find_workspace()
    except TrackerError:  # the command says so itself
        return
    if workspace.ledger_url != url:
        return
    problem, unchecked = observe(workspace, query), 0
    if not problem:
        try:
            found = check_integrity(workspace)
            problem, unchecked = found.warning, found.unchecked
        except TrackerError as error:  # what can be read of it is shown
            problem = str(error)
    with suppress(OSError):
        if problem:
            note = f"the ledger was changed: {problem} (tracker ledger verify compares all rows)"
            print_note(note, before="warning: ")
        if unchecked:
            print_note(
                f"the ledger has grown to {unchecked:,} rows, and whether one was changed takes"
                " seconds to see: tracker ledger verify looks, and so do check, select, report and"
                " submit"
            )
    member = read_member(workspace.root)
    if member is None:
        return
    from tracker.ledger.shared_settings import find_newer  # it loads hashlib

    if newest := find_newer(url, query, member.settings):
        note = (
            f"the team's settings have changed: version {newest}, tracker.toml has"
            f" {member.settings} (tracker join --update takes the changes)"
        )
        with suppress(OSError):
            print_note(note)


def _report(message: str, hint: str) -> None:
    """Write an error to stderr, if that can be written."""
    from tracker.core.terminal import has_color, print_note

    with suppress(OSError):
        print_note(message, before="error: ", style="red" if has_color(sys.stderr) else "")
        if hint:
            print_note(hint, before="  try: ")


def _end_by_disk(error: OSError) -> int | None:
    """Report an output that cannot be written, and a disk that is full or read-only, wherever a
    command met it; the exit code, None for any other error."""
    if error.filename is None:
        return _end_output(error) if error.errno in UNWRITABLE else None
    if error.errno not in NO_ROOM:
        return None
    from tracker.training.files import storage_error

    found = storage_error(error, Path(os.fsdecode(error.filename)), "write")
    _report(str(found), found.hint)
    return found.exit_code


def _report_end(message: str, go_on: str) -> None:
    """Say on stderr that the user has ended the command, which is no error, and how to continue."""
    from tracker.core.text import clean_text

    with suppress(OSError):
        print(
            clean_text(f"{message}; continue with: {go_on}" if go_on else message), file=sys.stderr
        )


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None and not stream.closed:
            stream.flush()


def _leave_memory() -> None:
    """Let the interpreter end without looking for cycles in all that was imported: 11 ms of 100.

    Not where libraries may have left files open in such a cycle, which are then written at last.
    """
    if not sys.modules.keys() & {"torch", "mlflow", "optuna"}:
        gc.freeze()


def _end_output(error: OSError) -> int:
    """Report that the output cannot be written, unless its reader has gone as `head` does.

    Returns the exit code. What could not be written is dropped: the interpreter would try it again
    and complain.
    """
    nowhere = os.open(os.devnull, os.O_WRONLY)
    if sys.stdout is not None:
        with suppress(OSError, ValueError):
            os.dup2(nowhere, sys.stdout.fileno())
    if isinstance(error, BrokenPipeError):
        return READER_GONE
    _report(f"cannot write the output: {error.strerror}", "")
    return 1


def _occupy_standard_files() -> None:
    """Open closed standard streams: another file with their number would get what is printed."""
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number that is free: this one


def _replace_what_cannot_be_encoded() -> None:
    """A pipe on Windows takes a code page: a note in Korean must not end the command."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors == "strict":
            stream.reconfigure(errors="backslashreplace")


def _report_bug(kind: type[BaseException], error: BaseException, _: object) -> None:
    """Report an unexpected error; the interpreter calls it, then exits with 1."""
    print(
        f"error: {kind.__name__}: {mask_secrets(str(error))} (this is a bug in tracker)",
        file=sys.stderr,
    )
    print("  try: the same with tracker --debug ..., and report what it prints", file=sys.stderr)


if __name__ == "__main__":
    main()
