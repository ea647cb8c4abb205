"""How near does training come to the GPU's limit? Swin-L at 384 pixels against the matrix rate of
the same run.

One command, one table: `python bench/gpu.py` on a machine with a CUDA device (a batch of 64 needs
about 60 GB). Without one it says that nothing was measured, and ends with the code for that.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from figures import NOT_HERE, Row, record
from timing import print_table
from torch.utils.flop_counter import FlopCounterMode
from winners import TASK

from tracker.setup.demo_faces import make_competition
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
from tracker.training.input.loader import ImageSource
from tracker.training.predict.predict import Predictor
from tracker.training.progress import Progress
from tracker.training.run import loop
from tracker.training.run.setup import Setup, build_setup
from tracker.training.run.worker import NullLogger

MODEL, SIDE = "swin_large_patch4_window12_384", 384
EPOCHS, INFERENCE = "training epochs from the cache", "inference"
GOALS = {EPOCHS: 0.45, INFERENCE: 0.5}  # of the matrix rate
LOOP, LOOP_GOAL = "loop and loader, of a step", 0.02
ABSENT = "no GPU was at hand: bench/gpu.py not measured"
REASON = "not looked into: no GPU was at hand when this was written"


def measure_matrix_rate(side: int = 8192, repeats: int = 50) -> float:
    """Operations a second of a bf16 matrix product."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 * repeats / time_on_device(lambda: a @ b, repeats)


def time_on_device(call: Callable[[], object], repeats: int) -> float:
    """Seconds for so many calls, after three that do not count."""
    for _ in range(3):
        call()
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def count_operations(setup: Setup) -> float:
    """Operations of one image's forward pass; training takes three times as many."""
    image = torch.zeros(1, 3, SIDE, SIDE, device="cuda")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        setup.eval_model(image)
    return float(counter.get_total_flops())


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--people", type=int, default=120)
    parser.add_argument("--compile", action="store_true")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print(ABSENT)
        record_absence()
        sys.exit(NOT_HERE)
    config = Config(
        data=DataConfig(
            format="mask_profiles", train_dir="train", eval_dir="eval", image_size=(SIDE, SIDE)
        ),
        augment=AugmentConfig(name="custom", jitter_mode="fast"),
        model=ModelConfig(name=MODEL),
        optim=OptimConfig(lr=2e-5),
        sched=SchedConfig(name="constant"),
        train=TrainConfig(
            batch_size=options.batch_size,
            eval_batch_size=options.batch_size,
            precision="bf16-mixed",
            deterministic=False,
            compile=options.compile,
        ),
    )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_competition(folder, people=options.people, eval_people=options.people, seed=7)
        data = load_data(config.data, TASK, root=folder)
        setup = build_setup(
            replace(config, eval=replace(config.eval, batch_size=options.batch_size)),
            data,
            TASK,
            source=ImageSource(folder, data.hashes, folder / "cache"),
            run_dir=folder,
            logger=NullLogger(),
            environment=None,
            resume=False,
            notify=print,
        )
        report(setup, measure_matrix_rate())


def report(setup: Setup, limit: float) -> None:
    """Rates of whole epochs fed from the cache, of the same steps without loader and loop, and of
    inference."""
    operations = count_operations(setup)
    batch = torch.zeros(setup.config.train.batch_size, 3, SIDE, SIDE, device="cuda")
    labels = torch.zeros(len(batch), dtype=torch.int64, device="cuda")

    def step() -> None:
        loss = setup.loss(setup.model(batch).float(), labels)
        setup.fabric.backward(loss)
        setup.optimizer.step()
        setup.optimizer.zero_grad()

    bare = 20 * len(batch) / time_on_device(step, 20)
    with Progress(epochs=1, quiet=True) as progress:
        metrics = [loop._train_epoch(setup, epoch, progress) for epoch in (1, 2, 3)]
    trained = max(values["train/images_per_s"] for values in metrics[1:])
    predictor = Predictor(setup.config, setup.data, setup.task, setup.fabric, setup.source)
    predictor.evaluate(setup.eval_model)
    started = time.perf_counter()
    predictor.evaluate(setup.eval_model)
    inferred = len(setup.data.eval) / (time.perf_counter() - started)
    speeds = {
        "training steps alone": (bare, 3 * bare * operations / limit),
        EPOCHS: (trained, 3 * trained * operations / limit),
        INFERENCE: (inferred, inferred * operations / limit),
    }
    rows = [(name, f"{speed:.0f}", f"{share:.1%}") for name, (speed, share) in speeds.items()]
    title = (
        f"{MODEL} on {torch.cuda.get_device_name()}: matrix rate {limit / 1e12:.0f} Tflop/s in bf16"
    )
    print_table(title, ("what", "images/s", "of the matrix rate"), rows)
    own = 1 - trained / bare
    waiting = metrics[-1]["train/data_wait"]
    print(f"loop and loader take {own:.1%} of a step, waiting {waiting:.2%}")
    for name, goal in GOALS.items():
        speed, share = speeds[name]
        ours, least = f"{share:.1%} of the matrix rate ({speed:.0f} images/s)", f"{goal:.0%}"
        record([Row(describe(name), ours, "", "100%", least, share >= goal, REASON)])
    reached = own <= LOOP_GOAL
    record([Row(describe(LOOP), f"{own:.1%}", "", "0%", f"{LOOP_GOAL:.0%}", reached, REASON)])


def describe(what: str) -> str:
    """The first cell of a row."""
    return f"GPU, Swin-L at {SIDE} pixels in bf16: {what}"


def record_absence() -> None:
    """Rows that say what was not measured, and what the goals are."""
    goals = {**GOALS, LOOP: LOOP_GOAL}
    for name, goal in goals.items():
        record([Row(describe(name), "not measured", goal=f"{goal:.0%}", verdict=ABSENT)])


if __name__ == "__main__":
    main()
