"""How near do training and prediction come to the GPU's limit? Swin-L at 384 pixels and resnet50 at
224, in bf16, against the rate of a large matrix product in the same run.

`python bench/gpu.py` on a machine with a CUDA device (Swin-L with 64 images needs about 60 GB).
Without one it says that nothing was measured, and ends with the code for that. `--try-on-cpu` runs
every line with a tiny model and records nothing: to find mistakes before a GPU is rented.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from figures import NOT_HERE, Row, record
from timing import print_table
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode
from winners import TASK, make_photographs

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
from tracker.training.run.epoch import take_step, train_epoch
from tracker.training.run.setup import Setup, build_setup
from tracker.training.run.worker import NullLogger

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
ABSENT = "no GPU was at hand: bench/gpu.py not measured"
STEPS, EPOCHS = "training steps alone", "training"
PASSES, INFERENCE = "forward passes alone", "inference"
LOOP = "loop and loader, of a step"
# of a training: what is the default, without the promise of the same bits, and compiled besides
DEFAULT, FREE, COMPILED = "as by default", "deterministic off", "deterministic off, compiled"
FORMS = {"default": DEFAULT, "free": FREE, "compiled": COMPILED}
LOOP_GOAL = 0.02
BARE_STEPS = 10
# kernels by what their names have in them, the first that fits
KINDS = {
    "attention": ("fmha", "attention", "flash"),
    "matrix products, convolutions": (
        "gemm",
        "nvjet",
        "cutlass",
        "xmma",
        "conv",
        "dgrad",
        "wgrad",
        "fprop",
        "sm90_",
        "sm80_",
        "cudnn",
    ),
    "optimizer": ("adam", "multi_tensor", "fusedoptimizer"),
    "norms": ("norm", "batch_norm", "bn_"),
    "copies": ("memcpy", "memset", "copy_kernel"),
}
REST = "all else: activations, sums, rearranging"


@dataclass(frozen=True)
class Subject:
    """A model, what a step of it takes, and the least shares of the matrix rate."""

    model: str
    title: str
    side: int
    batch: int
    train_images: int  # of an epoch: about ten seconds
    eval_images: int
    goals: dict[str, float]


SUBJECTS = (
    Subject(
        "swin_large_patch4_window12_384",
        "Swin-L at 384 pixels",
        384,
        64,
        1_280,
        2_560,
        {EPOCHS: 0.45, INFERENCE: 0.55},
    ),
    Subject(
        "resnet50",
        "resnet50 at 224 pixels",
        224,
        256,
        12_800,
        25_600,
        {EPOCHS: 0.45, INFERENCE: 0.55},
    ),
)
TINY = Subject("resnet18", "resnet18 at 32 pixels", 32, 8, 24, 16, {EPOCHS: 0.45, INFERENCE: 0.55})


@dataclass(frozen=True)
class Speeds:
    """Images a second; `waits` is how often an epoch's steps wait for the GPU to be done."""

    steps: float
    training: float
    passes: float
    inference: float
    data_wait: float
    waits: int
    batches: int
    step_profile: Counter[str]
    pass_profile: Counter[str]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    titles = [one.model for one in SUBJECTS]
    parser.add_argument("--models", nargs="*", choices=titles, default=titles)
    parser.add_argument("--forms", nargs="*", choices=FORMS, default=list(FORMS))
    parser.add_argument("--try-on-cpu", action="store_true")
    options = parser.parse_args()
    if DEVICE == "cpu" and not options.try_on_cpu:
        print(ABSENT)
        record_absence()
        sys.exit(NOT_HERE)
    chosen = [one for one in SUBJECTS if one.model in options.models]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_photographs(folder, 48)
        limit = measure_matrix_rate(8192 if DEVICE == "cuda" else 64)
        bandwidth = measure_bandwidth(2**31 if DEVICE == "cuda" else 2**20)
        device = torch.cuda.get_device_name() if DEVICE == "cuda" else "a CPU, to try"
        print(
            f"{device}: {limit / 1e12:.0f} Tflop/s in a bf16 matrix product,"
            f" {bandwidth / 1e12:.2f} TB/s in a copy",
            flush=True,
        )
        for subject in [TINY] if options.try_on_cpu else chosen:
            measure_subject(subject, folder, limit, [FORMS[form] for form in options.forms])


def measure_matrix_rate(side: int, repeats: int = 50) -> float:
    """Operations a second of a bf16 matrix product."""
    a, b = (torch.randn(side, side, device=DEVICE, dtype=torch.bfloat16) for _ in range(2))
    return 2 * side**3 * repeats / time_on_device(lambda: a @ b, repeats)


def measure_bandwidth(size: int, repeats: int = 20) -> float:
    """Bytes a second that a copy within the device reads and writes."""
    source = torch.randint(0, 255, (size,), device=DEVICE, dtype=torch.uint8)
    target = torch.empty_like(source)
    return 2 * size * repeats / time_on_device(lambda: target.copy_(source), repeats)


def time_on_device(call: Callable[[], object], repeats: int) -> float:
    """Seconds for so many calls, after three that do not count."""
    for _ in range(3):
        call()
    wait_for_device()
    started = time.perf_counter()
    for _ in range(repeats):
        call()
    wait_for_device()
    return time.perf_counter() - started


def wait_for_device() -> None:
    """Until everything that was asked of the GPU is done."""
    if DEVICE == "cuda":
        torch.cuda.synchronize()


def measure_subject(subject: Subject, folder: Path, limit: float, forms: Sequence[str]) -> None:
    """The table of a model, and its rows."""
    found = {}
    for form in forms:
        started = time.perf_counter()
        setup = build(subject, folder, form)
        operations = count_operations(setup, subject.side)
        found[form] = measure_speeds(setup, subject)
        seconds = time.perf_counter() - started
        print(f"{subject.title}, {form}: {seconds:.0f} s with its start", flush=True)
        del setup
        if DEVICE == "cuda":
            torch.cuda.empty_cache()
        print_speeds(subject, form, found[form], operations, limit)
    record_speeds(subject, found, operations, limit)


def build(subject: Subject, folder: Path, form: str) -> Setup:
    """A training with as many images as the subject asks for: the same few, again and again."""
    config = Config(
        data=DataConfig(
            format="mask_profiles",
            train_dir="train",
            eval_dir="eval",
            image_size=(subject.side, subject.side),
        ),
        augment=AugmentConfig(name="custom", jitter_mode="fast"),
        model=ModelConfig(name=subject.model),
        optim=OptimConfig(lr=2e-5),
        sched=SchedConfig(name="constant"),
        train=TrainConfig(
            batch_size=subject.batch,
            eval_batch_size=subject.batch,
            precision="bf16-mixed" if DEVICE == "cuda" else "32-true",
            deterministic=form == DEFAULT,
            compile=form == COMPILED,
        ),
    )
    config = replace(config, eval=replace(config.eval, batch_size=subject.batch))
    data = load_data(config.data, TASK, root=folder)
    train, evaluation = data.train, data.eval
    data = replace(
        data,
        train=repeat(train, subject.train_images),
        eval=repeat(evaluation, subject.eval_images),
    )
    return build_setup(
        config,
        data,
        TASK,
        source=ImageSource(folder, data.hashes, folder / f"cache-{subject.side}"),
        run_dir=folder,
        logger=NullLogger(),
        environment=None,
        resume=True,  # random weights: the speed is the same
        notify=print,
    )


def repeat(items: Sequence[Any], count: int) -> Any:
    """The items again and again, `count` of them."""
    return type(items)((items * -(-count // len(items)))[:count])


def count_operations(setup: Setup, side: int) -> float:
    """Operations of one image's forward pass; training takes three times as many."""
    image = torch.zeros(1, 3, side, side, device=DEVICE)
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        setup.eval_model.eval()(image)
    return float(counter.get_total_flops())


def measure_speeds(setup: Setup, subject: Subject) -> Speeds:
    """Whole epochs fed from the cache, the same steps without loader and loop, and inference."""
    images = torch.randn(subject.batch, 3, subject.side, subject.side)
    images = images.to(DEVICE).contiguous(memory_format=torch.channels_last)
    labels = torch.arange(subject.batch) % len(TASK.classes)
    compiles = setup.config.train.compile

    def step() -> None:
        take_step(setup, images, labels)

    bare = measure_rate(step, subject.batch)
    step_profile = profile_kernels(step)
    with Progress(epochs=1, quiet=True) as progress:
        train_epoch(setup, 1, progress)  # fills the cache
        with count_waits() as waits:
            epochs = [train_epoch(setup, number, progress) for number in (2, 3)]
    trained = max(epochs, key=lambda values: values["train/images_per_s"])
    model = setup.eval_model.eval()
    forward = torch.compile(model) if compiles else model

    def predict() -> None:
        with torch.inference_mode(), setup.fabric.autocast():
            forward(images)

    passes = measure_rate(predict, subject.batch)
    pass_profile = profile_kernels(predict)
    predictor = Predictor(
        setup.config, setup.data, TASK, setup.fabric, setup.source, compiled=compiles
    )
    times = []
    for _ in range(3):  # the first fills the cache
        started = time.perf_counter()
        predictor.evaluate(model)
        times.append(time.perf_counter() - started)
    return Speeds(
        steps=bare,
        training=trained["train/images_per_s"],
        passes=passes,
        inference=len(setup.data.eval) / min(times[1:]),
        data_wait=trained["train/data_wait"],
        waits=len(waits) // len(epochs),
        batches=len(setup.train_sampler.sizes),
        step_profile=step_profile,
        pass_profile=pass_profile,
    )


def measure_rate(call: Callable[[], None], images: int) -> float:
    """Images a second of calls with so many each: the median of three times."""
    times = [time_on_device(call, BARE_STEPS) for _ in range(3)]
    return BARE_STEPS * images / statistics.median(times)


@contextmanager
def count_waits() -> Iterator[list[str]]:
    """The operations within the block that wait until the GPU is done, as torch tells them."""
    if DEVICE == "cpu":
        yield []
        return
    found: list[str] = []
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield found
        finally:
            torch.cuda.set_sync_debug_mode("default")
            found += [
                f"{Path(one.filename).name}:{one.lineno}"
                for one in told
                if "synchronizing" in str(one.message)
            ]


def profile_kernels(step: Callable[[], None]) -> Counter[str]:
    """Seconds of the GPU by kind of kernel, in three calls."""
    if DEVICE == "cpu":
        return Counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        for _ in range(3):
            step()
        wait_for_device()
    kinds: Counter[str] = Counter()
    names: Counter[str] = Counter()
    for event in profiler.events():
        seconds = event.self_device_time_total / 1e6
        if seconds:
            kinds[find_kind(event.name)] += seconds
            names[event.name] += seconds
    for name, seconds in names.most_common(6):
        print(f"{seconds / sum(names.values()):6.1%}  {name[:96]}")
    return kinds


def find_kind(name: str) -> str:
    """The kind of a kernel."""
    low = name.lower()
    for kind, signs in KINDS.items():
        if any(sign in low for sign in signs):
            return kind
    return REST


def print_speeds(
    subject: Subject, form: str, speeds: Speeds, operations: float, limit: float
) -> None:
    """The table, and where a step's time goes."""
    rows = [
        (name, f"{speed:,.0f}", f"{times * speed * operations / limit:.1%}")
        for name, speed, times in (
            (STEPS, speeds.steps, 3),
            (EPOCHS, speeds.training, 3),
            (PASSES, speeds.passes, 1),
            (INFERENCE, speeds.inference, 1),
        )
    ]
    print_table(f"{subject.title}, {form}", ("what", "images/s", "of the matrix rate"), rows)
    print(
        f"loop and loader take {1 - speeds.training / speeds.steps:.1%} of a step, waiting for data"
        f" {speeds.data_wait:.2%}; an epoch of {speeds.batches} batches waits {speeds.waits} times"
        " for the GPU"
    )
    if speeds.step_profile:
        print(f"a training step: {describe_profile(speeds.step_profile)}")
        print(f"a forward pass: {describe_profile(speeds.pass_profile)}", flush=True)


def describe_profile(seconds: Counter[str]) -> str:
    """Each kind's share of the GPU's time."""
    whole = sum(seconds.values())
    return ", ".join(f"{kind} {part / whole:.0%}" for kind, part in seconds.most_common())


def record_speeds(
    subject: Subject, found: dict[str, Speeds], operations: float, limit: float
) -> None:
    """A row for each goal: the better form counts."""
    if DEVICE == "cpu":
        return
    for name, times in ((EPOCHS, 3), (INFERENCE, 1)):
        speeds = {
            form: one.training if name == EPOCHS else one.inference for form, one in found.items()
        }
        shares = {form: times * speed * operations / limit for form, speed in speeds.items()}
        goal, best = subject.goals[name], max(shares, key=lambda form: shares[form])
        ours = ", ".join(
            f"{form} {shares[form]:.1%} ({speed:,.0f} images/s)" for form, speed in speeds.items()
        )
        reason = explain(name, found[best], operations / limit)
        reached = shares[best] >= goal
        record([Row(describe(subject, name), ours, "", "100%", f"{goal:.0%}", reached, reason)])
    loops = {form: 1 - one.training / one.steps for form, one in found.items()}
    ours = ", ".join(f"{form} {share:.1%}" for form, share in loops.items())
    waits = ", ".join(f"{form} {one.data_wait:.1%}" for form, one in found.items())
    record(
        [
            Row(
                describe(subject, LOOP),
                ours,
                "",
                "0%",
                f"{LOOP_GOAL:.0%}",
                max(loops.values()) <= LOOP_GOAL,
                f"waiting for data, for the first batch of each epoch most: {waits}",
            )
        ]
    )


def explain(name: str, speeds: Speeds, share: float) -> str:
    """Why a share is below its goal; `share` is what an image a second is of the matrix rate."""
    if name == EPOCHS:
        alone, kinds = f"the steps alone reach {3 * speeds.steps * share:.1%}", speeds.step_profile
    else:
        alone, kinds = (
            f"forward passes alone reach {speeds.passes * share:.1%}",
            speeds.pass_profile,
        )
    return f"{alone}; the GPU's time in one: {describe_profile(kinds)}"


def describe(subject: Subject, what: str) -> str:
    """The first cell of a row."""
    return f"GPU, {subject.title} in bf16: {what}"


def record_absence() -> None:
    """Rows that say what was not measured, and what the goals are."""
    for subject in SUBJECTS:
        for name, goal in {**subject.goals, LOOP: LOOP_GOAL}.items():
            row = Row(describe(subject, name), "not measured", goal=f"{goal:.0%}", verdict=ABSENT)
            record([row])


if __name__ == "__main__":
    main()
