"""A tiny data folder for the tests of training."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import make_pictures
from tracker.training.samples import Task

TWO = Task(classes=("cat", "dog"), id_column="ImageID", label_column="ans", answer_words=("0", "1"))


@pytest.fixture
def folders(tmp_path: Path) -> Path:
    """train/{cat,dog} with 12 images each and eval/images with 6, eval/info.csv."""
    make_pictures(tmp_path)
    return tmp_path
