"""train.batch_size "auto": how the number is found, and where."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.support.training_loop import CONFIG, vary
from tests.training.conftest import TWO
from tracker.training.data.data import load_data
from tracker.training.errors import ConfigError
from tracker.training.run.batch_size import find_largest, resolve_batch_size


@pytest.mark.parametrize(
    ("memory", "limit", "largest"),
    [(0, 64, 0), (1, 64, 1), (31, 64, 16), (32, 64, 32), (1000, 64, 64), (1000, 48, 32)],
)
def test_the_largest_power_of_two_that_fits_is_found_and_nothing_above_is_tried_twice(
    memory: int, limit: int, largest: int
) -> None:
    asked: list[int] = []

    def fits(size: int) -> bool:
        asked.append(size)
        return size <= memory

    assert find_largest(fits, limit) == largest
    assert asked == sorted(set(asked))
    assert len([size for size in asked if size > memory]) <= 1


def test_auto_is_a_number_on_a_cpu_and_says_so(folders: Path) -> None:
    data = load_data(CONFIG.data, TWO, root=folders)
    config = vary(CONFIG, train__batch_size="auto")
    found, note = resolve_batch_size(config, data, TWO, root=folders)
    assert found == vary(CONFIG, train__batch_size=32)
    assert note == "train.batch_size = 32 (auto: fixed where there is no CUDA GPU)"
    two, _ = resolve_batch_size(vary(config, train__devices=3), data, TWO, root=folders)
    assert two.train.batch_size == 24  # 8 for each process
    assert resolve_batch_size(CONFIG, data, TWO, root=folders) == (CONFIG, "")


@pytest.mark.parametrize("wrong", [-1, 1.5, True, "large"])
def test_a_batch_size_is_a_number_or_auto(wrong: object) -> None:
    with pytest.raises(ConfigError) as caught:
        vary(CONFIG, train__batch_size=wrong)
    assert 'a whole number of at least 1, or "auto"' in str(caught.value.problems)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_auto_is_measured_on_a_gpu_and_leaves_its_memory(folders: Path) -> None:
    data = load_data(CONFIG.data, TWO, root=folders)
    config = vary(CONFIG, train__batch_size="auto", train__accelerator="cuda")
    before = torch.cuda.memory_allocated()
    found, note = resolve_batch_size(config, data, TWO, root=folders)
    assert found.train.batch_size == 2  # 18 images, 8 batches or more
    assert "8 batches an epoch" in note
    many = replace(data, train=list(data.train) * 4000)
    large = vary(config, data__image_size=[512, 512], model__name="resnet50")
    found, note = resolve_batch_size(large, many, TWO, root=folders)
    size = found.train.batch_size
    assert size >= 16
    assert size & (size - 1) == 0
    assert "fits the GPU" in note
    assert torch.cuda.memory_allocated() - before < 1 << 26
