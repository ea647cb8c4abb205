"""best.pth and last.pth: the best epoch of a run, and the state to continue from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_model_state_dict,
    get_optimizer_state_dict,
    set_model_state_dict,
    set_optimizer_state_dict,
)

from tracker.training.config import config_to_dict
from tracker.training.config_fingerprint import old_trajectory_fingerprint, trajectory_fingerprint
from tracker.training.errors import ConfigError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.training.run.checkpoint import load_checkpoint, save_checkpoint
from tracker.training.run.setup import Setup

WHOLE = StateDictOptions(full_state_dict=True, cpu_offload=True)


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are in best.pth, and its metrics."""

    epoch: int
    metrics: Mapping[str, float]


def save_best(setup: Setup, best: Best, validation: Predictions) -> None:
    """Write best.pth, and validation.npz with its validation predictions; for each process."""
    weights = _collect_weights(setup)
    if not setup.fabric.is_global_zero:
        return
    save_probabilities(setup.run_dir / "validation.npz", validation)
    save_checkpoint(
        setup.run_dir / "best.pth",
        {
            "model": weights,
            "epoch": best.epoch,
            "metrics": dict(best.metrics),
            "classes": list(setup.task.classes),
            "config": json.dumps(config_to_dict(setup.config)),
        },
    )


def save_last(setup: Setup, epoch: int, best: Best) -> None:
    """Write last.pth: weights, optimizer, schedule, moving average.

    Random numbers follow from seed and epoch.
    """
    model, optimizer, sharded = setup.model.module, setup.optimizer.optimizer, setup.sharded
    state = {
        "model": get_model_state_dict(model, options=WHOLE) if sharded else model.state_dict(),
        "optimizer": (
            get_optimizer_state_dict(model, optimizer, options=WHOLE)
            if sharded
            else optimizer.state_dict()
        ),
        "scheduler": setup.scheduler.state_dict(),
        "precision": setup.fabric.strategy.precision.state_dict(),
        "epoch": epoch,
        "best": {"epoch": best.epoch, "metrics": dict(best.metrics)},
        "trajectory": trajectory_fingerprint(config_to_dict(setup.config)),
    }
    if setup.ema is not None:
        state["ema"] = setup.ema.state_dict()
    if setup.fabric.is_global_zero:
        save_checkpoint(setup.run_dir / "last.pth", state)


def restore(setup: Setup) -> tuple[int, Best | None]:
    """Load last.pth in each process; without one, the run starts again.

    A run without last.pth ended before its first epoch was complete. Raises ConfigError when it was
    trained with another config, WeightsError when it cannot be read.
    """
    state = setup.fabric.broadcast(_read_last(setup) if setup.fabric.is_global_zero else None)
    if state is None:
        return 0, None
    model, optimizer = setup.model.module, setup.optimizer.optimizer
    if setup.sharded:
        set_model_state_dict(model, state["model"], options=WHOLE)
        set_optimizer_state_dict(model, optimizer, state["optimizer"], options=WHOLE)
    else:
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
    setup.scheduler.load_state_dict(state["scheduler"])
    setup.fabric.strategy.precision.load_state_dict(state["precision"])
    if setup.ema is not None:
        setup.ema.load_state_dict(state["ema"])
    return state["epoch"], Best(state["best"]["epoch"], state["best"]["metrics"])


def load_best(setup: Setup) -> dict[str, torch.Tensor]:
    """Load the weights of best.pth into `eval_model` in each process, and return them."""
    path = setup.run_dir / "best.pth"
    state: Any = load_checkpoint(path)["model"] if setup.fabric.is_global_zero else None
    state = setup.fabric.broadcast(state)
    if setup.sharded:
        # a copy, because the call replaces the values of the dict
        set_model_state_dict(setup.eval_model, dict(state), options=WHOLE)
    else:
        setup.eval_model.load_state_dict(state)
    weights: dict[str, torch.Tensor] = state
    return weights


def _collect_weights(setup: Setup) -> dict[str, Any]:
    """The whole weights of `eval_model`; on the CPU where processes share them."""
    if setup.sharded:
        return get_model_state_dict(setup.eval_model, options=WHOLE)
    weights: dict[str, Any] = setup.eval_model.state_dict()
    return weights


def _read_last(setup: Setup) -> dict[str, Any] | None:
    path: Path = setup.run_dir / "last.pth"
    if not path.exists():
        return None
    state = load_checkpoint(path)
    tables = config_to_dict(setup.config)
    if state["trajectory"] not in (
        trajectory_fingerprint(tables),
        old_trajectory_fingerprint(tables),
    ):
        raise ConfigError(
            f"{setup.run_dir.name} was trained with another config",
            reason="other config",
            run=setup.run_dir.name,
        )
    return state
