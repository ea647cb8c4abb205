"""tracker data stats, check and split as they are typed."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import make_pictures
from tests.support.mask_profiles import make_profiles
from tests.support.workspaces import make_run
from tracker.commands.table import app
from tracker.images.dataset_report import print_survey
from tracker.setup.init import init_workspace
from tracker.training.errors import ConfigError
from tracker.training.inspect.survey import PartSurvey, Survey
from tracker.workspace.tracker_toml import Workspace

Type = Callable[..., Any]


@pytest.fixture
def type_words(monkeypatch: pytest.MonkeyPatch) -> Type:
    """Types a command in a workspace; an error of ours is raised, as `main` gets it."""

    def type_words(workspace: Workspace, *words: str) -> Any:
        monkeypatch.chdir(workspace.root)
        done = CliRunner().invoke(app, ["data", *words])
        if done.exception and not isinstance(done.exception, SystemExit):
            raise done.exception
        return done

    return type_words


@pytest.fixture
def pictures(tmp_path: Path) -> Workspace:
    make_pictures(tmp_path / "ws")
    folders = {
        name: str(tmp_path / "ws" / name.removesuffix("_dir")) for name in ("train_dir", "eval_dir")
    }
    return init_workspace(tmp_path / "ws", data=folders, competition={})


@pytest.fixture
def profiles(tmp_path: Path) -> Workspace:
    make_profiles(tmp_path / "ws" / "train", 24)
    data = {"train_dir": str(tmp_path / "ws" / "train"), "split": "by_profile"}
    return init_workspace(tmp_path / "ws", data=data, competition={})


def test_stats_prints_tables_json_and_pictures(profiles: Workspace, type_words: Type) -> None:
    shown = type_words(profiles, "stats", "--set", "data.image_size=[20,24]").stdout
    for words in (
        "mask_male_young",
        "24x20",
        "young below 30, middle below 60",
        "60 to 69",
        "incorrect",
    ):
        assert words in shown
    done = type_words(
        profiles, "stats", "--json", "--figures", "a/b", "--set", "data.age_bands=[21,46]"
    )
    found = json.loads(done.stdout)
    assert set(found["parts"]) == {"training", "validation"}
    assert set(found["parts"]["training"]) == {
        *("images", "people", "classes", "attributes", "ages", "sizes", "formats", "mean", "std")
    }
    assert found["age_bands"] == [21, 46]
    assert sorted(path.name for path in (profiles.root / "a" / "b").iterdir()) == [
        "ages.png",
        "classes.png",
    ]


def test_check_lists_everything_that_is_wrong_with_exit_code_1(
    pictures: Workspace, type_words: Type
) -> None:
    assert (
        "20 training, 4 validation, 6 evaluation images: all can be used"
        in type_words(pictures, "check", "--set", "data.split=stratified").stdout
    )
    found = json.loads(type_words(pictures, "check", "--json").stdout)
    assert (found["problems"], found["training"] + found["validation"], found["evaluation"]) == (
        [],
        24,
        6,
    )
    (pictures.root / "train" / "cat" / "cat01.png").write_bytes(b"")
    (pictures.root / "train" / "cat" / "note.pdf").write_text("x")
    (pictures.root / "eval" / "images" / "e2.png").unlink()
    (pictures.root / "fixes.csv").write_text("id,field,value\nnobody,gender,female\n")
    done = type_words(pictures, "check", "--set", "data.label_fixes=fixes.csv")
    assert done.exit_code == 1
    assert "4 problems" in done.stdout
    for words in (
        "cat01.png: empty file",
        "note.pdf: not an image",
        "e2.png: missing",
        "no person nobody",
    ):
        assert words in done.stdout
    done = type_words(pictures, "check", "--json")
    assert done.exit_code == 1
    assert len(json.loads(done.stdout)["problems"]) == 3
    done = type_words(pictures, "check", "--set", "data.train_dir=nowhere")
    assert done.exit_code == 1
    assert "no such folder" in done.stdout


def test_split_is_that_of_a_run_a_file_or_set(pictures: Workspace, type_words: Type) -> None:
    def parts(*words: str) -> set[str]:
        type_words(pictures, "split", "--out", "s.csv", "--force", *words)
        with (pictures.root / "s.csv").open(newline="") as file:
            return {row["id"] for row in csv.DictReader(file) if row["split"] == "val"}

    make_run(pictures, config={"data.train_dir": "train", "data.val_ratio": 0.5})
    (pictures.root / "c.toml").write_text("[data]\nval_ratio = 0.25\n")
    assert [len(parts(*words)) for words in ([], ["--from", "exp1"], ["c.toml"])] == [4, 12, 6]
    assert parts("--set", "data.split_seed=1") != parts("--set", "train.seed=2")
    done = type_words(pictures, "split", "--json", "--set", "data.folds=3", "--out", "folds.csv")
    found = json.loads(done.stdout)
    assert (found["column"], found["images"], found["missing"]) == ("fold", 24, [])
    assert sum(sum(counts.values()) for counts in found["counts"].values()) == 24
    assert (pictures.root / "folds.csv").read_text().startswith("id,label,fold\ncat/cat00.png,cat,")


def test_a_split_that_is_kept_is_not_replaced_by_another(
    pictures: Workspace, type_words: Type
) -> None:
    type_words(pictures, "split")
    before = (pictures.root / "split.csv").read_bytes()
    type_words(pictures, "split")
    with pytest.raises(ConfigError, match=r"split\.csv already exists with another split"):
        type_words(pictures, "split", "--set", "data.split_seed=7")
    assert (pictures.root / "split.csv").read_bytes() == before
    type_words(pictures, "split", "--set", "data.split_seed=7", "--force")
    assert (pictures.root / "split.csv").read_bytes() != before


def test_split_warns_of_classes_that_nothing_validates(
    profiles: Workspace, type_words: Type
) -> None:
    done = type_words(profiles, "split", "--set", "data.val_ratio=0.05")
    assert "warning: no image of class mask_" in done.stderr
    assert "in val: its F1 is 0 there" in done.stderr
    assert "validation images" in done.stdout


def test_check_writes_what_is_broken_and_training_goes_without_it(
    pictures: Workspace, type_words: Type
) -> None:
    assert not (type_words(pictures, "check", "--write-exclude", "bad.csv").exit_code)
    assert not (pictures.root / "bad.csv").exists(), "nothing is broken"
    (pictures.root / "train" / "cat" / "cat01.png").write_bytes(b"")
    (pictures.root / "lists").mkdir()
    for _ in range(2):
        done = type_words(pictures, "check", "--write-exclude", "lists/bad.csv")
        assert done.exit_code == 1
        assert "next: tracker run train --set data.exclude=lists/bad.csv" in done.stdout
    table = pictures.root / "lists" / "bad.csv"
    assert table.read_text() == "path,reason\ncat/cat01.png,empty file\n"
    done = type_words(pictures, "check", "--set", "data.exclude=lists/bad.csv")
    assert done.exit_code == 0
    assert "left out of the training images by data.exclude: 1 (lists/bad.csv: 1)" in done.stdout
    assert (
        "lists/bad.csv: 1"
        in type_words(pictures, "split", "--set", "data.exclude=lists/bad.csv").stderr
    )


def test_check_adds_to_a_list_and_writes_over_no_other(
    pictures: Workspace, type_words: Type
) -> None:
    table = pictures.root / "bad.csv"
    table.write_text("path,reason\ncat/cat00.png,blurred\n")
    (pictures.root / "train" / "cat" / "cat01.png").write_bytes(b"")
    (pictures.root / "eval" / "images" / "e2.png").write_bytes(b"")
    with pytest.raises(ConfigError, match=r"bad\.csv already exists") as caught:
        type_words(pictures, "check", "--write-exclude", "bad.csv")
    assert "--set data.exclude=bad.csv" in caught.value.hint
    words = ("check", "--set", "data.exclude=bad.csv", "--write-exclude", "bad.csv", "--json")
    found = json.loads(type_words(pictures, *words).stdout)
    assert table.read_text() == "path,reason\ncat/cat00.png,blurred\ncat/cat01.png,empty file\n"
    assert (found["written"]["broken"], found["written"]["images"]) == (1, 2)
    assert [problem.rpartition("/")[2] for problem in found["written"]["left"]] == [
        "e2.png: empty file"
    ]
    for name in ("bad.txt", "a,b.csv"):
        with pytest.raises(ConfigError, match=r"expected the path of a \.csv"):
            type_words(pictures, "check", "--write-exclude", name)


def test_stats_at_80_columns_keep_mean_and_standard_deviation(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sizes = {f"{640 + number}x480": 30 - number for number in range(30)}
    part = PartSurvey(
        images=465,
        sizes=sizes,
        formats={"JPEG": 400, "PNG": 65},
        mean=(0.5, 0.4, 0.3),
        std=(0.2, 0.1, 0.25),
    )
    monkeypatch.setenv("COLUMNS", "80")
    print_survey(
        Survey(
            parts={"training": replace(part, classes={"cat": 465}), "evaluation": part},
            age_bands=None,
        )
    )
    out = capsys.readouterr().out
    assert "0.5000, 0.4000, 0.3000" in out
    assert "0.2000, 0.1000, 0.2500" in out
    assert max(map(len, out.splitlines())) <= 80
