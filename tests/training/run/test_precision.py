"""train.precision "auto" on a CPU: when it is measured, what is chosen, what stays as it was."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training_loop import CONFIG, SHORT, Stop, train, vary
from tests.training.conftest import TWO
from tracker.training.data.data import load_data
from tracker.training.formats.samples import LoadedData
from tracker.training.model import model
from tracker.training.run import loop, precision
from tracker.training.run.checkpoint import load_checkpoint
from tracker.training.run.precision import MeasuredSteps, measure_steps, wants_measuring


@pytest.fixture
def data(folders: Path) -> LoadedData:
    return load_data(CONFIG.data, TWO, root=folders)


@pytest.mark.parametrize(
    ("bfloat16", "chosen"), [(0.5, "32-true"), (1.2, "32-true"), (1.3, "bf16-mixed")]
)
def test_bfloat16_is_taken_where_it_is_quicker_by_more_than_noise(
    bfloat16: float, chosen: str
) -> None:
    assert MeasuredSteps(float32=10.0, bfloat16=10 * bfloat16).precision == chosen


def test_a_short_training_another_choice_and_a_processor_without_bfloat16_are_not_measured(
    data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(precision, "has_bfloat16", lambda: True)
    pixels = 32 * 32 * len(data.train)
    long = vary(CONFIG, train__epochs=-(-precision.LEAST_PIXELS // pixels))
    assert wants_measuring(long, data)
    assert not wants_measuring(vary(long, train__epochs=long.train.epochs - 1), data)
    assert not wants_measuring(vary(long, train__precision="32-true"), data)
    assert not wants_measuring(vary(long, train__accelerator="mps"), data)
    monkeypatch.setattr(precision, "has_bfloat16", lambda: False)
    assert not wants_measuring(long, data)


def test_measuring_changes_neither_random_numbers_nor_the_training(
    folders: Path, data: LoadedData
) -> None:
    config = vary(SHORT, train__ema=0.9)
    train(config, folders, "before")
    torch.use_deterministic_algorithms(False)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    steps, sentence = measure_steps(config, data, TWO, root=folders)
    after = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    assert states == after
    assert not torch.are_deterministic_algorithms_enabled()
    assert steps is not None, sentence
    assert min(steps.float32, steps.bfloat16) > 0
    train(config, folders, "after")
    before, now = (
        load_checkpoint(folders / name / "best.pth")["model"] for name in ("before", "after")
    )
    assert all(torch.equal(before[key], now[key]) for key in before)


def test_a_step_that_fails_is_left_to_the_training(
    folders: Path, data: LoadedData, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("not implemented for 'BFloat16'\nmore")

    monkeypatch.setattr(precision, "take_step", fail)
    steps, sentence = measure_steps(SHORT, data, TWO, root=folders)
    assert steps is None
    assert "not implemented for 'BFloat16'" in sentence
    assert "\n" not in sentence


def test_auto_trains_in_what_was_chosen_and_its_config_stays_auto(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(model, "has_bfloat16", lambda: True)
    for name, chosen in (("plain", None), ("float", "32-true"), ("half", "bf16-mixed")):
        _, logger = train(SHORT, folders, name, precision=chosen)
        assert logger.facts["precision"] == (chosen or "32-true")
        trajectory = load_checkpoint(folders / name / "last.pth")["trajectory"]
        assert trajectory == load_checkpoint(folders / "plain" / "last.pth")["trajectory"]
    _, logger = train(
        vary(SHORT, train__precision="32-true"), folders, "own", precision="bf16-mixed"
    )
    assert logger.facts["precision"] == "32-true"


def test_the_other_processes_of_a_run_get_what_the_first_one_was_given(
    folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[Mapping[str, Any]] = []

    def keep(_: Any, work: Mapping[str, Any], **__: Any) -> None:
        given.append(work)
        raise Stop

    monkeypatch.setattr(loop, "share_work", keep)
    with pytest.raises(Stop):
        train(vary(SHORT, train__devices=2), folders, "two", precision="bf16-mixed")
    assert given[0]["precision"] == "bf16-mixed"
