"""Folds, undersampling, label fixes and measured channels of a run."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.mask_profiles import MASKS, make_profiles, make_samples
from tests.training.conftest import TWO
from tracker.training.config import Config, DataConfig
from tracker.training.config_reading import config_from_dict
from tracker.training.data.data import load_data
from tracker.training.data.split import assign_folds, split_samples
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.images import decode_image
from tracker.training.formats.samples import Person, Sample
from tracker.training.input.channels import resolve_input

PROFILES = DataConfig(format="mask_profiles", train_dir="train", split="by_profile")


@given(
    st.integers(10, 80),
    st.integers(2, 7),
    st.sampled_from(["by_profile", "by_image", "stratified"]),
    st.integers(0, 9),
)
def test_every_image_validates_in_exactly_one_fold(
    people: int, folds: int, split: str, seed: int
) -> None:
    samples = make_samples(people)
    config = DataConfig(format="mask_profiles", split=split, folds=folds)
    parts = [
        split_samples(samples, replace(config, fold=fold, split_seed=seed)) for fold in range(folds)
    ]
    validated = Counter(sample.id for _, val in parts for sample in val)
    assert validated == Counter(sample.id for sample in samples)
    for train, val in parts:
        assert {s.id for s in train} | {s.id for s in val} == set(validated)
        assert not {s.id for s in train} & {s.id for s in val}
    fold_of = assign_folds(samples, replace(config, split_seed=seed))
    units = {sample.id: sample.group if split == "by_profile" else sample.id for sample in samples}
    sizes = Counter(dict(sorted((units[name], fold) for name, fold in fold_of.items())).values())
    assert max(sizes.values()) - min(sizes.values()) <= 1


@given(st.integers(20, 80), st.integers(2, 5))
def test_folds_by_profile_never_divide_a_person_and_have_the_classes_alike(
    people: int, folds: int
) -> None:
    samples = make_samples(people)
    config = replace(PROFILES, folds=folds)
    fold_of = assign_folds(samples, config)
    pairs = {(sample.group, fold_of[sample.id]) for sample in samples}
    dealt = dict(pairs)
    assert len(pairs) == len(dealt) == people
    for kind in range(3):
        counts = Counter(fold for unit, fold in dealt.items() if int(unit[1:]) % 3 == kind)
        assert max(counts.values()) - min(counts[fold] for fold in range(folds)) <= 1


def test_wrong_folds_are_named() -> None:
    for values in ({"folds": 1}, {"folds": 3, "fold": 3}, {"fold": 1}):
        with pytest.raises(ConfigError, match=r"data\.fold: must be below"):
            config_from_dict({"data": values})
    with pytest.raises(ConfigError, match="9 folds of 4 units"):
        split_samples(make_samples(4), replace(PROFILES, folds=9))


def test_undersampling_keeps_a_share_of_an_age_range_in_training_only() -> None:
    samples = make_samples(200)
    whole, val = split_samples(samples, PROFILES)
    fewer, same_val = split_samples(samples, replace(PROFILES, undersample=(20, 39, 0.25)))
    assert same_val == val

    def count(part: tuple[Sample, ...], *, inside: bool) -> int:
        return len({s.group for s in part if s.person and (20 <= s.person.age <= 39) is inside})

    assert count(fewer, inside=False) == count(whole, inside=False)
    assert count(fewer, inside=True) == round(0.25 * count(whole, inside=True))
    assert {s.id for s in fewer} < {s.id for s in whole}
    with pytest.raises(ConfigError, match=r"data\.undersample: needs data\.format mask_profiles"):
        config_from_dict({"data": {"undersample": [20, 29, 0.5]}})


def test_label_fixes_correct_people_photographs_and_images(tmp_path: Path) -> None:
    make_profiles(tmp_path / "train", 24)
    (tmp_path / "fixes.csv").write_text(
        "id,field,value\n"
        "000000,gender,female\n"
        "000001,age,61\n"
        "000002,swap,normal/incorrect_mask\n"
        "000003_female_Asian_45/mask1.jpg,label,normal_male_old\n"
    )
    plain = load_data(PROFILES, MASKS, root=tmp_path)
    fixed = load_data(replace(PROFILES, label_fixes="fixes.csv"), MASKS, root=tmp_path)
    before, after = ({s.id: s for s in (*data.train, *data.val)} for data in (plain, fixed))
    assert before.keys() == after.keys()
    changed = {
        name: (before[name].label, after[name].label)
        for name in before
        if before[name].label != after[name].label
    }
    first = "000000_male_Asian_20"
    assert {name: pair for name, pair in changed.items() if name.startswith(first)} == {
        f"{first}/{photo}.jpg": (6 * mask, 6 * mask + 3)
        for photo, mask in (
            ("mask1", 0),
            ("mask2", 0),
            ("mask3", 0),
            ("mask4", 0),
            ("mask5", 0),
            ("incorrect_mask", 1),
            ("normal", 2),
        )
    }
    assert changed["000001_female_Asian_20/mask1.jpg"] == (3, 5)
    assert changed["000002_male_Asian_45/normal.jpg"] == (13, 7)
    assert changed["000002_male_Asian_45/incorrect_mask.jpg"] == (7, 13)
    assert changed["000003_female_Asian_45/mask1.jpg"] == (4, 14)
    assert len(changed) == 7 + 7 + 2 + 1
    assert after["000001_female_Asian_20/mask1.jpg"].person == Person("000001", "female", 61)
    assert plain.fingerprint != fixed.fingerprint


def test_label_fixes_that_cannot_be_followed_are_told_all_at_once(folders: Path) -> None:
    (folders / "fixes.csv").write_text(
        "id,field,value\n"
        "\n"
        "cat/cat00.png,label,bird\n"
        "cat/none.png,label,dog\n"
        "7,gender,female\n"
        "cat/cat01.png,color,red\n"
        "cat/cat02.png,label,dog\n"
        "cat/cat02.png,label,cat\n"
    )
    config = DataConfig(train_dir="train", label_fixes="fixes.csv")
    with pytest.raises(DataError) as caught:
        load_data(config, TWO, root=folders)
    words = "\n".join(caught.value.problems)
    for part in (
        "fixes.csv:3: unknown label 'bird', expected one of cat, dog",
        "fixes.csv:4: no image cat/none.png",
        "fixes.csv:5: no person 7",
        "fixes.csv:6: unknown field 'color'",
        "fixes.csv:8: cat/cat02.png label is 'dog' in line 7",
    ):
        assert part in words
    assert len(caught.value.problems) == 5
    with pytest.raises(DataError, match="no such file"):
        load_data(replace(config, label_fixes="none.csv"), TWO, root=folders)


def test_measured_mean_and_std_are_those_of_the_training_pixels(folders: Path) -> None:
    config = Config(
        data=DataConfig(train_dir="train", image_size=(20, 24), mean="measured", std="measured")
    )
    data = load_data(config.data, TWO, root=folders)
    found = resolve_input(config, data, root=folders)
    pixels = (
        np.concatenate([decode_image(sample.path).reshape(-1, 3) for sample in data.train]) / 255
    )
    assert found.data.mean == pytest.approx(pixels.mean(0), abs=1e-6)
    assert found.data.std == pytest.approx(pixels.std(0), abs=1e-6)
    given_std = replace(config, data=replace(config.data, std=(0.5, 0.5, 0.5)))
    assert resolve_input(given_std, data, root=folders).data.std == (0.5, 0.5, 0.5)
    with pytest.raises(ConfigError, match="expected three numbers"):
        config_from_dict({"data": {"mean": "guessed"}})


def test_a_table_in_which_nothing_was_accepted_is_refused(folders: Path) -> None:
    (folders / "fixes.csv").write_text("id,field,value,accept\ncat/cat00.png,label,dog,\n")
    with pytest.raises(DataError, match="none of its 1 lines is accepted"):
        load_data(DataConfig(train_dir="train", label_fixes="fixes.csv"), TWO, root=folders)
