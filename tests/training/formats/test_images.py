"""Kinds of images, and paths that are no files."""

from __future__ import annotations

import os
import socket
import struct
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.conftest import save_image
from tests.training.conftest import TWO
from tracker.training.config import AugmentConfig, Config, DataConfig
from tracker.training.data.data import load_data
from tracker.training.errors import ConfigError, DataError, StorageError, WeightsError
from tracker.training.formats import images
from tracker.training.formats.images import check_images, decode_image, open_small, read_header
from tracker.training.input.pipeline_file import pin_pipeline_file
from tracker.training.inspect.duplicates import hash_image
from tracker.training.model.weights import read_state_dict
from tracker.training.tables import read_table, read_toml

RAMP = np.arange(0, 65536, 140, dtype=np.uint16)[:468].reshape(18, 26)


def save_tiff(path: Path, pixels: np.ndarray, *, bits: int, photometric: int = 1) -> Path:
    """A gray TIFF of one strip, little-endian."""
    height, width = pixels.shape
    content = pixels.astype("<u2").tobytes()
    if bits == 12:
        flat = pixels.reshape(-1, 2).astype(np.uint32)
        packed = flat[:, 0] << 12 | flat[:, 1]
        content = b"".join(int(value).to_bytes(3, "big") for value in packed)
    tags = [(256, 4, width), (257, 4, height), (258, 3, bits), (259, 3, 1), (262, 3, photometric)]
    tags += [(273, 4, 8), (277, 3, 1), (278, 4, height), (279, 4, len(content))]
    entries = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, kind, value in tags)
    head = b"II*\0" + struct.pack("<I", 8 + len(content))
    path.write_bytes(head + content + struct.pack("<H", len(tags)) + entries + bytes(4))
    return path


def find_problem(path: Path) -> str:
    """What a check says of an image; empty when it can be used."""
    return check_images([str(path)]).problems.get(str(path), "")


def read_all(path: Path) -> np.ndarray:
    """The pixels, after every way of reading has agreed that they are an image."""
    assert find_problem(path) == ""
    pixels = decode_image(path)
    assert (pixels.dtype, pixels.shape[2]) == (np.uint8, 3)
    assert open_small(path, (8, 8)).size == (pixels.shape[1], pixels.shape[0])
    assert hash_image(path).shape == (256,)
    assert read_header(path)[1] == (pixels.shape[1], pixels.shape[0])
    return pixels


@pytest.mark.parametrize("name", ["a.tif", "a.tiff", "a.png"])
def test_sixteen_bits_of_gray_are_scaled_to_eight(tmp_path: Path, name: str) -> None:
    Image.fromarray(RAMP).save(tmp_path / name)
    assert (read_all(tmp_path / name) == (RAMP >> 8)[..., None]).all()


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_sixteen_bits_of_color_are_scaled_to_eight(tmp_path: Path, name: str) -> None:
    color = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    assert cv2.imwrite(str(tmp_path / name), color[..., ::-1])
    assert np.abs(read_all(tmp_path / name).astype(int) - color / 257).max() <= 1


def test_twelve_bits_and_white_at_zero_are_read_as_the_file_says(tmp_path: Path) -> None:
    twelve = RAMP >> 4
    assert (
        read_all(save_tiff(tmp_path / "a.tif", twelve, bits=12)) == (twelve >> 4)[..., None]
    ).all()
    inverted = read_all(save_tiff(tmp_path / "b.tif", RAMP, bits=16, photometric=0))
    assert (inverted == 255 - (RAMP >> 8)[..., None]).all()


@pytest.mark.parametrize(
    ("kind", "words"), [(np.float32, "floats of 32 bits"), (np.int32, "whole numbers of 32 bits")]
)
def test_pixels_without_a_known_white_are_told_before_training(
    tmp_path: Path, kind: type, words: str
) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(RAMP.astype(kind)).save(path)
    assert words in find_problem(path)


def test_a_gif_is_its_first_frame_in_the_colors_of_its_palette(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (30, 20), color) for color in ((200, 30, 10), (0, 0, 255))]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert (read_all(tmp_path / "a.gif") == (200, 30, 10)).all()


@pytest.mark.parametrize("mode", ["P", "L", "LA", "1", "RGBA", "CMYK", "I;16"])
def test_a_large_image_is_converted_in_parts_and_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    """Whole, 178 million pixels, which a GIF of 1 kB may have, took 2 GB."""
    noise = np.random.default_rng(0).integers(0, 255, (21, 30, 4), dtype=np.uint8)
    image = Image.fromarray(RAMP) if mode == "I;16" else Image.fromarray(noise).convert(mode)
    image.save(tmp_path / "a.tif")
    whole = read_all(tmp_path / "a.tif")
    sizes, convert = [], images._convert
    monkeypatch.setattr(images, "CONVERTED_AT_ONCE", 100)
    monkeypatch.setattr(
        images, "_convert", lambda part, tags: sizes.append(part.size) or convert(part, tags)
    )
    assert (read_all(tmp_path / "a.tif") == whole).all()
    assert max(width * height for width, height in sizes) <= 100


@pytest.mark.parametrize("name", ["a.gif", "a.png", "a.tif"])
def test_of_transparent_pixels_the_stored_color_counts_in_every_format(
    tmp_path: Path, name: str
) -> None:
    pixels = np.full((20, 30, 4), (200, 30, 10, 255), dtype=np.uint8)
    pixels[:10] = (10, 90, 60, 0)
    Image.fromarray(pixels).save(tmp_path / name)
    assert (read_all(tmp_path / name) == pixels[..., :3]).all()


@pytest.mark.parametrize("name", ["a.tif", "a.jpg"])
def test_an_image_is_turned_as_its_file_says(tmp_path: Path, name: str) -> None:
    pixels = np.zeros((20, 30, 3), dtype=np.uint8)
    pixels[:10] = 255
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / name, exif=exif)
    assert np.abs(decode_image(tmp_path / name).astype(int) - np.rot90(pixels, -1)).max() < 60


def test_tiff_kinds_that_opencv_does_not_read_are_read(tmp_path: Path) -> None:
    noise = Image.open(save_image(tmp_path / "a.png", seed=3))
    for mode, compression in (
        ("CMYK", "jpeg"),
        ("1", "group4"),
        ("LAB", None),
        ("YCbCr", "jpeg"),
        ("P", "tiff_lzw"),
    ):
        image = (
            noise.convert(mode) if mode != "LAB" else Image.new("LAB", (24, 20), (120, 130, 140))
        )
        image.save(tmp_path / "b.tif", compression=compression)
        assert read_all(tmp_path / "b.tif").shape == (20, 24, 3)


def test_images_of_every_kind_with_bytes_changed_or_cut_off_are_told_and_not_raised(
    tmp_path: Path,
) -> None:
    rng = np.random.default_rng(0)
    paths = []
    for suffix in (".tif", ".gif", ".png", ".webp", ".bmp", ".jpg"):
        content = save_image(tmp_path / f"whole{suffix}", seed=3).read_bytes()
        for number in range(60):
            changed = np.frombuffer(content, dtype=np.uint8).copy()
            changed[rng.integers(0, len(changed), size=3)] = rng.integers(0, 256, size=3)
            paths.append(tmp_path / f"{number}{suffix}")
            paths[-1].write_bytes(changed[: len(changed) - int(rng.integers(0, 2)) * 30].tobytes())
    problems = check_images(map(str, paths)).problems
    for path in paths:
        if str(path) not in problems:
            decode_image(path)
    assert problems


def make_others(folder: Path) -> dict[str, Path]:
    """Paths that are no files, by what they are called."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "a named pipe": folder / "pipe.jpg",
        "a folder": folder / "folder.jpg",
        "a socket": folder / "s.jpg",
    }
    os.mkfifo(found["a named pipe"])
    found["a folder"].mkdir()
    with socket.socket(socket.AF_UNIX) as bound:
        here = Path.cwd()
        os.chdir(folder)  # the name of a socket is short
        try:
            bound.bind("s.jpg")
        finally:
            os.chdir(here)
    found["a device"] = folder / "device.jpg"
    found["a device"].symlink_to("/dev/zero")
    found["a link to nowhere.jpg, which is not there"] = folder / "link.jpg"
    found["a link to nowhere.jpg, which is not there"].symlink_to("nowhere.jpg")
    return found


def test_what_is_no_file_is_told_at_once_by_every_reader(tmp_path: Path) -> None:
    readers = [
        (lambda path: read_table(path, ("id",)), DataError),
        (read_toml, StorageError),
        (read_state_dict, WeightsError),
        (decode_image, DataError),
        (hash_image, DataError),
        (read_header, DataError),
        (
            lambda path: pin_pipeline_file(Config(augment=AugmentConfig(name=str(path))), tmp_path),
            ConfigError,
        ),
    ]
    for words, path in make_others(tmp_path / "others").items():
        assert words in find_problem(path)
        yaml = path.with_suffix(".yaml")
        path.rename(yaml)
        for read, error in readers:
            with pytest.raises(error, match=words):
                read(yaml)


def test_only_files_and_links_to_files_are_training_and_evaluation_images(folders: Path) -> None:
    target = save_image(folders / "elsewhere.png", seed=3)
    (folders / "train" / "cat" / "link.png").symlink_to(target)
    config = DataConfig(train_dir="train", eval_dir="eval")
    data = load_data(config, TWO, root=folders)
    assert "cat/link.png" in {sample.id for sample in (*data.train, *data.val)}
    os.mkfifo(folders / "train" / "cat" / "x.jpg")
    (folders / "eval" / "images" / "e0.png").unlink()
    os.mkfifo(folders / "eval" / "images" / "e0.png")
    with pytest.raises(DataError) as caught:
        load_data(config, TWO, root=folders)
    assert len(caught.value.problems) == 2
    assert all("a named pipe, not a file" in problem for problem in caught.value.problems)


def test_an_evaluation_table_that_is_no_file_is_told_and_not_taken_for_missing(
    folders: Path,
) -> None:
    (folders / "eval" / "info.csv").unlink()
    os.mkfifo(folders / "eval" / "info.csv")
    with pytest.raises(DataError, match=r"info\.csv: a named pipe"):
        load_data(DataConfig(train_dir="train", eval_dir="eval"), TWO, root=folders)
