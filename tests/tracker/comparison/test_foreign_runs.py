"""A run of another program is compared by what is known of both; what it does not know is no
change."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from tests.support.workspaces import begin_run, make_loop, make_run
from tracker.comparison.audit import audit
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import diff_runs
from tracker.comparison.tree import build_family, shorten_change
from tracker.console.compare import describe
from tracker.console.diff import render_markdown
from tracker.console.runs import print_run
from tracker.console.shown_config import choose_config
from tracker.console.submissions import print_leaderboard, put_before, style_change
from tracker.console.tree import print_family
from tracker.core.config_diff import (
    describe_ensemble,
    diff_configs,
    list_changes,
    render_change,
    translate,
)
from tracker.core.list_marks import Marks
from tracker.core.table import CUT, Column, draw_table
from tracker.ledger.read import get_submission, list_submissions
from tracker.report.data import build_report
from tracker.report.markdown import render_markdown as render_report
from tracker.report.page import render_page
from tracker.run_folder.read import load_run
from tracker.submission.examine import check
from tracker.submission.headlines import _count_changes
from tracker.submission.submit import submit
from tracker.training.config import Config, config_to_dict
from tracker.workspace.tracker_toml import Workspace


def test_figures_of_the_machine_and_of_batches_are_no_metrics_for_people(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    logged = {"val/f1": 0.5, "train/loss": 0.25, "train/batch_loss": 0.2, "train/batch_lr": 0.1}
    machine = {"system/memory_mb": 891.0, "last/system/cpu_percent": 76.0}
    for name in ("exp1", "exp2"):
        recorder = begin_run(workspace, config={"optim": {"lr": 0.1}}, fingerprints={})
        half = {key: value / 2 for key, value in {**logged, **machine}.items()}
        summary = half if name == "exp2" else {**logged, **machine}
        recorder.progress(epoch=1, best_epoch=1, summary=summary)
        assert recorder.finish("finished").name == name
    wanted = ["val/f1", "train/loss"]
    assert sorted(diff_runs(workspace, "exp1", "exp2").metrics) == sorted(wanted)
    (row, _) = compare_runs(workspace, ["exp1", "exp2"]).rows
    assert sorted(row.metrics) == sorted(wanted)
    record = load_run(workspace.runs_dir, "exp1")
    assert record.summary == {**logged, **machine}
    for full in (False, True):
        print_run(
            record,
            choose_config(workspace, record, {}, full=full),
            [],
            workspace.competition,
            marks=((), Marks()),
            validation={},
            flattered=False,
            notes=[],
            advice=None,
            members=[],
        )
        text = capsys.readouterr().out
        assert ("system/memory_mb" in text, "train/batch_lr" in text) == (full, full)
        assert "train/loss" in text


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
        f"one known change: optim.lr 0.01 -> 0.1, {len(report.not_known)} keys are known for only"
        " one of the two"
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
    print_leaderboard([read], workspace.competition, {}, marks=Marks(now=1))
    assert f"to 1: {words}" in capsys.readouterr().out
    print_family(build_family(workspace), workspace.competition)
    assert words in capsys.readouterr().out
    report = build_report(workspace)
    assert words in render_report(report).replace("\\", "")
    assert f"{len(read.not_known)} keys are known for only one of the two" in render_page(report)


def test_a_change_is_cut_between_its_keys() -> None:
    diff = {"optim.lr": [0.1, 0.2], "model.name": ["resnet18", "vit_small"], "train.epochs": [3, 5]}
    cell = put_before("to 1: ", style_change(diff))
    column = [Column("change", text=True)]
    shown = {width: draw_table(column, [[cell]], width=width)[2] for width in range(8, 79)}
    assert {text for width, text in shown.items() if width > 14} == {
        "to 1: optim.lr 0.1 -> 0.2, model.name resnet18 -> vit_small, train.epochs \u2026",
        "to 1: optim.lr 0.1 -> 0.2, model.name, train.epochs \u2026",
        "to 1: optim.lr, model.name, train.epochs \u2026",
        "to 1: optim.lr 0.1 -> 0.2, 2 more keys \u2026",
        "to 1: optim.lr \u2026 -> 0.2, 2 more keys",
        "to 1: optim.lr, 2 more keys \u2026",
        "to 1: 3 keys",
    }
    # a text that is cut says so, but for the shortest, which is one by itself
    assert {text for text in shown.values() if CUT not in text} == {"to 1: 3 keys"}
    unknown = style_change({"optim.lr": [0.1, 0.2]}, ["a", "b", "c", "d"])
    assert draw_table(column, [[unknown]], width=40)[2] == "optim.lr 0.1 -> 0.2; 4 not known \u2026"
    assert draw_table(column, [[unknown]], width=24)[2] == "optim.lr; 4 not known \u2026"


def test_the_sign_of_a_cut_stands_at_no_name_and_no_number_and_is_explained() -> None:
    both = {f"ensemble.{key}": [1, 2] for key in ("method", "weights", "members")}
    both["ensemble.members"] = [["exp1"], ["exp2"]]
    for diff in ({"optim.lr": [0.001, 0.003]}, both):
        cell = put_before("to 1: ", style_change(diff))
        for width in range(14, 60):
            shown = draw_table([Column("change", text=True)], [[cell]], width=width)[2]
            assert not re.search(f"[^ ]{CUT}", shown)
    column = [Column("change", text=True), Column("score", leaves=3)]
    lines = draw_table(column, [[put_before("to 1: ", style_change(both)), "0.5"]], width=24)
    assert lines[2] == f"to 1: ensemble: 3 keys {CUT}"
    assert "  score; --wide shows" in lines
    assert lines[-1] == f"{CUT} cut at this width"


def test_the_shortest_form_of_a_change_of_ensembles_says_what_it_is() -> None:
    ensemble = [["method", None, "soft"], ["members", None, ["exp1", "exp2", "exp3"]]]
    joined = {f"ensemble.{key}": [old, new] for key, old, new in ensemble}
    alone = {f"ensemble.{key}": [new, old] for key, old, new in ensemble}
    column = [Column("change", text=True)]
    shown = [
        draw_table(column, [[put_before("to 2: ", style_change(diff))]], width=20)[2]
        for diff in (joined, alone, {})
    ]
    assert shown == ["to 2: soft of 3", "to 2: single", "to 2: no config key"]


def test_one_run_of_another_program_adds_no_columns(workspace: Workspace) -> None:
    make_run(workspace, config={"optim.lr": 0.01})
    make_run(workspace, config={"optim.lr": 0.02})
    name = make_loop(workspace, {"optim": {"lr": 0.1}, "hf": {"layers": 2}})
    found = compare_runs(workspace, ["exp1", "exp2", name])
    assert found.keys == ["optim.lr"]
    assert "hf.layers" in found.not_known and "augment.crop" in found.not_known
    assert any(
        line.startswith(
            f"unknown for some runs: {len(found.not_known)} config keys (runs that have them"
        )
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
    assert shorten_change(diff) == render_change(diff)


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


def test_key_names_of_other_programs_compare_with_ours(workspace: Workspace) -> None:
    make_run(workspace, "0000011100", config={"optim.lr": 0.01})
    submit(workspace, "exp1", "m")
    flat = {"model": "resnet34", "loss": "cross_entropy", "learning_rate": 0.1, "epochs": 30}
    name = make_loop(workspace, {"config": flat}, parent="exp1")
    ours = diff_runs(workspace, "exp1", name)
    assert ours.config["model.name"] == ["resnet18", "resnet34"]
    assert ours.config["optim.lr"] == [0.01, 0.1]
    assert not {"loss.name", "model.name", "config.model", "config.loss"} & set(ours.not_known)
    report = check(workspace, name)
    assert report.config_diff == ours.config
    assert sorted(report.not_known) == sorted(ours.not_known)
    row, _ = submit(workspace, name, "loop")
    assert row.config_diff == ours.config
    assert sorted(row.not_known) == sorted(ours.not_known)
    keys = [*ours.config]
    (item,) = audit(workspace).several_keys
    assert item["keys"] == keys
    compared = compare_runs(workspace, ["exp1", name])
    assert set(keys) <= set(compared.keys) and "config.model" not in compared.keys
    assert [one.config["model.name"] for one in compared.rows] == ["resnet18", "resnet34"]
    node = next(node for node in build_family(workspace).nodes if node.name == name)
    assert node.model == "resnet34" and node.change == ours.config


def test_two_names_of_one_key_stay_two_keys() -> None:
    config = {"config": {"lr": 0.1, "learning_rate": 0.2}, "optimizer": {"type": "sgd"}}
    assert translate(config) == {
        "optim": {"lr": 0.1, "name": "sgd"},
        "config": {"learning_rate": 0.2},
    }
    ours = config_to_dict(Config())
    assert translate(ours) is ours


def test_one_change_is_said_only_where_it_is_one(workspace: Workspace) -> None:
    members = {"ensemble": {"method": "mean", "members": ["exp1", "exp2"]}}
    ensemble = "mean ensemble of exp1, exp2"
    single = config_to_dict(Config())
    assert _count_changes(diff_configs(members, single), []) == (
        f"a single model against {ensemble}, so no single change can be named"
    )
    assert _count_changes(diff_configs(single, members), []) == (
        f"{ensemble} against a single model, so no single change can be named"
    )
    others = {"ensemble": {"method": "mean", "members": ["exp1", "exp3"]}}
    assert _count_changes(diff_configs(members, others), []) == "another ensemble: members differ"
    searched = {
        "ensemble": {
            "method": "weighted",
            "members": ["exp1", "exp3"],
            "searched": True,
            "weights": [2, 9],
        }
    }
    plain = {"ensemble": {**members["ensemble"], "searched": False, "weights": []}}
    assert _count_changes(diff_configs(plain, searched), []) == (
        "another ensemble: members and method differ"
    )
    ranked = {"ensemble": {**members["ensemble"], "method": "rank"}}
    assert _count_changes(diff_configs(members, ranked), []) == (
        "one change: ensemble: method mean -> rank"
    )
    inherited = {"ensemble": {**plain["ensemble"], "searched": "members"}}
    assert _count_changes(diff_configs(plain, inherited), []) == (
        "one change: ensemble: weights searched on val: no -> by a member"
    )
    assert _count_changes({}, ["hf.a"]).startswith("no known config key changed, 1 key is known")


def test_keys_that_follow_from_another_are_counted_nowhere() -> None:
    diff = {
        "model.name": ["resnet18", "vit_small"],
        "optim.lr": [0.1, 0.2],
        **{f"data.{key}": [[0.1], [0.2]] for key in ("mean", "std")},
        "augment.crop_pct": [0.9, 1.0],
    }
    assert _count_changes(diff, []) == "2 keys changed at once"
    shorter = style_change(diff).shorter
    assert shorter[-2:] == ("model.name, 1 more key \u2026", "2 keys")
    assert any("optim.lr 0.1 -> 0.2" in text for text in shorter)
    assert shorter[0] == "model.name resnet18 -> vit_small, optim.lr \u2026"
    assert "more key" not in shorten_change(diff)


def test_the_config_of_sota_is_parsed_once_for_all_rows(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, answers in enumerate(("0000011110", "0000011100", "0000011000", "0000010000")):
        make_run(workspace, answers, config={"optim.lr": 0.1 + place})
        submit(workspace, f"exp{place + 1}", "m", even_if_similar=True)
    texts: list[str] = []
    loads = json.loads

    def count(text: str) -> Any:
        texts.append(text)
        return loads(text)

    monkeypatch.setattr("tracker.ledger.connection.json.loads", count)
    assert [row.sota for row in list_submissions(workspace)] == [None, 1, 1, 1]
    first = texts[0]
    assert texts.count(first) == 1  # its own config, and SOTA's of three others


def test_members_of_weight_0_are_no_part_of_an_ensemble() -> None:
    table = {"method": "weighted", "members": ["exp5", "exp6", "exp7"], "weights": [2, 0, 6.0]}
    assert describe_ensemble(table) == "weighted ensemble of exp5, exp7 (2, 6)"
    assert describe_ensemble({**table, "weights": []}) == "weighted ensemble of exp5, exp6, exp7"
    (change,) = list_changes(diff_configs({"optim": {"lr": 1.0}}, {"ensemble": table}))
    assert "exp6" not in change
