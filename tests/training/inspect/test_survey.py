"""What a survey counts and measures, against what was put into the folders."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.conftest import save_image
from tests.support.mask_profiles import MASKS, make_profiles
from tests.training.conftest import TWO
from tracker.training.config import Config, DataConfig
from tracker.training.data.data import load_data
from tracker.training.data.split import split_samples
from tracker.training.formats.images import decode_image
from tracker.training.formats.samples import Task
from tracker.training.inspect.survey import PartSurvey, Survey, survey_data, tabulate_split
from tracker.training.inspect.survey_figures import draw_survey

PROFILES = DataConfig(
    format="mask_profiles",
    train_dir="train",
    split="by_profile",
    val_ratio=0.25,
    image_size=(20, 24),
)


def survey(config: DataConfig, root: Path, task: Task = TWO) -> Survey:
    data = load_data(config, task, root=root)
    return survey_data(Config(data=config), data, task, root=root)


def test_classes_attributes_people_and_ages_are_counted_by_part(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    found = survey(PROFILES, tmp_path, MASKS)
    train, val = found.parts["training"], found.parts["validation"]
    assert (train.images, train.people, val.images, val.people) == (18 * 7, 18, 6 * 7, 6)
    together = Counter(train.classes) + Counter(val.classes)
    assert together == {name: 20 if name.startswith("mask") else 4 for name in MASKS.classes}
    assert train.attributes["mask"] == {"mask": 18 * 5, "incorrect": 18, "normal": 18}
    genders = Counter(train.attributes["gender"]) + Counter(val.attributes["gender"])
    ages = Counter(train.attributes["age"]) + Counter(val.attributes["age"])
    assert genders == {"male": 84, "female": 84}
    assert ages == {"young": 56, "middle": 56, "old": 56}
    assert Counter(train.ages) + Counter(val.ages) == {20: 8, 45: 8, 60: 8}
    assert found.age_bands == (30, 60)


def test_sizes_formats_and_colors_are_those_of_each_part(folders: Path) -> None:
    save_image(folders / "train" / "cat" / "cat00.png", seed=0, size=(40, 30))
    Image.fromarray(np.full((20, 24, 3), 90, dtype=np.uint8)).save(
        folders / "train" / "dog" / "dog12.jpg"
    )
    config = DataConfig(train_dir="train", eval_dir="eval", image_size=(20, 24))
    found = survey(config, folders)
    train, val, evaluation = (
        found.parts[name] for name in ("training", "validation", "evaluation")
    )
    assert Counter(train.sizes) + Counter(val.sizes) == {"24x20": 24, "40x30": 1}
    assert Counter(train.formats) + Counter(val.formats) == {"PNG": 24, "JPEG": 1}
    pixels = [
        decode_image(path).reshape(-1, 3) / 255 for path in (folders / "eval" / "images").iterdir()
    ]
    assert evaluation.mean == pytest.approx(np.concatenate(pixels).mean(0), abs=1e-6)
    assert evaluation.std == pytest.approx(np.concatenate(pixels).std(0), abs=1e-6)
    assert evaluation.mean != train.mean
    assert (evaluation.images, evaluation.people, evaluation.classes, evaluation.ages) == (
        6,
        None,
        {},
        {},
    )
    assert found.age_bands is None


def test_the_table_has_the_split_that_a_run_trains_with(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    config = replace(PROFILES, undersample=(0, 29, 0.7))
    data = load_data(config, MASKS, root=tmp_path)
    whole = load_data(replace(config, undersample=()), MASKS, root=tmp_path)
    table = tabulate_split(Config(data=config), whole, MASKS)
    parts = {
        name: {row[0] for row in table.rows if row[2] == name}
        for name in ("train", "val", "unused")
    }
    assert parts["train"] == {sample.id for sample in data.train}
    assert parts["val"] == {sample.id for sample in data.val}
    assert len(parts["unused"]) == 24 * 7 - len(data.train) - len(data.val) > 0
    assert table.column == "split"
    assert sum(table.counts["unused"].values()) == len(parts["unused"])


def test_the_table_of_folds_has_the_fold_that_each_run_validates_on(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    config = replace(PROFILES, folds=4)
    data = load_data(config, MASKS, root=tmp_path)
    table = tabulate_split(Config(data=config), data, MASKS)
    assert table.column == "fold"
    samples = [*data.train, *data.val]
    for fold in range(4):
        _, val = split_samples(samples, replace(config, fold=fold))
        assert {row[0] for row in table.rows if row[2] == str(fold)} == {
            sample.id for sample in val
        }
    assert [row[0] for row in table.rows] == sorted(sample.id for sample in samples)


def test_classes_that_nothing_validates_are_named(folders: Path) -> None:
    for path in sorted((folders / "train" / "dog").iterdir())[2:]:
        path.unlink()
    config = DataConfig(train_dir="train", folds=3, split="stratified")
    data = load_data(config, TWO, root=folders)
    table = tabulate_split(Config(data=config), data, TWO)
    (missing,) = table.missing
    assert missing[1] == "dog"
    assert table.counts[missing[0]] == {"cat": table.counts[missing[0]]["cat"], "dog": 0}


def test_pictures_are_drawn_of_what_there_is(tmp_path: Path) -> None:
    unlabelled = PartSurvey(
        images=3, sizes={"9x9": 3}, formats={"PNG": 3}, mean=(0, 0, 0), std=(1, 1, 1)
    )
    plain = replace(unlabelled, classes={"cat": 1, "dog": 2})
    (path,) = draw_survey(Survey({"training": plain, "evaluation": unlabelled}, None), tmp_path)
    people = replace(
        plain, people=2, attributes={"mask": {"mask": 3, "normal": 0}}, ages={20: 1, 61: 1}
    )
    paths = draw_survey(Survey({"training": people}, (30, 60)), tmp_path)
    assert [found.name for found in (path, *paths)] == ["classes.png", "classes.png", "ages.png"]
    with Image.open(paths[1]) as picture:
        assert picture.format == "PNG"
        assert len(picture.convert("RGB").getcolors(1 << 20) or []) > 3
