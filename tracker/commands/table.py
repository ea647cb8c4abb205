"""The table of commands: where each is, and its line on the page of `tracker --help`.

The page is printed from here, and only the command that was typed is imported and built
(bench/startup.py). A test keeps the lines equal to what the commands say of themselves.
"""

from __future__ import annotations

from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from tracker.commands.group import BuiltWhenTyped, Entry, list_panels
from tracker.commands.help import print_help
from tracker.core.errors import InterruptedByUserError

START, RUNS, SUBMIT = "Start", "Runs", "Submissions"

TABLE = {
    "init": Entry(
        "workspace:init_command",
        "Make a workspace: tracker.toml, ledger.db, runs/.",
        panel=START,
        built_by="init_options:InitCommand",
    ),
    "join": Entry(
        "team:join_command",
        "Make a workspace of a team that has a server; asks for the secret of the member.",
        panel=START,
    ),
    "demo": Entry(
        "workspace:demo_command",
        "Make a small competition and go the whole way through it.",
        panel=START,
    ),
    "ui": Entry(
        "workspace:ui_command",
        "Serve the MLflow web page of this workspace on this machine.",
        panel=START,
    ),
    "board": Entry(
        "board:board_command",
        "Serve the report as a live page: leaderboard, quota, deadline, running runs, each run.",
        panel=START,
    ),
    "sync": Entry(
        "workspace:sync_command",
        "Bring MLflow and the ledger up to date with the run folders.",
        panel=START,
    ),
    "doctor": Entry(
        "doctor:doctor_command",
        "Check this machine and workspace before a long night; exit code 1 when something is"
        " wrong.",
        panel=START,
    ),
    "notify": Entry(
        "notify:notify_command",
        "Send messages about runs, SOTA, quota and deadline to Slack, Discord, ntfy or a webhook.",
        panel=START,
    ),
    "push": Entry(
        "workspace:push_command",
        "Repair the copies on MLflow: what never arrived, was cut off or changed there is sent"
        " again.",
        panel=START,
    ),
    "pull": Entry(
        "workspace:pull_command",
        "Bring teammates' runs from MLflow: config, curves, predictions, probabilities.",
        panel=START,
    ),
    "runs": Entry(
        "runs:runs_command",
        "List the runs, newest first.",
        panel=RUNS,
    ),
    "show": Entry(
        "runs:show_command",
        "Show one run: metrics, advice, submissions, notes, and the config keys that differ.",
        panel=RUNS,
    ),
    "diff": Entry(
        "runs:diff_command",
        "Show what differs between two runs, which was better, and whether that is real.",
        panel=RUNS,
    ),
    "tree": Entry(
        "report:tree_command",
        "Show which run was made from which, with its change and its scores; SOTA's line is"
        " marked.",
        panel=RUNS,
    ),
    "compare": Entry(
        "comparison:compare_command",
        "Show many runs in one table: config keys that differ, and metrics; seeds as mean and sd.",
        panel=RUNS,
    ),
    "logs": Entry(
        "jobs:logs_command",
        "Show what a run has printed, or its epochs when it runs in a terminal.",
        panel=RUNS,
    ),
    "stop": Entry(
        "jobs:stop_command",
        "End a running run as Ctrl-C would; best.pth stays, and --resume goes on with it.",
        panel=RUNS,
    ),
    "events": Entry(
        "live:events_command",
        "Show what happened: runs that started, ended or died, advice, SOTA, quota, deadline.",
        panel=RUNS,
    ),
    "watch": Entry(
        "live:watch_command",
        "Watch the running runs: epoch, loss, speed, time left, curves; ? has the keys, q leaves.",
        panel=RUNS,
    ),
    "adopt": Entry(
        "training:adopt_command",
        "Import a run made by another script: config, curves, checkpoint, prediction CSV.",
        panel=RUNS,
    ),
    "explain": Entry(
        "pictures:explain_command",
        "Draw where a run looks: heat maps over wrong, uncertain or named images, in explain.png.",
        panel=RUNS,
    ),
    "tag": Entry(
        "archive:tag_command",
        "Add tags to a run, or remove them; best.pth of a tagged run is never freed.",
        panel=RUNS,
    ),
    "archive": Entry(
        "archive:archive_command",
        "Hide runs from lists, trees and reports; nothing is deleted.",
        panel=RUNS,
    ),
    "unarchive": Entry(
        "archive:unarchive_command",
        "Show archived runs in the lists again.",
        panel=RUNS,
    ),
    "clean": Entry(
        "archive:clean_command",
        "Free disk space: last.pth of finished runs and old pixel caches; lists the files and"
        " asks.",
        panel=RUNS,
    ),
    "check": Entry(
        "submissions:check_command",
        "Show whether a run beats SOTA, and whether submit would accept it.",
        panel=SUBMIT,
    ),
    "submit": Entry(
        "submissions:submit_command",
        "Record a submission and show whether it is the new SOTA; a repeat is refused.",
        panel=SUBMIT,
    ),
    "score": Entry(
        "submissions:score_command",
        "Record the leaderboard's scores of a submission, and show whether it is the new SOTA.",
        panel=SUBMIT,
    ),
    "sota": Entry(
        "submissions:sota_command",
        "Show the best submission so far; exit code 1 when there is none.",
        panel=SUBMIT,
    ),
    "select": Entry(
        "comparison:select_command",
        "Choose the final submissions: by public score, validation and difference, with reasons.",
        panel=SUBMIT,
    ),
    "note": Entry(
        "submissions:note_command",
        "Add a remark to a submission or a run; what was noted before stays.",
        panel=SUBMIT,
    ),
    "audit": Entry(
        "submissions:audit_command",
        "Show how the submissions were spent: wasted, one key changed from SOTA, or several.",
        panel=SUBMIT,
    ),
    "report": Entry(
        "report:report_command",
        "Write the team's report: submissions, steps of SOTA, agreement, family and audit.",
        panel=SUBMIT,
    ),
    "run": Entry(
        "",
        "Make a run, or many: train, infer, ensemble, reproduce, queue, sweep.",
        panel=RUNS,
        below={
            "train": Entry("training:train_command"),
            "infer": Entry("training:infer_command"),
            "ensemble": Entry("training:ensemble_command"),
            "reproduce": Entry("training:reproduce_command"),
            "queue": Entry("queue:queue_command"),
            "sweep": Entry("queue:sweep_command"),
            "options": Entry("training:options_command"),
        },
    ),
    "data": Entry(
        "",
        "The images: stats, check, split, suspects, remove-background.",
        panel=RUNS,
        below={
            "stats": Entry("data:stats_command"),
            "check": Entry("data:check_command"),
            "split": Entry("data:split_command"),
            "suspects": Entry("pictures:suspects_command"),
            "remove-background": Entry("pictures:remove_background_command"),
        },
    ),
    "leaderboard": Entry(
        "submissions:leaderboard_command",
        "List the submissions with rank, scores, memo and change to SOTA.",
        panel=SUBMIT,
        below={
            "reveal": Entry("submissions:reveal_command"),
            "cv-lb": Entry("comparison:cv_lb_command"),
            "truth": Entry("comparison:old_cv_lb_command", hidden=True),
        },
    ),
    "ledger": Entry(
        "",
        "The ledger itself: verify, backup, members, import, export.",
        panel=SUBMIT,
        below={
            "init": Entry("ledger:init_command"),
            "verify": Entry("ledger:verify_command"),
            "head": Entry("ledger:head_command"),
            "history": Entry("ledger:history_command"),
            "grant": Entry("team:grant_command"),
            "members": Entry("team:members_command"),
            "share": Entry("team:share_command"),
            "revoke": Entry("team:revoke_command"),
            "upgrade": Entry("ledger:upgrade_command"),
            "backup": Entry("ledger:backup_command"),
            "restore": Entry("ledger:restore_command"),
            "import": Entry("ledger:import_command"),
            "export": Entry("ledger:export_command"),
        },
    ),
}


# What other trackers call it, and the commands of this one.
OTHER_WORDS = {
    "status": "tracker runs, tracker leaderboard",
    "list": "tracker runs, tracker leaderboard",
    "ls": "tracker runs, tracker leaderboard",
    "history": "tracker runs, tracker leaderboard",
    "train": "tracker run train",
    "best": "tracker sota",
    "submissions": "tracker leaderboard",
}


class Commands(TyperGroup):
    """Typer's group with the commands of the table, but Ctrl-C is ours to report, and the help page
    is quick."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands: Any = BuiltWhenTyped(TABLE)

    def invoke(self, ctx: Any) -> Any:
        """Run the command; raises InterruptedByUserError instead of KeyboardInterrupt."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise InterruptedByUserError("interrupted") from None

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """The command that is meant; a word of other trackers is answered with those of this."""
        word = args[0] if args else ""
        if word in OTHER_WORDS:
            ctx.fail(f"No such command {word!r}; here: {OTHER_WORDS[word]}")
        return super().resolve_command(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """The help page, at a third of the time that Typer's takes."""
        print_help(self, ctx, list_panels(TABLE))


app = typer.Typer(
    cls=Commands,
    help="Experiment tracker with a submission ledger for image-classification competitions.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from tracker.run_folder.environment import describe_versions

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
