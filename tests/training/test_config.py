"""The config: defaults, overrides, and all problems at once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tracker.training.config import (
    Config,
    config_to_dict,
    format_defaults,
    list_options,
    locate,
    merge,
)
from tracker.training.config_fingerprint import (
    config_fingerprint,
    is_same_training,
    old_trajectory_fingerprint,
    outcome_values,
    trajectory_fingerprint,
)
from tracker.training.config_reading import config_from_dict, parse_assignment
from tracker.training.errors import ConfigError


def test_dict_and_config_convert_into_each_other() -> None:
    config = config_from_dict(
        {"optim": {"lr": 2}, "data": {"image_size": 112, "age_bands": [29, 58]}}
    )
    assert config.optim.lr == 2.0
    assert config.data.image_size == (112, 112)
    assert config_from_dict(config_to_dict(config)) == config


def test_every_problem_is_reported_at_once_with_the_nearest_key() -> None:
    wrong = {
        "optm": {"lr": 1},
        "optim": {"learning_rate": 1, "lr": "big"},
        "train": {"epochs": 0, "monitor": "f2"},
        "loss": {"name": "fokal"},
    }
    with pytest.raises(ConfigError) as caught:
        config_from_dict(wrong)
    text = "\n".join(caught.value.problems)
    assert len(caught.value.problems) == 6
    assert "optm: unknown section (nearest: optim)" in text
    assert "optim.lr: expected a number, not 'big'" in text
    assert "train.epochs: expected at least 1, not 0" in text
    assert "train.monitor: expected val/ and the name of a metric, not 'f2'" in text
    assert "(nearest: focal)" in text
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("table", "problem"),
    [
        ({"optim": {"learning_rate": 1}}, "optim.learning_rate: unknown key (nearest: optim.lr)"),
        ({"train": {"lr": 1}}, "train.lr: unknown key (nearest: optim.lr)"),
        ({"optim": {"epochs": 1}}, "optim.epochs: unknown key (nearest: train.epochs)"),
        ({"train": {"name": 1}}, "train.name: unknown key (nearest: augment.name or model.name"),
        ({"learning_rate": 1}, "learning_rate: this key needs its section: optim.lr"),
        ({"epochs": 1}, "epochs: this key needs its section: train.epochs"),
    ],
)
def test_a_common_name_of_a_key_leads_to_the_key(table: dict[str, object], problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(table)
    (found,) = caught.value.problems
    assert found.startswith(problem)


@pytest.mark.parametrize(
    ("text", "assignment"),
    [
        ("lr=0.1", "optim.lr=0.1"),
        ("epochs=3", "train.epochs=3"),
        ("batch_size=8", "train.batch_size=8"),
        ("learning-rate=0.1", "optim.lr=0.1"),
    ],
)
def test_an_assignment_without_a_section_gets_the_one_it_needs(text: str, assignment: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert caught.value.hint == f"the key needs its section: {assignment}"


def test_common_names_are_of_keys_that_exist() -> None:
    from tracker.training.key_names import COMMON_NAMES

    assert set(COMMON_NAMES.values()) <= set(list_options())


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"data": {"split": "by_profile"}}, "needs data.format mask_profiles"),
        ({"data": {"age_bands": [60, 30]}}, "first band must end before"),
        ({"sched": {"warmup_epochs": 10.0}}, "must be less than train.epochs"),
        ({"optim": {"lr": float("nan")}}, "expected a finite number"),
        ({"data": {"mean": [0.1, 0.2]}}, "expected 3 values"),
        ({"train": {"epochs": True}}, "expected a whole number"),
        ({"model": {"pretrained": 1}}, "expected true, false or a path"),
        ({"data": 3}, "is a table"),
    ],
)
def test_a_wrong_value_is_named(table: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        config_from_dict(table)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("optim.lr=2e-5", 2e-5),
        ("data.age_bands=[29, 58]", [29, 58]),
        ("model.name=resnet18", "resnet18"),
        ("model.pretrained=true", True),
        ("model.pretrained=/a/b.pth", "/a/b.pth"),
        ("data.eval_dir=", ""),
    ],
)
def test_assignment_takes_toml_values_and_bare_words(text: str, value: object) -> None:
    section, key, found = parse_assignment(text)
    assert f"{section}.{key}" == text.partition("=")[0]
    assert found == value


@pytest.mark.parametrize("text", ["lr=1", "optim.lr", "optim.=3"])
def test_assignment_of_another_form_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"section\.key=value"):
        parse_assignment(text)


def test_later_layers_win_key_by_key() -> None:
    assert merge({"a": {"x": 1, "y": 1}}, {"a": {"y": 2}}, {"b": {"z": 3}}) == {
        "a": {"x": 1, "y": 2},
        "b": {"z": 3},
    }


def test_fingerprint_changes_with_every_key_that_can_change_the_result_and_no_other() -> None:
    plain = config_to_dict(Config())
    base = config_fingerprint(plain)
    for name, option in list_options().items():
        section, _, key = name.partition(".")
        changed = merge(plain, {section: {key: "other"}})
        assert (config_fingerprint(changed) != base) is option.metadata["outcome"], name


def test_outcome_leaves_worker_counts_and_logging_out() -> None:
    values = outcome_values(config_to_dict(Config()))
    assert "optim.lr" in values
    assert "data.workers" not in values
    assert "train.log_every" not in values


def test_where_files_lie_and_on_what_it_runs_is_no_config() -> None:
    base = config_to_dict(Config())
    paths = {
        "train_dir": "/b/photos/train",
        "eval_dir": "/b/photos/eval",
        "labels": "/b/labels.csv",
    }
    machine = {"accelerator": "cuda", "devices": 2, "num_nodes": 2, "strategy": "fsdp"}
    moved = merge(base, {"data": paths})
    assert outcome_values(moved) == outcome_values(base)
    assert trajectory_fingerprint(moved) == trajectory_fingerprint(base)
    divided = merge(base, {"train": machine})
    assert config_fingerprint(divided) == config_fingerprint(base)
    assert trajectory_fingerprint(divided) != trajectory_fingerprint(base), (
        "to the bit it is another training"
    )


def test_tables_and_pipelines_are_known_by_their_names_wherever_they_lie() -> None:
    def build(folder: str, *, sha: str = "ab") -> dict[str, Any]:
        data = {"label_fixes": f"{folder}fixes.csv", "exclude": f"cat/*.gif,{folder}bad.csv"}
        return {"data": data, "augment": {"name": f"{folder}own.yaml", "file_sha256": sha}}

    assert config_fingerprint(build("")) == config_fingerprint(build("/b/tables/"))
    assert config_fingerprint(build("")) != config_fingerprint(build("", sha="cd"))
    other = merge(build(""), {"data": {"label_fixes": "other.csv"}})
    assert outcome_values(other)["data.label_fixes"] == "other.csv"
    assert config_fingerprint(other) != config_fingerprint(build(""))
    assert is_same_training(other, build("/b/")), "what the fixes do is in the data fingerprint"
    assert not is_same_training(build(""), build("", sha="cd"))


def test_checkpoints_of_an_earlier_version_have_the_fingerprint_that_it_made() -> None:
    tables = {
        "data": {"train_dir": "/a/photos/train", "workers": 3},
        "train": {"devices": 2, "epochs": 5, "accelerator": "cpu"},
        "sched": {"name": "constant"},
    }
    made = "sha256:ddec4765373071ca28563f32f134d5da47206296b0abbd9db28e7ad022591306"
    assert old_trajectory_fingerprint(tables) == made != trajectory_fingerprint(tables)


def test_every_option_has_a_sentence() -> None:
    for name, option in list_options().items():
        assert option.metadata["doc"].endswith("."), name


def test_fingerprints_made_before_are_made_again() -> None:
    tables = {
        "data": {"mean": [0.0, 0.0, 1.0], "image_size": [32, 32]},
        "optim": {"lr": 1.0, "weight_decay": 0.0},
        "train": {"epochs": 3, "deterministic": True},
    }
    assert (
        config_fingerprint(tables)
        == "sha256:c82af58f29d9210e5cb84cb6b0dab71019349cb641a13a064e1c887c2fea0a68"
    )


@pytest.mark.parametrize(
    ("data", "split"),
    [
        ({"format": "mask_profiles"}, "by_profile"),
        ({"format": "image_folder"}, "stratified"),
        ({"format": "csv"}, "stratified"),
        ({}, "stratified"),
    ],
)
def test_a_new_run_takes_the_split_that_its_format_needs(data: dict[str, str], split: str) -> None:
    assert format_defaults({"data": data})["data"]["split"] == split
    config_from_dict(merge(format_defaults({"data": data}), {"data": data}))


@pytest.mark.parametrize(
    "values", [{"data": 3}, {"data": {"format": 3}}, {"data": {"format": "zip"}}, {}]
)
def test_a_wrong_format_is_left_to_the_check_of_the_config(values: dict[str, object]) -> None:
    assert format_defaults(values).keys() <= {"data", "augment"}


def test_a_config_from_before_without_a_split_keeps_the_split_it_had() -> None:
    old = {"data": {"format": "mask_profiles", "train_dir": "train"}}
    assert config_from_dict(old).data.split == "by_image"


def test_one_file_has_one_path_however_the_config_names_it(tmp_path: Path) -> None:
    assert locate(tmp_path / "ws", "../photos/train") == tmp_path / "photos" / "train"
    assert locate(tmp_path, "photos") == tmp_path / "photos"
    assert locate(tmp_path, str(tmp_path / "a")) == tmp_path / "a"
