"""tracker runs, show and diff."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tracker.comparison.compare import Incomparable
    from tracker.core.list_marks import Marks
    from tracker.ledger.records import Note, Submission
    from tracker.run_folder.record import RunRecord
    from tracker.workspace.tracker_toml import Workspace

Archived = Annotated[bool, typer.Option("--archived", help="Include archived runs.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Wide = Annotated[
    bool, typer.Option("--wide", help="Every column and every character, however wide.")
]
Where = Annotated[str, typer.Option(help='Condition, as in "val/f1 > 0.75 and model.name ~ swin".')]


def runs_command(
    where: Where = "",
    sort: Annotated[str, typer.Option(help="Metric (the best first), config key or field.")] = "",
    limit: Annotated[int, typer.Option(help="Runs to show, 0: all.", min=0)] = 50,
    archived: Archived = False,
    team: Annotated[
        bool, typer.Option("--team", help="The runs of everybody on this ledger and MLflow.")
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """List the runs, newest first."""
    from contextlib import nullcontext

    from tracker.commands.options import (
        notify_long,
        refuse_beside,
        refuse_together,
        settle_gone_jobs,
    )
    from tracker.run_folder.read import look_once
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    if not limit and not team:
        notify_long(workspace, runs=True)
    settle_gone_jobs(workspace)
    if team:
        given = {"--where": bool(where), "--sort": bool(sort), "--archived": archived}
        refuse_beside("--team", given, why="it lists what the ledger has of each run")
        _list_team(workspace, limit=limit, wide=wide, as_json=as_json)
        return
    reads_all = bool(where or sort or not limit)
    asked: dict[str, Any] = {"where": where, "sort": sort, "limit": limit, "archived": archived}
    with look_once(workspace.runs_dir) if reads_all else nullcontext():
        _list_own(workspace, **asked, wide=wide, as_json=as_json)


def _list_own(
    workspace: Workspace,
    *,
    where: str,
    sort: str,
    limit: int,
    archived: bool,
    wide: bool,
    as_json: bool,
) -> None:
    """Print the runs of this workspace."""
    from contextlib import suppress

    from tracker.comparison.members import (
        list_searched,
        load_ensembles,
        name_ensembles,
        shorten_notes,
    )
    from tracker.comparison.search import explain_no_runs, list_incomparable, search_runs
    from tracker.console.runs import print_runs, runs_to_json
    from tracker.core.errors import TrackerError
    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.run_folder.read import count_archived, load_config
    from tracker.training.numbers import render_count

    found = search_runs(
        workspace, where=where, sort=sort, limit=limit and limit + 1, archived=archived
    )
    records = found[: limit or None]
    if where and not records:
        (print_note if as_json else print_text)(
            explain_no_runs(workspace, where, archived=archived)
        )
    submitted, notes, marks = _read_ledger(workspace, records)
    if not as_json:
        ensembles = load_ensembles(workspace, records)
        named = name_ensembles(records, ensembles)
        if records or not where:
            print_runs(
                named,
                submitted,
                notes,
                workspace.competition,
                marks=marks,
                searched=list_searched(workspace, ensembles),
                brief_notes=shorten_notes(records, ensembles),
                wide=wide,
            )
        _print_incomparable(list_incomparable(workspace, records, sort))
        if len(found) > len(records):
            which = "first" if sort else "newest"
            print_text(f"these are the {which} {limit}: --limit 0 shows all")
        if not archived and (count := count_archived(workspace.runs_dir)):
            print_text(
                f"{render_count(count, 'archived run')} left out: tracker runs --archived lists"
                " them"
            )
        return

    def find_config(name: str) -> Any:
        with suppress(TrackerError):  # a broken run is listed with config null
            return load_config(workspace.runs_dir, name)
        return None

    print_json(runs_to_json(records, find_config, submitted, notes))


def _print_incomparable(items: Sequence[Incomparable]) -> None:
    """Print which runs the order puts beside others with which they do not compare."""
    from tracker.console.compare import describe_order
    from tracker.core.terminal import print_text

    for sentence in describe_order(items):
        print_text(sentence)


def _read_ledger(
    workspace: Workspace, records: Sequence[RunRecord]
) -> tuple[Mapping[str, int], Mapping[str, list[Note]], Marks]:
    """(newest submission of each run, notes of each, marks), by uid; a note where they are unknown.

    The runs are whole without the ledger, and may be what is left to rebuild it from.
    """
    from tracker.commands.options import warn_without_ledger
    from tracker.comparison.marks import read_marks
    from tracker.core.errors import LedgerError
    from tracker.core.list_marks import Marks
    from tracker.ledger.connection import one_moment
    from tracker.ledger.read import list_newest_numbers, list_notes

    uids = [record.uid for record in records]
    try:
        with one_moment(workspace.ledger_url):
            submitted, notes = list_newest_numbers(workspace, uids), list_notes(workspace, uids)
            return submitted, notes, read_marks(workspace, numbers=submitted.values())
    except LedgerError as error:
        warn_without_ledger(error)
        return {}, {}, Marks()


def _list_team(workspace: Workspace, *, limit: int, wide: bool, as_json: bool) -> None:
    """Print the runs of everybody, and what is not known of the running ones."""
    from tracker.console.team import print_team
    from tracker.core.terminal import print_json, print_note, print_text
    from tracker.ledger.read import list_newest_numbers
    from tracker.mirror.team import list_team

    result = list_team(workspace)
    shown = result.runs[: limit or None]
    submitted = list_newest_numbers(workspace, [run.uid for run in shown])
    if as_json:
        runs = [{**run.to_dict(), "submission": submitted.get(run.uid)} for run in shown]
        print_json(
            {"runs": runs, "running_known_since": result.asked_at, "problem": result.problem}
        )
    else:
        print_team(shown, submitted, workspace.competition, wide=wide)
        if len(result.runs) > len(shown):
            print_text(f"these are the first {limit}: --limit 0 shows all")
    if result.problem:
        print_note(result.problem)


def show_command(
    run: Annotated[
        str, typer.Argument(metavar="[R]", help="exp12, mina/exp12, latest, sota or s12.")
    ] = "latest",
    full: Annotated[
        bool,
        typer.Option("--full", help="Show every metric, the whole config and the fingerprints."),
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show one run: metrics, advice, submissions, notes, and the config keys that differ."""
    from tracker.commands.options import (
        bring_runs,
        notify_latest,
        refuse_together,
        settle_gone_jobs,
    )
    from tracker.comparison.advice import advise_run
    from tracker.comparison.marks import read_submission_marks
    from tracker.comparison.members import (
        is_flattered,
        list_members,
        load_ensembles,
        name_ensembles,
    )
    from tracker.console.runs import print_run
    from tracker.console.shown_config import choose_config
    from tracker.core.list_marks import Marks
    from tracker.core.terminal import print_json, show_all
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.points import read_curves
    from tracker.run_folder.read import load_config, load_run
    from tracker.run_folder.record import run_folder
    from tracker.workspace.metrics import deciding_first
    from tracker.workspace.tracker_toml import find_workspace

    refuse_together({"--json": as_json, "--wide": wide})
    workspace = find_workspace()
    settle_gone_jobs(workspace, run)
    notify_latest(workspace, run)
    bring_runs(workspace, run)
    record = load_run(workspace.runs_dir, resolve_run(workspace, run))
    config = load_config(workspace.runs_dir, record.name)
    comp = workspace.competition
    sent = _read_submissions(workspace, record)
    rows, notes, validation, marks = sent or ([], [], {}, Marks())
    curves = read_curves(run_folder(workspace.runs_dir, record.name) / "metrics.jsonl")
    advice = advise_run(record, config, curves, deciding_first(comp))
    if as_json:
        from tracker.comparison.submission_rows import submission_to_json

        result = [submission_to_json(row, comp, validation, sota=None, was=False) for row in rows]
        for item in result:
            del item["is_sota"], item["was_sota"]
        known = {"config": config, "metrics": dict(record.summary), "submissions": result}
        known |= {
            "notes": [note.to_dict() for note in notes],
            "advice": advice.to_dict() if advice else None,
        }
        print_json({**record.to_dict(), **known})
        return
    (named,) = name_ensembles([record], load_ensembles(workspace, [record]))
    number = rows[-1].number if rows else None
    about: dict[str, Any] = {
        "marks": (
            marks.list_marks(number, record.name),
            read_submission_marks(workspace, rows, marks),
        ),
        "flattered": is_flattered(workspace, config),
        "notes": notes,
        "advice": advice,
        "members": list_members(workspace, config, with_ledger=sent is not None),
    }
    shown = choose_config(workspace, record, config, full=full)
    with show_all(wide):
        print_run(named, shown, rows, comp, validation=validation, **about)


def _read_submissions(
    workspace: Workspace, record: RunRecord
) -> tuple[list[Submission], list[Note], dict[int, dict[str, float]], Marks] | None:
    """(submissions of a run, its notes, validation by submission, marks); None and a warning
    without a ledger that can be read."""
    from tracker.commands.options import warn_without_ledger
    from tracker.comparison.marks import read_marks
    from tracker.core.errors import LedgerError
    from tracker.ledger.connection import one_moment
    from tracker.ledger.read import list_notes, list_submissions_of, list_validation_scores

    try:
        with one_moment(workspace.ledger_url):
            rows = list_submissions_of(workspace, record)
            notes = list_notes(workspace, [record.uid]).get(record.uid, [])
            validation = list_validation_scores(workspace, rows)
            marks = read_marks(workspace, numbers=[row.number for row in rows])
            return rows, notes, validation, marks
    except LedgerError as error:
        warn_without_ledger(error)
        return None


def diff_command(
    a: Annotated[str, typer.Argument(metavar="A", help="exp12, mina/exp12, latest, sota or s12.")],
    b: Annotated[str, typer.Argument(metavar="B", help="The run compared with A.")],
    full: Annotated[
        bool,
        typer.Option(
            "--full", help="Show classes, training metrics, statistics, curves and notes."
        ),
    ] = False,
    everything: Annotated[
        bool, typer.Option("--all", help="Like --full, with what is equal or ignored.")
    ] = False,
    stats: Annotated[
        bool, typer.Option("--stats/--no-stats", help="Compare the guesses on validation images.")
    ] = True,
    resamples: Annotated[
        int | None,
        typer.Option(help="Resamples behind interval and p (10,000).", min=1000, max=1_000_000),
    ] = None,
    images: Annotated[
        int, typer.Option(help="List so many of the images that changed.", min=0)
    ] = 0,
    markdown: Annotated[bool, typer.Option("--md", help="Print Markdown, to be pasted.")] = False,
    picture: Annotated[
        bool, typer.Option("--open", help="Draw the curves of both runs and open the picture.")
    ] = False,
    wide: Wide = False,
    as_json: Json = False,
) -> None:
    """Show what differs between two runs, which was better, and whether that is real."""
    import sys

    from tracker.commands.options import (
        bring_runs,
        notify_latest,
        refuse_beside,
        refuse_together,
    )
    from tracker.comparison.diff import diff_runs
    from tracker.comparison.statistics.decision import RESAMPLES
    from tracker.console.diff import open_picture, print_diff
    from tracker.core.settings import use_one_thread
    from tracker.core.terminal import print_json
    from tracker.training.libraries import PICTURES, require
    from tracker.workspace.tracker_toml import find_workspace

    require(*(PICTURES if picture else ()))
    refuse_together({"--json": as_json, "--md": markdown, "--wide": wide})
    for option, is_given in (("--json", as_json), ("--md", markdown)):
        if is_given:
            refuse_beside(option, {"--full": full}, why="it is full already")
    if not stats:
        refuse_beside(
            "--no-stats", {"--resamples": resamples is not None}, why="there is nothing to resample"
        )
    use_one_thread()
    workspace = find_workspace()
    notify_latest(workspace, a, b)
    bring_runs(workspace, a, b)
    wanted: dict[str, Any] = {"everything": everything, "statistics": stats, "images": images}
    result = diff_runs(workspace, a, b, resamples=resamples or RESAMPLES, **wanted)
    if as_json:
        print_json(result.to_dict())
    else:
        print_diff(result, full=full, everything=everything, markdown=markdown, wide=wide)
    if picture:
        print(open_picture(result, workspace.state_dir), file=sys.stderr if as_json else sys.stdout)
