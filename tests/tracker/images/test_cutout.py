"""tracker data remove-background: what is written, what is left alone, and that a killed call can
be completed."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
import tomllib
import types
from pathlib import Path

import cv2
import numpy as np
import psutil
import pytest

from tests.conftest import ROOT, run_tracker, tracker_command
from tracker.core.errors import TrackerError
from tracker.images.cutout import remove_background
from tracker.setup.demo_faces import make_competition
from tracker.training.config import Config
from tracker.training.errors import ConfigError, MissingLibraryError
from tracker.training.formats.images import decode_image
from tracker.training.input.channels import measure_channels
from tracker.training.inspect import cutout
from tracker.training.inspect.cutout import (
    MANIFEST,
    cut_out_folder,
    find_by_grabcut,
    find_by_rembg,
    open_rembg,
)

LIMIT_S = 120
IMAGES = 14  # of make_folder


def make_folder(root: Path, *, people: int = 1) -> Path:
    """train/ and eval/ with drawn faces, info.csv and a hidden file."""
    make_competition(root / "photos", people=people, eval_people=1, seed=4)
    (root / "photos" / "solution.csv").unlink()
    (root / "photos" / ".hidden").write_text("x")
    return root / "photos"


def hash_tree(folder: Path) -> dict[str, str]:
    """SHA-256 of every visible file by its name."""
    files = [path for path in folder.rglob("*") if path.is_file() and not path.name.startswith(".")]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_background_is_black_and_the_face_is_kept(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    before = hash_tree(folder)
    done = cut_out_folder(folder, tmp_path / "out", method="grabcut", processes=2)
    assert (done.cut, done.before, done.copied, done.problems) == (IMAGES, 0, 1, ())
    assert hash_tree(folder) == before
    assert set(hash_tree(tmp_path / "out")) == set(before)
    assert hash_tree(tmp_path / "out")["eval/info.csv"] == before["eval/info.csv"]
    for name in before:
        if name.endswith(".csv"):
            continue
        old, new = decode_image(folder / name), decode_image(tmp_path / "out" / name)
        assert new.shape == old.shape
        assert new[:20, :8].mean() < 3
        middle = np.s_[50:75, 38:58]
        assert np.abs(new[middle].astype(int) - old[middle]).mean() < 5


def test_what_is_done_is_left_alone_and_what_has_changed_is_made_again(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path), tmp_path / "out"
    cut_out_folder(folder, out, method="grabcut", processes=1)
    made, times = (
        hash_tree(out),
        {path: path.stat().st_mtime_ns for path in out.rglob("*.*g") if path.is_file()},
    )
    assert cut_out_folder(folder, out, method="grabcut", processes=1).cut == 0
    assert times == {path: path.stat().st_mtime_ns for path in times}
    first, second, third = list(times)[:3]
    first.write_bytes(b"damaged")
    second.unlink()
    source = folder / third.relative_to(out)
    source.write_bytes((folder / first.relative_to(out)).read_bytes())
    assert cut_out_folder(folder, out, method="grabcut", processes=1).cut == 3
    assert {
        name: made[name] for name in made if name != third.relative_to(out).as_posix()
    }.items() <= hash_tree(out).items()
    assert cut_out_folder(folder, out, method="grabcut", processes=1, redo=True).cut == IMAGES


def test_a_killed_call_is_completed_by_the_next_and_leaves_no_process(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path, people=4), tmp_path / "out"
    command = tracker_command("data", "remove-background", folder, "--out", out, "--processes", "2")
    process = subprocess.Popen(command, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)})
    manifest, limit = out / MANIFEST, time.monotonic() + LIMIT_S
    while not (manifest.is_file() and manifest.read_text().count("\n") >= 3):
        assert process.poll() is None
        assert time.monotonic() < limit
        time.sleep(0.01)
    children = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    process.wait()
    assert psutil.wait_procs(children, timeout=LIMIT_S)[1] == []
    kept = manifest.read_text().count("\n")
    assert kept < 35
    done = run_tracker("data", "remove-background", folder, "--out", out, cwd=tmp_path)
    assert f"{35 - kept} images cut out, {kept} already there" in done.stdout
    cut_out_folder(folder, tmp_path / "whole", method="grabcut", processes=1)
    assert hash_tree(out) == hash_tree(tmp_path / "whole")
    assert not list(out.rglob(".*.tmp"))


def test_the_command_tells_a_broken_image_and_prints_a_config_for_the_rest(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    (folder / "train" / "broken.jpg").write_bytes(b"no image")
    done = run_tracker("data", "remove-background", folder, cwd=tmp_path, ok=False)
    assert done.returncode == 1
    assert f"{IMAGES} images cut out, 0 already there, 1 other file copied" in done.stdout
    assert "broken.jpg: cannot be decoded" in done.stderr
    out = tmp_path / "photos-cutout"
    assert not (out / "train" / "broken.jpg").exists()
    lines = tomllib.loads(done.stdout.partition("\n")[2])["data"]
    assert (Path(lines["train_dir"]), Path(lines["eval_dir"])) == (out / "train", out / "eval")
    mean, std = measure_channels(sorted((out / "train").rglob("*.*g")), Config(), root=tmp_path)
    assert (lines["mean"], lines["std"]) == (list(mean), list(std))
    mean, _ = measure_channels(sorted((out / "eval").rglob("*.*g")), Config(), root=tmp_path)
    assert f"# its own mean = {list(mean)}" in done.stdout


def test_folders_that_would_lose_something_are_refused(tmp_path: Path) -> None:
    folder = make_folder(tmp_path)
    for out, words in ((folder / "x", "overlap"), (tmp_path, "overlap")):
        with pytest.raises(ConfigError, match=words):
            remove_background(folder, out, method="grabcut")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("")
    with pytest.raises(ConfigError, match="was not made by this command"):
        remove_background(folder, tmp_path / "mine", method="grabcut")
    with pytest.raises(ConfigError, match="expected one of grabcut, rembg"):
        remove_background(folder, None, method="magic")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match="no image in"):
        remove_background(tmp_path / "empty", None, method="grabcut")


def test_a_second_call_at_the_same_time_is_refused(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path), tmp_path / "out"
    out.mkdir()
    (out / MANIFEST).write_text("")
    hold = (
        f"import fcntl, time; file = open({str(out / cutout.LOCK)!r}, 'w'); fcntl.flock(file,"
        " fcntl.LOCK_EX); print('held'); time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-uc", hold], stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        try:
            with pytest.raises(ConfigError, match="another call is writing"):
                cut_out_folder(folder, out, method="grabcut", processes=1)
        finally:
            other.kill()


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (600, 4)])
def test_grabcut_takes_images_of_any_shape(size: tuple[int, int]) -> None:
    mask = find_by_grabcut(np.full((*size, 3), 127, dtype=np.uint8))
    assert mask.shape == size
    assert 0 <= mask.min() <= mask.max() <= 1


def test_the_middle_is_kept_where_the_subject_looks_like_the_frame() -> None:
    rng = np.random.default_rng(0)
    mask = find_by_grabcut(rng.integers(90, 110, (128, 96, 3), dtype=np.uint8))
    assert mask[40:88, 36:60].min() == 1


# --- rembg ---


def test_rembg_is_asked_for_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "rembg", None)
    with pytest.raises(MissingLibraryError, match="rembg is not installed") as refused:
        remove_background(make_folder(tmp_path), None, method="rembg")
    assert 'pip install "rembg[cpu]' in refused.value.hint
    assert not (tmp_path / "photos-cutout").exists()


def test_a_model_that_cannot_be_downloaded_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str) -> None:
        raise OSError("github.com does not answer")

    monkeypatch.setitem(sys.modules, "rembg", types.SimpleNamespace(new_session=fail))
    with pytest.raises(TrackerError, match=r"rembg has no model: github.com does not answer"):
        open_rembg()


def test_rembgs_mask_is_taken_as_shares(monkeypatch: pytest.MonkeyPatch) -> None:
    def remove(pixels: np.ndarray, *, session: str, only_mask: bool) -> np.ndarray:
        assert (session, only_mask) == ("u2net session", True)
        return cv2.inRange(pixels, (100, 100, 100), (255, 255, 255))

    fake = types.SimpleNamespace(new_session=lambda name: f"{name} session", remove=remove)
    monkeypatch.setitem(sys.modules, "rembg", fake)
    monkeypatch.setattr(cutout, "_sessions", {})
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :2] = 200
    assert find_by_rembg(pixels).tolist() == [[1, 1, 0, 0, 0, 0]] * 4


def test_a_torn_manifest_only_costs_its_last_line(tmp_path: Path) -> None:
    folder, out = make_folder(tmp_path), tmp_path / "out"
    cut_out_folder(folder, out, method="grabcut", processes=1)
    text = (out / MANIFEST).read_text()
    (out / MANIFEST).write_text(text[:-20])
    assert cut_out_folder(folder, out, method="grabcut", processes=1).cut == 1
    assert len([json.loads(line) for line in (out / MANIFEST).read_text().splitlines()]) == IMAGES
