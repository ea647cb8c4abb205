"""The family of runs and submissions: parents from the records, whatever has become of them."""

from __future__ import annotations

import io
import json
import re
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest

import tracker
from tests.conftest import run_tracker
from tests.support.winners_table import TABLE
from tests.support.workspaces import make_run, make_workspace, set_parent
from tracker.comparison.tree import MAX_INDENT, build_family, name_model
from tracker.console.tree import print_family
from tracker.core.clock import utc_now
from tracker.ledger.submission_table import export_table, import_table, read_submission_table
from tracker.run_folder.read import load_run
from tracker.run_folder.record import RunRecord
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.config import Config, config_to_dict
from tracker.workflows.ending import index_run
from tracker.workflows.own_loop.config_tables import to_tables
from tracker.workspace.tracker_toml import Workspace


def list_parents(workspace: Workspace) -> dict[str, str | None]:
    return {node.name: node.parent for node in build_family(workspace).nodes}


def test_the_winners_table_is_a_tree_by_what_each_row_was_based_on(workspace: Workspace) -> None:
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    family = build_family(workspace)
    by_name = {node.name: node for node in family.nodes}
    assert [name for name, node in by_name.items() if node.parent is None] == ["s1", "s6"]
    assert [name for name, node in by_name.items() if node.parent == "s12"] == [
        "s15",
        "s16",
        "s17",
        "s18",
    ]
    assert [name for name, node in by_name.items() if node.sota_line] == ["s6", "s12", "s17"]
    assert [name for name, node in by_name.items() if node.is_sota] == ["s17"]
    assert by_name["s17"].change == {"eval.center_crop": [None, [320, 256]]}
    assert by_name["s17"].depth == 2
    assert by_name["s1"].model == "efficientnet_b6"
    assert by_name["s12"].scores["private_f1"] == 0.7741
    assert family.problems == []


def test_runs_stand_below_their_parents_with_change_and_scores(workspace: Workspace) -> None:
    make_run(workspace, "0000011111")
    make_run(workspace, "0000011110", config={"optim.lr": 0.5})
    make_run(workspace, config={"optim.lr": 0.5, "train.epochs": 3}, status="failed")
    set_parent(workspace, "exp2", "exp1")
    set_parent(workspace, "exp3", "exp2")
    submit(workspace, "exp2", "half")
    first, second, third = build_family(workspace).nodes
    assert (first.depth, second.depth, third.depth) == (0, 1, 2)
    assert (first.change, first.model) == (None, "resnet18")
    assert list(second.change or {}) == ["optim.lr"]
    assert (second.submission, second.text, second.scores["public_f1"]) == (1, "half", 1.0)
    assert "private_f1" not in second.scores
    assert (third.status, list(third.change or {}), third.submission) == (
        "failed",
        ["train.epochs"],
        None,
    )
    assert (first.sota_line, second.is_sota, third.sota_line) == (True, True, False)


def test_a_missing_parent_and_a_circle_are_named_and_lose_no_run(workspace: Workspace) -> None:
    for _ in range(5):
        make_run(workspace)
    for name, parent in {
        "exp1": "exp9",
        "exp2": "exp3",
        "exp3": "exp5",
        "exp4": "exp3",
        "exp5": "exp4",
    }.items():
        set_parent(workspace, name, parent)
    assert list_parents(workspace) == {
        "exp1": None,
        "exp3": None,
        "exp2": "exp3",
        "exp4": "exp3",
        "exp5": "exp4",
    }
    assert build_family(workspace).problems == [
        "exp1: its parent exp9 is not in this workspace",
        "exp3: it is its own ancestor",
    ]
    set_parent(workspace, "exp1", "exp1")
    assert list_parents(workspace)["exp1"] is None


def test_a_run_that_cannot_be_read_is_in_the_tree(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace)
    set_parent(workspace, "exp2", "exp1")
    (workspace.runs_dir / "exp1" / "config.toml").write_text("no toml")
    (workspace.runs_dir / "exp3").mkdir()
    nodes = {node.name: node for node in build_family(workspace).nodes}
    assert (nodes["exp3"].status, nodes["exp2"].change, nodes["exp1"].model) == (
        "killed",
        None,
        None,
    )


def test_a_loop_that_names_no_model_has_a_config_all_the_same(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker.start_run({"optim": {"lr": 0.1}}, root=workspace.root, follow=False).finish()
    tracker.start_run({}, root=workspace.root, follow=False).finish()
    print_family(build_family(workspace), workspace.competition)
    out = capsys.readouterr().out
    assert (out.count("unknown"), out.count("config unknown")) == (1, 1)


@pytest.mark.parametrize(
    "config",
    [
        {"backbone": "my_net"},
        {"hparams": {"encoder_name": "my_net", "net_width": 3}},
        {"module": {"net": "my_net"}},
        {"model": {"class_path": "my_net", "dropout": 0.1}},
    ],
)
def test_a_loop_has_the_model_that_it_logged_in_whatever_section(config: dict[str, Any]) -> None:
    assert name_model(to_tables(config)) == "my_net"


def test_an_ensemble_changes_no_training_key(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace)
    set_parent(workspace, "exp2", "exp1")
    (workspace.runs_dir / "exp2" / "config.toml").write_text(
        '[ensemble]\nmethod = "hard"\nmembers = ["exp1"]\n'
    )
    assert build_family(workspace).nodes[1].change == {
        "ensemble.method": [None, "hard"],
        "ensemble.members": [None, ["exp1"]],
    }


def test_a_teammates_submission_descends_from_sota_then(
    workspace: Workspace, tmp_path: Path
) -> None:
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "mine")
    other = make_workspace(tmp_path / "other", ledger_url=workspace.ledger_url)
    make_run(other, "0000011100", config={"optim.lr": 0.5})
    submit(other, "exp1", "theirs")
    assert list_parents(workspace) == {"exp1": None, "s2": "exp1"}
    assert list_parents(other) == {"s1": None, "exp1": None}


def test_a_chain_of_a_thousand_runs_stays_on_the_page(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    config = config_to_dict(Config())
    for number in range(1, 1001):
        folder = workspace.runs_dir / f"exp{number}"
        folder.mkdir()
        parent = f"exp{number - 1}" if number > 1 else None
        record = RunRecord(
            name=folder.name,
            uid=f"u{number}",
            status="finished",
            parent=parent,
            created_at=utc_now(),
        )
        (folder / "run.json").write_text(json.dumps(record.to_dict()))
        (folder / "config.toml").write_text(
            f"[optim]\nlr = {config['optim']['lr']}\n[train]\nepochs = {number}\n"
        )
    family = build_family(workspace)
    assert [node.depth for node in family.nodes] == list(range(1000))
    json.dumps(family.to_dict())
    print_family(family, workspace.competition)
    lines = [line for line in capsys.readouterr().out.splitlines() if "exp" in line]
    assert len(lines) == 1000
    assert lines[-1].index("exp1000") == 2 * MAX_INDENT
    assert "(from exp999) train.epochs 999 -> 1000" in lines[-1]


def test_the_command_shows_texts_as_typed_and_prints_json(workspace: Workspace) -> None:
    make_run(workspace, note="a [bold]b[/bold]\nc")
    make_run(workspace, config={"optim.lr": 0.5})
    set_parent(workspace, "exp2", "exp1")
    shown = run_tracker("tree", cwd=workspace.root).stdout
    assert "a [bold]b[/bold] c" in shown
    assert "\x1b" not in shown
    assert re.search(r"\u2514 exp2 .* optim\.lr 0\.001 -> 0\.5", shown)
    found = json.loads(run_tracker("tree", "--json", cwd=workspace.root).stdout)
    assert [(node["name"], node["parent"], node["depth"]) for node in found["nodes"]] == [
        ("exp1", None, 0),
        ("exp2", "exp1", 1),
    ]


def test_an_empty_workspace_has_an_empty_tree(workspace: Workspace) -> None:
    assert "no runs and no submissions yet" in run_tracker("tree", cwd=workspace.root).stdout


def test_a_change_keeps_its_first_key_where_the_note_leaves(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    make_run(workspace, "0000011111", f1=0.7, note="a note that is as long as notes often are")
    make_run(
        workspace,
        "0000011110",
        config={"optim.lr": 0.006, "train.epochs": 3},
        f1=0.7,
        note="n" * 50,
    )
    set_parent(workspace, "exp2", "exp1")
    submit(workspace, "exp2", "memo " * 20)
    print_family(build_family(workspace), workspace.competition)
    printed = capsys.readouterr().out
    assert "optim.lr, train.epochs \u2026" in printed  # it says what differs, and all of it
    assert max(map(len, printed.splitlines())) <= 80


def test_notes_stay_longer_than_the_private_score(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011111", f1=0.7, note="a note that is as long as notes often are")
    config = {"optim.lr": 0.006, "train.epochs": 3}
    make_run(workspace, "0000011110", config=config, f1=0.7, note="n" * 50)
    set_parent(workspace, "exp2", "exp1")
    submit(workspace, "exp2", "memo")
    score(workspace, 1, {("public", "f1"): 0.5, ("private", "f1"): 0.5})
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(io.StringIO()) as out:
        patch.setenv("COLUMNS", "76")
        print_family(build_family(workspace), workspace.competition)
    titles = next(line for line in out.getvalue().splitlines() if line.startswith("run"))
    assert "note, memo" in titles and "private" not in titles


def test_a_metric_that_has_a_column_is_shown_beside_the_deciding_one(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, f1=0.7)
    make_run(workspace)
    for name, summary in (
        ("exp1", {"val/f1": 0.7, "val/accuracy": 0.85}),
        ("exp2", {"val/accuracy": 0.65}),
    ):
        path = workspace.runs_dir / name / "run.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "summary": summary}))
    print_family(build_family(workspace), workspace.competition, wide=True)
    printed = capsys.readouterr().out
    assert "val accuracy" in printed
    assert "0.8500" in printed


def test_runs_come_by_their_numbers_though_one_was_adopted_with_its_old_times(
    workspace: Workspace,
) -> None:
    for _ in range(3):
        make_run(workspace)
    path = workspace.runs_dir / "exp2" / "run.json"
    old = {**json.loads(path.read_text()), "created_at": "2020-01-01T00:00:00.000000+00:00"}
    path.write_text(json.dumps(old))
    assert [node.name for node in build_family(workspace).nodes] == ["exp1", "exp2", "exp3"]


def test_imported_runs_stand_below_what_they_were_made_from_and_not_below_sota(
    workspace: Workspace, tmp_path: Path
) -> None:
    for number, answers in enumerate(("0000011110", "0000011111", "0000001111"), 1):
        make_run(workspace, answers)
        if number == 3:
            set_parent(workspace, "exp3", "exp1")
        index_run(workspace, load_run(workspace.runs_dir, f"exp{number}"))
        submit(workspace, f"exp{number}", f"number {number}")
    export_table(workspace, tmp_path / "all.json")
    other = make_workspace(tmp_path / "other")
    import_table(other, read_submission_table(tmp_path / "all.json", other.competition))
    parents = {node.name: node.parent for node in build_family(other).nodes}
    assert parents == {"s1": None, "s2": None, "s3": "s1"}
