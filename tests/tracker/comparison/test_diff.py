"""`diff` shows what differs, which way, who was better, and whether that is real; nothing that is
equal."""

from __future__ import annotations

import io
import json
import math
import re
import sys
import webbrowser
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.validation import IMAGES, TRUTH, guess, keep
from tests.support.workspaces import make_run, make_workspace, set_data
from tracker.comparison.audit import audit
from tracker.comparison.compare import compare_runs
from tracker.comparison.diff import RunDiff, diff_runs
from tracker.comparison.evidence import Move
from tracker.comparison.statistics.decision import ALPHA
from tracker.comparison.statistics.paired import McNemar
from tracker.comparison.verdict import render_range
from tracker.console.diff import (
    draw_diff,
    list_brief_sections,
    open_picture,
    print_diff,
    render_markdown,
)
from tracker.console.textplot import Panel, render_curves
from tracker.core.config_diff import diff_configs, drop_path_changes, list_unknown
from tracker.core.errors import UnknownRunError
from tracker.ledger.chain import verify_ledger
from tracker.ledger.submission_table import import_table, read_submission_table
from tracker.submission.scores import reveal
from tracker.submission.submit import submit
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.errors import ConfigError
from tracker.workflows.ensemble import ensemble
from tracker.workflows.own_loop.begin import begin
from tracker.workspace.tracker_toml import Workspace, load_workspace

KEPT_NOTHING = "exp1 saved no validation predictions (validation.npz)"


def make_pair(workspace: Workspace, first: Sequence[int], second: Sequence[int]) -> RunDiff:
    """exp1 and exp2 with these guesses on the validation images, compared."""
    for number, guesses in enumerate((first, second), start=1):
        make_run(workspace, "0000011110", config={"optim.lr": 0.1 * number}, f1=0.5 + 0.1 * number)
        keep(workspace, f"exp{number}", guesses)
    return diff_runs(workspace, "exp1", "exp2", resamples=1000, images=2)


def write_curves(workspace: Workspace, run: str, *, epochs: int = 15) -> None:
    """A run that overfits after epoch 3."""
    path = workspace.runs_dir / run / "metrics.jsonl"
    lines = []
    for epoch in range(1, epochs + 1):
        after = max(0, epoch - 3)
        values = {
            "train/loss": 1 / epoch,
            "val/loss": 0.5 + 1 / epoch + 0.2 * after,
            "val/f1": 0.8 - 1 / (9 * epoch),
        }
        values["val/f1"] -= 0.02 * after
        lines.append(json.dumps({"time": 1.0, "step": epoch, "epoch": epoch, "values": values}))
    path.write_text("\n".join(lines) + "\n")
    record = json.loads((workspace.runs_dir / run / "run.json").read_text())
    (workspace.runs_dir / run / "run.json").write_text(
        json.dumps({**record, "epoch": epochs, "best_epoch": 3})
    )


def test_only_the_keys_that_differ_are_shown(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.1})
    make_run(workspace, "0000011110", config={"optim.lr": 0.2})
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.config == {"optim.lr": [0.1, 0.2]}
    assert found.metrics == {}
    everything = diff_runs(workspace, "exp1", "exp2", everything=True)
    assert everything.config["train.seed"] == [42, 42]
    assert everything.metrics["val/f1"] == {"a": 0.5, "b": 0.5, "delta": 0.0, "better": None}


def test_a_run_that_auto_trained_in_bfloat16_differs_from_one_in_float32(
    workspace: Workspace,
) -> None:
    as_set = {"precision": "bf16-mixed", "device": "cpu"}  # TRACKER_AUTO_PRECISION measures nothing
    choices = ("32-true", "bf16-mixed", "bf16-mixed")
    for facts in (*({"auto_precision": precision} for precision in choices), as_set):
        name = make_run(workspace).name
        path = workspace.runs_dir / name / "run.json"
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, "facts": facts}))
    for other in ("exp2", "exp4"):
        changed = diff_runs(workspace, "exp1", other).config
        assert changed == {"train.precision": ["auto", "bf16-mixed"]}
        assert diff_runs(workspace, other, "exp3").config == {}


def test_worker_counts_are_no_difference() -> None:
    base = {"data": {"workers": 1}, "optim": {"lr": 0.1}}
    assert diff_configs(base, {"data": {"workers": 4}, "optim": {"lr": 0.1}}) == {}
    assert diff_configs(base, {"optim": {"lr": 0.1}, "loss": {"gamma": 2.0}}) == {
        "loss.gamma": [None, 2.0]
    }


def test_data_differ_by_what_they_are_and_not_by_where_they_lie() -> None:
    old = {
        "data": {"train_dir": "/a/photos", "label_fixes": ""},
        "augment": {"name": "base", "file_sha256": ""},
    }
    own = {"name": "a/p.yaml", "file_sha256": "1"}
    new = {"data": {"train_dir": "/b/faces", "label_fixes": "x/f.csv"}, "augment": own}
    pipeline = {"augment.name": ["base", "p.yaml"]}
    assert diff_configs(old, new, data=("sha256:d", "sha256:d")) == pipeline
    named = {"data.train_dir": ["photos", "faces"], "data.label_fixes": ["", "f.csv"], **pipeline}
    assert diff_configs(old, new, data=("sha256:d", "sha256:e")) == named == diff_configs(old, new)
    assert diff_configs(old, {**old, "data": {"train_dir": "/b/photos/", "label_fixes": ""}}) == {}
    assert diff_configs(old, old, data=("sha256:12345678ab", "sha256:e")) == {
        "data": ["12345678", "e"]
    }
    banded = {**old, "data": {**old["data"], "age_bands": [29, 58]}}
    assert list(diff_configs(old, banded, data=("sha256:d", "sha256:e"))) == ["data.age_bands"]


def test_changes_that_an_earlier_version_kept_are_told_without_folders_and_devices(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = {
        "data.train_dir": ["/a/photos", "/b/copy"],
        "data.label_fixes": ["", "f.csv"],
        "train.devices": [1, 2],
        "optim.lr": [0.1, 0.2],
    }
    for answers in ("0000011111", "0000011110", "0000011001"):
        make_run(workspace, answers)
    set_data(workspace, "exp3", "sha256:e")
    submit(workspace, "exp1", "first")
    with monkeypatch.context() as patch:
        patch.setattr("tracker.ledger.append.diff_configs", lambda *_, **__: kept)
        submit(workspace, "exp2", "a copy of the same photographs")
        submit(workspace, "exp3", "other photographs")
    found = audit(workspace)
    assert [item["key"] for item in found.one_key] == ["optim.lr"]
    assert [item["keys"] for item in found.several_keys] == [
        ["data.label_fixes", "data.train_dir", "optim.lr"]
    ]
    assert verify_ledger(workspace.ledger_url).problem == ""


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
    assert diff_runs(workspace, "exp1", "exp2").predictions == {
        "equal_share": 0.7,
        "changed": 3,
        "total": 10,
    }
    assert diff_runs(workspace, "exp1", "exp3").predictions is None


def test_data_and_code_are_compared_by_fingerprint(workspace: Workspace) -> None:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011111")
    set_data(workspace, "exp2", "sha256:e")
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.data == {"equal": False, "a": "sha256:d", "b": "sha256:e"}
    assert found.code["equal"]


def test_what_is_printed_says_what_differs(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110", config={"optim.lr": 0.1}, f1=0.5)
    make_run(workspace, "0000011111", config={"optim.lr": 0.2}, f1=0.75)
    print_diff(diff_runs(workspace, "exp1", "exp2"))
    out = capsys.readouterr().out
    assert "optim.lr" in out
    assert "+0.2500" in out
    assert "1 of 10 differ (90.0 % equal)" in out
    assert "seed" not in out
    print_diff(diff_runs(workspace, "exp1", "exp1"))
    assert capsys.readouterr().out.splitlines() == [
        "exp1 -> exp1: no config key changed",
        f"val macro F1 0.5000 -> 0.5000; is it real? Unknown: {KEPT_NOTHING}",
        "metrics: no difference",
        "predictions: all 10 equal",
    ]
    print_diff(diff_runs(workspace, "exp1", "exp1"), full=True)
    assert capsys.readouterr().out.splitlines()[2:] == [
        "config: no difference",
        "metrics: no difference",
        f"no statistics: {KEPT_NOTHING}",
        "predictions: all 10 equal",
    ]


def test_an_unknown_run_is_named_with_the_newest(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    make_run(workspace, "0000011110")
    with pytest.raises(UnknownRunError, match="no run exp7") as caught:
        diff_runs(workspace, "exp1", "exp7")
    assert "the newest is exp1" in caught.value.hint


# --- Is it real?


def test_the_verdict_says_what_changed_and_by_how_much_it_helped(workspace: Workspace) -> None:
    found = make_pair(workspace, guess(60), guess(20))
    assert found.verdict[0] == "exp1 -> exp2: optim.lr 0.1 -> 0.2"
    assert found.verdict[1].startswith("exp2 is better by 0.07")
    assert "macro F1 0.8500 -> 0.9500, 400 samples" in found.verdict[1]
    assert found.statistics is not None
    assert found.statistics.metrics["f1"].better == "b"
    assert (found.statistics.mcnemar.only_a, found.statistics.mcnemar.only_b) == (0, 40)
    assert (
        diff_runs(workspace, "exp2", "exp1", resamples=1000)
        .verdict[1]
        .startswith("exp2 is better by 0.07")
    )


def test_a_difference_that_other_images_would_undo_is_called_none(workspace: Workspace) -> None:
    found = make_pair(workspace, guess(40), guess(36, since=20))
    assert found.verdict[1].startswith(
        "no difference that 400 samples can show: macro F1 0.9000 -> 0.9100, 95 % interval -0"
    )
    assert re.search(r" \(a true difference of 0\.\d+ would show 4 times of 5\)$", found.verdict[1])
    keep(workspace, "exp2", guess(40))
    figures = {"val/f1": 0.9, "val/accuracy": 0.9, "val/loss": 0.25}
    set_summary(workspace, "exp1", figures)
    set_summary(workspace, "exp2", figures)
    same = diff_runs(workspace, "exp1", "exp2", resamples=1000)
    equal = "the predictions are equal on all 400 samples of the validation set"
    assert same.verdict[1] == f"no difference at all: {equal}"
    # Equal classes of other probabilities: the loss differs. What float32 rounds off does not.
    set_summary(workspace, "exp2", {**figures, "val/loss": 0.24, "val/accuracy": 0.9 + 1e-8})
    other = diff_runs(workspace, "exp1", "exp2", resamples=1000)
    assert other.verdict[1] == f"{equal}; val/loss differs (exp2 is ahead)"
    assert "val/accuracy" not in other.metrics


def set_summary(workspace: Workspace, run: str, figures: Mapping[str, float]) -> None:
    path = workspace.runs_dir / run / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "summary": figures}))


def find_styles(found: RunDiff) -> dict[str, str]:
    """The color of each metric's difference."""
    sections = list_brief_sections(found, width=100)
    table = next(
        section for section in sections if section.columns and section.columns[0].title == "metric"
    )
    assert [column.title for column in table.columns][-1] == "ahead"
    return {row[0].text: row[3].style for row in table.rows}


def test_only_a_difference_that_the_statistics_show_has_the_color_of_better_or_worse(
    workspace: Workspace,
) -> None:
    shown = make_pair(workspace, guess(80), guess(10))
    assert shown.statistics is not None and shown.statistics.metrics["f1"].better == "b"
    assert find_styles(shown)["val/f1"] == "green"
    keep(workspace, "exp2", guess(36, since=20))
    keep(workspace, "exp1", guess(40))
    unclear = diff_runs(workspace, "exp1", "exp2", resamples=1000)
    assert unclear.verdict[1].startswith("no difference that 400 samples can show")
    assert set(find_styles(unclear).values()) == {""}


def test_an_interval_that_barely_excludes_zero_is_too_close_to_call(workspace: Workspace) -> None:
    make_pair(workspace, guess(21), guess(9, since=21))
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None
    assert found.statistics.metrics["accuracy"].low > 0
    assert found.verdict[1].startswith("too close to call: macro F1 0.9475 -> 0.9775")
    share = f"{100 * found.statistics.metrics['f1'].p:.1f} %"
    assert found.verdict[1].endswith(
        f"two equally good runs would differ this much in {share} of cases, and the limit is 3 %"
    )
    assert "interval" not in found.verdict[1]  # one without 0 would contradict the answer


def test_what_other_random_draws_could_decide_otherwise_is_too_close_to_call(
    workspace: Workspace,
) -> None:
    """Of 104 images exp2 alone has 8 right and exp1 alone 2; McNemar's p is 0.109."""
    truth = [0] * 52 + [1] * 52
    first = [*[1] * 7, *[0] * 45, 0, *[1] * 51]
    second = [*[0] * 51, 1, *[1] * 50, 0, 0]
    first[51] = second[51] = 1  # both are wrong there
    for run, guesses in (("exp1", first), ("exp2", second)):
        make_run(workspace, "0000011110")
        keep(workspace, run, guesses, truth=truth)
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None
    assert found.statistics.mcnemar == McNemar(only_a=2, only_b=8, p=0.109375)
    f1 = found.statistics.metrics["f1"]
    # these draws call it a difference; with their own errors they do not
    assert (f1.low > 0, f1.p <= ALPHA, f1.better) == (True, True, None)
    assert found.verdict[1].startswith("too close to call: macro F1 0.9")
    assert found.verdict[1].endswith(
        "near 0 and p = 0.028 is near the limit of 0.03, so other random draws could decide"
        " otherwise"
    )


def test_every_verdict_says_the_limit_that_it_rests_on(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    better = make_pair(workspace, guess(80), guess(10))
    assert "p = 0.001, below the limit of 0.03)" in better.verdict[1]
    print_diff(better, full=True, wide=True)
    assert (
        "leaves out 0 and the swap test has p <= 0.03, the limit that keeps"
        in capsys.readouterr().out
    )
    keep(workspace, "exp2", guess(36, since=20))
    keep(workspace, "exp1", guess(40))
    same = diff_runs(workspace, "exp1", "exp2", resamples=1000)
    assert " includes 0 (a true difference of " in same.verdict[1]


def test_accuracy_decides_where_it_is_the_competitions_metric(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", metrics=["accuracy:percent"])
    assert "accuracy 0.8500 -> 0.9500" in make_pair(workspace, guess(60), guess(20)).verdict[1]


def test_the_other_metric_is_told_when_it_says_something_else(workspace: Workspace) -> None:
    """exp2 gains 24 images of a common class and loses 8 of a rare one: macro F1 stands still."""
    truth = [0] * 380 + [1] * 20
    for run, lost, kept in (("exp1", 24, 14), ("exp2", 0, 6)):
        make_run(workspace, "0000011110")
        keep(
            workspace,
            run,
            [*[1] * lost, *[0] * (380 - lost), *[1] * kept, *[0] * (20 - kept)],
            truth=truth,
        )
    found = diff_runs(workspace, "exp1", "exp2", resamples=1000)
    assert found.verdict[1].startswith("no difference that 400 samples can show")
    assert found.verdict[2].startswith("by accuracy alone, exp2 is better by 0.0")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (
            {"guesses": guess(20)[:300]},
            "exp1 has 400 images, exp2 has 300, 300 are in both",
        ),
        ({"guesses": guess(20), "truth": [0, *TRUTH[1:]][::-1]}, "different labels"),
        (
            {"guesses": guess(20), "classes": ("cat", "hound")},
            "exp1 and exp2 have different classes",
        ),
        (
            {"guesses": guess(20), "ids": [f"w{number}" for number in range(IMAGES)]},
            "0 are in both",
        ),
    ],
)
def test_other_validation_sets_are_refused_with_the_reason(
    workspace: Workspace, change: dict[str, Sequence[int]], reason: str
) -> None:
    make_pair(workspace, guess(60), guess(20))
    keep(workspace, "exp2", **change)  # type: ignore[arg-type]
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is None
    assert reason in found.problem
    assert ": not comparable: different " in found.verdict[1]
    assert (found.metrics["val/f1"]["delta"] > 0, found.metrics["val/f1"]["better"]) == (True, None)


def test_the_keys_that_divide_the_images_differently_are_named(workspace: Workspace) -> None:
    make_run(workspace, config={"data.val_ratio": 0.2, "data.workers": 1})
    make_run(workspace, config={"data.val_ratio": 0.1, "data.workers": 2})
    keep(workspace, "exp1", guess(20))
    keep(workspace, "exp2", guess(20)[:200])
    assert diff_runs(workspace, "exp1", "exp2").problem.endswith("(data.val_ratio differs)")


def test_the_order_of_the_images_does_not_matter(workspace: Workspace) -> None:
    found = make_pair(workspace, guess(60), guess(20))
    ids = [f"v{number:03d}.png" for number in range(IMAGES)]
    keep(workspace, "exp2", guess(20)[::-1], truth=TRUTH[::-1].tolist(), ids=ids[::-1])
    assert diff_runs(workspace, "exp1", "exp2", resamples=1000).statistics == found.statistics


def test_a_metric_that_points_the_other_way_is_told_though_it_is_not_real(
    workspace: Workspace,
) -> None:
    """exp2 gains 18 images of a rare class and loses 20 of a common one."""
    truth = [0] * 380 + [1] * 20
    for run, lost, right in (("exp1", 0, 2), ("exp2", 20, 20)):
        make_run(workspace, "0000011110")
        guesses = [*[1] * lost, *[0] * (380 - lost), *[1] * right, *[0] * (20 - right)]
        keep(workspace, run, guesses, truth=truth)
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.verdict[1].startswith("exp2 is better by 0.")
    assert found.verdict[2] == (
        "by accuracy alone, exp1 is ahead (no difference that 400 samples can show)"
    )


@pytest.mark.parametrize("errors", [45, 46])
def test_two_runs_have_the_same_statistics_in_either_order(
    workspace: Workspace, errors: int
) -> None:
    """Otherwise `diff A B` and `diff B A`, or `check`, could disagree about a close pair."""
    make_pair(workspace, guess(60), guess(errors, since=21))
    there, back = (
        diff_runs(workspace, *runs, resamples=1000).statistics
        for runs in (("exp1", "exp2"), ("exp2", "exp1"))
    )
    assert there is not None
    assert back is not None
    assert there == back.mirror()
    assert there.metrics["f1"].low == -back.metrics["f1"].high


def test_a_torn_file_is_a_reason_and_no_failure(workspace: Workspace) -> None:
    make_pair(workspace, guess(60), guess(20))
    (workspace.runs_dir / "exp2" / "validation.npz").write_bytes(b"PK torn")
    found = diff_runs(workspace, "exp1", "exp2")
    assert "cannot read" in found.problem
    assert (
        diff_runs(workspace, "exp1", "exp2", statistics=False).problem
        == "skipped because of --no-stats"
    )


def test_people_are_drawn_whole_where_they_validate_whole(workspace: Workspace) -> None:
    ids = [f"p{number // 4}/mask{number % 4}.jpg" for number in range(IMAGES)]
    for number, errors in enumerate((60, 20), start=1):
        make_run(workspace, config={"data.split": "by_profile"})
        keep(workspace, f"exp{number}", guess(errors), ids=ids)
    found = diff_runs(workspace, "exp1", "exp2", resamples=1000).statistics
    assert found is not None
    assert (found.samples, found.units) == (400, 100)


def test_a_submission_known_from_the_ledger_alone_is_compared_without_statistics(
    workspace: Workspace, tmp_path: Path
) -> None:
    table = tmp_path / "table.csv"
    table.write_text(
        "number,memo,public_f1,val_acc,optim.lr\n1,a,0.5,60,0.1\n2,b,0.6,70,0.2\n3,c,,,0.2\n"
    )
    import_table(workspace, read_submission_table(table, workspace.competition))
    make_run(workspace, "0000011110", config={"optim.lr": 0.1})
    keep(workspace, "exp1", guess(20))
    found = diff_runs(workspace, "s1", "s2")
    assert (
        found.problem
        == "s1 and s2 saved no validation predictions here (known only from the ledger)"
    )
    assert found.verdict[0] == "s1 -> s2: optim.lr 0.1 -> 0.2"
    assert found.verdict[1].startswith(
        "val accuracy 0.6000 -> 0.7000, s2 is ahead; is it real? Unknown: s1 and s2 saved"
    )
    assert (
        diff_runs(workspace, "s2", "s3")
        .verdict[1]
        .startswith("no validation score is known for both")
    )
    assert found.verdict[-1] == "public f1 0.5000 -> 0.6000: s2 is ahead, not tested for chance"
    assert diff_runs(workspace, "exp1", "s2").problem.startswith(
        "s2 saved no validation predictions here"
    )


def test_ensembles_of_folds_are_compared_fold_by_fold(workspace: Workspace) -> None:
    for errors in (10, 4):
        for fold in range(3):
            record = make_run(
                workspace, config={"data.folds": 3, "data.fold": fold, "optim.lr": errors / 100}
            )
            ids = [f"f{fold}i{number}" for number in range(100)]
            keep(workspace, record.name, guess(errors + fold)[:100], ids=ids)
    names = [
        ensemble(workspace, [f"exp{n}" for n in numbers], method="soft").name
        for numbers in ((1, 2, 3), (6, 4, 5))
    ]
    found = diff_runs(workspace, *names, resamples=1000)
    assert found.folds is not None
    assert found.folds["accuracy"].a == pytest.approx((0.9, 0.89, 0.88))
    assert found.folds["accuracy"].b == pytest.approx((0.96, 0.95, 0.94))
    assert any(line.startswith("over 3 folds: macro F1 +0.06") for line in found.verdict)
    single = diff_runs(workspace, "exp1", names[0])
    assert single.folds is None
    assert single.data == {"equal": True, "a": "sha256:d", "b": "sha256:d"}  # its members'
    keep(workspace, "exp4", guess(3)[:100], ids=[f"other{number}" for number in range(100)])
    assert (
        diff_runs(workspace, *names, resamples=1000).folds_problem
        == "the two runs have different images in their folds"
    )


# --- What is shown


def test_changed_images_are_counted_class_by_class_and_listed(workspace: Workspace) -> None:
    found = make_pair(workspace, guess(60), guess(20))
    assert [vars(move) for move in found.moves["validation"]] == [
        {"truth": "cat", "a": "dog", "b": "cat", "images": 20},
        {"truth": "dog", "a": "cat", "b": "dog", "images": 20},
    ]
    assert [image.id for image in found.images["validation"]] == ["v020.png", "v021.png"]
    make_run(workspace, "1000011000")
    moved = diff_runs(workspace, "exp1", "exp3", images=9)
    assert {(move.a, move.b): move.images for move in moved.moves["evaluation"]} == {
        ("cat", "dog"): 1,
        ("dog", "cat"): 2,
    }
    assert [image.id for image in moved.images["evaluation"]] == ["i0.png", "i7.png", "i8.png"]


def test_ignored_keys_are_left_out_and_named(workspace: Workspace) -> None:
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text().replace("ignore = []", 'ignore = ["optim.*"]'))
    ignoring = load_workspace(workspace.root)
    found = make_pair(ignoring, guess(60), guess(20))
    assert (found.config, found.ignored) == ({}, ["optim.lr"])
    assert found.verdict[0] == "exp1 -> exp2: no config key changed"
    assert diff_runs(ignoring, "exp1", "exp2", everything=True).config["optim.lr"] == [0.1, 0.2]
    path.write_text(path.read_text().replace('["optim.*"]', '["optim.*", 3]\nkeys = 1'))
    with pytest.raises(ConfigError) as caught:
        load_workspace(workspace.root)
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "diff.ignore",
        "diff.keys",
    ]


def test_what_is_of_training_is_no_validation_metric(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ("lr", "lr-SGD/pg1", "grad_norm", "eval_runtime", "train/grad_norm")
    for value in (0.5, 0.25):
        values = dict.fromkeys(names, value)
        with begin({}, root=workspace.root, follow=False, quiet=True) as run:
            run.log({**values, "val/f1": value, "val_score": value}, step=1, epoch=1)
    found = diff_runs(workspace, "exp1", "exp2")
    assert {found.metrics[name]["better"] for name in names} == {None}
    print_diff(found)
    shown = capsys.readouterr().out
    assert [name for name in names if name in shown] == []
    assert "val/f1" in shown and "val_score" in shown
    print_diff(found, full=True)
    shown = capsys.readouterr().out
    assert [name for name in names if name not in shown] == []


def test_the_gap_is_validation_minus_training(workspace: Workspace) -> None:
    path = workspace.runs_dir / make_run(workspace).name / "run.json"
    record = json.loads(path.read_text())
    path.write_text(
        json.dumps({**record, "summary": {"train/loss": 0.2, "val/loss": 0.5, "val/f1": 0.8}})
    )
    make_run(workspace)
    assert diff_runs(workspace, "exp1", "exp2").gap == {
        "loss": [pytest.approx(0.3), None],
        "accuracy": [None, None],
        "f1": [None, None],
    }


def test_the_verdict_comes_first_and_the_advice_last(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pair(workspace, guess(60), guess(20))
    write_curves(workspace, "exp1")
    print_diff(diff_runs(workspace, "exp1", "exp2", resamples=1000, images=1), full=True)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("exp1 -> exp2")
    assert lines[1].startswith("exp2 is better by 0.0")
    assert any("macro F1" in line and "+0.1000" in line for line in lines)
    assert (
        "exp1: Overfitting: val/f1 was best in epoch 3 of 15; the 12 epochs after it (80 %)"
        in "\n".join(lines)
    )
    assert any("^ run's best epoch 3 of 15: 0.7630" in line for line in lines)
    assert any("v020.png" in line and line.rstrip().endswith("right") for line in lines)
    print_diff(diff_runs(workspace, "exp1", "exp2", resamples=1000))
    short = capsys.readouterr().out
    assert "is better by" in short
    assert "exp1: Overfitting: val/f1" in short
    assert "McNemar" not in short and "^ best" not in short
    assert short.splitlines()[-1].startswith("--full also shows: classes, statistics, curves")


def crowd(found: RunDiff) -> RunDiff:
    """The same with more of everything than a screen has room for."""
    sides: dict[str, Any] = {"a": 0.5, "b": 0.625, "delta": 0.125, "better": "b"}
    classes = [f"val/f1/a_class_with_a_long_name_{n}" for n in range(18)]
    names = [*classes, *[f"train/m{n}" for n in range(9)], *[f"val/m{n}" for n in range(20)]]
    moves = [Move(truth=None, a=f"class_{n}", b=f"class_{n + 1}", images=9) for n in range(9)]
    return replace(
        found,
        verdict=[*found.verdict, "over 5 folds: " + "a sentence of the folds " * 6],
        config={f"optim.key_{n}": [n, n + 1] for n in range(20)},
        metrics=dict.fromkeys(names, sides),
        best_epoch=[3, 9],
        moves={"validation": found.moves["validation"], "evaluation": moves},
        code={"equal": False, "a": "sha256:" + "a" * 64, "b": "sha256:" + "b" * 64},
        advice=[found.advice[0]] * 2,
    )


@pytest.mark.parametrize("width", [80, 100])
def test_diff_fits_one_screen_and_names_what_full_adds(
    workspace: Workspace,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    width: int,
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    make_pair(workspace, guess(60), guess(20))
    write_curves(workspace, "exp1")
    found = crowd(diff_runs(workspace, "exp1", "exp2", resamples=1000))
    print_diff(found)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) <= (30 if width == 100 else 34)
    assert max(map(len, lines)) <= width
    assert any("more keys)" in line for line in lines)
    assert any("more metrics)" in line for line in lines)
    assert not any("a_class_with_a_long_name" in line for line in lines)
    assert "training metrics, classes, statistics, curves" in lines[-1]
    print_diff(found, full=True)
    assert "train/m8" in capsys.readouterr().out


def test_one_empty_line_stands_around_each_table_and_drawing(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_pair(workspace, guess(60), guess(20))
    write_curves(workspace, "exp1")
    print_diff(diff_runs(workspace, "exp1", "exp2", resamples=1000, images=1), full=True)
    lines = capsys.readouterr().out.splitlines()
    assert not any(a == b == "" for a, b in pairwise(lines))
    titles = [n for n, line in enumerate(lines) if line.startswith("val/f1  ")]
    assert lines[titles[-1] - 1] == ""  # of the curves; the metric table has one before


def test_markdown_has_the_same_and_no_markup_of_the_users(workspace: Workspace) -> None:
    make_run(workspace, config={"model.name": "a|b_c*<script>"})
    make_run(workspace)
    write_curves(workspace, "exp2")
    text = render_markdown(diff_runs(workspace, "exp1", "exp2"))
    assert "| model.name | a\\|b_c\\*&lt;script&gt; | " in text
    assert "| --- | --- | --- |" in text
    assert text.startswith("- **exp1 -> exp2: ")
    assert "```text\nval/f1" in text


def test_curves_stand_on_the_same_axes_with_the_best_epoch_marked() -> None:
    rise = [(epoch, epoch / 10) for epoch in range(1, 11)]
    torn = [(1, 0.1), (2, None), (3, 2.0)]
    lines = render_curves(
        "val/f1",
        [Panel(name="exp1", curve=rise, best=10), Panel(name="exp2", curve=torn, best=1)],
        width=72,
    )
    assert max(map(len, lines)) <= 72
    left = lines[1].partition("\u2502")[2].partition("\u2502")[0]
    right = lines[1].rpartition("\u2502")[2]
    assert "\u2588" not in left  # 1.0 is half of what the other reaches
    assert right.strip()[0] == "\u2588"
    assert "best 10 of 10: 1.0000 ^" in lines[-1]
    assert "^ best 1 of 3: 0.1000" in lines[-1]
    assert render_curves("val/f1", [Panel(name="a", curve=[], best=None)] * 2, width=80) == []


def test_an_output_without_block_characters_gets_others(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace)
    write_curves(workspace, "exp1")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    print_diff(diff_runs(workspace, "exp1", "exp1"), full=True)
    sys.stdout.flush()
    assert b"|##" in raw.getvalue()


def test_the_picture_is_drawn_and_opened(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace)
    write_curves(workspace, "exp1")
    make_run(workspace)
    opened: list[str] = []
    monkeypatch.setattr(webbrowser, "open", opened.append)
    path = open_picture(diff_runs(workspace, "exp1", "exp2"), workspace.state_dir)
    assert opened == [path.as_uri()]
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert picture.width > 1000
    assert (
        draw_diff(diff_runs(workspace, "exp2", "exp1"), workspace.state_dir).name
        == "diff-exp2-exp1.png"
    )


def test_the_verdict_counts_the_keys_that_follow_from_others_apart(workspace: Workspace) -> None:
    first = {"model.name": "resnet18", "augment.crop_pct": 0.95, "optim.lr": 0.1}
    make_run(workspace, config=first | {"optim.weight_decay": 0.0, "train.epochs": 2})
    second = {"model.name": "resnet34", "augment.crop_pct": 0.875, "optim.lr": 0.2}
    make_run(workspace, config=second | {"optim.weight_decay": 0.1, "train.epochs": 3})
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.verdict[0] == (
        "exp1 -> exp2: 4 config keys changed (and 1 that follows from them):"
        " their effects cannot be separated"
    )
    # a few changes are named, and their effects cannot be separated either; one alone can
    make_run(workspace, config=first | {"optim.weight_decay": 0.0, "train.epochs": 3})
    assert (
        diff_runs(workspace, "exp2", "exp3")
        .verdict[0]
        .endswith("; their effects cannot be separated")
    )
    make_run(
        workspace, config=first | {"optim.weight_decay": 0.0, "train.epochs": 2, "optim.lr": 0.3}
    )
    assert diff_runs(workspace, "exp1", "exp4").verdict[0] == "exp1 -> exp4: optim.lr 0.1 -> 0.3"
    make_run(
        workspace, config=second | {"optim.weight_decay": 0.0, "train.epochs": 2, "optim.lr": 0.1}
    )
    assert "separated" not in diff_runs(workspace, "exp1", "exp5").verdict[0]  # crop follows


def test_a_key_left_out_at_its_default_has_it_in_every_view(workspace: Workspace) -> None:
    make_run(workspace, config={"augment.name": "base"})
    make_run(workspace, config={"augment.name": "base", "augment.scale": 0.5, "data.group": "x"})
    found = diff_runs(workspace, "exp1", "exp2").config
    assert found == {"augment.scale": [0.08, 0.5], "data.group": [None, "x"]}
    rows = compare_runs(workspace, ["exp1", "exp2"]).rows
    values = [(row.config["augment.scale"], row.config["data.group"]) for row in rows]
    assert values == [(0.08, None), (0.5, "x")]
    assert drop_path_changes({"augment.scale": [None, 0.5]}) == {"augment.scale": [0.08, 0.5]}


def test_a_range_keeps_its_numbers_apart() -> None:
    assert render_range(0.0061, 0.0193) == "0.006 to 0.019"
    assert render_range(-0.004, 0.0131, signed=True) == "-0.004 to +0.013"
    assert render_range(0.00012, 0.00049) == "0.0001 to 0.0005"


def test_the_commands_print_advice_and_statistics(workspace: Workspace) -> None:
    make_pair(workspace, guess(60), guess(20))
    write_curves(workspace, "exp1")
    shown = json.loads(run_tracker("show", "exp1", "--json", cwd=workspace.root).stdout)
    assert shown["advice"]["state"] == "overfitting"
    assert "Overfitting: val/f1" in run_tracker("show", "exp1", cwd=workspace.root).stdout
    words = ("diff", "exp1", "exp2", "--json", "--resamples", "1000", "--images", "1")
    found = json.loads(run_tracker(*words, cwd=workspace.root, **NO_MLFLOW).stdout)
    assert found["statistics"]["f1"]["better"] == "b"
    assert found["statistics"]["resamples"] == 1000
    assert found["curves"]["val/f1"][0][2][0] == 3
    assert [image["id"] for image in found["images"]["validation"]] == ["v020.png"]
    assert found["advice"][0]["best_epoch"] == 3
    plain = run_tracker("diff", "exp1", "exp2", "--no-stats", "--md", cwd=workspace.root).stdout
    assert "skipped because of --no-stats" in plain


@pytest.mark.parametrize(
    ("a", "b", "same"),
    [
        ({"x": {"y": 1}}, {"x": {"y": 1.0}}, True),
        ({"x": {"y": [0.0]}}, {"x": {"y": [-0.0]}}, True),
        ({"optim": {"lr": 1}}, {"optim": {"lr": 1.0}}, True),
        ({"optim": {"lr": 0.0}}, {"optim": {"lr": -0.0}}, True),
        ({"train": {"epochs": 3.0}}, {"train": {"epochs": 3}}, True),
        ({"x": {"y": math.nan}}, {"x": {"y": math.nan}}, True),
        ({"x": {"y": 1}}, {"x": {"y": True}}, False),
        ({"x": {"y": 1}}, {"x": {"y": "1"}}, False),
        ({"a": {"b.c": 1}}, {"a.b": {"c": 1}}, False),
    ],
)
def test_fingerprint_and_diff_agree_on_what_is_the_same(
    a: dict[str, Any], b: dict[str, Any], same: bool
) -> None:
    assert (config_fingerprint(a) == config_fingerprint(b)) == same
    assert (diff_configs(a, b) == {} and list_unknown(a, b) == []) == same


def test_a_caption_marks_the_epoch_of_the_tables_value_and_tells_ties() -> None:
    curve = [(1, 0.5), (2, 0.9), (3, 0.6), (4, 0.9)]
    drawn = render_curves("val/f1", [Panel(name="exp1", curve=curve, best=2)], width=100)
    assert "run's best epoch 2 of 4: 0.9000 (as good: 4)" in drawn[-1]
    falling = [(1, 0.5), (2, 0.4), (3, 0.3), (4, 0.2)]
    panel = Panel(name="exp1", curve=falling, best=2, figure=0.2)
    assert "in the table: epoch 4 of 4: 0.2000" in render_curves("l", [panel], width=100)[-1]
    same = Panel(name="exp1", curve=falling, best=2, figure=0.4)
    assert "run's best epoch 2 of 4: 0.4000" in render_curves("l", [same], width=100)[-1]
