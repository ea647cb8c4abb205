"""How many images a second does the input pipeline make, on one thread, and what memory does a
loader process hold?

Augmentation `custom` at 384 pixels from JPEG files of 384 x 512, against PIL + torchvision. The
candidates take turns; first epoch: every image is decoded and kept; later epochs: every image comes
from the cache.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import multiprocessing
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from figures import Row, record
from timing import print_table, time_calls
from winners import STD, Photographs, build_custom, make_photographs, save_photograph

from tracker.training.config import AugmentConfig, Config, DataConfig, TrainConfig
from tracker.training.input.loader import ImageDataset, ImageSource, build_dataset, build_loader
from tracker.training.input.sampler import BatchSampler

SIDE, BATCH = 384, 16
REASON = (
    "8 times leaves 1,150 to 1,400 us of the processor an image; decoding takes 700, 380 of them"
    " the compressed bits (no decoder that is installed leaves out what the crop does not need),"
    " the resize 195, floats and colors 235, keeping it 185 (the pages of the file 120), and 150"
    " go to data that other steps have pushed out of the processor's cache"
)
GOALS = {
    "hsv, first epoch": 2.5,
    "hsv, later epochs": 3.3,
    "fast, first epoch": 8.0,
    "fast, later epochs": 30.0,
}
MOST_MB = 400


def build(mode: str, paths: Sequence[Path], cache: Path | None) -> ImageDataset:
    """Our images under one jitter mode."""
    config = Config(
        data=DataConfig(image_size=(SIDE, SIDE)),
        augment=AugmentConfig(name="custom", jitter_mode=mode),
        train=TrainConfig(batch_size=BATCH),
    )
    hashes = {str(path): hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}
    dataset, note = build_dataset(
        config, paths, [0] * len(paths), ImageSource(Path(), hashes, cache), train=True
    )
    assert not note, note
    return dataset


def compare(paths: Sequence[Path], folder: Path, rounds: int) -> None:
    """Print images per second of every candidate, and how they stand to PIL + torchvision."""
    theirs = Photographs([(path, 0) for path in paths], build_custom(SIDE))
    epochs = itertools.count(1)
    fresh = itertools.count()

    def their_epoch() -> None:
        for start in range(0, len(paths), BATCH):
            torch.stack(
                [theirs[index][0] for index in range(start, min(start + BATCH, len(paths)))]
            )

    def our_epoch(dataset: ImageDataset) -> None:
        epoch = next(epochs)
        for start in range(0, len(paths), BATCH):
            dataset.__getitems__(
                [(epoch, index) for index in range(start, min(start + BATCH, len(paths)))]
            )

    def first(mode: str) -> Callable[[], None]:
        waiting = [build(mode, paths, folder / f"{mode}{next(fresh)}") for _ in range(rounds + 1)]
        return lambda: our_epoch(waiting.pop())

    def later(mode: str) -> Callable[[], None]:
        dataset = build(mode, paths, folder / mode)
        our_epoch(dataset)
        return lambda: our_epoch(dataset)

    kinds = {"first epoch": first, "later epochs": later}
    uncached = build("fast", paths, None)
    candidates = {
        f"{mode}, {when}": make(mode) for mode in ("hsv", "fast") for when, make in kinds.items()
    }
    medians = time_calls(
        {
            "PIL + torchvision": their_epoch,
            **candidates,
            "fast, cache off": lambda: our_epoch(uncached),
        },
        rounds=rounds,
    )
    rows = []
    for name, seconds in medians.items():
        ratio = medians["PIL + torchvision"] / seconds
        goal = (
            f"{GOALS[name]:g}: {'reached' if ratio >= GOALS[name] else 'missed'}"
            if name in GOALS
            else "-"
        )
        rows.append((name, f"{len(paths) / seconds:,.0f}", f"{ratio:.2f}", goal))
        if name in GOALS:
            what, ours = f"input, {name}", f"{ratio:.2f} times PIL + torchvision"
            reached = ratio >= GOALS[name]
            record([Row(what, ours, goal=f"{GOALS[name]:g}", reached=reached, reason=REASON)])
    print_table(
        f"{len(paths)} images, one thread, {rounds} rounds",
        ("pipeline", "images/s", "times quicker", "goal"),
        rows,
    )


def measure_distance(paths: Sequence[Path], folder: Path) -> None:
    """Print how far the two jitters are from each other, and from no jitter, in grey levels."""
    positions = [(1, index) for index in range(min(64, len(paths)))]
    hsv, fast = (
        build(mode, paths, folder / mode).__getitems__(positions)[0] for mode in ("hsv", "fast")
    )
    plain_config = Config(
        data=DataConfig(image_size=(SIDE, SIDE)), augment=AugmentConfig(name="custom", jitter=0.0)
    )
    plain, _ = build_dataset(plain_config, paths, [0] * len(paths), ImageSource(folder), train=True)
    none = plain.__getitems__(positions)[0]
    levels = 255 * torch.tensor(STD)[:, None, None]
    apart, moved = (float(((fast - other).abs() * levels).mean()) for other in (hsv, none))
    print(
        f"fast is {apart:.1f} grey levels from hsv; the jitter itself moves a pixel by {moved:.1f}"
    )


def measure_memory(paths: Sequence[Path], folder: Path) -> None:
    """Print what a loader process has written to memory, which it shares with nobody, in an epoch
    from the cache.

    Pages inherited from the process that forked it and never written to are that process's; the
    cache is a file.
    """
    sampler = BatchSampler(len(paths), BATCH, seed=1)
    loader = build_loader(build("hsv", paths, folder / "hsv"), sampler, workers=1, pin_memory=False)
    own, whole = 0.0, 0.0
    for _ in loader:
        (worker,) = multiprocessing.active_children()
        memory = Path(f"/proc/{worker.pid}/smaps_rollup").read_text()
        found = {line.split()[0]: int(line.split()[1]) / 1e3 for line in memory.splitlines()[1:]}
        own, whole = max(own, found["Private_Dirty:"]), max(whole, found["Rss:"])
    print(
        f"a loader process holds {own:.0f} MB of its own; {whole:.0f} MB with libraries, cache and"
        " what it inherited"
    )
    print(f"goal: {MOST_MB} MB besides the cache: {'reached' if own < MOST_MB else 'missed'}")


def main() -> None:
    """Print the table, the distance of the two jitters and the memory."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=126)
    parser.add_argument(
        "--photographs", type=Path, help="folder of photographs to use instead of drawn faces"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if options.photographs:
            sources = sorted(options.photographs.rglob("*.jpg"))[: options.images]
            paths = [folder / f"{number}.jpg" for number in range(len(sources))]
            for number, (source, path) in enumerate(zip(sources, paths, strict=True)):
                save_photograph(source, path, seed=number)
        else:
            make_photographs(folder, -(-options.images // 6))
            paths = sorted((folder / "train").rglob("*.jpg"))[: options.images]
        size = np.mean([path.stat().st_size for path in paths]) / 1e3
        print(f"{len(paths)} files of {size:.0f} KB")
        compare(paths, folder, options.rounds)
        measure_distance(paths, folder)
        measure_memory(paths, folder)


if __name__ == "__main__":
    main()
