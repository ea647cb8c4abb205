"""Predicting lists of images: on a CPU in threads, with the same result as one by one."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.training_loop import CONFIG, vary
from tests.training.conftest import TWO
from tracker.training.config import Config
from tracker.training.data.data import load_data
from tracker.training.errors import DataError
from tracker.training.formats.samples import LoadedData
from tracker.training.input.loader import ImageSource, build_dataset
from tracker.training.model.model import build_model
from tracker.training.predict import threads as in_threads
from tracker.training.predict.predict import Predictor
from tracker.training.run.setup import build_fabric
from tracker.training.targets import TARGETS


@pytest.fixture
def data(folders: Path) -> LoadedData:
    return load_data(CONFIG.data, TWO, root=folders)


@pytest.fixture
def model(folders: Path) -> torch.nn.Module:
    torch.manual_seed(1)
    return build_model(CONFIG.model, num_classes=2, image_size=(32, 32), root=folders).eval()


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def predict(
    config: Config, data: LoadedData, model: Any, root: Path, *, threads: int
) -> np.ndarray[Any, Any]:
    torch.set_num_threads(threads)
    fabric = build_fabric(config, environment=None, notify=print)
    found = Predictor(config, data, TWO, fabric, ImageSource(root)).evaluate(model)
    assert torch.get_num_threads() == threads
    assert found.ids == tuple(image.id for image in data.eval)
    assert found.logits is not None
    return found.logits


def test_predictions_are_those_of_single_images_whatever_the_threads(
    folders: Path, data: LoadedData, model: torch.nn.Module
) -> None:
    data = replace(data, eval=[*data.eval] * 5)
    config = vary(CONFIG, eval__color_jitter=0.2, eval__tta="flip")
    dataset, _ = build_dataset(
        config,
        [image.path for image in data.eval],
        [0] * len(data.eval),
        ImageSource(folders),
        train=False,
        evaluation=config.eval,
    )
    with torch.inference_mode():
        images = [dataset[0, index][0][None] for index in range(len(data.eval))]
        views = [torch.stack([model(one), model(one.flip(3))]) for one in images]
        single = torch.cat([TARGETS[TWO.target].average(pair) for pair in views]).numpy()
    for number, size in ((1, 64), (2, 3), (3, 64)):
        found = predict(vary(config, eval__batch_size=size), data, model, folders, threads=number)
        np.testing.assert_allclose(found, single, atol=1e-5)
        assert (found.argmax(1) == single.argmax(1)).all()


def test_the_threads_hold_no_more_images_than_a_batch_and_each_its_share_of_the_cores(
    folders: Path, data: LoadedData, model: torch.nn.Module
) -> None:
    data = replace(data, eval=[*data.eval] * 4)
    seen: list[tuple[int, int, str, bool]] = []

    def watch(images: torch.Tensor) -> Any:
        name = threading.current_thread().name
        modes = torch.is_inference_mode_enabled() and not torch.is_autocast_enabled("cpu")
        seen.append((len(images), torch.get_num_threads(), name, modes))
        return model(images)

    watch.eval = lambda: None  # type: ignore[attr-defined]
    for batch, limit, readers in ((64, in_threads.MOST_IMAGES, 4), (6, 1, 4), (2, 1, 2)):
        seen.clear()
        predict(vary(CONFIG, eval__batch_size=batch), data, watch, folders, threads=4)
        assert sum(size for size, *_ in seen) == 24
        assert max(size for size, *_ in seen) == limit
        assert {number for _, number, *_ in seen} == {4 // readers}
        assert len({name for *_, name, _ in seen}) <= readers
        assert all(modes for *_, modes in seen)


def test_an_image_that_cannot_be_read_is_an_error_of_its_own(
    folders: Path, data: LoadedData, model: torch.nn.Module
) -> None:
    data.eval[3].path.write_bytes(b"no image")
    before = threading.active_count()
    with pytest.raises(DataError, match="cannot be decoded"):
        predict(CONFIG, data, model, folders, threads=2)
    assert threading.active_count() == before


class Reader:
    """Takes the place of a dataset."""

    def __init__(self, read: Callable[[], None]) -> None:
        self.read = read

    def __getitems__(self, positions: Sequence[Any]) -> tuple[torch.Tensor]:
        self.read()
        return (torch.zeros(len(positions), 1),)


def test_what_one_thread_raises_ends_the_others_and_leaves_the_number_of_threads() -> None:
    failing, calls = threading.Event(), []

    def fail() -> None:
        failing.set()
        raise KeyboardInterrupt

    def go_on() -> None:
        failing.wait(60)
        time.sleep(0.01)
        calls.append(1)

    torch.set_num_threads(2)
    readers: list[Any] = [Reader(go_on), Reader(fail)]
    with pytest.raises(KeyboardInterrupt):
        in_threads.predict_in_threads(
            readers, 8000, batch_size=16, forward=lambda images: images, modes=nullcontext
        )
    assert len(calls) < 900
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
