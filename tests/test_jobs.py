"""Runs in the background, in queues and in sweeps: real processes, terminals that close, kill -9."""

from __future__ import annotations

import json
import os
import pty
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, make_pictures, run_tracker, tracker_command

pytestmark = pytest.mark.slow

BASE = """
[data]
image_size = [32, 32]
workers = 0
[model]
name = "test_resnet"
[optim]
lr = 0.003
[train]
accelerator = "cpu"
batch_size = 8
epochs = 2
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of tiny images with base.toml, without MLflow."""
    for name, value in NO_MLFLOW.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRACKER_MLFLOW_WAIT_S", "0")
    folder = tmp_path / "ws"
    make_pictures(folder, per_class=8, to_predict=4)
    run_tracker("init", folder, "--train-dir", folder / "train", "--eval-dir", folder / "eval", cwd=tmp_path)
    (folder / "base.toml").write_text(BASE)
    return folder


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = json.loads(run_tracker("runs", "--json", cwd=root).stdout)
    return found[::-1]


def wait_until(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + COMMAND_LIMIT_S
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def read_record(root: Path, run: str) -> dict[str, Any]:
    """run.json as it is on disk, an empty one before that."""
    path = root / "runs" / run / "run.json"
    found: dict[str, Any] = json.loads(path.read_text()) if path.is_file() else {"epoch": -1, "pid": 0, "status": ""}
    return found


def read_terminal(descriptor: int, until: bytes) -> bytes:
    """What a program wrote to its terminal, up to a word."""
    text = b""
    while until not in text:
        part = os.read(descriptor, 1000)
        assert part, text
        text += part
    return text


# --- Detached runs ----------------------------------------------------------------------------------------------------


def test_a_detached_run_survives_its_terminal_and_is_stopped_with_best_weights_and_status(root: Path) -> None:
    words = tracker_command("run", "train", "base.toml", "--epochs", "5000", "--detach")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(root)
        os.execvp("sh", ["sh", "-c", '"$@"; echo back; sleep 600', "sh", *words])  # noqa: S606
    shown = read_terminal(terminal, b"back")
    assert b"exp1 runs in the background" in shown
    os.close(terminal)  # the kernel sends SIGHUP to all that belongs to the terminal
    _, status = os.waitpid(pid, 0)
    assert os.WTERMSIG(status) == signal.SIGHUP
    before = read_record(root, "exp1")["epoch"]
    wait_until(lambda: read_record(root, "exp1")["epoch"] > max(before, 1))
    done = run_tracker("stop", "exp1", cwd=root)
    assert "exp1 interrupted (stopped by " in done.stdout
    (run,) = list_runs(root)
    assert run["status"] == "interrupted"
    assert run["error"].startswith("stopped by ")
    assert (root / "runs" / "exp1" / "best.pth").is_file()
    shown_lines = run_tracker("logs", "exp1", cwd=root).stdout.splitlines()
    assert shown_lines[0] == "exp1: 13 training, 3 validation images"
    assert shown_lines[1].startswith("epoch 1/5000  train/loss ")
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert done.returncode == 1
    assert "exp1 is not running, it is interrupted" in done.stderr


def test_what_is_wrong_with_a_detached_run_is_told_at_once_with_its_exit_code(root: Path) -> None:
    done = run_tracker("run", "train", "base.toml", "--set", "optim.lrr=1", "--detach", cwd=root, ok=False)
    assert done.returncode == 2
    assert "optim.lrr" in done.stderr
    (root / "train" / "cat" / "cat00.png").write_bytes(b"no image")  # found by the child
    done = run_tracker("run", "train", "base.toml", "--detach", cwd=root, ok=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "cat00.png" in done.stderr
    assert list_runs(root) == []


def test_logs_follow_a_run_to_its_end_and_stop_leaves_other_hosts_and_reused_numbers_alone(root: Path) -> None:
    run_tracker("run", "train", "base.toml", "--epochs", "5000", "--detach", cwd=root)
    path = root / "runs" / "exp1" / "run.json"
    wait_until(lambda: read_record(root, "exp1")["epoch"] >= 1)
    record = read_record(root, "exp1")
    os.kill(record["pid"], signal.SIGSTOP)  # it writes nothing now
    path.write_text(json.dumps({**record, "host": "elsewhere"}))
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert "exp1 runs on elsewhere" in done.stderr
    path.write_text(json.dumps({**record, "pid": os.getpid()}))
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert f"but {record['pid']} holds its folder; nothing was stopped" in done.stderr
    path.write_text(json.dumps(record))
    done = run_tracker("stop", "exp1", "--wait", "0.2", cwd=root, ok=False)
    assert done.returncode == 1
    assert "has not ended after 0 s" in done.stderr
    os.kill(record["pid"], signal.SIGCONT)
    done = run_tracker("logs", "exp1", "-f", cwd=root)
    assert "exp1 interrupted" in done.stdout.splitlines()[-1]
    run_tracker("run", "train", "--from", "exp1", "--set", "train.epochs=2", "--force", cwd=root)
    attached = run_tracker("logs", "exp2", cwd=root).stdout.splitlines()
    assert [line.partition("  ")[0] for line in attached[:2]] == ["epoch 1", "epoch 2"]
    assert attached[2].startswith("exp2 finished: best epoch ")
