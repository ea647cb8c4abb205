"""The demo: a small competition, from photographs to the leaderboard, through the functions of the
commands."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping
from pathlib import Path

from tracker.comparison.diff import diff_runs
from tracker.comparison.marks import read_submission_marks
from tracker.console.diff import print_diff
from tracker.console.runs import render_scores
from tracker.console.submissions import print_leaderboard
from tracker.core.errors import AlreadyTrainedError, DuplicateError
from tracker.core.settings import quiet_libraries
from tracker.core.terminal import print_text
from tracker.core.text import render_value
from tracker.ledger.read import list_validation_scores
from tracker.mirror.sync import copy_run
from tracker.run_folder.record import RunRecord
from tracker.setup.init import init_workspace
from tracker.submission.scores import reveal
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.files import translate_os_errors
from tracker.training.libraries import TRAINING, require
from tracker.workflows.resolve import resolve_config
from tracker.workflows.train import train
from tracker.workspace.tracker_toml import Workspace

PEOPLE, EVAL_PEOPLE, SEED = 48, 24, 7
FIRST = {
    "model.name": "resnet10t",
    "data.image_size": [32, 24],
    "train.epochs": 6,
    "optim.lr": 0.001,
    "sched.warmup_epochs": 1.0,
}
CHANGE = {"optim.lr": 0.003}


def run_demo(folder: Path) -> None:
    """Tell the whole story in `folder`, which must be new or empty; raises ConfigError when it is
    not."""
    if folder.exists() and any(folder.iterdir()):
        raise ConfigError(f"{folder} is not empty", hint="tracker demo NEWFOLDER")
    require(*TRAINING)
    quiet_libraries()
    print_text(
        "it takes about a minute on a quiet machine, several on a busy one; three small trainings"
        " print a line for each epoch"
    )
    workspace = _make_workspace(folder)
    first = _train(workspace, None, "first try", FIRST)
    _submit(workspace, first, "first try")
    second = _train(workspace, first.name, "three times the learning rate", CHANGE)
    _submit(workspace, second, "three times the learning rate")
    _train_again(workspace, second.name)
    third = _train(
        workspace, second.name, "a teammate repeats it, sure that it is new", {}, force=True
    )
    _submit(workspace, third, "surely new")
    _print_line("what did the change do?  tracker diff exp1 exp2")
    print_diff(diff_runs(workspace, first.name, second.name))
    _print_line("the competition is over, private scores are opened  tracker leaderboard reveal")
    rows = reveal(workspace)
    for problem in {copy_run(workspace, name) for name in (first.name, second.name)}:
        if problem:
            print(problem, file=sys.stderr)
    print_leaderboard(
        rows,
        workspace.competition,
        list_validation_scores(workspace, rows),
        marks=read_submission_marks(workspace, rows),
    )
    go_there = (
        "" if folder.resolve() == Path.cwd().resolve() else f"cd {shlex.quote(str(folder))} && "
    )
    print(
        f"look around:  {go_there}tracker ui     (curves, best.pth and memos in the MLflow web"
        " page)"
    )


def _make_workspace(folder: Path) -> Workspace:
    from tracker.setup.demo_faces import make_competition

    _print_line(
        f"a competition of drawn faces in {folder}: {PEOPLE} people to learn from, {EVAL_PEOPLE} to"
        " predict"
    )
    with translate_os_errors(folder, "write"):
        folder.mkdir(parents=True, exist_ok=True)
        make_competition(folder / "data", people=PEOPLE, eval_people=EVAL_PEOPLE, seed=SEED)
    data = {
        "train_dir": str(folder / "data/train"),
        "eval_dir": str(folder / "data/eval"),
        "split": "by_profile",
    }
    return init_workspace(
        folder,
        data=data,
        competition={
            "name": "masks-demo",
            "daily_limit": 5,
            "similar_share": 0.999,
        },  # its runs may be alike
        leaderboard_options={"solution": folder / "data" / "solution.csv"},
    )


def _train_again(workspace: Workspace, name: str) -> None:
    _print_line(f"tracker run train --from {name}")
    try:
        train(workspace, resolve_config(workspace, parent=name), parent=name, quiet=True)
    except AlreadyTrainedError as error:
        print_text(f"skipped before any training: {error}")


def _train(
    workspace: Workspace,
    parent: str | None,
    note: str,
    flags: Mapping[str, object],
    *,
    force: bool = False,
) -> RunRecord:
    _print_line(render_train_command(parent, note, flags, force=force))
    config = resolve_config(workspace, parent=parent, flags=flags)
    # without quiet the training shows each epoch: a busy machine must not seem to hang
    record = train(workspace, config, parent=parent, note=note, force=force)
    scores = render_scores(record.summary, workspace.competition)
    print(f"{record.name}: best epoch {record.best_epoch}, {scores}, {record.duration_s:.0f} s")
    return record


def render_train_command(
    parent: str | None, note: str, flags: Mapping[str, object], *, force: bool = False
) -> str:
    """The command as a person types it in any shell: zsh refuses brackets without quotes."""
    words = ["--from", parent] if parent else []
    words += ["--force"] if force else []
    for key, value in flags.items():
        words += ["--set", f"{key}={render_value(value).replace(' ', '')}"]
    return shlex.join(["tracker", "run", "train", *words, "--note", note])


def _submit(workspace: Workspace, record: RunRecord, memo: str) -> None:
    _print_line(f"tracker submit {record.name} --memo {shlex.quote(memo)}")
    try:
        row, quota = submit(workspace, record.name, memo)
    except DuplicateError as error:
        print_text(f"refused, nothing was spent: {error}")
        return
    primary = workspace.competition.primary
    score = primary.render(row.scores.get(f"public_{primary.name}"))
    print(
        f"submission {row.number}: public {primary.name} {score}, {quota.left} of {quota.limit}"
        " left today"
    )


def _print_line(line: str) -> None:
    print(f"\n> {line}", flush=True)
