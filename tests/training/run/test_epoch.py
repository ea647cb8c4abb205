"""A GPU's values are read where a point is logged: what is read then is what was read at once."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.support.training_loop import CONFIG, train, vary
from tests.training.conftest import TWO
from tracker.training.data.data import load_data
from tracker.training.errors import NonFiniteLossError
from tracker.training.fabric import MixedPrecision
from tracker.training.model.model import resolve_precision
from tracker.training.progress import Progress
from tracker.training.run import epoch
from tracker.training.run.alone import build_alone
from tracker.training.run.setup import Setup


def prepare(folders: Path, **values: object) -> Setup:
    config = vary(CONFIG, **values)
    data = load_data(config.data, TWO, root=folders)
    return build_alone(config, data, TWO, root=folders, batch_size=8)


@pytest.fixture
def reads_late(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(epoch, "READ_LATE", ("cpu",))


@pytest.mark.parametrize("every", [1, 2, 100])
def test_values_that_are_read_late_are_the_same(
    folders: Path, monkeypatch: pytest.MonkeyPatch, every: int
) -> None:
    points = []
    for name, kinds in (("once", ()), ("late", ("cpu",))):
        monkeypatch.setattr(epoch, "READ_LATE", kinds)
        config = vary(CONFIG, train__epochs=2, train__log_every=every, train__accumulate=2)
        _, logger = train(vary(config, train__clip_grad=0.1), folders, f"{name}{every}")
        timing = ("train/images_per_s", "train/data_wait")
        points.append(
            [
                (step, {key: value for key, value in values.items() if key not in timing})
                for step, values in logger.points
            ]
        )
    assert points[0] == points[1]


@pytest.mark.usefixtures("reads_late")
def test_a_loss_that_is_read_late_names_its_own_batch_and_nothing_is_saved(folders: Path) -> None:
    config = vary(CONFIG, train__log_every=100, optim__name="sgd", optim__lr=1e30)
    told = r"the loss is \w+ in epoch 1, batch 2 of 3 .*no weights were saved since"
    with pytest.raises(NonFiniteLossError, match=told):
        train(vary(config, sched__name="constant"), folders, "late")
    assert not list((folders / "late").glob("*.pth"))


def test_a_gradient_that_is_not_finite_is_told_before_the_weights_change(folders: Path) -> None:
    setup = prepare(folders, train__clip_grad=1.0)
    first = next(iter(setup.model.parameters()))
    before = first.detach().clone()
    first.register_hook(lambda gradient: gradient * math.inf)
    with (
        Progress(epochs=1, quiet=True) as progress,
        pytest.raises(NonFiniteLossError, match=r"the gradient's norm is \w+ in epoch 1, batch 1"),
    ):
        epoch.train_epoch(setup, 1, progress)
    assert torch.equal(first, before)


@pytest.mark.parametrize("name", ["adamw", "sgd", "lion"])
def test_gradients_are_clipped_in_float16_too(folders: Path, name: str) -> None:
    setup = prepare(folders, train__clip_grad=0.01, optim__name=name, optim__lr=1e-3)
    setup.fabric.strategy.precision = MixedPrecision("16-mixed", "cpu")
    before = [parameter.detach().clone() for parameter in setup.model.parameters()]
    images, labels = torch.randn(4, 3, 32, 32), torch.tensor([0, 1, 0, 1])
    for _ in range(20):  # the scaler begins with a scale that may be too large
        epoch.take_step(setup, images, labels)
    assert any(
        not torch.equal(old, new) and bool(new.isfinite().all())
        for old, new in zip(before, setup.model.parameters(), strict=True)
    )


def test_a_gpu_that_only_emulates_bfloat16_trains_in_float16(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "torch.cuda.is_bf16_supported", lambda including_emulation=True: including_emulation
    )
    assert resolve_precision("auto", "cuda") == ("16-mixed", "")
