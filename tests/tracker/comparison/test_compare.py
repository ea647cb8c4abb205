"""`compare`: only what differs, seeds together, in the order and by the condition asked for."""

from __future__ import annotations

import csv
import io
import json
import random
import shutil
import statistics
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.winners_table import TABLE
from tests.support.workspaces import begin_run, make_loop, make_run, make_workspace
from tracker.comparison.compare import (
    Comparison,
    Incomparable,
    Spread,
    _group_repeats,
    compare_runs,
)
from tracker.comparison.compared_run import ComparedRun, expand_ranges, load_compared
from tracker.comparison.diff import diff_runs
from tracker.comparison.search import search_runs
from tracker.console.compare import (
    build_cells,
    describe,
    join_ensemble_keys,
    order_keys,
    print_comparison,
    render_csv,
    render_markdown,
)
from tracker.console.diff.config_table import list_members
from tracker.core.errors import UnknownRunError
from tracker.core.list_marks import Marks, mark_flattered
from tracker.core.table import measure
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.run_folder.marks import archive_runs, unarchive_runs
from tracker.run_folder.recorder import Recorder
from tracker.submission.notes import add_note
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError, StorageError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace

SCORES = ["public_f1", "public_accuracy", "private_f1", "private_accuracy"]
F1S = (0.5, 0.75, 0.625)


@pytest.fixture
def seeded(workspace: Workspace) -> Workspace:
    """Two learning rates: exp1 to exp3 are seeds of one, exp4 is the other."""
    for seed, f1 in enumerate(F1S):
        make_run(
            workspace, "0000011110", config={"train.seed": seed}, f1=f1, weights=f"sha256:{seed}"
        )
    make_run(workspace, "0000011111", config={"optim.lr": 0.5}, f1=0.7, note="a high | rate")
    return workspace


def make_ensemble(
    workspace: Workspace,
    members: list[str],
    *,
    f1: float,
    searched: bool = False,
    weights: Sequence[float] = (),
) -> None:
    table: dict[str, Any] = {
        "method": "weighted",
        "members": members,
        "weights": list(weights) or [1.0] * len(members),
    }
    if searched:
        table["searched"] = True
    prints = {"data": None}
    recorder = begin_run(
        workspace, kind="ensemble", config={"ensemble": table}, fingerprints=prints
    )
    recorder.progress(epoch=0, best_epoch=None, summary={"val/f1": f1})
    recorder.finish("finished")


def test_a_member_of_weight_0_is_told_apart_from_the_members(seeded: Workspace) -> None:
    before = {path.name for path in seeded.runs_dir.iterdir()}
    make_ensemble(seeded, ["exp1", "exp4", "exp2"], f1=0.8, weights=[1.0, 0.0, 2.0])
    (name,) = {path.name for path in seeded.runs_dir.iterdir()} - before
    (line,) = list_members(diff_runs(seeded, "exp5", name))
    members, left_out = line.split("; ")
    assert "exp1 " in members and "exp2 " in members and "exp4" not in members
    assert left_out == "of weight 0, so no part of it: exp4"
    found = join_ensemble_keys(compare_runs(seeded, ["exp1..exp5"]))
    header, lines = build_cells(found, seeded.competition)
    assert lines[-1][header.index("ensemble")].text == "weighted of exp1, exp2"


def test_an_ensemble_of_runs_compares_with_a_row_of_several_seeds(seeded: Workspace) -> None:
    make_ensemble(seeded, ["exp1", "exp4"], f1=0.8)
    found = compare_runs(seeded, ["exp1..exp5"])
    assert "val/f1" not in found.not_comparable
    assert found.rows[found.best["val/f1"]].runs == ["exp5"]


def test_what_float32_rounds_off_makes_no_row_the_best(workspace: Workspace) -> None:
    for place, f1 in enumerate((0.8557692, 0.8557692 + 2e-8, 0.5)):
        make_run(workspace, config={"optim.lr": 0.1 + place}, f1=f1)
    assert "val/f1" not in compare_runs(workspace, ["exp1", "exp2"]).best
    found = compare_runs(workspace, ["exp1..exp3"])
    header, lines = build_cells(found, workspace.competition)
    place = header.index("val/f1")
    assert ["+" in line[place].text for line in lines] == [True, True, False]
    assert (
        diff_runs(workspace, "exp1", "exp2")
        .verdict[1]
        .startswith("val macro F1 0.8558 -> 0.8558; is it real?")
    )


def test_a_flattered_score_is_never_the_best(seeded: Workspace) -> None:
    make_ensemble(seeded, ["exp1", "exp4"], f1=0.7, searched=True)
    make_ensemble(seeded, ["exp2", "exp4"], f1=0.9, searched=True)
    found = compare_runs(seeded, ["exp1..exp6"])
    header, lines = build_cells(found, seeded.competition)
    place = header.index("val/f1")
    cells = {line[0].text: line[place].text.split() for line in lines}
    assert cells["exp4"] == ["0.7000", "+"]
    assert cells["exp5"] == ["0.7000", "~"]
    assert cells["exp6"] == ["0.9000", "~"]


def test_ensembles_share_a_column_and_leave_room_for_notes(
    seeded: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for other in range(1, 4):
        make_ensemble(seeded, [f"exp{other}", "exp4"], f1=0.7, searched=other == 2)
    found = compare_runs(seeded, ["exp1..exp7"])
    capsys.readouterr()
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(found, seeded.competition)
    out = capsys.readouterr().out
    assert "a high | rate" in out
    assert "weighted of exp1, exp4" in out or "weighted of 2 runs" in out
    assert "members" not in out
    assert "weights" not in out.partition("hidden")[0]
    print_comparison(found, seeded.competition, wide=True)
    assert "members" in capsys.readouterr().out


def test_a_better_run_that_a_mean_hides_is_named(seeded: Workspace) -> None:
    found = compare_runs(seeded, ["exp1..exp4"])
    assert found.rows[found.best["val/f1"]].runs == ["exp4"]
    assert found.within["val/f1"] == ("exp2", 0.75)
    said = "better than the best mean (+) is exp2 alone, in val/f1 (0.7500)"
    assert any(line.startswith(said) for line in describe(found))
    assert not any("alone" in line for line in describe(found, shown=["run", "train/loss"]))
    assert compare_runs(seeded, ["exp1..exp4"], each=True).within == {}
    for fold in (0, 1):
        make_run(seeded, config={"data.folds": 2, "data.fold": fold}, f1=0.5 + fold / 5)
        make_run(seeded, config={"data.folds": 2, "data.fold": fold, "optim.lr": 0.5}, f1=0.65)
    assert compare_runs(seeded, ["exp5..exp8"]).within == {}, "folds are not equally hard"


def test_an_unknown_figure_has_no_mark() -> None:
    assert mark_flattered("-", flattered=True, any_of_column=True).strip() == "-"
    assert mark_flattered("0.7000", flattered=True, any_of_column=True) == "0.7000 ~"
    assert mark_flattered("0.7000", flattered=False, any_of_column=True) == "0.7000  "


def test_a_row_that_does_not_compare_with_another_is_not_the_best(workspace: Workspace) -> None:
    for f1 in (0.5, 0.6, 0.7):
        make_run(workspace, config={"optim.lr": f1}, f1=f1)
    # What exp1 validated on is not saved: it compares with both, but they do not.
    for name, image in (("exp2", "a"), ("exp3", "b")):
        kept = Predictions((image,), np.ones((1, 1)), ("cat",), labels=np.array([0]))
        save_probabilities(workspace.runs_dir / name / "validation.npz", kept)
    found = compare_runs(workspace, ["exp1..exp3"])
    assert "val/f1" not in found.best
    assert found.not_comparable["val/f1"] == [
        "exp2 with exp3: different validation images (0 shared of 1 and 1)"
    ]


@pytest.mark.parametrize("images", ["a?bbb", "bbb?a"])
def test_a_row_that_compares_with_two_sets_is_in_the_larger_one(
    workspace: Workspace, images: str
) -> None:
    for number, image in enumerate(images):
        name = make_run(workspace, config={"optim.lr": number / 10}, f1=0.5 + number / 10).name
        if image != "?":
            kept = Predictions((image,), np.ones((1, 1)), ("cat",), labels=np.array([0]))
            save_probabilities(workspace.runs_dir / name / "validation.npz", kept)
    found = compare_runs(workspace, [f"exp{number}" for number in range(1, 6)])
    (told,) = [item for item in found.incomparable if item.metric == "val/f1"]
    assert [*told.runs] == [f"exp{images.index('a') + 1}"]


def test_only_what_differs_is_a_column_and_seeds_are_one_row(seeded: Workspace) -> None:
    found = compare_runs(seeded, ["exp1", "exp2", "exp3", "exp4"])
    assert found.keys == ["optim.lr"]
    assert [(row.runs, row.config) for row in found.rows] == [
        (["exp1", "exp2", "exp3"], {"optim.lr": 0.001}),
        (["exp4"], {"optim.lr": 0.5}),
    ]
    assert found.rows[0].metrics["val/f1"] == Spread(
        mean=statistics.mean(F1S), sd=statistics.stdev(F1S), n=3, runs=3
    )
    assert found.rows[1].metrics["val/f1"] == Spread(mean=0.7, sd=None, n=1)
    assert found.best["val/f1"] == 1
    assert "train/loss" not in found.best  # equal in both


def test_repeats_of_a_seed_and_runs_with_equal_weights_are_no_seeds(workspace: Workspace) -> None:
    for seed, weights, f1 in ((1, "a", 0.6), (1, "b", 0.7), (2, "c", 0.8), (3, "c", 0.8)):
        make_run(
            workspace, "0000011110", config={"train.seed": seed}, f1=f1, weights=f"sha256:{weights}"
        )
    make_run(workspace, config={"optim.lr": 0.5}, f1=0.7)
    make_run(workspace, config={"optim.lr": 0.5}, f1=0.7)
    found = compare_runs(workspace, ["exp1..exp6"])
    first, second = (row.metrics["val/f1"] for row in found.rows)
    assert (first.n, first.runs) == (2, 4)
    assert first.mean == pytest.approx((0.65 + 0.8) / 2)
    assert first.sd == pytest.approx(statistics.stdev((0.65, 0.8)))
    assert second == Spread(mean=0.7, sd=None, n=1, runs=2)
    header, lines = build_cells(found, workspace.competition)
    cells = [dict(zip(header, line, strict=True))["val/f1"] for line in lines]
    assert cells[0].text.startswith("0.7250 \u00b1 0.11 (2 seeds, 4 runs)")
    assert cells[1].text.strip() == "0.7000 (2 repeats)"


def test_the_best_is_looked_for_among_rows_that_validate_alike(workspace: Workspace) -> None:
    make_run(workspace, config={"optim.lr": 0.1}, f1=0.5)
    make_run(workspace, config={"optim.lr": 0.2}, f1=0.6)
    make_run(workspace, config={"data.val_ratio": 0.1}, f1=0.9)
    found = compare_runs(workspace, ["exp1..exp3"])
    assert found.best["val/f1"] == 1
    reason = "different split (ratio 0.1 against 0.2)"
    assert found.not_comparable["val/f1"] == [f"exp3 with exp1: {reason}"]
    said = "exp3 compares with none of the others in val/f1, val/accuracy, train/loss"
    assert f"{said}: {reason}" in [*describe(found)]
    assert compare_runs(workspace, ["exp1", "exp3"]).best == {}, "neither is the usual one"
    folds = [
        make_run(workspace, config={"data.folds": 3, "data.fold": fold}, f1=0.5).name
        for fold in (0, 1)
    ]
    make_run(workspace, config={"data.folds": 3, "data.fold": 0, "optim.lr": 0.1}, f1=0.9)
    found = compare_runs(workspace, [*folds, "exp6"])
    assert found.not_comparable["val/f1"] == [
        "exp6 with exp4: different validation images (fold 0 against folds 0 and 1)"
    ]
    make_ensemble(workspace, folds, f1=0.9)
    found = compare_runs(workspace, [*folds, "exp7"])
    assert found.not_comparable["val/f1"] == [
        "exp7 with exp4: different validation images"
        " (folds 0, 1 together against folds 0 and 1 each by itself)"
    ]


def test_a_row_over_folds_says_so_and_a_run_without_folds_has_none(workspace: Workspace) -> None:
    split = {"data.split": "stratified"}
    for fold in (0, 1):
        make_run(workspace, config={**split, "data.folds": 3, "data.fold": fold}, f1=0.5)
    make_run(workspace, config=split, f1=0.9)
    found = compare_runs(workspace, ["exp1..exp3"])
    reason = "different split (one split of 0.2 against 3 folds)"
    assert found.not_comparable["val/f1"] == [f"exp3 with exp1: {reason}"]
    said = [*describe(found)]
    assert "exp1, exp2: over folds 0 and 1, each with validation images of its own" in said
    make_run(workspace, config=split, f1=0.8)
    make_run(workspace, config={**split, "optim.lr": 0.5}, f1=0.8)
    told = "\n".join(describe(compare_runs(workspace, ["exp1..exp5"])))
    assert "exp1, exp2 compare with none of the others in val/f1" in told
    for fold in (0, 1):
        keys = {**split, "data.folds": 3, "data.fold": fold, "optim.lr": 0.1}
        make_run(workspace, config=keys, f1=0.5)
    for lr in (0.2, 0.3):
        make_run(workspace, config={**split, "optim.lr": lr})
    told = "\n".join(describe(compare_runs(workspace, ["exp1..exp9"])))
    assert "the rows exp1, exp2 and exp6, exp7 compare only with each other in val/f1" in told


def test_each_seed_has_its_row_when_asked(seeded: Workspace) -> None:
    found = compare_runs(seeded, ["exp1..exp4"], each=True)
    assert found.keys == ["optim.lr", "train.seed"]
    assert [row.runs for row in found.rows] == [["exp1"], ["exp2"], ["exp3"], ["exp4"]]


def test_folds_are_repeats_and_other_data_are_not(workspace: Workspace) -> None:
    for fold in (0, 1):
        make_run(workspace, config={"data.folds": 2, "data.fold": fold})
    other = make_run(workspace, config={"data.folds": 2, "data.fold": 0})
    path = workspace.runs_dir / other.name / "run.json"
    path.write_text(path.read_text().replace("sha256:d", "sha256:e"))
    found = compare_runs(workspace, ["exp1..exp3"])
    assert [row.runs for row in found.rows] == [["exp1", "exp2"], ["exp3"]]
    assert found.rows[1].config == {"data": "e"}


def test_none_named_means_the_newest_finished(seeded: Workspace) -> None:
    make_run(seeded, status="failed")
    found = compare_runs(seeded, [], limit=2)
    assert [row.runs for row in found.rows] == [["exp4"], ["exp3"]]
    (seeded.runs_dir / "exp2" / "config.toml").unlink()
    found = compare_runs(seeded, [])
    assert [row.runs for row in found.rows] == [["exp4"], ["exp3", "exp1"]]
    assert found.skipped[0].startswith("exp2: no such file")
    with pytest.raises(StorageError):
        compare_runs(seeded, ["exp2", "exp3"])


def test_a_condition_on_the_status_looks_at_runs_that_did_not_finish(seeded: Workspace) -> None:
    make_run(seeded, status="interrupted", f1=0.9)
    found = compare_runs(seeded, [], where="status = interrupted")
    assert [row.runs for row in found.rows] == [["exp5"]]
    assert found.empty_reason == ""
    both = compare_runs(seeded, [], where="val/f1 >= 0.75 and not status = failed", each=True)
    assert sorted(row.runs[0] for row in both.rows) == ["exp2", "exp5"]


def test_a_condition_that_no_finished_run_meets_finds_those_that_broke_off(
    seeded: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(seeded, status="interrupted", f1=0.9, note="rest of the night")
    by_note = compare_runs(seeded, [], where="note ~ night")
    assert [row.runs for row in by_note.rows] == [["exp5"]]
    shown = [line.split() for line in show(by_note, seeded, 200, capsys)]
    assert ["status", "interrupted"] in shown
    finished = compare_runs(seeded, [], where="note ~ night or optim.lr = 0.5")
    assert [row.runs for row in finished.rows] == [["exp4"]]
    assert finished.fields == []


def test_compare_and_runs_understand_the_same_names(seeded: Workspace) -> None:
    recorder = Recorder.create(
        seeded.runs_dir, kind="train", config={}, parent=None, note="", fingerprints={}
    )
    recorder.params({"idea": 7})
    recorder.progress(epoch=3, best_epoch=2, summary={"val/f1": 0.5})
    recorder.finish("failed", error="out of memory")
    for where in ("idea = 7", "error ~ memory", "epoch = 3", "status = failed"):
        assert [run.name for run in search_runs(seeded, where=where)] == ["exp5"], where
        assert [row.runs for row in compare_runs(seeded, [], where=where).rows] == [["exp5"]], where


@pytest.mark.parametrize("width", [60, 80])
def test_what_is_sorted_or_searched_by_stays_in_a_narrow_terminal(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    for number in range(6):
        config = {
            "optim.lr": 0.001 * (number + 1),
            "optim.weight_decay": 0.01 * (number + 1),
            "model.name": f"convnext_large_{number}",
            "data.image_size": 64 + number,
        }
        make_run(workspace, "0000011110", config=config, note="a rather long note" * 3)
    for sort, where, title in (
        ("train/loss", "", "train/loss"),
        ("optim.weight_decay", "", "weight_decay"),
        ("created_at", "", "created_at"),
        ("val/f1", "train/loss > 0", "train/loss"),
    ):
        lines = show(compare_runs(workspace, [], sort=sort, where=where), workspace, width, capsys)
        assert title in lines[1].split(), sort
        assert max(map(measure, lines)) <= width
    lines = show(compare_runs(workspace, []), workspace, 50, capsys)
    assert {"model", "lr"} <= set(lines[1].split())
    assert "weight_decay" not in lines[1].split()


def test_what_was_looked_at_is_said_where_nothing_was_found_and_what_would_find_it(
    seeded: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(seeded, status="interrupted", f1=0.9)
    archive_runs(seeded, ["exp2", "exp5"])
    found = compare_runs(seeded, [], where="val/f1 > 0.72")
    assert show(found, seeded, 200, capsys) == [
        "no match among the newest 3 finished runs; exp5 (archived), exp2"
        " (archived) match: tracker compare exp5 exp2"
    ]
    assert [row.runs for row in compare_runs(seeded, ["exp5", "exp2"]).rows] == [
        ["exp5"],
        ["exp2"],
    ]  # as it says
    unarchive_runs(seeded, ["exp5"])
    found = compare_runs(seeded, [], where="val/f1 > 0.95 and model.name = swin")
    assert (
        found.empty_reason
        == "no match among the newest 3 finished runs: val/f1 is 0.5000 to 0.7000,"
        " model.name is resnet18 there"
    )
    found = compare_runs(seeded, [], where="status = killed")
    assert found.empty_reason.endswith(
        "among the newest 4 runs: status is finished or interrupted there"
    )
    done = run_tracker("compare", "--where", "val/f1 > 0.95", "--json", cwd=seeded.root)
    assert json.loads(done.stdout)["rows"] == []
    assert done.stderr.startswith("no match among the newest 3 finished runs")


def test_where_no_run_has_finished_those_that_have_not_are_named(workspace: Workspace) -> None:
    make_run(workspace, status="interrupted")
    make_run(workspace, status="failed")
    with pytest.raises(UnknownRunError, match="no finished run to compare") as caught:
        compare_runs(workspace, [])
    assert caught.value.hint == "tracker compare exp2 exp1 compares unfinished runs"


def test_conditions_and_order(seeded: Workspace) -> None:
    found = compare_runs(
        seeded, [], where="val/f1 >= 0.625 and train.seed < 42", sort="val/f1", each=True
    )
    assert [row.runs for row in found.rows] == [["exp2"], ["exp3"]]
    assert (found.runs, found.considered) == (2, 4)
    assert [row.runs[0] for row in compare_runs(seeded, [], sort="train/loss").rows] == [
        "exp4",
        "exp3",
    ]
    by_lr = compare_runs(seeded, [], sort="optim.lr", each=True).rows
    assert by_lr[-1].runs == ["exp4"]
    with pytest.raises(ConfigError, match="--sort: no run has 'val/f2'") as caught:
        compare_runs(seeded, [], sort="val/f2")
    assert caught.value.hint == "nearest: val/f1"
    with pytest.raises(ConfigError, match=r"no run has 'optim\.rate'"):
        compare_runs(seeded, [], where="optim.rate = 1")


def test_a_lower_is_better_metric_is_sorted_lowest_first_and_the_unknown_last(
    workspace: Workspace,
) -> None:
    for loss in (0.5, None, 0.25):
        record = make_run(workspace, config={"optim.lr": loss or 9.0})
        path = workspace.runs_dir / record.name / "run.json"
        known = json.loads(path.read_text())
        path.write_text(json.dumps({**known, "summary": {"train/loss": loss}}))
    found = compare_runs(workspace, [], sort="train/loss")
    assert [row.runs[0] for row in found.rows] == ["exp3", "exp1", "exp2"]
    assert found.best == {"train/loss": 0}


def test_ranges_name_what_there_is(seeded: Workspace) -> None:
    shutil.rmtree(seeded.runs_dir / "exp2")
    assert expand_ranges(seeded, ["exp1..exp3", "exp3", "exp1..9"]) == ["exp1", "exp3", "exp4"]
    archive_runs(seeded, ["exp3"])
    skipped = compare_runs(seeded, ["exp1..exp4"]).skipped
    assert skipped == ["archived exp3 (--archived compares them too)"]
    assert compare_runs(seeded, ["exp1..exp4"], archived=True).skipped == []
    with pytest.raises(UnknownRunError, match="nothing between exp7 and exp9"):
        expand_ranges(seeded, ["exp7..exp9"])


def test_scores_submissions_and_notes_are_shown(seeded: Workspace) -> None:
    submit(seeded, "exp1", "first")
    add_note(seeded, "exp2", "seed 1 was lucky")
    add_note(seeded, "1", "do not trust it")
    found = compare_runs(seeded, ["exp1..exp4"])
    assert found.metrics[0] == "public_f1"
    assert found.rows[0].metrics["public_f1"].n == 1
    assert found.rows[0].submissions == [1]
    assert [note.text for note in found.rows[0].notes] == ["seed 1 was lucky", "do not trust it"]
    header, lines = build_cells(found, seeded.competition)
    assert dict(zip(header, lines[0], strict=True))["noted last"].text == "do not trust it (+1)"
    assert (
        dict(zip(header, lines[0], strict=True))["val/f1"].text.strip() == "0.6250 \u00b1 0.13 (3)"
    )
    assert dict(zip(header, lines[1], strict=True))["note"].text == "a high | rate"


def test_submissions_of_the_past_are_compared_by_what_the_ledger_knows(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    import_table(workspace, read_submission_table(TABLE, workspace.competition))
    found = compare_runs(workspace, ["s12", "s17", "s18"])
    assert found.keys == ["eval.center_crop", "eval.color_jitter"]
    assert [row.runs for row in found.rows] == [["s12"], ["s17"], ["s18"]]
    assert found.best["public_f1"] == 1
    with_both = replace(found, metrics=[*found.metrics, "overall_f1"])
    assert "overall: on the public and private images together" in [*describe(with_both)]
    found = compare_runs(
        workspace, ["s1..s18"], where="model.name ~ swin and not train.epochs > 5", sort="public_f1"
    )
    assert [row.runs[0] for row in found.rows][:3] == ["s17", "s12", "s18"]


def test_markdown_and_csv_hold_everything(seeded: Workspace) -> None:
    found = compare_runs(seeded, [])
    lines = render_markdown(found, seeded.competition).splitlines()
    assert [line for line in lines if "a high \\| rate" in line]
    assert {line.replace("\\|", "").count("|") for line in lines[:4]} == {lines[0].count("|")}
    rows = list(csv.DictReader(io.StringIO(render_csv(found))))
    assert float(rows[1]["val/f1 sd"]) == statistics.stdev(F1S)
    assert (rows[0]["val/f1 sd"], rows[0]["note"], rows[1]["runs"]) == (
        "",
        "a high | rate",
        "exp3 exp2 exp1",
    )


def test_many_runs_are_lines_and_what_has_no_room_is_named(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = [
        "optim.lr",
        "optim.weight_decay",
        "loss.gamma",
        "train.epochs",
        "train.batch_size",
        "data.val_ratio",
    ]
    keys += [
        "augment.jitter",
        "sched.decay_rate",
        "train.clip_grad",
        "model.drop_path",
        "eval.batch_size",
    ]
    for number in range(1, 7):
        values = dict.fromkeys(keys, number if number % 2 else number + 10)
        make_run(workspace, config={**values, "model.name": "a" * 60 + str(number)}, note="n" * 60)
    found = compare_runs(workspace, [])
    monkeypatch.setenv("COLUMNS", "240")
    print_comparison(found, workspace.competition)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 240
    assert "hidden at this width: " in out
    short = [key.partition(".")[2] for key in keys if not key.endswith("batch_size")]
    assert all(name in out for name in (*short, "train.batch_size", "eval.batch_size", "val/f1"))


def show(
    found: Comparison, workspace: Workspace, width: int, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """The lines that a terminal of `width` columns shows."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(width))
        print_comparison(found, workspace.competition)
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= width
    return lines


@pytest.mark.parametrize("width", [80, 120])
def test_of_many_runs_score_and_differing_keys_stay_longer_than_other_metrics(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    for number in range(9):
        config = {
            "optim.lr": 0.1 * (1 + number % 2),
            "model.name": f"a_long_name_{number % 2}",
            "train.epochs": number,
        }
        make_run(workspace, config=config, note="what was tried in this run: " + "n" * 60)
    found = compare_runs(workspace, [])
    rows = tuple(
        replace(
            row,
            metrics={
                **row.metrics,
                **{name: Spread(mean=0.123456, sd=None, n=1) for name in SCORES},
            },
        )
        for row in found.rows
    )
    found = replace(found, rows=rows, metrics=[*SCORES, "val/f1", "val/accuracy", "train/loss"])
    titles = next(
        line for line in show(found, workspace, width, capsys) if line.startswith("run")
    ).split()
    assert {"public_f1", "val/f1", "lr", "model", "epochs"} <= set(titles)
    assert "train/loss" not in titles or width > 80


def test_the_public_score_never_leaves_before_the_private_one(
    seeded: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    found = compare_runs(seeded, [], each=True)
    rows = [
        replace(
            row,
            runs=[f"exp{place}0000"],
            metrics={name: Spread(mean=0.5, sd=0.1, n=3) for name in SCORES},
        )
        for place, row in enumerate([*found.rows, *found.rows, *found.rows])
    ]
    for width in range(40, 140, 5):
        lines = show(replace(found, rows=rows, metrics=SCORES), seeded, width, capsys)
        titles = next((line for line in lines if line.startswith("run")), "").split()
        assert "private_f1" not in titles or "public_f1" in titles, width


def test_runs_turn_sideways_where_lines_would_lose_columns(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(6):
        config = {f"augment.{key}": number for key in ("jitter", "noise", "mixup", "cutmix")}
        make_run(
            workspace, config=config | {"optim.weight_decay": 0.1 * number, "train.epochs": number}
        )
    lines = show(compare_runs(workspace, []), workspace, 80, capsys)
    assert any(line.startswith("optim.weight_decay ") for line in lines)
    assert any(line.split() == [f"exp{number}" for number in range(6, 0, -1)] for line in lines)
    assert not any("hidden" in line for line in lines)


def test_a_reason_not_to_compare_is_said_once_with_all_its_runs(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(12):
        split = {"data.val_ratio": 0.1} if number in (2, 4, 5, 6) else {}
        make_run(workspace, config={"optim.lr": 0.1 * number, **split})
    found = compare_runs(workspace, ["exp1..exp12"])
    text = " ".join(" ".join(show(found, workspace, 120, capsys)).split())
    assert text.count("different split") == 1
    assert "exp3, exp5..exp7 compare only with each other in val/f1, val/accuracy" in text
    assert ": different split (ratio 0.1 against 0.2)" in text
    others = [
        Incomparable(
            metric=f"val/m{number}", runs=["exp3"], other="exp1", reason=f"reason {number}"
        )
        for number in range(7)
    ]
    metrics = [item.metric for item in others[1:]]
    lines = list(describe(replace(found, incomparable=others), shown=metrics))
    assert lines[-2:] == [
        "exp3 compares with none of the others in val/m1: reason 1",
        "other runs do not compare in val/m2, val/m3, val/m4, val/m5, val/m6 (--wide tells which)",
    ]
    # what is about columns that are hidden is not said
    lines = list(describe(replace(found, incomparable=others), shown=["val/f1"]))
    assert not any("compare" in line for line in lines)


def test_a_run_that_compares_with_no_other_is_said_so_at_every_width(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    """By train/loss others differ, too: no run of another metric stands in the sentence."""
    for number in range(1, 8):
        augment = "light" if number in (2, 5, 6) else "strong"
        split = {"data.val_ratio": 0.3} if number == 7 else {}
        make_run(workspace, config={"optim.lr": 0.1 * number, "augment.name": augment, **split})
    found = compare_runs(workspace, [])
    for width in (60, 80, 100, 120, 160):
        text = " ".join(" ".join(show(found, workspace, width, capsys)).split())
        assert "exp7 compares with none of the others in val/f1" in text, width
        assert "exp7 with" not in text, width
    lines = [*describe(found)]
    assert lines[-1].startswith(
        "exp1, exp3, exp4 compare only with each other in train/loss; exp7 compares with none of"
        " the others in train/loss: against exp6, "
    )
    only = [*describe(compare_runs(workspace, ["exp1", "exp7"]))]
    assert "exp7 does not compare with exp1 in val/f1" in only[-1]


def test_runs_compare_with_none_with_each_other_or_not_with_the_best(workspace: Workspace) -> None:
    for _ in range(6):
        make_run(workspace)
    found = compare_runs(workspace, [], each=True)

    def tell(*items: tuple[list[str], str, bool]) -> list[str]:
        items_ = [
            Incomparable(metric="val/f1", runs=runs, other="exp6", reason=reason, only_other=only)
            for runs, reason, only in items
        ]
        lines = describe(replace(found, incomparable=items_), shown=["val/f1"])
        return [line for line in lines if "compare" in line]

    split = "different split"
    assert tell((["exp1"], split, False), (["exp2", "exp3"], split, False)) == [
        "exp2, exp3 compare only with each other in val/f1; exp1 compares with none of the others"
        " in val/f1: against exp6, different split"
    ]
    assert tell((["exp1"], split, True)) == [
        "exp1 does not compare with exp6 in val/f1: different split"
    ]
    lines = tell(*[([f"exp{number}"], f"reason {number}", False) for number in range(1, 6)])
    assert lines == [
        *(
            f"exp{number} compares with none of the others in val/f1: against exp6, reason {number}"
            for number in (1, 2, 3)
        ),
        "exp4, exp5 do not compare with others in val/f1 either: 2 other reasons (--wide)",
    ]


def test_a_reason_about_one_run_each_is_merged_without_its_name(workspace: Workspace) -> None:
    make_run(workspace)
    found = compare_runs(workspace, [])
    items = [
        Incomparable(
            metric="val/loss", runs=[name], other="exp1", reason=f"the loss of {name} is not known"
        )
        for name in ("exp13", "exp16")
    ]
    line = list(describe(replace(found, incomparable=items), shown=["val/loss"]))[-1]
    said = "exp13, exp16 compare with none of the others in val/loss"
    assert line == f"{said}: the loss of these runs is not known"


def test_public_scores_compare_whatever_the_folds(workspace: Workspace) -> None:
    for fold in (0, 1):
        make_run(workspace, "0000011110", config={"data.folds": 2, "data.fold": fold})
    make_run(workspace, "1111100000", config={"data.folds": 2, "data.fold": 0, "optim.lr": 0.5})
    submit(workspace, "exp1", "first")
    submit(workspace, "exp3", "second")
    found = compare_runs(workspace, ["exp1..exp3"])
    assert "public_f1" not in found.not_comparable
    assert found.rows[found.best["public_f1"]].runs == ["exp1", "exp2"]


def test_submissions_are_suggested_only_where_there_are_some(
    tmp_path: Path, workspace: Workspace
) -> None:
    with pytest.raises(UnknownRunError) as caught:
        compare_runs(workspace, [])
    assert caught.value.hint == "tracker.start_run(...) in a training script makes one"
    past = make_workspace(tmp_path / "past")
    import_table(past, read_submission_table(TABLE, past.competition))
    with pytest.raises(UnknownRunError) as caught:
        compare_runs(past, [])
    assert (
        caught.value.hint
        == "tracker.start_run(...) in a training script makes one; tracker compare s1..s18"
    )


def test_the_command_prints_one_json_document_and_its_errors_show_the_place(
    seeded: Workspace,
) -> None:
    done = run_tracker("compare", "--json", cwd=seeded.root, **NO_MLFLOW)
    shown = json.loads(done.stdout)
    assert shown["rows"][1]["metrics"]["val/f1"]["n"] == 3
    assert shown["keys"] == ["optim.lr"]
    done = run_tracker("compare", "--where", "val/f1 > and (", cwd=seeded.root, ok=False)
    assert done.returncode == 2
    assert "character 14" in done.stderr


def test_every_row_of_a_tie_has_the_mark_of_the_best(workspace: Workspace) -> None:
    for number, (f1, ratio) in enumerate(((0.5, 0.2), (0.75, 0.2), (0.75, 0.2), (0.75, 0.1))):
        make_run(workspace, config={"optim.lr": 0.1 * (number + 1), "data.val_ratio": ratio}, f1=f1)
    found = compare_runs(workspace, ["exp1..exp4"])
    header, lines = build_cells(found, workspace.competition)
    marked = {
        line[0].text
        for line in lines
        if dict(zip(header, line, strict=True))["val/f1"].text.endswith(" +")
    }
    assert marked == {"exp2", "exp3"}, "exp4 has different split"


def test_a_note_stands_for_all_runs_of_a_row_only_where_all_have_it(workspace: Workspace) -> None:
    for number, note in enumerate(["first seed", "second seed", "second seed"]):
        make_run(workspace, config={"train.seed": number}, note=note)
    for number in range(2):
        make_run(workspace, config={"train.seed": number, "optim.lr": 0.5}, note="high rate")
    rows = compare_runs(workspace, ["exp1", "exp2", "exp3", "exp4", "exp5"]).rows
    assert next(iter(describe(compare_runs(workspace, [])))) == "5 of 5 runs in 2 rows"
    assert next(iter(describe(compare_runs(workspace, [], each=True)))) == "5 of 5 runs"
    assert [row.note for row in rows] == ["first seed (on 1 of 3 runs)", "high rate"]


def test_the_keys_that_people_ask_for_come_before_others_with_fewer_values(
    workspace: Workspace,
) -> None:
    make_run(
        workspace,
        config={"optim.weight_decay": 0.1, "optim.lr": 0.1, "model.name": "a", "loss.name": "f1"},
    )
    make_run(workspace, config={"optim.weight_decay": 0.2, "optim.lr": 0.2, "model.name": "b"})
    make_run(workspace, config={"optim.weight_decay": 0.2, "optim.lr": 0.3, "model.name": "c"})
    keys = order_keys(compare_runs(workspace, ["exp1", "exp2", "exp3"]))
    assert keys == ["model.name", "optim.lr", "loss.name", "optim.weight_decay"]


def test_in_80_columns_the_deciding_metric_and_what_was_changed_stay(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    for place, (seed, f1) in enumerate(((0, 0.8331), (1, 0.79), (1, 0.79))):
        make_run(
            workspace,
            "0000011110",
            config={"train.seed": seed, "optim.lr": 0.002},
            f1=f1,
            weights=f"sha256:{place}",
        )
    for lr in range(5):
        make_run(workspace, "0000011111", config={"optim.lr": lr + 0.5}, f1=0.7)
    print_comparison(
        compare_runs(workspace, [f"exp{number}" for number in range(1, 9)]), workspace.competition
    )
    head, _, first, *_ = capsys.readouterr().out.strip("\n").splitlines()
    assert "val/f1" in head, (head, first)
    assert "lr" in head.split()
    assert "0.8116 \u00b1 0.03" in first
    assert "0.002" in first
    assert "seeds" not in first


def test_a_figure_of_some_runs_of_a_row_says_of_how_many(seeded: Workspace) -> None:
    submit(seeded, "exp2", "one of three seeds")
    found = compare_runs(seeded, [])
    header, lines = build_cells(found, seeded.competition)
    assert lines[1][header.index("public_f1")].text.strip() == "1.0000 (1 of 3 runs)"
    _, narrow = build_cells(found, seeded.competition, brief=True)
    assert narrow[1][header.index("public_f1")].text.strip() == "1.0000 (1 of 3)"
    assert "/" not in narrow[1][header.index("val/f1")].text


@pytest.mark.parametrize("count", [8, 12])
def test_in_80_columns_what_differs_stays_in_the_table_or_stands_below(
    workspace: Workspace, capsys: pytest.CaptureFixture[str], count: int
) -> None:
    model = "convnext_tiny." + "_long" * 10
    for number in range(count):
        config = {
            "model.name": f"{model}{number % 2}",
            "optim.lr": 0.1 * (1 + number),
            "train.epochs": 5 + number,
            "augment.name": ("light", "strong")[number % 2],
            "train.batch_size": 32 + number,
        }
        make_run(workspace, config=config, f1=0.5 + number / 100, note="what was tried " * 4)
    lines = show(compare_runs(workspace, []), workspace, 80, capsys)
    titles = next(line for line in lines if line.startswith("run")).split()
    assert {"val/f1", "lr", "epochs"} <= set(titles), "hidden for a wider one"
    below = lines.index("what else differs:") if "what else differs:" in lines else len(lines)
    assert (below < len(lines)) == (count <= 8)
    text = " ".join(" ".join(lines[below:]).split())
    hidden = " ".join(lines[:below]).partition("hidden at this width: ")[2]
    for number in range(count if below < len(lines) else 0):
        assert f"exp{number + 1}: model={model}{number % 2}" in text
        assert "model" not in hidden
    assert below < len(lines) or "model" in hidden.partition(";")[0]


def test_rows_of_many_marked_runs_leave_room_for_what_differs(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(36):
        config = {"optim.lr": 0.1 * (1 + number % 9), "train.seed": number}
        make_run(workspace, config=config, f1=0.5 + number / 100)
    marks = Marks(ancestors=[f"exp{number}" for number in range(1, 37)])
    monkeypatch.setenv("COLUMNS", "60")
    print_comparison(compare_runs(workspace, []), workspace.competition, marks=marks)
    title, _, first, *_ = capsys.readouterr().out.strip().splitlines()
    assert title.split() == ["run", "val/f1", "lr"]
    assert first.startswith("exp36 .. exp9 (4): exp36 ^ and 3 more  ")


def test_a_key_stays_in_the_table_however_wide_the_figures_are(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = "vit_small_patch16_224.augreg_in21k_ft_in1k"
    for number in range(21):
        make_run(workspace, config={"model.name": f"{model}{number}"}, f1=0.5 + number / 100)
    monkeypatch.setenv("COLUMNS", "54")
    print_comparison(compare_runs(workspace, []), workspace.competition)
    title = capsys.readouterr().out.strip().splitlines()[0]
    assert title.split() == ["run", "model"]


def test_a_run_with_nothing_below_the_table_is_not_named_there(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(5):
        config = {"model.name": "long_" * 12 + str(number), "optim.lr": 0.1 * (1 + number)}
        make_run(workspace, config=config, f1=0.5 + number / 100)
    own_loop = {"optim": {"lr": 0.6}}  # which says nothing of its model
    begin_run(workspace, config=own_loop, fingerprints={"data": None}).finish("finished")
    monkeypatch.setenv("COLUMNS", "60")
    print_comparison(compare_runs(workspace, []), workspace.competition)
    below = capsys.readouterr().out.partition("what else differs:\n")[2].partition("\n\n")[0]
    assert below.count("model=long_") == 5
    assert "exp6" not in below


def test_each_run_of_a_row_has_its_own_marks(workspace: Workspace) -> None:
    for seed, answers in enumerate(("0000011110", "0000011111", "1111100000", "0000011110")):
        make_run(workspace, answers, config={"train.seed": seed}, weights=f"sha256:{seed}")
    submit(workspace, "exp2", "first")
    submit(workspace, "exp3", "second")
    marks = Marks(now=2, then=[1], ancestors=["exp1"])

    def name(*runs: str) -> str:
        found = compare_runs(workspace, runs)
        return build_cells(found, workspace.competition, marks)[1][0][0].text

    assert name("exp1", "exp2", "exp3") == "exp1 ^, exp2 *, exp3 **"
    assert name("exp4", "exp3") == "exp4, exp3 **"
    assert name("exp1..exp4") == "exp1 .. exp4 (4): exp1 ^, exp2 *, exp3 **"


def test_the_mark_of_the_best_stands_right_behind_its_figure(seeded: Workspace) -> None:
    make_ensemble(seeded, ["exp1", "exp4"], f1=0.6, searched=True)
    found = compare_runs(seeded, ["exp1..exp5"])
    header, lines = build_cells(found, seeded.competition)
    texts = [line[header.index("val/f1")].text for line in lines]
    assert texts == ["0.6250 \u00b1 0.13 (3)  ", "0.7000 +", "0.6000 ~"]


def test_each_remark_below_the_table_is_a_line_of_its_own(workspace: Workspace) -> None:
    """They were one sentence, with numbers of four different things."""
    make_run(workspace, f1=0.5)
    make_run(workspace, config={"train.seed": 1}, f1=0.6)
    name = make_loop(workspace, {"optim": {"lr": 0.1}, "hf": {"layers": 2}})
    found = compare_runs(workspace, ["exp1", "exp2", name])
    assert [*describe(found, shown=["val/f1"], following=["data.mean", "data.std"])][:5] == [
        "3 of 3 runs in 2 rows",
        "equal in all runs: 1 config key that can change a result",
        "set by the model, so no columns: data.mean, data.std",
        f"unknown for some runs: {len(found.not_known)} config keys",
        "\u00b1: standard deviation over seeds or folds (--each: each run in a row)",
    ]


def test_what_follows_from_the_model_is_no_column_of_a_narrow_table(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    own = {"model.name": "vit_tiny", "data.mean": [0.5, 0.5, 0.5], "augment.crop_pct": 0.9}
    make_run(workspace)
    make_run(workspace, config=own)
    found = compare_runs(workspace, [])
    lines = show(found, workspace, 120, capsys)
    assert any(line.startswith("model.name") and "vit_tiny" in line for line in lines)
    assert not any(line.startswith(("augment.crop_pct", "data.mean")) for line in lines)
    assert "set by the model, so no columns: data.mean, augment.crop_pct" in lines
    assert "data.mean" in found.keys and "crop_pct" in render_markdown(found, workspace.competition)
    make_run(workspace, config={**own, "augment.crop_pct": 0.8})  # somebody chose it
    lines = show(compare_runs(workspace, []), workspace, 120, capsys)
    assert any(line.startswith("augment.crop_pct") for line in lines)


def test_repeats_are_those_of_a_comparison_of_each_with_every_earlier_one(
    workspace: Workspace,
) -> None:
    make_run(workspace, "01")
    (plain,) = load_compared(workspace, ["exp1"], 0, [], archived=False, unfinished=True)
    rng = random.Random(2)  # noqa: S311
    runs = []
    for _ in range(150):
        seed = {"train.seed": rng.choice([None, 1, 2, 3, 4]), "data.fold": rng.choice([0, 1])}
        figures = {"val/f1": rng.randrange(60) / 60}
        weights = rng.choice([None, None, *"abcdefghijkl"])
        runs.append(replace(plain, outcome=seed, metrics=figures, weights=weights))

    def repeats(run: ComparedRun, other: ComparedRun) -> bool:
        if run.weights and run.weights == other.weights:
            return True
        if run.outcome["train.seed"] is None:
            return run.metrics == other.metrics
        return run.outcome == other.outcome

    slow: list[list[ComparedRun]] = []
    for run in runs:
        own = [group for group in slow if any(repeats(run, other) for other in group)]
        slow = [group for group in slow if group not in own] + [[run, *chain.from_iterable(own)]]
    found = _group_repeats(runs)
    assert {frozenset(map(id, group)) for group in found} == {
        frozenset(map(id, group)) for group in slow
    }
    assert 1 < len(found) < 100
