"""How long does an epoch take? Against the winners' loop re-made, and a loop of timm's parts.

Everything on the CPU: resnet18 at 224 pixels, batch 16, one loader process, photographs of 384 x
512 pixels. The candidates take turns, an epoch each, every one in a process of its own; ours is
timed from its second epoch on, when its input cache is full.
"""

from __future__ import annotations

import argparse
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import timm
import torch
from figures import Row, record
from matplotlib import pyplot
from sklearn.metrics import f1_score
from timing import print_table
from torch.utils.data import DataLoader
from winners import MEAN, STD, TASK, Photographs, build_custom, make_photographs

from tracker.training.config import (
    AugmentConfig,
    Config,
    DataConfig,
    ModelConfig,
    OptimConfig,
    SchedConfig,
    TrainConfig,
)
from tracker.training.data.data import load_data
from tracker.training.formats.samples import LoadedData
from tracker.training.run import loop
from tracker.training.run.worker import NullLogger

BATCH = 16
GOALS = {"training": 1.25, "whole epoch": 1.5}
GOAL_HALF = 2.3  # with AMX


class WinnersLoop:
    """Jitter in training and validation, `.item()` and F1 at every step, a figure and a checkpoint
    every epoch."""

    def __init__(self, data: LoadedData, folder: Path) -> None:
        custom = build_custom(224)
        self._folder = folder
        self._model = timm.create_model("resnet18", num_classes=18)
        self._optimizer = torch.optim.AdamW(self._model.parameters(), lr=1e-3)
        self._train = _loader(
            Photographs([(s.path, s.label) for s in data.train], custom), shuffle=True
        )
        self._val = _loader(
            Photographs([(s.path, s.label) for s in data.val], custom), shuffle=False
        )

    def epoch(self) -> dict[str, float]:
        """Seconds of the training part and of all."""
        started = time.perf_counter()
        self._model.train()
        matches, losses = 0, 0.0
        for images, labels in self._train:
            self._optimizer.zero_grad()
            outs = self._model(images)
            guesses = torch.argmax(outs, dim=-1)
            loss = torch.nn.functional.cross_entropy(outs, labels)
            loss.backward()
            self._optimizer.step()
            losses += loss.item()
            matches += (guesses == labels).sum().item()
            f1_score(labels.numpy(), guesses.numpy(), average="macro", zero_division=0)
        trained = time.perf_counter()
        self._model.eval()
        figure = None
        with torch.no_grad():
            for images, labels in self._val:
                outs = self._model(images)
                guesses = torch.argmax(outs, dim=-1)
                f1_score(labels.numpy(), guesses.numpy(), average="macro", zero_division=0)
                figure = figure or _draw_grid(images, labels, guesses)
        if figure is not None:
            figure.savefig(self._folder / "grid.png")
            pyplot.close(figure)
        torch.save(self._model.state_dict(), self._folder / "best.pth")
        torch.save(self._model.state_dict(), self._folder / "last.pth")
        return {"train": trained - started, "epoch": time.perf_counter() - started}


class TimmLoop:
    """The training script of timm as its parts give it: its loader, optimiser, and update, loss
    read now and then."""

    def __init__(self, data: LoadedData, folder: Path) -> None:
        from timm.data import create_transform
        from timm.optim import create_optimizer_v2

        transform = create_transform(
            (3, 224, 224), is_training=True, color_jitter=0.1, mean=MEAN, std=STD
        )
        plain = create_transform((3, 224, 224), is_training=False, mean=MEAN, std=STD)
        self._folder = folder
        self._model = timm.create_model("resnet18", num_classes=18)
        self._optimizer = create_optimizer_v2(self._model, opt="adamw", lr=1e-3)
        self._train = _loader(
            Photographs([(s.path, s.label) for s in data.train], transform), shuffle=True
        )
        self._val = _loader(
            Photographs([(s.path, s.label) for s in data.val], plain), shuffle=False
        )

    def epoch(self) -> dict[str, float]:
        """Seconds of the training part and of all."""
        started = time.perf_counter()
        self._model.train()
        for images, labels in self._train:
            loss = torch.nn.functional.cross_entropy(self._model(images), labels)
            loss.backward()
            self._optimizer.step()
            self._optimizer.zero_grad()
        trained = time.perf_counter()
        self._model.eval()
        with torch.no_grad():
            for images, labels in self._val:
                torch.nn.functional.cross_entropy(self._model(images), labels).item()
        torch.save(
            {"model": self._model.state_dict(), "optimizer": self._optimizer.state_dict()},
            self._folder / "checkpoint.pth",
        )
        return {"train": trained - started, "epoch": time.perf_counter() - started}


class Apart:
    """A loop in a process of its own: what tracker sets for its process must not help it."""

    def __init__(self, kind: type[WinnersLoop | TimmLoop], data: LoadedData, folder: Path) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=_serve, args=(kind, data, folder, other))
        self._process.start()
        other.close()

    def epoch(self) -> dict[str, float]:
        """Seconds of the training part and of all; raises EOFError when the process has ended."""
        self._pipe.send("epoch")
        times: dict[str, float] = self._pipe.recv()
        return times

    def end(self) -> None:
        """End the process."""
        self._pipe.close()
        self._process.join()


def _serve(
    kind: type[WinnersLoop | TimmLoop], data: LoadedData, folder: Path, pipe: Connection
) -> None:
    loop = kind(data, folder)
    with suppress(EOFError):
        while pipe.recv():
            pipe.send(loop.epoch())


def _loader(dataset: Photographs, *, shuffle: bool) -> DataLoader[Any]:
    return DataLoader(dataset, BATCH, shuffle=shuffle, num_workers=1, persistent_workers=True)


def _draw_grid(images: torch.Tensor, labels: torch.Tensor, guesses: torch.Tensor) -> Any:
    figure = pyplot.figure(figsize=(12, 20))
    for number in range(min(16, len(images))):
        axes = figure.add_subplot(
            4, 4, number + 1, title=f"gt: {labels[number]}, pred: {guesses[number]}"
        )
        axes.axis("off")
        axes.imshow((images[number].permute(1, 2, 0).numpy() * STD + MEAN).clip(0, 1))
    return figure


class Clock:
    """Adds up the seconds spent inside a function."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def around(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, timed."""

        def timed(*args: Any, **options: Any) -> Any:
            started = time.perf_counter()
            try:
                return function(*args, **options)
            finally:
                self.seconds += time.perf_counter() - started

        return timed


def list_verdicts(name: str, ratios: Sequence[str], precision: str) -> list[Row]:
    """The rows of BENCHMARKS.md for the loop that the goals are about."""
    if name != "the winners' loop":
        return []
    rows = []
    for part, ratio in zip(GOALS, ratios, strict=True):
        goal = GOALS[part] if precision == "32-true" else GOAL_HALF
        what = f"CPU training, resnet18 at 224, {precision}: {part}"
        ours, reached = f"{ratio} times the winners' loop", float(ratio) >= goal
        reason = "the matrix product of float32 is the most of a step"
        rows.append(Row(what, ours, "1.00", goal=f"{goal:g}", reached=reached, reason=reason))
    return rows


def compare_epochs(config: Config, data: LoadedData, folder: Path, rounds: int) -> None:
    """Our epochs and the others' in turn; prints medians."""
    theirs = folder / "theirs"
    theirs.mkdir()
    others = {
        "the winners' loop": Apart(WinnersLoop, data, theirs),
        "timm's parts": Apart(TimmLoop, data, theirs),
    }
    times: dict[str, list[dict[str, float]]] = {name: [] for name in ("tracker", *others)}
    shares: list[tuple[float, float]] = []
    compute = Clock()
    originals = (
        loop._forward,
        loop._update_weights,
        torch.Tensor.backward,
    )  # what a step must do anyway
    loop._forward, loop._update_weights = compute.around(originals[0]), compute.around(originals[1])
    torch.Tensor.backward = compute.around(originals[2])
    (folder / "ours").mkdir()
    started = time.perf_counter()

    def take_turns(report: loop.EpochReport) -> None:
        nonlocal started
        whole = time.perf_counter() - started
        trained = len(data.train) / report.metrics["train/images_per_s"]
        waited = report.metrics["train/data_wait"]
        if report.epoch > 1:
            times["tracker"].append({"train": trained, "epoch": whole})
            shares.append((waited, 1 - waited - compute.seconds / trained))
        for name, other in others.items():
            found = other.epoch()
            if report.epoch > 1:
                times[name].append(found)
        compute.seconds, started = 0.0, time.perf_counter()

    loop.fit(
        replace(config, train=replace(config.train, epochs=rounds + 1)),
        data,
        TASK,
        root=folder,
        run_dir=folder / "ours",
        logger=NullLogger(),  # the recorder costs 7 us a call, see logging_cost.py
        on_epoch=take_turns,
        cache_dir=folder / "cache",
        quiet=True,
    )
    loop._forward, loop._update_weights, torch.Tensor.backward = originals
    for other in others.values():
        other.end()
    rows = []
    ours = {
        part: statistics.median(each[part] for each in times["tracker"])
        for part in ("train", "epoch")
    }
    for name, found in times.items():
        medians = {
            part: statistics.median(each[part] for each in found) for part in ("train", "epoch")
        }
        ratios = [f"{medians[part] / ours[part]:.2f}" for part in ("train", "epoch")]
        record(list_verdicts(name, ratios, config.train.precision))
        rows.append(
            (
                name,
                f"{len(data.train) / medians['train']:.1f}",
                ratios[0],
                f"{medians['epoch']:.1f}",
                ratios[1],
            )
        )
    columns = (
        "loop",
        "training images/s",
        "tracker is so many times quicker",
        "whole epoch, s",
        "so many times quicker",
    )
    print_table(
        f"Epochs of {len(data.train)} + {len(data.val)} images, {rounds} rounds,"
        f" tracker in {config.train.precision}",
        columns,
        rows,
    )
    wait, own = (100 * statistics.median(values) for values in zip(*shares, strict=True))
    print(
        f"tracker: waiting for data {wait:.2f} % of the training part, the loop's own work"
        f" {own:.2f} %"
    )


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument(
        "--precision", default="32-true", choices=("32-true", "bf16-mixed"), help="tracker's"
    )
    options = parser.parse_args()
    config = Config(
        data=DataConfig(
            format="mask_profiles",
            train_dir="train",
            eval_dir="eval",
            split="by_profile",
            image_size=(224, 224),
            workers=1,
        ),
        augment=AugmentConfig(name="custom", jitter_mode="fast"),
        model=ModelConfig(name="resnet18"),
        optim=OptimConfig(lr=1e-3),
        sched=SchedConfig(name="constant"),
        train=TrainConfig(
            batch_size=BATCH,
            eval_batch_size=BATCH,
            accelerator="cpu",
            precision=options.precision,
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder, options.people)
        data = load_data(config.data, TASK, root=folder)
        compare_epochs(config, data, folder, options.rounds)


if __name__ == "__main__":
    main()
