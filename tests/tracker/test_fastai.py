"""fastai's own Learner, recorded by the callback; skipped where fastai is missing.

Why it may be: DECISIONS.md, "fastai is no dependency of the tests".
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import IMAGES
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import load_config, load_run
from tracker.run_folder.record import list_run_numbers
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

pytestmark = pytest.mark.filterwarnings("ignore")  # fastai's own


def test_the_fits_of_a_learner_are_one_run_that_can_be_submitted(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(
        "fastai", reason="fastai is no dependency of the tests: it brings 45 packages"
    )
    import fastai.callback.progress
    import fastai.callback.schedule  # noqa: F401  (they add no_bar and lr_find)
    from fastai.basics import DataLoaders, Learner, accuracy

    from tracker.fastai import TrackerCallback

    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))
    draw = torch.Generator().manual_seed(0)
    pairs = [(torch.rand(3, 4, 4, generator=draw), number % 2) for number in range(16)]
    dls = DataLoaders.from_dsets(pairs, pairs, bs=4, device=torch.device("cpu"), num_workers=0)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(48, 2))
    callback = TrackerCallback(root=workspace.root, follow=False, monitor="accuracy")
    learn = Learner(
        dls,
        model,
        loss_func=torch.nn.CrossEntropyLoss(torch.tensor([1.0, 2.0]), label_smoothing=0.25),
        metrics=accuracy,
        cbs=callback,
        path=tmp_path,
    )
    with pytest.raises(ConfigError, match="there is no run yet"):
        print(callback.tracked)
    with learn.no_bar(), learn.no_logging():
        learn.lr_find(num_it=20, show_plot=False)
        assert list_run_numbers(workspace.runs_dir) == []
        learn.fit(1, lr=0.125)
        learn.fit(2, lr=0.25)
        probabilities = torch.softmax(learn.get_preds(ds_idx=1)[0], 1)[:IMAGES]
    callback.tracked.save_probabilities(
        [f"i{number}.png" for number in range(IMAGES)], probabilities
    )
    torch.save(callback, tmp_path / "callback.pkl")  # as Learner.export does
    callback.tracked.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.epoch, record.fingerprints["weights"] is not None) == (
        "finished",
        3,
        True,
    )
    curves = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")
    assert set(curves) == {"train/loss", "val/loss", "val/accuracy", "lr"}
    assert [(step, epoch) for step, (epoch, _) in curves["val/accuracy"].items()] == [
        (4, 1),
        (8, 2),
        (12, 3),
    ]
    assert [value for _, value in curves["lr"].values()] == [0.125, 0.25, 0.25]
    config = load_config(workspace.runs_dir, "exp1")
    assert config["loss"] == {
        "name": "CrossEntropyLoss",
        "smoothing": 0.25,
        "class_weights": [1.0, 2.0],
    }
    assert config["train"] == {"epochs": 1, "batch_size": 4}
    assert submit(workspace, "exp1", "by fastai")[0].number == 1
