"""Real competitions in miniature, read-only, from `tracker init` to a scored submission."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW
from tests.support.competition_way import go_the_whole_way, judge
from tests.support.competitions import (
    FOURTEEN,
    OTHERS,
    TEST,
    TRAIN,
    build_competition,
    list_state,
)
from tests.support.forks import Forks
from tracker.training.predict.probabilities import load_probabilities
from tracker.training.tables import read_table
from tracker.workspace.tracker_toml import load_workspace


@pytest.mark.filterwarnings("ignore:The y_prob values do not sum to one")  # float32
@pytest.mark.parametrize("name", [*FOURTEEN, *OTHERS])
def test_a_competition_is_trained_submitted_and_scored_as_it_was_downloaded(
    tmp_path: Path, forks: Forks, name: str
) -> None:
    miniature = build_competition(name, tmp_path, read_only=True)
    before = list_state(miniature.folder)

    def command(words: tuple[str, ...], folder: Path) -> tuple[int, str]:
        done = forks.run(*words, cwd=folder, ok=False, **NO_MLFLOW)
        return done.returncode, done.stdout + done.stderr

    way = go_the_whole_way(miniature, tmp_path / "ws", command)
    refused = way.codes.pop("submit again")
    assert set(way.codes.values()) == {0}, way.outputs
    assert (refused, "submission 1" in way.outputs["submit again"]) == (3, True)
    assert f"{TRAIN} labels, {TRAIN} images" in way.outputs["init"]
    assert f"{TEST} to predict" in way.outputs["init"]
    # the sample's columns, ids and order of rows
    sample = next(
        path for path in miniature.folder.glob("*.csv") if path.name.startswith(("sample", "subm"))
    )
    written, asked = way.predictions.read_text().splitlines(), sample.read_text().splitlines()
    assert _list_columns(written[0]) == _list_columns(asked[0])
    assert [_find_id(row, written[0]) for row in written[1:]] == [
        _find_id(row, asked[0]) for row in asked[1:]
    ]
    assert way.score == pytest.approx(judge(miniature, way), abs=1e-12)
    _check_groups(way.root)
    assert list_state(miniature.folder) == before


def _check_groups(root: Path) -> None:
    """validation.npz has the group of each image, where tracker.toml names their column."""
    workspace = load_workspace(root)
    column, ids = (str(workspace.data.get(key, "")) for key in ("group", "label_id"))
    kept = load_probabilities(workspace.runs_dir / "exp1" / "validation.npz")
    assert kept.group_name == column
    if column:
        names = (ids or workspace.competition.id_column, column)
        groups = dict(read_table(workspace.resolve(str(workspace.data["labels"])), names))
        assert kept.groups == tuple(groups[name] or name for name in kept.ids)


def _list_columns(header: str) -> list[str]:
    """The columns that have a name: one sample has row numbers in front."""
    return [name for name in header.split(",") if name]


def _find_id(row: str, header: str) -> str:
    return row.split(",")[header.startswith(",")]
