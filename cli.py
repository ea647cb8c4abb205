"""The tracker command: every command and group on one page, and the single place where errors end
the program."""

from __future__ import annotations

import errno
import gc
import os
import sys
from contextlib import suppress
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tracker.commands import (
    archive,
    comparison,
    jobs,
    pictures,
    queue,
    runs,
    submissions,
    training,
    workspace,
)
from tracker.commands import data as data_commands
from tracker.commands import ledger as ledger_commands
from tracker.commands import report as report_commands
from tracker.commands.help import print_help
from tracker.core.errors import InterruptedByUserError, TrackerError
from tracker.core.hints import find_hint
from tracker.training.libraries import translate_import_errors

# Typer has its own copy of click and exports one of its errors; the base is every wrong option
USAGE_ERROR: Any = typer.BadParameter.__mro__[1]
NO_COMMAND = "NoArgsIsHelpError"  # a group alone: its page has been printed already
READER_GONE = 141  # what a shell says of a program that a pipe without a reader has ended
UNWRITABLE = (
    errno.EPIPE,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EBADF,
)  # of an output


class Commands(TyperGroup):
    """Typer's group, but Ctrl-C is ours to report, and the help page is quick."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises InterruptedByUserError instead of KeyboardInterrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedByUserError("interrupted") from None

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help page, at a third of the time that Typer's takes."""
        print_help(self, ctx)


app = typer.Typer(
    cls=Commands,
    help="Experiment tracker with a submission ledger for image-classification competitions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
run = typer.Typer(
    help="Make a run, or many: train, infer, ensemble, reproduce, queue, sweep.",
    no_args_is_help=True,
)
ledger = typer.Typer(
    help="The ledger itself: verify, backup, import, export.", no_args_is_help=True
)
data = typer.Typer(
    help="The images: stats, check, split, suspects, remove-background.", no_args_is_help=True
)
leaderboard = typer.Typer(invoke_without_command=True)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tracker.runs.environment import describe_versions

        print("\n".join(describe_versions()))
        raise typer.Exit


@app.callback()
def common(
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the versions, for a bug report.",
            callback=_print_version,
            is_eager=True,
        ),
    ] = False,
) -> None:
    """Options of every command; `main` looks for --debug itself."""


START, RUNS, SUBMIT = "Start", "Runs", "Submissions"
app.command("init", rich_help_panel=START)(workspace.init_command)
app.command("demo", rich_help_panel=START)(workspace.demo_command)
app.command("ui", rich_help_panel=START)(workspace.ui_command)
app.command("sync", rich_help_panel=START)(workspace.sync_command)

app.add_typer(run, name="run", rich_help_panel=RUNS)
run.command("train")(training.train_command)
run.command("infer")(training.infer_command)
run.command("ensemble")(training.ensemble_command)
run.command("reproduce")(training.reproduce_command)
run.command("queue")(queue.queue_command)
run.command("sweep")(queue.sweep_command)
run.command("options")(training.options_command)
app.command("runs", rich_help_panel=RUNS)(runs.runs_command)
app.command("show", rich_help_panel=RUNS)(runs.show_command)
app.command("diff", rich_help_panel=RUNS)(runs.diff_command)
app.command("tree", rich_help_panel=RUNS)(report_commands.tree_command)
app.command("compare", rich_help_panel=RUNS)(comparison.compare_command)
app.command("logs", rich_help_panel=RUNS)(jobs.logs_command)
app.command("stop", rich_help_panel=RUNS)(jobs.stop_command)
app.command("adopt", rich_help_panel=RUNS)(training.adopt_command)
app.command("explain", rich_help_panel=RUNS)(pictures.explain_command)
app.command("tag", rich_help_panel=RUNS)(archive.tag_command)
app.command("archive", rich_help_panel=RUNS)(archive.archive_command)
app.command("unarchive", rich_help_panel=RUNS)(archive.unarchive_command)
app.command("clean", rich_help_panel=RUNS)(archive.clean_command)

app.add_typer(data, name="data", rich_help_panel=RUNS)
data.command("stats")(data_commands.stats_command)
data.command("check")(data_commands.check_command)
data.command("split")(data_commands.split_command)
data.command("suspects")(pictures.suspects_command)
data.command("remove-background")(pictures.remove_background_command)

app.command("check", rich_help_panel=SUBMIT)(submissions.check_command)
app.command("submit", rich_help_panel=SUBMIT)(submissions.submit_command)
app.command("score", rich_help_panel=SUBMIT)(submissions.score_command)
app.add_typer(leaderboard, name="leaderboard", rich_help_panel=SUBMIT)
leaderboard.callback()(submissions.leaderboard_command)
leaderboard.command("reveal")(submissions.reveal_command)
leaderboard.command("cv-lb")(comparison.cv_lb_command)
leaderboard.command("truth", hidden=True)(comparison.old_cv_lb_command)
app.command("sota", rich_help_panel=SUBMIT)(submissions.sota_command)
app.command("select", rich_help_panel=SUBMIT)(comparison.select_command)
app.command("note", rich_help_panel=SUBMIT)(submissions.note_command)
app.command("audit", rich_help_panel=SUBMIT)(submissions.audit_command)
app.command("report", rich_help_panel=SUBMIT)(report_commands.report_command)
app.add_typer(ledger, name="ledger", rich_help_panel=SUBMIT)
ledger.command("init")(ledger_commands.init_command)
ledger.command("verify")(ledger_commands.verify_command)
ledger.command("history")(ledger_commands.history_command)
ledger.command("upgrade")(ledger_commands.upgrade_command)
ledger.command("backup")(ledger_commands.backup_command)
ledger.command("restore")(ledger_commands.restore_command)
ledger.command("import")(ledger_commands.import_command)
ledger.command("export")(ledger_commands.export_command)


def main() -> None:
    """Run the command line; an error is one or two lines on stderr and its exit code."""
    _occupy_standard_files()
    gc.set_threshold(
        20_000, 50, 50
    )  # a short command makes no garbage worth collecting: 12 ms of 200
    debug = "--debug" in sys.argv
    if not debug:
        sys.excepthook = _report_bug
    code = _run(debug)
    try:
        _flush()  # the interpreter does it, too, but has no way to tell us that it failed
    except OSError as error:
        code = _end_output(error)
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
        if debug or error.filename is not None or error.errno not in UNWRITABLE:
            raise
        return _end_output(error)
    return code


def _invoke() -> int:
    """Run the command and return its exit code; a wrong option looks like every other error."""
    try:
        with translate_import_errors():
            # app() itself would install a hook of its own
            code = typer.main.get_command(app)(prog_name="tracker", standalone_mode=False)
    except USAGE_ERROR as error:
        if type(error).__name__ != NO_COMMAND:
            message = " ".join(error.format_message().split()).rstrip(".")
            path = error.ctx.command_path if error.ctx else "tracker"
            _report(message[:1].lower() + message[1:], f"{path} --help")
        return int(error.exit_code)
    return code if isinstance(code, int) else 0


def _report(message: str, hint: str) -> None:
    """Write an error to stderr, if that can be written."""
    from tracker.core.terminal import has_color, print_note

    with suppress(OSError):
        print_note(message, before="error: ", style="red" if has_color(sys.stderr) else "")
        if hint:
            print_note(hint, before="  try: ")


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


def _report_bug(kind: type[BaseException], error: BaseException, _: object) -> None:
    """Report an unexpected error; the interpreter calls it, then exits with 1."""
    print(f"error: {kind.__name__}: {error} (this is a bug in tracker)", file=sys.stderr)
    print("  try: the same with tracker --debug ..., and report what it prints", file=sys.stderr)


if __name__ == "__main__":
    main()
