"""A run of another program is compared by what is known of both; what it does not know is no
change."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.workspaces import make_loop, make_run
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import diff_runs
from tracker.comparison.tree import build_family, shorten_change
from tracker.console.compare import describe
from tracker.console.diff import render_markdown
from tracker.console.submissions import print_leaderboard, style_change
from tracker.console.tree import print_family
from tracker.core.config_diff import list_changes, render_change
from tracker.core.table import CUT, Column, draw_table
from tracker.ledger.read import get_submission
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown as render_report
from tracker.report.page import render_page
from tracker.submissions.examine import check
from tracker.submissions.submit import submit
from tracker.workspace.tracker_toml import Workspace


def test_what_another_program_does_not_know_is_no_change(workspace: Workspace) -> None:
    make_run(workspace, "0000011100", config={"optim.lr": 0.01})
    name = make_loop(workspace, {"optim": {"lr": 0.1}, "hf": {"layers": 2}})
    found = diff_runs(workspace, "exp1", name)
    assert found.config == {"optim.lr": [0.01, 0.1]}
    assert {"loss.name", "augment.crop", "optim.weight_decay", "hf.layers"} <= set(found.not_known)
    assert found.verdict[0].startswith(f"exp1 -> {name}: optim.lr 0.01 -> 0.1; ")
    text = render_markdown(found).replace("\\", "")
    assert (
        f"{len(found.not_known)} keys are known for only one of the two (--all shows them)" in text
    )
    assert "a key that one of two programs never logged is not known to have changed" in text
    assert "augment.crop" not in text
    assert f"data: unknown of {name}" in text
    assert diff_runs(workspace, "exp1", name, everything=True).config["augment.crop"] == [
        [320, 256],
        None,
    ]


def test_check_counts_what_changed_and_apart_from_it_what_is_not_known(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011100", config={"optim.lr": 0.01})
    submit(workspace, "exp1", "m")
    name = make_loop(workspace, {"optim": {"lr": 0.1}})
    report = check(workspace, name)
    assert report.config_diff == {"optim.lr": [0.01, 0.1]}
    one = (
        f"one change: optim.lr 0.01 -> 0.1, {len(report.not_known)} keys are known for only one of"
        " the two"
    )
    assert report.answer.endswith(one)


@pytest.mark.parametrize("other", [{"model_config": {"layers": 2}}, {"data": {"image_size": 64}}])
def test_what_one_of_two_other_programs_never_logged_is_no_change(
    workspace: Workspace, other: dict[str, Any]
) -> None:
    first = make_loop(workspace, {"optim": {"lr": 0.1}})
    second = make_loop(workspace, {"optim": {"lr": 0.2, "name": "adamw_torch_fused"}, **other})
    found = diff_runs(workspace, first, second)
    assert found.config == {"optim.lr": [0.1, 0.2]}
    assert len(found.not_known) == 2 and found.not_known[0] == "optim.name"
    assert (
        f"2 keys are known for only one of the two: {', '.join(found.not_known)}"
        in found.verdict[0]
    )
    assert compare_runs(workspace, [first, second]).keys == ["optim.lr"]


def test_lists_say_of_a_change_how_many_keys_another_program_never_logged(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011100", config={"train.seed": 42})
    submit(workspace, "exp1", "m")
    name = make_loop(workspace, {"train": {"seed": 0}}, parent="exp1")
    second, _ = submit(workspace, name, "loop")
    assert second.number == 2
    read = get_submission(workspace, 2)
    assert read.config_diff == {"train.seed": [42, 0]} and "loss.name" in read.not_known
    words = f"train.seed 42 -> 0; {len(read.not_known)} keys are known for only one of the two"
    print_leaderboard([read], workspace.competition, {}, sota=1, was_sota=())
    assert f"to 1: {words}" in capsys.readouterr().out
    print_family(build_family(workspace), workspace.competition)
    assert words in capsys.readouterr().out
    report = build_report(workspace)
    assert words in render_report(report).replace("\\", "")
    assert f"{len(read.not_known)} keys are known for only one of the two" in render_page(report)


def test_a_change_is_cut_between_its_keys() -> None:
    diff = {"optim.lr": [0.1, 0.2], "model.name": ["resnet18", "vit_small"], "train.epochs": [3, 5]}
    cell = style_change(diff, before="to 1: ")
    column = [Column("change", text=True)]
    shown = {width: draw_table(column, [[cell]], width=width)[2] for width in range(8, 79)}
    assert set(shown.values()) - {text for text in shown.values() if text.endswith(CUT)} == {
        "to 1: optim.lr 0.1 -> 0.2, model.name resnet18 -> vit_small, 1 more key",
        "to 1: optim.lr 0.1 -> 0.2, 2 more keys",
        "to 1: optim.lr, 2 more keys",
        "to 1: 3 keys",
    }
    unknown = style_change({"optim.lr": [0.1, 0.2]}, ["a", "b", "c", "d"])
    assert draw_table(column, [[unknown]], width=40)[2] == "optim.lr 0.1 -> 0.2; 4 not known"
    assert draw_table(column, [[unknown]], width=24)[2] == "optim.lr; 4 not known"


def test_one_run_of_another_program_adds_no_columns(workspace: Workspace) -> None:
    make_run(workspace, config={"optim.lr": 0.01})
    make_run(workspace, config={"optim.lr": 0.02})
    name = make_loop(workspace, {"optim": {"lr": 0.1}, "hf": {"layers": 2}})
    found = compare_runs(workspace, ["exp1", "exp2", name])
    assert found.keys == ["optim.lr"]
    assert "hf.layers" in found.not_known and "augment.crop" in found.not_known
    assert any(
        line.startswith(f"{len(found.not_known)} keys are not known of every run")
        for line in describe(found)
    )


@pytest.mark.parametrize("leader", [("model.name", "a", "b"), ("augment.name", "base", "none")])
def test_what_follows_from_another_key_is_no_change_of_its_own(
    leader: tuple[str, str, str],
) -> None:
    name, *pair = leader
    diff = {"augment.crop_pct": [0.95, 0.875], name: pair}
    assert list_changes(diff) == [f"{name} {' -> '.join(pair)}"]
    assert (
        render_change(diff)
        == f"{name} {' -> '.join(pair)} (and with it augment.crop_pct 0.95 -> 0.875)"
    )
    assert shorten_change(diff) == f"{name} {' -> '.join(pair)}, augment.crop_pct 0.95 -> 0.875"


def test_a_crop_of_ones_own_is_a_change() -> None:
    assert len(list_changes({"augment.crop_pct": [0.95, 0.875], "optim.lr": [1, 2]})) == 2
    assert (
        len(list_changes({"augment.crop_pct": [0.95, 0.875], "augment.name": ["base", "standard"]}))
        == 2
    )


def test_another_model_is_one_change_and_what_it_brings_stands_after_the_others(
    workspace: Workspace,
) -> None:
    make_run(
        workspace, config={"model.name": "resnet18", "augment.crop_pct": 0.95, "optim.lr": 0.1}
    )
    make_run(
        workspace,
        config={"model.name": "vit", "augment.crop_pct": 0.875, "data.std": [0.5, 0.5, 0.5]},
    )
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.verdict[0].startswith(
        "exp1 -> exp2: model.name resnet18 -> vit, optim.lr 0.1 -> 0.001 (and with it "
    )
    text = render_markdown(found).replace("\\", "")
    assert text.index("| optim.lr") < text.index("| augment.crop_pct")
    assert "they follow from another key: data.std, augment.crop_pct" in text
