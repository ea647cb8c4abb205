"""How long does an epoch take? Against the winners' loop re-made, and a loop of timm's parts.

Everything on the CPU: resnet18 at 224 pixels, batch 16, one loader process, photographs of 384 x
512 pixels; ours in float32, and in what `train.precision = "auto"` chooses here. The candidates
take turns, an epoch each, every one in a process of its own; ours is timed from its second epoch
on, when its input cache is full. The limit is what matrix products of the same number of
multiplications take.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import timm
import torch
from apart import SPINNING, TRACKER, Apart, apart, wait_for_word
from figures import Row, record
from matplotlib import pyplot
from sklearn.metrics import f1_score
from timing import print_table
from torch.utils.data import DataLoader
from torch.utils.flop_counter import FlopCounterMode
from winners import (
    AUGMENT,
    DATA,
    MEAN,
    SIZE,
    STD,
    TASK,
    Photographs,
    build_custom,
    make_photographs,
)

from tracker.training.config import (
    Config,
    ModelConfig,
    OptimConfig,
    SchedConfig,
    TrainConfig,
)
from tracker.training.data.data import load_data
from tracker.training.formats.samples import LoadedData
from tracker.training.machine import has_amx, has_bfloat16, name_processor
from tracker.training.predict.predict import Predictor
from tracker.training.run import epoch, loop
from tracker.training.run.precision import measure_steps
from tracker.training.run.worker import NullLogger

BATCH = 16
PARTS = {"train": "training", "epoch": "whole epoch"}
GOALS = {"32-true": {"train": 1.25, "epoch": 1.5}, "bf16-mixed": {"train": 2.3, "epoch": 2.3}}
BASE, TIMM = "the winners' loop", "timm's parts"
CONFIG = Config(
    data=DATA,
    augment=AUGMENT,
    model=ModelConfig(name="resnet18"),
    optim=OptimConfig(lr=1e-3),
    sched=SchedConfig(name="constant"),
    train=TrainConfig(
        batch_size=BATCH, eval_batch_size=BATCH, accelerator="cpu", precision="32-true"
    ),
)
# a product of two square matrices of this size, of which one takes some 0.1 s
MATRIX, PRODUCTS = 2048, 5


class Loop(Protocol):
    """A loop with an epoch at a time."""

    def epoch(self) -> dict[str, float]:
        """Seconds of the training part and of all."""


class WinnersLoop:
    """Jitter in training and validation, `.item()` and F1 at every step, a figure and a checkpoint
    every epoch."""

    def __init__(self, data: LoadedData, folder: Path) -> None:
        custom = build_custom(SIZE)
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
            (3, SIZE, SIZE), is_training=True, color_jitter=0.1, mean=MEAN, std=STD
        )
        plain = create_transform((3, SIZE, SIZE), is_training=False, mean=MEAN, std=STD)
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


def serve_other(pipe: Connection, kind: type[Loop], data: LoadedData, folder: Path) -> None:
    """Epochs of another loop, one for each word from `pipe`."""
    other = kind(data, folder)
    while True:
        pipe.send(other.epoch())
        wait_for_word(pipe)


def serve_tracker(pipe: Connection, precision: str, data: LoadedData, folder: Path) -> None:
    """Epochs of `fit`, which goes on when a word comes from `pipe`.

    Says seconds of the training part and of all, and what of them was spent in what.
    """
    clocks = {name: Clock() for name in ("compute", "validation", "files")}
    torch.Tensor.backward = clocks["compute"].around(torch.Tensor.backward)
    Predictor.validate = clocks["validation"].around(Predictor.validate)
    for name, module, functions in (
        ("compute", epoch, ("_forward", "_update_weights")),  # what a step must do anyway
        ("files", loop, ("save_best", "save_last")),
    ):
        for function in functions:
            setattr(module, function, clocks[name].around(getattr(module, function)))
    folder.mkdir()
    started = time.perf_counter()

    def take_turns(report: loop.EpochReport) -> None:
        nonlocal started
        whole = time.perf_counter() - started
        trained = len(data.train) / report.metrics["train/images_per_s"]
        waited = trained * report.metrics["train/data_wait"]
        spent = {name: clock.seconds for name, clock in clocks.items()}
        pipe.send({"train": trained, "epoch": whole, "waited": waited, **spent})
        wait_for_word(pipe)
        for clock in clocks.values():
            clock.seconds = 0.0
        started = time.perf_counter()

    loop.fit(
        # more epochs than anybody asks for
        replace(CONFIG, train=replace(CONFIG.train, precision=precision, epochs=1000)),
        data,
        TASK,
        root=folder.parent,
        run_dir=folder,
        logger=NullLogger(),  # the recorder costs 7 us a call, see logging_cost.py
        on_epoch=take_turns,
        cache_dir=folder / "cache",
        threads=torch.get_num_threads(),  # the loops take turns, so none needs a share of the cores
        quiet=True,
    )


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


class Limit(NamedTuple):
    """Multiplications and additions of an image, and how many of them matrix products make in a
    second."""

    training: float
    forward: float
    rates: Mapping[str, float]  # by precision

    def ratio(self, part: str, data: LoadedData, precision: str, seconds: float) -> float:
        """How many times quicker than `seconds` the products of a part alone would be."""
        work = len(data.train) * self.training
        if part == "epoch":
            work += len(data.val) * self.forward
        return seconds * self.rates[precision] / work


def measure_limit() -> Limit:
    """Of resnet18 at this size; the quickest of a few products counts."""
    model, image = timm.create_model("resnet18", num_classes=18), torch.randn(2, 3, SIZE, SIZE)
    with FlopCounterMode(display=False) as counter:
        outs = model(image)
        forward = counter.get_total_flops() / len(image)
        outs.sum().backward()
        training = counter.get_total_flops() / len(image)
    rates = {}
    for precision, kind in (("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)):
        if precision == "32-true" or has_bfloat16():
            matrix, times = torch.randn(MATRIX, MATRIX).to(kind), []
            for _ in range(PRODUCTS):
                started = time.perf_counter()
                matrix @ matrix
                times.append(time.perf_counter() - started)
            rates[precision] = 2 * MATRIX**3 / min(times)
    return Limit(training, forward, rates)


def choose_precision(model: str, data: LoadedData, folder: Path) -> tuple[str, Row]:
    """What "auto" takes for a model on this machine, and its row."""
    config = replace(CONFIG, model=ModelConfig(name=model))
    steps, problem = apart(measure_steps, config, data, TASK, root=folder)
    if steps is None:
        raise RuntimeError(problem)
    ratio = steps.bfloat16 / steps.float32
    ours = f"{steps.precision}: bfloat16 makes {ratio:.2f} times the images/s of float32"
    what, verdict = f'`train.precision = "auto"`, {model} at {SIZE}', "bfloat16 from 1.25 times on"
    print(f"{what}: {ours} ({steps.float32:.1f} and {steps.bfloat16:.1f})")
    return steps.precision, Row(what, ours, verdict=verdict)


def compare_epochs(
    loops: Mapping[str, Apart], data: LoadedData, rounds: int
) -> dict[str, dict[str, float]]:
    """Epochs of all loops in turn, the first of each left out: the medians of what each says."""
    found: dict[str, list[dict[str, float]]] = {name: [] for name in loops}
    for number in range(rounds + 1):
        for name, one in loops.items():
            times = one.ask()
            if number:
                found[name].append(times)
    medians = {
        name: {key: statistics.median(each[key] for each in times) for key in times[0]}
        for name, times in found.items()
    }
    title = f"Epochs of {len(data.train)} + {len(data.val)} images, {rounds} rounds"
    print_epochs(title, medians, data)
    return medians


def build_rows(
    medians: Mapping[str, Mapping[str, float]], precisions: Mapping[str, str], data: LoadedData
) -> list[Row]:
    """The rows of BENCHMARKS.md; `precisions` has the names of our loops."""
    limit, rows = apart(measure_limit), []
    for precision, name in precisions.items():
        profile = describe_profile(medians[name])
        print(f"{name}: {profile}")
        for part, title in PARTS.items():
            base, goal = medians[BASE][part], GOALS[precision][part]
            ratio, best = base / medians[name][part], limit.ratio(part, data, precision, base)
            reason = f"{best / ratio:.2f} times as long as matrix products alone; {profile}"
            if precision == "bf16-mixed" and not has_amx():
                reason = f"the goal is for AMX, which {name_processor()} has not; {reason}"
            rows.append(
                Row(
                    f"CPU training, resnet18 at {SIZE}, {name.partition(', ')[2]}: {title}",
                    f"{ratio:.2f} times the winners' loop",
                    "1.00",
                    f"{best:.2f} (matrix products alone)",
                    f"{goal:g}" + (", with AMX" if precision == "bf16-mixed" else ""),
                    ratio >= goal,
                    reason,
                )
            )
    return rows


def print_epochs(title: str, medians: Mapping[str, Mapping[str, float]], data: LoadedData) -> None:
    """The speed of each loop, and its times against those of the winners' loop."""
    rows = []
    for name, times in medians.items():
        train, epoch = (f"{medians[BASE][part] / times[part]:.2f}" for part in PARTS)
        speed, seconds = f"{len(data.train) / times['train']:.1f}", f"{times['epoch']:.1f}"
        rows.append((name, speed, train, seconds, epoch))
    columns = (
        "loop",
        "training images/s",
        "times quicker",
        "whole epoch, s",
        "times quicker",
    )
    print_table(title, columns, rows)


def describe_profile(times: Mapping[str, float]) -> str:
    """Where the seconds of an epoch of ours go."""
    whole, trained = times["epoch"], times["train"]
    own = trained - times["waited"] - times["compute"]
    shares = {
        "model and optimizer": times["compute"],
        "validation": times["validation"],
        "best.pth and last.pth, on disk": times["files"],
        "waiting for data": times["waited"],
        "the loop": own,
    }
    listed = ", ".join(f"{name} {seconds / whole:.1%}" for name, seconds in shares.items())
    return f"of an epoch take {listed}"


@contextmanager
def start_loops(
    data: LoadedData, folder: Path, precisions: Mapping[str, str], others: Sequence[type[Loop]]
) -> Iterator[dict[str, Apart]]:
    """The loops' processes: ours by the name of their precision, then the others."""
    loops = {
        name: Apart(TRACKER, serve_tracker, precision, data, folder / precision)
        for precision, name in precisions.items()
    }
    for kind, name in zip(others, (BASE, TIMM), strict=False):
        (folder / name).mkdir()
        loops[name] = Apart(SPINNING, serve_other, kind, data, folder / name)
    try:
        yield loops
    finally:
        for one in loops.values():
            one.end()


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--people", type=int, default=24)
    parser.add_argument(
        "--quick", action="store_true", help="a round of 48 images, the winners' loop alone"
    )
    options = parser.parse_args()
    rounds, people = (1, 12) if options.quick else (options.rounds, options.people)
    models = ["resnet18", "swin_tiny_patch4_window7_224", "mobilenetv3_small_100"]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder, people, eval_people=1)
        data = load_data(CONFIG.data, TASK, root=folder)
        if options.quick:
            data = replace(data, train=data.train[: 3 * BATCH])
        precisions = {"32-true": "tracker, float32"}
        if has_bfloat16():
            chosen = {
                model: choose_precision(model, data, folder)
                for model in (models[:1] if options.quick else models)
            }
            record(row for _, row in chosen.values())
            precision, _ = chosen["resnet18"]
            precisions.setdefault(precision, f'tracker, "auto" ({precision})')
        others: list[type[Loop]] = [WinnersLoop] if options.quick else [WinnersLoop, TimmLoop]
        with start_loops(data, folder, precisions, others) as loops:
            medians = compare_epochs(loops, data, rounds)
        record(build_rows(medians, precisions, data))


if __name__ == "__main__":
    main()
