"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from typing import Any

import torch

from tracker.training.config import OptimConfig, SchedConfig


def build_optimizer(model: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer called `config.name` for all trained parameters, fused where torch can.

    With `layer_decay` below 1, the learning rate falls from the head towards the first layer by
    that factor a layer, and biases and norms are not decayed (Clark et al. 2020, arXiv 2003.10555,
    as timm groups the layers).
    """
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad]}]
    if config.layer_decay < 1:
        from timm.optim import param_groups_layer_decay

        groups = param_groups_layer_decay(
            model, config.weight_decay, layer_decay=config.layer_decay
        )
        for group in groups:
            group["lr"] = config.lr * group.pop("lr_scale")
    if config.name == "sgd":
        # torch 2.15 has no fused SGD for weights that are divided among processes
        fused = not _is_sharded(model)
        return torch.optim.SGD(
            groups,
            lr=config.lr,
            momentum=config.momentum,
            weight_decay=config.weight_decay,
            fused=fused,
        )
    kind = torch.optim.AdamW if config.name == "adamw" else torch.optim.Adam
    return kind(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)


def _is_sharded(model: torch.nn.Module) -> bool:
    """Whether FSDP has divided the weights."""
    if not torch.distributed.is_available():
        return False
    from torch.distributed.tensor import DTensor

    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def lr_factor(step: int, *, steps_per_epoch: int, epochs: int, config: SchedConfig) -> float:
    """Factor of the peak learning rate for optimizer step `step`, counted from 0.

    Linear from near zero during warm-up; then `step` multiplies by decay_rate every decay_step
    epochs, and
    `cosine` falls from 1 to 0 over the rest (Loshchilov and Hutter 2017, arXiv 1608.03983, eq. 5,
    one cycle).
    """
    warmup = round(config.warmup_epochs * steps_per_epoch)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    if config.name == "step":
        return float(config.decay_rate ** (step // (steps_per_epoch * config.decay_step)))
    if config.name == "cosine":
        share = (step - warmup) / max(1, steps_per_epoch * epochs - warmup)
        return 0.5 * (1 + math.cos(math.pi * min(1.0, share)))
    return 1.0
