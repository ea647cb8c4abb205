"""Prepared images that are kept: never another image than the one that would be made again,
whatever happens."""

from __future__ import annotations

import copy
import gc
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import ROOT, save_image
from tests.support.cache_filling import SHAPE, draw, keep, list_files, open_for
from tests.support.training_loop import SHORT, train, vary
from tracker.training.input import augment
from tracker.training.input.cache import MAX_FILES, list_caches, list_unused, open_cache


def make_files(folder: Path, count: int) -> list[Path]:
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"file {number}")
    return list_files(folder)


def start_filling(folder: Path, *words: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.support.cache_filling", str(folder), *words], cwd=ROOT
    )


def refuse(*_: Any) -> None:
    raise AssertionError("an image was decoded")


@pytest.mark.parametrize("mode", ["hsv", "fast"])
def test_training_with_the_cache_equals_training_without_to_the_bit(
    folders: Path, monkeypatch: pytest.MonkeyPatch, mode: str
) -> None:
    config = vary(
        SHORT,
        train__epochs=2,
        augment__name="custom",
        augment__jitter_mode=mode,
        augment__crop=[16, 20],
    )
    without, logged = train(config, folders, "without")
    filling, logged_filling = train(
        vary(config, data__workers=2), folders, "filling", cache_dir=folders / "cache"
    )
    monkeypatch.setattr(augment, "decode_image", refuse)
    kept, _ = train(config, folders, "kept", cache_dir=folders / "cache")
    assert without.weights_fingerprint == filling.weights_fingerprint == kept.weights_fingerprint
    losses = [
        [v["train/batch_loss"] for _, v in log.points if "train/batch_loss" in v]
        for log in (logged, logged_filling)
    ]
    assert losses[0] == losses[1]
    for name in ("filling", "kept"):
        for file in ("predictions.csv", "probabilities.npz"):
            assert (folders / name / file).read_bytes() == (folders / "without" / file).read_bytes()


def test_the_caches_of_a_running_training_are_in_use_until_it_ends(folders: Path) -> None:
    cache = folders / "cache"
    cache.mkdir()
    for name, age in (("old", 3), ("newest", -1000)):
        (cache / f"pixels-{name}.u8").write_bytes(b"x")
        last_use = time.time() - age
        os.utime(cache / f"pixels-{name}.u8", (last_use, last_use))
    unused: list[list[str]] = []

    def look() -> None:
        unused.append([file.stem for file in list_unused(cache)])
        assert len(list_caches(cache)) == 3

    train(SHORT, folders, "a", cache_dir=cache, at_epoch=look)
    assert unused == [["pixels-old"]]
    gc.collect()
    assert len(list_unused(cache)) == 2


def test_data_cache_false_keeps_nothing(folders: Path) -> None:
    train(vary(SHORT, data__cache=False), folders, "a", cache_dir=folders / "cache")
    assert not (folders / "cache").exists()
    train(SHORT, folders, "b", cache_dir=folders / "cache")
    assert (
        len(list((folders / "cache").iterdir())) == 1
    )  # training, validation and evaluation images share it


def test_a_changed_image_is_not_served_from_the_cache(folders: Path) -> None:
    before, _ = train(SHORT, folders, "before", cache_dir=folders / "cache")
    for path in (folders / "train" / "cat").iterdir():
        save_image(path, seed=1000 + int(path.stem[3:]))
    cached, _ = train(SHORT, folders, "cached", cache_dir=folders / "cache")
    plain, _ = train(SHORT, folders, "plain")
    assert cached.weights_fingerprint == plain.weights_fingerprint != before.weights_fingerprint


def test_only_what_was_checked_is_kept(tmp_path: Path) -> None:
    files = make_files(tmp_path, 2)
    cache = open_for(tmp_path, files)
    files[0].write_text("changed since")
    keep(cache, files[0])
    cache.store("elsewhere.txt", np.zeros(3, dtype=np.uint8), draw(files[1]))
    cache.store(
        str(files[1]), np.fromfile(files[1], dtype=np.uint8), np.zeros((4, 4, 3), dtype=np.uint8)
    )
    assert [cache.find(str(path)) for path in files] == [None, None]
    assert cache.find("elsewhere.txt") is None
    keep(cache, files[1])
    np.testing.assert_array_equal(cache.find(str(files[1])), draw(files[1]))


def test_another_head_has_another_file_and_equal_images_one_place(tmp_path: Path) -> None:
    files = make_files(tmp_path, 3)
    files[2].write_text(files[1].read_text())
    cache = open_for(tmp_path, files)
    keep(cache, files[1])
    np.testing.assert_array_equal(cache.find(str(files[2])), draw(files[1]))
    assert open_for(tmp_path, files, key="other").find(str(files[1])) is None
    found = copy.copy(cache).find(
        str(files[1])
    )  # by __reduce__, as a spawned loader process gets it
    np.testing.assert_array_equal(found, draw(files[1]))


def test_two_processes_fill_one_file_and_find_each_others_images(tmp_path: Path) -> None:
    files = make_files(tmp_path, 300)
    children = [start_filling(tmp_path) for _ in range(2)]
    assert [child.wait(60) for child in children] == [0, 0]
    cache = open_for(tmp_path, files)
    assert len(list((tmp_path / "cache").iterdir())) == 1
    for path in files:
        np.testing.assert_array_equal(cache.find(str(path)), draw(path))


@pytest.mark.parametrize("write", [7, 8])  # of an image, and of its mark
def test_a_process_killed_while_filling_leaves_nothing_wrong(tmp_path: Path, write: int) -> None:
    files = make_files(tmp_path, 30)
    assert start_filling(tmp_path, str(write)).wait(60) == -signal.SIGKILL
    cache = open_for(tmp_path, files)
    kept = {path: image for path in files if (image := cache.find(str(path))) is not None}
    assert len(kept) == 3
    for path, image in kept.items():
        np.testing.assert_array_equal(image, draw(path))
    assert start_filling(tmp_path).wait(60) == 0
    for path in files:
        np.testing.assert_array_equal(cache.find(str(path)), draw(path))


def test_an_image_written_in_part_is_made_again(tmp_path: Path) -> None:
    files = make_files(tmp_path, 4)
    cache = open_for(tmp_path, files)
    for path in files:
        keep(cache, path)
    (file,) = (tmp_path / "cache").iterdir()
    size = file.stat().st_size
    with file.open("r+b") as handle:
        handle.seek(size - 4096)
        handle.write(bytes(2048))  # a page that a power cut left half empty
    found = [path for path in files if cache.find(str(path)) is not None]
    assert len(found) == 3
    (torn,) = set(files) - set(found)
    keep(cache, torn)
    np.testing.assert_array_equal(cache.find(str(torn)), draw(torn))


def test_a_full_disk_stops_the_keeping_and_nothing_else(tmp_path: Path) -> None:
    files = make_files(tmp_path, 20)
    cache = open_for(tmp_path, files)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(
        resource.RLIMIT_FSIZE, (50_000, before[1])
    )  # the system writes no byte beyond it
    try:
        for path in files:
            keep(cache, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    kept = {path: image for path in files if (image := cache.find(str(path))) is not None}
    assert 0 < len(kept) < len(files)
    for path, image in kept.items():
        np.testing.assert_array_equal(image, draw(path))


def test_the_user_is_told_why_nothing_is_kept(tmp_path: Path) -> None:
    (path,) = make_files(tmp_path, 1)
    cache, note = open_cache(tmp_path / "cache", "key", (10**6, 10**6, 3), {path: "a"})
    assert cache is None
    assert "images are not cached: they need 3000.0 GB, more than half of the free space" in note
    assert list((tmp_path / "cache").iterdir()) == []
    cache, note = open_cache(path, "key", SHAPE, {path: "a"})
    assert cache is None
    assert note == f"images are not cached: {path}: File exists"
    assert open_cache(tmp_path / "cache", "key", SHAPE, {}) == (None, "")


def test_files_used_last_and_files_in_use_stay(tmp_path: Path) -> None:
    files = make_files(tmp_path, 1)
    in_use = open_for(tmp_path, files, key="in use")
    keep(in_use, files[0])
    (used,) = (tmp_path / "cache").iterdir()
    os.utime(used, (1, 1))
    names = [used]
    for number in range(MAX_FILES + 2):
        open_for(tmp_path, files, key=str(number))
        (new,) = set((tmp_path / "cache").iterdir()) - set(names)
        os.utime(new, (10 + number, 10 + number))
        names.append(new)
    left = {path for path in names if path.exists()}
    assert left == {used, *names[-MAX_FILES:]}
    np.testing.assert_array_equal(in_use.find(str(files[0])), draw(files[0]))


def test_a_run_that_cannot_keep_images_says_so_and_trains(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, _ = train(SHORT, folders, "plain")
    (folders / "file").write_text("")
    messages: list[str] = []
    monkeypatch.setattr(
        "tracker.training.progress.Progress.notify", lambda _, text: messages.append(text)
    )
    full, _ = train(SHORT, folders, "full", cache_dir=folders / "file")
    assert full.weights_fingerprint == plain.weights_fingerprint
    assert any("images are not cached" in text for text in messages)
