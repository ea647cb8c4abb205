"""The names of metrics and config keys in other programs, and the names that they have here."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence

from tracker.training import metrics as computed


def _invert(names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """{name in another program: name here}."""
    inverted: dict[str, str] = {}
    for name, others in names.items():
        inverted.update(dict.fromkeys(others, name))
    return inverted


# In these tables: {name here: its names in other programs}.
SPLIT_NAMES = {
    "train": ("train", "training", "trn"),
    "val": ("val", "valid", "validation", "dev", "eval", "evaluation"),
}
METRIC_NAMES = {
    "loss": ("loss",),
    "batch_loss": ("batch_loss", "loss_step"),
    "auc": ("auc", "auroc", "roc_auc", "rocauc", "roc_auc_score"),
    "precision": ("precision",),
    "recall": ("recall",),
    "top5": ("top5", "acc5", "acc_5", "top_5", "top5_acc", "top5_accuracy", "prec5", "prec_5"),
    "lr": ("lr", "learning_rate", "learningrate"),
    "grad_norm": ("grad_norm",),
}
COMPUTED_NAMES = {
    metric.name: (metric.name, *metric.aliases) for metric in computed.METRICS.values()
}
# Some of these names have a section.
KEY_NAMES = {
    "optim.lr": ("lr", "learning_rate", "base_lr", "init_lr", "initial_lr"),
    "optim.weight_decay": ("weight_decay", "wd"),
    "optim.momentum": ("momentum",),
    "optim.name": (
        "opt",
        "optimizer",
        "optimizer_name",
        "optim",
        "optimizer.name",
        "optimizer.type",
    ),
    "train.epochs": ("epochs", "num_epochs", "n_epochs", "max_epochs", "num_train_epochs"),
    "train.batch_size": (
        "batch_size",
        "bs",
        "train_batch_size",
        "per_device_train_batch_size",
        "data.batch_size",
    ),
    "train.eval_batch_size": (
        "eval_batch_size",
        "val_batch_size",
        "valid_batch_size",
        "validation_batch_size",
        "per_device_eval_batch_size",
    ),
    "train.accumulate": (
        "gradient_accumulation_steps",
        "accumulate_grad_batches",
        "grad_accum_steps",
        "accumulation_steps",
    ),
    "train.clip_grad": ("max_grad_norm", "clip_grad", "gradient_clip_val"),
    "train.seed": ("seed", "random_seed", "random_state"),
    "model.name": (
        "model",
        "model_name",
        "arch",
        "architecture",
        "backbone",
        "model.arch",
        "model.architecture",
        "model.type",
        "model.model_name",
        "model.backbone",
    ),
    "model.pretrained": ("pretrained",),
    "model.drop_path": ("drop_path", "drop_path_rate"),
    "sched.name": (
        "sched",
        "scheduler",
        "lr_scheduler",
        "lr_scheduler_type",
        "scheduler.name",
        "scheduler.type",
    ),
    "loss.name": ("loss", "loss_name", "criterion"),
    "loss.smoothing": ("smoothing", "label_smoothing", "label_smoothing_factor"),
    "data.image_size": (
        "img_size",
        "image_size",
        "input_size",
        "data.img_size",
        "model.img_size",
        "model.image_size",
    ),
    "augment.mixup": ("mixup", "mixup_alpha"),
    "augment.cutmix": ("cutmix", "cutmix_alpha"),
}
SPLIT_ALIASES = _invert(SPLIT_NAMES)
METRIC_ALIASES = _invert(METRIC_NAMES) | _invert(COMPUTED_NAMES)
KEY_ALIASES = _invert(KEY_NAMES)
# Words that do not change which metric it is: `multiclass_accuracy` is `accuracy`.
FILLER_WORDS = {
    "epoch",
    "metric",
    "metrics",
    "multiclass",
    "binary",
    "categorical",
    "sparse",
    "avg",
}

# Keys that say how long to train: a resumed run may have another number.
LENGTH_KEYS = {key for key, ours in KEY_ALIASES.items() if ours == "train.epochs"}
LENGTH_KEYS |= {"max_steps", "num_steps", "total_steps", "max_iters", "num_iterations"}
# Sections whose name does not change the meaning of a key: `training.lr` is `lr`.
PLAIN_SECTIONS = {
    "",
    "config",
    "args",
    "hparams",
    "hyperparameters",
    "params",
    "train",
    "training",
    "trainer",
}
PLAIN_SECTIONS |= {"optim", "optimizer"}


def common_name(name: str, *, split: str = "") -> str:
    """The name of a metric here: `val/accuracy` for `Acc/val`, `val_acc`, `eval_accuracy`.

    `split` (train or val) is for names without one. A learning rate is `lr`. A name that is not
    known, or has no split when none is given, is returned unchanged.
    """
    own, _, rest = name.partition("/")
    if own in ("train", "val") and METRIC_ALIASES.get(rest) == rest:
        return name
    # Lightning's LearningRateMonitor adds the optimizer's class.
    if re.fullmatch(r"lr-\w+", name):
        return "lr"
    words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", name) if word]
    splits = {SPLIT_ALIASES[word] for word in words if word in SPLIT_ALIASES}
    ignored = {*SPLIT_ALIASES, *FILLER_WORDS}
    metric_words = dict.fromkeys(word for word in words if word not in ignored)
    metric = METRIC_ALIASES.get("_".join(metric_words))
    if metric == "lr":
        return "lr"
    # With two splits, as in train_val_gap, it is neither.
    if splits:
        split = splits.pop() if len(splits) == 1 else ""
    return f"{split}/{metric}" if metric and split else name


def common_key(section: str, key: str) -> tuple[str, str]:
    """The section and key here: (`optim`, `lr`) for `lr` or `training.learning_rate`.

    A key that is not known is returned unchanged.
    """
    known = KEY_ALIASES.get(f"{section}.{key}".lower())
    if not known and section.lower() in PLAIN_SECTIONS:
        known = KEY_ALIASES.get(key.lower())
    target, _, name = (known or "").partition(".")
    return (target, name) if known else (section, key)


def is_length(key: str) -> bool:
    """Whether a config key, `train.epochs` or `trainer.max_steps`, says how long to train."""
    return key.rpartition(".")[2].lower() in LENGTH_KEYS


def whole_epoch(progress: float) -> int:
    """The epoch from 1 for Hugging Face's number of completed epochs: 1 for 0.5 and 1.0."""
    # 1e-6: a sum of many small shares may end just above a whole number.
    return max(1, math.ceil(progress - 1e-6))
