"""tracker doctor: what is wrong on this machine and in this workspace, each with its fix."""

from __future__ import annotations

import base64
import datetime as dt
import importlib.metadata
import json
import os
import shutil
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
from typer.testing import CliRunner

from tests.support.workspaces import begin_run, make_run, make_workspace
from tracker.commands.table import app
from tracker.core.clock import to_utc_text
from tracker.run_folder.marks import archive_runs
from tracker.run_folder.record import STALE_HEARTBEAT_S
from tracker.submission.submit import submit
from tracker.workflows import doctor
from tracker.workflows.doctor import Finding, examine_machine
from tracker.workflows.ending import index_run
from tracker.workspace.tracker_toml import Workspace, load_workspace


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return make_workspace(tmp_path / "ws")


def find(workspace: Workspace | None, check: str) -> list[Finding]:
    """The findings of one check that are not ok."""
    found = [one for one in examine_machine(workspace) if one.check == check]
    assert found
    return [one for one in found if one.state != "ok"]


def test_a_sound_workspace_has_no_problem(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    done = CliRunner().invoke(app, ["doctor", "--json"])
    found = json.loads(done.stdout)
    assert [one for one in found if one["state"] == "problem"] == []
    assert done.exit_code == 0
    checks = {one["check"] for one in found}
    assert {"versions", "devices", "disk", "permissions", "data", "ledger", "runs"} <= checks


def test_outside_a_workspace_the_machine_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 0
    assert "tracker init makes one here" in done.stdout
    assert "versions: tracker" in done.stdout


def test_a_problem_ends_with_exit_code_1_and_its_fix(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    (workspace.root / "ledger.db").unlink()
    monkeypatch.chdir(workspace.root)
    done = CliRunner().invoke(app, ["doctor"])
    assert done.exit_code == 1
    assert "ledger: problem: " in done.stdout
    (problem,) = find(workspace, "ledger")
    assert problem.fix


def test_a_library_of_a_wrong_version_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = importlib.metadata.version
    old = {"timm": "0.9.0"}
    monkeypatch.setattr(importlib.metadata, "version", lambda name: old.get(name) or real(name))
    texts = [
        "no-such-library>=1",
        'timm<2,>=1.0.31; extra == "train"',
        'kaggle>=99; extra == "kaggle"',
    ]
    monkeypatch.setattr(importlib.metadata, "requires", lambda name: texts)
    found = find(None, "versions")
    assert [one.text for one in found] == [
        "no-such-library is not installed",
        "timm 0.9.0 is installed, <2,>=1.0.31 is needed",
    ]
    assert found[0].fix == "pip install 'no-such-library>=1'"
    # A base install lacks nothing of the extra, and says what it is.
    monkeypatch.setitem(sys.modules, "torch", None)
    assert [one.text for one in find(None, "versions")] == ["no-such-library is not installed"]
    texts = [one.text for one in examine_machine(None) if one.state == "ok"]
    assert any(text.startswith("no torch: a base install") for text in texts)


def test_images_that_are_not_there_are_told(workspace: Workspace) -> None:
    (workspace.root / "eval").rename(workspace.root / "evaluation")
    (problem,) = find(workspace, "data")
    assert problem.state == "problem"
    assert problem.text.startswith("data.eval_dir: ")


def test_secrets_that_others_can_read_are_told(workspace: Workspace) -> None:
    path = workspace.root / ".env"
    path.write_text("POSTGRES_PASSWORD=secret\n")
    path.chmod(0o644)
    (warning,) = find(workspace, "permissions")
    assert warning.fix == f"chmod 600 {path}"
    path.chmod(0o600)
    assert find(workspace, "permissions") == []


def test_runs_that_need_a_look_are_told(workspace: Workspace) -> None:
    make_run(workspace, "0000011111")
    broken = make_run(workspace).name
    (workspace.runs_dir / broken / "run.json").write_text("{")
    folder = begin_run(workspace).folder
    record = json.loads((folder / "run.json").read_text())
    # as after kill -9 on another machine, an hour ago
    past = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=STALE_HEARTBEAT_S + 3600)
    record |= {"host": "gpu1", "heartbeat": to_utc_text(past), "pid": 0}
    (folder / "run.json").write_text(json.dumps(record))
    left = folder / ".best.pth.0a1b2c3d-999999.0a1b2c3d.tmp"
    left.write_bytes(b"half of it")
    os.utime(left, (time.time() - 90_000,) * 2)
    found = find(workspace, "runs")
    assert [one.state for one in found] == ["problem", "warning", "warning"]
    assert found[0].text.startswith(f"{broken}: ")
    assert folder.name in found[1].text
    assert "1 temporary file of killed processes" in found[2].text


def test_archived_runs_are_counted_as_sync_counts_them(workspace: Workspace) -> None:
    make_run(workspace)
    make_run(workspace)
    archive_runs(workspace, ["exp1"])
    texts = [one.text for one in examine_machine(workspace) if one.check == "runs"]
    assert "2 runs, 0 of them running, 1 archived" in texts


class Refusing(BaseHTTPRequestHandler):
    """An MLflow that is healthy and knows no user; it notes who asked."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.send_response(200 if self.path == "/health" else 401)
        self.end_headers()
        self.asked.append(base64.b64decode(self.headers.get("Authorization", "")[6:]).decode())

    def log_message(self, format: str, *args: object) -> None: ...


def test_a_password_that_mlflow_does_not_take_is_a_problem_with_its_fix(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        address = f"127.0.0.1:{server.server_port}"
        monkeypatch.setenv("TRACKER_MLFLOW_URI", f"http://mina:old%40secret@{address}")
        (problem,) = find(load_workspace(workspace.root), "copies")
        server.shutdown()
    assert problem.state == "problem"
    assert f"{address} does not take the user mina with this password (401)" in problem.text
    assert "tracker ledger grant mina" in problem.fix
    assert "tracker join HOST" in problem.fix
    assert "old" not in problem.text + problem.fix
    assert Refusing.asked[-1] == "mina:old@secret"


def test_a_run_that_was_not_copied_is_behind(workspace: Workspace) -> None:
    name = make_run(workspace, "0000011111").name
    (warning,) = find(workspace, "MLflow")
    assert name in warning.text
    assert warning.fix == "tracker sync copies them"
    size = (workspace.runs_dir / name / "metrics.jsonl").stat().st_size
    (workspace.runs_dir / name / "mlflow.json").write_text(json.dumps({"offset": size}))
    assert find(workspace, "MLflow") == []


def test_a_server_that_does_not_answer_is_a_problem(workspace: Workspace) -> None:
    text = (workspace.root / "tracker.toml").read_text()
    (workspace.root / "tracker.toml").write_text(
        text.replace("sqlite:///mlflow.db", "http://127.0.0.1:9")
    )
    changed = load_workspace(workspace.root)
    assert changed.mlflow_uri == "http://127.0.0.1:9"
    (problem,) = find(changed, "copies")
    assert "127.0.0.1:9 does not answer" in problem.text


def test_a_clock_that_is_wrong_is_told() -> None:
    now = dt.datetime.now(dt.UTC)
    assert doctor._compare_clocks("ledger", now).state == "ok"
    late = doctor._compare_clocks("ledger", now - dt.timedelta(seconds=90))
    assert late.state == "warning"
    assert " s ahead of the server's" in late.text


def test_a_small_disk_is_told(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LOW_DISK_GIB", 10**9)
    assert [one.state for one in find(workspace, "disk")] == ["warning"]
    monkeypatch.setattr(doctor, "LEAST_DISK_GIB", 10**9)
    assert [one.state for one in find(workspace, "disk")] == ["problem"]
    assert not list(workspace.state_dir.glob("doctor*"))


def test_a_gpu_that_torch_cannot_use_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    # a machine with a GPU and a torch that does not see it
    monkeypatch.setattr(doctor, "list_gpus", lambda: ["handle"])
    monkeypatch.setattr("pynvml.nvmlDeviceGetName", lambda handle: "H100")
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    (problem,) = find(None, "devices")
    assert "cannot use the GPU" in problem.text
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    assert find(None, "devices") == []


def test_a_changed_copy_of_what_was_sent_and_a_deleted_run_are_found(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011111", "0000011100"):
        index_run(workspace, make_run(workspace, answers))
    first, _ = submit(workspace, "exp1", "one")
    second, _ = submit(workspace, "exp2", "two")
    assert find(workspace, "sent files") == []
    assert find(workspace, "runs") == []
    (workspace.root / str(second.file)).unlink()
    copy = workspace.root / str(first.file)
    sent = copy.read_text()
    copy.write_text(sent.replace("i0.png,0", "i0.png,1"))
    changed, absent = find(workspace, "sent files")
    assert changed.state == "problem" and "submission 1" in changed.text
    assert changed.fix.startswith(f"cp runs/exp1/predictions.csv {first.file}")
    assert absent.state == "warning" and "submission 2" in absent.text
    copy.write_text("torn")  # not even a table
    for name in ("exp1", "exp3"):  # exp3 was never submitted
        shutil.rmtree(workspace.runs_dir / name)
    changed = find(workspace, "sent files")[0]
    assert changed.state == "problem" and "backup" in changed.fix
    (gone,) = find(workspace, "runs")
    assert gone.text == "2 runs of the ledger without a folder: exp1, exp3"
    assert "runs/exp1" in gone.fix
