"""Splits that keep groups whole and classes even, fold files, and how even a split came out."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import save_image
from tests.support.mask_profiles import make_samples
from tests.training.conftest import TWO
from tracker.training.config import Config, DataConfig
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.config_reading import config_from_dict
from tracker.training.data import even_parts
from tracker.training.data.balance import count_classes, describe_balance
from tracker.training.data.data import load_data
from tracker.training.data.split import assign_folds, split_samples
from tracker.training.errors import ConfigError, DataError
from tracker.training.formats.samples import LabelValues, LoadedData, Sample, Task
from tracker.training.inspect.survey import tabulate_split

PATIENTS = DataConfig(format="csv", train_dir="train", split="stratified", group="patient")
LABELS = Task(
    classes=("a", "b", "c", "d"),
    id_column="id",
    label_column="tags",
    answer_words=("a", "b", "c", "d"),
    target="labels",
)
# SHA-256 of the ids of both parts, as version 1 split them
BEFORE = {
    ("by_profile", 0): "ee1db03a0da1",
    ("by_profile", 4): "8d25a5382f0c",
    ("by_image", 0): "b0844f78ae56",
    ("by_image", 4): "9eeac102bc8f",
    ("stratified", 0): "1387f43c9a9c",
    ("stratified", 4): "b0d506921c0d",
}


def make_patients(count: int, *, seed: int = 0) -> list[Sample]:
    """1 to 12 images each; a patient has the rare class or not."""
    rng = np.random.default_rng(seed)
    samples = []
    for number in range(count):
        label = int(number % 5 == 0)
        group = f"p{number}"
        size = int(rng.integers(1, 13))
        samples += [Sample(f"{group}-{n}", "x", label, group) for n in range(size)]
    return samples


def make_tagged(count: int, *, seed: int = 0) -> list[Sample]:
    """Images of four classes with the shares 0.5, 0.3, 0.1 and 0.04, in any combination."""
    rng = np.random.default_rng(seed)
    flags = rng.random((count, 4)) < (0.5, 0.3, 0.1, 0.04)
    return [
        Sample(str(n), "x", 4, str(n), values=tuple(map(float, row))) for n, row in enumerate(flags)
    ]


def list_divided(parts: dict[str, int], samples: list[Sample]) -> list[str]:
    """The groups that are in more than one part."""
    found = defaultdict(set)
    for sample in samples:
        found[sample.group].add(parts[sample.id])
    return [group for group, numbers in found.items() if len(numbers) > 1]


@pytest.mark.parametrize(("split", "folds"), BEFORE)
def test_a_split_of_an_earlier_version_stays_as_it_was(split: str, folds: int) -> None:
    config = DataConfig(format="mask_profiles", split=split, folds=folds, undersample=(20, 39, 0.5))
    train, val = split_samples(make_samples(53), config)
    text = "\n".join([*(s.id for s in train), "-", *(s.id for s in val)])
    assert hashlib.sha256(text.encode()).hexdigest()[:12] == BEFORE[split, folds]


def test_the_new_keys_leave_the_fingerprint_of_an_old_config() -> None:
    old = {"data": {"split": "stratified", "train_dir": "train"}}
    new = {"data": {**old["data"], "group": "", "fold_file": ""}}
    assert config_fingerprint(old) == config_fingerprint(new)
    for key in ("group", "fold_file"):
        changed = {"data": {**new["data"], key: "x.csv"}}
        assert config_fingerprint(changed) != config_fingerprint(old)


@settings(deadline=None, max_examples=40)  # the first example imports scikit-learn
@given(
    st.integers(2, 60),
    st.sampled_from(["by_image", "stratified", "by_group", "stratified_group"]),
    st.integers(0, 5),
    st.sampled_from([0.05, 0.15, 0.2, 0.5, 0.9]),
)
def test_a_group_never_crosses_in_splits_and_folds(
    patients: int, split: str, seed: int, ratio: float
) -> None:
    samples = make_patients(patients, seed=seed)
    config = replace(PATIENTS, split=split, split_seed=seed, val_ratio=ratio)
    train, val = split_samples(samples, config)
    assert train
    assert val
    assert sorted(s.id for s in (*train, *val)) == sorted(s.id for s in samples)
    assert not {s.group for s in train} & {s.group for s in val}
    assert (train, val) == split_samples(samples, config)
    folds = min(patients, 4)
    fold_of = assign_folds(samples, replace(config, folds=folds))
    assert set(fold_of.values()) == set(range(folds))
    assert not list_divided(fold_of, samples)


@pytest.mark.parametrize("ratio", [0.15, 0.2, 0.4])
def test_groups_of_any_size_give_the_ratio_and_the_shares_of_the_classes(ratio: float) -> None:
    samples = make_patients(200)
    share = Counter(s.label for s in samples)[1] / len(samples)
    for seed in range(5):
        _, val = split_samples(samples, replace(PATIENTS, val_ratio=ratio, split_seed=seed))
        assert len(val) / len(samples) == pytest.approx(ratio, abs=0.02)
        assert Counter(s.label for s in val)[1] / len(val) == pytest.approx(share, abs=0.02)
        fold_of = assign_folds(samples, replace(PATIENTS, folds=5, split_seed=seed))
        for fold in range(5):
            own = [s for s in samples if fold_of[s.id] == fold]
            assert len(own) / len(samples) == pytest.approx(0.2, abs=0.02)
            assert Counter(s.label for s in own)[1] / len(own) == pytest.approx(share, abs=0.03)


def test_another_seed_takes_other_groups() -> None:
    samples = make_patients(60)
    parts = {
        frozenset(s.group for s in split_samples(samples, replace(PATIENTS, split_seed=seed))[1])
        for seed in range(4)
    }
    assert len(parts) == 4


def test_a_class_keeps_a_group_in_training() -> None:
    samples = [Sample(str(n), "x", n // 10, str(n // 2)) for n in range(40)]
    samples += [Sample(f"rare{n}", "x", 4, "rare") for n in range(3)]
    for seed in range(8):
        train, _ = split_samples(samples, replace(PATIENTS, val_ratio=0.5, split_seed=seed))
        assert {s.label for s in train} == {0, 1, 2, 3, 4}


def test_images_of_several_classes_are_divided_so_that_each_class_has_its_share() -> None:
    samples = make_tagged(600)
    config = DataConfig(format="csv", split="stratified")
    for seed in range(4):
        _, val = split_samples(samples, replace(config, split_seed=seed))
        assert len(val) == pytest.approx(120, abs=2)
        for label in range(4):
            whole = sum(s.values[label] for s in samples)
            held = sum(s.values[label] for s in val)
            assert held == pytest.approx(0.2 * whole, abs=1)
    fold_of = assign_folds(samples, replace(config, folds=5))
    for label in range(4):
        counts = Counter(fold_of[s.id] for s in samples if s.values[label])
        assert max(counts.values()) - min(counts[fold] for fold in range(5)) <= 1


def test_large_tables_are_divided_as_evenly_without_a_table_of_images_by_classes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("scikit-learn was asked")

    monkeypatch.setattr(even_parts, "LARGEST", 0)
    monkeypatch.setattr(even_parts, "_place", refuse)
    samples = make_tagged(600)
    config = DataConfig(format="csv", split="stratified")
    _, val = split_samples(samples, config)
    assert len(val) == pytest.approx(120, abs=4)
    fold_of = assign_folds(samples, replace(config, folds=5))
    for label in range(4):
        whole, held = (sum(s.values[label] for s in part) for part in (samples, val))
        assert held == pytest.approx(0.2 * whole, abs=3)
        counts = Counter(fold_of[s.id] for s in samples if s.values[label])
        assert max(counts.values()) - min(counts[fold] for fold in range(5)) <= 2


@pytest.mark.parametrize("largest", [even_parts.LARGEST, 0])
def test_a_class_with_few_images_of_several_classes_keeps_one_in_training(
    monkeypatch: pytest.MonkeyPatch, largest: int
) -> None:
    monkeypatch.setattr(even_parts, "LARGEST", largest)
    rare = range(30)  # each has one image, which has a common class, too
    samples = [
        Sample(str(n), "x", n, str(n), values=LabelValues(32, (n % 30, 30 + n % 2)))
        if n in rare
        else Sample(str(n), "x", 30, str(n), values=LabelValues(32, (30 + n % 2,)))
        for n in range(200)
    ]
    for seed in range(3):
        config = DataConfig(format="csv", split="stratified", split_seed=seed)
        train, val = split_samples(samples, config)
        assert len(count_classes(train)) == 32
        assert len(val) > 20


def test_as_many_folds_as_groups_that_are_like_no_other_can_be_made() -> None:
    samples = [Sample(str(n), "x", n, str(n)) for n in range(6)]
    for folds in (5, 6):
        fold_of = assign_folds(samples, replace(PATIENTS, folds=folds))
        assert set(fold_of.values()) == set(range(folds))


def test_more_folds_than_groups_are_refused() -> None:
    with pytest.raises(ConfigError, match="9 folds of 4 units"):
        split_samples(make_patients(4), replace(PATIENTS, folds=9))


def test_keys_that_need_a_group_are_refused_without_one() -> None:
    for split in ("by_group", "stratified_group"):
        with pytest.raises(ConfigError, match=r"by_group and stratified_group need data\.group"):
            config_from_dict({"data": {"split": split, "format": "csv"}})
        config_from_dict({"data": {"split": split, "format": "mask_profiles"}})
    with pytest.raises(ConfigError, match=r"data\.group: needs data\.format csv"):
        config_from_dict({"data": {"group": "patient", "format": "image_folder"}})


def write_patients(root: Path) -> None:
    """train/ with 24 images of 8 patients, and labels.csv."""
    lines = ["ImageID,ans,patient"]
    for number in range(24):
        save_image(root / "train" / f"{number:03}.png", seed=number)
        lines.append(f"{number:03}.png,{number // 3 % 2},p{number // 3}")
    (root / "train" / "labels.csv").write_text("\n".join(lines) + "\n")


def test_the_column_of_groups_is_read_and_counts_in_the_fingerprint(tmp_path: Path) -> None:
    write_patients(tmp_path)
    data = load_data(PATIENTS, TWO, root=tmp_path)
    assert not {s.group for s in data.train} & {s.group for s in data.val}
    assert data.balance == (
        "split: training / validation have cat 50.0 / 50.0 %, dog 50.0 / 50.0 %;"
        " 6 groups in training, 2 in validation"
    )
    table = tmp_path / "train" / "labels.csv"
    table.write_text(table.read_text().replace(",p7", ",p6"))
    assert load_data(PATIENTS, TWO, root=tmp_path).fingerprint != data.fingerprint


def load_folds(root: Path, rows: str, **keys: object) -> LoadedData:
    (root / "folds.csv").write_text(rows)
    config = replace(PATIENTS, group="", fold_file="folds.csv")
    return load_data(replace(config, **keys), TWO, root=root)  # type: ignore[arg-type]


def render_folds(column: str = "fold", folds: tuple[object, ...] = (0, 1, 2)) -> str:
    rows = [f"{number:03}.png,{folds[number // 3 % len(folds)]}" for number in range(24)]
    return "\n".join([f"id,{column}", *rows]) + "\n"


def test_a_fold_file_decides_alone(tmp_path: Path) -> None:
    write_patients(tmp_path)
    for fold in range(3):
        data = load_folds(tmp_path, render_folds(), fold=fold, split_seed=fold)
        assert [s.id for s in data.val] == [f"{n:03}.png" for n in range(24) if n // 3 % 3 == fold]
        assert len(data.train) + len(data.val) == 24
    always = load_folds(tmp_path, render_folds(folds=(0, 1, -1, -1)), fold=1)
    assert (len(always.val), len(always.train)) == (6, 18)
    written = load_folds(tmp_path, render_folds("split", ("train", "train", "train", "val")))
    assert {s.group for s in written.val} == {f"{n:03}.png" for n in (9, 10, 11, 21, 22, 23)}


def test_other_folds_are_other_data(tmp_path: Path) -> None:
    write_patients(tmp_path)
    first = load_folds(tmp_path, render_folds(folds=(0, 1, 2)))
    other = load_folds(tmp_path, render_folds(folds=(0, 2, 1)))
    assert first.val == other.val
    assert first.fingerprint != other.fingerprint


def test_wrong_fold_files_are_told(tmp_path: Path) -> None:
    write_patients(tmp_path)
    good = render_folds()
    wrong = {
        good.replace("004.png,1", "004.png,one"): "folds.csv:6: fold is 'one'",
        good + "000.png,2\n": "folds.csv:26: 000.png is in fold 0 already",
        good.replace("000.png,0\n", ""): "has no fold for 1 training image (000.png)",
    }
    for text, problem in wrong.items():
        with pytest.raises(DataError) as caught:
            load_folds(tmp_path, text)
        assert problem in "\n".join(caught.value.problems)
    with pytest.raises(DataError, match="has no column fold or split"):
        load_folds(tmp_path, good.replace("fold", "part"))
    for keys, problem in (
        ({"folds": 4}, "has the folds 0, 1, 2, and data.folds is 4"),
        ({"fold": 3}, "has the folds 0, 1, 2, and data.fold is 3"),
        ({"group": "patient"}, "divides 8 groups of data.group (p0, p1, p2, 5 more)"),
    ):
        text = good if "group" not in keys else _divide(good)
        with pytest.raises(DataError) as caught:
            load_folds(tmp_path, text, **keys)
        assert problem in "\n".join(caught.value.problems)
    data = load_folds(tmp_path, good + "gone.png,1\n")
    assert data.notes[-1].endswith("folds.csv: 1 id without a training image (gone.png)")


def _divide(text: str) -> str:
    """The same table with the folds of neighbors swapped, so that every group is divided."""
    head, *rows = text.splitlines()
    names = [row.partition(",")[0] for row in rows]
    return "\n".join([head, *(f"{name},{number % 3}" for number, name in enumerate(names))]) + "\n"


def test_the_balance_names_the_class_that_differs_most_and_the_mean_of_a_number() -> None:
    task = replace(LABELS, classes=tuple("abcdef"), target="class")
    train = [Sample(str(n), "x", n % 5, "") for n in range(100)]
    val = [Sample(str(n), "x", n % 6, "") for n in range(60)]
    assert describe_balance(train, val, task, grouped=False) == (
        "split: class shares differ by 16.7 points at most (f: 0.0 % of training, 16.7 % of"
        " validation)"
    )
    number = replace(LABELS, classes=(), target="number", label_column="age")
    old = [Sample("a", "x", 0, "", values=(40.5,))]
    young = [
        Sample("b", "x", 0, "", values=(20,)),
        Sample("c", "x", 0, "", values=(21,)),
    ]
    assert describe_balance(old, young, number, grouped=False) == (
        "split: mean age 40.5 in training, 20.5 in validation"
    )


def test_the_table_of_a_split_has_several_classes_and_numbers() -> None:
    tagged = make_tagged(100)
    config = Config(data=DataConfig(format="csv", split="stratified"))
    train, val = split_samples(tagged, config.data)
    table = tabulate_split(config, LoadedData(train, val, (), ""), LABELS)
    both = next(s for s in tagged if s.values == (1, 1, 0, 0))
    assert next(row[1] for row in table.rows if row[0] == both.id) == "a|b"
    assert table.sizes == {"train": len(train), "val": len(val)}
    assert table.counts["val"]["a"] == sum(s.values[0] for s in val)
    ages = [Sample(str(n), "x", n // 10, str(n), values=(float(n),)) for n in range(40)]
    train, val = split_samples(ages, config.data)
    number = replace(LABELS, classes=(), target="number")
    table = tabulate_split(config, LoadedData(train, val, (), ""), number)
    assert table.counts["val"] == {
        "1: 0 to 9": 2,
        "2: 10 to 19": 2,
        "3: 20 to 29": 2,
        "4: 30 to 39": 2,
    }
    assert table.means["val"] == pytest.approx(np.mean([s.values[0] for s in val]))
    assert ("7", "7") in {row[:2] for row in table.rows}
