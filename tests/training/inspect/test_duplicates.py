"""Nearly equal images are found, and only by comparing images that share a part of their hashes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from tests.conftest import save_image
from tracker.training.errors import DataError
from tracker.training.inspect.duplicates import Image, find_duplicates, find_near, hash_image


@pytest.mark.parametrize("limit", [0, 5, 24])
def test_the_search_finds_what_comparing_all_finds(limit: int) -> None:
    rng = np.random.default_rng(limit)
    hashes = rng.random((300, 256)) < rng.uniform(0.2, 0.8, 256)
    hashes[:100] = hashes[100:200]
    for row in range(100):
        hashes[row, rng.choice(256, rng.integers(0, 2 * limit + 1), replace=False)] ^= True
    rows, distances = find_near(hashes, limit)
    every = (hashes[:, None] != hashes[None]).sum(2)
    wanted = {(a, b): every[a, b] for a, b in np.argwhere(every <= limit) if a < b}
    assert dict(zip(map(tuple, rows.tolist()), distances.tolist(), strict=True)) == wanted
    assert len(wanted) > 30


def test_no_image_and_one_image_have_no_pair() -> None:
    for count in (0, 1):
        rows, distances = find_near(np.zeros((count, 256), dtype=bool), 24)
        assert rows.shape == (0, 2)
        assert distances.shape == (0,)


def test_pairs_of_one_split_are_told_only_when_their_labels_differ(tmp_path: Path) -> None:
    paths = [
        save_image(tmp_path / f"{name}.png", seed=seed, size=(64, 64))
        for name, seed in zip("abcd", (1, 1, 1, 2), strict=True)
    ]
    images = [
        Image(path.stem, path, "train", label)
        for path, label in zip(paths, ("x", "x", "y", "y"), strict=True)
    ]
    found = {
        (pair.a.id, pair.b.id): (pair.distance, pair.labels_differ)
        for pair in find_duplicates(images, limit=24)
    }
    assert found == {("a", "c"): (0, True), ("b", "c"): (0, True)}


def test_a_turned_photograph_is_the_one_that_its_exif_says(tmp_path: Path) -> None:
    upright = save_image(tmp_path / "upright.png", seed=3, size=(80, 60))
    exif = Picture.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees clockwise
    with Picture.open(upright) as picture:
        picture.transpose(Picture.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    assert (hash_image(upright) != hash_image(tmp_path / "turned.png")).sum() == 0


def test_a_file_that_is_no_image_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "x.jpg").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"x\.jpg: cannot be read"):
        hash_image(tmp_path / "x.jpg")
