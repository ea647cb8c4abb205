"""Forked commands are processes like those that are started: exit codes, output, folder,
environment, signals."""

from __future__ import annotations

import os
import pty
import signal
import time
from collections.abc import Callable
from pathlib import Path

import psutil

from tests.conftest import run_interpreter
from tests.support.forks import LIMIT_S, Forks
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
        started = run_interpreter(*words, cwd=workspace.root, ok=False)
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


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + LIMIT_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_forked_command_has_the_terminal_that_it_is_given(
    forks: Forks, workspace: Workspace, tmp_path: Path
) -> None:
    ours, theirs = pty.openpty()
    gate = tmp_path / "gate"
    child = forks.start("logs", "exp1", cwd=workspace.root, writes_to=theirs, gate=gate)
    os.close(theirs)
    wait_until(lambda: os.tcgetpgrp(ours) == child.pid)
    gate.touch()
    assert b"exp1" in os.read(ours, 1000)
    assert child.wait() != 0
    os.close(ours)


def test_spare_processes_become_what_a_forked_command_starts_and_end_with_it(
    forks: Forks, workspace: Workspace, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    words = ("run", "train", "--detach")  # the workspace has no images to train on
    child = forks.start(*words, cwd=workspace.root, gate=gate, spares=2)
    wait_until(lambda: len(psutil.Process(child.pid).children()) == 2)
    spares = psutil.Process(child.pid).children()
    gate.touch()
    _, stderr = child.communicate()
    started = run_interpreter(*words, cwd=workspace.root, ok=False)
    assert (child.returncode, stderr) == (started.returncode, started.stderr)
    assert psutil.wait_procs(spares, timeout=LIMIT_S)[1] == []


def test_a_command_that_needs_no_torch_is_forked_from_a_process_without_it(
    forks: Forks, workspace: Workspace, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    small, large = (
        forks.start(*words, cwd=workspace.root, gate=gate)
        for words in (("runs",), ("run", "options"))
    )
    sizes = [psutil.Process(child.pid).memory_info().rss for child in (small, large)]
    gate.touch()
    assert [child.wait() for child in (small, large)] == [0, 0]
    assert sizes[0] < sizes[1] / 2
