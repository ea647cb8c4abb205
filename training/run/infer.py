"""Predict with a trained model and another eval section: crops, views or batch sizes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from tracker.training.config import Config
from tracker.training.errors import WeightsError, first_line
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import ImageSource
from tracker.training.logger import RunLogger
from tracker.training.model.losses import build_loss
from tracker.training.model.model import build_model, find_scale
from tracker.training.numbers import render_count
from tracker.training.pictures.figures import draw_validation
from tracker.training.predict.decide import (
    choose_decision,
    measure,
    plain_decision,
    save_decision,
    save_predictions,
)
from tracker.training.predict.predict import Predictor
from tracker.training.predict.probabilities import save_probabilities
from tracker.training.progress import Progress
from tracker.training.run.checkpoint import load_checkpoint, weights_fingerprint
from tracker.training.run.setup import build_fabric
from tracker.training.targets import count_outputs

Weights = dict[str, torch.Tensor]  # a state dict


def load_weights(path: Path) -> tuple[Weights, str]:
    """The weights of a best.pth and their fingerprint; raises WeightsError."""
    state: Weights = load_checkpoint(path)["model"]
    return state, weights_fingerprint(state)


def rebuild_model(config: Config, task: Task, weights: Weights, *, root: Path) -> nn.Module:
    """The model of a config with the weights of a trained run.

    Raises ConfigError, and WeightsError when they do not fit.
    """
    model = build_model(
        replace(config.model, pretrained=False),
        num_classes=count_outputs(task),
        is_number=task.target == "number",
        image_size=config.data.image_size,
        root=root,
    )
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise WeightsError(
            f"the weights do not fit {config.model.name}: {first_line(error)}"
        ) from error
    return model


def infer(
    config: Config,
    data: LoadedData,
    task: Task,
    weights: Weights,
    *,
    source: ImageSource,
    run_dir: Path,
    logger: RunLogger,
    precision: str | None = None,
    quiet: bool = False,
) -> tuple[dict[str, float], Path | None]:
    """Predict validation and evaluation images with the settings of the eval section.

    `precision` is what train.precision "auto" stands for on a CPU, by default float32. Returns
    val/* metrics and the path of predictions.csv. Raises ConfigError, DataError and StorageError.
    """
    alone = replace(config, train=replace(config.train, devices=1, num_nodes=1))
    with Progress(epochs=1, quiet=quiet) as progress:
        fabric = build_fabric(alone, environment=None, notify=progress.notify, precision=precision)
        logger.params({"precision": fabric.strategy.precision.precision})
        model = rebuild_model(config, task, weights, root=source.root)
        module = fabric.setup_module(model.to(memory_format=torch.channels_last))
        predictor = Predictor(alone, data, task, fabric, source)
        progress.notify(f"{len(data.val)} validation images")
        validation = predictor.validate_as_eval(module)
        save_probabilities(run_dir / "validation.npz", validation)
        paths = {sample.id: sample.path for sample in data.val}
        for figure in draw_validation(validation, paths, run_dir, task):
            logger.artifact(figure)
        compute_loss = build_loss(config.loss, target=task.target, scale=find_scale(model))
        loss = compute_loss(
            torch.from_numpy(validation.logits), torch.from_numpy(validation.labels)
        )
        scores = measure(
            validation, task, plain_decision(task, config.eval), on_failure=progress.warn
        )
        metrics = {"val/loss": float(loss), **scores}
        decision = choose_decision(task, config.eval, validation)
        save_decision(run_dir, decision)
        if not data.eval:
            return metrics, None
        progress.notify(f"{render_count(len(data.eval), 'image')} to predict")
        path = save_predictions(run_dir, predictor.evaluate(module), task, decision)
        logger.artifact(path)
        return metrics, path
