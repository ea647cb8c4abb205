"""Lightning's real Trainer and real Fabric, and a plain loop: each makes a run that is as good as
any other."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning_fabric import Fabric
from PIL import Image
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

import tracker
from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, make_pictures
from tests.support.forks import PROGRAM, Forks
from tracker.comparison.diff import diff_runs
from tracker.lightning import TrackerLogger
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.setup.init import init_workspace
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.files import write_json
from tracker.training.run.checkpoint import weights_fingerprint
from tracker.workflows.ensemble import ensemble
from tracker.workspace.tracker_toml import Workspace

pytestmark = pytest.mark.filterwarnings(
    "ignore"
)  # Lightning's advice about loaders and checkpoints
SCORES = (0.25, 0.75, 0.5)  # of the epochs, whatever was learned
SIZE = 8


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


@pytest.fixture
def photos(tmp_path: Path) -> Workspace:
    """A workspace with a folder of cats and dogs, photographs to predict and their solution."""
    make_pictures(tmp_path / "photos", per_class=4)
    return init_workspace(
        tmp_path / "ws",
        data={
            "train_dir": str(tmp_path / "photos" / "train"),
            "eval_dir": str(tmp_path / "photos" / "eval"),
        },
        competition={"classes": ["cat", "dog"]},
        leaderboard_options={"solution": tmp_path / "photos" / "solution.csv"},
    )


class Net(LightningModule):
    """A linear model; its validation score is known beforehand."""

    def __init__(self, lr: float = 0.1, features: int = SIZE * SIZE, **more: Any) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = nn.Linear(features, 2)

    def forward(self, images: Any) -> Any:
        return self.layer(images.flatten(1))

    def training_step(self, batch: Any, _number: int) -> Any:
        loss = nn.functional.cross_entropy(self(batch[0]), batch[1])
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch: Any, _number: int) -> None:
        self.log("val_acc", SCORES[self.current_epoch])
        self.log("val_loss", nn.functional.cross_entropy(self(batch[0]), batch[1]))

    def test_step(self, batch: Any, _number: int) -> None:
        self.log("test_acc", 0.5)

    def predict_step(self, batch: Any, _number: int) -> Any:
        return self(batch[0]).softmax(1)

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=self.hparams["lr"])


def load(paths: list[Path]) -> torch.Tensor:
    """Gray images [images, 8, 8] between 0 and 1."""
    arrays = [
        np.asarray(Image.open(path).convert("L").resize((SIZE, SIZE)), dtype=np.float32) / 255
        for path in paths
    ]
    return torch.from_numpy(np.stack(arrays))


class Photos:
    """The images of `photos`: those to train on, a validation set of every second one, and those to
    predict."""

    def __init__(self, folder: Path) -> None:
        paths = sorted((folder / "train").rglob("*.png"))
        labels = torch.tensor([int(path.parent.name == "dog") for path in paths])
        self.train = DataLoader(TensorDataset(load(paths[::2]), labels[::2]), batch_size=2)
        self.ids = [f"{path.parent.name}/{path.name}" for path in paths[1::2]]
        self.labels = labels[1::2]
        self.val = DataLoader(TensorDataset(load(paths[1::2]), self.labels), batch_size=4)
        found = sorted((folder / "eval" / "images").iterdir())
        self.eval_ids = [path.name for path in found]
        self.eval = DataLoader(TensorDataset(load(found)), batch_size=4)


def fit(
    logger: TrackerLogger, *callbacks: Callback, epochs: int = 3, model: Any = None, **options: Any
) -> Trainer:
    """A Trainer that has fitted a few random images."""
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        logger=logger,
        max_epochs=epochs,
        callbacks=list(callbacks),
        log_every_n_steps=1,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = DataLoader(
        TensorDataset(torch.rand(4, SIZE, SIZE), torch.tensor([0, 1, 0, 1])), batch_size=2
    )
    trainer.fit(model or Net(), loader, loader, **options)
    return trainer


# --- A plain loop, Fabric and the Trainer ---


def set_apart(rows: Any, number: int) -> Any:
    """Probabilities whose first two answers are those of this run alone: no submission is a
    duplicate."""
    rows = rows.clone()
    for place in (0, 1):
        rows[place] = torch.eye(2)[number >> place & 1]
    return rows


def by_plain_loop(workspace: Workspace, data: Photos) -> None:
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with tracker.start_run(
        {"optim": {"lr": 0.1}}, note="plain", root=workspace.root, follow=False
    ) as run:
        for epoch in (1, 2):
            for images, labels in data.train:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(images), labels)
                loss.backward()
                optimizer.step()
            run.log({"train/loss": loss.item()}, epoch=epoch)
        with torch.inference_mode():
            run.save_validation(
                data.ids, data.labels, torch.cat([model(x).softmax(1) for x, _ in data.val])
            )
            run.save_probabilities(
                data.eval_ids, set_apart(torch.cat([model(x).softmax(1) for (x,) in data.eval]), 1)
            )


def by_fabric(workspace: Workspace, data: Photos) -> None:
    logger = TrackerLogger(note="Fabric", root=workspace.root, follow=False)
    fabric = Fabric(accelerator="cpu", devices=1, loggers=[logger])
    logger.log_hyperparams({"optim": {"lr": 0.2}})
    bare = Net(lr=0.2)
    model, optimizer = fabric.setup(bare, bare.configure_optimizers())
    loaders = fabric.setup_dataloaders(data.train, data.val, data.eval)
    for epoch in (1, 2):
        for images, labels in loaders[0]:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            fabric.backward(loss)
            optimizer.step()
        fabric.log_dict({"train_loss": loss.item(), "epoch": epoch}, step=epoch)
    with torch.inference_mode():
        logger.run.save_validation(
            data.ids, data.labels, torch.cat([model(x).softmax(1) for x, _ in loaders[1]])
        )
        said = torch.cat([model(x).softmax(1) for (x,) in loaders[2]])
        logger.run.save_probabilities(data.eval_ids, set_apart(said, 2))
    logger.finalize("success")


def by_trainer(workspace: Workspace, data: Photos) -> None:
    logger = TrackerLogger(note="Trainer", root=workspace.root, follow=False)
    quiet = {"enable_progress_bar": False, "enable_model_summary": False}
    best = ModelCheckpoint(monitor="val_acc", mode="max")
    trainer = Trainer(
        accelerator="cpu", devices=1, logger=logger, max_epochs=2, callbacks=[best], **quiet
    )
    model = Net(lr=0.3)
    trainer.fit(model, data.train, data.val)
    said = trainer.predict(model, data.val, ckpt_path="best", weights_only=True)
    logger.run.save_validation(data.ids, data.labels, torch.cat(said))
    logger.run.save_probabilities(
        data.eval_ids, set_apart(torch.cat(trainer.predict(model, data.eval)), 3)
    )
    logger.run.finish()


def test_runs_of_a_plain_loop_fabric_and_the_trainer_are_ensembled_diffed_and_submitted(
    photos: Workspace, tmp_path: Path
) -> None:
    data = Photos(tmp_path / "photos")
    for number, train in enumerate((by_plain_loop, by_fabric, by_trainer), start=1):
        train(photos, data)
        record = load_run(photos.runs_dir, f"exp{number}")
        assert (record.status, record.kind) == ("finished", "train")
        assert record.summary["val/accuracy"] is not None
        assert submit(photos, record.name, record.note, even_if_similar=True)[0].number == number
    assert len(list_runs(photos.runs_dir)) == 3
    for a, b in (("exp1", "exp2"), ("exp2", "exp3")):
        found = diff_runs(photos, a, b)
        assert found.statistics is not None, found.problem
        assert found.statistics.samples == len(data.ids)
    joined = ensemble(photos, ["exp1", "exp2", "exp3"], method="weighted")
    assert joined.summary["val/accuracy"] is not None
    assert joined.fingerprints["predictions"]


# --- The Trainer ---


def test_the_trainer_s_checkpoints_best_epoch_and_hyperparameters_are_the_run_s(
    workspace: Workspace,
) -> None:
    logger = TrackerLogger(note="n", tags=["pl"], root=workspace.root, follow=False)
    best = ModelCheckpoint(monitor="val_acc", mode="max", save_last=True)
    before = {path.name for path in workspace.root.iterdir()} | {"runs"}
    trainer = fit(logger, ModelCheckpoint(every_n_train_steps=1), best)
    folder = workspace.runs_dir / "exp1"
    assert Path(best.best_model_path).resolve().parent == folder / "checkpoints"
    assert Path(trainer.log_dir or "") == folder
    assert (logger.version, logger.root_dir) == ("exp1", str(workspace.runs_dir))
    assert {path.name for path in workspace.root.iterdir()} == before
    trainer.test(
        trainer.lightning_module,
        DataLoader(TensorDataset(torch.rand(2, SIZE, SIZE))),
        verbose=False,
    )
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.note, record.tags) == ("running", "n", ("pl",))
    logger.run.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.best_epoch, record.epoch) == ("finished", 2, 3)
    assert record.summary["val/accuracy"] == 0.75
    assert set(record.summary) == {"val/accuracy", "val/loss", "train/loss", "train/batch_loss"}
    state = torch.load(best.best_model_path, weights_only=True)["state_dict"]
    assert record.fingerprints["weights"] == weights_fingerprint(state)
    assert record.fingerprints["weights"] != weights_fingerprint(
        trainer.lightning_module.state_dict()
    )
    assert load_config(workspace.runs_dir, "exp1") == {
        "optim": {"lr": 0.1},
        "config": {"features": SIZE * SIZE},
    }
    curves = read_curves(folder / "metrics.jsonl")
    assert [(epoch, value) for epoch, value in curves["val/accuracy"].values()] == list(
        enumerate(SCORES, start=1)
    )
    assert {"train/loss", "train/batch_loss", "val/loss", "test_acc"} <= curves.keys()
    assert len(list_runs(workspace.runs_dir)) == 1


class NetWithLoss(Net):
    """A module that has its loss as a part."""

    def __init__(self, *losses: nn.Module) -> None:
        super().__init__()
        for place, loss in enumerate(losses):
            self.add_module(f"loss{place}", loss)


def test_the_loss_of_a_module_is_in_the_config_where_it_is_its_only_one(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    smooth = nn.CrossEntropyLoss(label_smoothing=0.25)
    logger = TrackerLogger(root=workspace.root, follow=False)
    trainer = fit(logger, epochs=1, model=NetWithLoss(smooth))
    logger.run.finish()
    config = load_config(workspace.runs_dir, "exp1")
    assert config["loss"] == {"name": "CrossEntropyLoss", "smoothing": 0.25}
    path = workspace.root / "elsewhere.ckpt"
    trainer.save_checkpoint(path)
    capfd.readouterr()
    logger = TrackerLogger(root=workspace.root, follow=False)
    fit(logger, epochs=2, model=NetWithLoss(smooth), ckpt_path=str(path))
    logger.run.finish()
    told = capfd.readouterr().err
    assert "exp2 is a new run: " in told
    assert "elsewhere.ckpt is of no run in this workspace" in told
    logger = TrackerLogger(root=workspace.root, follow=False)
    fit(logger, epochs=1, model=NetWithLoss(smooth, nn.MSELoss()))
    logger.run.finish()
    assert "loss" not in load_config(workspace.runs_dir, "exp3")


def test_without_a_checkpoint_the_summary_is_that_of_the_curves(workspace: Workspace) -> None:
    logger = TrackerLogger(root=workspace.root, follow=False)
    trainer = Trainer(accelerator="cpu", logger=logger, max_epochs=3, enable_checkpointing=False)
    loader = DataLoader(
        TensorDataset(torch.rand(2, SIZE, SIZE), torch.tensor([0, 1])), batch_size=2
    )
    trainer.fit(Net(), loader, loader)
    logger.run.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (
        record.best_epoch,
        record.summary["val/accuracy"],
        record.summary["last/val/accuracy"],
    ) == (2, 0.75, 0.5)
    assert not (workspace.runs_dir / "exp1" / "best.pth").exists()


class Stop(Callback):
    """An error in the second epoch."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            raise self.error


@pytest.mark.parametrize(
    ("error", "raised", "told"),
    [
        (ValueError("no"), ValueError, "failed after epoch 2 (ValueError: no)"),
        (KeyboardInterrupt(), SystemExit, "was interrupted after epoch 2 (Ctrl-C)"),
    ],
)
def test_a_fit_that_broke_off_says_so_and_is_resumed(
    workspace: Workspace,
    capfd: pytest.CaptureFixture[str],
    error: BaseException,
    raised: type[BaseException],
    told: str,
) -> None:
    status, words = told.removeprefix("was ").partition(" ")[0], told.partition("(")[2].rstrip(")")
    every = ModelCheckpoint(monitor="val_acc", mode="max", save_top_k=-1)
    with pytest.raises(raised) as ended:
        fit(TrackerLogger(root=workspace.root, follow=False), every, Stop(error))
    assert not isinstance(ended.value, SystemExit) or ended.value.code == 130
    (line,) = [
        line for line in capfd.readouterr().err.splitlines() if line.startswith(f"exp1 {told}")
    ]
    (saved,) = (workspace.runs_dir / "exp1" / "checkpoints").glob("*.ckpt")
    assert line.endswith(
        f'Resume: TrackerLogger(resume="exp1") and trainer.fit(..., ckpt_path="{saved}")'
    )
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error, record.best_epoch) == (
        status,
        words,
        1,
    )  # checkpoints come last
    logger = TrackerLogger(root=workspace.root, follow=False, resume="exp1")
    (path,) = (workspace.runs_dir / "exp1" / "checkpoints").glob("epoch=0-*.ckpt")
    fit(logger, ModelCheckpoint(monitor="val_acc", mode="max"), ckpt_path=path, weights_only=True)
    logger.run.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error, record.best_epoch, record.epoch) == ("finished", "", 2, 3)
    curve = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")["val/accuracy"]
    assert [(epoch, value) for epoch, value in curve.values()] == list(enumerate(SCORES, start=1))
    assert len(list_runs(workspace.runs_dir)) == 1


def stop(trainer: Any) -> None:
    """What `tracker stop` does to the process."""
    write_json(Path(trainer.logger.log_dir) / "stop.json", {"reason": "not learning", "facts": {}})
    os.kill(os.getpid(), signal.SIGTERM)


class Terminate(Callback):
    """The same after one batch, counted from 1."""

    def __init__(self, batch: int) -> None:
        self._batch = batch

    def on_train_batch_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        if trainer.global_step == self._batch:
            stop(trainer)


@pytest.mark.parametrize("handled", [False, True])
def test_a_fit_that_was_stopped_is_interrupted_and_is_resumed(
    workspace: Workspace, handled: bool
) -> None:
    every = ModelCheckpoint(monitor="val_acc", mode="max", save_top_k=-1)
    before = signal.signal(signal.SIGTERM, (lambda *_: None) if handled else signal.SIG_DFL)
    try:
        with pytest.raises(SystemExit) as ended:
            fit(TrackerLogger(root=workspace.root, follow=False), every, Terminate(3))
        assert ended.value.code == 130
    finally:
        signal.signal(signal.SIGTERM, before)
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error) == ("interrupted", "not learning")
    logger = TrackerLogger(root=workspace.root, follow=False, resume="exp1")
    (path,) = (workspace.runs_dir / "exp1" / "checkpoints").glob("epoch=0-*.ckpt")
    fit(logger, ckpt_path=path, weights_only=True)
    logger.run.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error, record.epoch) == ("finished", "", 3)


class TerminateAtEnd(Callback):
    """The same when the last epoch is done."""

    def on_train_end(self, trainer: Any, *args: Any, **kwargs: Any) -> None:
        stop(trainer)


def test_a_stop_that_comes_after_the_last_epoch_leaves_the_fit_finished(
    workspace: Workspace,
) -> None:
    before = signal.signal(signal.SIGTERM, lambda *_: None)
    try:
        logger = TrackerLogger(root=workspace.root, follow=False)
        fit(logger, TerminateAtEnd())
        logger.run.finish()
    finally:
        signal.signal(signal.SIGTERM, before)
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.epoch) == ("finished", 3)


def test_a_resumed_run_keeps_its_hyperparameters_and_a_broken_fit_goes_on_with_its_logger(
    workspace: Workspace,
) -> None:
    logger = TrackerLogger(root=workspace.root, follow=False)
    with pytest.raises(ValueError, match="no"):
        fit(logger, Stop(ValueError("no")))
    with pytest.raises(
        ConfigError, match=r"exp1 must resume with its own hyperparameters: optim\.lr"
    ):
        fit(TrackerLogger(root=workspace.root, follow=False, resume="exp1"), model=Net(lr=0.5))
    assert load_run(workspace.runs_dir, "exp1").status == "failed"
    fit(logger, epochs=1)
    logger.run.finish()
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["finished"]
    fit(logger, epochs=1)
    logger.run.finish()
    assert load_config(workspace.runs_dir, "exp2") == load_config(workspace.runs_dir, "exp1")


def test_a_fit_goes_on_to_more_epochs_and_from_another_run_s_checkpoint_says_that_it_is_a_new_run(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    every = ModelCheckpoint(monitor="val_acc", mode="max", save_top_k=-1)
    with pytest.raises(ValueError, match="no"):
        fit(
            TrackerLogger(root=workspace.root, follow=False),
            every,
            Stop(ValueError("no")),
            model=Net(max_epochs=2),
        )
    (path,) = (workspace.runs_dir / "exp1" / "checkpoints").glob("epoch=0-*.ckpt")
    logger = TrackerLogger(root=workspace.root, follow=False, resume="exp1")
    fit(logger, epochs=3, model=Net(max_epochs=3), ckpt_path=path, weights_only=True)
    logger.run.finish()
    assert "exp1: train.epochs is 3, was 2\n" in capfd.readouterr().err
    assert load_config(workspace.runs_dir, "exp1")["train"]["epochs"] == 3
    assert load_run(workspace.runs_dir, "exp1").epoch == 3

    logger = TrackerLogger(root=workspace.root, follow=False)
    fit(logger, epochs=2, ckpt_path=path, weights_only=True)
    logger.run.finish()
    told = (
        'exp2 is a new run, started from a checkpoint of exp1: TrackerLogger(resume="exp1") resumes'
        " exp1 itself"
    )
    assert told in capfd.readouterr().err.splitlines()
    record = load_run(workspace.runs_dir, "exp2")
    assert (record.parent, record.best_epoch, record.epoch) == ("exp1", 2, 2)


def test_a_run_whose_hyperparameters_kept_their_names_goes_on_with_them(
    workspace: Workspace,
) -> None:
    config = {"lr": 0.1, "features": SIZE * SIZE}  # as this logger wrote it once
    with (
        pytest.raises(ValueError, match="no"),
        tracker.start_run(config, root=workspace.root, follow=False) as run,
    ):
        run.log({"val/accuracy": 0.25}, epoch=1)
        raise ValueError("no")
    logger = TrackerLogger(root=workspace.root, follow=False, resume="exp1")
    fit(logger, epochs=1)
    logger.run.finish()
    assert load_config(workspace.runs_dir, "exp1") == {"config": config}


def test_hyperparameters_that_would_have_one_key_keep_their_own(workspace: Workspace) -> None:
    logger = TrackerLogger(root=workspace.root, follow=False)
    logger.log_hyperparams(
        {"lr": 0.1, "learning_rate": 0.2, "bs": 4, "model": {"arch": "a", "width": 2}}
    )
    logger.run.finish()
    assert load_config(workspace.runs_dir, "exp1") == {
        "config": {"lr": 0.1, "learning_rate": 0.2},
        "train": {"batch_size": 4},
        "model": {"name": "a", "width": 2},
    }


# --- Scripts ---

FABRIC = """
import sys
from lightning_fabric import Fabric
from tracker.lightning import TrackerLogger
def main(fabric):
    fabric.log_dict({"train_loss": 1.0, "epoch": 1}, step=1)
    if fabric.global_rank == 0 and sys.argv[1] == "failed":
        raise ValueError("no")
if __name__ == "__main__":
    end = sys.argv[1]
    strategy = {"devices": 1} if end == "finished" else {"devices": 2, "strategy": "ddp_fork"}
    logger = TrackerLogger(note=end, follow=False)
    fabric = Fabric(accelerator="cpu", loggers=logger, **strategy)
    fabric.launch(main)
"""


@pytest.mark.slow
def test_a_fabric_script_without_finalize_ends_its_run_also_in_forked_processes(
    workspace: Workspace, tmp_path: Path, forks: Forks
) -> None:
    script = tmp_path / "script.py"
    script.write_text(FABRIC)
    for end in ("finished", "forked", "failed"):
        child = forks.start(script, end, cwd=workspace.root, module=PROGRAM)
        child.communicate(timeout=COMMAND_LIMIT_S)
    ended = {record.note: (record.status, record.error) for record in list_runs(workspace.runs_dir)}
    assert ended == {
        "finished": ("finished", ""),
        "forked": ("finished", ""),
        "failed": ("failed", "ValueError: no"),
    }
