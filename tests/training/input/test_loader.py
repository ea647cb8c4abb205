"""Loader processes and the memory of batches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import torch

from tests.conftest import ROOT, save_image
from tests.support.training_loop import SHORT
from tracker.training.input.loader import ImageSource, build_dataset

AFTER_CV2 = """
import sys, time
from pathlib import Path
import cv2
import numpy as np
cv2.setNumThreads(4)
cv2.resize(np.zeros((2000, 2000, 3), dtype=np.uint8), (1000, 1000))  # starts cv2's threads
time.sleep(0.5)  # now they sleep
from tracker.training.config import Config, DataConfig
from tracker.training.input.loader import ImageSource, build_dataset, build_loader
from tracker.training.input.sampler import OrderedBatches
config = Config(data=DataConfig(image_size=(300, 300)))
dataset, _ = build_dataset(config, [Path(sys.argv[1])], [0], ImageSource(Path()), train=True)
time.sleep(0.5)
(batch,) = build_loader(dataset, OrderedBatches(1, 1), workers=1, pin_memory=False)
print(tuple(batch[0].shape))
"""


def test_a_loader_process_works_after_the_threads_of_cv2_went_to_sleep(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", seed=1, size=(900, 900))
    command = [sys.executable, "-c", AFTER_CV2, str(path)]
    child = subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True
    )
    with child:
        try:
            shown, _ = child.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            os.killpg(child.pid, signal.SIGKILL)  # with its loader process
            raise
    assert shown == "(1, 3, 300, 300)\n"


def test_the_memory_of_a_batch_is_used_again_only_when_nobody_holds_it(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{number}.png", seed=number) for number in range(2)]
    dataset, _ = build_dataset(SHORT, paths, [0, 1], ImageSource(tmp_path), train=True)
    held = dataset.__getitems__([(1, 0), (1, 1)])[0][:1]  # a view is enough
    before = held.clone()
    for _ in range(4):
        other = dataset.__getitems__([(1, 1), (1, 1)])[0]
        assert other.data_ptr() != held.data_ptr()
    assert torch.equal(held, before)
    address = other.data_ptr()
    del other
    assert dataset.__getitems__([(1, 0)])[0].data_ptr() == address


def test_batches_are_channels_last_with_labels_and_places(tmp_path: Path) -> None:
    paths = [save_image(tmp_path / f"{number}.png", seed=number) for number in range(3)]
    dataset, _ = build_dataset(SHORT, paths, [5, 6, 7], ImageSource(tmp_path), train=True)
    images, labels, indices = dataset.__getitems__([(1, 2), (1, 0)])
    assert images.is_contiguous(memory_format=torch.channels_last)
    assert (labels.tolist(), indices.tolist()) == ([7, 5], [2, 0])
    image, label, index = dataset[1, 2]
    assert torch.equal(image, images[0])
    assert (label, index) == (7, 2)
