"""One run from config to predictions: setup, fit, validate, predict.

Everything random is derived from (seed, epoch), so a run resumed from last.pth goes on as if it had never stopped.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from training.atomic import atomic_path
from training.checkpoint import load_checkpoint, save_checkpoint, weights_fingerprint
from training.config import Config, EvalConfig, config_fingerprint, config_to_dict
from training.data import LoadedData, Task
from training.errors import ConfigError, DataError, NonFiniteLossError, TrackerError
from training.loader import BatchSampler, Source, build_dataset, build_loader
from training.logger import RunLogger
from training.losses import Loss, build_loss
from training.model import build_model, resolve_precision
from training.optim import build_optimizer, lr_factor
from training.pipeline_file import keep_pipeline_file
from training.predict import predict_probabilities
from training.probabilities import save_predictions
from training.progress import Progress
from training.scores import accuracy, confusion_matrix, f1_by_class, macro_f1


@dataclass(frozen=True)
class Best:
    """The epoch whose weights are in best.pth, and its metrics."""

    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class EpochReport:
    """How far a run has come."""

    epoch: int
    best: Best
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FitResult:
    """How a run ended."""

    best: Best
    weights_fingerprint: str
    predictions: Path | None


@dataclass
class _Setup:
    """What the loop works with; made once."""

    config: Config
    data: LoadedData
    task: Task
    run_dir: Path
    logger: RunLogger
    fabric: Fabric
    model: Any
    optimizer: Any
    scheduler: torch.optim.lr_scheduler.LambdaLR
    loss: Loss
    train_loader: Any
    train_sampler: BatchSampler
    val_loader: Any
    source: Source


@contextmanager
def translate_torch_errors() -> Iterator[None]:
    """Turn torch's errors about memory and loader processes into ours, in one line."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrackerError(
            "the device has not enough memory for this batch", hint="lower train.batch_size or data.image_size"
        ) from error
    except DataError as error:
        last_line = str(error).strip().splitlines()[-1]  # a loader process puts its traceback before it
        raise DataError(last_line.removeprefix("training.errors.DataError: "), hint=error.hint) from error
    except RuntimeError as error:
        if "DataLoader worker" not in str(error):
            raise
        raise TrackerError(
            f"a loader process died: {str(error).splitlines()[0]}",
            hint="memory may be short: lower data.workers or train.batch_size, then --resume",
        ) from error


def fit(
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    root: Path,
    run_dir: Path,
    logger: RunLogger,
    on_epoch: Callable[[EpochReport], None],
    on_trained: Callable[[str], None] = lambda _: None,
    cache_dir: Path | None = None,
    resume: bool = False,
    quiet: bool = False,
) -> FitResult:
    """Train, keep best.pth and last.pth in `run_dir`, and predict the evaluation images with the best weights.

    `on_trained` gets the fingerprint of the best weights before inference is spent on them; `cache_dir` is for images.
    Raises ConfigError, WeightsError, NonFiniteLossError, DataError and StorageError; what was written before stays.
    """
    setup, note = _build_setup(config, data, task, root=root, run_dir=run_dir, logger=logger, cache_dir=cache_dir)
    keep_pipeline_file(config.augment, root, run_dir)
    logger.params(_describe(setup))
    epoch, best = _restore(setup) if resume else (0, None)
    progress = Progress(epochs=config.train.epochs, batches=len(setup.train_loader), quiet=quiet)
    with progress:
        if note:
            progress.say(note)
        progress.skip(epoch)
        started, first = time.monotonic(), epoch
        while epoch < config.train.epochs:
            epoch += 1
            metrics = _train_epoch(setup, epoch, progress)
            probabilities, val_metrics = _validate(setup)
            metrics |= val_metrics
            logger.metrics(metrics, step=epoch, epoch=epoch)
            if best is None or _is_better(config.train.monitor, metrics, best.metrics):
                best = Best(epoch, metrics)
                _save_best(setup, best, probabilities)
            _save_last(setup, epoch, best)
            on_epoch(EpochReport(epoch, best, metrics))
            pace = (time.monotonic() - started) / (epoch - first)
            progress.epoch(
                epoch=epoch,
                metrics=metrics,
                best=best.epoch == epoch,
                seconds_left=pace * (config.train.epochs - epoch),
            )
    assert best is not None  # noqa: S101  (epochs >= 1)
    logger.artifact(run_dir / "best.pth")
    return _finish(setup, best, on_trained)


def _build_setup(
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    root: Path,
    run_dir: Path,
    logger: RunLogger,
    cache_dir: Path | None,
) -> tuple[_Setup, str]:
    train = config.train
    if train.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError("train.accelerator: no CUDA device here", hint="--set train.accelerator=auto")
    if train.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("train.accelerator: no MPS device here", hint="--set train.accelerator=auto")
    torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
    device = train.accelerator
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    precision, note = resolve_precision(train.precision, device)
    fabric = Fabric(accelerator=device, devices=1, precision=precision)
    _seed(train.seed, 0)
    module = build_model(config.model, num_classes=len(task.classes), image_size=config.data.image_size, root=root).to(
        memory_format=torch.channels_last
    )
    model, optimizer = fabric.setup(module, build_optimizer(module.parameters(), config.optim))
    paths = [sample.path for sample in data.train]
    labels = [sample.label for sample in data.train]
    source = Source(root, data.hashes, cache_dir)
    dataset, cache_note = build_dataset(config, paths, labels, source, train=True)
    sampler = BatchSampler(len(paths), train.batch_size, shuffle=True, seed=train.seed)
    train_loader = build_loader(dataset, sampler, workers=config.data.workers, pin_memory=device == "cuda")
    steps = len(sampler)
    scheduler = torch.optim.lr_scheduler.LambdaLR(
        optimizer.optimizer,
        lambda step: lr_factor(step, steps_per_epoch=steps, epochs=train.epochs, config=config.sched),
    )
    val_loader = eval_loader(
        config, [s.path for s in data.val], [s.label for s in data.val], train.eval_batch_size, source
    )
    setup = _Setup(
        config=config,
        data=data,
        task=task,
        run_dir=run_dir,
        logger=logger,
        fabric=fabric,
        model=model,
        optimizer=optimizer,
        scheduler=scheduler,
        loss=build_loss(config.loss),
        train_loader=train_loader,
        train_sampler=sampler,
        val_loader=val_loader,
        source=source,
    )
    return setup, note or cache_note


def eval_loader(
    config: Config,
    paths: list[Path],
    labels: list[int],
    batch_size: int,
    source: Source,
    *,
    evaluation: EvalConfig | None = None,
) -> Any:
    """Batches in the order given; nothing in them is random but the colour jitter of `evaluation`."""
    dataset, _ = build_dataset(config, paths, labels, source, train=False, evaluation=evaluation)
    sampler = BatchSampler(len(paths), batch_size, shuffle=False, seed=config.train.seed)
    return build_loader(dataset, sampler, workers=config.data.workers, pin_memory=False)


def _seed(seed: int, epoch: int) -> None:
    """Seed torch (dropout, drop path, initial weights) for one epoch."""
    torch.manual_seed(int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0]))


def _describe(setup: _Setup) -> dict[str, Any]:
    return {
        "classes": list(setup.task.classes),
        "device": str(setup.fabric.device),
        "precision": setup.fabric.strategy.precision.precision,
        "parameters": sum(p.numel() for p in setup.model.parameters()),
        "train_images": len(setup.data.train),
        "val_images": len(setup.data.val),
        "eval_images": len(setup.data.eval),
        "threads": torch.get_num_threads(),
    }


def _train_epoch(setup: _Setup, epoch: int, progress: Progress) -> dict[str, float]:
    """One pass; returns train/loss, train/accuracy, train/f1, lr and train/images_per_s."""
    _seed(setup.config.train.seed, epoch)
    setup.train_sampler.epoch = epoch
    setup.model.train()
    started, batches, classes = time.monotonic(), len(setup.train_loader), len(setup.task.classes)
    confusion = np.zeros((classes, classes), dtype=np.int64)
    total, seen, recent, lr = 0.0, 0, [], 0.0
    for number, (images, labels, indices) in enumerate(setup.train_loader, start=1):
        batch = setup.fabric.to_device(images.contiguous(memory_format=torch.channels_last))
        targets = setup.fabric.to_device(labels)
        logits = setup.model(batch)
        loss = setup.loss(logits.float(), targets)
        value = float(loss.detach())
        step = (epoch - 1) * batches + number
        if not math.isfinite(value):
            raise _non_finite(value, epoch, number, batches, [setup.data.train[i].id for i in indices.tolist()])
        setup.fabric.backward(loss)
        setup.optimizer.step()
        setup.optimizer.zero_grad()
        lr = float(setup.scheduler.get_last_lr()[0])
        setup.scheduler.step()
        guesses = logits.detach().argmax(1).cpu().numpy()
        confusion += confusion_matrix(labels.numpy(), guesses, classes)
        total, seen = total + value * len(labels), seen + len(labels)
        recent.append(value)
        if step % setup.config.train.log_every == 0:
            setup.logger.metrics({"train/batch_loss": sum(recent) / len(recent), "lr": lr}, step=step, epoch=epoch)
            recent = []
        progress.batch(epoch=epoch, images=len(labels), loss=value)
    return {
        "train/loss": total / seen,
        "train/accuracy": accuracy(confusion),
        "train/f1": macro_f1(confusion),
        "train/lr": lr,
        "train/images_per_s": seen / (time.monotonic() - started),
    }


def _non_finite(value: float, epoch: int, number: int, batches: int, ids: list[str]) -> NonFiniteLossError:
    names = ", ".join(ids[:4]) + (f" and {len(ids) - 4} more" if len(ids) > 4 else "")
    return NonFiniteLossError(
        f"the loss is {value} in epoch {epoch}, batch {number} of {batches} ({names}); the weights were not updated",
        hint="lower optim.lr, lengthen sched.warmup_epochs, or look at these images",
    )


def _validate(setup: _Setup) -> tuple[NDArray[np.float32], dict[str, float]]:
    """Probabilities [images, classes], and val/loss, val/accuracy, val/f1 and val/f1/<class>."""
    truth = np.array([sample.label for sample in setup.data.val], dtype=np.int64)
    logits, probabilities = predict_probabilities(setup.fabric, setup.model, setup.val_loader)
    loss = float(setup.loss(logits, torch.from_numpy(truth)))
    confusion = confusion_matrix(truth, probabilities.argmax(1).astype(np.int64), len(setup.task.classes))
    by_class = zip(setup.task.classes, f1_by_class(confusion), strict=True)
    return probabilities, {
        "val/loss": loss,
        "val/accuracy": accuracy(confusion),
        "val/f1": macro_f1(confusion),
        **{f"val/f1/{name}": float(f1) for name, f1 in by_class},
    }


def _is_better(monitor: str, new: Mapping[str, float], old: Mapping[str, float]) -> bool:
    if math.isnan(old[monitor]):
        return not math.isnan(new[monitor])
    return new[monitor] < old[monitor] if monitor == "val/loss" else new[monitor] > old[monitor]


def _save_best(setup: _Setup, best: Best, probabilities: NDArray[np.float32]) -> None:
    """best.pth, and validation.npz: what these weights said about every validation image."""
    with atomic_path(setup.run_dir / "validation.npz") as temporary, temporary.open("wb") as file:
        np.savez_compressed(
            file,
            ids=np.array([sample.id for sample in setup.data.val]),
            labels=np.array([sample.label for sample in setup.data.val], dtype=np.int64),
            probabilities=probabilities,
        )
    save_checkpoint(
        setup.run_dir / "best.pth",
        {
            "model": setup.model.module.state_dict(),
            "epoch": best.epoch,
            "metrics": dict(best.metrics),
            "classes": list(setup.task.classes),
            "config": json.dumps(config_to_dict(setup.config)),
        },
    )


def _save_last(setup: _Setup, epoch: int, best: Best) -> None:
    save_checkpoint(
        setup.run_dir / "last.pth",
        {
            "model": setup.model.module.state_dict(),
            "optimizer": setup.optimizer.optimizer.state_dict(),
            "scheduler": setup.scheduler.state_dict(),
            "precision": setup.fabric.strategy.precision.state_dict(),
            "epoch": epoch,
            "best": {"epoch": best.epoch, "metrics": dict(best.metrics)},
            "config_fingerprint": config_fingerprint(config_to_dict(setup.config)),
        },
    )


def _restore(setup: _Setup) -> tuple[int, Best | None]:
    """Load last.pth; a run that was stopped before its first epoch was complete starts again."""
    path = setup.run_dir / "last.pth"
    if not path.exists():
        return 0, None
    state = load_checkpoint(path)
    if state["config_fingerprint"] != config_fingerprint(config_to_dict(setup.config)):
        raise ConfigError(
            f"{setup.run_dir.name} was trained with another config",
            hint=f"resume it unchanged, or start a new run: tracker run train --from {setup.run_dir.name}",
        )
    setup.model.module.load_state_dict(state["model"])
    setup.optimizer.optimizer.load_state_dict(state["optimizer"])
    setup.scheduler.load_state_dict(state["scheduler"])
    setup.fabric.strategy.precision.load_state_dict(state["precision"])
    return state["epoch"], Best(state["best"]["epoch"], state["best"]["metrics"])


def _finish(setup: _Setup, best: Best, on_trained: Callable[[str], None]) -> FitResult:
    """Fingerprint the best weights and predict with them; draw the figures."""
    from training.figures import draw_confusion

    state = load_checkpoint(setup.run_dir / "best.pth")["model"]
    fingerprint = weights_fingerprint(state)
    on_trained(fingerprint)
    setup.model.module.load_state_dict(state)
    with np.load(setup.run_dir / "validation.npz") as kept:
        guesses = kept["probabilities"].argmax(1).astype(np.int64)
        confusion = confusion_matrix(kept["labels"], guesses, len(setup.task.classes))
    setup.logger.artifact(draw_confusion(confusion, setup.task.classes, setup.run_dir / "confusion.png"))
    predictions = None
    if setup.data.eval:
        paths = [image.path for image in setup.data.eval]
        evaluation = setup.config.eval
        loader = eval_loader(
            setup.config, paths, [0] * len(paths), evaluation.batch_size, setup.source, evaluation=evaluation
        )
        _, probabilities = predict_probabilities(setup.fabric, setup.model, loader)
        predictions = save_predictions(
            setup.run_dir, [image.id for image in setup.data.eval], probabilities, setup.task
        )
        setup.logger.artifact(predictions)
    return FitResult(best, fingerprint, predictions)
