"""How much quicker is a large photograph made small when it is reduced while it is decoded, and
what does that do to its pixels?

JPEGs of 12 megapixels to the model's 224 pixels, by the pipelines of a run: decode, resize,
normalize. The limit is decoding alone, to an eighth: what is left of it is reading the compressed
bits.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
from figures import Row, record
from numpy.typing import NDArray
from timing import print_table, time_calls

from tracker.training.config import AugmentConfig, DataConfig
from tracker.training.formats.images import decode_image
from tracker.training.input.augment import Pipeline, build_pipeline

SIDE = 224
LIMIT = "the limit: decoding to an eighth"
DECODING = "{}, reduced: decoding alone"
GOAL = 4.0
QUALITIES = (50, 75, 90)  # of the same photographs, for files of other sizes
KINDS = {
    "base, area": {"name": "base"},
    "base, bilinear (as timm)": {"name": "base", "interpolation": "bilinear"},
    "standard, crop of 0.08 to 1": {"name": "standard"},
}


def draw_photograph(path: Path, seed: int) -> None:
    """A drawing of 4000 x 3000 with fine detail of every size, as photographs have it (1 / f)."""
    rng = np.random.default_rng(seed)
    image = np.full((3000, 4000, 3), 128, dtype=np.float32)
    for level in range(1, 11):
        grain = rng.normal(0, 14, (max(3, 3000 >> level), max(4, 4000 >> level), 3))
        image += cv2.resize(grain.astype(np.float32), (4000, 3000), interpolation=cv2.INTER_CUBIC)
    image += rng.normal(0, 2, image.shape).astype(np.float32)
    pixels = np.clip(image, 0, 255).astype(np.uint8)
    cv2.imwrite(str(path), pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])


def build(decode: str, kind: dict[str, str]) -> Pipeline:
    """The pipeline of a run: of training, where it crops."""
    data = DataConfig(image_size=(SIDE, SIDE), decode=decode)
    train = kind["name"] == "standard"
    return build_pipeline(AugmentConfig(**kind), data, root=Path(), train=train)


def make(pipeline: Pipeline, path: Path, seed: int) -> NDArray[np.float32]:
    """The input of the model."""
    out = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    pipeline.finish(pipeline.prepare(pipeline.decode(path, seed=seed)), out, seed=seed)
    return out


def to_levels(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """Grey levels 0 to 255 of a normalized image."""
    data = DataConfig()
    levels: NDArray[np.float32] = (image * np.array(data.std) + np.array(data.mean)) * 255
    return levels


def compare_times(paths: Sequence[Path], rounds: int) -> None:
    """Print milliseconds of an image in full and reduced, in turn."""

    def run(pipeline: Pipeline) -> Callable[[], None]:
        def each() -> None:
            for seed, path in enumerate(paths):
                make(pipeline, path, seed)

        return each

    def decode_all(pipeline: Pipeline) -> Callable[[], None]:
        return lambda: (
            [pipeline.decode(path, seed=seed) for seed, path in enumerate(paths)] and None
        )

    calls = {
        f"{name}, {decode}": run(build(decode, kind))
        for name, kind in KINDS.items()
        for decode in ("full", "reduced")
    }
    for name, kind in KINDS.items():
        calls[DECODING.format(name)] = decode_all(build("reduced", kind))
    calls[LIMIT] = lambda: [decode_image(path, reduction=8) for path in paths] and None
    medians = time_calls(calls, rounds=rounds)
    rows = []
    for name, seconds in medians.items():
        ratio = medians.get(name.replace(", reduced", ", full"), seconds) / seconds
        verdict = "reached" if ratio >= GOAL else "missed"
        goal = f"{GOAL:g}: {verdict}" if name.endswith("reduced") else "-"
        rows.append((name, f"{seconds / len(paths) * 1e3:.1f}", f"{ratio:.2f}", goal))
        if name.endswith("reduced"):
            own = name.removesuffix(", reduced")
            full, decoding = medians[f"{own}, full"], medians[DECODING.format(own)]
            record(
                [
                    Row(
                        f"12 megapixels to {SIDE}, {name}",
                        f"{ratio:.2f} times quicker than in full",
                        limit=f"{full / medians[LIMIT]:.2f} (decoding to an eighth alone)",
                        goal=f"{GOAL:g}",
                        reached=ratio >= GOAL,
                        reason=_explain(full, seconds, decoding, medians[LIMIT], paths),
                    )
                ]
            )
    print_table(
        f"{len(paths)} photographs to {SIDE} pixels, one thread, load {os.getloadavg()[0]:.1f}",
        ("pipeline", "ms an image", "times quicker", "goal"),
        rows,
    )


def _explain(
    full: float, reduced: float, decoding: float, least: float, paths: Sequence[Path]
) -> str:
    """Why the goal is missed, from the seconds of all files: in full, reduced, of that decoding
    alone, and of it reading the compressed bits."""
    size = np.mean([path.stat().st_size for path in paths]) / 1e6
    each = 1e3 / len(paths)
    return (
        f"{full * each:.0f} ms in full, so {GOAL:g} times leaves {full * each / GOAL:.0f}; reading"
        f" the bits of {size:.1f} MB, which no size saves, takes {least * each:.0f}, their reduced"
        f" pixels {max(0.0, decoding - least) * each:.0f}, the resize"
        f" {max(0.0, reduced - decoding) * each:.0f}"
    )


def compare_sizes(paths: Sequence[Path], folder: Path, rounds: int) -> None:
    """Print what reducing saves with the same photographs in smaller and larger files."""
    name = "base, bilinear (as timm)"
    pipelines = {decode: build(decode, KINDS[name]) for decode in ("full", "reduced")}
    rows = []
    for quality in QUALITIES:
        files = [folder / f"{quality}-{number}.jpg" for number in range(len(paths))]
        for path, file in zip(paths, files, strict=True):
            pixels = cv2.imread(str(path))
            assert pixels is not None
            cv2.imwrite(str(file), pixels, [cv2.IMWRITE_JPEG_QUALITY, quality])

        def run(pipeline: Pipeline, files: Sequence[Path] = files) -> Callable[[], None]:
            return lambda: [make(pipeline, file, 0) for file in files] and None

        def read(files: Sequence[Path] = files) -> None:
            for file in files:
                decode_image(file, reduction=8)

        calls = {**{decode: run(one) for decode, one in pipelines.items()}, LIMIT: read}
        medians = time_calls(calls, rounds=rounds)
        size = np.mean([file.stat().st_size for file in files]) / 1e6
        times = [f"{seconds / len(files) * 1e3:.1f}" for seconds in medians.values()]
        ratios = [f"{medians['full'] / medians[way]:.2f}" for way in ("reduced", LIMIT)]
        rows.append((f"{size:.1f}", *times, *ratios))
    columns = ("MB a file", "full, ms", "reduced, ms", "an eighth, ms", "times quicker", "at most")
    print_table(f"{name}: it is the bytes of a file that stay", columns, rows)


def compare_pixels(paths: Sequence[Path]) -> None:
    """Print how far reduced images are from those decoded in full, and two full resizes apart."""
    rows = []
    for name, kind in KINDS.items():
        full, reduced = build("full", kind), build("reduced", kind)
        pairs = [
            (make(full, path, seed), make(reduced, path, seed)) for seed, path in enumerate(paths)
        ]
        rows.append((f"{name}: full and reduced", *rate(pairs)))
    area, bilinear = (build("full", kind) for kind in list(KINDS.values())[:2])
    pairs = [(make(area, path, 0), make(bilinear, path, 0)) for path in paths]
    rows.append(("full: area and bilinear", *rate(pairs)))
    columns = ("of the model's input", "mean difference, grey levels", "largest", "PSNR, dB")
    print_table("How far the pixels are apart", columns, rows)


def rate(pairs: Sequence[tuple[NDArray[np.float32], NDArray[np.float32]]]) -> tuple[str, str, str]:
    """Mean and largest difference in grey levels, and the peak signal to noise ratio."""
    apart = np.abs(np.stack([to_levels(one) - to_levels(other) for one, other in pairs]))
    psnr = 10 * np.log10(255**2 / float(np.mean(apart**2)))
    return f"{apart.mean():.2f}", f"{apart.max():.1f}", f"{psnr:.1f}"


def main() -> None:
    """Print the times and the differences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--images", type=int, default=8)
    parser.add_argument("--quick", action="store_true", help="3 photographs, 2 rounds")
    parser.add_argument("--photographs", type=Path, help="folder of JPEGs to use instead")
    options = parser.parse_args()
    if options.quick:
        options.rounds, options.images = 2, 3
    with tempfile.TemporaryDirectory() as name:
        if options.photographs:
            paths = sorted(options.photographs.rglob("*.jpg"))[: options.images]
        else:
            paths = [Path(name) / f"{number}.jpg" for number in range(options.images)]
            for number, path in enumerate(paths):
                draw_photograph(path, number)
        size = np.mean([path.stat().st_size for path in paths]) / 1e6
        print(f"{len(paths)} files of {size:.1f} MB")
        compare_times(paths, options.rounds)
        compare_sizes(paths, Path(name), options.rounds)
        compare_pixels(paths)


if __name__ == "__main__":
    main()
