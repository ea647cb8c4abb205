"""A short training of a tiny model on tiny images, stopped where a test wants."""

from __future__ import annotations

import signal
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.training.conftest import TWO
from tracker.training.config import (
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    SchedConfig,
    TrainConfig,
    config_to_dict,
    merge,
)
from tracker.training.config_reading import config_from_dict
from tracker.training.data.data import load_data
from tracker.training.formats.samples import Task
from tracker.training.pictures import figures
from tracker.training.run.loop import EpochReport, FitResult, fit
from tracker.training.saves import SaveRequest


class Stop(Exception):
    """Ends a run, as a kill would."""


class ListLogger:
    """Keeps what the loop reports."""

    def __init__(self, stop_at_step: int = 0, save_at_step: int = 0) -> None:
        self._stop_at_step = stop_at_step
        self._save_at_step = save_at_step
        self.points: list[tuple[int, dict[str, float]]] = []
        self.facts: dict[str, Any] = {}
        self.files: list[str] = []

    def params(self, values: Mapping[str, Any]) -> None:
        self.facts |= values

    def metrics(self, values: Mapping[str, float], *, step: int, epoch: int) -> None:
        self.points.append((step, dict(values)))
        if step == self._stop_at_step and "train/batch_loss" in values:
            raise Stop
        if step == self._save_at_step and "train/batch_loss" in values:
            signal.raise_signal(signal.SIGUSR1)

    def artifact(self, path: Path) -> None:
        self.files.append(path.name)


CONFIG = Config(
    data=DataConfig(
        train_dir="train", eval_dir="eval", image_size=(32, 32), workers=0, split="stratified"
    ),
    model=ModelConfig(name="test_resnet", pretrained=False),
    optim=OptimConfig(lr=0.003),
    sched=SchedConfig(warmup_epochs=1.0),
    train=TrainConfig(epochs=4, batch_size=8, log_every=1, accelerator="cpu"),
)


def train(
    config: Config,
    root: Path,
    name: str,
    *,
    stop_after: int = 0,
    stop_at_step: int = 0,
    save_at_step: int = 0,
    leaves: bool = True,
    resume: bool = False,
    cache_dir: Path | None = None,
    task: Task = TWO,
    draws: bool = False,
    precision: str | None = None,
    at_epoch: Callable[[], None] = lambda: None,
) -> tuple[FitResult, ListLogger]:
    """Fit into root/name; raise Stop after epoch `stop_after`, or within one after optimizer step
    `stop_at_step`. After step `save_at_step` it gets SIGUSR1, and with `leaves` raises Stop when it
    has saved.

    `at_epoch` is called after each epoch, while the run goes on.
    Without `draws` there are no pictures of the validation: a quarter of the time.
    """
    logger, run_dir = ListLogger(stop_at_step, save_at_step), root / name
    run_dir.mkdir(exist_ok=True)

    def on_epoch(report: EpochReport) -> None:
        at_epoch()
        if report.epoch == stop_after:
            raise Stop

    def on_saved() -> None:
        if leaves:
            raise Stop

    data = load_data(config.data, task, root=root)
    with pytest.MonkeyPatch.context() as patch:
        if not draws:
            patch.setattr(figures, "draw_validation", lambda *_: [])
        result = fit(
            config,
            data,
            task,
            root=root,
            run_dir=run_dir,
            logger=logger,
            on_epoch=on_epoch,
            saving=SaveRequest(on_saved=on_saved),
            cache_dir=cache_dir,
            resume=resume,
            precision=precision,
            quiet=True,
        )
    return result, logger


# No batch norm: so the loss of a batch is the mean of its parts' losses.
PLAIN = ModelConfig(name="test_vit")


SHORT = replace(CONFIG, sched=SchedConfig(), train=replace(CONFIG.train, epochs=1))


def vary(config: Config, **options: Any) -> Config:
    """The config with other values, given as section__key."""
    tables = config_to_dict(config)
    for name, value in options.items():
        section, _, key = name.partition("__")
        tables = merge(tables, {section: {key: value}})
    return config_from_dict(tables)
