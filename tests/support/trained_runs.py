"""A workspace whose trainings are long enough to be ended, and what their folders say."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, make_pictures
from tracker.run_folder.points import read_points
from tracker.setup.init import init_workspace

BASE = """
[data]
image_size = [32, 32]
workers = 0
[model]
name = "test_resnet"
pretrained = false
drop_path = 0.2
[optim]
lr = 0.003
[train]
accelerator = "cpu"
batch_size = 4
epochs = 30
log_every = 1
"""


# Trainings beside each other would share the cores, and other threads may change the last bits.
ONE_THREAD = {"OMP_NUM_THREADS": "1"}


@pytest.fixture
def training_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of tiny images with base.toml, without MLflow."""
    for name, value in {**NO_MLFLOW, "TRACKER_MLFLOW_WAIT_S": "0", **ONE_THREAD}.items():
        monkeypatch.setenv(name, value)
    folder = tmp_path / "ws"
    make_pictures(folder, per_class=8, to_predict=4)
    init_workspace(
        folder,
        data={"train_dir": str(folder / "train"), "eval_dir": str(folder / "eval")},
        competition={},
    )
    (folder / "base.toml").write_text(BASE)
    return folder


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + COMMAND_LIMIT_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_record(root: Path, run: str) -> dict[str, Any]:
    """run.json as it is on disk, an empty one before that."""
    path = root / "runs" / run / "run.json"
    found: dict[str, Any] = (
        json.loads(path.read_text()) if path.is_file() else {"epoch": -1, "pid": 0, "status": ""}
    )
    return found


def count_points(root: Path, run: str) -> Counter[tuple[int, str]]:
    """How often each metric of the training was logged at each step."""
    points = read_points(root / "runs" / run / "metrics.jsonl")
    named = [(point["step"], name) for point in points for name in point["values"]]
    return Counter((step, name) for step, name in named if not name.startswith("system/"))


def read_kinds(root: Path, run: str) -> list[str]:
    """The events of a run, but for its best epochs and advice."""
    lines = (root / "runs" / run / "events.jsonl").read_text().splitlines()
    kinds = [json.loads(line)["kind"] for line in lines]
    return [kind for kind in kinds if kind not in ("best", "advice")]
