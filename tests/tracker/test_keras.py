"""Keras's own `fit`, recorded by the callback."""

from __future__ import annotations

import os

os.environ.setdefault("KERAS_BACKEND", "torch")

import keras
import numpy as np
import pytest

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import IMAGES
from tracker.keras import BEST_FILE, TrackerCallback, describe_training
from tracker.run_folder.points import read_curves
from tracker.run_folder.read import load_config, load_run
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.training.model.weights import read_state_dict
from tracker.workflows.own_loop.loss_names import describe_loss
from tracker.workspace.tracker_toml import Workspace

# Keras's torch backend and NumPy 2
pytestmark = pytest.mark.filterwarnings(
    "ignore:__array__ implementation doesn't accept a copy:DeprecationWarning"
)

IMAGES_IN = np.random.default_rng(0).random((16, 4, 4, 3), dtype=np.float32)
LABELS = np.arange(16) % 2


@pytest.fixture(autouse=True)
def _without_mlflow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(NO_MLFLOW.items())))


def make_model() -> keras.Model:
    keras.utils.set_random_seed(0)
    layers = [
        keras.layers.Input((4, 4, 3)),
        keras.layers.Flatten(),
        keras.layers.Dense(2, activation="softmax"),
    ]
    model = keras.Sequential(layers, name="tiny")
    model.compile(
        keras.optimizers.SGD(0.125), "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    return model


def fit(
    model: keras.Model,
    *callbacks: keras.callbacks.Callback,
    epochs: int = 2,
    initial_epoch: int = 0,
) -> None:
    options = {"epochs": epochs, "initial_epoch": initial_epoch, "batch_size": 4, "verbose": 0}
    model.fit(
        IMAGES_IN, LABELS, validation_data=(IMAGES_IN, LABELS), callbacks=list(callbacks), **options
    )


class Scores(keras.callbacks.Callback):
    """Puts a score of its own into the logs, best in the first epoch; stops with Ctrl-C where there
    is none."""

    def __init__(self, *scores: float) -> None:
        super().__init__()
        self._scores = list(scores)

    def on_epoch_end(self, epoch: int, logs: dict[str, float]) -> None:
        if not self._scores:
            raise KeyboardInterrupt
        logs["val_f1"] = self._scores.pop(0)


def test_a_training_of_keras_is_a_run_that_can_be_submitted(workspace: Workspace) -> None:
    model, callback = (
        make_model(),
        TrackerCallback(root=workspace.root, follow=False, config={"augment": "none"}),
    )
    with pytest.raises(ConfigError, match="there is no run yet"):
        print(callback.run)
    fit(model, Scores(0.75, 0.5), callback)
    last = model.get_weights()
    model.load_weights(callback.run.folder / "files" / BEST_FILE)
    probabilities = model.predict(IMAGES_IN, verbose=0)[:IMAGES]
    callback.run.save_validation(
        [f"val/{n}.png" for n in range(IMAGES)], LABELS[:IMAGES], probabilities
    )
    callback.run.save_probabilities([f"i{number}.png" for number in range(IMAGES)], probabilities)
    record = callback.run.finish()
    assert (record.status, record.epoch, record.best_epoch, record.summary["val/f1"]) == (
        "finished",
        2,
        1,
        0.75,
    )
    curves = read_curves(workspace.runs_dir / "exp1" / "metrics.jsonl")
    assert set(curves) == {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "val/f1",
        "lr",
    }
    assert curves["val/f1"] == {4: (1, 0.75), 8: (2, 0.5)}
    assert curves["lr"] == {4: (1, 0.125), 8: (2, 0.125)}
    config = load_config(workspace.runs_dir, "exp1")
    assert config["optim"] == {"name": "SGD", "lr": 0.125}
    assert config["train"] == {"epochs": 2}
    assert (config["loss"]["name"], config["model"]["name"]) == (
        "sparse_categorical_crossentropy",
        "tiny",
    )
    assert config["config"] == {"augment": "none"}
    best = read_state_dict(workspace.runs_dir / "exp1" / "best.pth")[0]
    assert [value.numpy().tolist() for value in best.values()] == [
        one.tolist() for one in model.get_weights()
    ]
    assert any((one != other).any() for one, other in zip(model.get_weights(), last, strict=True))
    assert submit(workspace, "exp1", "by Keras")[0].number == 1


def test_a_training_of_keras_that_was_broken_off_goes_on_and_keeps_what_was_best(
    workspace: Workspace,
) -> None:
    callback = TrackerCallback(root=workspace.root, follow=False)
    with pytest.raises(KeyboardInterrupt):
        fit(make_model(), Scores(0.75), callback)
    kept = callback.run.finish("interrupted").fingerprints["weights"]
    again = TrackerCallback(root=workspace.root, follow=False, resume="exp1", monitor="val_f1")
    fit(make_model(), Scores(0.5), again, initial_epoch=1)
    again.run.finish()
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.epoch, record.best_epoch, record.summary["val/f1"]) == (
        "finished",
        2,
        1,
        0.75,
    )
    assert record.fingerprints["weights"] == kept
    assert [
        epoch for epoch, _ in read_curves(again.run.folder / "metrics.jsonl")["val/f1"].values()
    ] == [1, 2]


def my_loss(truth: object, predicted: object) -> object:
    return keras.losses.sparse_categorical_crossentropy(truth, predicted)


def test_a_loss_of_keras_is_named_with_its_options_and_without_an_address(
    workspace: Workspace,
) -> None:
    def describe(loss: object) -> dict[str, object]:
        model = make_model()
        model.compile(keras.optimizers.SGD(0.125), loss)
        return describe_training(model, {})["loss"]

    smooth = keras.losses.CategoricalCrossentropy(label_smoothing=0.25, from_logits=True)
    assert describe(smooth) == {
        "name": "categorical_crossentropy",
        "smoothing": 0.25,
        "from_logits": True,
    }
    assert describe(my_loss) == {"name": "my_loss"}
    assert describe([my_loss]) == {"name": "my_loss"}
    assert describe_loss(None) == {}
