"""Every family of models, loss and split of the winners trains on the demo's photographs, in its
smallest size."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch

from tests.conftest import NO_MLFLOW
from tracker.setup.demo_faces import make_competition
from tracker.setup.init import init_workspace
from tracker.training.config import ModelConfig
from tracker.training.model.model import build_model
from tracker.workflows.resolve import resolve_config
from tracker.workflows.train import train
from tracker.workspace.tracker_toml import Workspace

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("forked_mirrors", "no_pictures")]

WINNERS = (
    "vgg19_bn",
    "efficientnet_b4",
    "efficientnet_b6",
    "efficientnet_b7",
    "vit_large_patch16_224",
    "swin_large_patch4_window12_384",
)
RUNS = {
    "efficientnet_b0": (
        "loss.name=focal",
        "data.split=stratified",
        "model.drop_path=0.1",
        "optim.name=adam",
    ),
    "vit_tiny_patch16_224": (
        *("loss.name=label_smoothing", "data.split=by_image", "data.val_ratio=0.1"),
        *("optim.name=sgd", "optim.layer_decay=0.8", "augment.mixup=0.2"),
    ),
    "swin_tiny_patch4_window7_224": (
        "loss.name=f1",
        "sched.name=step",
        "augment.name=custom",
        "augment.crop=[96,80]",
    ),
    "resnet10t": (
        "loss.name=cross_entropy",
        "model.heads=attributes",
        "train.ema=0.9",
        "data.age_bands=[29,58]",
        "data.folds=4",
    ),
}


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """The demo's competition, smaller."""
    root = tmp_path_factory.mktemp("faces")
    make_competition(root / "data", people=24, eval_people=4, seed=7)
    data = {
        "train_dir": str(root / "data/train"),
        "eval_dir": str(root / "data/eval"),
        "split": "by_profile",
    }
    return init_workspace(
        root / "ws",
        data=data,
        competition={},
        leaderboard_options={"solution": root / "data" / "solution.csv"},
    )


def test_timm_has_the_winners_models() -> None:
    assert [name for name in WINNERS if not timm.is_model(name)] == []


@pytest.mark.parametrize("model", RUNS)
def test_a_family_trains_and_predicts(
    faces: Workspace, monkeypatch: pytest.MonkeyPatch, model: str
) -> None:
    monkeypatch.setenv("TRACKER_MLFLOW_URI", NO_MLFLOW["TRACKER_MLFLOW_URI"])
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", "0")
    small = ("data.image_size=[32,32]", "train.epochs=1", "data.workers=0", "train.accelerator=cpu")
    config = resolve_config(faces, assignments=(f"model.name={model}", *small, *RUNS[model]))
    record = train(faces, config, quiet=True)
    assert record.status == "finished"
    assert 0 <= (record.summary["val/f1"] or 0) <= 1
    assert (record.summary["train/loss"] or 0) > 0
    lines = (faces.runs_dir / record.name / "predictions.csv").read_text().splitlines()
    assert len(lines) == 1 + 4 * 7


def test_a_vgg_learns_and_answers() -> None:
    """Without the files of a run: with its 130 million weights they are two gigabytes."""
    config = ModelConfig(name="vgg11_bn", pretrained=False)
    model = build_model(config, num_classes=18, image_size=(32, 32), root=Path())
    logits = model(torch.rand(2, 3, 32, 32))
    assert logits.shape == (2, 18)
    torch.nn.functional.cross_entropy(logits, torch.tensor([3, 17])).backward()
    gradients = [parameter.grad for parameter in model.parameters()]
    assert all(grad is not None and grad.isfinite().all() for grad in gradients)
    assert all(grad is not None and grad.any() for grad in gradients[-2:])
