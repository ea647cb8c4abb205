"""What a sweep says to type next is not refused as a repeat."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workspaces import make_run, make_workspace
from tracker.jobs.sweep import SweepResult, TrialResult, find_next_seed
from tracker.jobs.views import print_sweep


def test_the_best_trial_is_trained_again_with_a_seed_that_no_run_had(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace)
    make_run(workspace, config={"train.seed": 50})
    trial = TrialResult(
        number=0, run="exp1", host="h", state="complete", value=0.5, values={}, reason=""
    )
    sweep = SweepResult(study="s", monitor="val/f1", trials=(trial,), best=0)
    print_sweep(sweep, next_seed=find_next_seed(workspace, sweep))
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == "train from it: tracker run train --from exp1 --seed 51"
