"""Names of metrics: what may be logged, and how different names stay different in MLflow."""

from __future__ import annotations

import itertools
import random
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import tracker
from tracker.core.metric_names import from_chart_name, to_chart_name, to_mlflow_name
from tracker.run_folder.points import read_points
from tracker.run_folder.read import load_run
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

PIECES = (
    "_x005F_",
    "_x",
    "002F",
    "_",
    "/",
    ".",
    "..",
    "_empty_",
    "_xsha0123456789abcdef_",
    "?",
    "안경",
    "\0",
    "x0041",
)
KEPT = (
    "val/f1",
    "정확도",
    "재현율",
    "正解率",
    "Точность",
    "lr-group 0",
    "a:b",
    "_x_",
    "x0041_",
    "img_x2048/loss",
    "F1",
    "f1",
)


def read_back(shown: str) -> str:
    """The name that MLflow's stands for."""
    if shown == "_empty_":
        return ""
    return re.sub(r"_x([0-9A-F]{4,6})_", lambda found: chr(int(found[1], 16)), shown)


def test_different_names_stay_different_and_mlflow_takes_them() -> None:
    from mlflow.utils.validation import _validate_metric_name

    rng = random.Random(1)  # noqa: S311
    names = {
        "".join(letters)
        for size in range(5)
        for letters in itertools.product("/.a_?\n", repeat=size)
    }
    names |= {"".join(rng.choices(PIECES, k=rng.randint(1, 6))) for _ in range(5_000)}
    for name in names:
        shown = to_mlflow_name(name)
        _validate_metric_name(shown)
        assert "\n" not in shown
        assert read_back(shown) == name


@pytest.mark.parametrize("name", KEPT)
def test_a_name_that_mlflow_takes_is_kept(name: str) -> None:
    assert to_mlflow_name(name) == name


def test_a_sign_that_mlflow_refuses_is_readable_still() -> None:
    assert [to_mlflow_name(name) for name in ("F1↑", "a+b", "/loss")] == [
        "F1_x2191_",
        "a_x002B_b",
        "_x002F_loss",
    ]


def test_long_names_are_cut_and_stay_different() -> None:
    names = [to_mlflow_name("a" * 300 + end) for end in ("b", "c")]
    names.append(to_mlflow_name(names[0]))
    assert len(set(names)) == 3
    assert [len(name) for name in names] == [250, 250, 250]


BAD_POINTS: dict[str, dict[Any, Any]] = {
    "is empty": {"": 1.0},
    "must be a text, not int 3": {3: 1.0},
    "must be a text, not NoneType": {None: 1.0},
    "control character": {"a\nb": 1.0},
    r"control character '\\ud800'": {"a\ud800": 1.0},
    "has 252 bytes": {"가" * 84: 1.0},
    "a must be a number, not str '0.5'": {"a": "0.5"},
    "a must be a number, not NoneType": {"a": None},
    "a must be a number, not list": {"a": [1]},
    "a must be a number, not complex": {"a": 1j},
    "a must be a number, not ndarray": {"a": np.ones(2)},
    "a must be a number, not Tensor": {"a": torch.ones(2)},
    "a must be a number, not int 1000": {"a": 10**400},
}


@pytest.mark.parametrize("problem", BAD_POINTS)
def test_a_bad_point_is_refused_and_loses_nothing(workspace: Workspace, problem: str) -> None:
    with tracker.start_run({}, root=workspace.root, follow=False) as run:
        run.log({"loss": 1.0})
        with pytest.raises(ConfigError, match=problem) as caught:
            run.log({"loss": 0.5, **BAD_POINTS[problem]})
        run.log({"loss": 0.25, "가" * 83: np.float32(1), "t": torch.tensor(2.0), "b": True})
    points = list(read_points(run.folder / "metrics.jsonl"))
    assert caught.value.exit_code == 2
    assert [(point["step"], point["values"]["loss"]) for point in points] == [(1, 1.0), (2, 0.25)]
    assert load_run(workspace.runs_dir, "exp1").status == "finished"


@pytest.mark.parametrize(
    "where", [{"step": 2**63}, {"step": 1.5}, {"step": "3"}, {"epoch": float("nan")}]
)
def test_a_step_that_is_no_whole_number_is_refused(
    workspace: Workspace, where: dict[str, Any]
) -> None:
    with tracker.start_run({}, root=workspace.root, follow=False) as run:
        with pytest.raises(ConfigError, match="must be a whole number"):
            run.log({"loss": 0.5}, **where)
        run.log({"loss": 0.5}, step=np.int64(7), epoch=torch.tensor(2))
    (point,) = read_points(run.folder / "metrics.jsonl")
    assert (point["step"], point["epoch"]) == (7, 2)


def test_wrong_names_are_refused_by_every_way_to_log(workspace: Workspace, tmp_path: Path) -> None:
    with tracker.start_run({}, root=workspace.root, follow=False) as run:
        for call in (
            lambda: run.set_summary({"": 1.0}),
            lambda: run.save_best({"w": torch.ones(1)}, epoch=1, metrics={"": 1.0}),
        ):
            with pytest.raises(ConfigError, match="name is empty"):
                call()
    assert load_run(workspace.runs_dir, "exp1").summary == {}
    assert not (run.folder / "best.pth").exists()


def test_chart_names_are_of_mlflow_stay_apart_and_lead_back() -> None:
    parts = [
        f"{part}{sign}{what}"
        for part in ("train", "val")
        for sign in "/ _"
        for what in ("accuracy", "loss")
    ]
    names = [
        *parts,
        "train_x0020_accuracy",
        "val_x0020_accuracy",
        "val/accuracy/cat",
        "a b",
        "lr",
        "train/lr",
    ]
    valid = [to_mlflow_name(name) for name in names]
    there = [to_chart_name(name) for name in valid]
    assert len(set(there)) == len(names)
    assert [to_mlflow_name(name) for name in there if "_x0" not in name] == [
        n for n in there if "_x0" not in n
    ]
    assert [from_chart_name(name) for name in there] == valid
    sections = sorted({name.rpartition("/")[0] for name in there} - {""})
    assert sections == ["train", "val", "val/accuracy"]
    assert sorted(name for name in there if name.startswith("train/")) == ["train/loss", "train/lr"]
