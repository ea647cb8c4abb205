"""Leaderboards are known by their registry alone: no other folder names a kind, and a new one needs
nothing else."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.leaderboards import Leaderboard, SendResult
from tracker.ledger.read import get_submission
from tracker.submission.scores import score
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workspace.leaderboard_kinds import (
    KINDS,
    LeaderboardKind,
    LeaderboardOption,
    choose_kind,
    register,
)
from tracker.workspace.tracker_toml import Competition, Workspace, load_workspace

SOURCES = Path(__file__).parents[2] / "tracker"


class LetterLeaderboard(Leaderboard):
    """A kind that exists in this test alone: the file is sent as a letter, a jury answers later."""

    def __init__(self, workspace: Workspace) -> None:
        self._address = workspace.leaderboard_options["address"]
        self._stamp = Path(workspace.leaderboard_options["stamp"])

    def check_settings(self) -> None:
        """The stamp must be there."""
        if not self._stamp.is_file():
            raise ConfigError(f"no stamp at {self._stamp}")

    def send(self, path: Path, message: str, *, sent: bool) -> SendResult:
        """Drop the letter beside the stamp."""
        (self._stamp.parent / "letter").write_text(
            f"{self._address}: {message}\n{path.read_text()}"
        )
        return SendResult(reference="letter 1", scores={("public", "accuracy"): 0.25})

    def next_step(self, number: int, competition: Competition) -> str:
        """To wait."""
        return f"wait for the jury's letter about {number}"


LETTER = LeaderboardKind(
    name="letter",
    sentence="sent as a letter to a jury.",
    implementation=f"{__name__}:LetterLeaderboard",
    options=(
        LeaderboardOption(key="address", needs="the jury's address"),
        LeaderboardOption(key="stamp", needs="a stamp", is_path=True),
    ),
    sends=True,
)


@pytest.fixture
def letter() -> Iterator[None]:
    """The fourth kind is known during the test."""
    register(LETTER)
    yield
    del KINDS[LETTER.name]


@pytest.mark.usefixtures("letter")
def test_a_kind_registered_at_run_time_works_from_init_to_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "ws"
    (tmp_path / "stamp").write_text("1")
    board = {"address": "1 Jury Street", "stamp": tmp_path / "stamp"}
    workspace = make_workspace(root, leaderboard_options=board)
    text = (root / "tracker.toml").read_text()
    table = tomllib.loads(text)["leaderboard"]
    assert table == {
        "kind": "letter",
        **board,
        "stamp": "../stamp",
        "solution": "",
        "competition": "",
    }
    assert '# "letter": sent as a letter to a jury.' in text
    assert workspace.leaderboard_options == {
        "address": "1 Jury Street",
        "stamp": str(tmp_path / "stamp"),
    }
    make_run(workspace, "0000011110")
    monkeypatch.chdir(root)
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)
    sent = CliRunner().invoke(app, ["submit", "--memo", "first"], catch_exceptions=False)
    assert "wait for the jury's letter about 1" in sent.stdout
    assert (
        (tmp_path / "letter")
        .read_text()
        .startswith("1 Jury Street: exp1 (0.5000): first\nImageID,ans\n")
    )
    assert get_submission(workspace, 1).scores == {"public_accuracy": 0.25}
    assert score(workspace, 1, {("public", "f1"): 0.75}).scores["public_f1"] == 0.75
    listed = CliRunner().invoke(app, ["sota", "--json"], catch_exceptions=False)
    assert json.loads(listed.stdout)["number"] == 1


@pytest.mark.usefixtures("letter")
def test_what_a_new_kind_needs_is_asked_for_by_init_and_by_tracker_toml(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as error:
        make_workspace(tmp_path / "ws", leaderboard="letter", solution=None)
    assert "leaderboard.address: kind letter needs the jury's address" in str(error.value)
    assert "leaderboard.stamp: kind letter needs a stamp" in str(error.value)
    board = {"address": "1 Jury Street", "stamp": tmp_path / "none"}
    with pytest.raises(ConfigError, match="no stamp at"):
        make_workspace(tmp_path / "other", leaderboard_options=board)


def test_a_kind_that_is_not_registered_is_refused_with_those_that_are(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text().replace('kind = "manual"', 'kind = "letter"'))
    with pytest.raises(
        ConfigError,
        match=r"leaderboard\.kind: expected one of manual, local, kaggle, holdout, not 'letter'",
    ):
        load_workspace(workspace.root)


def test_the_keys_that_are_given_tell_the_kind() -> None:
    assert [choose_kind(keys) for keys in ([], ["solution"], ["competition"])] == [
        "manual",
        "local",
        "kaggle",
    ]


def test_no_source_outside_the_folder_names_a_kind_of_leaderboard() -> None:
    quoted = re.compile("|".join(rf"""["']{name}["']""" for name in KINDS))
    inside = SOURCES / "leaderboards"
    registry = SOURCES / "workspace" / "leaderboard_kinds.py"
    # they have names of a library and of its jobs that are also the names of kinds
    others = (
        SOURCES / "training" / "libraries.py",
        SOURCES / "workspace" / "slurm_options.py",
    )
    found = [
        f"{path.relative_to(SOURCES)}:{number}: {line.strip()}"
        for path in sorted(SOURCES.rglob("*.py"))
        if inside not in path.parents and path not in (*others, registry)
        for number, line in enumerate(path.read_text().splitlines(), start=1)
        if quoted.search(line)
    ]
    assert found == []
    assert quoted.search(registry.read_text())


def test_a_submission_of_a_kind_that_sends_nothing_is_recorded_all_the_same(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path / "ws", solution=None)
    make_run(workspace, "0000011110")
    row, _ = submit(workspace, "exp1", "m")
    assert (row.number, row.scores, row.notes) == (1, {}, [])
