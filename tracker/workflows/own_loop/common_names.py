"""The names of metrics in other programs, and the names that they have here."""

from __future__ import annotations

import math
import re

from tracker.training import metrics as computed
from tracker.training.key_names import KEY_ALIASES, invert_names

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
TRAINING_ONLY = ("lr", "grad_norm")
COMPUTED_NAMES = {
    metric.name: (metric.name, *metric.aliases) for metric in computed.METRICS.values()
}
SPLIT_ALIASES = invert_names(SPLIT_NAMES)
METRIC_ALIASES = invert_names(METRIC_NAMES) | invert_names(COMPUTED_NAMES)
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


def common_name(name: str, *, split: str = "") -> str:
    """The name of a metric here: `val/accuracy` for `Acc/val`, `val_acc`, `eval_accuracy`.

    `split` (train or val) is for names without one. A learning rate is `train/lr`, a norm of
    gradients `train/grad_norm`: validation has neither. A name that is not known, or has no split
    when none is given, is returned unchanged.
    """
    own, _, rest = name.partition("/")
    if own in ("train", "val") and METRIC_ALIASES.get(rest) == rest:
        return name
    # Lightning's LearningRateMonitor adds the optimizer's class.
    if re.fullmatch(r"lr-\w+", name):
        return "train/lr"
    words = [word.lower() for word in re.split(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])", name) if word]
    splits = {SPLIT_ALIASES[word] for word in words if word in SPLIT_ALIASES}
    ignored = {*SPLIT_ALIASES, *FILLER_WORDS}
    metric_words = dict.fromkeys(word for word in words if word not in ignored)
    metric = METRIC_ALIASES.get("_".join(metric_words))
    if metric in TRAINING_ONLY:
        return f"train/{metric}"
    # With two splits, as in train_val_gap, it is neither.
    if splits:
        split = splits.pop() if len(splits) == 1 else ""
    return f"{split}/{metric}" if metric and split else name


def is_length(key: str) -> bool:
    """Whether a config key, `train.epochs` or `trainer.max_steps`, says how long to train."""
    return key.rpartition(".")[2].lower() in LENGTH_KEYS


def whole_epoch(progress: float) -> int:
    """The epoch from 1 for Hugging Face's number of completed epochs: 1 for 0.5 and 1.0."""
    # 1e-6: a sum of many small shares may end just above a whole number.
    return max(1, math.ceil(progress - 1e-6))
