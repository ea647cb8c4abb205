"""Forked commands are processes like those that are started: exit codes, output, folder,
environment, signals."""

from __future__ import annotations

import signal
from pathlib import Path

from tests.conftest import run_tracker
from tests.support.forks import Forks
from tracker.workspace.tracker_toml import Workspace


def test_a_forked_command_answers_as_a_started_one_does(
    forks: Forks, workspace: Workspace, tmp_path: Path
) -> None:
    for words in (
        ("runs", "--json"),
        ("show", "exp1"),
        ("nonsense",),
        ("runs", "--nonsense"),
        ("sota",),
    ):
        forked = forks.run(*words, cwd=workspace.root, ok=False)
        started = run_tracker(*words, cwd=workspace.root, ok=False)
        assert (forked.returncode, forked.stdout, forked.stderr) == (
            started.returncode,
            started.stdout,
            started.stderr,
        )
    assert "no tracker.toml in" in forks.run("runs", cwd=tmp_path, ok=False).stderr
    words = ("sync",)
    done = [
        forks.run(*words, cwd=workspace.root, ok=False, TRACKER_MLFLOW_URI=uri)
        for uri in ("http://[", "")
    ]
    assert [("not an address" in one.stderr, one.returncode) for one in done] == [
        (True, 2),
        (False, 0),
    ]


def test_a_forked_command_can_be_killed(forks: Forks, workspace: Workspace) -> None:
    child = forks.start("logs", "exp1", cwd=workspace.root)
    child.send_signal(signal.SIGSTOP)
    child.kill()
    assert child.communicate() == ("", "")
    assert child.returncode == -signal.SIGKILL
