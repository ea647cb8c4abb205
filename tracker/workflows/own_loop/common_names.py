"""The names of metrics and config keys in other programs, and the names that they have here."""

from __future__ import annotations

import math
import re

from tracker.training import metrics as computed

SPLIT_ALIASES = {
    **dict.fromkeys(("train", "training", "trn"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "eval", "evaluation"), "val"),
}
METRIC_ALIASES = {
    **{name: name for name in ("loss", "batch_loss", "auc", "precision", "recall", "top5")},
    **{name: name for name in ("lr", "grad_norm")},
    "loss_step": "batch_loss",
    **dict.fromkeys(("auroc", "roc_auc", "rocauc", "roc_auc_score"), "auc"),
    **dict.fromkeys(
        ("acc5", "acc_5", "top_5", "top5_acc", "top5_accuracy", "prec5", "prec_5"), "top5"
    ),
    **dict.fromkeys(("learning_rate", "learningrate"), "lr"),
}
for _metric in computed.METRICS.values():
    METRIC_ALIASES.update(dict.fromkeys((_metric.name, *_metric.aliases), _metric.name))
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

KEY_ALIASES = {
    **dict.fromkeys(("lr", "learning_rate", "base_lr", "init_lr", "initial_lr"), "optim.lr"),
    **dict.fromkeys(("weight_decay", "wd"), "optim.weight_decay"),
    "momentum": "optim.momentum",
    **dict.fromkeys(("opt", "optimizer", "optimizer_name", "optim"), "optim.name"),
    **dict.fromkeys(
        ("epochs", "num_epochs", "n_epochs", "max_epochs", "num_train_epochs"), "train.epochs"
    ),
    **dict.fromkeys(
        ("batch_size", "bs", "train_batch_size", "per_device_train_batch_size"), "train.batch_size"
    ),
    **dict.fromkeys(
        ("eval_batch_size", "val_batch_size", "valid_batch_size"), "train.eval_batch_size"
    ),
    **dict.fromkeys(
        ("validation_batch_size", "per_device_eval_batch_size"), "train.eval_batch_size"
    ),
    **dict.fromkeys(("gradient_accumulation_steps", "accumulate_grad_batches"), "train.accumulate"),
    **dict.fromkeys(("grad_accum_steps", "accumulation_steps"), "train.accumulate"),
    **dict.fromkeys(("max_grad_norm", "clip_grad", "gradient_clip_val"), "train.clip_grad"),
    **dict.fromkeys(("seed", "random_seed", "random_state"), "train.seed"),
    **dict.fromkeys(("model", "model_name", "arch", "architecture", "backbone"), "model.name"),
    "pretrained": "model.pretrained",
    **dict.fromkeys(("drop_path", "drop_path_rate"), "model.drop_path"),
    **dict.fromkeys(("sched", "scheduler", "lr_scheduler", "lr_scheduler_type"), "sched.name"),
    **dict.fromkeys(("loss", "loss_name", "criterion"), "loss.name"),
    **dict.fromkeys(("smoothing", "label_smoothing", "label_smoothing_factor"), "loss.smoothing"),
    **dict.fromkeys(("img_size", "image_size", "input_size"), "data.image_size"),
    **dict.fromkeys(("mixup", "mixup_alpha"), "augment.mixup"),
    **dict.fromkeys(("cutmix", "cutmix_alpha"), "augment.cutmix"),
    **dict.fromkeys(("optimizer.name", "optimizer.type"), "optim.name"),
    **dict.fromkeys(("scheduler.name", "scheduler.type"), "sched.name"),
    **dict.fromkeys(("model.arch", "model.architecture", "model.type"), "model.name"),
    **dict.fromkeys(("model.model_name", "model.backbone"), "model.name"),
    "data.batch_size": "train.batch_size",
    **dict.fromkeys(("data.img_size", "model.img_size", "model.image_size"), "data.image_size"),
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
