"""tracker run train, infer, ensemble, reproduce and options, and tracker adopt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tracker.commands.options import explain_no_run
from tracker.commands.runs import Wide

if TYPE_CHECKING:
    from tracker.run_folder.record import RunRecord
    from tracker.training.config import Config
    from tracker.workspace.tracker_toml import Workspace

SlurmSet = Annotated[
    list[str] | None,
    typer.Option(
        "--slurm-set",
        help="key=value of section slurm, as in time=2:00:00 or gpus=2; may be repeated.",
    ),
]


@explain_no_run()
def train_command(
    config: Annotated[Path | None, typer.Argument(help="TOML file with config sections.")] = None,
    parent: Annotated[
        str, typer.Option("--from", help="Start from the config of a run, sota or s12.")
    ] = "",
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help=(
                "section.key=value; may be repeated; overrides the rest. A list in quotes:"
                ' "eval.center_crop=[96,128]".'
            ),
        ),
    ] = None,
    resume: Annotated[
        bool,
        typer.Option("--resume", help="Continue the newest unfinished run, or the one in --from."),
    ] = False,
    note: Annotated[str, typer.Option(help="What this run tests; shown everywhere.")] = "",
    fact: Annotated[
        list[str] | None,
        typer.Option(help="name=value to keep with the run, not in its config; may be repeated."),
    ] = None,
    model: Annotated[str | None, typer.Option(help="model.name")] = None,
    epochs: Annotated[int | None, typer.Option(help="train.epochs")] = None,
    lr: Annotated[float | None, typer.Option(help="optim.lr")] = None,
    batch_size: Annotated[
        str | None, typer.Option(metavar="INTEGER|auto", help="train.batch_size")
    ] = None,
    loss: Annotated[str | None, typer.Option(help="loss.name")] = None,
    seed: Annotated[int | None, typer.Option(help="train.seed")] = None,
    recipe: Annotated[
        str,
        typer.Option(
            help=(
                "fast or strong: a set of config keys that places well; the file and --set win over"
                " it. tracker run options lists them."
            )
        ),
    ] = "",
    folds: Annotated[
        int, typer.Option(help="Train a run for each of so many folds, and combine them.", min=0)
    ] = 0,
    force: Annotated[
        bool,
        typer.Option("--force", help="Train even if a run has the same config, data and code."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the last line.")] = False,
    detach: Annotated[
        bool, typer.Option("--detach", help="Train in the background; the terminal may close.")
    ] = False,
    slurm: Annotated[
        bool, typer.Option("--slurm", help="Train as a job of Slurm (section slurm, tracker.toml).")
    ] = False,
    slurm_set: SlurmSet = None,
) -> None:
    """Train a run and predict the evaluation images."""
    from functools import partial

    from tracker.commands.jobs import print_detached, print_submitted
    from tracker.commands.options import bring_runs, notify_latest
    from tracker.core.settings import is_secondary_rank
    from tracker.core.terminal import print_note
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.output import outlive_terminal
    from tracker.training.errors import ConfigError
    from tracker.training.tables import parse_toml_value
    from tracker.workflows.folds import train_folds
    from tracker.workflows.resolve import FLAGS, resolve_config
    from tracker.workflows.train import find_restarted, make_waiting_run, train
    from tracker.workspace.tracker_toml import find_workspace

    if is_secondary_rank():
        _follow()
        return
    workspace = find_workspace()
    _refuse_beside_slurm(slurm=slurm, folds=folds, detach=detach, slurm_set=slurm_set)
    notify_latest(workspace, parent)
    flags = {
        "model": model,
        "epochs": epochs,
        "lr": lr,
        "batch_size": None if batch_size is None else parse_toml_value(batch_size),
        "loss": loss,
        "seed": seed,
    }
    given = {FLAGS[name]: value for name, value in flags.items() if value is not None}
    if resume:
        if config or given or assign or note or fact or folds or force or recipe:
            raise ConfigError(
                "--resume goes on with an unchanged config",
                hint="use --resume without the other options",
            )
        resolved, work = _go_on(workspace, parent, slurm=slurm, quiet=quiet)
    elif restarted := find_restarted(workspace):
        resolved, work = _go_on(workspace, restarted, slurm=False, quiet=quiet)
    else:
        bring_runs(workspace, parent)
        source = resolve_run(workspace, parent) if parent else None
        facts = _parse_facts([*(fact or ()), *([f"recipe={recipe}"] if recipe else [])])
        if folds:
            _refuse_folds_twice(assign or ())
            given["data.folds"] = folds
        resolved = resolve_config(
            workspace,
            config_file=config,
            parent=source,
            flags=given,
            assignments=assign or (),
            recipe=recipe,
            notify=print_note if not quiet else lambda _: None,
        )
        make = make_waiting_run if slurm else train_folds if folds else train
        work = partial(
            make,
            workspace,
            resolved,
            parent=source,
            note=note,
            facts=facts,
            quiet=quiet,
            force=force,
        )
    if detach:
        print_detached()
        return
    if slurm:
        print_submitted(workspace, resolved, work, slurm_set or ())
        return
    with outlive_terminal(workspace):
        _print_end(workspace, work(), quiet=quiet)


def _go_on(
    workspace: Workspace, run: str, *, slurm: bool, quiet: bool
) -> tuple[Config, Callable[[], RunRecord]]:
    """The config of an unfinished run, the newest one without a name, and what goes on with it: its
    training, or with `slurm` a job, for which it then waits."""
    from functools import partial

    from tracker.ledger.resolve import resolve_own_run
    from tracker.run_folder.read import load_run, load_trained_config
    from tracker.run_folder.recorder import put_back
    from tracker.training.config_reading import config_from_dict
    from tracker.workflows.resolve import find_resumable
    from tracker.workflows.train import resume

    name = resolve_own_run(workspace, run) if run else find_resumable(workspace)
    tables = load_trained_config(workspace.runs_dir, load_run(workspace.runs_dir, name))
    config = config_from_dict(tables, source=f"{name}/config.toml")
    if slurm:
        return config, partial(put_back, workspace.runs_dir, name)
    return config, partial(resume, workspace, name, quiet=quiet)


def _refuse_beside_slurm(
    *, slurm: bool, folds: int, detach: bool, slurm_set: Sequence[str] | None
) -> None:
    """Raise ConfigError for options that --slurm does not go with, or that need it."""
    from tracker.commands.options import refuse_beside
    from tracker.training.errors import ConfigError

    if slurm_set and not slurm:
        raise ConfigError("--slurm-set is about the job of --slurm", hint="add --slurm")
    if slurm:
        refuse_beside("--slurm", {"--detach": detach}, why="a job needs no terminal")
        refuse_beside(
            "--slurm",
            {"--folds": bool(folds)},
            why="a job trains one run; submit each fold with --set data.fold=1 and so on",
        )


def _refuse_folds_twice(assignments: Sequence[str]) -> None:
    """Raise ConfigError for an assignment of what --folds sets itself."""
    from tracker.commands.options import refuse_together

    keys = [text.partition("=")[0].strip() for text in assignments]
    refuse_together(
        {
            "--folds": True,
            **{f"--set {key}": True for key in keys if key in ("data.folds", "data.fold")},
        }
    )


def _print_end(workspace: Workspace, record: RunRecord, *, quiet: bool) -> None:
    """How the run ended, and what its curves advise."""
    from tracker.comparison.advice import advise_run
    from tracker.console.runs import render_end
    from tracker.core.terminal import print_text
    from tracker.run_folder.points import read_curves
    from tracker.run_folder.read import load_config
    from tracker.workspace.metrics import deciding_first

    print_text(render_end(record, workspace.competition))
    if quiet:
        return
    folder = workspace.runs_dir / record.name
    config, curves = (
        load_config(workspace.runs_dir, record.name),
        read_curves(folder / "metrics.jsonl"),
    )
    advice = advise_run(record, config, curves, deciding_first(workspace.competition))
    for sentence in advice.sentences if advice else ():
        print_text(f"  {sentence}")


def _parse_facts(texts: Sequence[str]) -> dict[str, Any]:
    import re

    from tracker.core.text import check_utf8
    from tracker.training.errors import ConfigError
    from tracker.training.tables import parse_toml_value

    check_utf8("--fact", " ".join(texts))
    if wrong := [text for text in texts if not re.match(r"[A-Za-z_][\w.-]*=", text)]:
        raise ConfigError(f"--fact {wrong[0]}: expected name=value, as in --fact idea=7")
    facts: dict[str, Any] = {}
    for text in texts:
        name, _, value = text.partition("=")
        if name in facts:
            raise ConfigError(f"--fact {name} was given twice", hint="give each fact once")
        facts[name] = parse_toml_value(value)
    return facts


def _follow() -> None:
    """One of the processes that torchrun started: the first of them makes the run."""
    from tracker.training.run.worker import run_worker

    run_worker()


@explain_no_run()
def infer_command(
    parent: Annotated[
        str, typer.Option("--from", help="Run whose weights are used: exp12, latest, sota or s12.")
    ],
    assign: Annotated[
        list[str] | None,
        typer.Option("--set", help="eval.key=value; may be repeated; overrides the rest."),
    ] = None,
    note: Annotated[str, typer.Option(help="What this run tests; shown everywhere.")] = "",
    force: Annotated[
        bool,
        typer.Option(
            "--force", help="Predict even if a run has the same config, data and weights."
        ),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the last line.")] = False,
) -> None:
    """Predict with a trained run's weights under another eval config."""
    from tracker.commands.options import bring_runs, notify_latest
    from tracker.console.runs import render_scores
    from tracker.core.terminal import print_text
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.output import outlive_terminal
    from tracker.workflows.infer import infer
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_latest(workspace, parent)
    bring_runs(workspace, parent, weights=True)
    source = resolve_run(workspace, parent)
    with outlive_terminal(workspace):
        record = infer(workspace, source, assign or (), note=note, quiet=quiet, force=force)
        scores = render_scores(record.summary, workspace.competition)
        print_text(f"{record.name} finished: weights of {source}, {scores}")


@explain_no_run()
def reproduce_command(
    run: Annotated[
        str, typer.Argument(metavar="[R]", help="exp12, latest, sota or s12.")
    ] = "latest",
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Print only the answer.")] = False,
) -> None:
    """Train a run again from its record, and show whether predictions and weights are equal."""
    from tracker.commands.options import bring_runs, notify_latest
    from tracker.core.terminal import print_text
    from tracker.ledger.resolve import resolve_run
    from tracker.run_folder.output import outlive_terminal
    from tracker.workflows.reproduce import reproduce
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    notify_latest(workspace, run)
    bring_runs(workspace, run)
    with outlive_terminal(workspace):
        result = reproduce(workspace, resolve_run(workspace, run), quiet=quiet)
        for line in result.lines:
            print_text(line)
    if not result.agrees:
        raise typer.Exit(1)


@explain_no_run()
def ensemble_command(
    runs: Annotated[
        list[str], typer.Argument(metavar="R R...", help="Two or more runs with probabilities.")
    ],
    method: Annotated[
        str, typer.Option(help="soft (mean), geometric, rank, hard, weighted or greedy.")
    ] = "soft",
    weights: Annotated[
        str, typer.Option(help="For weighted: a number for each run, as in 2,1,1.")
    ] = "",
    assign: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="eval.decide=tuned or eval.threshold=0.4: how its scores become answers; may be"
            " repeated.",
        ),
    ] = None,
    note: Annotated[str, typer.Option(help="What this run tests; shown everywhere.")] = "",
    force: Annotated[
        bool, typer.Option("--force", help="Combine even if a run is the same ensemble.")
    ] = False,
) -> None:
    """Combine the probabilities of several runs into a new run."""
    from tracker.commands.options import bring_runs, notify_latest
    from tracker.comparison.members import list_members
    from tracker.console.members import print_members
    from tracker.console.runs import render_scores
    from tracker.core.config_diff import describe_ensemble
    from tracker.core.terminal import print_note, print_text
    from tracker.mirror.sync import copy_run
    from tracker.run_folder.output import outlive_terminal
    from tracker.run_folder.read import load_config
    from tracker.workflows.ensemble import ensemble
    from tracker.workspace.tracker_toml import find_workspace

    numbers = [float(part) for part in _split_numbers(weights)]
    workspace = find_workspace()
    notify_latest(workspace, *runs)
    bring_runs(workspace, *runs)
    with outlive_terminal(workspace):
        record = ensemble(
            workspace,
            runs,
            method=method,
            weights=numbers,
            note=note,
            assignments=assign or (),
            force=force,
        )
        config, comp = load_config(workspace.runs_dir, record.name), workspace.competition
        print_text(
            f"{record.name}: {describe_ensemble(config['ensemble'])},"
            f" {render_scores(record.summary, comp)}"
        )
        print_members(list_members(workspace, config), comp)
        if problem := copy_run(workspace, record.name):
            print_note(problem)


def _split_numbers(text: str) -> list[str]:
    import re

    from tracker.training.errors import ConfigError

    parts = [part.strip() for part in text.split(",") if part.strip()]
    if not all(re.fullmatch(r"\d+(\.\d*)?|\.\d+", part) for part in parts):
        raise ConfigError(
            f"--weights {text}: expected numbers of at least 0 with commas between, as in 2,1,1"
        )
    return parts


def options_command(wide: Wide = False) -> None:
    """List every config key with its default in this workspace and its meaning; and the recipes."""
    from tracker.core.terminal import find_width, print_table, print_text
    from tracker.training.config import list_options
    from tracker.training.recipes import RECIPES

    defaults = _render_defaults()
    rows = []
    for key, option in list_options().items():
        choices = option.metadata["choices"]
        words = (
            f"{option.metadata['doc']} One of: {', '.join(choices)}."
            if choices
            else option.metadata["doc"]
        )
        rows.append((key, defaults[key], words))
    if wide or find_width() is None:
        print_table(("key", "default", "meaning"), rows, wide=wide)
    else:
        for key, default, words in rows:  # a sentence that is cut explains nothing
            print_text(f"{key} = {default or '(empty)'}", style="bold")
            print_text(f"  {words}")
    for name, recipe in RECIPES.items():
        print_text(f"--recipe {name}", style="bold")
        print_text(f"  {recipe.doc}")


def _render_defaults() -> dict[str, str]:
    """What a new run of this workspace takes for each key, but for defaults of data formats."""
    from tracker.console.shown_config import list_defaults
    from tracker.core.errors import TrackerError, UnknownRunError
    from tracker.core.terminal import print_note
    from tracker.core.text import render_value
    from tracker.training.config import Config, config_to_dict, list_options
    from tracker.training.tables import flatten
    from tracker.workspace.tracker_toml import find_workspace

    try:
        values, given = list_defaults(find_workspace())
    except UnknownRunError:
        values, given = flatten(config_to_dict(Config())), set()
    except TrackerError as error:  # who mends tracker.toml needs the list
        print_note(f"{error}: these are the defaults without tracker.toml")
        values, given = flatten(config_to_dict(Config())), set()
    else:
        return {
            key: render_value(value) + (" (set in tracker.toml)" if key in given else "")
            for key, value in values.items()
        }
    shown = {key: render_value(value) for key, value in values.items()}
    for key, option in list_options().items():
        by_format = [
            f"{render_value(value)} ({name})"
            for name, value in option.metadata["by_format"].items()
        ]
        shown[key] = ", ".join(by_format) or shown[key]
    return shown


def adopt_command(
    folder: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="Folder of a run made elsewhere.")
    ] = None,
    mlflow: Annotated[
        str, typer.Option("--mlflow", help="Id of a run in MLflow, instead of a folder.")
    ] = "",
    note: Annotated[str, typer.Option(help="What this run is; shown everywhere.")] = "",
    names: Annotated[
        list[str] | None,
        typer.Option(
            "--map", help="NAME=OURS: what a metric or config key is called here; may be repeated."
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Adopt again what was adopted before.")
    ] = False,
) -> None:
    """Import a run made by another script: config, curves, checkpoint, prediction CSV."""
    from tracker.core.terminal import print_text
    from tracker.training.errors import ConfigError
    from tracker.training.numbers import render_count
    from tracker.workflows.adopt.adopt import adopt_folder, adopt_mlflow
    from tracker.workspace.metrics import list_model_metrics
    from tracker.workspace.tracker_toml import find_workspace

    workspace = find_workspace()
    if folder and not mlflow:
        record, remarks = adopt_folder(
            workspace, folder, note=note, names=_parse_names(names or ()), force=force
        )
    elif mlflow and not folder:
        record, remarks = adopt_mlflow(
            workspace, mlflow, note=note, names=_parse_names(names or ()), force=force
        )
    else:
        raise ConfigError("give a folder or --mlflow RUN_ID", hint="tracker adopt ../old/exp3")
    count = len(list_model_metrics(record.summary))
    metrics = render_count(count, "metric") if count else "no metrics to compare it by"
    print(f"{record.name}: adopted ({record.status}), {metrics}")
    for remark in remarks:
        print_text(f"  {remark}")


def _parse_names(texts: Sequence[str]) -> dict[str, str]:
    """{name there: name here} of --map; raises ConfigError."""
    from tracker.training.errors import ConfigError

    result: dict[str, str] = {}
    for text in texts:
        old, _, new = (part.strip() for part in text.rpartition("="))
        if not old or not new:
            raise ConfigError(f"--map {text}: expected NAME=OURS, as in --map score=val/f1")
        if result.setdefault(old, new) != new:
            raise ConfigError(f"--map {old} was given twice", hint="give each name once")
    return result
