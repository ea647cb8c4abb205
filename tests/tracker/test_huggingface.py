"""Hugging Face's own Trainer, recorded by the callback: a run like any other."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import Dataset
from transformers import (
    ResNetConfig,
    ResNetForImageClassification,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

import tracker
from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, ROOT
from tests.support.workspaces import IMAGES
from tracker.comparison.diff import diff_runs
from tracker.huggingface import TrackerCallback
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import list_runs, load_config, load_run
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.model.weights import read_state_dict
from tracker.training.run.checkpoint import weights_fingerprint
from tracker.workflows.ensemble import ensemble
from tracker.workspace.tracker_toml import Workspace

MODEL = {
    "embedding_size": 4,
    "hidden_sizes": [4, 8],
    "depths": [1, 1],
    "num_labels": 2,
    "layer_type": "basic",
}
PER_EPOCH = 4  # steps


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


class Noise(Dataset[dict[str, Any]]):
    """Images of noise; every second one is of class 1."""

    def __init__(self, count: int) -> None:
        self._count = count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, index: int) -> dict[str, Any]:
        draw = torch.Generator().manual_seed(index)
        return {"pixel_values": torch.rand(3, 16, 16, generator=draw), "labels": index % 2}


class Interrupt(TrainerCallback):
    """Ctrl-C after a step."""

    def __init__(self, step: int) -> None:
        self._step = step

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == self._step:
            raise KeyboardInterrupt


def make_trainer(
    root: Path, *, interrupt_at: int = 0, epochs: int = 2, **options: Any
) -> tuple[Trainer, TrackerCallback]:
    """A Trainer of so many epochs with its callback; checkpoints are in `root`/checkpoints."""
    callback = TrackerCallback(root=root, follow=False, note="by Hugging Face")
    options = {"metric_for_best_model": "score", "save_strategy": "epoch", **options}
    args = TrainingArguments(
        output_dir=str(root / "checkpoints"),
        num_train_epochs=epochs,
        per_device_train_batch_size=4,
        learning_rate=0.01,
        eval_strategy="epoch",
        logging_steps=2,
        use_cpu=True,
        report_to=[],
        disable_tqdm=True,
        **options,
    )
    scores = iter((0.75, 0.5, 0.25, 0.125))  # the best comes first, whatever is learned
    trainer = Trainer(
        model=ResNetForImageClassification(ResNetConfig(**MODEL)),
        args=args,
        train_dataset=Noise(4 * PER_EPOCH),
        eval_dataset=Noise(IMAGES),
        compute_metrics=lambda _: {"score": next(scores), "accuracy": 0.5},
        callbacks=[callback, *([Interrupt(interrupt_at)] if interrupt_at else [])],
    )
    return trainer, callback


def predict(trainer: Trainer) -> Any:
    """Probabilities of the noise images."""
    logits = torch.tensor(trainer.predict(Noise(IMAGES), metric_key_prefix="test").predictions)
    return torch.softmax(logits, dim=1)


def test_a_training_of_the_trainer_is_ensembled_diffed_with_statistics_and_submitted(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer, callback = make_trainer(workspace.root)
    trainer.evaluate()
    with pytest.raises(ConfigError, match="there is no run yet"):
        print(callback.run)
    trainer.train()
    ids, truth = (
        [f"val/{number}.png" for number in range(IMAGES)],
        [number % 2 for number in range(IMAGES)],
    )
    eval_ids = [f"i{number}.png" for number in range(IMAGES)]
    trainer.compute_metrics = None
    probabilities = predict(trainer)
    callback.run.save_validation(ids, truth, probabilities)
    callback.run.save_probabilities(eval_ids, probabilities)
    record = callback.run.finish()
    assert (record.name, record.status, record.note, record.epoch) == (
        "exp1",
        "finished",
        "by Hugging Face",
        2,
    )

    config = load_config(workspace.runs_dir, "exp1")
    assert config["optim"]["lr"] == 0.01
    assert {"epochs": 2, "batch_size": 4}.items() <= config["train"].items()
    assert (config["model"]["name"], config["model_config"]["depths"]) == ("resnet", [1, 1])
    assert config["loss"] == {"name": "ForImageClassification"}
    assert "checkpoints" not in str(config)  # where files lie

    curves = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")
    for name in ("train/loss", "train/grad_norm", "lr"):
        assert [(step, epoch) for step, (epoch, _) in curves[name].items()] == [
            (2, 1),
            (4, 1),
            (6, 2),
            (8, 2),
        ]
    assert curves["val/accuracy"] == {4: (1, 0.5), 8: (2, 0.5)}
    assert curves["eval_score"] == {4: (1, 0.5), 8: (2, 0.25)}
    assert not any("runtime" in name or "per_second" in name for name in curves)

    assert (record.best_epoch, record.summary["eval_score"]) == (1, 0.5)
    best = read_state_dict(
        workspace.root / "checkpoints" / f"checkpoint-{PER_EPOCH}" / "model.safetensors"
    )[0]
    assert record.fingerprints["weights"] == weights_fingerprint(best)

    with tracker.start_run({}, root=workspace.root, follow=False) as other:
        flipped = np.asarray(probabilities)[:, ::-1].copy()
        other.save_validation(ids, truth, flipped)
        other.save_probabilities(eval_ids, flipped)
    found = diff_runs(workspace, "exp1", "exp2")
    assert found.statistics is not None, found.problem
    assert found.statistics.samples == IMAGES
    combined = ensemble(workspace, ["exp1", "exp2"], method="weighted", weights=[2, 1])
    assert submit(workspace, "exp1", "by Hugging Face")[0].number == 1
    assert load_run(workspace.runs_dir, combined.name).status == "finished"
    assert "bug" not in capfd.readouterr().err


SCRIPT = """
import sys
from pathlib import Path
from tests.tracker.test_huggingface import PER_EPOCH, make_trainer
trainer, _ = make_trainer(Path.cwd(), interrupt_at=PER_EPOCH + 1)
trainer.train()
"""


def test_an_interrupted_training_goes_on_from_its_checkpoint_as_the_same_run(
    workspace: Workspace,
) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", SCRIPT]
    done = subprocess.run(
        words,
        cwd=workspace.root,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert [(one.name, one.status) for one in list_runs(workspace.runs_dir)] == [
        ("exp1", "interrupted")
    ], done.stderr
    assert "Traceback" not in done.stderr
    path = workspace.root / "checkpoints" / f"checkpoint-{PER_EPOCH}"
    assert done.stderr.splitlines()[-1].endswith(
        f'Resume: trainer.train(resume_from_checkpoint="{path}")'
    )
    assert done.returncode == -signal.SIGINT
    kept = load_run(workspace.runs_dir, "exp1").fingerprints["weights"]

    trainer, callback = make_trainer(workspace.root)
    trainer.train(resume_from_checkpoint=True)
    assert callback.run.name == "exp1"
    record = callback.run.finish()
    assert (record.status, record.error, record.epoch) == ("finished", "", 2)
    curves = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")
    assert list(curves["train/loss"]) == [2, 4, 6, 8]
    assert curves["eval_score"] == {
        4: (1, 0.75),
        8: (2, 0.75),
    }  # a new Trainer, a new list of scores
    assert record.fingerprints["weights"] == kept
    assert (record.best_epoch, record.summary["eval_score"]) == (1, 0.75)


def test_a_checkpoint_goes_on_to_more_epochs_and_another_config_makes_a_run_of_its_own_epochs(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer, callback = make_trainer(workspace.root, interrupt_at=PER_EPOCH + 1)
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.train()
    callback.run.end(raised.value)
    old = str(workspace.root / "checkpoints" / f"checkpoint-{PER_EPOCH}")
    trainer, callback = make_trainer(workspace.root, epochs=3)
    trainer.train(resume_from_checkpoint=old)
    record = callback.run.finish()
    assert (record.name, record.epoch, record.best_epoch) == ("exp1", 3, 1)
    assert load_config(workspace.runs_dir, "exp1")["train"]["epochs"] == 3
    lines = capfd.readouterr().err.splitlines()
    assert [line.rpartition("/")[2] for line in lines if "resumed" in line] == [
        "exp1 after epoch 1"
    ]
    assert "exp1: train.epochs is 3, was 2" in lines

    trainer, callback = make_trainer(
        workspace.root, epochs=3
    )  # exp1 is finished: it stays as it is
    trainer.compute_metrics = lambda _: {
        "score": 0.5,
        "accuracy": 0.5,
    }  # less than 0.75, in epoch 1 of exp1
    trainer.train(resume_from_checkpoint=old)
    record = callback.run.finish()
    assert (record.name, record.parent, record.best_epoch, record.epoch) == ("exp2", "exp1", 2, 3)
    assert record.summary["eval_score"] == 0.5
    best = read_state_dict(
        workspace.root / "checkpoints" / f"checkpoint-{2 * PER_EPOCH}" / "model.safetensors"
    )[0]
    assert record.fingerprints["weights"] == weights_fingerprint(best)
    told = (
        "exp2 is a new run, started from a checkpoint of exp1: exp1 is finished and cannot be"
        " resumed"
    )
    assert told in capfd.readouterr().err.splitlines()

    trainer, callback = make_trainer(workspace.root, load_best_model_at_end=True, weight_decay=0.5)
    trainer.compute_metrics = lambda _: {"score": 0.5, "accuracy": 0.5}
    trainer.train(resume_from_checkpoint=old)
    record = callback.run.finish()
    assert (record.name, record.best_epoch) == ("exp3", 2)
    assert (
        f"exp3: the Trainer has loaded {old}, which is better than every epoch of this run"
        in capfd.readouterr().err
    )


class TrainerWithLoss(Trainer):
    """A Trainer whose user computes the loss."""

    def compute_loss(self, *args: Any, **kwargs: Any) -> Any:
        return super().compute_loss(*args, **kwargs)


def half_loss(outputs: Any, labels: Any, **_: Any) -> Any:
    return torch.nn.functional.cross_entropy(outputs.logits, labels) / 2


def test_the_loss_that_the_user_gave_the_trainer_is_in_the_config(workspace: Workspace) -> None:
    trainer, callback = make_trainer(workspace.root, max_steps=1)
    trainer.compute_loss_func = half_loss
    trainer.train()
    callback.run.finish()
    assert load_config(workspace.runs_dir, "exp1")["loss"] == {"name": "half_loss"}
    trainer, callback = make_trainer(workspace.root, max_steps=1, label_smoothing_factor=0.25)
    trainer.__class__ = TrainerWithLoss
    trainer.train()
    callback.run.finish()
    loss = load_config(workspace.runs_dir, "exp2")["loss"]
    assert loss == {"name": "TrainerWithLoss.compute_loss", "smoothing": 0.25}


def test_a_run_without_a_recorded_loss_is_resumed_and_an_unknown_one_is_named(
    workspace: Workspace, capfd: pytest.CaptureFixture[str]
) -> None:
    trainer, callback = make_trainer(workspace.root, interrupt_at=PER_EPOCH + 1)
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.train()
    callback.run.end(raised.value)
    config = workspace.runs_dir / "exp1" / "config.toml"
    loss = '[loss]\nname = "ForImageClassification"\n'  # what older versions did not record
    assert loss in config.read_text()
    config.write_text(config.read_text().replace(loss, ""))
    checkpoint = workspace.root / "checkpoints" / f"checkpoint-{PER_EPOCH}"
    old = str(shutil.copytree(checkpoint, workspace.root / f"old-{PER_EPOCH}"))
    trainer, callback = make_trainer(workspace.root)
    trainer.train(resume_from_checkpoint=old)
    assert callback.run.finish().name == "exp1"
    assert "is a new run" not in capfd.readouterr().err

    shutil.rmtree(workspace.runs_dir / "exp1")
    trainer, callback = make_trainer(workspace.root)
    trainer.train(resume_from_checkpoint=old)
    name = callback.run.finish().name
    line = (
        f"{name} is a new run: the checkpoint of step {PER_EPOCH} is of exp1, which is not in this"
        " workspace"
    )
    assert line in capfd.readouterr().err.splitlines()


class Terminate(TrainerCallback):
    """What `kill` does to the process after a step."""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == PER_EPOCH + 1:
            os.kill(os.getpid(), signal.SIGTERM)


def test_a_training_that_got_sigterm_is_interrupted_and_goes_on(workspace: Workspace) -> None:
    trainer, callback = make_trainer(workspace.root)
    trainer.add_callback(Terminate())
    with pytest.raises(KeyboardInterrupt) as raised:
        trainer.train()
    callback.run.end(raised.value)
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.error) == ("interrupted", "SIGTERM")
    trainer, callback = make_trainer(workspace.root)
    trainer.train(resume_from_checkpoint=True)
    callback.run.finish()
    assert [(each.name, each.status) for each in list_runs(workspace.runs_dir)] == [
        ("exp1", "finished")
    ]


def test_without_checkpoints_the_weights_at_the_end_are_kept_and_each_training_is_a_run(
    workspace: Workspace,
) -> None:
    options = {"save_strategy": "no", "metric_for_best_model": None, "max_steps": 2}
    trainer, callback = make_trainer(workspace.root, interrupt_at=1, **options)
    with pytest.raises(KeyboardInterrupt):  # and the script, or the notebook, goes on
        trainer.train()
    trainer.remove_callback(Interrupt)
    trainer.train()
    state = {name: value.detach().clone() for name, value in trainer.model.state_dict().items()}
    trainer.evaluate()  # after training: no point of a curve
    trainer.train()
    callback.run.finish()
    caught, first, second = (
        load_run(workspace.runs_dir, name) for name in ("exp1", "exp2", "exp3")
    )
    assert (caught.status, caught.error) == ("failed", "the training did not reach its end")
    assert (first.status, second.status) == ("finished", "finished")
    assert first.fingerprints["weights"] == weights_fingerprint(state)
    assert read_curves(workspace.runs_dir / "exp2" / "metrics.jsonl")["eval_score"] == {
        2: (1, 0.75)
    }
    assert first.facts["after_training.eval_score"] == 0.5
