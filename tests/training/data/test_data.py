"""Reading the three formats, splitting, and one report of everything that is wrong."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import save_image
from tests.support.mask_profiles import MASKS, make_profiles
from tests.training.conftest import TWO
from tracker.training.config import Config, DataConfig
from tracker.training.data.data import list_eval_ids, load_data
from tracker.training.data.split import split_samples
from tracker.training.errors import DataError
from tracker.training.formats.check_table import CheckTable
from tracker.training.formats.format import IMAGE_SUFFIXES
from tracker.training.formats.images import ImageChecks, check_images, decode_image
from tracker.training.formats.mask_profiles import mask_profile_label
from tracker.training.formats.samples import Sample


def test_image_folder_labels_are_places_in_the_class_list(folders: Path) -> None:
    data = load_data(DataConfig(train_dir="train", eval_dir="eval"), TWO, root=folders)
    labels = {sample.id: sample.label for sample in (*data.train, *data.val)}
    assert labels["cat/cat00.png"] == 0
    assert labels["dog/dog11.png"] == 1
    assert len(labels) == 24
    assert [image.id for image in data.eval] == [f"e{number}.png" for number in range(6)]


def test_names_beginning_with_a_dot_are_ignored(folders: Path) -> None:
    (folders / "train" / ".ipynb_checkpoints").mkdir()
    (folders / "train" / "cat" / "._cat00.png").write_bytes(b"junk")
    data = load_data(DataConfig(train_dir="train"), TWO, root=folders)
    assert len(data.train) + len(data.val) == 24


@pytest.mark.parametrize(
    ("mask", "gender", "age", "label"),
    [
        (0, "male", 29, 0),
        (0, "male", 30, 1),
        (0, "female", 60, 5),
        (1, "male", 59, 7),
        (2, "female", 75, 17),
    ],
)
def test_mask_profile_class_is_mask_times_6_plus_gender_times_3_plus_age(
    mask: int, gender: str, age: int, label: int
) -> None:
    assert mask_profile_label(mask, gender, age, (30, 60)) == label


def test_age_bands_move_the_age_class(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    plain = load_data(
        DataConfig(format="mask_profiles", train_dir="train", split_seed=1), MASKS, root=tmp_path
    )
    config = DataConfig(format="mask_profiles", train_dir="train", split_seed=1, age_bands=(20, 45))
    with pytest.raises(DataError, match="class 'mask_male_young': no training image"):
        load_data(config, MASKS, root=tmp_path)
    assert Counter(s.label for s in (*plain.train, *plain.val))[0] == 4 * 5


def test_split_by_profile_never_divides_a_person(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    config = DataConfig(
        format="mask_profiles", train_dir="train", split="by_profile", val_ratio=0.25
    )
    data = load_data(config, MASKS, root=tmp_path)
    assert not {s.group for s in data.train} & {s.group for s in data.val}
    assert len(data.val) == 6 * 7


@pytest.mark.parametrize("split", ["by_profile", "by_image", "stratified"])
def test_a_split_loses_nothing_and_repeats(split: str) -> None:
    samples = [Sample(f"p{n // 7}/i{n}", "x", n % 3, f"p{n // 7}") for n in range(210)]
    first, again = (split_samples(samples, DataConfig(split=split)) for _ in range(2))
    assert first == again
    assert sorted(s.id for part in first for s in part) == sorted(s.id for s in samples)
    assert len(first[1]) == 42
    assert split_samples(samples, DataConfig(split=split, split_seed=43)) != first


def test_another_training_seed_validates_on_the_same_images(folders: Path) -> None:
    config = Config(data=DataConfig(train_dir="train"))
    other = replace(config, train=replace(config.train, seed=7))
    sets = [load_data(each.data, TWO, root=folders).val for each in (config, other)]
    assert sets[0] == sets[1]


def test_stratified_split_keeps_the_share_of_every_class() -> None:
    samples = [Sample(str(n), "x", 0 if n < 90 else 1, str(n)) for n in range(100)]
    _, val = split_samples(samples, DataConfig(split="stratified"))
    assert Counter(s.label for s in val) == {0: 18, 1: 2}


def test_csv_takes_numbers_and_names(tmp_path: Path) -> None:
    rows = []
    for number in range(10):
        save_image(tmp_path / "train" / f"{number}.png", seed=number)
        rows.append(f"{number}.png,{('0', 'dog')[number % 2]}\n")
    (tmp_path / "train" / "labels.csv").write_text(
        "\ufeffImageID,ans\n" + "".join(rows), encoding="utf-8"
    )
    data = load_data(DataConfig(format="csv", train_dir="train"), TWO, root=tmp_path)
    assert {s.id: s.label for s in (*data.train, *data.val)}["3.png"] == 1
    assert len(data.train) + len(data.val) == 10


def test_one_report_names_every_offender(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    train = tmp_path / "train"
    (train / "nobody").mkdir()
    (train / "000000_male_Asian_20" / "mask1.jpg").write_bytes(b"")
    (train / "000001_female_Asian_20" / "mask2.jpg").write_bytes(
        b"\xff\xd8\xff\xe0 not a photograph"
    )
    whole = (train / "000002_male_Asian_45" / "mask3.jpg").read_bytes()
    (train / "000002_male_Asian_45" / "mask3.jpg").write_bytes(whole[: len(whole) // 2])
    (train / "000003_female_Asian_45" / "normal.jpg").unlink()
    save_image(train / "000004_male_Asian_60" / "holiday.jpg", seed=1)
    save_image(tmp_path / "eval" / "images" / "a.jpg", seed=3)
    (tmp_path / "eval" / "info.csv").write_text(
        "ImageID,ans\na.jpg,0\nb.jpg,0\n000005_female_Asian_60/mask1.jpg,0\n"
    )
    config = DataConfig(format="mask_profiles", train_dir="train", eval_dir="eval")
    with pytest.raises(DataError) as caught:
        load_data(config, MASKS, root=tmp_path)
    text = "\n".join(caught.value.problems)
    for words in (
        "nobody: expected a folder <id>_<male|female>_<race>_<age>",
        "mask1.jpg: empty file",
        "mask2.jpg: ",
        "mask3.jpg: corrupt",
        "000003_female_Asian_45: normal is missing",
        "holiday.jpg: expected mask1..mask5",
        "b.jpg: missing",
        "000005_female_Asian_60/mask1.jpg: is both a training and an evaluation image",
    ):
        assert words in text
    assert str(caught.value).count("\n") >= 8


def test_an_empty_class_and_overlapping_ids_are_offenders(folders: Path) -> None:
    for path in (folders / "train" / "dog").iterdir():
        path.unlink()
    save_image(folders / "train" / "cat" / "e0.png", seed=1)
    with pytest.raises(DataError) as caught:
        load_data(DataConfig(train_dir="train", eval_dir="eval"), TWO, root=folders)
    assert "class 'dog': no training image" in caught.value.problems
    assert "e0.png: is both a training and an evaluation image" in caught.value.problems


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (DataConfig(), "data.train_dir is empty"),
        (DataConfig(train_dir="nowhere"), "no such folder"),
        (DataConfig(train_dir="train", eval_dir="nowhere"), "no such folder"),
        (DataConfig(train_dir="train", format="csv"), "no such file"),
        (
            DataConfig(train_dir="train", format="mask_profiles"),
            "has 18 classes, the competition has 2",
        ),
    ],
)
def test_a_missing_folder_or_table_is_named(folders: Path, config: DataConfig, words: str) -> None:
    with pytest.raises(DataError, match=words):
        load_data(config, TWO, root=folders)


def test_evaluation_table_without_the_id_column_names_its_columns(folders: Path) -> None:
    (folders / "eval" / "info.csv").write_text("file,ans\ne0.png,0\n")
    with pytest.raises(DataError, match="has no column ImageID") as caught:
        list_eval_ids(DataConfig(eval_dir="eval"), TWO, root=folders)
    assert "file, ans" in caught.value.hint


def test_data_fingerprint_follows_labels_and_bytes_but_not_the_folder(folders: Path) -> None:
    config = DataConfig(train_dir="train", eval_dir="eval")
    before = load_data(config, TWO, root=folders).fingerprint
    (folders / "train").rename(folders / "moved")
    moved = DataConfig(train_dir="moved", eval_dir="eval")
    assert load_data(moved, TWO, root=folders).fingerprint == before
    save_image(folders / "moved" / "cat" / "cat00.png", seed=77)
    assert load_data(moved, TWO, root=folders).fingerprint != before


@pytest.mark.parametrize("suffix", sorted(IMAGE_SUFFIXES))
@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA", "P"])
def test_every_image_kind_is_decoded_to_rgb(tmp_path: Path, suffix: str, mode: str) -> None:
    if suffix in (".jpg", ".jpeg") and mode in ("RGBA", "P"):
        mode = "CMYK" if mode == "P" else "L"
    path = save_image(tmp_path / f"a{suffix}", seed=3, mode=mode)
    assert not check_images([str(path)]).problems
    assert decode_image(path).shape == (20, 24, 3)


def test_check_is_taken_from_the_cache_until_the_file_changes(tmp_path: Path) -> None:
    path, cache = save_image(tmp_path / "a.png", seed=1), tmp_path / "images.npz"
    before = path.stat()
    first = check_images([str(path)], cache=cache)
    # another content of this size and time is not looked at
    path.write_bytes(bytes(before.st_size))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check_images([str(path)], cache=cache) == first
    path.write_bytes(b"no image any more")
    told = ImageChecks({str(path): hashlib.sha256(path.read_bytes()).hexdigest()}, {})
    told.problems[str(path)] = "not an image"
    for damage in (lambda whole: whole, lambda _: b"{broken", lambda whole: whole[:-100], flip):
        cache.write_bytes(damage(cache.read_bytes()))
        assert check_images([str(path)], cache=cache) == told


def flip(content: bytes) -> bytes:
    """The content with a bit changed in the column of digests."""
    place = content.index(b"digests.npy") + 150
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


def test_a_table_of_checks_keeps_the_images_of_other_configs(tmp_path: Path) -> None:
    cache = tmp_path / "images.npz"
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/\xff,\n.png")
    names = [str(tmp_path / "a.png"), odd, str(tmp_path / "b.png")]
    for seed, name in enumerate(names):
        save_image(Path(name), seed=seed)
    Path(names[2]).write_bytes(b"no image")
    check_images(names[:2], cache=cache)
    found = check_images([*names[1:], str(tmp_path / "gone.png")], cache=cache)
    assert found.problems == {names[2]: "not an image", str(tmp_path / "gone.png"): "missing"}
    table = CheckTable.read(cache)
    assert table.list_changed(names) == []
    assert table.list_problems(names) == {names[2]: "not an image"}
    expected = {name: hashlib.sha256(Path(name).read_bytes()).hexdigest() for name in names}
    assert table.list_digests(names) == expected
    # a file that is gone, and one that was repaired, replace what was known of them
    Path(names[0]).unlink()
    shutil.copy(odd, names[2])
    assert check_images(names, cache=cache).problems == {names[0]: "missing"}
    assert CheckTable.read(cache).list_changed(names) == [names[0]]


def test_the_checks_of_earlier_versions_are_read_from_their_json_and_become_a_table(
    tmp_path: Path,
) -> None:
    names = [str(save_image(tmp_path / f"{name}.png", seed=1)) for name in "ab"]
    status = Path(names[0]).stat()
    known = {"size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": 64 * "a"}
    old = tmp_path / "images.json"
    old.write_text(json.dumps({names[0]: {**known, "problem": "corrupt (as it was told)"}}))
    found = check_images(names[:1], cache=tmp_path / "images.npz")
    assert found == ImageChecks({names[0]: 64 * "a"}, {names[0]: "corrupt (as it was told)"})
    assert not old.exists()
    assert check_images(names, cache=tmp_path / "images.npz").problems == found.problems
