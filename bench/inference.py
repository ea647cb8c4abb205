"""How long does it take from image files to a CSV? Against the winners' loop re-made, with the
forward pass alone and reading alone as limits.

Everything on the CPU: resnet18 at 224 pixels, photographs of 384 x 512 pixels. The candidates take
turns, each in a process of its own that starts cold (no cache, no loader process), and ratios are
of medians. The weights are random, with outputs scaled so that the labels hang on every pixel;
where labels differ, our model gets the winners' pixels.
"""

from __future__ import annotations

import argparse
import csv
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from itertools import count
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NamedTuple

import timm
import torch
from apart import SPINNING, TRACKER, Apart, wait_for_word
from figures import Row, record
from timing import print_table
from torch.utils.data import DataLoader
from winners import AUGMENT, DATA, SIZE, TASK, Photographs, build_custom, make_photographs

from tracker.training.config import Config, EvalConfig, TrainConfig
from tracker.training.data.data import load_data
from tracker.training.formats.samples import LoadedData
from tracker.training.input.loader import ImageSource, build_dataset
from tracker.training.machine import has_amx, has_bfloat16, name_processor
from tracker.training.predict.decide import plain_decision, save_predictions
from tracker.training.predict.predict import Predictor
from tracker.training.predict.threads import count_readers, predict_in_threads
from tracker.training.run.setup import build_fabric

CLASSES, BATCH = 18, 16  # BATCH is the winners'
CONFIG = Config(
    data=DATA,
    augment=AUGMENT,
    train=TrainConfig(accelerator="cpu"),
)
GOALS = {"tracker, float32": 1.4, "tracker, bfloat16": 2.5}
BASE = "the winners' loop"


class Ready:
    """Takes the place of a dataset: its images need no reading."""

    def __getitems__(self, positions: Any) -> Any:
        """A batch of black images."""
        images = torch.zeros(len(positions), 3, SIZE, SIZE)
        return (images.contiguous(memory_format=torch.channels_last),)


class Bench:
    """The images, the model in both memory formats, and the folder for what is written."""

    def __init__(self, data: LoadedData, folder: Path) -> None:
        torch.manual_seed(0)  # every process has the same model
        self.data = data
        self._folder = folder
        self._fresh = count()
        self._photographs = Photographs(
            [(image.path, 0) for image in data.eval], build_custom(SIZE, jitter=False)
        )
        self._model = timm.create_model("resnet18", num_classes=CLASSES).eval()
        self._spread_labels()
        self._ours = timm.create_model("resnet18", num_classes=CLASSES)
        self._ours.load_state_dict(self._model.state_dict())
        self._ours = self._ours.to(memory_format=torch.channels_last).eval()

    def _spread_labels(self) -> None:
        """Give the outputs mean 0 and deviation 1 over some images: untrained ones hardly vary."""
        some = torch.stack([self._photographs[index][0] for index in range(32)])
        with torch.no_grad():
            outputs, head = self._model(some), self._model.fc
            scale = 1 / outputs.std(0)
            head.bias.copy_((head.bias - outputs.mean(0)) * scale)
            head.weight.mul_(scale[:, None])

    def run_winners(self) -> None:
        """PIL, torchvision and a loader process; all threads in each operation."""
        loader = DataLoader(self._photographs, BATCH, num_workers=1)
        answers: list[int] = []
        with torch.no_grad():
            for images, _ in loader:
                answers.extend(self._model(images).argmax(dim=-1).cpu().numpy())
        with (self._folder / "theirs.csv").open("w", newline="") as file:
            ids = [image.id for image in self.data.eval]
            csv.writer(file).writerows(zip(ids, answers, strict=True))

    def run_tracker(self, precision: str) -> None:
        """As in `tracker run infer`, with a cache that is empty."""
        run_dir = self._folder / f"{precision}{next(self._fresh)}"
        run_dir.mkdir()
        config = replace(CONFIG, train=replace(CONFIG.train, precision=precision))
        fabric = build_fabric(config, environment=None, notify=print)
        source = ImageSource(self._folder, self.data.hashes, run_dir / "cache")
        predictor = Predictor(config, self.data, TASK, fabric, source)
        found = predictor.evaluate(self._ours)
        path = save_predictions(run_dir, found, TASK, plain_decision(TASK, CONFIG.eval))
        path.replace(self._folder / f"{precision}.csv")

    def run_forward(self) -> None:
        """The model alone, on images that are ready."""
        self._in_threads(Ready, self._ours)

    def run_reading(self) -> None:
        """Reading and preparing images alone."""
        paths = [image.path for image in self.data.eval]

        def build() -> Any:
            labels, source = [0] * len(paths), ImageSource(self._folder)
            return build_dataset(
                CONFIG, paths, labels, source, train=False, evaluation=EvalConfig()
            )[0]

        self._in_threads(build, lambda images: images[:, 0, 0, :1])

    def _in_threads(self, build: Callable[[], Any], forward: Callable[[Any], Any]) -> None:
        size = CONFIG.eval.batch_size
        predict_in_threads(
            [build() for _ in range(count_readers(size))],
            len(self.data.eval),
            batch_size=size,
            forward=forward,
            modes=torch.inference_mode,
        )

    def compare_labels(self, precision: str) -> str:
        """How many labels are the winners', and whether their pixels give the others."""
        theirs, ours = (
            dict(csv.reader((self._folder / name).open(newline="")))
            for name in ("theirs.csv", f"{precision}.csv")
        )
        ids = [image.id for image in self.data.eval]
        differing = [index for index, name in enumerate(ids) if ours[name] != theirs[name]]
        sentence = f"{precision}: {len(ids) - len(differing)} of {len(ids)} labels are equal"
        if differing and precision == "32-true":
            images = torch.stack([self._photographs[index][0] for index in differing])
            with torch.inference_mode():
                answers = self._ours(images.contiguous(memory_format=torch.channels_last)).argmax(1)
            alike = sum(
                theirs[ids[index]] == str(int(answer))
                for index, answer in zip(differing, answers, strict=True)
            )
            sentence += f"; with the winners' pixels {alike} of the other {len(differing)}"
        return sentence


class Cost(NamedTuple):
    """Seconds of the clock and of the processor."""

    seconds: float
    processor: float


def serve(pipe: Connection, ask: Callable[[Bench], Any], data: LoadedData, folder: Path) -> None:
    """The cost of a candidate, once for each word from `pipe`."""
    bench = Bench(data, folder)
    while True:
        started, used = time.perf_counter(), sum(os.times()[:4])
        ask(bench)
        pipe.send(Cost(time.perf_counter() - started, sum(os.times()[:4]) - used))
        wait_for_word(pipe)


def measure_costs(
    data: LoadedData, folder: Path, rounds: int, *, limits: bool
) -> dict[str, list[Cost]]:
    """What each candidate takes, in turn."""
    calls: dict[str, Callable[[Bench], Any]] = {
        BASE: Bench.run_winners,
        "tracker, float32": partial(Bench.run_tracker, precision="32-true"),
    }
    if has_bfloat16():
        calls["tracker, bfloat16"] = partial(Bench.run_tracker, precision="bf16-mixed")
    if limits:
        calls["forward pass alone"] = Bench.run_forward
        calls["reading alone"] = Bench.run_reading
    candidates = {
        name: Apart(SPINNING if name == BASE else TRACKER, serve, call, data, folder)
        for name, call in calls.items()
    }
    try:
        asked = [{name: one.ask() for name, one in candidates.items()} for _ in range(rounds)]
    finally:
        for one in candidates.values():
            one.end()
    return {name: [answers[name] for answers in asked] for name in calls}


def measure(bench: Bench, folder: Path, rounds: int, *, limits: bool) -> None:
    """Print the medians, their ratios to the winners' loop, and what the labels say."""
    costs = measure_costs(bench.data, folder, rounds, limits=limits)
    medians = {
        name: statistics.median(cost.seconds for cost in found) for name, found in costs.items()
    }
    images = len(bench.data.eval)
    rows = []
    for name, seconds in medians.items():
        ratio, goal = medians[BASE] / seconds, GOALS.get(name)
        verdict = f"{goal:g}: {'reached' if ratio >= goal else 'missed'}" if goal else "-"
        processor = 1e3 * statistics.median(cost.processor for cost in costs[name]) / images
        rows.append((name, f"{images / seconds:.1f}", f"{ratio:.2f}", f"{processor:.1f}", verdict))
        if goal:
            what = f"inference, {images} images to CSV, {name.partition(', ')[2]}"
            best = medians[BASE] / medians["forward pass alone"] if limits else 0.0
            limit = f"{best:.2f} (float32 forward pass alone)" if limits else ""
            ours = f"{ratio:.2f} times the winners' loop ({images / seconds:.1f} images/s)"
            reason = explain(name, medians)
            theirs = f"the winners' loop {images / medians[BASE]:.1f} images/s"
            record([Row(what, ours, theirs, limit, f"{goal:g}", ratio >= goal, reason)])
    columns = ("from files to CSV", "images/s", "times quicker", "CPU, ms an image", "goal")
    print_table(f"{images} images, {rounds} rounds", columns, rows)
    if limits:
        both = medians["forward pass alone"] + medians["reading alone"]
        share = 100 * both / medians["tracker, float32"]
        print(f"forward pass and reading alone take {share:.0f} % of tracker's float32 time")
    for precision in ("32-true", "bf16-mixed")[: 1 + has_bfloat16()]:
        print(bench.compare_labels(precision))


def explain(name: str, medians: Mapping[str, float]) -> str:
    """Why a goal may be missed: what could not be saved, and what the processor has not."""
    reasons = []
    if name.endswith("bfloat16") and not has_amx():
        reasons.append(f"the goal is for AMX, which {name_processor()} has not")
    if "forward pass alone" in medians:
        alone = medians["forward pass alone"] / medians[BASE]
        reading = medians["reading alone"] / medians[BASE]
        reasons.append(
            f"of the winners' time a forward pass in float32 alone takes {alone:.0%},"
            f" reading alone {reading:.0%}"
        )
    return "; ".join(reasons) or "measured without its limits"


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, nargs="+", default=[200, 2000])
    parser.add_argument("--no-limits", action="store_true", help="the loops alone")
    parser.add_argument("--quick", action="store_true", help="64 images, a round")
    options = parser.parse_args()
    sizes, rounds = ([64], 1) if options.quick else (options.images, options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder, 24, eval_people=-(-max(sizes) // 7))
        data = load_data(CONFIG.data, TASK, root=folder)
        load = os.getloadavg()[0]
        print(f"{name_processor()}, {torch.get_num_threads()} threads, load {load:.1f}")
        for size in sizes:
            own = folder / str(size)
            own.mkdir()
            bench = Bench(replace(data, eval=data.eval[:size]), own)
            measure(bench, own, rounds, limits=not options.no_limits)


if __name__ == "__main__":
    main()
