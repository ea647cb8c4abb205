"""tracker init, demo, ui and sync."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tracker.workspace.tracker_toml import Workspace

HERE = Path()
# Their names are in `tracker run options`: asking the registry would slow every command's start.
FORMAT_HELP = "Format of the data, one that `tracker run options` lists; detected when not given."

CLASSES_NAMED = 6


def init_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to make a workspace.")
    ] = HERE,
    train_dir: Annotated[str, typer.Option(help="Folder of the training images.")] = "",
    eval_dir: Annotated[
        str, typer.Option(help="Folder with images/ and info.csv to predict.")
    ] = "",
    labels: Annotated[str, typer.Option(help="CSV of training labels (format csv).")] = "",
    data_format: Annotated[str, typer.Option("--format", help=FORMAT_HELP)] = "",
    split: Annotated[
        str,
        typer.Option(
            help="by_profile (default of mask_profiles), stratified (of others), by_image."
        ),
    ] = "",
    age_bands: Annotated[str, typer.Option(help="Two ages, as in 29,58 (mask_profiles).")] = "",
    solution: Annotated[
        Path | None, typer.Option(help="Solution CSV: the local leaderboard scores here.")
    ] = None,
    leaderboard: Annotated[str, typer.Option(help="manual, local or kaggle.")] = "",
    kaggle: Annotated[
        str, typer.Option(help="Kaggle competition, as in its address: submit sends there.")
    ] = "",
    name: Annotated[str, typer.Option(help="Name of the competition.")] = "",
    classes: Annotated[str, typer.Option(help="Class names in order, with commas between.")] = "",
    id_column: Annotated[str, typer.Option(help="Column of image ids.")] = "",
    label_column: Annotated[str, typer.Option(help="Column of answers.")] = "",
    answers: Annotated[
        str, typer.Option(help="index or name: the values in the label column.")
    ] = "",
    metric: Annotated[
        list[str] | None,
        typer.Option(help="f1, accuracy:percent, rmse:lower ...; the first decides."),
    ] = None,
    primary_metric: Annotated[
        str, typer.Option(help="Metric that decides, when not the first.")
    ] = "",
    daily_limit: Annotated[int, typer.Option(help="Submissions a day, 0: no limit.", min=0)] = 0,
    quota_window: Annotated[str, typer.Option(help="day or rolling (24 hours).")] = "",
    time_zone: Annotated[
        str, typer.Option(help="Zone of the day and the deadline, as in Asia/Seoul.")
    ] = "",
    deadline: Annotated[str, typer.Option(help="Local time, as in 2026-12-31T23:59.")] = "",
    similar_share: Annotated[
        float | None,
        typer.Option(
            help="Share of equal answers from which submit asks; fits their number when not given."
        ),
    ] = None,
    pretrained: Annotated[
        bool | None,
        typer.Option(
            "--pretrained/--no-pretrained",
            help=(
                "Start new runs from timm's weights; when not given, checked once whether they are"
                " available."
            ),
        ),
    ] = None,
    mlflow_uri: Annotated[str, typer.Option(help="MLflow tracking URI.")] = "sqlite:///mlflow.db",
    ledger_url: Annotated[str, typer.Option(help="Ledger URL.")] = "sqlite:///ledger.db",
    gitignore: Annotated[
        bool,
        typer.Option(
            "--gitignore/--no-gitignore", help="In a git repository: ignore runs and databases."
        ),
    ] = True,
) -> None:
    """Make a workspace: tracker.toml, ledger.db, runs/."""
    from tracker.commands.options import refuse_beside
    from tracker.core.terminal import print_text
    from tracker.setup.init import detect_format, init_workspace
    from tracker.setup.pretrained import look_for_weights
    from tracker.training.formats import list_with_people

    board = {"solution": solution or "", "competition": kaggle}
    _refuse_contradictions(
        labels=labels, data_format=data_format, leaderboard=leaderboard, board=board
    )
    data: dict[str, Any] = {
        "format": data_format,
        "train_dir": train_dir,
        "eval_dir": eval_dir,
        "labels": labels,
    }
    # Without images the format is reported later.
    form = data_format or (detect_format(data) if train_dir else "")
    if form and form not in list_with_people():
        refuse_beside(
            f"format {form}", {"--age-bands": bool(age_bands)}, why="its images have no ages"
        )
    data |= {"split": split, "age_bands": _numbers(age_bands) if age_bands else ""}
    competition = {
        "name": name,
        "classes": [part.strip() for part in classes.split(",") if part.strip()],
        "id_column": id_column,
        "label_column": label_column,
        "answers": answers,
        "primary_metric": primary_metric,
        "daily_limit": daily_limit,
        "quota_window": quota_window,
        "time_zone": time_zone,
        "deadline": deadline,
        "similar_share": similar_share,
    }
    reason = ""

    def find_pretrained() -> bool:
        nonlocal reason
        if pretrained is not None:
            return pretrained
        available, reason = look_for_weights()
        return available

    workspace = init_workspace(
        folder,
        data={key: value for key, value in data.items() if value},
        competition={
            key: value for key, value in competition.items() if value not in ("", [], None)
        },
        metrics=metric or (),
        mlflow_uri=mlflow_uri,
        ledger_url=ledger_url,
        leaderboard=leaderboard,
        leaderboard_options=board,
        pretrained=find_pretrained,
    )
    names = workspace.competition.classes
    more = len(names) - CLASSES_NAMED
    shown = ", ".join([*names[:CLASSES_NAMED], *([f"{more} more"] if more > 0 else ())])
    print_text(f"{workspace.root}: {workspace.competition.name}, {len(names)} classes ({shown})")
    if metric:
        _explain_given(workspace)
    if gitignore:
        _ignore_outputs(workspace)
    _warn_of_deadline(workspace)
    if reason:
        print_text(reason)
    step = (
        "tracker run train"
        if train_dir
        else "set classes and [data] in tracker.toml, or tracker ledger import FILE"
    )
    there = folder.resolve() == Path.cwd().resolve()
    print(f"next: cd {folder} && {step}" if train_dir and not there else f"next: {step}")


def _explain_given(workspace: Workspace) -> None:
    """Say which metrics are not computed: their scores are typed in, a run has no val/ of them."""
    from tracker.core.terminal import print_text
    from tracker.training.metrics import GIVEN, list_resampled

    names = [metric.name for metric in workspace.competition.metrics if metric.kind == GIVEN]
    if names:
        computed = " and ".join(known.name for known in list_resampled())
        print_text(
            f"{', '.join(names)}: not computed here, type in what the leaderboard shows"
            f" (tracker score); computed are {computed}"
        )


def _warn_of_deadline(workspace: Workspace) -> None:
    """Warn of a deadline in the past, often a typing error: every submission would be refused."""
    import datetime as dt

    from tracker.core.terminal import print_note

    comp = workspace.competition
    if comp.deadline and comp.deadline <= dt.datetime.now(dt.UTC):
        print_note(
            f"the deadline {comp.deadline:%Y-%m-%d %H:%M} ({comp.time_zone}) has passed: every"
            ' submission will be refused; correct it in tracker.toml, or set deadline = "" for'
            " none",
            before="warning: ",
        )


def _refuse_contradictions(
    *, labels: str, data_format: str, leaderboard: str, board: Mapping[str, str | Path]
) -> None:
    """Raise ConfigError for options of which one would have no effect; `board` has keys of
    [leaderboard]."""
    from tracker.commands.options import refuse_beside, refuse_together
    from tracker.training.formats import FORMATS
    from tracker.workspace.leaderboard_kinds import KINDS

    flags = {
        option.flag: option for kind in KINDS.values() for option in kind.options if option.flag
    }
    refuse_together({flag: bool(board.get(option.key)) for flag, option in flags.items()})
    own = KINDS[leaderboard].options if leaderboard in KINDS else ()
    for flag, option in flags.items():
        if leaderboard and option not in own:
            refuse_beside(
                f"--leaderboard {leaderboard}",
                {flag: bool(board.get(option.key))},
                why=option.unused,
            )
    readers = [known.name for known in FORMATS.values() if "data.labels" in known.only_keys]
    if data_format and data_format not in readers:
        given = {"--labels": bool(labels)}
        why = f"only format {' or '.join(readers)} reads a table of labels"
        refuse_beside(f"--format {data_format}", given, why=why)


def _ignore_outputs(workspace: Workspace) -> None:
    """Tell git to leave out what the workspace makes, and say so; the workspace is made, whatever
    comes of it."""
    import sys

    from tracker.core.errors import TrackerError, render_error
    from tracker.core.terminal import print_text
    from tracker.setup.gitignore import OUTPUTS, ignore_outputs

    try:
        lines = ignore_outputs(workspace.root)
    except TrackerError as error:
        print(f"git will see {', '.join(OUTPUTS)}: {render_error(error)}", file=sys.stderr)
    else:
        if lines:
            print_text(f"added to .gitignore: {', '.join(lines)} (--no-gitignore leaves it alone)")


def _numbers(text: str) -> list[int]:
    from tracker.training.errors import ConfigError

    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(f"--age-bands {text}: expected two ages, as in 29,58") from None


def demo_command(
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="New folder for the demo.")
    ] = Path("demo"),
) -> None:
    """Make a small competition and go the whole way through it."""
    from tracker.commands.demo import run_demo

    run_demo(folder)


def ui_command(
    port: Annotated[
        int, typer.Option(help="Port on 127.0.0.1; 0: any free one.", min=0, max=65535)
    ] = 5000,
    browser: Annotated[bool, typer.Option("--open", help="Open the page in the browser.")] = False,
) -> None:
    """Serve the MLflow web page of this workspace on this machine."""
    from tracker.mirror.ui import open_ui
    from tracker.workspace.tracker_toml import find_workspace

    open_ui(find_workspace(), port=port, browser=browser)


def sync_command(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="[R]...", help="Runs; all when not given.")
    ] = None,
) -> None:
    """Bring MLflow and the ledger up to date with the run folders."""
    from tracker.core.errors import TrackerError
    from tracker.ledger.resolve import resolve_run
    from tracker.runs.record import list_run_numbers
    from tracker.submissions.submit import sync_all
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    names = [resolve_run(workspace, name) for name in run or ()]
    names = names or [f"exp{number}" for number in reversed(list_run_numbers(workspace.runs_dir))]
    done, problems = sync_all(workspace, names)
    print(f"{render_count(len(done), 'run')} up to date")
    if problems:
        raise TrackerError(
            f"{render_count(len(problems), 'run')} not up to date:\n  " + "\n  ".join(problems)
        )
