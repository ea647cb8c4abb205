"""`diff` shows what differs, which way, and who was better; nothing that is equal."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.workspaces import make_run, make_workspace
from tracker.configdiff import diff_configs
from tracker.diff import diff_runs
from tracker.errors import UnknownRunError
from tracker.report import print_diff
from tracker.submit import reveal, submit
from tracker.workspace import Workspace


def test_only_the_keys_that_differ_are_shown(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.1})
    make_run(workspace, "0000011110", config={"optim.lr": 0.2})
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.config == {"optim.lr": [0.1, 0.2]}
    assert found.metrics == {}
    everything = diff_runs(workspace, "exp1", "exp2", everything=True)
    assert everything.config["train.seed"] == [42, 42]
    assert everything.metrics["val/f1"] == {"a": 0.5, "b": 0.5, "delta": 0.0, "better": None}


def test_worker_counts_are_no_difference() -> None:
    base = {"data": {"workers": 1}, "optim": {"lr": 0.1}}
    assert diff_configs(base, {"data": {"workers": 4}, "optim": {"lr": 0.1}}) == {}
    assert diff_configs(base, {"optim": {"lr": 0.1}, "loss": {"gamma": 2.0}}) == {"loss.gamma": [None, 2.0]}


def test_the_better_side_follows_the_direction_of_each_metric(workspace: Workspace) -> None:
    first = make_run(workspace, "0000011110", f1=0.5)
    make_run(workspace, "0000011111", f1=0.75)
    path = workspace.runs_dir / first.name / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "summary": {**record["summary"], "train/loss": 0.25}}))
    metrics = diff_runs(workspace, "exp1", "exp2").metrics
    assert metrics["val/f1"] == {"a": 0.5, "b": 0.75, "delta": 0.25, "better": "b"}
    assert metrics["train/loss"] == {"a": 0.25, "b": 0.5, "delta": 0.25, "better": "a"}


def test_leaderboard_scores_come_first(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", f1=0.5)
    make_run(workspace, "0000011111", f1=0.75)
    submit(workspace, "exp1", "a")
    submit(workspace, "exp2", "b")
    reveal(workspace)
    found = diff_runs(workspace, "exp1", "exp2")
    names = list(found.metrics)
    assert found.submissions == [1, 2]
    assert {"private_f1", "overall_f1", "private_accuracy", "overall_accuracy"} <= set(names[:4])
    assert found.metrics["private_f1"]["better"] == "b"


def test_equal_share_counts_the_images_of_both_runs(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011001")
    make_run(workspace)
    assert diff_runs(workspace, "exp1", "exp2").predictions == {"equal_share": 0.7, "changed": 3, "total": 10}
    assert diff_runs(workspace, "exp1", "exp3").predictions is None


def test_data_and_code_are_compared_by_fingerprint(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    second = make_run(workspace, "0000011111")
    path = workspace.runs_dir / second.name / "run.json"
    record = json.loads(path.read_text())
    record["fingerprints"]["data"] = "sha256:e"
    path.write_text(json.dumps(record))
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.data == {"equal": False, "a": "sha256:d", "b": "sha256:e"}
    assert found.code["equal"]


def test_what_is_printed_says_what_differs(workspace: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.1}, f1=0.5)
    make_run(workspace, "0000011111", config={"optim.lr": 0.2}, f1=0.75)
    print_diff(diff_runs(workspace, "exp1", "exp2"))
    out = capsys.readouterr().out
    assert "optim.lr" in out
    assert "+0.2500" in out
    assert "1 of 10 differ (90.00 % equal)" in out
    assert "seed" not in out
    print_diff(diff_runs(workspace, "exp1", "exp1"))
    assert capsys.readouterr().out == "config: no difference\nmetrics: no difference\npredictions: all 10 equal\n"


def test_an_unknown_run_is_named_with_the_newest(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "0000011110")
    with pytest.raises(UnknownRunError, match="no run exp7") as caught:
        diff_runs(workspace, "exp1", "exp7")
    assert "the newest is exp1" in caught.value.hint
