"""Nobody is ahead by figures that do not measure the same: other images, other labels, another
loss."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tomli_w

from tests.support.ledger_rows import add
from tests.support.workspaces import begin_run, make_loop, make_run, set_data
from tracker.comparison.comparable import (
    ADOPTED_VALIDATION,
    HOW_TO_SAVE_VALIDATION,
    Basis,
    basis_of_run,
    basis_of_submission,
    explain_incomparable,
    explain_validation,
    find_basis,
    is_known,
    is_same_scheme,
    read_checksums,
)
from tracker.comparison.diff import RunDiff, diff_runs
from tracker.comparison.members import (
    find_row_config,
    is_flattered,
    list_members,
    list_trained,
)
from tracker.console.diff import render_markdown
from tracker.console.submissions import print_check
from tracker.core.config_diff import describe_ensemble
from tracker.ledger.append import open_ledger
from tracker.ledger.read import get_submission
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import RunRecord
from tracker.submission.examine import check
from tracker.submission.submit import submit
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace, load_workspace

Config = Mapping[str, Any]


def keep_validation(
    workspace: Workspace, run: str, ids: Sequence[str], labels: Sequence[int]
) -> None:
    probabilities = np.full((len(ids), 2), 0.5, dtype=np.float32)
    kept = Predictions(tuple(ids), probabilities, ("cat", "dog"), labels=np.array(labels))
    save_probabilities(workspace.runs_dir / run / "validation.npz", kept)


def compare(
    workspace: Workspace, first: Config, second: Config, data: Sequence[str | None] = ("d", "d")
) -> RunDiff:
    """exp1 and exp2 with these keys; the second has the better figures."""
    for number, (config, fingerprint) in enumerate(
        zip((first, second), data, strict=True), start=1
    ):
        make_run(workspace, config=config, f1=0.5 + 0.1 * number)
        set_data(workspace, f"exp{number}", fingerprint)
    path = workspace.runs_dir / "exp2" / "run.json"
    record = json.loads(path.read_text())
    losses = {"train/loss": 0.25, "val/loss": 0.2}
    path.write_text(json.dumps({**record, "summary": {**record["summary"], **losses}}))
    path = workspace.runs_dir / "exp1" / "run.json"
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "summary": {**record["summary"], "val/loss": 0.4}}))
    return diff_runs(workspace, "exp1", "exp2")


@pytest.mark.parametrize(
    ("keys", "data", "reason"),
    [
        ({"data.val_ratio": 0.1}, "d", "different split (ratio 0.2 against 0.1)"),
        ({"data.split": "stratified"}, "d", "different split (split by_image against stratified)"),
        ({"data.folds": 5}, "d", "different split (one split of 0.2 against 5 folds)"),
        (
            {"data.fold_file": "f.csv"},
            "d",
            "different split (one split of 0.2 against the folds of f.csv)",
        ),
        ({"data.split_seed": 7}, "d", "different validation images (split seed 42 against 7)"),
        (
            {"data.age_bands": [29, 58]},
            "e",
            "different labels (age bands [30, 60] against [29, 58])",
        ),
        ({"data.label_fixes": "fixes.csv"}, "e", "different images or labels (data d against e)"),
    ],
)
def test_scores_of_another_validation_are_not_ahead_and_the_reason_is_told(
    workspace: Workspace, keys: Config, data: str, reason: str
) -> None:
    found = compare(workspace, {}, keys, ("sha256:d", f"sha256:{data}"))
    assert found.verdict[1] == f"val macro F1 0.6000 -> 0.7000: not comparable: {reason}"
    assert {name: item["better"] for name, item in found.metrics.items()} == dict.fromkeys(
        found.metrics
    )
    assert set(found.not_comparable.values()) == {reason}
    text = render_markdown(found)
    text = text.replace("\\", "")
    assert "val/accuracy, val/loss: not comparable for the reason above" in text
    assert text.count(reason) == 1
    assert "is ahead" not in text


def test_a_copy_of_the_data_and_another_recipe_are_compared(workspace: Workspace) -> None:
    keys = {
        "data.train_dir": "/b/copy",
        "data.label_fixes": "b/x.csv",
        "optim.lr": 9.0,
        "train.seed": 3,
    }
    found = compare(workspace, {"data.train_dir": "photos", "data.label_fixes": "a.csv"}, keys)
    assert {item["better"] for item in found.metrics.values()} == {"b"}
    assert found.not_comparable == {}
    assert list(found.config) == ["optim.lr", "train.seed"]
    assert "exp2 is ahead" in found.verdict[1]


@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        ({}, {"loss.name": "f1"}, "different loss (loss cross_entropy against f1)"),
        ({"loss.gamma": 1.0}, {"loss.gamma": 3.0}, ""),
        (
            {"loss.name": "focal", "loss.gamma": 1.0},
            {"loss.name": "focal", "loss.gamma": 3.0},
            "different loss (gamma 1.0 against 3.0)",
        ),
        (
            {},
            {"loss.class_weights": "balanced"},
            "different loss (class weights none against balanced)",
        ),
    ],
)
def test_losses_of_another_kind_are_shown_without_judgement(
    workspace: Workspace, first: Config, second: Config, reason: str
) -> None:
    found = compare(workspace, first, second)
    assert found.metrics["val/f1"]["better"] == "b"
    for name in ("val/loss", "train/loss"):
        assert found.metrics[name]["better"] == (None if reason else "b")
        assert found.not_comparable.get(name, "") == reason


def test_mixing_changes_what_training_figures_mean_and_not_those_of_validation(
    workspace: Workspace,
) -> None:
    found = compare(workspace, {}, {"augment.mixup": 0.2})
    reason = "measured on different training images (augment.mixup 0.0 against 0.2)"
    assert found.not_comparable == {"train/loss": reason}
    assert (found.metrics["val/loss"]["better"], found.metrics["train/loss"]["better"]) == (
        "b",
        None,
    )


def test_equal_validation_images_and_labels_are_compared_whatever_else_is_known(
    workspace: Workspace,
) -> None:
    compare(workspace, {}, {"data.val_ratio": 0.1}, ("d", "e"))
    keep_validation(workspace, "exp1", ["a", "b"], [0, 1])
    keep_validation(workspace, "exp2", ["a", "b"], [0, 1])
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.metrics["val/f1"]["better"] == "b"
    keep_validation(workspace, "exp2", ["a", "b"], [1, 1])
    assert diff_runs(workspace, "exp1", "exp2").metrics["val/f1"]["better"] is None


def test_loops_of_ones_own_are_compared_by_the_images_that_they_kept(workspace: Workspace) -> None:
    for number, lr in enumerate((1e-3, 1e-4), start=1):
        tables = {"optim": {"lr": lr}, "config": {"loss": "focal"}}
        prints = {"data": None}
        recorder = begin_run(workspace, config=tables, note="own", fingerprints=prints)
        figures = {"val/f1": 0.5 + 0.1 * number, "val/loss": 1.0 / number}
        recorder.progress(epoch=1, best_epoch=1, summary=figures)
        recorder.finish("finished")
    make_run(workspace, f1=0.9)
    bases = [
        basis_of_run(
            workspace, load_run(workspace.runs_dir, name), load_config(workspace.runs_dir, name)
        )
        for name in ("exp1", "exp2", "exp3")
    ]
    hint = "(run.save_validation(...) records it)"
    assert (
        explain_incomparable(bases[0], bases[1], "val/f1")
        == f"how exp1 and exp2 validated is not known {hint}"
    )
    assert (
        explain_incomparable(bases[0], bases[2], "val/f1")
        == f"how exp1 validated is not known {hint}"
    )
    reason = "different loss (loss focal against cross_entropy)"
    assert explain_incomparable(bases[0], bases[2], "val/loss") == reason
    keep_validation(workspace, "exp1", ["a", "b", "c"], [0, 1, 1])
    keep_validation(workspace, "exp2", ["c", "a", "b"], [1, 0, 1])
    assert diff_runs(workspace, "exp1", "exp2").metrics["val/f1"]["better"] == "b", (
        "in another order"
    )
    keep_validation(workspace, "exp2", ["c", "a", "x"], [1, 0, 1])
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.metrics["val/f1"]["better"] is None
    assert found.not_comparable["val/f1"] == "different validation images (2 shared of 3 and 3)"


def test_check_says_which_figures_do_not_compare_with_sotas(
    workspace: Workspace, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(workspace, "0000011110", f1=0.5)
    submit(workspace, "exp1", "first")
    make_run(workspace, "0000011100", config={"data.val_ratio": 0.1}, f1=0.7)
    make_run(workspace, "0000011000", config={"optim.lr": 0.1}, f1=0.7)
    found = check(workspace, "exp2")
    reason = "different split (ratio 0.2 against 0.1)"
    assert found.not_comparable["val_f1"] == reason
    print_check(found, workspace.competition, full=True)
    shown = capsys.readouterr().out
    assert f"val_f1: 0.5000 -> 0.7000 (not comparable: {reason})" in shown
    assert (None, None) in map(tuple, found.validation.values())
    assert "- -> -" not in shown, "neither has it: nothing is compared"
    assert check(workspace, "exp3").not_comparable == {}


def make_basis(name: str, config: Config, *, data: str | None, folder: Path) -> Basis:
    return find_basis(load_workspace(folder), name, config, data=data, folder=folder)


@pytest.mark.parametrize(
    "config",
    [
        {"optim": {"weight_decay": 0.1}},
        {"sched": {"gamma": 0.5}},
        {"model": {"weights": "IMAGENET1K_V1"}},
        {"config": {"weight_decay": 0.1}},
        {"loader": {"val_batch_size": 64}},
        {"train": {"mixup": 0.2}},
    ],
)
def test_keys_that_leave_loss_and_validation_as_they_are_do_not_stand_against_them(
    workspace: Workspace, config: Config
) -> None:
    told = {"split": {"val_ratio": 0.2}, "criterion": {"name": "cross_entropy"}}
    plain = make_basis("exp1", told, data=None, folder=workspace.root)
    other = make_basis("exp2", {**config, **told}, data=None, folder=workspace.root)
    assert explain_incomparable(plain, other, "val/loss") == ""
    unknown = "how exp1 and exp2 measured training is not known"
    assert explain_incomparable(plain, other, "train/loss") == unknown


@pytest.mark.parametrize(
    "config",
    [{"loss": "focal"}, {"reduction": "sum"}, {"label_smoothing": 0.1}, {"class_weights": [1, 2]}],
)
def test_keys_of_the_loss_stand_against_it(workspace: Workspace, config: Config) -> None:
    told = {"val_ratio": 0.2, "loss": "cross_entropy"}
    plain = make_basis("exp1", {"config": told}, data=None, folder=workspace.root)
    other = make_basis("exp2", {"config": {**told, **config}}, data=None, folder=workspace.root)
    assert explain_incomparable(plain, other, "val/loss").startswith("different loss (")
    by_name = make_basis(
        "exp3", {"loss": {"name": "focal"}, "split": told}, data=None, folder=workspace.root
    )
    assert explain_incomparable(plain, by_name, "val/loss").startswith("different loss (")


@pytest.mark.parametrize("name", ["train/loss", "val/loss"])
def test_losses_of_programs_that_do_not_say_which_are_not_compared(
    workspace: Workspace, name: str
) -> None:
    told = {"split": {"val_ratio": 0.2}}
    plain = make_basis("exp1", told, data=None, folder=workspace.root)
    named = make_basis(
        "exp2", {**told, "loss": {"name": "focal"}}, data=None, folder=workspace.root
    )
    assert explain_incomparable(plain, named, name).startswith("the loss of exp1 is not known (")
    assert explain_incomparable(plain, plain, name).startswith("the loss of exp1 is not known (")
    if name == "val/loss":
        assert explain_incomparable(named, named, name) == ""
    assert explain_incomparable(plain, named, "val/f1") == "", "scores mean the same for all"


@pytest.mark.parametrize(
    ("told", "ours"),
    [
        ({"loss": {"name": "CrossEntropyLoss"}}, {}),
        ({"config": {"criterion": "torch.nn.CrossEntropyLoss()"}}, {}),
        ({"loss": {"name": "ForImageClassification"}}, {}),
        ({"loss": {"name": "categorical_crossentropy"}}, {}),
        ({"loss": {"name": "sparse_categorical_crossentropy"}}, {}),
        ({"loss": {"name": "CrossEntropyLoss", "reduction": "mean"}}, {}),
        (
            {"loss": {"name": "ForImageClassification", "smoothing": 0.1}},
            {"loss.name": "label_smoothing"},
        ),
        (
            {"config": {"loss": "cross_entropy", "label_smoothing": 0.2}},
            {"loss.name": "label_smoothing", "loss.smoothing": 0.2},
        ),
        (
            {"loss": {"name": "LabelSmoothingCrossEntropy", "eps": 0.1}},
            {"loss.name": "label_smoothing"},
        ),
        ({"loss": {"name": "BCEWithLogitsLoss"}}, {"loss.name": "bce"}),
        ({"loss": {"name": "FocalLoss", "gamma": 2.0}}, {"loss.name": "focal"}),
    ],
)
def test_the_names_of_one_loss_in_other_programs_are_the_same_loss(
    workspace: Workspace, told: Config, ours: Config
) -> None:
    make_run(workspace, config=ours)
    make_loop(workspace, told)
    for name in ("exp1", "exp2"):
        keep_validation(workspace, name, ["a", "b"], [0, 1])
    found = diff_runs(workspace, "exp1", "exp2")
    assert not [key for key in found.config if key.startswith("loss.")]
    bases = [
        basis_of_run(
            workspace, load_run(workspace.runs_dir, name), load_config(workspace.runs_dir, name)
        )
        for name in ("exp1", "exp2")
    ]
    assert explain_incomparable(bases[0], bases[1], "val/loss") == ""


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"name": "CrossEntropyLoss", "smoothing": 0.1}, "different loss (loss cross_entropy"),
        ({"name": "CrossEntropyLoss", "reduction": "sum"}, "different loss (loss.reduction none"),
        ({"name": "DiceLoss"}, "different loss (loss cross_entropy against DiceLoss)"),
        ({}, "the loss of exp2 is not known ("),
    ],
)
def test_another_loss_is_named_and_only_one_that_nobody_logged_is_not_known(
    workspace: Workspace, told: Config, reason: str
) -> None:
    make_run(workspace)
    make_loop(workspace, {"loss": told, "config": {"lr": 0.1}})
    bases = [
        basis_of_run(
            workspace, load_run(workspace.runs_dir, name), load_config(workspace.runs_dir, name)
        )
        for name in ("exp1", "exp2")
    ]
    assert explain_incomparable(bases[0], bases[1], "val/loss").startswith(reason)


def test_another_crop_is_of_the_same_training_images(workspace: Workspace) -> None:
    found = compare(workspace, {"augment.crop_pct": 0.95}, {"augment.crop_pct": 0.875})
    reason = (
        "measured on a different crop of the training images (augment.crop_pct 0.95 against 0.875)"
    )
    assert found.not_comparable == {"train/loss": reason}


def test_a_loop_that_kept_its_validation_is_compared_with_the_programs_run_by_the_images(
    workspace: Workspace,
) -> None:
    compare(workspace, {}, {}, ("d", None))
    found = diff_runs(workspace, "exp1", "exp2")
    hint = "whether exp2 validated as exp1 did is not known (run.save_validation(...) records it)"
    assert found.not_comparable["val/f1"] == hint
    keep_validation(workspace, "exp2", ["b", "a"], [1, 0])
    reason = "exp1 has no validation.npz to compare the images of exp2 with"
    assert diff_runs(workspace, "exp1", "exp2").not_comparable["val/f1"] == reason
    keep_validation(workspace, "exp1", ["a", "b"], [0, 1])
    assert diff_runs(workspace, "exp1", "exp2").metrics["val/f1"]["better"] == "b", (
        "in another order"
    )
    keep_validation(workspace, "exp1", ["a", "c"], [0, 1])
    reason = "different validation images (1 shared of 2 and 2)"
    assert diff_runs(workspace, "exp1", "exp2").not_comparable["val/f1"] == reason


def test_only_a_run_whose_validation_is_unknown_is_named_with_its_own_reason() -> None:
    adopted = Basis(name="exp3", own=True, scheme={}, adopted=True)
    kept = Basis(name="exp4", own=True, scheme={}, checksums=(1, 2, 3))
    alone = f"how exp3 validated is not known ({ADOPTED_VALIDATION})"
    assert explain_validation(adopted, kept) == explain_validation(kept, adopted) == alone
    assert explain_validation(adopted, kept._replace(checksums=())) == (
        f"how exp3 and exp4 validated is not known (exp3: {ADOPTED_VALIDATION};"
        f" exp4: {HOW_TO_SAVE_VALIDATION})"
    )


def test_kept_images_tell_what_an_ensemble_of_loops_was_validated_on(tmp_path: Path) -> None:
    bases = []
    for name, ids in (("exp1", ("a", "b")), ("exp2", ("b", "c"))):
        path = tmp_path / f"{name}.npz"
        save_probabilities(
            path, Predictions(ids, np.full((2, 2), 0.5, np.float32), ("x", "y"), np.array([0, 1]))
        )
        bases.append(
            Basis(name=name, own=False, scheme={}, file=path, checksums=read_checksums(path))
        )
    trained = bases[0]._replace(scheme={"data.split": "stratified"})
    assert (
        explain_validation(trained, bases[1]) == "different validation images (1 shared of 2 and 2)"
    )
    assert explain_validation(trained, bases[0]) == ""


def edit_record(workspace: Workspace, name: str, **changes: Any) -> None:
    path = workspace.runs_dir / name / "run.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def make_ensemble(
    workspace: Workspace, members: Sequence[str], *, facts: Config | None = None
) -> str:
    """An ensemble without predictions, of members by name alone."""
    table = {"ensemble": {"method": "soft", "members": list(members), "weights": []}}
    recorder = begin_run(workspace, kind="ensemble", config=table)
    recorder.params(facts or {})
    recorder.progress(epoch=0, best_epoch=None, summary={"val/f1": 0.5})
    return recorder.finish("finished").name


def test_a_member_is_the_run_with_its_uid_and_never_one_that_has_its_name(
    workspace: Workspace,
) -> None:
    uid = make_run(workspace, f1=0.9).uid
    adopted = {"adopted_from": "/elsewhere/exp7"}
    for facts in ({"members": [uid, "f00d00d00d"]}, adopted):
        name = make_ensemble(workspace, ["exp1", "exp2"], facts=facts)
        config = load_config(workspace.runs_dir, name)
        known, unknown = list_members(workspace, config, with_ledger=False)
        assert known.value == (0.9 if "members" in facts else None)
        assert unknown.value is None, "exp2 is another run here: the ensemble itself"
        text = describe_ensemble(config["ensemble"])
        assert text == "soft ensemble of " + (
            "exp1, exp2 (elsewhere)"
            if "members" in facts
            else "exp1, exp2 of another workspace, not known here"
        )
        basis = basis_of_run(workspace, load_run(workspace.runs_dir, name), config)
        assert basis.scheme == {}


def test_no_walk_over_members_is_without_end(workspace: Workspace) -> None:
    """Names in a ring: copied folders, or run.json edited by hand."""
    make_run(workspace, "0000011110", f1=0.9)
    for members in (["exp3", "exp1"], ["exp2"], ["exp5"], ["exp4"]):
        make_ensemble(workspace, members)
    config = load_config(workspace.runs_dir, "exp2")
    assert list_trained(workspace, config) == ["exp1"]
    basis = basis_of_run(workspace, load_run(workspace.runs_dir, "exp2"), config)
    assert basis.scheme and basis.images
    assert not is_flattered(workspace, config)
    assert diff_runs(workspace, "exp2", "exp3").not_comparable == {}
    config = load_config(workspace.runs_dir, "exp4")
    assert list_trained(workspace, config) == []
    assert find_basis(workspace, "exp4", config, data=None).scheme == {}


def test_an_imported_ensemble_is_not_made_of_the_runs_of_this_workspace(
    workspace: Workspace,
) -> None:
    make_run(workspace, f1=0.9)
    make_run(workspace, f1=0.8)
    table = {"ensemble": {"method": "soft", "members": ["exp1", "exp2"], "weights": []}}
    number = add(workspace, "0", config=table)
    row = get_submission(workspace, number)
    assert basis_of_submission(workspace, row).scheme == {}
    config = find_row_config(workspace, row)
    assert [one.value for one in list_members(workspace, config)] == [None, None]


def test_what_a_loop_did_not_log_of_its_validation_is_unknown_and_never_different() -> None:
    names = {"data.age_bands": [30, 60], "data.fold": 0, "data.fold_file": None}
    told = Basis(name="exp2", own=True, scheme=names)
    silent = Basis(name="exp3", own=True, scheme={}, adopted=True)
    alone = f"how exp3 validated is not known ({ADOPTED_VALIDATION})"
    assert explain_validation(told, silent) == explain_validation(silent, told) == alone
    partly = silent._replace(scheme={"data.fold": 0})
    reason = "how exp3 validated is not known in full (not logged: age bands)"
    assert explain_validation(told, partly) == reason
    other = partly._replace(scheme={"data.fold": 1})
    assert explain_validation(told, other) == "different validation (fold 0 against 1)"


def test_one_rule_says_whether_a_validation_is_known() -> None:
    ours = Basis(name="exp1", own=False, scheme={"data.split": "stratified"})
    told = Basis(name="exp2", own=True, scheme={"split": "a"})
    hint = f"({HOW_TO_SAVE_VALIDATION})"
    apart = f"whether exp2 validated as exp1 did is not known {hint}"
    assert explain_validation(ours, told) == explain_validation(told, ours) == apart
    unknown = ours._replace(name="exp4", scheme={})  # an ensemble of unknown members
    assert explain_validation(unknown, unknown._replace(name="exp5")) == (
        "how exp4 and exp5 validated is not known"
    )
    by_hand = unknown._replace(recorded=False)
    bases = (ours, told, unknown, by_hand, unknown._replace(checksums=(1, 2, 3)))
    assert [is_known(basis) for basis in bases] == [True, True, False, True, True]
    assert not is_same_scheme(ours, told)


def test_an_ensemble_whose_members_are_elsewhere_validated_as_the_ledger_says_of_them(
    workspace: Workspace,
) -> None:
    own = [make_run(workspace, config={"train.seed": seed}) for seed in (1, 2)]
    hers = replace(own[0], uid="her-run", author="mina", host="gpu9")
    other = {**hers.fingerprints, "data": "sha256:other"}

    def index(*records: RunRecord, path: str = "") -> None:
        with open_ledger(workspace) as ledger:
            for record in records:
                config = load_config(workspace.runs_dir, record.name)
                ledger.append_run(record, config, path or str(workspace.runs_dir / record.name))

    def submit_ensemble(members: list[str], answers: str) -> str:
        name = make_run(workspace, answers).name
        table = {"ensemble": {"members": members, "method": "soft"}}
        folder = workspace.runs_dir / name
        (folder / "config.toml").write_text(tomli_w.dumps(table))
        index(load_run(workspace.runs_dir, name))
        submit(workspace, name, ", ".join(members), even_if_similar=True)
        return name

    index(*own)
    index(hers, path="/home/mina/runs/exp1")
    names = [
        submit_ensemble(["exp1", "exp2"], "0000011110"),
        submit_ensemble(["mina/exp1", "exp2"], "0000011111"),
        submit_ensemble(["exp1", "kim/exp1"], "0000011101"),
    ]
    config = load_config(workspace.runs_dir, "exp1")
    shown = basis_of_run(workspace, own[0], config)
    for name in ("exp1", "exp2", *names):
        shutil.rmtree(workspace.runs_dir / name)
    schemes = [basis_of_submission(workspace, get_submission(workspace, n)) for n in (1, 2, 3)]
    assert [explain_validation(shown, basis) for basis in schemes[:2]] == ["", ""]
    assert not is_known(schemes[2]), "nobody knows kim's run"
    # hers alone has other images: her exp1 is not the exp1 that lay beside the ensemble
    with open_ledger(workspace) as ledger:
        moved = replace(hers, fingerprints=other)
        ledger.append_run(moved, config, "/home/mina/runs/exp1")
    assert not is_known(basis_of_submission(workspace, get_submission(workspace, 2)))
    assert is_known(basis_of_submission(workspace, get_submission(workspace, 1)))
