"""A format that is added to the registry is found, checked, read and surveyed; no other file knows
the formats."""

from __future__ import annotations

import ast
from dataclasses import replace
from pathlib import Path

import pytest

from tests.training.conftest import TWO
from tracker.setup.init import detect_format
from tracker.training.config import DataConfig, list_options
from tracker.training.data.data import load_data
from tracker.training.formats import FORMATS, by_format
from tracker.training.formats.image_folder import IMAGE_FOLDER
from tracker.training.formats.mask_profiles import ATTRIBUTES, MASK_PROFILE_CLASSES
from tracker.training.model.model import SIZES

ROOT = Path(__file__).parents[2]


def test_a_new_format_is_found_by_looking_and_read(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folders / "train" / "marker.txt").touch()
    marked = IMAGE_FOLDER._replace(
        name="marked",
        detect=lambda folder, table: folder is not None and (folder / "marker.txt").is_file(),
        read=lambda source: IMAGE_FOLDER.read(source)[:-1],
    )
    where = {"train_dir": str(folders / "train")}
    assert detect_format(where) == "image_folder"
    monkeypatch.setitem(FORMATS, "marked", marked)
    assert detect_format(where) == "marked"
    config = DataConfig(train_dir="train", image_size=(32, 32), split="stratified")
    plain, read = (
        load_data(replace(config, format=name), TWO, root=folders)
        for name in ("image_folder", "marked")
    )
    assert len(read.train) + len(read.val) == len(plain.train) + len(plain.val) - 1
    assert by_format("data.split")["marked"] == "stratified"


def test_the_config_takes_choices_and_defaults_from_the_registry() -> None:
    options = list_options()
    assert options["data.format"].metadata["choices"] == tuple(FORMATS)
    for key in ("data.split", "data.mean", "data.std"):
        assert options[key].metadata["by_format"] == by_format(key)


def test_attributes_are_counted_as_the_class_names_say() -> None:
    labels = list(range(len(MASK_PROFILE_CLASSES)))
    counted = FORMATS["mask_profiles"].count_attributes([5, 17, *labels])
    assert counted["age"] == {"young": 6, "middle": 6, "old": 8}
    assert counted["gender"] == {"male": 9, "female": 11}
    assert tuple(map(len, ATTRIBUTES.values())) == SIZES


def test_no_file_outside_of_formats_names_a_format_of_people_or_tables() -> None:
    paths = [*(ROOT / "tracker").rglob("*.py"), *(ROOT / "training").rglob("*.py")]
    naming = set()
    for path in paths:
        texts = {
            node.value
            for node in ast.walk(ast.parse(path.read_text()))
            if isinstance(node, ast.Constant)
        }
        if "mask_profiles" in texts and path.parent.name != "formats":
            naming.add(path.name)
    assert naming == set()
