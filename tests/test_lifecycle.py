"""Whole runs through the command line: kill -9 and resume, interrupts, several at once, submissions
in a race."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, make_pictures, run_tracker
from tests.support.forks import Child, Forks
from tests.support.servers import PostgresServer
from tests.support.workspaces import make_run, make_workspace

pytestmark = pytest.mark.slow

TINY = (
    "--model",
    "test_resnet",
    "--batch-size",
    "8",
    "--lr",
    "0.003",
    "--set",
    "data.image_size=[32,32]",
)
FAST = (
    *TINY,
    "--set",
    "data.workers=0",
    "--set",
    "train.log_every=1",
    "--set",
    "train.accelerator=cpu",
)


@pytest.fixture
def pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A workspace of real (tiny) image files, made by `tracker init`; MLflow is away, and nothing
    waits for it."""
    for name, value in (NO_MLFLOW | {"TRACKER_MLFLOW_WAIT_S": "0"}).items():
        monkeypatch.setenv(name, value)
    root = tmp_path / "ws"
    make_pictures(root)
    words = (
        "--train-dir",
        root / "train",
        "--eval-dir",
        root / "eval",
        "--solution",
        root / "solution.csv",
    )
    run_tracker("init", root, *words, "--no-pretrained", cwd=tmp_path)
    return root


def list_runs(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_tracker("runs", "--json", cwd=root).stdout)
    return found


def read_points(root: Path, run: str) -> list[dict[str, Any]]:
    lines = (root / "runs" / run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines if line.endswith("}")]


def wait_for(ready: Callable[[], bool], child: Child) -> None:
    deadline = time.monotonic() + COMMAND_LIMIT_S
    while not ready():
        assert child.poll() is None, child.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def has_epoch(root: Path, run: str, epoch: int) -> Callable[[], bool]:
    path = root / "runs" / run / "run.json"
    return lambda: path.is_file() and json.loads(path.read_text())["epoch"] >= epoch


def best_weights(root: Path, run: str) -> dict[str, torch.Tensor]:
    path = root / "runs" / run / "best.pth"
    state: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["model"]
    return state


def file_hash(root: Path, run: str, name: str) -> str:
    return hashlib.sha256((root / "runs" / run / name).read_bytes()).hexdigest()


def test_a_run_killed_with_kill_9_is_listed_and_resumes_to_the_bit(
    pictures: Path, forks: Forks
) -> None:
    words = ("run", "train", *FAST, "--epochs", "12", "--force")
    forks.run(*words, cwd=pictures)
    child = forks.start(*words, cwd=pictures)
    wait_for(has_epoch(pictures, "exp2", 3), child)
    child.send_signal(signal.SIGKILL)
    child.communicate(timeout=COMMAND_LIMIT_S)
    newest = list_runs(pictures)[0]
    assert (newest["name"], newest["status"]) == ("exp2", "killed")
    stopped_at = newest["epoch"]
    assert 3 <= stopped_at < 12
    steps = [
        point["step"]
        for point in read_points(pictures, "exp2")
        if "train/batch_loss" in point["values"]
    ]
    assert len(steps) >= 2 * stopped_at
    assert steps == list(range(1, len(steps) + 1))
    done = forks.run("run", "train", "--resume", cwd=pictures)
    assert "exp2 has the same weights as exp1 of " in done.stderr  # told before it predicts
    first, second = list_runs(pictures)[::-1]
    assert second["status"] == "finished"
    assert second["best_epoch"] == first["best_epoch"]
    assert drop_rate(second) == drop_rate(first)
    expected, found = best_weights(pictures, "exp1"), best_weights(pictures, "exp2")
    assert expected.keys() == found.keys()
    assert all(torch.equal(expected[name], found[name]) for name in expected)
    assert first["fingerprints"]["weights"] == second["fingerprints"]["weights"]
    assert file_hash(pictures, "exp1", "predictions.csv") == file_hash(
        pictures, "exp2", "predictions.csv"
    )
    diff = json.loads(run_tracker("diff", "exp1", "exp2", "--json", cwd=pictures).stdout)
    assert diff["config"] == {}
    assert diff["predictions"]["changed"] == 0


def drop_rate(run: dict[str, Any]) -> dict[str, float]:
    """The summary without what the clock measured, which is never twice the same."""
    return {
        key: value
        for key, value in run["summary"].items()
        if key not in ("train/images_per_s", "train/data_wait")
    }


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_says_so_and_exits_with_130(
    pictures: Path, forks: Forks, number: signal.Signals
) -> None:
    child = forks.start("run", "train", *FAST, "--epochs", "500", cwd=pictures)
    wait_for(has_epoch(pictures, "exp1", 1), child)
    child.send_signal(number)
    for _ in range(10):  # an impatient hand
        time.sleep(0.05)
        child.send_signal(signal.SIGINT)
    _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
    assert child.returncode == 130
    assert "Traceback" not in stderr
    word = "SIGTERM" if number == signal.SIGTERM else "Ctrl-C"
    told = f"exp1 was interrupted ({word}); continue with: tracker run train --from exp1 --resume\n"
    assert stderr.endswith(told) and "error" not in stderr
    (run,) = list_runs(pictures)
    assert (run["status"], run["error"]) == ("interrupted", word)
    assert run["finished_at"]


def test_a_failed_run_keeps_its_reason(pictures: Path, forks: Forks) -> None:
    done = forks.run(
        "run", "train", *FAST, "--set", "optim.lr=1e30", "--epochs", "3", cwd=pictures, ok=False
    )
    assert done.returncode == 1
    assert "loss" in done.stderr
    (run,) = list_runs(pictures)
    assert run["status"] == "failed"
    assert "batch" in run["error"]


def test_two_runs_started_at_once_on_an_empty_workspace_both_work(
    pictures: Path, forks: Forks, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*NO_MLFLOW, "TRACKER_MLFLOW_WAIT_S"):
        monkeypatch.delenv(name)
    words = ("run", "train", *FAST, "--epochs", "2", "--seed")
    children = [forks.start(*words, seed, cwd=pictures) for seed in ("1", "2")]
    for child in children:
        _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
        assert child.returncode == 0, stderr
        assert "MLflow is behind" not in stderr
    assert sorted((run["name"], run["status"]) for run in list_runs(pictures)) == [
        ("exp1", "finished"),
        ("exp2", "finished"),
    ]
    states = [
        json.loads((pictures / "runs" / name / "mlflow.json").read_text())
        for name in ("exp1", "exp2")
    ]
    assert states[0]["run_id"] != states[1]["run_id"]
    assert all("best.pth" in state["files"] for state in states)


def test_every_offending_image_is_named_before_a_run_exists(pictures: Path, forks: Forks) -> None:
    (pictures / "train" / "cat" / "cat00.png").write_bytes(b"no image")
    (pictures / "eval" / "images" / "e1.png").unlink()
    done = forks.run("run", "train", *FAST, cwd=pictures, ok=False)
    assert done.returncode == 2
    assert "cat00.png" in done.stderr
    assert "e1.png" in done.stderr
    assert list_runs(pictures) == []


def test_a_wrong_config_is_refused_before_a_run_exists(pictures: Path, forks: Forks) -> None:
    words = ("--set", "optim.lrr=1", "--set", "train.epochs=0", "--loss", "hinge")
    done = forks.run("run", "train", *words, cwd=pictures, ok=False)
    assert done.returncode == 2
    assert all(
        word in done.stderr for word in ("optim.lrr", "optim.lr", "train.epochs", "loss.name")
    )
    done = forks.run("run", "train", "--model", "resnet10", cwd=pictures, ok=False)
    assert (done.returncode, "timm has no model 'resnet10'" in done.stderr) == (2, True)
    assert list_runs(pictures) == []


def test_from_starts_with_the_config_of_a_run_and_names_it_as_parent(
    pictures: Path, forks: Forks
) -> None:
    forks.run("run", "train", *FAST, "--epochs", "1", "--note", "base", cwd=pictures)
    forks.run("run", "train", "--from", "exp1", "--lr", "0.01", cwd=pictures)
    newest = list_runs(pictures)[0]
    assert newest["parent"] == "exp1"
    diff = json.loads(run_tracker("diff", "exp1", "exp2", "--json", cwd=pictures).stdout)
    assert diff["config"] == {"optim.lr": [0.003, 0.01]}


@pytest.mark.parametrize("database", ["sqlite", "postgresql"])
def test_eight_processes_that_submit_at_once(
    tmp_path: Path, forks: Forks, database: str, request: pytest.FixtureRequest
) -> None:
    options = {}
    if database == "postgresql":
        server: PostgresServer = request.getfixturevalue("postgres_server")
        options["ledger_url"] = server.create_database()
    workspace = make_workspace(tmp_path / "ws", **options)
    same = [make_run(workspace, "0000011110").name for _ in range(8)]
    codes = submit_at_once(forks, workspace.root, same)
    assert sorted(codes) == [0, *[3] * 7]
    assert [row["number"] for row in leaderboard(workspace.root)] == [1]
    assert len(list(workspace.submissions_dir.glob("*.csv"))) == 1
    different = [make_run(workspace, f"{number:010b}").name for number in range(8)]
    assert submit_at_once(forks, workspace.root, different) == [0] * 8
    assert [row["number"] for row in leaderboard(workspace.root)] == list(range(1, 10))


def submit_at_once(forks: Forks, root: Path, runs: list[str]) -> list[int]:
    """Exit codes of one `tracker submit` a run, all released at the same moment."""
    gate = root / "gate"
    gate.unlink(missing_ok=True)
    children = [
        forks.start("submit", run, "--memo", run, cwd=root, gate=gate, **NO_MLFLOW) for run in runs
    ]
    gate.touch()
    codes = []
    for child in children:
        _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
        codes.append(child.wait())
        assert "Traceback" not in stderr
        assert child.returncode == 0 or "the same predictions are submission 1" in stderr, stderr
    return codes


def leaderboard(root: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(run_tracker("leaderboard", "--json", cwd=root).stdout)
    return found
