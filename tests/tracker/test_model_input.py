"""data.mean = "model": new runs take what their model was trained with, runs made before keep what
they had."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import NO_MLFLOW, make_pictures
from tests.support.workspaces import begin_run
from tracker.core.config_diff import diff_configs
from tracker.core.errors import AlreadyTrainedError
from tracker.run_folder.environment import collect_code
from tracker.run_folder.read import load_config, load_run
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict
from tracker.training.config_fingerprint import config_fingerprint
from tracker.training.config_reading import config_from_dict
from tracker.training.input.channels import resolve_input, resolve_model_input
from tracker.training.tables import read_toml
from tracker.workflows.resolve import resolve_config
from tracker.workflows.reuse import find_reusable_run
from tracker.workflows.train import train
from tracker.workspace.data import prepare_data
from tracker.workspace.tracker_toml import Workspace

pytestmark = pytest.mark.usefixtures("forked_mirrors")
ASSETS = Path(__file__).parents[1] / "assets"
OLD_FINGERPRINT = (  # as 0.1 made it
    "sha256:6f6c68f404f25cfaaef44522b33a1d4ac23b016a0ced032616488bf9358acd48"
)
PROFILE_MEAN = (0.548, 0.504, 0.479)
WHOLE = {"crop_pct": 1.0, "crop_mode": "squash", "interpolation": "area"}
TEST_RESNET = {"crop_pct": 0.95, "crop_mode": "center", "interpolation": "bilinear"}
RESNET18 = {"crop_pct": 0.95, "crop_mode": "center", "interpolation": "bicubic"}
SMALL = ("model.name=test_resnet", "data.image_size=[32,32]", "data.workers=0", "train.epochs=1")


@pytest.fixture
def ws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("TRACKER_MLFLOW_URI", NO_MLFLOW["TRACKER_MLFLOW_URI"])
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", "0")
    root = tmp_path / "ws"
    make_pictures(root, per_class=6, to_predict=2)
    return init_workspace(root, data={"train_dir": str(root / "train")}, competition={})


def add_old_run(ws: Workspace) -> Mapping[str, Any]:
    """exp1 as version 0.1 left it: its config.toml has no key of base's crop."""
    tables = read_toml(ASSETS / "config-0.1.toml")
    _, data = prepare_data(ws, config_from_dict(tables))
    prints = {"config": OLD_FINGERPRINT, "data": data.fingerprint, "code": collect_code(ws.root)}
    recorder = begin_run(ws, fingerprints=prints)
    shutil.copy(ASSETS / "config-0.1.toml", recorder.folder / "config.toml")
    recorder.finish("finished")
    return tables


def crop_of(config: Config) -> dict[str, Any]:
    return {key: getattr(config.augment, key) for key in WHOLE}


def test_a_new_run_takes_what_its_model_was_trained_with_and_keeps_the_numbers(
    ws: Workspace,
) -> None:
    config = resolve_config(ws, assignments=SMALL)
    assert (config.data.mean, config.data.std) == ("model", "model")
    train(ws, config, quiet=True)
    kept = load_config(ws.runs_dir, "exp1")
    assert (kept["data"]["mean"], kept["data"]["std"]) == ([0.5, 0.5, 0.5], [0.5, 0.5, 0.5])
    assert {key: kept["augment"][key] for key in WHOLE} == TEST_RESNET
    with pytest.raises(AlreadyTrainedError):
        train(ws, config, quiet=True)
    with pytest.raises(AlreadyTrainedError):
        train(ws, resolve_config(ws, parent="exp1"), quiet=True)


def test_mask_profiles_keep_their_own_figures_and_the_whole_image(ws: Workspace) -> None:
    config = resolve_config(ws, assignments=("data.format=mask_profiles",))
    assert (config.data.mean, crop_of(config)) == (PROFILE_MEAN, WHOLE)
    asked = resolve_config(
        ws, assignments=("data.format=mask_profiles", "data.mean=model", "data.std=model")
    )
    assert crop_of(resolve_model_input(asked, root=ws.root)) == RESNET18


def test_numbers_of_ones_own_keep_the_whole_image(ws: Workspace) -> None:
    numbers = ("data.mean=[0.1,0.2,0.3]", "data.std=[0.4,0.5,0.6]")
    config = resolve_model_input(resolve_config(ws, assignments=numbers), root=ws.root)
    assert (config.data.mean, crop_of(config)) == ((0.1, 0.2, 0.3), WHOLE)
    config = resolve_config(ws, assignments=("augment.crop_pct=1", "augment.interpolation=area"))
    found = resolve_model_input(config, root=ws.root)
    assert crop_of(found) == {"crop_pct": 1.0, "crop_mode": "center", "interpolation": "area"}
    assert found.data.mean == (0.485, 0.456, 0.406)


def test_standard_augmentation_evaluates_as_its_model_was_trained_with(ws: Workspace) -> None:
    config = resolve_config(ws, assignments=(*SMALL, "augment.name=standard"))
    assert crop_of(resolve_model_input(config, root=ws.root)) == TEST_RESNET


def test_one_number_is_a_square(ws: Workspace) -> None:
    config = resolve_config(
        ws, assignments=("data.image_size=112", "eval.center_crop=96", "augment.crop=80")
    )
    assert (config.data.image_size, config.eval.center_crop, config.augment.crop) == (
        (112, 112),
        (96, 96),
        (80, 80),
    )


def test_custom_augmentation_takes_the_channels_alone(ws: Workspace) -> None:
    config = resolve_model_input(
        resolve_config(ws, assignments=("augment.name=custom",)), root=ws.root
    )
    assert (config.data.mean, crop_of(config)) == ((0.485, 0.456, 0.406), WHOLE)


def test_measured_figures_are_of_the_images_as_they_are_cut(ws: Workspace) -> None:
    assign = (*SMALL, "data.std=measured")
    config = resolve_config(ws, assignments=assign)
    _, data = prepare_data(ws, config)
    found = resolve_input(config, data, root=ws.root)
    assert found.data.mean == (0.5, 0.5, 0.5)
    assert all(isinstance(value, float) for value in found.data.std)
    assert crop_of(found) == TEST_RESNET


def test_a_run_made_before_keeps_what_it_had(ws: Workspace) -> None:
    tables = add_old_run(ws)
    for config in (
        resolve_config(ws, parent="exp1"),
        config_from_dict(load_config(ws.runs_dir, "exp1")),
    ):
        assert (config.data.mean, config.data.split, crop_of(config)) == (
            PROFILE_MEAN,
            "by_image",
            WHOLE,
        )
        assert config_fingerprint(config_to_dict(config)) == config_fingerprint(tables)
        assert diff_configs(tables, config_to_dict(config)) == {}
    other = resolve_config(ws, parent="exp1", flags={"model.name": "resnet18"})
    assert (other.data.mean, crop_of(other)) == (PROFILE_MEAN, WHOLE)
    asked = resolve_config(ws, parent="exp1", assignments=("data.mean=model",))
    assert crop_of(resolve_model_input(asked, root=ws.root)) == TEST_RESNET


def test_an_old_run_is_still_found_as_already_trained(ws: Workspace) -> None:
    tables = add_old_run(ws)
    _, data = prepare_data(ws, config_from_dict(tables))
    with pytest.raises(AlreadyTrainedError, match="exp1"):
        find_reusable_run(ws, config_to_dict(resolve_config(ws, parent="exp1")), data.fingerprint)
    assert (
        load_run(ws.runs_dir, "exp1").fingerprints["config"]
        == OLD_FINGERPRINT
        != config_fingerprint(tables)
    )
    (ws.root / "train").rename(ws.root / "moved")
    with pytest.raises(AlreadyTrainedError, match="exp1"):
        train(
            ws, resolve_config(ws, parent="exp1", assignments=("data.train_dir=moved",)), quiet=True
        )
    changed = resolve_config(ws, parent="exp1", assignments=("augment.crop_pct=0.9",))
    assert find_reusable_run(ws, config_to_dict(changed), data.fingerprint) is None
    assert diff_configs(tables, config_to_dict(changed)) == {"augment.crop_pct": [1.0, 0.9]}


def test_another_model_brings_its_own_figures_where_the_parents_were_its_models(
    ws: Workspace,
) -> None:
    config = resolve_model_input(resolve_config(ws, assignments=SMALL), root=ws.root)
    recorder = begin_run(ws, config=config_to_dict(config), fingerprints={"data": "d"})
    recorder.finish("finished")
    other = resolve_model_input(
        resolve_config(ws, parent="exp1", flags={"model.name": "resnet18"}), root=ws.root
    )
    assert (other.data.mean, crop_of(other)) == ((0.485, 0.456, 0.406), RESNET18)
    same = resolve_config(ws, parent="exp1", assignments=("optim.lr=0.1",))
    assert (same.data.mean, crop_of(same)) == ((0.5, 0.5, 0.5), TEST_RESNET)
    numbers = ("model.name=resnet18", "data.mean=[0.1,0.2,0.3]")
    own = resolve_config(ws, parent="exp1", assignments=numbers)
    assert (own.data.mean, crop_of(own)) == ((0.1, 0.2, 0.3), TEST_RESNET)
