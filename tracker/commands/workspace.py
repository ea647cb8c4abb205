"""tracker init, demo, ui, sync, push and pull."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tracker.mirror.copy import Connections
    from tracker.setup.folder import CompetitionFolder
    from tracker.setup.team import TeamServer
    from tracker.workspace.tracker_toml import Workspace

HERE = Path()
CLASSES_NAMED = 6
# What --data finds, and a flag overrides; the key of [data] is also the field of `Given`.
FOUND_DATA = (
    *("train_dir", "eval_dir", "labels", "sample", "eval_table"),
    *("label_id", "name_column", "image_table", "image_id", "ending", "group"),
)


def init_command(
    context: typer.Context,
    folder: Annotated[
        Path, typer.Argument(metavar="[DIR]", help="Folder to make a workspace.")
    ] = HERE,
    data: Annotated[
        Path | None,
        typer.Option(
            help="Competition folder as it was downloaded: tables, images, classes and the kind of"
            " answer are found there. Nothing is copied or written there."
        ),
    ] = None,
    download: Annotated[
        bool,
        typer.Option(
            "--download",
            help="Fetch the files of --kaggle NAME first, into --data or DIR/data; goes on where an"
            " interrupted call stopped.",
        ),
    ] = False,
    holdout: Annotated[
        float | None,
        typer.Option(
            help="Keep this share of the labeled images out of training, whole groups with --group:"
            " a leaderboard of your own, with a public and a sealed private half.",
            min=0.01,
            max=0.9,
        ),
    ] = None,
    metric: Annotated[
        list[str] | None,
        typer.Option(help="f1, accuracy:percent, rmse:lower ...; the first decides."),
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
    team: Annotated[
        str,
        typer.Option(
            help="Name of this machine for the others: writes .env with random passwords for"
            " docker-compose.yml, and uses the ledger and the MLflow that it starts.",
            metavar="HOST[:PORT]",
        ),
    ] = "",
    bind: Annotated[
        str,
        typer.Option(
            help="With --team: the address on which the server listens. 0.0.0.0 lets the team's"
            " machines in; without it they come by an SSH tunnel.",
            metavar="ADDRESS",
        ),
    ] = "",
    gitignore: Annotated[
        bool,
        typer.Option(
            "--gitignore/--no-gitignore", help="In a git repository: ignore runs and databases."
        ),
    ] = True,
    force: Annotated[
        bool, typer.Option("--force", help="Make it also inside of another workspace.")
    ] = False,
) -> None:
    """Make a workspace: tracker.toml, ledger.db, runs/."""
    from tracker.commands.init_options import read_given
    from tracker.core.terminal import print_text
    from tracker.setup.init import init_workspace
    from tracker.setup.pretrained import look_for_weights

    _refuse_contradictions(context.obj)
    _refuse_nested(folder, force=force)
    server = _plan_server(folder, team, bind, context.obj)
    if holdout:
        _refuse_beside_holdout(context.obj, has_images=data is not None)
    given = read_given(context.obj)
    if download:
        data = data or folder / "data" / context.obj.get("--kaggle", "")
        _fetch(folder, context.obj.get("--kaggle", ""), data)
    found = _read_folder(data, given, metric or ()) if data else None
    _refuse_ages(given["data"])
    reason, has_images = "", bool(found or given["data"].get("train_dir"))

    def find_pretrained() -> bool:
        nonlocal reason
        if pretrained is not None or not has_images:  # without images nothing is trained
            return bool(pretrained)
        available, reason = look_for_weights()
        return available

    board = given["leaderboard"]
    workspace = init_workspace(
        folder,
        data=given["data"],
        competition=given["competition"],
        metrics=metric or (),
        mlflow_uri=given["mlflow"].get("tracking_uri", ""),
        ledger_url=given["ledger"].get("url", ""),
        leaderboard=board.pop("kind", ""),
        leaderboard_options=board,
        pretrained=find_pretrained,
        found=found,
        holdout=holdout or 0.0,
        team=server,
    )
    _describe_workspace(workspace, found, has_metric=bool(metric))
    if gitignore:
        _ignore_outputs(workspace)
    _warn_of_deadline(workspace)
    _warn_of_nothing_to_predict(workspace)
    if reason:
        print_text(reason)
    if server:
        _explain_server(folder, is_open=server.is_open)
        return
    step = (
        "tracker.start_run(...) in your training script, tracker ledger import FILE, or set [data]"
        " in tracker.toml for tracker run train"
    )
    if has_images:
        step = "tracker run train"
    if has_images and folder.resolve() != Path.cwd().resolve():
        step = f"cd {shlex.quote(str(folder))} && {step}"
    print(f"next: {step}")


def _refuse_nested(folder: Path, *, force: bool) -> None:
    """Raise RefusedError for a folder inside of a workspace: commands there would mean another."""
    from tracker.core.errors import RefusedError
    from tracker.workspace.tracker_toml import TRACKER_TOML

    inside = folder.resolve()
    if force or (inside / TRACKER_TOML).exists():  # what is a workspace is refused as that
        return
    for outer in inside.parents:
        if (outer / TRACKER_TOML).is_file():
            raise RefusedError(
                f"{inside} would be a workspace inside of another, {outer}",
                hint=f"use {outer} as it is, or name a folder outside of it; --force makes it here",
            )


def _plan_server(folder: Path, host: str, bind: str, given: Mapping[str, str]) -> TeamServer | None:
    """The passwords of the server for --team, which docker-compose.yml starts; may refuse."""
    from tracker.commands.options import refuse_beside
    from tracker.setup.team import HERE, TeamServer, parse_address
    from tracker.training.errors import ConfigError

    if not host:
        if bind:
            raise ConfigError("--bind needs --team HOST, the server that it is about")
        return None
    others = ("--ledger-url", "--mlflow-uri")
    why = "they are those of the server that docker-compose.yml starts"
    refuse_beside("--team", {flag: flag in given for flag in others}, why=why)
    return TeamServer(folder, parse_address(host), bind=_read_address(bind) if bind else HERE)


def _read_address(text: str) -> str:
    """An address of this machine; raises ConfigError."""
    from ipaddress import ip_address

    from tracker.training.errors import ConfigError

    try:
        return str(ip_address(text))
    except ValueError:
        raise ConfigError(
            f"--bind {text}: no address of this machine", hint="--bind 0.0.0.0, or an IP address"
        ) from None


def _explain_server(folder: Path, *, is_open: bool) -> None:
    """Say where the passwords are, who reaches the server, and what is typed next."""
    from tracker.core.terminal import print_text
    from tracker.setup.team import DOTENV

    path = folder.resolve() / DOTENV
    print_text(f"random passwords of the server are in {path}, which only you can read")
    if not is_open:
        print("other machines reach it by an SSH tunnel, or after TRACKER_BIND=0.0.0.0 in .env")
    print("next, with the docker-compose.yml of tracker:")
    print(f"  docker compose --env-file {shlex.quote(str(path))} up --detach --wait")
    print(f"  cd {shlex.quote(str(folder.resolve()))} && tracker ledger init")
    print("  tracker ledger grant NAME      for each member")


def _fetch(root: Path, slug: str, folder: Path) -> None:
    """Download the files of a competition, and say so."""
    from tracker.core.terminal import print_text
    from tracker.setup.fetch import fetch_competition
    from tracker.training.errors import ConfigError
    from tracker.workspace.tracker_toml import TRACKER_TOML, already_made

    if not slug:
        raise ConfigError("--download needs a competition", hint="--kaggle NAME, as in its address")
    if (root / TRACKER_TOML).exists():  # better said before the download than after it
        raise already_made(root)
    fetched = fetch_competition(slug, folder)
    print_text(f"{slug}: {'downloaded' if fetched else 'was downloaded before'} to {folder}")


def _name_classes(workspace: Workspace) -> None:
    """Say which workspace was made, with its first classes."""
    from tracker.core.terminal import print_text
    from tracker.training.numbers import render_count

    names = workspace.competition.classes
    more = len(names) - CLASSES_NAMED
    shown = ", ".join([*names[:CLASSES_NAMED], *([f"{more} more"] if more > 0 else ())])
    classes = f"{render_count(len(names), 'class', 'classes')} ({shown})" if names else "no classes"
    print_text(f"{workspace.root}: {workspace.competition.name}, {classes}")


def _read_folder(
    folder: Path, given: Mapping[str, dict[str, Any]], metrics: Sequence[str]
) -> CompetitionFolder:
    """Read a competition folder; takes the values that it uses out of `given`.

    Raises ConfigError, also for options that say nothing about such a folder.
    """
    from tracker.commands.options import refuse_beside
    from tracker.setup.folder import Given, read_competition_folder
    from tracker.training.formats import list_with_people

    data, competition = given["data"], given["competition"]
    people = {
        "--age-bands": "age_bands" in data,
        f"--format {data.get('format')}": data.get("format") in list_with_people(),
    }
    why = "people with ages are read from --train-dir and --eval-dir"
    refuse_beside("--data", people, why=why)
    typed = {key: data.pop(key) for key in FOUND_DATA if key in data}
    if "group" in typed:
        typed["group"] = typed["group"] if typed["group"] != "none" else ""
    label = ",".join(data.pop("label_columns", ())) or competition.pop("label_column", "")
    return read_competition_folder(
        folder,
        Given(
            **typed,
            data_format=data.pop("format", ""),
            label_column=label,
            id_column=competition.pop("id_column", ""),
            target=competition.pop("target", ""),
            answer=competition.pop("answer", ""),
            classes=competition.pop("classes", ()),
            metrics=metrics,
        ),
    )


def _describe(workspace: Workspace, found: CompetitionFolder, *, asked: bool) -> None:
    """Say what was found in a competition folder, and what nobody said yet."""
    from tracker.core.terminal import print_note, print_text
    from tracker.setup.folder.render import describe_folder

    competition = workspace.competition
    print_text(f"{workspace.root}: {competition.name}")
    for line in describe_folder(found):
        print_text(f"  {line}")
    for problem in found.problems:
        print_note(f"{problem}: tracker data check lists them", before="warning: ")
    for note in found.notes:
        print_note(note)
    if asked:
        metric = competition.primary
        better = "higher" if metric.higher_is_better else "lower"
        print_text(
            f"left to say: --metric (taken: {metric.name}, {better} is better), and --daily-limit"
            " and --deadline where the judge has them; or edit tracker.toml"
        )


def _explain_given(workspace: Workspace) -> None:
    """Say which metrics are not computed: their scores are typed in, a run has no val/ of them."""
    from tracker.core.terminal import print_text
    from tracker.training.metrics import GIVEN, list_short_names

    names = [metric.name for metric in workspace.competition.metrics if metric.kind == GIVEN]
    if names:
        computed = ", ".join(list_short_names())
        print_text(
            f"{', '.join(names)}: not computed here, type in what the leaderboard shows"
            f" (tracker score); computed are {computed}"
        )


def _describe_workspace(
    workspace: Workspace, found: CompetitionFolder | None, *, has_metric: bool
) -> None:
    """Say what was found: classes or the folder, metrics that are given, held-out images."""
    from tracker.core.terminal import print_text
    from tracker.workspace.holdout import is_held_out

    if found is None:
        _name_classes(workspace)
    else:
        _describe(workspace, found, asked=not has_metric)
    if has_metric:
        _explain_given(workspace)
    if is_held_out(workspace):
        from tracker.setup.holdout import describe_holdout

        print_text(describe_holdout(workspace))


def _refuse_beside_holdout(given: Mapping[str, str], *, has_images: bool) -> None:
    """Raise ConfigError for options of other images to predict, or where none are labeled."""
    from tracker.commands.options import refuse_beside
    from tracker.training.errors import ConfigError

    others = ("--eval-dir", "--sample", "--eval-table", "--solution", "--kaggle", "--leaderboard")
    why = "the held-out images are predicted, and scored here"
    refuse_beside("--holdout", {flag: flag in given for flag in others}, why=why)
    if not has_images and "--train-dir" not in given:
        raise ConfigError("--holdout needs labeled images", hint="--train-dir or --data")


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


def _warn_of_nothing_to_predict(workspace: Workspace) -> None:
    """Say that a solution alone names no images: training would predict none of them."""
    from tracker.core.terminal import print_note
    from tracker.workspace.leaderboard_kinds import KINDS

    named = any(workspace.data.get(key) for key in ("eval_dir", "sample", "eval_table"))
    if KINDS[workspace.leaderboard].knows_solution and not named:
        print_note(
            "nothing says which images are predicted: until data.eval_dir (or sample, eval_table)"
            " is set in tracker.toml, tracker run train makes no predictions to submit",
            before="warning: ",
        )


def _refuse_contradictions(given: Mapping[str, str]) -> None:
    """Raise ConfigError for options of which one would have no effect; `given` has their texts."""
    from tracker.commands.options import refuse_beside, refuse_together
    from tracker.training.formats import FORMATS
    from tracker.workspace.leaderboard_kinds import KINDS

    flags = {
        option.flag: option for kind in KINDS.values() for option in kind.options if option.flag
    }
    refuse_together({flag: flag in given for flag in flags})
    kind = given.get("--leaderboard", "")
    own = KINDS[kind].options if kind in KINDS else ()
    for flag, option in flags.items():
        if kind and option not in own:
            refuse_beside(f"--leaderboard {kind}", {flag: flag in given}, why=option.unused)
    data_format = given.get("--format", "")
    readers = [known.name for known in FORMATS.values() if "data.labels" in known.only_keys]
    if data_format and data_format not in readers:
        why = f"only format {' or '.join(readers)} reads a table of labels"
        refuse_beside(f"--format {data_format}", {"--labels": "--labels" in given}, why=why)


def _refuse_ages(data: Mapping[str, Any]) -> None:
    """Raise ConfigError for ages of images without people."""
    from tracker.commands.options import refuse_beside
    from tracker.setup.init import detect_format
    from tracker.training.formats import list_with_people

    # Without images the format is reported later.
    form = data.get("format") or (detect_format(data) if data.get("train_dir") else "")
    if form and form not in list_with_people():
        ages = {"--age-bands": "age_bands" in data}
        refuse_beside(f"format {form}", ages, why="its images have no ages")


def _ignore_outputs(workspace: Workspace) -> None:
    """Tell git to leave out what the workspace makes, and say so; a failure is only reported."""
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
    from tracker.mirror.copy import sync_run

    _sync(run or (), sync_run)


def push_command(
    run: Annotated[
        list[str] | None, typer.Argument(metavar="[R]...", help="Runs; all when not given.")
    ] = None,
    weights: Annotated[
        bool, typer.Option("--weights", help="Compare the bytes of best.pth, too.")
    ] = False,
) -> None:
    """Repair the copies on MLflow: what never arrived, was cut off or changed there is sent again.

    The files there are downloaded and compared by their fingerprints.
    """
    from tracker.core.terminal import print_text
    from tracker.mirror.copy import repair_run

    def repair(workspace: Workspace, name: str, connections: Connections) -> None:
        if damaged := repair_run(workspace, name, connections, weights=weights):
            print_text(f"{name}: sent again: {', '.join(damaged)}")

    _sync(run or (), repair)


def _sync(words: Sequence[str], copy: Callable[[Workspace, str, Connections], object]) -> None:
    """Bring the ledger up to date, and the copies of the runs by `copy`; raises TrackerError."""
    from tracker.commands.options import notify_latest
    from tracker.core.errors import TrackerError
    from tracker.ledger.resolve import resolve_own_run
    from tracker.run_folder.record import list_run_numbers
    from tracker.submission.submit import sync_all
    from tracker.training.numbers import render_count
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_latest(workspace, *words)
    names = [resolve_own_run(workspace, name) for name in words]
    names = names or [f"exp{number}" for number in reversed(list_run_numbers(workspace.runs_dir))]
    done, problems = sync_all(workspace, names, copy)
    print(f"{render_count(len(done), 'run')} up to date")
    if problems:
        behind = {line.partition(":")[0] for line in problems} & set(names)
        what = render_count(len(behind), "run") if behind else "what was submitted is"
        raise TrackerError(f"{what} not up to date:\n  " + "\n  ".join(problems))


def pull_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="R...", help="mina/exp12, or s12 for its run.")
    ],
    weights: Annotated[bool, typer.Option("--weights", help="Bring best.pth, too.")] = False,
) -> None:
    """Bring teammates' runs from MLflow: config, curves, predictions, probabilities.

    They are read-only copies, checked with the ledger; diff, compare, check, ensemble, explain and
    submit pull what they need by themselves.
    """
    from tracker.core.terminal import print_text
    from tracker.mirror.pull import describe_pulled, find_to_pull, pull
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    for run in [find_to_pull(workspace, word) for word in runs]:
        print_text(describe_pulled(workspace, pull(workspace, run, weights=weights)))
