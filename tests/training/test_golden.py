"""The loop's numbers have not moved: a change that should not move them must leave this test as it
is.

Recorded on 2026-11-26 with torch 2.15, as medians of six settings: one and two threads, each with
the instructions that bench/portable.sh allows (SSE4, AVX2, AVX-512). The transformer's losses lie
within 6e-8 of each other in all six. The ResNet's drift apart, since its batch norms magnify
rounding: the first six lie within 3e-6, the tenth within 1e-4, the fifteenth within 6e-4; so only
six are held here. Each tolerance is about eight times what was measured.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.training_loop import CONFIG, PLAIN, train
from tracker.training.config import ModelConfig

RESNET = (0.738468, 0.969431, 0.513096, 0.314552, 0.411850, 0.154124)
TRANSFORMER = (
    *(0.77926320, 0.20214583, 0.14952993, 0.09972559, 0.08531408, 0.07081988),
    *(0.05828609, 0.05028041, 0.04273808, 0.03731152, 0.03437787, 0.03218804),
)


@pytest.mark.parametrize(
    ("model", "losses", "tolerance"),
    [(CONFIG.model, RESNET, 2e-5), (PLAIN, TRANSFORMER, 5e-7)],
    ids=["cnn", "vit"],
)
def test_the_losses_of_the_first_steps_are_those_recorded(
    folders: Path, model: ModelConfig, losses: tuple[float, ...], tolerance: float
) -> None:
    config = replace(CONFIG, model=model, train=replace(CONFIG.train, epochs=5))
    _, logger = train(config, folders, "golden")
    found = [
        values["train/batch_loss"] for _, values in logger.points if "train/batch_loss" in values
    ]
    assert found[: len(losses)] == pytest.approx(losses, rel=0, abs=tolerance)
