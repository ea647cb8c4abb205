"""tracker.runs(), submissions(), curves() and predictions(): data frames for people's own plots."""

from __future__ import annotations

import datetime as dt
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from typer.testing import CliRunner

import tracker
from tests.support.validation import guess, keep
from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import ConfigError, UnknownRunError
from tracker.submission.submit import submit
from tracker.training.errors import DataError, MissingLibraryError
from tracker.training.predict.probabilities import Predictions, save_probabilities
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two submitted runs, one with probabilities, and one of another program."""
    workspace = make_workspace(tmp_path_factory.mktemp("frames") / "ws")
    make_run(workspace, "0000011111", f1=0.5, config={"optim.lr": 0.01})
    make_run(workspace, "0000011110", f1=0.75, note="더 작은 모델")
    for name, memo in (("exp1", "first"), ("exp2", "smaller model")):
        submit(workspace, name, memo)
    keep(workspace, "exp2", guess(40))
    # in another order than predictions.csv
    ids = tuple(f"i{number}.png" for number in reversed(range(10)))
    likely = np.linspace(0.1, 0.9, 10, dtype=np.float32)
    save_probabilities(
        workspace.runs_dir / "exp2" / "probabilities.npz",
        Predictions(ids, np.stack([1 - likely, likely], axis=1), ("cat", "dog")),
    )
    recorder = begin_run(workspace, config={"optim": {"lr": "auto"}})
    recorder.metrics({"train/loss": 0.9, "train/lr": 0.1}, step=5, epoch=1)
    recorder.metrics({"train/loss": 0.4}, step=10, epoch=2)
    recorder.metrics({"val/f1": 0.25}, step=10, epoch=2)
    recorder.finish("failed")
    return workspace


def test_runs_have_what_a_condition_can_ask_for(workspace: Workspace) -> None:
    frame = tracker.runs("val/f1 > 0.4", sort="val/f1", root=workspace.root)
    assert list(frame["name"]) == ["exp2", "exp1"]
    assert list(frame["note"]) == ["더 작은 모델", ""]
    assert list(frame["val/f1"]) == [0.75, 0.5]
    assert list(frame["submission"]) == [2, 1]
    assert frame["public_f1"].notna().all()
    assert frame["optim.lr"][1] == 0.01
    assert isinstance(frame["created_at"].dtype, pd.ArrowDtype)
    assert frame["created_at"][0].tzinfo is not None
    assert "<table" in frame._repr_html_()


def test_a_config_key_of_several_types_is_text(workspace: Workspace) -> None:
    frame = tracker.runs(root=workspace.root)
    assert list(frame["name"]) == ["exp3", "exp2", "exp1"]
    assert list(frame["optim.lr"]) == ["auto", "0.001", "0.01"]
    assert tracker.runs(limit=1, root=workspace.root)["name"].tolist() == ["exp3"]


def test_submissions_are_those_of_the_leaderboard(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    printed = json.loads(CliRunner().invoke(app, ["leaderboard", "--json"]).stdout)
    frame = tracker.submissions()
    assert list(frame["number"]) == [row["number"] for row in printed] != []
    for name in ("memo", "rank", "public_f1", "private_f1", "val_f1", "is_sota", "run_uid"):
        shown = [None if pd.isna(value) else value for value in frame[name]]
        assert shown == [row[name] for row in printed]
    moment = dt.datetime.fromisoformat(printed[0]["submitted_at"])
    assert frame["submitted_at"][0] == moment
    assert set(frame["optim.lr"]) == {0.01, 0.001}


def test_curves_have_a_row_for_each_step(workspace: Workspace) -> None:
    frame = tracker.curves("exp3", root=workspace.root)
    assert list(frame.columns) == ["step", "epoch", "per", "train/loss", "train/lr", "val/f1"]
    assert list(frame["step"]) == [5, 10]
    assert list(frame["train/loss"]) == [0.9, 0.4]
    assert frame["val/f1"].isna().tolist() == [True, False]


def test_the_steps_of_batches_are_not_taken_for_epochs(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws")
    recorder = begin_run(workspace)
    for epoch in (1, 2):
        recorder.metrics({"train/batch_loss": 0.5 * epoch}, step=epoch, epoch=1)
        recorder.metrics({"train/loss": 0.9 / epoch}, step=epoch, epoch=epoch)
    recorder.finish("finished")
    frame = tracker.curves("exp1", root=workspace.root)
    assert list(zip(frame["per"], frame["step"], frame["epoch"], strict=True)) == [
        ("step", 1, 1),
        ("step", 2, 1),
        ("epoch", 1, 1),
        ("epoch", 2, 2),
    ]
    epochs = frame[frame["per"] == "epoch"]
    assert list(epochs["train/loss"]) == [0.9, 0.45]
    assert epochs["train/batch_loss"].isna().all()


def test_predictions_stand_beside_their_probabilities(workspace: Workspace) -> None:
    frame = tracker.predictions("s2", root=workspace.root)
    assert list(frame.columns) == ["ImageID", "ans", "p_cat", "p_dog"]
    assert list(frame["ImageID"]) == [f"i{number}.png" for number in range(10)]
    assert list(frame["ans"]) == list("0000011110")
    assert frame["p_dog"].astype(float).tolist() == pytest.approx(list(np.linspace(0.9, 0.1, 10)))
    alone = tracker.predictions("exp1", root=workspace.root)
    assert list(alone.columns) == ["ImageID", "ans"]


def test_validation_has_labels_and_guesses(workspace: Workspace) -> None:
    frame = tracker.predictions("exp2", part="val", root=workspace.root)
    assert list(frame.columns) == ["id", "label", "predicted", "p_cat", "p_dog"]
    assert set(frame["label"]) == {"cat", "dog"}
    assert int((frame["label"] != frame["predicted"]).sum()) == 40


def test_numbers_are_numbers(tmp_path: Path) -> None:
    competition = {"answer": "number", "classes": [], "target": "number"}
    workspace = make_workspace(tmp_path / "ws", solution=None, competition=competition)
    recorder = begin_run(workspace)
    rows = "".join(f"i{number}.png,{number / 4}\n" for number in range(10))
    (recorder.folder / "predictions.csv").write_text("ImageID,ans\n" + rows)
    recorder.finish("finished")
    frame = tracker.predictions("exp1", root=workspace.root)
    assert list(frame["ans"]) == [number / 4 for number in range(10)]


def test_without_pandas_the_frames_name_what_to_install(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("pandas", "pyarrow"):
        with monkeypatch.context() as without:
            without.setitem(sys.modules, name, None)
            with pytest.raises(MissingLibraryError, match=f"{name} is not installed"):
                tracker.runs(root=workspace.root)


def test_the_same_in_polars_and_arrow(workspace: Workspace) -> None:
    table = tracker.runs(root=workspace.root, frame="arrow")
    assert isinstance(table, pa.Table)
    frame = tracker.runs(root=workspace.root, frame="polars")
    assert isinstance(frame, pl.DataFrame)
    assert frame["name"].to_list() == table["name"].to_pylist() == ["exp3", "exp2", "exp1"]
    assert frame["created_at"].dtype == pl.Datetime("us", "UTC")


def test_a_wrong_word_is_told(workspace: Workspace, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="frame 'spark' is not one of pandas, polars, arrow"):
        tracker.runs(root=workspace.root, frame="spark")  # type: ignore[call-overload]
    with pytest.raises(ConfigError, match="part 'test' is not one of eval, val"):
        tracker.predictions(part="test", root=workspace.root)  # type: ignore[call-overload]
    with pytest.raises(UnknownRunError):
        tracker.curves("exp9", root=workspace.root)
    with pytest.raises(DataError):
        tracker.predictions("exp3", root=workspace.root)
    with pytest.raises(UnknownRunError):
        tracker.runs(root=tmp_path)


def test_tracker_loads_no_frames_before_they_are_asked_for() -> None:
    code = (
        "import sys, tracker; tracker.runs; heavy = {'pandas', 'numpy', 'pyarrow', 'sqlalchemy'}"
        " & set(sys.modules); print(sorted(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
