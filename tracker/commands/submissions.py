"""tracker check, submit, score, leaderboard and sota."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from tracker.commands.options import Yes, ask, can_answer, may_ask, refuse_to_guess
from tracker.commands.runs import Json, Wide

if TYPE_CHECKING:
    from tracker.comparison.check_report import CheckReport
    from tracker.ledger.records import Submission
    from tracker.submission.examine import Examination
    from tracker.workspace.quota import Quota
    from tracker.workspace.tracker_toml import Workspace

Run = Annotated[str, typer.Argument(metavar="[R]", help="exp12, mina/exp12, latest, sota or s12.")]
Full = Annotated[
    bool,
    typer.Option(
        "--full", help="Also show members, validation metrics, moved answers, near submissions."
    ),
]


def check_command(run: Run = "latest", full: Full = False, as_json: Json = False) -> None:
    """Show whether a run beats SOTA, and whether submit would accept it.

    Exit code 0 where submit would accept it, better than SOTA or not; 1 where it would refuse it.
    """
    from tracker.commands.options import bring_runs, notify_latest, refuse_together
    from tracker.console.submissions import print_check
    from tracker.core.errors import RefusedError
    from tracker.core.settings import use_one_thread
    from tracker.core.terminal import print_json
    from tracker.ledger.integrity import expect_full_check
    from tracker.submission.examine import check
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--full": full})
    use_one_thread()
    workspace = find_workspace()
    expect_full_check(workspace)
    notify_latest(workspace, run)
    bring_runs(workspace, run, "sota")
    try:
        report = check(workspace, run)
    except RefusedError as error:
        error.exit_code = 1  # nothing was to be sent: the answer is no
        raise
    if as_json:
        print_json(report.to_dict())
    else:
        print_check(report, workspace.competition, full=full)
    if report.refusal:
        raise typer.Exit(1)


def submit_command(
    run: Run = "latest",
    memo: Annotated[str, typer.Option(help="What is new in this submission; required.")] = "",
    even_if_similar: Annotated[
        bool,
        typer.Option(
            "--even-if-similar", help="Send predictions that hardly differ from earlier ones."
        ),
    ] = False,
    yes: Yes = False,
    full: Full = False,
    as_json: Json = False,
) -> None:
    """Record a submission and show whether it is the new SOTA; a repeat is refused.

    It asks before it takes the last one that the daily limit leaves, and where no run is named: in
    a terminal always, elsewhere while others are trained; a script says --yes.
    """
    from tracker.commands.options import (
        bring_runs,
        explain_interrupt,
        notify_latest,
        refuse_together,
    )
    from tracker.ledger.integrity import expect_full_check
    from tracker.submission.examine import build_check_report, examine
    from tracker.submission.submit import check_memo, describe_interrupted
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--full": full})
    workspace, memo = find_workspace(), check_memo(memo, run)
    expect_full_check(workspace)
    notify_latest(workspace, run)
    bring_runs(workspace, run)
    examination = examine(workspace, run)
    report = None if as_json else build_check_report(workspace, examination)
    if not yes:
        _confirm(
            workspace,
            report or build_check_report(workspace, examination),
            memo,
            unnamed=run == "latest",
            even_if_similar=even_if_similar,
            as_json=as_json,
        )
    with explain_interrupt(lambda: describe_interrupted(workspace, examination)):
        _submit(
            workspace,
            examination,
            report,
            memo,
            even_if_similar=even_if_similar,
            unnamed=run == "latest",
            full=full,
        )


def _submit(
    workspace: Workspace,
    examination: Examination,
    report: CheckReport | None,
    memo: str,
    *,
    even_if_similar: bool,
    unnamed: bool,
    full: bool,
) -> None:
    """Submit, copy the numbers to MLflow, and print the answer; JSON without a `report`."""
    from tracker.comparison.leaderboard_noise import count_public_images
    from tracker.comparison.submission_rows import submission_to_json
    from tracker.console.submissions import print_check_details
    from tracker.core.errors import RefusedError
    from tracker.core.terminal import print_json, print_text
    from tracker.ledger.read import find_sota, list_validation_scores
    from tracker.submission.headlines import render_submit_headline
    from tracker.submission.submit import submit_examined
    from tracker.workspace.quota import render_quota

    comp = workspace.competition
    try:
        row, quota = submit_examined(workspace, examination, memo, even_if_similar=even_if_similar)
    except RefusedError:
        if report and full:  # else the error is the whole answer
            print_text(report.answer)
            print_check_details(report, comp, full=True)
            print_text(render_quota(report.quota, comp))
        raise
    _update_mlflow(workspace, [row])
    sota = find_sota(workspace)
    if report is None:
        best = sota.number if sota else None
        print_json(
            submission_to_json(
                row,
                comp,
                list_validation_scores(workspace, [row]),
                sota=best,
                was=row.number == best,
            )
        )
        return
    headline = render_submit_headline(
        comp,
        row,
        examination.sota,
        sota,
        checked=report.comparison,
        count_images=lambda: count_public_images(workspace),
    )
    # a script reads the answer alone, the line below names the run
    named = f"{report.run}: " if unnamed and may_ask() else ""
    print_text(named + headline)
    _print_submitted(workspace, row, quota, report, headline, full=full)


def _print_submitted(
    workspace: Workspace,
    row: Submission,
    quota: Quota,
    report: CheckReport,
    headline: str,
    *,
    full: bool,
) -> None:
    """What follows the answer of submit: the file, scores, what is left, and what to do next."""
    from tracker.console.submissions import (
        print_changes,
        print_check_details,
        render_submission_scores,
    )
    from tracker.core.terminal import print_text
    from tracker.leaderboards import build_leaderboard
    from tracker.ledger.chain import read_head
    from tracker.workspace.quota import BEFORE_DEADLINE, render_quota

    comp = workspace.competition
    # --full says it below
    what = f", {report.ensemble}" if report.ensemble and not full else ""
    print_text(f"submission {row.number}: {report.run}{what}, file {row.file}")
    if scores := render_submission_scores(row, comp, beside=f"public_{comp.primary_metric}"):
        print_text(scores)
    if full:
        print_check_details(report, comp, full=True)
    else:
        print_changes(report, headline)
    _explain_sealed(workspace, [row])
    print_text(render_quota(quota, comp))
    if quota.left == 0:
        print(f"that was the last one{BEFORE_DEADLINE * quota.frees_none}")
    if full:  # workspaces, submitted files and MLflow remember it without being asked
        head = read_head(workspace.ledger_url)
        print_text(f"to find deleted rows later: tracker ledger verify --head {head}")
    if step := build_leaderboard(workspace).next_step(row.number, comp):
        print(step)


def _confirm(
    workspace: Workspace,
    report: CheckReport,
    memo: str,
    *,
    unnamed: bool,
    even_if_similar: bool,
    as_json: bool,
) -> None:
    """Ask before the last submission of the window is taken, and where no run was named: `latest`
    may have changed since it was looked at. A script is refused for that only while others train.

    What is refused takes none. Raises typer.Exit after a no, ConfigError where nobody can be asked.
    """
    refused = report.duplicate is not None or (report.refusal and not even_if_similar)
    if refused or report.quota.left == 0:
        return
    import shlex

    from tracker.console.runs import render_scores
    from tracker.core.terminal import print_text
    from tracker.jobs.active import describe_training
    from tracker.run_folder.read import load_run
    from tracker.workspace.quota import BEFORE_DEADLINE

    window = " of today" if workspace.competition.quota_window == "day" else " of these 24 hours"
    window = BEFORE_DEADLINE if report.quota.frees_none else window
    last = f"it is the last one{window}" if report.quota.left == 1 else ""
    training = describe_training(workspace) if unnamed else ""
    asks = unnamed and not as_json and can_answer()
    if not last and not training and not asks:
        return
    record = load_run(workspace.runs_dir, report.run)
    what = report.ensemble or record.note or "no note"
    if training or asks:
        training = f"no run was named while {training}" if training else "no run was named"
        scores = render_scores(record.summary, workspace.competition)
        what = f"{what}; {scores}; memo: {memo}"
    reason = "; ".join(text for text in (last, training) if text)
    question = f"{reason}: submit {report.run} ({what})?"
    options = " --even-if-similar" * even_if_similar + " --json" * as_json
    command = f"tracker submit {report.run} --memo {shlex.quote(memo)}{options} --yes"
    if as_json or not can_answer():
        refuse_to_guess(f"nothing was submitted, {reason}", command)
    print_text(report.answer)
    ask(question, no="nothing was submitted", go_on=command)


def _update_mlflow(workspace: Workspace, rows: Iterable[Submission]) -> None:
    """Copy numbers, memos and scores to MLflow."""
    from tracker.ledger.read import find_run

    # the others are teammates', or from before tracker
    found = [find_run(workspace, row) for row in rows]
    _copy_runs(workspace, [name for name in found if name is not None])


def _copy_runs(workspace: Workspace, runs: Iterable[str]) -> None:
    """Copy runs to MLflow; the ledger is complete already, so a failure is one remark.

    Teammates' runs are copied by their own workspaces.
    """
    from tracker.core.terminal import print_note
    from tracker.mirror.sync import copy_run
    from tracker.run_folder.record import is_pulled

    own = [run for run in runs if not is_pulled(run)]
    for problem in dict.fromkeys(copy_run(workspace, run) for run in own):
        if problem:
            print_note(problem)


def score_command(
    number: Annotated[int, typer.Argument(metavar="N", help="Number of the submission.")],
    public_f1: Annotated[str, typer.Option(help="Macro F1 on the public split.")] = "",
    public_acc: Annotated[
        str, typer.Option(help="Accuracy on the public split: 0.8165 or 81.65.")
    ] = "",
    private_f1: Annotated[str, typer.Option(help="Macro F1 on the private split.")] = "",
    private_acc: Annotated[str, typer.Option(help="Accuracy on the private split.")] = "",
    public: Annotated[
        list[str] | None, typer.Option(help="metric=value, any metric of tracker.toml.")
    ] = None,
    private: Annotated[
        list[str] | None, typer.Option(help="metric=value, any metric of tracker.toml.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Also where a teammate has recorded another score.")
    ] = False,
) -> None:
    """Record the leaderboard's scores of a submission, and show whether it is the new SOTA."""
    from tracker.commands.options import explain_interrupt
    from tracker.submission.scores import describe_interrupted_score, parse_scores
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    given = {
        "public": [*_name_scores(f1=public_f1, accuracy=public_acc), *(public or ())],
        "private": [*_name_scores(f1=private_f1, accuracy=private_acc), *(private or ())],
    }
    scores = parse_scores(workspace.competition, given)
    with explain_interrupt(lambda: describe_interrupted_score(workspace, number, scores)):
        _score(workspace, number, scores, force=force)


def _score(
    workspace: Workspace,
    number: int,
    scores: Mapping[tuple[str, str], float],
    *,
    force: bool = False,
) -> None:
    """Record the scores, copy them to MLflow, and print the answer."""
    from tracker.comparison.leaderboard_noise import count_public_images
    from tracker.comparison.marks import read_submission_marks
    from tracker.console.notes import render_corrections
    from tracker.console.submissions import print_leaderboard
    from tracker.core.terminal import print_text
    from tracker.ledger.read import find_sota, get_submission, list_validation_scores
    from tracker.submission.headlines import render_score_headline
    from tracker.submission.scores import score

    old, sota_before = get_submission(workspace, number), find_sota(workspace)
    row = score(workspace, number, scores, force=force)
    _update_mlflow(workspace, [row])
    sota = find_sota(workspace)
    validation = list_validation_scores(workspace, [row])
    comp = workspace.competition
    print_text(
        render_score_headline(comp, row, sota_before, sota, lambda: count_public_images(workspace))
    )
    marks = read_submission_marks(workspace, [row])
    print_leaderboard([row], workspace.competition, validation, marks=marks)
    for line in render_corrections(old.scores, row.scores, workspace.competition):
        print_text(line)
    if old.is_rejected:
        print_text(
            f"submission {number} was noted as rejected: with a score it counts as accepted, in the"
            " quota too"
        )


def _name_scores(**values: str) -> list[str]:
    """`metric=value` of those that were given."""
    return [f"{name}={value}" for name, value in values.items() if value]


def leaderboard_command(
    context: typer.Context,
    sort: Annotated[
        str,
        typer.Option(help="Score as in public_f1 or val_f1 (the best first), config key or field."),
    ] = "",
    limit: Annotated[
        int, typer.Option(help="Newest submissions to show, or the first by --sort, 0: all.", min=0)
    ] = 50,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List the submissions with rank, scores, memo and change to SOTA."""
    if context.invoked_subcommand is not None:
        _refuse_own_options(context)
        return
    from tracker.commands.options import notify_long, refuse_together
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    if not limit:
        notify_long(workspace, submissions=True)
    _print_rows(workspace, sort=sort, limit=limit, wide=wide, as_json=as_json)


def _refuse_own_options(context: typer.Context) -> None:
    """Raise ConfigError when options of the bare command stand before a subcommand."""
    from tracker.commands.options import refuse_beside

    names = {"--sort": "sort", "--limit": "limit", "--wide": "wide", "--json": "as_json"}
    sources = {option: context.get_parameter_source(name) for option, name in names.items()}
    given = {
        option: source is not None and source.name == "COMMANDLINE"
        for option, source in sources.items()
    }
    subcommand = str(context.invoked_subcommand)
    refuse_beside(subcommand, given, why=f"options of {subcommand} stand behind that word")


def _print_rows(
    workspace: Workspace,
    *,
    sort: str = "",
    limit: int = 0,
    wide: bool = False,
    as_json: bool = False,
) -> None:
    """The newest submissions, or the first by `sort`, with their ranks among all."""
    if as_json:
        from tracker.comparison.submission_rows import list_submission_rows
        from tracker.core.terminal import print_json

        print_json(list_submission_rows(workspace, sort=sort, limit=limit))
        return
    from tracker.comparison.marks import read_submission_marks
    from tracker.comparison.search import SCORE_PREFIXES, search_submissions
    from tracker.console.submissions import print_leaderboard
    from tracker.core.terminal import print_text
    from tracker.ledger.connection import one_moment
    from tracker.ledger.read import list_validation_scores, suggest_first_submission

    comp = workspace.competition
    with one_moment(workspace.ledger_url):
        found, ranks = search_submissions(workspace, sort=sort, limit=limit and limit + 1)
        # the newest ones are the last rows, the first ones by --sort the first
        rows = found[: limit or None] if sort else found[-limit:]
        marks = read_submission_marks(workspace, rows)
        validation = list_validation_scores(workspace, rows)
    if not rows:
        print_text(f"no submission yet; next: {suggest_first_submission(workspace)}")
        return
    by_score = sort.startswith(SCORE_PREFIXES) and sort != f"public_{comp.primary_metric}"
    title = f"rank by {sort}" if by_score else "rank"
    print_leaderboard(rows, comp, validation, marks=marks, ranks=ranks, rank_title=title, wide=wide)
    if len(found) > len(rows):
        which = "first" if sort else "newest"
        print_text(f"these are the {which} {limit}: --limit 0 shows all")
    _explain_sealed(workspace, rows)
    _count_looks(workspace)


def _count_looks(workspace: Workspace) -> None:
    """Say how often the held-out images were scored, where they are."""
    from tracker.workspace.leaderboard_kinds import KINDS

    if not KINDS[workspace.leaderboard].counts_looks:
        return
    from tracker.core.terminal import print_text
    from tracker.submission.examine import count_looks
    from tracker.training.numbers import render_count

    looks = render_count(count_looks(workspace) or 0, "look")
    print_text(f"{looks} at the public half of the held-out images: each submission is one")


def reveal_command(yes: Yes = False, wide: Wide = False, as_json: Json = False) -> None:
    """Open the private scores of a local leaderboard, for good; asks, and a script says --yes."""
    from tracker.commands.options import explain_interrupt, refuse_together
    from tracker.core.terminal import print_text
    from tracker.ledger.read import list_submissions
    from tracker.submission.scores import describe_interrupted_reveal, list_sealed, reveal
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    sealed = {row.number for row in list_sealed(workspace, list_submissions(workspace))}
    if sealed and not yes:
        question = f"open the private scores of {_count(sealed)}? It cannot be undone"
        command = f"tracker leaderboard reveal{' --json' * as_json}{' --wide' * wide} --yes"
        if as_json:
            refuse_to_guess("nothing was opened", command)
        ask(question, no="nothing was opened", go_on=command)
    with explain_interrupt(lambda: describe_interrupted_reveal(workspace)):
        rows = reveal(workspace)
        _update_mlflow(workspace, rows)
    if not as_json:
        done = f"opened the private scores of {_count(sealed)}; the ledger keeps them"
        print_text(done if sealed else "nothing left to open: every private score is open already")
    _print_rows(workspace, wide=wide, as_json=as_json)


def _count(numbers: Collection[int]) -> str:
    """The submissions in words."""
    return (
        f"{len(numbers)} submissions" if len(numbers) != 1 else f"submission {next(iter(numbers))}"
    )


def _explain_sealed(workspace: Workspace, rows: Iterable[Submission]) -> None:
    """Say why some rows lack a private score while earlier ones have it; nothing for all."""
    from tracker.workspace.leaderboard_kinds import KINDS

    if not KINDS[
        workspace.leaderboard
    ].knows_solution:  # asked here: the lists are fast without what submits
        return
    from tracker.core.terminal import print_text
    from tracker.ledger.read import list_with_note
    from tracker.submission.scores import list_sealed

    sealed = [str(row.number) for row in list_sealed(workspace, rows)]
    if sealed and list_with_note(workspace, "revealed"):
        print_text(
            f"no private score of {', '.join(sealed)}: submitted after the private scores were"
            " opened, sealed until tracker leaderboard reveal is called again"
        )


def sota_command(wide: Wide = False, as_json: Json = False) -> None:
    """Show the best submission so far; exit code 1 when there is none."""
    from tracker.commands.options import refuse_together
    from tracker.comparison.submission_rows import submission_to_json
    from tracker.console.submissions import print_leaderboard
    from tracker.core.errors import TrackerError
    from tracker.core.list_marks import Marks
    from tracker.core.terminal import print_json
    from tracker.ledger.read import find_sota, list_validation_scores
    from tracker.ledger.resolve import render_first_score_command
    from tracker.workspace.metrics import NO_PUBLIC_SCORE
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    best = find_sota(workspace)
    if best is None:
        raise TrackerError(NO_PUBLIC_SCORE, hint=render_first_score_command(workspace))
    comp, validation = workspace.competition, list_validation_scores(workspace, [best])
    if as_json:
        print_json(submission_to_json(best, comp, validation, sota=best.number, was=True))
    else:
        print_leaderboard([best], comp, validation, marks=Marks(now=best.number), wide=wide)
        _explain_sealed(workspace, [best])


def audit_command(as_json: Json = False) -> None:
    """Show how the submissions were spent: wasted, one key changed from SOTA, or several."""
    from tracker.commands.options import notify_long
    from tracker.comparison.audit import audit
    from tracker.console.submissions import print_audit
    from tracker.core.terminal import print_json, print_text
    from tracker.ledger.read import suggest_first_submission
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_long(workspace, runs=True, submissions=True)
    result = audit(workspace)
    if as_json:
        print_json(result.to_dict())
    else:
        print_audit(result, workspace.competition)
        if first := suggest_first_submission(workspace):
            print_text(f"next: {first}")


def note_command(
    what: Annotated[
        str, typer.Argument(metavar="R|N", help="Submission (3, s3, sota) or run (exp12, latest).")
    ],
    text: Annotated[
        str, typer.Argument(metavar="TEXT", help="The remark, for example what was learned.")
    ],
    rejected: Annotated[
        bool,
        typer.Option(
            "--rejected", help="The leaderboard refused the file: it does not count in the quota."
        ),
    ] = False,
) -> None:
    """Add a remark to a submission or a run; what was noted before stays."""
    from tracker.commands.options import bring_runs, explain_interrupt
    from tracker.core.clock import utc_now
    from tracker.submission.notes import add_note, describe_interrupted_note
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    bring_runs(workspace, what if "/" in what else None)
    with explain_interrupt(lambda: describe_interrupted_note(workspace, what, text)):
        target = add_note(workspace, what, text, rejected=rejected)
        at = workspace.competition.local_time(utc_now(), "%Y-%m-%d %H:%M")
        print(f"{target}: noted, {at} ({workspace.competition.time_zone})")
        if target.run is not None:
            _copy_runs(workspace, [target.run])
