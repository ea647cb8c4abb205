"""The names that other programs give to the config keys: one table for hints and comparisons."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any


def invert_names(names: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """{name in another program: name here} of {name here: names in other programs}."""
    inverted: dict[str, str] = {}
    for name, others in names.items():
        inverted.update(dict.fromkeys(others, name))
    return inverted


# {name here: its names in other programs}, with the same values.
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
        "grad_accum",
    ),
    "train.clip_grad": ("max_grad_norm", "clip_grad", "gradient_clip_val", "grad_clip"),
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
    "loss.name": ("loss", "loss_name", "loss_fn", "criterion", "criterion.name"),
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
    "loss.gamma": ("focal_gamma",),
    "data.workers": ("num_workers",),
    "data.folds": (
        "num_folds",
        "n_splits",
    ),
    "data.fold": ("fold_idx",),
}
# {loss here: the same loss in torch, timm, fastai, Keras and Hugging Face}, as `_fold` has them.
LOSS_NAMES = {
    "cross_entropy": (
        *("ce", "crossentropy", "crossentropyloss", "crossentropylossflat"),
        *("softmaxcrossentropy", "forimageclassification", "forimageclassificationloss"),
        *("categoricalcrossentropy", "sparsecategoricalcrossentropy"),
    ),
    "label_smoothing": ("labelsmoothing", "labelsmoothingcrossentropy", "labelsmoothingloss"),
    "focal": ("focal", "focalloss", "focallossflat"),
    "bce": (
        *("bce", "bcewithlogits", "bcewithlogitsloss", "bcewithlogitslossflat"),
        *("binarycrossentropy", "binarycrossentropywithlogits", "bceloss"),
    ),
    "asymmetric": ("asymmetric", "asymmetricloss", "asymmetriclossmultilabel"),
    "smooth_l1": ("smoothl1", "smoothl1loss"),
    "mse": ("mse", "mseloss", "mselossflat", "meansquarederror"),
}
LOSS_ALIASES = invert_names(LOSS_NAMES)
# Names of the same thing with other values, as in amp = true: they are a hint after an unknown key.
HINTS = {
    "warmup": "sched.warmup_epochs",
    "early_stopping": "train.patience",
    "amp": "train.precision",
    "device": "train.accelerator",
    "resize": "data.image_size",
    "val_split": "data.val_ratio",
    "class_weight": "loss.class_weights",
    "tta": "eval.tta",
}
KEY_ALIASES = invert_names(KEY_NAMES)
COMMON_NAMES = {name: key for name, key in KEY_ALIASES.items() if "." not in name} | HINTS

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


@lru_cache(4096)  # runs have the same few keys again and again
def common_key(section: str, key: str) -> tuple[str, str]:
    """The section and key here: (`optim`, `lr`) for `lr` or `training.learning_rate`.

    A key that is not known is returned unchanged.
    """
    known = KEY_ALIASES.get(f"{section}.{key}".lower())
    if not known and section.lower() in PLAIN_SECTIONS:
        known = KEY_ALIASES.get(key.lower())
    target, _, name = (known or "").partition(".")
    return (target, name) if known else (section, key)


def _fold(name: str) -> str:
    """A name of a class without its module, capitals and signs: `nn.MSELoss()` is `mseloss`."""
    last = name.strip().removesuffix("()").rpartition(".")[2]
    return "".join(filter(str.isalnum, last)).lower()


def to_common_loss(loss: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section `loss` of another program, with the name and the smoothing of the same loss here.

    `{"name": "CrossEntropyLoss", "smoothing": 0.1}` is `label_smoothing` with 0.1 here. A loss that
    is not known keeps its name.
    """
    name = loss.get("name")
    if not isinstance(name, str):
        return loss
    common = dict(loss) | {"name": LOSS_ALIASES.get(_fold(name), name)}
    if common["name"] == "label_smoothing" and "eps" in common:  # fastai's name
        common.setdefault("smoothing", common.pop("eps"))
    if common["name"] == "cross_entropy" and common.get("smoothing"):
        common["name"] = "label_smoothing"
    return common


def to_common_keys(config: Mapping[str, Any], options: Collection[str]) -> Mapping[str, Any]:
    """A config with the key names of this program, as far as they are known.

    `{"config": {"model": "resnet18"}}` becomes `{"model": {"name": "resnet18"}}`. Keys of
    `options`, and names of which the config has several, stay as they are.
    """
    known = {f"{section}.{key}" for section, table in config.items() for key in _list_keys(table)}
    if all(name in options for name in known):
        return config
    renamed: dict[str, Any] = {}
    for section, table in config.items():
        if not isinstance(table, Mapping):
            renamed[section] = table
            continue
        for key, value in table.items():
            place = (section, key)
            if f"{section}.{key}" not in options:
                target = common_key(section, key)
                name = ".".join(target)
                if name not in known and isinstance(config.get(target[0], {}), Mapping):
                    known.add(name)
                    place = target
            renamed.setdefault(place[0], {})[place[1]] = value
    return renamed


def _list_keys(table: Any) -> list[str]:
    return list(table) if isinstance(table, Mapping) else []
