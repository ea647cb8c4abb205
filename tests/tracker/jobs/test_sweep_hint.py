"""What a sweep and a finished run say to type next is not refused as a repeat."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import AlreadyTrainedError
from tracker.jobs.sweep import SweepResult, TrialResult, find_next_seed
from tracker.jobs.views import print_sweep
from tracker.ledger.resolve import resolve_run
from tracker.run_folder.recorder import Recorder
from tracker.training.config import config_to_dict
from tracker.training.errors import ConfigError
from tracker.workflows.resolve import FLAGS, resolve_config
from tracker.workflows.reuse import find_reusable_run
from tracker.workspace.tracker_toml import Workspace

TRIAL = TrialResult(
    number=0, run="exp1", host="h", state="complete", value=0.5, values={}, reason=""
)
SWEEP = SweepResult(study="s", monitor="val/f1", trials=(TRIAL,), best=0)


def type_in(workspace: Workspace, line: str) -> None:
    """What `tracker run train` does with a line before it makes a run."""
    command: Any = typer.main.get_command(app)
    words = shlex.split(line)
    assert words[:3] == ["tracker", "run", "train"]
    for word in words[1:3]:
        command = command.commands[word]
    given = command.make_context("train", words[3:]).params
    config = resolve_config(
        workspace,
        parent=resolve_run(workspace, given["parent"]),
        flags={key: given[flag] for flag, key in FLAGS.items() if given[flag] is not None},
    )
    find_reusable_run(workspace, config_to_dict(config), "sha256:d")


def test_the_best_trial_is_trained_again_with_a_seed_that_no_run_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace)
    make_run(workspace, config={"train.seed": 50})
    print_sweep(SWEEP, next_seed=find_next_seed(workspace, SWEEP))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "train from it: tracker run train --from exp1 --seed 51"


def test_the_hints_of_a_sweep_and_of_a_finished_run_are_accepted_as_typed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace)
    print_sweep(SWEEP, next_seed=find_next_seed(workspace, SWEEP))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "train from it: tracker run train --from exp1 --seed 43"
    type_in(workspace, last.removeprefix("train from it: "))
    with pytest.raises(ConfigError, match="exp1 is finished") as caught:
        Recorder.reopen(workspace.runs_dir, "exp1")
    said, _, line = caught.value.hint.partition(": ")
    assert said == "train it anew, for longer"
    type_in(workspace, line.replace(" N", " 50"))
    # without the seed it is the repeat that it was
    with pytest.raises(AlreadyTrainedError, match="exp1"):
        type_in(workspace, "tracker run train --from exp1")
