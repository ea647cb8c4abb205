"""The kaggle leaderboard through the official client, against a server on loopback that speaks its
protocol."""

from __future__ import annotations

import contextlib
import multiprocessing
import threading
from collections.abc import Iterator
from multiprocessing.synchronize import Barrier
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from tests.conftest import NO_MLFLOW
from tests.support.kaggle_server import Kaggle, kaggle_server, turn_to
from tests.support.servers import free_port
from tests.support.workspaces import make_run, make_workspace
from tracker.commands.table import app
from tracker.core.errors import DuplicateError, InterruptedByUserError, RefusedError
from tracker.leaderboards import LeaderboardError, kaggle
from tracker.ledger.connection import read_rows
from tracker.ledger.read import get_submission, list_submissions, list_with_note
from tracker.submission.submit import send_missing, submit
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Kaggle]:
    """The server, with the client's address of Kaggle turned to it."""
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setattr(kaggle, "POLL_S", 0.01)
    with kaggle_server() as state:
        turn_to(state.port, monkeypatch)
        yield state


@pytest.fixture
def contest(tmp_path: Path, server: Kaggle) -> Workspace:
    workspace = make_workspace(tmp_path / "ws", solution=None, kaggle="masks")
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers, f1=0.785)
    return workspace


def test_a_submission_is_sent_with_its_cv_and_memo_and_its_score_comes_back(
    contest: Workspace, server: Kaggle
) -> None:
    row, _ = submit(contest, "exp1", "first try")
    assert row.scores == {"public_f1": 0.7656}
    (sent,) = server.submissions
    assert sent["description"] == "exp1 (0.7850): first try"
    assert (
        server.uploads[sent["token"]]
        == (contest.runs_dir / "exp1" / "predictions.csv").read_bytes()
    )
    assert list_with_note(contest, "sent") == {1}
    with pytest.raises(DuplicateError):
        submit(contest, "exp1", "again")
    assert len(server.submissions) == 1


def test_kaggles_own_limit_is_asked_before_anything_is_written(
    contest: Workspace, server: Kaggle
) -> None:
    server.allowed = 0
    with pytest.raises(RefusedError, match="Kaggle's daily limit is reached"):
        submit(contest, "exp1", "m")
    assert list_submissions(contest) == []


def test_a_file_that_kaggle_rejects_is_noted_and_does_not_count(
    contest: Workspace, server: Kaggle
) -> None:
    server.error = "Wrong number of rows"
    with pytest.raises(LeaderboardError, match="submission 1 was rejected: Wrong number of rows"):
        submit(contest, "exp1", "m")
    assert list_with_note(contest, "rejected") == {1}
    assert send_missing(contest) == []
    assert len(server.submissions) == 1


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        (401, "not valid"),
        (403, "accept its rules"),
        (404, "leaderboard.competition"),
        (429, "tracker sync"),
    ],
)
def test_kaggles_errors_say_what_to_do_and_nothing_is_lost(
    contest: Workspace, server: Kaggle, status: int, hint: str
) -> None:
    server.refuse["CreateSubmission"] = (status, "no")
    with pytest.raises(LeaderboardError, match=f"Kaggle returned {status}: no") as caught:
        submit(contest, "exp1", "m")
    assert hint in caught.value.hint
    assert [row.number for row in list_submissions(contest)] == [1]
    assert send_missing(contest) != []
    server.refuse.clear()
    assert send_missing(contest) == []
    assert get_submission(contest, 1).scores == {"public_f1": 0.7656}
    assert len(server.submissions) == 1


def test_what_kaggle_has_already_is_never_sent_again(
    contest: Workspace, server: Kaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_LEADERBOARD_WAIT_S", "0")
    server.polls_until_scored = 10
    row, _ = submit(contest, "exp1", "m")
    assert row.scores == {}
    for _ in range(12):
        assert send_missing(contest) == []
    assert len(server.submissions) == 1
    assert get_submission(contest, 1).scores == {"public_f1": 0.7656}
    assert list_with_note(contest, "sent") == {1}


@pytest.mark.parametrize("is_gone", [True, False])
def test_a_copy_that_was_changed_since_is_not_what_sync_sends(
    contest: Workspace, server: Kaggle, is_gone: bool
) -> None:
    server.refuse["CreateSubmission"] = (503, "later")
    with pytest.raises(LeaderboardError):
        submit(contest, "exp1", "m")
    server.refuse.clear()
    copy = contest.root / str(get_submission(contest, 1).file)
    own = contest.runs_dir / "exp1" / "predictions.csv"
    content = own.read_bytes()
    for path in (copy, own):
        path.unlink() if is_gone else path.write_bytes(content.replace(b"i3.png,0", b"i3.png,1"))
    (problem,) = send_missing(contest)
    assert "does not have the predictions that were submitted; nothing was sent" in problem
    assert server.submissions == []
    own.write_bytes(content)  # the run has them again: the copy is made from it
    assert send_missing(contest) == []
    assert copy.read_bytes() == content == server.uploads[server.submissions[0]["token"]]


def sync_at_once(workspace: Workspace, barrier: Barrier) -> None:
    """Send what is missing, but look for the file together with the other process, as long as it
    comes."""
    look = kaggle.KaggleLeaderboard._find

    def look_together(board: kaggle.KaggleLeaderboard, api: Any, name: str) -> Any:
        found = look(board, api, name)
        with contextlib.suppress(threading.BrokenBarrierError):
            barrier.wait(0.5)
        return found

    kaggle.KaggleLeaderboard._find = look_together  # type: ignore[method-assign]
    assert send_missing(workspace) == []


def test_two_syncs_at_once_send_a_file_once(
    ledger_url: str, tmp_path: Path, server: Kaggle
) -> None:
    contest = make_workspace(tmp_path / "ws", solution=None, kaggle="masks", ledger_url=ledger_url)
    make_run(contest, "0000011110")
    server.refuse["CreateSubmission"] = (500, "down")
    with pytest.raises(LeaderboardError, match="500"):
        submit(contest, "exp1", "m")
    server.refuse.clear()
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(2)
    both = [context.Process(target=sync_at_once, args=(contest, barrier)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join(60)
        assert process.exitcode == 0
    assert len(server.submissions) == 1
    assert len(read_rows(ledger_url, "SELECT * FROM notes WHERE kind = 'sent'")) == 1
    assert len(read_rows(ledger_url, "SELECT * FROM scores")) == 1


def test_a_file_noted_as_sent_is_not_sent_again_while_kaggle_does_not_list_it(
    contest: Workspace, server: Kaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACKER_LEADERBOARD_WAIT_S", "0")
    monkeypatch.setattr(kaggle.KaggleLeaderboard, "_find", lambda *_: None)
    submit(contest, "exp1", "m")
    assert send_missing(contest) == []
    assert len(server.submissions) == 1
    assert list_with_note(contest, "sent") == {1}


def test_a_server_out_of_reach_is_an_error_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KAGGLE_USERNAME", "ann")
    monkeypatch.setenv("KAGGLE_KEY", "0123456789abcdef")
    turn_to(free_port(), monkeypatch)
    workspace = make_workspace(tmp_path / "ws", solution=None, kaggle="masks")
    make_run(workspace, "0000011110")
    with pytest.raises(LeaderboardError, match="Kaggle: "):
        submit(workspace, "exp1", "m")
    assert list_submissions(workspace) == []


def test_without_credentials_the_error_says_how_to_sign_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("KAGGLE_USERNAME", "KAGGLE_KEY", "KAGGLE_API_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    workspace = make_workspace(tmp_path / "ws", solution=None, kaggle="masks")
    make_run(workspace, "0000011110")
    with pytest.raises(ConfigError, match="no Kaggle credentials") as caught:
        submit(workspace, "exp1", "m")
    assert "kaggle auth login" in caught.value.hint


def test_kind_kaggle_needs_the_competitions_name(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"leaderboard\.competition"):
        make_workspace(tmp_path / "ws", solution=None, leaderboard="kaggle")


def test_ctrl_c_before_the_file_is_sent_says_that_the_submission_is_recorded(
    contest: Workspace, server: Kaggle, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(contest.root)
    with monkeypatch.context() as patch:
        patch.setattr("tracker.leaderboards.kaggle.KaggleLeaderboard.send", press_ctrl_c)
        stopped = CliRunner().invoke(app, ["submit", "exp1", "--memo", "m"], env=NO_MLFLOW)
    assert isinstance(stopped.exception, InterruptedByUserError)
    assert str(stopped.exception) == "interrupted, but submission 1 is recorded, not yet sent"
    assert stopped.exception.hint == "tracker sync"
    assert send_missing(contest) == []
    assert len(server.submissions) == 1
