"""Optimizers and learning-rate schedules."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import torch

from tracker.training.config import OPTIMIZERS, OptimConfig, SchedConfig
from tracker.training.errors import ConfigError, first_line


def build_optimizer(model: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    """The optimizer called `config.name` for all trained parameters, fused where torch can.

    With `layer_decay` below 1, the learning rate falls from the head towards the first layer by
    that factor a layer, and biases and norms are not decayed (Clark et al. 2020, arXiv 2003.10555,
    as timm groups the layers). An optimizer that only timm has never decays biases and norms.
    """
    if config.name not in OPTIMIZERS:
        return _build_by_timm(model, config)
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


def _build_by_timm(model: torch.nn.Module, config: OptimConfig) -> torch.optim.Optimizer:
    from timm.optim import create_optimizer_v2

    optimizer: torch.optim.Optimizer = create_optimizer_v2(
        model,
        opt=config.name,
        lr=config.lr,
        weight_decay=config.weight_decay,
        momentum=config.momentum,
        layer_decay=config.layer_decay if config.layer_decay < 1 else None,
    )
    for group in optimizer.param_groups:
        group["lr"] *= group.pop("lr_scale", 1.0)
    return optimizer


def check_optimizer(config: OptimConfig) -> None:
    """Take a step with a model of a few weights; raises ConfigError for one that cannot be used.

    Some of timm's optimizers need a GPU, another package or second derivatives.
    """
    if config.name in OPTIMIZERS:
        return
    model = torch.nn.Linear(3, 2, bias=False)
    try:
        optimizer = _build_by_timm(model, replace(config, layer_decay=1.0))
        model(torch.ones(2, 3)).sum().backward()
        optimizer.step()
    except (AssertionError, ImportError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            f"optim.name: {config.name} cannot be used here: {first_line(error)}",
            hint="adamw, lion and muon need nothing more",
        ) from error


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
