"""Training images that are left out, and files beside the images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.conftest import save_image
from tests.support.mask_profiles import MASKS, make_profiles
from tests.training.conftest import TWO
from tracker.training.config import Config as Whole
from tracker.training.config import DataConfig, config_to_dict, merge
from tracker.training.config_fingerprint import config_fingerprint, trajectory_fingerprint
from tracker.training.data.data import copy_tables, inspect_data, load_data
from tracker.training.errors import DataError
from tracker.training.formats.samples import LoadedData

CONFIG = DataConfig(train_dir="train", eval_dir="eval")


def list_ids(data: LoadedData) -> set[str]:
    return {sample.id for sample in (*data.train, *data.val)}


def write(path: Path, *lines: str) -> str:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path.name


@pytest.mark.parametrize(
    "exclude",
    [
        "cat/cat00.png, dog/dog1[01].png",
        "cat00.*,dog1[01].png",
        "train/cat/cat00.png,./train/dog/dog1[01].png",
        "{root}/train/cat/cat00.png,*/dog1[01].png",
        "paths.csv",
        "ids.csv",
        "first.csv,dog1[01].png",
    ],
)
def test_images_are_left_out_by_pattern_path_and_table(folders: Path, exclude: str) -> None:
    write(
        folders / "paths.csv",
        "path,reason",
        "cat/cat00.png,blurred",
        "train/dog/dog10.png,",
        "dog/dog11.png,dark",
    )
    write(
        folders / "ids.csv",
        "ImageID",
        "cat/cat00.png",
        f"{folders}/train/dog/dog10.png",
        "dog/dog11.png",
    )
    write(folders / "first.csv", "id", "cat/cat00.png")
    everything = load_data(CONFIG, TWO, root=folders)
    data = load_data(replace(CONFIG, exclude=exclude.format(root=folders)), TWO, root=folders)
    assert list_ids(everything) - list_ids(data) == {
        "cat/cat00.png",
        "dog/dog10.png",
        "dog/dog11.png",
    }
    assert data.eval == everything.eval
    assert data.notes[0].startswith("left out of the training images by data.exclude: 3 (")
    assert data.fingerprint != everything.fingerprint


def test_a_path_in_a_table_is_no_pattern(folders: Path) -> None:
    save_image(folders / "train" / "cat" / "a[1].png", seed=2)
    save_image(folders / "train" / "cat" / "a1.png", seed=4)
    write(folders / "bad.csv", "path", "cat/a[1].png")
    assert "cat/a1.png" in list_ids(
        load_data(replace(CONFIG, exclude="bad.csv"), TWO, root=folders)
    )


def test_a_folder_in_a_table_leaves_out_all_of_it(folders: Path) -> None:
    for number in range(3):
        save_image(folders / "train" / "cat" / "blurred" / f"{number}.png", seed=number)
    write(folders / "bad.csv", "path", "cat/blurred/")
    assert len(list_ids(load_data(replace(CONFIG, exclude="bad.csv"), TWO, root=folders))) == 24


def test_the_fingerprint_tells_what_was_left_out_from_what_was_never_there(folders: Path) -> None:
    left_out = load_data(replace(CONFIG, exclude="cat00.png"), TWO, root=folders).fingerprint
    assert (
        load_data(replace(CONFIG, exclude="*/cat00.png"), TWO, root=folders).fingerprint == left_out
    )
    (folders / "train" / "cat" / "cat00.png").unlink()
    assert load_data(CONFIG, TWO, root=folders).fingerprint != left_out


def test_a_rule_that_fits_nothing_is_a_problem(folders: Path) -> None:
    write(folders / "bad.csv", "path", "cat/cat00.png", "cat/none.png", "")
    config = replace(CONFIG, exclude="bad.csv,*.gif")
    with pytest.raises(DataError) as caught:
        load_data(config, TWO, root=folders)
    assert caught.value.problems == (
        f"{folders}/bad.csv:3: no training image cat/none.png",
        "data.exclude: no training image *.gif",
    )
    write(folders / "odd.csv", "file", "cat/cat00.png")
    with pytest.raises(DataError, match=r"odd\.csv:2: no path"):
        load_data(replace(CONFIG, exclude="odd.csv"), TWO, root=folders)
    with pytest.raises(DataError, match="no such file"):
        load_data(replace(CONFIG, exclude="none.csv"), TWO, root=folders)


def test_evaluation_images_are_predicted_whatever_is_left_out(folders: Path) -> None:
    (folders / "train" / "cat" / "e1.png").write_bytes(
        (folders / "train" / "cat" / "cat00.png").read_bytes()
    )
    data = load_data(replace(CONFIG, exclude="e*.png"), TWO, root=folders)
    assert len(data.eval) == 6
    assert (
        data.notes[1]
        == "data.exclude: e*.png also matches 6 evaluation images; they are predicted anyway"
    )
    (folders / "eval" / "images" / "e2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"e2\.png: empty file"):
        load_data(replace(CONFIG, exclude="e*.png"), TWO, root=folders)


def check_that_the_report_mends(config: DataConfig, root: Path, task: object = TWO) -> LoadedData:
    """What `inspect_data` says of broken training images, taken as data.exclude, makes the data
    usable."""
    report = inspect_data(config, task, root=root)  # type: ignore[arg-type]
    assert report.data is None
    assert report.broken == len(report.excludable) > 0
    assert all(reason for _, reason in report.excludable)
    write(
        root / "bad.csv",
        "path,reason",
        *(f'{path},"{reason}"' for path, reason in report.excludable),
    )
    data = load_data(replace(config, exclude="bad.csv"), task, root=root)  # type: ignore[arg-type]
    assert data.notes[0].endswith(f"{report.broken} (bad.csv: {report.broken})")
    return data


def test_everything_broken_in_class_folders_can_be_left_out(folders: Path) -> None:
    (folders / "train" / "cat" / "cat00.png").write_bytes(b"")
    (folders / "train" / "cat" / "movie.mp4").write_bytes(b"x")
    (folders / "train" / "wolf").mkdir()
    save_image(folders / "train" / "dog" / "e1.png", seed=1)
    assert len(list_ids(check_that_the_report_mends(CONFIG, folders))) == 23


def test_everything_broken_in_profiles_can_be_left_out(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    (tmp_path / "train" / "nobody").mkdir()
    first = tmp_path / "train" / "000000_male_Asian_20"
    (first / "mask1.jpg").write_bytes(b"")
    (first / "normal.jpg").unlink()
    save_image(first / "holiday.jpg", seed=1)
    config = DataConfig(format="mask_profiles", train_dir="train", split="by_profile")
    assert len(list_ids(check_that_the_report_mends(config, tmp_path, MASKS))) == 24 * 7 - 2


def test_everything_broken_in_a_table_can_be_left_out(tmp_path: Path) -> None:
    for number in range(12):
        save_image(tmp_path / "train" / "images" / f"{number}.png", seed=number)
    rows = [f"{number}.png,{number % 2}" for number in range(12)]
    write(
        tmp_path / "train" / "labels.csv",
        "ImageID,ans",
        *rows,
        "3.png,0",
        "20.png,0",
        "21.png,wolf",
    )
    config = DataConfig(format="csv", train_dir="train")
    data = check_that_the_report_mends(config, tmp_path)
    assert list_ids(data) == {f"{number}.png" for number in range(12)} - {"3.png"}
    assert list_ids(
        load_data(replace(config, exclude="bad.csv,images/4.png"), TWO, root=tmp_path)
    ) == list_ids(data) - {"4.png"}


def test_a_label_fix_of_an_image_that_is_left_out_is_no_problem(folders: Path) -> None:
    write(folders / "fixes.csv", "id,field,value", "cat/cat00.png,label,dog")
    config = replace(CONFIG, label_fixes="fixes.csv", exclude="cat00.png")
    assert len(list_ids(load_data(config, TWO, root=folders))) == 23


def test_a_run_keeps_the_tables_of_label_fixes_and_of_images_left_out(folders: Path) -> None:
    write(folders / "fixes.csv", "id,field,value", "cat/cat01.png,label,dog")
    write(folders / "bad.csv", "path", "cat/cat00.png")
    (folders / "exp1").mkdir()
    copy_tables(
        replace(CONFIG, label_fixes="fixes.csv", exclude="bad.csv,*.gif"), folders, folders / "exp1"
    )
    assert {path.name: path.read_text() for path in (folders / "exp1").iterdir()} == {
        "label_fixes.csv": (folders / "fixes.csv").read_text(),
        "exclude.csv": (folders / "bad.csv").read_text(),
    }


def test_files_beside_the_images_are_counted_in_one_line(folders: Path) -> None:
    for name in (
        "cat/Thumbs.db",
        "cat/cat00.txt",
        "cat/cat01.TXT",
        "dog/desktop.ini",
        "dog/boxes.csv",
        "labels.csv",
    ):
        (folders / "train" / name).write_bytes(b"x")
    for name in ("cat/.ipynb_checkpoints", ".ipynb_checkpoints"):
        (folders / "train" / name).mkdir()
    (folders / "train" / "cat" / ".ipynb_checkpoints" / "cat00-checkpoint.png").write_bytes(b"x")
    (folders / "train" / "dog" / "._dog00.png").write_bytes(b"x")
    data = load_data(CONFIG, TWO, root=folders)
    (note,) = data.notes
    words, _, kinds = note.strip(")").partition(" (")
    assert words == "files beside the images, ignored: 9"
    assert kinds.startswith((".txt 2", ".ipynb_checkpoints 2", ".csv 2"))
    assert {"Thumbs.db 1", "hidden 1", "desktop.ini 1", ".txt 2"} < set(kinds.split(", "))
    (folders / "train" / "cat" / "photo.heic").write_bytes(b"x")
    with pytest.raises(DataError, match=r"photo\.heic: not an image"):
        load_data(CONFIG, TWO, root=folders)


def test_a_config_without_exclude_is_the_same_as_one_from_before_there_was_exclude() -> None:
    now = config_to_dict(Whole())
    before = config_to_dict(Whole())
    del before["data"]["exclude"]
    other = merge(now, {"data": {"exclude": "*.gif"}})
    for fingerprint in (config_fingerprint, trajectory_fingerprint):
        assert fingerprint(now) == fingerprint(before) != fingerprint(other)
