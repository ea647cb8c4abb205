"""The figures of two runs are computed once; what is kept of them is what was computed."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.validation import guess, keep
from tests.support.workspaces import make_run
from tracker.comparison import compared_pairs, evidence
from tracker.comparison.compared_pairs import FOLDER, read_pair, write_pair
from tracker.comparison.diff import diff_runs
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def pair(workspace: Workspace) -> Workspace:
    """exp1 and exp2 with validation predictions; they were never compared."""
    for number, errors in enumerate((60, 20), start=1):
        make_run(workspace, "0000011110")
        keep(workspace, f"exp{number}", guess(errors))
    return workspace


def compare(workspace: Workspace, *, images: int = 0, resamples: int = 1000) -> dict[str, Any]:
    """What `diff --json` prints."""
    found = diff_runs(workspace, "exp1", "exp2", resamples=resamples, images=images)
    document: dict[str, Any] = json.loads(json.dumps(found.to_dict()))
    return document


def refuse(*_: object) -> None:
    raise AssertionError("computed again")


def test_figures_that_are_kept_are_those_that_were_computed(
    pair: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = compare(pair)
    monkeypatch.setattr(evidence, "_compare_predictions", refuse)
    assert compare(pair) == computed
    assert computed["statistics"]["f1"]["answer"] == "real"
    assert computed["moves"]["validation"]


@pytest.mark.parametrize(
    "change", ["predictions", "decision.json", "resamples", "images", "tracker.toml"]
)
def test_figures_of_anything_else_are_computed_again(
    pair: Workspace, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    compare(pair)
    monkeypatch.setattr(evidence, "_compare_predictions", refuse)
    options = {"images": 1} if change == "images" else {}
    if change == "predictions":
        keep(pair, "exp2", guess(30))
    elif change == "decision.json":
        (pair.runs_dir / "exp2" / change).write_text("{}")
    elif change == "resamples":
        options["resamples"] = 2000
    elif change == "tracker.toml":
        pair = replace(pair, competition=replace(pair.competition, top_k=3))
    with pytest.raises(AssertionError, match="computed again"):
        compare(pair, **options)


@pytest.mark.parametrize("damage", ["", "[]", "half", "another digit", "a folder"])
def test_a_damaged_file_is_computed_again_and_replaced(pair: Workspace, damage: str) -> None:
    computed = compare(pair)
    (path,) = (pair.state_dir / FOLDER).iterdir()
    text = path.read_text()
    if damage == "a folder":
        path.unlink()
        path.mkdir()
    else:
        half = text[: len(text) // 2]
        other = text.replace('"samples": 400', '"samples": 401')
        assert other != text
        path.write_text({"half": half, "another digit": other}.get(damage, damage))
    assert compare(pair) == computed
    assert path.is_dir() or path.read_text() == text


def test_a_workspace_that_cannot_be_written_is_compared_all_the_same(pair: Workspace) -> None:
    computed = compare(pair)
    shutil.rmtree(pair.state_dir / FOLDER)
    (pair.state_dir / FOLDER).write_text("no folder")
    assert compare(pair) == computed


def test_a_page_reads_what_is_kept_and_keeps_nothing(
    pair: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = diff_runs(pair, "exp1", "exp2", keep=False)
    assert not (pair.state_dir / FOLDER).exists()
    diff_runs(pair, "exp1", "exp2")
    monkeypatch.setattr(evidence, "_compare_predictions", refuse)
    again = diff_runs(pair, "exp1", "exp2", keep=False).statistics
    assert found.statistics and again
    assert again.metrics == found.statistics.metrics


def test_nothing_is_kept_of_an_ensemble_for_its_members_decide_too(pair: Workspace) -> None:
    make_run(pair, config={"ensemble.members": ["exp1", "exp2"]})
    keep(pair, "exp3", guess(30))
    assert diff_runs(pair, "exp1", "exp3", resamples=1000).statistics
    assert not (pair.state_dir / FOLDER).exists()


def test_the_oldest_pairs_go_when_there_are_too_many(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compared_pairs, "MOST_PAIRS", 2)
    for number in range(4):
        path = tmp_path / f"exp{number}_exp9.json"
        write_pair(path, [number], {"number": number})
        os.utime(path, (number, number))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["exp2_exp9.json", "exp3_exp9.json"]
    assert read_pair(path, [3]) == {"number": 3}
    assert read_pair(path, [4]) is None
