"""Names that other programs give metrics and config keys."""

from __future__ import annotations

import pytest

from tracker.training.config import list_options
from tracker.training.key_names import KEY_ALIASES, common_key
from tracker.workflows.own_loop.common_names import (
    METRIC_ALIASES,
    common_name,
)

OURS = {
    "val/accuracy": (
        "Acc/val val_acc valid/acc eval_accuracy eval/accuracy Accuracy/validation valAcc eval_top1"
        " val_categorical_accuracy val_sparse_categorical_accuracy val_MulticlassAccuracy"
        " metrics/val/acc val.acc val-acc val_acc@1 val_acc_epoch dev_acc val/accuracy"
    ),
    "val/f1": (
        "F1/val val_f1 valid_f1_score eval_macro_f1 val_MulticlassF1Score eval/f1-macro val/f1"
    ),
    "val/loss": "Loss/val val_loss valid_loss eval_loss validation/loss val_loss_epoch val/loss",
    "train/loss": "Loss/train train_loss training_loss trainLoss train_loss_epoch train/loss",
    "train/batch_loss": "train_loss_step train/batch_loss",
    "train/accuracy": "train_acc Train/Accuracy acc/train train/accuracy",
    "val/top5": "eval_top5 val_acc@5 val/top5",
    "train/lr": (
        "lr learning_rate LearningRate train/learning_rate lr-AdamW lr/train epoch_learning_rate"
        " train/lr"
    ),
    "train/grad_norm": "grad_norm train/grad_norm",
}
UNKNOWN = (
    "accuracy",
    "loss",
    "acc",
    "test_acc",
    "best_val_acc",
    "val_acc_ema",
    "val/f1/cat",
    "val/f1_micro",
    "train_val_loss",
    "eval_runtime",
    "정확도",
    "",
    "val",
    "lr-AdamW/pg1",
    "accession",
    "val_loss_cls",
)


@pytest.mark.parametrize("ours", OURS)
def test_metrics_are_known_under_the_names_of_others(ours: str) -> None:
    assert {name: common_name(name) for name in OURS[ours].split()} == dict.fromkeys(
        OURS[ours].split(), ours
    )


def test_names_that_are_not_known_stay() -> None:
    assert {name: common_name(name) for name in UNKNOWN} == {name: name for name in UNKNOWN}
    for name in ("test_acc", "val_acc_ema", "train_val_loss", "val/f1/cat"):
        assert common_name(name, split="train") == name


def test_a_name_without_a_split_is_of_the_split_that_is_given() -> None:
    assert common_name("accuracy", split="train") == "train/accuracy"
    assert common_name("loss", split="val") == "val/loss"
    assert common_name("val_loss", split="train") == "val/loss"
    assert common_name("learning_rate", split="val") == "train/lr"


def test_a_name_of_this_program_stays_what_it_is() -> None:
    for metric in METRIC_ALIASES.values():
        for split in ("train", "val"):
            assert common_name(f"{split}/{metric}") == f"{split}/{metric}"


def test_config_keys_are_known_under_the_names_of_others() -> None:
    assert common_key("", "lr") == ("optim", "lr")
    assert common_key("Training", "learning_rate") == ("optim", "lr")
    assert common_key("optimizer", "type") == ("optim", "name")
    assert common_key("", "num_train_epochs") == ("train", "epochs")
    assert common_key("model", "arch") == ("model", "name")
    assert common_key("discriminator", "lr") == ("discriminator", "lr")
    assert common_key("", "drop_rate") == ("", "drop_rate")


def test_config_keys_that_others_are_mapped_to_exist() -> None:
    options = list_options()
    assert set(KEY_ALIASES.values()) <= options.keys()
    for name in options:
        section, _, key = name.partition(".")
        assert common_key(section, key) == (section, key), name
