"""Workspaces with runs that were never trained: the tests of the record and the ledger need no
model."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import make_pictures, save_image
from tracker.run_folder.record import RunRecord
from tracker.run_folder.recorder import Recorder
from tracker.setup.init import init_workspace
from tracker.training.config import Config, config_to_dict, merge
from tracker.training.config_fingerprint import config_fingerprint
from tracker.workspace.predictions import load_answers
from tracker.workspace.tracker_toml import Workspace

IMAGES = 10


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Two classes, ten images to predict, a local leaderboard: even images are public, odd ones
    private."""
    return make_workspace(tmp_path / "ws")


def make_workspace(root: Path, **options: Any) -> Workspace:
    """A workspace with classes cat and dog; `competition` and others go to init_workspace."""
    images = root / "eval" / "images"
    images.mkdir(parents=True)
    names = [f"i{number}.png" for number in range(IMAGES)]
    for name in names:
        (images / name).write_bytes(b"")
    (root / "eval" / "info.csv").write_text(
        "ImageID,ans\n" + "".join(f"{name},0\n" for name in names)
    )
    truth = "".join(f"i{n}.png,{n // 5},{('Public', 'Private')[n % 2]}\n" for n in range(IMAGES))
    (root / "solution.csv").write_text("ImageID,ans,Usage\n" + truth)
    competition = {"classes": ["cat", "dog"], **options.pop("competition", {})}
    board = {
        "solution": options.pop("solution", root / "solution.csv"),
        "competition": options.pop("kaggle", ""),
    }
    options.setdefault("leaderboard_options", board)
    return init_workspace(
        root, data={"eval_dir": str(root / "eval")}, competition=competition, **options
    )


def make_workspace_with_images(root: Path) -> Workspace:
    """A workspace without a solution, with real images to train on and to predict."""
    workspace = make_workspace(root, solution=None)
    make_pictures(root / "photos", per_class=3)
    for number in range(IMAGES):
        save_image(root / "eval" / "images" / f"i{number}.png", seed=number)
    text = (
        (root / "tracker.toml")
        .read_text()
        .replace("[data]", '[data]\ntrain_dir = "photos/train"', 1)
    )
    (root / "tracker.toml").write_text(text)
    return workspace


def begin_run(
    workspace: Workspace,
    *,
    kind: str = "train",
    config: Mapping[str, Mapping[str, Any]] | None = None,
    parent: str | None = None,
    note: str = "",
    fingerprints: Mapping[str, str | None] | None = None,
    tags: Sequence[str] = (),
) -> Recorder:
    """A run that has begun: what records it until it ends."""
    return Recorder.create(
        workspace.runs_dir,
        kind=kind,
        config=config or {},
        parent=parent,
        note=note,
        fingerprints=fingerprints or {},
        tags=tags,
    )


def make_run(
    workspace: Workspace,
    answers: str = "",
    *,
    config: Mapping[str, Any] | None = None,
    status: str = "finished",
    f1: float = 0.5,
    note: str = "",
    weights: str = "sha256:w",
) -> RunRecord:
    """A run as `train` leaves it; `answers` has one letter an image."""
    tables = config_to_dict(Config())
    for name, value in (config or {}).items():
        section, _, key = name.partition(".")
        tables = merge(tables, {section: {key: value}})
    prints = {"config": config_fingerprint(tables), "data": "sha256:d"}
    recorder = begin_run(workspace, config=tables, note=note, fingerprints=prints)
    recorder.metrics({"train/loss": 0.5, "val/f1": f1}, step=1, epoch=1)
    recorder.progress(
        epoch=1, best_epoch=1, summary={"train/loss": 0.5, "val/f1": f1, "val/accuracy": f1}
    )
    if answers:
        path = recorder.folder / "predictions.csv"
        rows = "".join(f"i{number}.png,{letter}\n" for number, letter in enumerate(answers))
        path.write_text("ImageID,ans\n" + rows)
        recorder.fingerprint(
            predictions=load_answers(path, workspace.competition).fingerprint, weights=weights
        )
    (recorder.folder / "best.pth").write_bytes(b"weights")
    return recorder.finish(status)


def make_loop(
    workspace: Workspace,
    config: Mapping[str, Mapping[str, Any]],
    f1: float = 0.6,
    parent: str | None = None,
) -> str:
    """A run as a loop of one's own leaves it, or Hugging Face."""
    prints = {"data": None}
    recorder = begin_run(workspace, config=config, parent=parent, note="own", fingerprints=prints)
    recorder.progress(
        epoch=1, best_epoch=1, summary={"val/f1": f1, "val/loss": 0.5, "train/f1": f1}
    )
    predictions = make_run(workspace, "0000011110", f1=f1).name
    name = recorder.finish("finished").name
    source, target = workspace.runs_dir / predictions, workspace.runs_dir / name
    (target / "predictions.csv").write_bytes((source / "predictions.csv").read_bytes())
    return name


def set_parent(workspace: Workspace, name: str, parent: str) -> None:
    """What `--from` writes, without the training."""
    _edit_record(workspace, name, parent=parent)


def set_data(workspace: Workspace, name: str, fingerprint: str | None) -> None:
    """Have a run trained on other data, or by a loop of its own, whose data are unknown: None."""
    _edit_record(workspace, name, fingerprints={"data": fingerprint})


def _edit_record(workspace: Workspace, name: str, **changes: Any) -> None:
    """Change fields of run.json; a table gets the values in addition to its own."""
    path = workspace.runs_dir / name / "run.json"
    record = json.loads(path.read_text())
    for key, value in changes.items():
        record[key] = {**record[key], **value} if isinstance(value, dict) else value
    path.write_text(json.dumps(record))
