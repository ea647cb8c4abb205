"""One run from config to predictions: setup, fit, validate, predict.

Everything random is derived from (seed, epoch), so a run resumed from last.pth goes on as if it had
never stopped.
"""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tracker.training.config import Config
from tracker.training.data.data import copy_tables
from tracker.training.errors import DataError, TrainingError, first_line
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import ImageSource
from tracker.training.input.pipeline_file import copy_pipeline_file
from tracker.training.logger import RunLogger
from tracker.training.machine import count_cores, count_trainings
from tracker.training.numbers import render_count
from tracker.training.predict.decide import (
    choose_decision,
    measure,
    plain_decision,
    save_decision,
    save_predictions,
)
from tracker.training.predict.predict import Predictor
from tracker.training.predict.probabilities import (
    Predictions,
    load_probabilities,
)
from tracker.training.processes import has_own_threads, share_work
from tracker.training.progress import Progress
from tracker.training.run.checkpoint import weights_fingerprint
from tracker.training.run.epoch import train_epoch
from tracker.training.run.setup import Setup, build_setup
from tracker.training.run.state import (
    LAST,
    Best,
    Part,
    load_best,
    restore,
    save_best,
    save_last,
)
from tracker.training.saves import SaveRequest, ask_by_signal
from tracker.training.targets import is_better
from tracker.training.watch import SIGNAL_S, is_loader_end, is_loader_terminated, name_signal


@dataclass(frozen=True)
class EpochReport:
    """The progress of a run after an epoch."""

    epoch: int
    best: Best
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class FitResult:
    """The result of a run."""

    best: Best
    weights_fingerprint: str
    predictions: Path | None


@contextmanager
def translate_torch_errors() -> Iterator[None]:
    """Turn torch's errors about memory, loader processes and compilation into TrainingErrors.

    Raises KeyboardInterrupt when a loader process was ended by SIGTERM: who ends all processes
    ended that one first.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            "the device has not enough memory for this batch",
            hint="lower train.batch_size or data.image_size",
        ) from error
    except DataError as error:
        # a loader process puts its traceback before that, and the hint behind it
        name = "tracker.training.errors.DataError: "
        lines = [line for line in str(error).splitlines() if line.startswith(name)]
        raise DataError(
            lines[-1].removeprefix(name) if lines else str(error), hint=error.hint
        ) from error
    except (RuntimeError, OSError, EOFError) as error:
        if is_loader_end(error):
            raise _describe_loader_end(error) from error
        if type(error).__module__.startswith("torch._dynamo"):
            raise TrainingError(
                f"torch.compile failed: {first_line(error)}", reason="compile failed"
            ) from error
        raise


def _describe_loader_end(error: BaseException) -> TrainingError | KeyboardInterrupt:
    """Why a loader process ended.

    Here KeyboardInterrupt is raised if this process gets its own signal a bit later.
    """
    if threading.current_thread() is threading.main_thread():
        # torch's handler would raise for each loader process that ends after this one
        signal.signal(signal.SIGCHLD, lambda *_: None)
    time.sleep(SIGNAL_S)
    if is_loader_terminated(error):
        return KeyboardInterrupt(name_signal(signal.SIGTERM))
    return TrainingError(
        f"a loader process died: {first_line(error)}",
        reason="loader process died",
    )


def fit(
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    root: Path,
    run_dir: Path,
    logger: RunLogger,
    on_epoch: Callable[[EpochReport], None],
    on_restored: Callable[[int, Best], None] = lambda *_: None,
    on_trained: Callable[[str], None] = lambda _: None,
    on_stuck: Callable[[BaseException], None] = lambda _: None,
    saving: SaveRequest | None = None,
    cache_dir: Path | None = None,
    resume: bool = False,
    threads: int | None = None,
    precision: str | None = None,
    quiet: bool = False,
    first: bool = True,
) -> FitResult:
    """Train, write best.pth and last.pth to `run_dir`, and predict with the best weights.

    `threads` are those that the run began with, where it is resumed: another number may change the
    last bits. By default the cores are divided among the trainings on this host.
    `precision` is what train.precision "auto" stands for on a CPU, by default float32.
    `on_restored` gets the last complete epoch of a resumed run and the best one, which a killed
    process may have saved and not told.
    `on_trained` gets the fingerprint of the best weights before the predictions are made.
    SIGUSR1 saves last.pth at the next step; `saving` says what happens then.
    `cache_dir` is for prepared images. With several processes this is called in each of them, and
    only the `first` one writes. When no error and no signal can free its main thread from waiting
    for the others, `on_stuck` is called in another thread, and the process ends. Raises
    ConfigError, WeightsError, NonFiniteLossError, DataError and StorageError; files that were
    written before stay.
    """
    progress = Progress(epochs=config.train.epochs, quiet=quiet, monitor=config.train.monitor)
    source = ImageSource(root, data.hashes, cache_dir)
    work = {
        "config": config,
        "data": data,
        "task": task,
        "root": root,
        "run_dir": run_dir,
        "cache_dir": cache_dir,
        "precision": precision,
    }
    if first:  # copies in the run folder, so that the run can be repeated
        copy_pipeline_file(config.augment, root, run_dir)
        copy_tables(config.data, root, run_dir)
        # without one the run ended before its first epoch was complete, and starts again
        resume = resume and (run_dir / LAST).is_file()
    saving = saving or SaveRequest()
    group = share_work(
        config.train,
        {**work, "resume": resume},
        first=first,
        on_stuck=on_stuck,
        threads=threads,
    )
    with group as environment, ask_by_signal(saving) if first else nullcontext(), progress:
        if count_trainings() > 1:
            progress.notify(_describe_share(threads))
        setup = build_setup(
            config,
            data,
            task,
            source=source,
            run_dir=run_dir,
            logger=logger,
            environment=environment,
            resume=resume,
            notify=progress.notify,
            precision=precision,
        )
        setup.saving = saving
        logger.params(_describe(setup))
        start = restore(setup) if resume else (0, None, None)
        epoch, best, position = start
        if best is not None:
            on_restored(epoch, best)
        if position:
            progress.notify(f"goes on in epoch {epoch + 1}, after batch {position.batches}")
        best = _train(setup, progress, start, on_epoch)
        if first:
            logger.artifact(run_dir / "best.pth")
        return _finish(setup, progress, best, on_trained)


def _train(
    setup: Setup,
    progress: Progress,
    start: tuple[int, Best | None, Part | None],
    on_epoch: Callable[[EpochReport], None],
) -> Best:
    """The epochs after the first of `start`, until they are done or train.patience is over.

    `start` is what `restore` gives: the last epoch, the best one, and a part of the next.
    """
    train = setup.config.train
    epoch, best, part = start
    progress.begin(batches=len(setup.train_loader), done=epoch)
    started, before = time.monotonic(), epoch
    predictor = _build_predictor(setup)
    while epoch < train.epochs:
        if best and train.patience and epoch - best.epoch >= train.patience:
            break
        epoch += 1
        # train and validate
        save = partial(_save_part, setup, progress, epoch, best)
        metrics = train_epoch(setup, epoch, progress, save=save, part=part)
        part = None
        progress.validate(epoch=epoch)
        validation = predictor.validate(setup.eval_model)
        metrics |= _measure(setup, validation, progress)
        improved = best is None or _is_better(setup.task, train.monitor, metrics, best.metrics)
        if best is None or improved:
            best = Best(epoch, metrics)
        setup.logger.metrics(metrics, step=epoch, epoch=epoch)
        # best.pth before last.pth: a resume from last.pth expects the best weights of its epochs
        if improved:
            save_best(setup, best, validation)
        save_last(setup, epoch, best)
        on_epoch(EpochReport(epoch, best, metrics))
        setup.saving.answer()
        # the time left, by the epochs of this process
        pace = (time.monotonic() - started) / (epoch - before)
        left = pace * (train.epochs - epoch)
        progress.epoch(epoch=epoch, metrics=metrics, best=improved, seconds_left=left)
    assert best is not None  # noqa: S101  (epochs >= 1)
    if epoch < train.epochs:
        progress.notify(
            f"stopped after epoch {epoch}: {train.monitor} was best in epoch {best.epoch}"
        )
    return best


def _build_predictor(setup: Setup) -> Predictor:
    compiled = setup.config.train.compile
    return Predictor(
        setup.config, setup.data, setup.task, setup.fabric, setup.source, compiled=compiled
    )


def _save_part(setup: Setup, progress: Progress, epoch: int, best: Best | None, part: Part) -> None:
    """Write last.pth within `epoch`, after the batches of `part`."""
    save_last(setup, epoch - 1, best, part)
    batches = len(setup.train_sampler)
    progress.notify(f"last.pth saved in epoch {epoch}, after batch {part.batches} of {batches}")
    setup.saving.answer()


def _describe_share(begun_with: int | None) -> str:
    """How many threads this training uses beside others; where it is not its share, why.

    `begun_with` is the number that a resumed run began with, where it is one.
    """
    used = torch.get_num_threads()
    threads = render_count(used, "thread")
    others = f"{count_trainings()} trainings share this machine: this one"
    if begun_with == used:
        return (
            f"{others} goes on with {threads}, as it began: another number may change the weights"
        )
    if has_own_threads():
        return f"{others} uses {threads}, as OMP_NUM_THREADS says"
    return f"{others} uses {threads} of {count_cores()}"


def _describe(setup: Setup) -> dict[str, Any]:
    sharing = {"trainings_on_host": count_trainings()} if count_trainings() > 1 else {}
    return {
        **sharing,
        "classes": list(setup.task.classes),
        "device": str(setup.fabric.device),
        "processes": setup.fabric.world_size,
        "precision": setup.fabric.strategy.precision.precision,
        "parameters": sum(p.numel() for p in setup.model.parameters()),
        "trained_parameters": sum(p.numel() for p in setup.model.parameters() if p.requires_grad),
        "train_images": len(setup.data.train),
        "val_images": len(setup.data.val),
        "eval_images": len(setup.data.eval),
        "threads": torch.get_num_threads(),
    }


def _measure(setup: Setup, validation: Predictions, progress: Progress) -> dict[str, float]:
    """val/loss and the metrics of `measure`, by the decision of the config before any tuning."""
    assert validation.labels is not None  # noqa: S101  (the validation set has labels)
    logits, truth = torch.from_numpy(validation.logits), torch.from_numpy(validation.labels)
    decision = plain_decision(setup.task, setup.config.eval)
    warn = progress.warn if setup.fabric.is_global_zero else lambda _: None
    scores = measure(validation, setup.task, decision, on_failure=warn)
    return {"val/loss": float(setup.loss(logits, truth)), **scores}


def _is_better(
    task: Task, monitor: str, new: Mapping[str, float], old: Mapping[str, float]
) -> bool:
    if math.isnan(old[monitor]):
        return not math.isnan(new[monitor])
    return is_better(task, monitor, new[monitor], old[monitor])


def _finish(
    setup: Setup, progress: Progress, best: Best, on_trained: Callable[[str], None]
) -> FitResult:
    """Fingerprint the best weights, draw their validation results, and predict with them."""
    fingerprint = weights_fingerprint(load_best(setup))
    first = setup.fabric.is_global_zero
    if first:
        from tracker.training.pictures.figures import draw_validation

        on_trained(fingerprint)
        progress.finish("drawing")
        validation = load_probabilities(setup.run_dir / "validation.npz")
        paths = {sample.id: sample.path for sample in setup.data.val}
        for figure in draw_validation(validation, paths, setup.run_dir, setup.task):
            setup.logger.artifact(figure)
    predictions = None
    decision = plain_decision(setup.task, setup.config.eval)
    if first:
        decision = choose_decision(setup.task, setup.config.eval, validation)
        save_decision(setup.run_dir, decision)
        if decision.note:
            progress.notify(decision.note)
    if setup.data.eval:
        progress.finish("predicting")
        evaluation = _build_predictor(setup).evaluate(setup.eval_model)
        if first:
            predictions = save_predictions(setup.run_dir, evaluation, setup.task, decision)
            setup.logger.artifact(predictions)
    return FitResult(best, fingerprint, predictions)
