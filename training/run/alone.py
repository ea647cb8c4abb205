"""A training of one process that is thrown away: for a measurement of its steps."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tracker.training.config import Config
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import ImageSource
from tracker.training.run.setup import Setup, build_setup
from tracker.training.run.worker import NullLogger


def build_alone(config: Config, data: LoadedData, task: Task, *, root: Path, **train: Any) -> Setup:
    """Model and optimizer of the config in this process alone, with random weights.

    `train` are keys of its section [train] with other values. Nothing is logged, compiled or
    accumulated. Raises like `build_setup`.
    """
    usual = {"devices": 1, "num_nodes": 1, "strategy": "ddp", "accumulate": 1, "compile": False}
    own = replace(
        config,
        train=replace(config.train, **{**usual, **train}),
        data=replace(config.data, workers=0),
    )
    return build_setup(
        own,
        data,
        task,
        source=ImageSource(root),
        run_dir=root,
        logger=NullLogger(),
        environment=None,
        resume=True,  # with random weights: time and memory are the same
        notify=lambda _: None,
    )
