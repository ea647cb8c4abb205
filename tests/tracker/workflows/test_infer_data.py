"""The images that a teammate's run is explained with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.workspaces import make_workspace_with_images
from tracker.run_folder.record import RunRecord
from tracker.training.config import Config
from tracker.training.config_reading import config_from_dict
from tracker.training.errors import TrainingError
from tracker.workflows.infer import prepare_trained_data
from tracker.workspace.tracker_toml import load_workspace


def _config_of_another_machine() -> Config:
    data = {"train_dir": "/nowhere/photos/train", "eval_dir": "/nowhere/eval"}
    return config_from_dict({"data": data})


def test_a_pulled_run_takes_the_images_of_this_workspace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    workspace = load_workspace(make_workspace_with_images(tmp_path / "ws").root)
    pulled = RunRecord(name="mina/exp1", uid="u", fingerprints={"data": "sha256:other"})
    _, data = prepare_trained_data(workspace, _config_of_another_machine(), pulled)
    assert all(sample.path.is_relative_to(workspace.root) for sample in data.train)
    assert "the data have changed since mina/exp1" in capsys.readouterr().err
    own = RunRecord(name="exp1", uid="u", fingerprints={"data": "sha256:other"})
    with pytest.raises(TrainingError, match="/nowhere"):
        prepare_trained_data(workspace, _config_of_another_machine(), own)
