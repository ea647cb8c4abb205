"""What `show` calls a difference: what somebody chose, not what followed from it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.support.workspaces import begin_run, make_workspace, set_parent
from tracker.console.shown_config import ShownConfig, choose_config
from tracker.run_folder.read import load_config, load_run
from tracker.training.config import Config, config_to_dict, merge
from tracker.workspace.tracker_toml import Workspace

IMAGENET: dict[str, Any] = {
    "data": {"format": "image_folder", "split": "stratified", "mean": [0.485], "std": [0.229]},
    "augment": {"crop_pct": 0.875, "crop_mode": "center", "interpolation": "bicubic"},
}
FILLED = [
    "data.mean",
    "data.std",
    "augment.crop_pct",
    "augment.crop_mode",
    "augment.interpolation",
]


@pytest.fixture
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("plain") / "ws")


def show(workspace: Workspace, *tables: dict[str, Any], facts: dict[str, Any]) -> ShownConfig:
    config = merge(config_to_dict(Config()), workspace.defaults, IMAGENET, *tables)
    recorder = begin_run(workspace, config=config, fingerprints={"data": "sha256:d"})
    recorder.params(facts)
    recorder.finish("finished")
    name = recorder.record.name
    if name == "exp2":
        set_parent(workspace, "exp2", "exp1")
    record = load_run(workspace.runs_dir, name)
    return choose_config(workspace, record, load_config(workspace.runs_dir, name))


@pytest.mark.parametrize("facts", [{}, {"filled_in": ", ".join(FILLED)}])
def test_what_the_model_filled_in_is_no_difference_from_the_defaults(
    workspace: Workspace, facts: dict[str, Any]
) -> None:
    shown = show(workspace, {"optim": {"lr": 0.5}}, facts=facts)
    assert dict(shown.values) == {"optim.lr": 0.5}
    assert list(shown.following) == FILLED


def test_a_mean_that_somebody_chose_is_a_difference(workspace: Workspace) -> None:
    shown = show(workspace, facts={"filled_in": ", ".join(FILLED[1:])})
    assert dict(shown.values) == {"data.mean": [0.485]}


def test_a_batch_size_that_was_found_is_no_difference(workspace: Workspace) -> None:
    asks = replace(workspace, defaults=merge(workspace.defaults, {"train": {"batch_size": 0}}))
    shown = show(asks, {"train": {"batch_size": 64}}, facts={"auto_batch_size": 64})
    assert "train.batch_size" in shown.following


def test_another_model_is_one_difference_from_the_parent(workspace: Workspace) -> None:
    show(workspace, facts={})
    new = {"model": {"name": "vit_tiny"}, "data": {"mean": [0.5]}, "augment": {"crop_pct": 0.9}}
    shown = show(workspace, new, facts={})
    assert (shown.base_name, dict(shown.values)) == ("exp1", {"model.name": "vit_tiny"})
    assert list(shown.following) == ["data.mean", "augment.crop_pct"]
