"""Runs of other programs: their epochs, names and tables are read as what they are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from timm.utils import CheckpointSaver
from timm.utils.summary import update_summary
from torch.utils.tensorboard import SummaryWriter

import tracker
from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.validation import guess, keep
from tests.support.workspaces import IMAGES, make_run, make_workspace
from tracker.comparison.comparable import basis_of_run, find_scheme
from tracker.comparison.compared_run import load_values
from tracker.comparison.diff import diff_runs
from tracker.comparison.members import list_members
from tracker.console.shown_config import choose_config
from tracker.core.config_diff import strip_elsewhere
from tracker.core.errors import RefusedError, TrackerError
from tracker.images.explain import explain
from tracker.ledger.connection import read_rows
from tracker.ledger.read import list_submissions
from tracker.run_folder.marks import tag_run
from tracker.run_folder.points import Curves, read_curves
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import list_run_numbers
from tracker.submission.submit import submit
from tracker.training.config import Config, config_to_dict
from tracker.training.errors import ConfigError, DataError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.training.run.checkpoint import weights_fingerprint
from tracker.training.tables import flatten
from tracker.workflows.adopt.adopt import adopt_folder
from tracker.workflows.ensemble import ensemble
from tracker.workflows.infer import infer
from tracker.workflows.own_loop.begin import begin
from tracker.workflows.reproduce import reproduce
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


def adopt(workspace: Workspace, folder: Path, **options: Any) -> tuple[Curves, list[str]]:
    """The curves of a folder's run, and what was said."""
    record, remarks = adopt_folder(workspace, folder, **options)
    return read_curves(workspace.runs_dir / record.name / "metrics.jsonl"), remarks


def write_events(folder: Path, scalars: dict[str, dict[int, float]]) -> Path:
    with SummaryWriter(str(folder)) as board:
        for tag, values in scalars.items():
            for step, value in values.items():
                board.add_scalar(tag, value, step)
    return folder


def write_predictions(path: Path, answers: str = "0000011110") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        "ImageID,ans\n"
        + "".join(f"i{number}.png,{answer}\n" for number, answer in enumerate(answers))
    )
    return path


def epochs_of(curve: dict[int, tuple[int, float]]) -> list[tuple[int, int]]:
    return [(step, epoch) for step, (epoch, _) in sorted(curve.items())]


# --- Epochs ---

LOSSES = {step: 1 / (step + 1) for step in range(28)}
LOSSES_FROM_1 = {step + 1: value for step, value in LOSSES.items()}
TWO_OF_14 = [(step, 1 + step // 14) for step in range(28)]
FROM_1 = [(step, 1 + (step - 1) // 14) for step in range(1, 29)]


@pytest.mark.parametrize(
    ("scalars", "expected"),
    [
        # A tag called epoch: at every step, where an epoch begins, and where it ends.
        ({"Loss/train": LOSSES, "epoch": {step: step // 14 for step in LOSSES}},
         {"train/loss": TWO_OF_14}),
        ({"Loss/train": LOSSES, "epoch": {0: 1, 14: 2}}, {"train/loss": TWO_OF_14}),
        ({"Loss/train": LOSSES, "epoch": {13: 1, 27: 2}}, {"train/loss": TWO_OF_14}),
        # Shares of epochs, as Hugging Face logs them.
        ({"train/loss": {7: 1.0, 14: 0.9, 21: 0.8}, "train/epoch": {7: 0.5, 14: 1.0, 21: 1.5}},
         {"train/loss": [(7, 1), (14, 1), (21, 2)]}),
        # A metric of the validation images is measured once an epoch: by step, and by epoch from 0
        # or 1.
        ({"Loss/train": LOSSES, "Acc/val": {13: 0.5, 27: 0.6}},
         {"train/loss": TWO_OF_14, "val/accuracy": [(13, 1), (27, 2)]}),
        ({"Loss/train": LOSSES, "Acc/val": {0: 0.5, 1: 0.6}},
         {"train/loss": TWO_OF_14, "val/accuracy": [(0, 1), (1, 2)]}),
        ({"Loss/train": LOSSES_FROM_1, "Acc/val": {1: 0.5, 2: 0.6}},
         {"train/loss": FROM_1, "val/accuracy": [(1, 1), (2, 2)]}),
        ({"Loss/train": LOSSES_FROM_1, "Acc/val": {14: 0.5, 28: 0.6}},
         {"train/loss": FROM_1, "val/accuracy": [(14, 1), (28, 2)]}),
        # A loss of the validation images by batch does not hide the accuracy by epoch.
        ({"Loss/train": LOSSES, "Loss/val": dict.fromkeys(range(6), 1.0),
          "Acc/val": {0: 0.5, 1: 0.6}},
         {"train/loss": TWO_OF_14, "val/loss": [(step, 1 + step // 3) for step in range(6)]}),
        # One point an epoch.
        ({"Loss/train": {0: 1.0, 1: 0.9, 2: 0.8}, "Acc/val": {0: 0.1, 1: 0.2, 2: 0.3}},
         {"train/loss": [(0, 1), (1, 2), (2, 3)]}),
        ({"train_loss_step": LOSSES, "train_loss_epoch": {13: 0.5, 27: 0.6}},
         {"train/batch_loss": TWO_OF_14}),
        # Nothing tells.
        ({"Loss/train": LOSSES}, {"train/loss": [(step, 0) for step in range(28)]}),
    ],
)  # fmt: skip
def test_epochs_are_epochs_and_steps_are_steps(
    workspace: Workspace,
    tmp_path: Path,
    scalars: dict[str, dict[int, float]],
    expected: dict[str, list[tuple[int, int]]],
) -> None:
    curves, remarks = adopt(workspace, write_events(tmp_path / "old", scalars))
    assert {name: epochs_of(dict(curves[name])) for name in expected} == expected
    assert any("where an epoch ends" in remark for remark in remarks) == (len(scalars) == 1)


def test_the_time_of_adoption_is_not_told_as_that_of_the_training(
    workspace: Workspace, tmp_path: Path
) -> None:
    with SummaryWriter(str(tmp_path / "old")) as writer:
        writer.add_scalar("val/f1", 0.25, 1, walltime=1_700_000_000)
        writer.add_scalar("val/f1", 0.5, 2, walltime=1_700_000_600)
    torch.save({"a": torch.ones(1)}, tmp_path / "old" / "model_best.pth")
    write_predictions(tmp_path / "old" / "pred.csv")
    _, remarks = adopt(workspace, tmp_path / "old")
    taken = (
        "1 curve of 2 epochs; best.pth (epoch 2), from model_best.pth; predictions, from pred.csv"
    )
    assert remarks[0] == f"took {taken}"
    assert "no config found: the run has an empty one" in remarks
    shown = run_tracker("show", "exp1", cwd=workspace.root).stdout
    assert "adopted (UTC)" in shown and "created" not in shown and "duration" not in shown
    assert "2023-11-14 22:13:20 to 2023-11-14 22:23:20" in shown
    record = load_run(workspace.runs_dir, "exp1")
    begun, ended = "2023-11-14T22:13:20.000000Z", "2023-11-14T22:23:20.000000Z"
    assert (record.created_at, record.finished_at) == (begun, ended)
    assert record.facts["adopted_at"] > ended
    assert (
        load_values(workspace, [record])[0]["duration_s"] is None
    )  # no `--where` takes it for a second long


def test_without_times_in_the_curves_those_of_the_files_are_taken(
    workspace: Workspace, tmp_path: Path
) -> None:
    path = write_predictions(tmp_path / "old" / "pred.csv")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    adopt(workspace, tmp_path / "old")
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.created_at, record.facts["times_from"]) == (
        "2023-11-14T22:13:20.000000Z",
        "files",
    )


def test_as_many_steps_as_planned_epochs_are_epochs(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_events(
        tmp_path / "old", {"train_loss": dict.fromkeys(range(4), 1.0), "val_acc": {1: 0.5, 3: 0.6}}
    )
    (folder / "config.json").write_text(json.dumps({"num_epochs": 4}))
    curves, _ = adopt(workspace, folder)
    assert epochs_of(dict(curves["train/loss"])) == [(0, 1), (1, 2), (2, 3), (3, 4)]
    assert epochs_of(dict(curves["val/accuracy"])) == [(1, 2), (3, 4)]


def test_a_table_of_epochs_tells_the_epochs_of_events(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_events(tmp_path / "old", {"Loss/train": LOSSES})
    (folder / "history.csv").write_text(
        "epoch,train_loss,valid_loss,accuracy,time\n0,1,0.9,0.5,00:01\n1,0.8,0.7,0.75,00:01\n"
    )
    curves, remarks = adopt(workspace, folder)
    assert epochs_of(dict(curves["train/loss"])) == TWO_OF_14
    assert curves["val/loss"] == {1: (1, 0.9), 2: (2, 0.7)}
    assert curves["val/accuracy"] == {
        1: (1, 0.5),
        2: (2, 0.75),
    }  # fastai names validation metrics without a split
    assert any("2 epochs" in remark for remark in remarks)


# --- Logs of others ---


def test_folders_of_train_and_validation_are_not_mixed(
    workspace: Workspace, tmp_path: Path
) -> None:
    for part, value in (
        ("train", 0.5),
        ("validation", 0.25),
    ):  # as Keras's TensorBoard callback writes them
        write_events(tmp_path / "old" / part, {"epoch_accuracy": {0: value, 1: 2 * value}})
    curves, _ = adopt(workspace, tmp_path / "old")
    assert curves == {
        "train/accuracy": {0: (1, 0.5), 1: (2, 1.0)},
        "val/accuracy": {0: (1, 0.25), 1: (2, 0.5)},
    }


def test_tables_of_lightning_and_keras_and_the_state_of_hugging_face_are_curves(
    workspace: Workspace, tmp_path: Path
) -> None:
    lightning, keras, face = (tmp_path / name for name in ("lightning", "keras", "face"))
    for folder in (lightning, keras, face / "checkpoint-4"):
        folder.mkdir(parents=True)
    (lightning / "metrics.csv").write_text(
        "epoch,lr-SGD,step,train_loss_step,val_acc\n0,,1,0.9,\n0,,3,,0.5\n1,0.1,5,0.7,\n1,,7,,0.6\n"
    )
    (keras / "training.log").write_text(
        "epoch;accuracy;loss;val_accuracy;val_loss\n0;0.5;1.0;0.25;2.0\n1;0.75;0.5;0.5;1.0\n"
    )
    log = [
        {"epoch": 0.5, "step": 1, "loss": 0.9, "learning_rate": 1e-3, "grad_norm": 2.0},
        {"epoch": 1.0, "step": 2, "eval_accuracy": 0.5, "eval_runtime": 1.0},
        {"epoch": 2.0, "step": 4, "eval_accuracy": 0.75, "eval_runtime": 1.0},
    ]
    (face / "checkpoint-4" / "trainer_state.json").write_text(json.dumps({"log_history": log}))
    curves, _ = adopt(workspace, lightning)
    assert curves == {
        "train/batch_loss": {1: (1, 0.9), 5: (2, 0.7)},
        "val/accuracy": {3: (1, 0.5), 7: (2, 0.6)},
        "train/lr": {5: (2, 0.1)},
    }
    curves, _ = adopt(workspace, keras)
    assert curves["train/loss"] == {1: (1, 1.0), 2: (2, 0.5)}
    assert curves["val/accuracy"] == {1: (1, 0.25), 2: (2, 0.5)}
    curves, remarks = adopt(workspace, face)
    assert curves["train/loss"] == {1: (1, 0.9)}
    assert curves["val/accuracy"] == {2: (1, 0.5), 4: (2, 0.75)}
    assert curves["eval_runtime"] == {2: (1, 1.0), 4: (2, 1.0)}
    assert any(
        remark.startswith("these keep their own names: ") and "eval_runtime" in remark
        for remark in remarks
    )


MODEL = torch.nn.Linear(2, 2)
ARGS = {
    "model": "resnet18",
    "lr": 0.05,
    "epochs": 3,
    "batch_size": 16,
    "opt": "sgd",
    "eval_metric": "top1",
}
ARGS |= {
    "img_size": 64,
    "seed": 7,
    "drop": 0.1,
    "pretrained": True,
    "data_dir": "/photos",
    "resume": "",
}
TOP1 = (50.0, 87.5, 75.0)


def write_timm(folder: Path) -> Path:
    """What timm's train.py leaves, by timm's own functions."""
    folder.mkdir()
    (folder / "args.yaml").write_text(yaml.safe_dump(ARGS))
    optimizer = torch.optim.SGD(MODEL.parameters(), lr=0.05)
    saver = CheckpointSaver(
        MODEL, optimizer, args=SimpleNamespace(**ARGS), checkpoint_dir=str(folder), max_history=2
    )
    for epoch, top1 in enumerate(TOP1):
        with torch.no_grad():
            MODEL.bias.fill_(epoch)
        measured = {"loss": 1.0 - epoch / 4, "top1": top1, "top5": 100.0}
        update_summary(
            epoch,
            {"loss": 2.0 - epoch},
            measured,
            str(folder / "summary.csv"),
            lr=0.05,
            write_header=epoch == 0,
        )
        saver.save_checkpoint(epoch, metric=top1)
    return folder


def test_the_output_folder_of_timm_is_taken_whole(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_timm(tmp_path / "timm")
    record, remarks = adopt_folder(workspace, folder)
    config = load_config(workspace.runs_dir, record.name)
    assert config["model"] == {"name": "resnet18", "pretrained": True}
    assert config["optim"] == {"lr": 0.05, "name": "sgd"}
    assert config["train"] == {"epochs": 3, "batch_size": 16, "seed": 7}
    assert config["data"] == {"image_size": [64, 64]}
    assert config["config"]["drop"] == 0.1
    curves = read_curves(workspace.runs_dir / record.name / "metrics.jsonl")
    assert curves["val/accuracy"] == {1: (1, 0.5), 2: (2, 0.875), 3: (3, 0.75)}
    assert curves["val/top5"] == {1: (1, 1.0), 2: (2, 1.0), 3: (3, 1.0)}
    assert curves["val/loss"] == {1: (1, 1.0), 2: (2, 0.75), 3: (3, 0.5)}
    assert curves["train/loss"] == {1: (1, 2.0), 2: (2, 1.0), 3: (3, 0.0)}
    assert curves["train/lr"] == {1: (1, 0.05), 2: (2, 0.05), 3: (3, 0.05)}
    assert (record.best_epoch, record.summary["val/accuracy"], record.summary["val/loss"]) == (
        2,
        0.875,
        0.75,
    )
    best = {"weight": MODEL.weight.detach(), "bias": torch.ones(2)}  # of the second epoch
    assert record.fingerprints["weights"] == weights_fingerprint(best)
    assert (workspace.runs_dir / record.name / "best.pth").is_file()
    assert any("lr is optim.lr" in remark and "model is model.name" in remark for remark in remarks)


# --- Names ---


def test_names_are_mapped_and_the_others_are_kept_and_named(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_events(
        tmp_path / "old", {"Acc/val": {1: 50.0, 2: 87.5}, "score": {1: 0.5}, "top": {1: 3.0}}
    )
    (folder / "config.json").write_text(
        json.dumps({"lr": 0.1, "depth": 3, "optimizer": {"type": "adam", "lr": 0.2}})
    )
    names = {"score": "val/f1", "depth": "model.drop_path"}
    curves, remarks = adopt(workspace, folder, names=names)
    assert curves == {
        "val/accuracy": {1: (1, 0.5), 2: (2, 0.875)},
        "val/f1": {1: (1, 0.5)},
        "top": {1: (1, 3.0)},
    }
    config = load_config(workspace.runs_dir, "exp1")
    assert config == {
        "optim": {"lr": 0.1, "name": "adam"},
        "optimizer": {"lr": 0.2},
        "model": {"drop_path": 3},
    }
    assert "val/accuracy was in percent and is a fraction here" in remarks
    assert any(remark.startswith("these keep their own names: top ") for remark in remarks)
    for wrong, words in (
        ({"scores": "val/f1"}, "--map scores: no such metric or config key"),
        ({"score": "top", "top": "top"}, "two metrics would have the name top"),
        ({"score": "a\nb"}, "control character"),
    ):
        with pytest.raises(ConfigError, match=words):
            adopt_folder(workspace, folder, names=wrong, force=True)
    assert list_run_numbers(workspace.runs_dir) == [1]


# --- Predictions ---


def test_a_file_or_a_folder_without_a_run_is_refused_and_says_what_is_expected(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "history.csv").write_text("epoch,val_acc\n1,0.5\n")
    with pytest.raises(DataError, match=r"history\.csv is a file, not the folder of a run"):
        adopt_folder(workspace, tmp_path / "history.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"no curves .*, no checkpoint and no prediction CSV\n"):
        adopt_folder(workspace, tmp_path / "empty")


def test_answers_that_no_run_could_take_make_no_run_and_leave_nothing_in_the_ledger(
    workspace: Workspace, tmp_path: Path
) -> None:
    folder = write_events(tmp_path / "old", {"val_acc": {1: 0.5}})
    write_predictions(folder / "predictions.csv")
    text = (folder / "predictions.csv").read_text().replace(",0", ",7").replace(",1", ",7")
    (folder / "predictions.csv").write_text(text)
    with pytest.raises(DataError, match=r"predictions\.csv cannot be taken as predictions: "):
        adopt_folder(workspace, folder)
    assert [*workspace.runs_dir.glob("exp*")] == []
    assert read_rows(workspace.ledger_url, "SELECT name FROM runs") == []


@pytest.mark.parametrize(
    "name", ["solution.csv", "sample_submission.csv", "train_labels.csv", "GT.csv"]
)
def test_a_file_with_the_name_of_a_solution_or_sample_is_no_prediction(
    workspace: Workspace, tmp_path: Path, name: str
) -> None:
    folder = write_events(tmp_path / "old", {"val_acc": {1: 0.5}})
    write_predictions(folder / name)
    record, remarks = adopt_folder(workspace, folder)
    assert any(remark.startswith(f"{name} was not taken as predictions") for remark in remarks)
    with pytest.raises(RefusedError, match=r"no predictions\.csv"):
        submit(workspace, record.name, "it is the solution")


def test_a_solution_under_another_name_is_known_by_its_column_and_its_content(
    workspace: Workspace, tmp_path: Path
) -> None:
    for name, source in (("a", "solution.csv"), ("b", "eval/info.csv")):
        (tmp_path / name).mkdir()
        shutil.copy(workspace.root / source, tmp_path / name / "output.csv")
    with pytest.raises(DataError, match="it has a column Usage, as a solution has"):
        adopt_folder(workspace, tmp_path / "a")
    with pytest.raises(DataError, match=r"its content is that of eval/info\.csv"):
        adopt_folder(workspace, tmp_path / "b")
    rows = [line.split(",") for line in (workspace.root / "solution.csv").read_text().split()]
    text = "".join(f"{answer},{name}\n" for name, answer, _ in (rows[0], *reversed(rows[1:])))
    (tmp_path / "a" / "output.csv").write_text(text)
    with pytest.raises(DataError, match=r"its content is that of solution\.csv"):
        adopt_folder(workspace, tmp_path / "a")
    assert list_run_numbers(workspace.runs_dir) == []


def test_of_several_tables_one_with_the_competition_ids_is_taken(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_predictions(tmp_path / "old" / "output.csv", "0" * (IMAGES - 1) + "1")
    write_predictions(tmp_path / "old" / "validation_output.csv", "01")  # newer
    record, remarks = adopt_folder(workspace, tmp_path / "old")
    assert any("output.csv was taken" in remark for remark in remarks)
    assert submit(workspace, record.name, "m")[0].number == 1


def test_wrong_ids_are_told_once_and_in_the_words_of_who_adopts(
    workspace: Workspace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_predictions(tmp_path / "old" / "output.csv")
    path.write_text(path.read_text().replace("\ni", "\nx"))
    _, remarks = adopt_folder(workspace, path.parent)
    (told,) = capsys.readouterr().err.splitlines()
    assert "submit will refuse these predictions: none of the 10 ids (x0.png, " in told
    assert told.endswith(
        f"; put the right file into {path.parent}, and adopt it again with --force"
    )
    assert "save_predictions" not in told
    assert not any("ids" in remark for remark in remarks)


def test_predictions_with_a_column_for_each_class_are_taken(tmp_path: Path) -> None:
    competition = {"classes": ["cat", "dog"], "answer": "columns"}
    workspace = make_workspace(tmp_path / "ws", solution=None, competition=competition)
    old = tmp_path / "old"
    old.mkdir()
    rows = "".join(f"i{number}.png,0.25,0.75\n" for number in range(IMAGES))
    (old / "output.csv").write_text("ImageID,cat,dog\n" + rows)
    record, remarks = adopt_folder(workspace, old)
    assert any("predictions, from output.csv" in remark for remark in remarks)
    assert submit(workspace, record.name, "m")[0].number == 1


# --- Twice ---


def test_the_log_of_a_training_that_was_recorded_is_no_second_run(
    workspace: Workspace, tmp_path: Path
) -> None:
    losses = {1: 0.7, 2: 0.6123456}
    with begin({}, root=workspace.root, follow=False, quiet=True) as run:
        for step, loss in losses.items():
            run.log({"val/loss": loss, "val/accuracy": 0.5}, step=step, epoch=step)
    log = write_events(tmp_path / "log", {"val_loss": losses, "val_acc": {1: 0.5, 2: 0.5}})
    with pytest.raises(RefusedError, match="already recorded as exp1"):
        adopt_folder(workspace, log)
    other = write_events(tmp_path / "other", {"val_loss": {1: 0.7, 2: 0.61}})
    assert adopt_folder(workspace, other)[0].name == "exp2"
    # a checkpoint of Hugging Face's Trainer names the run, whatever its losses are
    uid = load_run(workspace.runs_dir, "exp1").uid
    for name, of in (("mine", uid), ("other_trainer", "elsewhere")):
        rows = [{"epoch": 1.0, "step": 1, "eval_loss": 0.25}]
        callbacks = {"tracker_run": {"name": "exp1", "uid": of}}
        state = {"global_step": 1, "log_history": rows, "stateful_callbacks": callbacks}
        (tmp_path / name / "checkpoint-1").mkdir(parents=True)
        (tmp_path / name / "checkpoint-1" / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(RefusedError, match="already recorded as exp1"):
        adopt_folder(workspace, tmp_path / "mine")
    assert adopt_folder(workspace, tmp_path / "other_trainer")[0].name == "exp3"
    assert adopt_folder(workspace, log, force=True)[0].name == "exp4"


def test_what_was_adopted_is_not_adopted_again(workspace: Workspace, tmp_path: Path) -> None:
    folder = write_events(tmp_path / "old", {"val_acc": {1: 0.5}})
    adopt_folder(workspace, folder)
    shutil.copytree(folder, tmp_path / "copy")
    for path in (folder, tmp_path / "copy"):
        with pytest.raises(RefusedError, match="already adopted as exp1\n"):
            adopt_folder(workspace, path)
    write_predictions(folder / "output.csv")
    with pytest.raises(RefusedError, match="already adopted as exp1, and has changed since"):
        adopt_folder(workspace, folder)
    assert adopt_folder(workspace, folder, force=True)[0].name == "exp2"
    with pytest.raises(RefusedError, match="exp1 is a run of this workspace"):
        adopt_folder(workspace, workspace.runs_dir / "exp1")


@pytest.mark.parametrize("first", ["logs/version_0", "logs"])
def test_a_run_is_not_adopted_again_from_a_folder_above_or_below(
    workspace: Workspace, tmp_path: Path, first: str
) -> None:
    write_table(tmp_path / "logs" / "version_0")
    (tmp_path / "logs" / "config.yaml").write_text("lr: 0.1\n")
    adopt_folder(workspace, tmp_path / first)
    (second,) = {"logs/version_0", "logs"} - {first}
    with pytest.raises(RefusedError, match=r"exp1, from .*: history\.csv was a part of it"):
        adopt_folder(workspace, tmp_path / second)
    # one that was trained there later is another run
    write_table(tmp_path / "logs" / "later")
    (tmp_path / "logs" / "later" / "history.csv").write_text("epoch,val_f1\n1,0.7\n")
    assert adopt_folder(workspace, tmp_path / "logs" / "later")[0].name == "exp2"
    assert adopt_folder(workspace, tmp_path / second, force=True)[0].name == "exp3"


def test_of_an_old_adopted_run_all_files_of_its_folder_count(
    workspace: Workspace, tmp_path: Path
) -> None:
    write_table(tmp_path / "logs" / "version_0")
    adopt_folder(workspace, tmp_path / "logs")
    path = workspace.runs_dir / "exp1" / "run.json"
    known = json.loads(path.read_text())
    del known["facts"]["adopted_files"]
    path.write_text(json.dumps(known))
    with pytest.raises(RefusedError, match="already adopted as exp1, from"):
        adopt_folder(workspace, tmp_path / "logs" / "version_0")


# --- What an adopted run cannot do ---


def test_commands_that_need_the_model_say_that_it_is_unknown(
    workspace: Workspace, tmp_path: Path
) -> None:
    adopt_folder(workspace, write_timm(tmp_path / "timm"))
    own_loop = tracker.start_run({"optim": {"lr": 0.1}}, root=workspace.root, follow=False)
    own_loop.save_best(MODEL.state_dict(), epoch=1, metrics={})
    own_loop.finish()
    for name in ("exp1", "exp2"):
        for use in (infer, explain, reproduce, lambda ws, run: resolve_config(ws, parent=run)):
            with pytest.raises(
                ConfigError,
                match=f"{name} was made by another program or by a loop of your own: its model",
            ) as told:
                use(workspace, name)
            assert "tracker adopt" in told.value.hint


# --- One run or several ---


def write_table(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "history.csv").write_text("epoch,val_f1\n1,0.5\n2,0.6\n")


def test_a_parent_of_several_runs_is_refused_with_the_command_for_each(
    workspace: Workspace, tmp_path: Path
) -> None:
    logs = tmp_path / "old logs"
    write_events(logs / "run_a", {"Loss/val": {0: 1.0, 1: 0.9}})
    (logs / "run_a" / "config.yaml").write_text("lr: 0.1\n")
    write_predictions(logs / "run_a" / "submission.csv")
    write_table(logs / "run_b")
    (logs / "run_b" / "args.json").write_text('{"lr": 0.2}')
    with pytest.raises(RefusedError, match="holds 2 runs: run_a, run_b; nothing was") as caught:
        adopt_folder(workspace, logs)
    commands = [f"tracker adopt '{logs}/{name}'" for name in ("run_a", "run_b")]
    assert caught.value.hint == "; ".join(commands)
    assert list_run_numbers(workspace.runs_dir) == []
    record, _ = adopt_folder(workspace, logs / "run_b")
    assert load_config(workspace.runs_dir, record.name)["optim"]["lr"] == 0.2
    with pytest.raises(RefusedError, match=r"2 runs: run_a, run_b \(is exp1\); ") as caught:
        adopt_folder(workspace, logs)
    assert caught.value.hint == commands[0]
    adopt_folder(workspace, logs / "run_a")
    with pytest.raises(RefusedError, match="holds 2 runs") as caught:
        adopt_folder(workspace, logs)
    assert caught.value.hint == "all of them were adopted before: tracker runs"


@pytest.mark.parametrize("beside", ["version_1", "fold1"])
def test_several_versions_or_folds_are_several_runs_also_beside_a_file_of_all(
    workspace: Workspace, tmp_path: Path, beside: str
) -> None:
    for name in ("version_0", beside):
        write_table(tmp_path / "logs" / name)
        (tmp_path / "logs" / name / "hparams.yaml").write_text("lr: 0.1\n")
    (tmp_path / "logs" / "config.yaml").write_text("lr: 0.1\n")
    with pytest.raises(RefusedError, match="holds 2 runs"):
        adopt_folder(workspace, tmp_path / "logs")


def test_the_folders_of_one_run_are_one_run(workspace: Workspace, tmp_path: Path) -> None:
    weights = {"head.weight": torch.zeros(2, 2)}
    lightning = tmp_path / "lightning" / "version_0"
    write_table(lightning)
    (lightning / "hparams.yaml").write_text("lr: 0.1\n")
    write_events(lightning, {"val_loss": {0: 1.0, 1: 0.9}})
    (lightning / "checkpoints").mkdir()
    torch.save(weights, lightning / "checkpoints" / "epoch=1.pth")
    keras = tmp_path / "keras"
    write_events(keras / "train", {"epoch_loss": {0: 1.0, 1: 0.9}})
    write_events(keras / "validation", {"epoch_loss": {0: 1.1, 1: 1.0}})
    added = tmp_path / "added"  # SummaryWriter.add_scalars
    for name in ("", "loss_train", "loss_val"):
        write_events(added / name, {"loss": {0: 1.0, 1: 0.9}})
    state = {"log_history": [{"step": 1, "epoch": 1.0, "loss": 0.5}]}
    face = tmp_path / "face"
    for step in (1, 2):
        folder = face / f"checkpoint-{step}"
        folder.mkdir(parents=True)
        (folder / "trainer_state.json").write_text(json.dumps(state))
        (folder / "config.json").write_text(json.dumps({"model_type": "resnet", "step": step}))
        torch.save(weights, folder / "pytorch_model.bin")
    write_events(face / "runs" / "Nov26_10-00-00_host", {"train/loss": {1: 0.5}})
    for folder in (lightning.parent, keras, added, face):
        adopt(workspace, folder)


def test_an_adoption_that_fails_leaves_no_run(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_table(tmp_path / "old")
    table = write_predictions(tmp_path / "old" / "submission.csv")

    def vanish(*_: Any) -> Any:
        table.unlink()  # between the look and the copy
        return []

    monkeypatch.setattr("tracker.workflows.adopt.adopt._make_points", vanish)
    with pytest.raises(TrackerError):
        adopt_folder(workspace, tmp_path / "old")
    assert list_run_numbers(workspace.runs_dir) == []
    assert not list(workspace.runs_dir.glob("exp*"))


def test_show_has_all_that_an_adopted_run_logged_and_says_what_can_be_done(
    workspace: Workspace, tmp_path: Path
) -> None:
    config = {"model": "resnet18", "lr": config_to_dict(Config())["optim"]["lr"], "hidden": 3}
    for name, f1 in (("a", 0.5), ("b", 0.75)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        (tmp_path / name / "metrics.csv").write_text(f"epoch,val_f1,val_loss\n1,{f1},{f1}\n")
        adopt_folder(workspace, tmp_path / name, force=True)
    tables = load_config(workspace.runs_dir, "exp1")
    shown = choose_config(workspace, load_run(workspace.runs_dir, "exp1"), tables)
    assert (dict(shown.values), shown.base) == (flatten(tables), None)
    text = run_tracker("show", "exp1", cwd=workspace.root).stdout
    assert "resnet18" in text
    assert "optim.lr" in text

    found = diff_runs(workspace, "exp1", "exp2").not_comparable
    assert "val/f1" in found, (found, load_run(workspace.runs_dir, "exp1").summary)
    assert found["val/f1"] == (
        "how exp1 and exp2 validated is not known (an adopted run has no validation predictions;"
        " train with start_run or a callback to record them)"
    )
    assert found["val/loss"] == (
        "the loss of exp1 and exp2 is not known (name it in the config file of its folder, as"
        " loss: cross_entropy, then: tracker adopt DIR --force)"
    )
    for name in ("a", "b"):
        named = json.dumps(config | {"loss": "cross_entropy"})
        (tmp_path / name / "config.json").write_text(named)
        adopt_folder(workspace, tmp_path / name, force=True)
    assert "the loss" not in diff_runs(workspace, "exp3", "exp4").not_comparable["val/loss"]


# --- Runs of this program, from another workspace ---


@pytest.fixture
def elsewhere(tmp_path: Path) -> Workspace:
    """Another workspace: two runs of `run train`, and their ensemble exp3."""
    other = make_workspace(tmp_path / "other")
    for errors in (40, 60):
        record = make_run(other, "0000011110", f1=1 - errors / 400)
        keep(other, record.name, guess(errors))
        folder = other.runs_dir / record.name
        save_probabilities(
            folder / "probabilities.npz",
            Predictions(
                tuple(f"i{n}.png" for n in range(IMAGES)),
                np.full((IMAGES, 2), 0.5, np.float32),
                ("cat", "dog"),
            ),
        )
        torch.save({"state": {}}, folder / "last.pth")
    ensemble(other, ["exp1", "exp2"], method="soft")
    return other


def test_an_adopted_ensemble_stays_one_whose_members_are_not_known_here(
    workspace: Workspace, elsewhere: Workspace, tmp_path: Path
) -> None:
    make_run(workspace, "1111100000", f1=0.25)
    record, remarks = adopt_folder(workspace, elsewhere.runs_dir / "exp3")
    assert (record.kind, record.name) == ("ensemble", "exp2")
    config = load_config(workspace.runs_dir, "exp2")
    members = list_members(workspace, config, with_ledger=False)
    assert [(strip_elsewhere(one.run), one.value) for one in members] == [
        ("exp1", None),
        ("exp2", None),
    ]
    assert remarks[0].startswith("took 4 config keys; ")
    assert not any("checkpoint" in remark for remark in remarks)
    shown = run_tracker("show", "exp2", cwd=workspace.root).stdout
    assert "members of another workspace: exp1, exp2; not known here" in shown
    assert "Too few epochs" not in shown and "0.25" not in shown
    again_from = elsewhere.runs_dir / "exp2"
    again, _ = adopt_folder(workspace, again_from)
    submit(workspace, "exp2", memo="ensemble")
    (row,) = list_submissions(workspace)
    assert find_scheme(workspace, row.config) == {}
    with pytest.raises(RefusedError, match=f"already adopted as {again.name}"):
        adopt_folder(workspace, shutil.copytree(again_from, tmp_path / "copy"))


def test_members_that_were_adopted_before_are_linked(
    workspace: Workspace, elsewhere: Workspace
) -> None:
    for name in ("exp2", "exp1", "exp3"):
        adopt_folder(workspace, elsewhere.runs_dir / name)
    config = load_config(workspace.runs_dir, "exp3")
    assert config["ensemble"]["members"] == ["exp2", "exp1"]
    assert [one.value for one in list_members(workspace, config)] == [0.9, 0.85]
    record = load_run(workspace.runs_dir, "exp3")
    assert basis_of_run(workspace, record, config).scheme


def test_of_a_run_of_this_program_all_is_taken_that_a_run_has(
    workspace: Workspace, elsewhere: Workspace
) -> None:
    tag_run(elsewhere, "exp1", ["keep"])
    before = load_run(elsewhere.runs_dir, "exp1")
    record, remarks = adopt_folder(workspace, elsewhere.runs_dir / "exp1")
    folder = workspace.runs_dir / record.name
    for name in ("validation.npz", "probabilities.npz", "config.toml", "env.json"):
        original = elsewhere.runs_dir / "exp1" / name
        assert (folder / name).read_bytes() == original.read_bytes()
    assert (record.summary, record.tags) == (before.summary, ("keep",))
    assert (record.created_at, record.finished_at) == (before.created_at, before.finished_at)
    assert record.fingerprints["data"] == before.fingerprints["data"]
    assert record.fingerprints["predictions"] == before.fingerprints["predictions"]
    assert "validation.npz" in remarks[0] and "probabilities.npz" in remarks[0]
    assert "not taken: events.jsonl, last.pth" in remarks
    assert record.facts["adopted_uid"] == before.uid
    adopt_folder(workspace, elsewhere.runs_dir / "exp2")
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None and found.not_comparable == {}


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ("failed", "exp1 had failed there (no memory)"),
        ("killed", "exp1 was killed there (no memory)"),
        ("interrupted", "exp1 was interrupted there (no memory)"),
    ],
)
def test_an_adopted_run_ended_as_it_did_there(
    tmp_path: Path, workspace: Workspace, status: str, said: str
) -> None:
    elsewhere = make_workspace(tmp_path / "elsewhere")
    run = begin({}, root=elsewhere.root, follow=False, quiet=True)
    run.finish(status, error="no memory")
    record, remarks = adopt_folder(workspace, run.folder)
    assert (record.status, record.error) == (status, "no memory")
    assert load_run(workspace.runs_dir, record.name) == record
    assert said in remarks
    with pytest.raises(RefusedError, match=f"already adopted as {record.name}"):
        adopt_folder(workspace, run.folder)


def test_of_a_run_that_goes_on_there_an_interrupted_one_is_adopted(
    tmp_path: Path, workspace: Workspace
) -> None:
    run = begin({}, root=make_workspace(tmp_path / "elsewhere").root, follow=False, quiet=True)
    record, remarks = adopt_folder(workspace, run.folder)
    run.finish()
    assert (record.status, record.error) == ("interrupted", "adopted while it was running there")
    assert "exp1 was running there" in remarks
