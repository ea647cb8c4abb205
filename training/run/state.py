"""best.pth and last.pth: the best epoch of a run, and the state to continue from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
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

LAST = "last.pth"
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


@dataclass
class Part:
    """A part of an epoch: what its first `batches` added up, and the random numbers after them.

    `confusion` is [true class, predicted class]; `recent` has the losses since the last point.
    `random` has the states of the generators of each process, of the CPU and of its GPU.
    """

    confusion: NDArray[np.int64]
    batches: int = 0
    total: float = 0.0
    seen: int = 0
    recent: list[float] = field(default_factory=list)
    lr: float = 0.0
    seconds: float = 0.0
    waited: float = 0.0
    random: list[list[torch.Tensor]] = field(default_factory=list)

    def to_state(self) -> dict[str, Any]:
        """Plain values and tensors."""
        values = {each.name: getattr(self, each.name) for each in fields(self)}
        return {**values, "confusion": torch.from_numpy(self.confusion)}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Part:
        """What `to_state` made."""
        return cls(**{**state, "confusion": state["confusion"].numpy()})


def save_last(setup: Setup, epoch: int, best: Best | None, part: Part | None = None) -> None:
    """Write last.pth: weights, optimizer, schedule, moving average.

    Random numbers follow from seed and epoch, but within an epoch: `part` is what was done of the
    one after `epoch`.
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
        "best": {"epoch": best.epoch, "metrics": dict(best.metrics)} if best else None,
        "trajectory": trajectory_fingerprint(config_to_dict(setup.config)),
    }
    if setup.ema is not None:
        state["ema"] = setup.ema.state_dict()
    if part is not None:
        state["part"] = replace(part, random=_collect_random(setup)).to_state()
    if setup.fabric.is_global_zero:
        save_checkpoint(setup.run_dir / LAST, state)


def _collect_random(setup: Setup) -> list[list[torch.Tensor]]:
    """The generators' states of each process."""
    own = [torch.get_rng_state()]
    if setup.fabric.device.type == "cuda":
        own.append(torch.cuda.get_rng_state(setup.fabric.device))
    if setup.fabric.world_size == 1:
        return [own]
    states: list[Any] = [None] * setup.fabric.world_size
    torch.distributed.all_gather_object(states, own)
    return states


def restore_random(setup: Setup, part: Part) -> None:
    """Set this process's generators to what they were after the batches of `part`."""
    cpu, *gpu = part.random[setup.fabric.global_rank]
    torch.set_rng_state(cpu)
    if gpu and setup.fabric.device.type == "cuda":
        torch.cuda.set_rng_state(gpu[0], setup.fabric.device)


def restore(setup: Setup) -> tuple[int, Best | None, Part | None]:
    """Load last.pth in each process: the last whole epoch, the best one, the part after it.

    Raises ConfigError when it was trained with another config, WeightsError when it cannot be read.
    """
    state: Any = setup.fabric.broadcast(_read_last(setup) if setup.fabric.is_global_zero else None)
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
    best, part = state["best"], state.get("part")
    return (
        state["epoch"],
        Best(best["epoch"], best["metrics"]) if best else None,
        Part.from_state(part) if part else None,
    )


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


def _read_last(setup: Setup) -> dict[str, Any]:
    state = load_checkpoint(setup.run_dir / LAST)
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
