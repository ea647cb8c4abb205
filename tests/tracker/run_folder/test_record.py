"""Run folders: numbers, status however a run ends, and every logged point on disk."""

from __future__ import annotations

import importlib.metadata
import json
import math
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import tracker
import tracker.run_folder.killed
from tests.conftest import NO_MLFLOW, run_tracker
from tests.support.forks import PROGRAM, Forks
from tests.support.workspaces import begin_run, make_run
from tracker.comparison.compare import compare_runs
from tracker.core.clock import from_utc_text, to_utc_text, utc_now
from tracker.core.errors import UnknownRunError
from tracker.run_folder.points import read_curves, read_points
from tracker.run_folder.read import (
    describe_newer_than_latest,
    find_latest,
    list_runs,
    load_config,
    load_run,
)
from tracker.run_folder.record import allocate_run, is_abandoned, list_run_numbers
from tracker.run_folder.recorder import Recorder
from tracker.training.errors import ConfigError, StorageError
from tracker.training.files import atomic_path
from tracker.workspace.tracker_toml import Workspace

LIMIT_S = 60
HOLD = """
import sys
from pathlib import Path
from tracker.core.locks import FileLock
FileLock(Path(sys.argv[1])).acquire()
print(flush=True)
sys.stdin.read()
"""


DEAD = 99_999_999  # no process has that number


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another process has the lock at `path` while the block runs."""
    command = [sys.executable, "-c", HOLD, str(path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdin and holder.stdout and holder.stdout.readline()
        yield
        holder.stdin.close()


def _allocate(runs_dir: Path, count: int) -> list[str]:
    return [allocate_run(runs_dir).name for _ in range(count)]


def test_processes_that_start_at_once_get_different_numbers(tmp_path: Path) -> None:
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        parts = pool.starmap(_allocate, [(tmp_path, 10)] * 4)
    assert sorted(int(name[3:]) for part in parts for name in part) == list(range(1, 41))


def test_a_number_is_never_given_again(tmp_path: Path) -> None:
    assert _allocate(tmp_path, 3) == ["exp1", "exp2", "exp3"]
    (tmp_path / "exp3").rmdir()
    (tmp_path / "exp9").mkdir()
    assert _allocate(tmp_path, 1) == ["exp10"]
    (tmp_path / ".last").unlink()
    assert _allocate(tmp_path, 1) == ["exp11"]
    assert list_run_numbers(tmp_path) == [11, 10, 9, 2, 1]


def test_a_finished_run_is_read_back(workspace: Workspace) -> None:
    record = make_run(workspace, "0" * 10, f1=0.75, note="why")
    assert load_run(workspace.runs_dir, "exp1") == record
    assert record.status == "finished"
    assert record.summary["val/f1"] == 0.75
    assert record.finished_at is not None
    assert set(record.fingerprints) == {"config", "data", "code", "predictions", "weights"}
    assert load_config(workspace.runs_dir, "exp1")["optim"]["lr"] == 0.001


def test_environment_has_packages_hardware_and_the_uncommitted_diff(tmp_path: Path) -> None:
    from tracker.run_folder.environment import collect_environment

    def git(*words: str) -> None:
        name = ["-c", "user.name=x", "-c", "user.email=x@x"]
        subprocess.run(["git", "-C", str(tmp_path), *name, *words], check=True, capture_output=True)

    git("init")
    (tmp_path / "a.py").write_text("one\n")
    git("add", ".")
    git("commit", "-m", "first")
    clean = collect_environment(tmp_path)
    (tmp_path / "a.py").write_text("two\n")
    (tmp_path / "new.py").write_text("three\n")
    dirty = collect_environment(tmp_path)
    assert clean["git"]["diff"] == ""
    assert "+two" in dirty["git"]["diff"]
    assert dirty["git"]["untracked"] == ["new.py"]
    assert clean["code"] == f"git:{clean['git']['commit']}"
    assert dirty["code"].startswith(clean["code"] + "+sha256:")
    assert "torch" in dirty["packages"]
    assert dirty["hardware"]["cores"] >= 1


def test_packages_are_those_that_python_knows_whatever_their_readmes_say(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tracker.run_folder.environment import collect_environment

    for name, text in (
        ("odd-1.0.dist-info/METADATA", "Name: odd\nVersion: 1.0\n\nName: other\nVersion: 9\n"),
        ("old.egg-info", "Metadata-Version: 1.0\nName: old\nVersion: 2\n"),
        ("broken-1.dist-info/RECORD", ""),
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    packages = collect_environment(tmp_path)["packages"]
    assert (packages["odd"], packages["old"], packages.get("other")) == ("1.0", "2", None)
    # the backport importlib_metadata, which some library may have imported, raises for broken-1
    readable = [one for one in importlib.metadata.distributions() if "broken" not in str(one._path)]
    known = {one.metadata["Name"]: one.version for one in readable if one.metadata["Name"]}
    assert packages == known


def test_every_point_is_on_disk_when_the_call_returns(workspace: Workspace) -> None:
    recorder = _new_run(workspace)
    for step in range(1, 4):
        recorder.metrics({"a": step / 3, "b": math.nan, "c": math.inf}, step=step, epoch=1)
        points = list(read_points(recorder.folder / "metrics.jsonl"))
        assert len(points) == step
    assert points[2]["values"]["a"] == 1.0
    assert math.isnan(points[2]["values"]["b"])
    assert points[2]["values"]["c"] == math.inf
    for line in (recorder.folder / "metrics.jsonl").read_text().splitlines():
        assert "NaN" not in line
        json.loads(line)
    recorder.finish("finished")


def test_a_step_logged_again_after_a_resume_counts_once(tmp_path: Path) -> None:
    lines = [
        {"time": 1.0, "step": step, "epoch": 1, "values": {"a": value}}
        for step, value in ((1, 0.1), (2, 0.2))
    ]
    text = "\n".join(json.dumps(line) for line in [*lines, lines[1]]) + '\n{"time": 1.0, "st'
    (tmp_path / "m.jsonl").write_text(text)
    assert read_curves(tmp_path / "m.jsonl") == {"a": {1: (1, 0.1), 2: (1, 0.2)}}


def _new_run(workspace: Workspace) -> Recorder:
    return begin_run(workspace, config={"train": {"epochs": 1}})


CHILD = """
import sys, time
from pathlib import Path
from tracker.run_folder.recorder import Recorder
recorder = Recorder.create(
    Path(sys.argv[1]), kind="train", config={}, parent=None, note="", fingerprints={}
)
for step in range(1, 10**9):
    recorder.metrics({"a": 1.0, "b": 2.0, "c": 3.0, "d": 4.0}, step=step, epoch=1)
    print(step, flush=True)
"""


def _start_child(workspace: Workspace) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(workspace.runs_dir)],
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )
    assert child.stdout is not None
    for _ in range(100):
        assert child.stdout.readline()
    return child


def test_kill_9_loses_no_point_and_the_run_is_listed_as_killed(workspace: Workspace) -> None:
    child = _start_child(workspace)
    assert load_run(workspace.runs_dir, "exp1").status == "running"
    child.kill()
    told = [int(line) for line in child.communicate(timeout=LIMIT_S)[0].split()]
    points = [point["step"] for point in read_points(workspace.runs_dir / "exp1" / "metrics.jsonl")]
    assert points == list(range(1, len(points) + 1))
    assert len(points) >= max(told, default=100)
    assert load_run(workspace.runs_dir, "exp1").status == "killed"
    assert list_runs(workspace.runs_dir)[0].status == "killed"


KILLED_LOOP = """
import os, signal, sys, torch, tracker
def die():
    os.kill(os.getpid(), signal.SIGKILL)
scores = {1: 0.25, 2: 0.75, 3: 0.5}
with tracker.start_run({"train": {"seed": int(sys.argv[2])}}, follow=False) as run:
    for epoch, score in scores.items():
        run.log({"train/loss": 1 / epoch, "val/f1": score}, epoch=epoch)
        if sys.argv[1] == "save_best" and epoch == 2:
            run.save_best({"w": torch.ones(1)}, epoch=2, metrics={"val/f1": score})
    die()
"""


def test_the_record_of_a_killed_loop_has_the_figures_of_all_its_points(
    workspace: Workspace, tmp_path: Path, forks: Forks
) -> None:
    (tmp_path / "loop.py").write_text(KILLED_LOOP)
    children = []
    for number, ending in enumerate(("plain", "save_best")):
        words = (tmp_path / "loop.py", ending, str(number))
        children.append(forks.start(*words, cwd=workspace.root, module=PROGRAM))
    outputs = [child.communicate(LIMIT_S) for child in children]
    assert [child.wait() for child in children] == [-9, -9], outputs
    for record in list_runs(workspace.runs_dir):
        assert (record.status, record.epoch, record.best_epoch) == ("killed", 3, 2)
        assert record.summary["val/f1"] == 0.75
        assert set(record.summary) - {"last/val/f1"} == {"train/loss", "val/f1"}
        last = list(read_points(workspace.runs_dir / record.name / "metrics.jsonl"))[-1]
        assert from_utc_text(record.finished_at or "").timestamp() >= last["time"] - 0.001
        assert record.duration_s > 0
    assert (
        len(compare_runs(workspace, ["exp1", "exp2"]).rows) == 2
    )  # lengths that broke off are no seeds


def test_the_points_of_a_killed_loop_are_read_once(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_run(workspace, f1=0.5)
    folder = workspace.runs_dir / "exp1"
    raw = json.loads((folder / "run.json").read_text())
    began = "2026-01-01T00:00:00.000000Z"
    left = {"status": "running", "pid": 0, "heartbeat": began, "fingerprints": {}}
    (folder / "run.json").write_text(json.dumps({**raw, **left}))
    at, points = from_utc_text(began).timestamp(), folder / "metrics.jsonl"
    first = {"time": at + 5, "step": 2, "epoch": 2, "values": {"val/f1": 0.75}}
    points.write_text(json.dumps(first) + "\n")
    read: list[Path] = []

    def read_counted(path: Path) -> Iterator[dict[str, Any]]:
        read.append(path)
        return read_points(path)

    monkeypatch.setattr(tracker.run_folder.killed, "read_points", read_counted)
    found = load_run(workspace.runs_dir, "exp1")
    assert (found.status, found.epoch, found.summary["val/f1"]) == ("killed", 2, 0.75)
    assert load_run(workspace.runs_dir, "exp1") == found
    assert read == [points]
    assert (
        json.loads((folder / "run.json").read_text())["status"] == "running"
    )  # as the process left it
    (folder / ".killed.json").write_text("{}")  # damaged
    assert load_run(workspace.runs_dir, "exp1") == found
    points.write_text(
        json.dumps(first)
        + "\n"
        + json.dumps({**first, "epoch": 3, "values": {"val/f1": 0.875}})
        + "\n"
    )
    assert load_run(workspace.runs_dir, "exp1").summary["val/f1"] == 0.875
    assert len(read) == 3

    def refuse(path: Path, value: Any) -> None:
        raise StorageError(f"cannot write {path}")

    (folder / ".killed.json").unlink()
    monkeypatch.setattr(
        tracker.run_folder.killed, "write_json", refuse
    )  # a read-only workspace: root may write everywhere
    assert load_run(workspace.runs_dir, "exp1").summary["val/f1"] == 0.875
    assert not (folder / ".killed.json").exists()
    monkeypatch.undo()
    assert load_run(workspace.runs_dir, "exp1").epoch == 3
    resumed = Recorder.reopen(workspace.runs_dir, "exp1")
    assert not (folder / ".killed.json").exists()
    assert resumed.finish("finished").epoch == 3


def test_the_record_of_a_killed_training_has_the_epoch_that_was_on_disk(
    workspace: Workspace,
) -> None:
    make_run(workspace, f1=0.5)
    folder = workspace.runs_dir / "exp1"
    raw = json.loads((folder / "run.json").read_text())
    began = "2026-01-01T00:00:00.000000Z"
    left = {
        "status": "running",
        "pid": 0,
        "heartbeat": began,
        "finished_at": None,
        "duration_s": 2.0,
    }
    (folder / "run.json").write_text(json.dumps({**raw, **left}))
    at = from_utc_text(began).timestamp()
    points = [
        {"time": at + 1, "step": 1, "epoch": 1, "values": {"val/f1": 0.5, "train/loss": 0.5}},
        {"time": at + 5, "step": 2, "epoch": 2, "values": {"val/f1": 0.75, "train/loss": 0.25}},
        {"time": at + 6, "step": 3, "epoch": 3, "values": {"train/batch_loss": 0.125}},
    ]
    (folder / "metrics.jsonl").write_text(
        "".join(json.dumps(point) + "\n" for point in points) + '{"time": 1'
    )
    record = load_run(workspace.runs_dir, "exp1")
    assert (record.status, record.epoch, record.best_epoch, record.duration_s) == (
        "killed",
        1,
        1,
        8.0,
    ), "resumed from there"
    assert record.summary == raw["summary"]
    assert record.finished_at == "2026-01-01T00:00:06.000000Z"


def test_a_stale_heartbeat_of_another_host_means_killed(workspace: Workspace) -> None:
    make_run(workspace)
    path = workspace.runs_dir / "exp1" / "run.json"
    raw = {**json.loads(path.read_text()), "status": "running", "host": "elsewhere", "pid": 1}
    path.write_text(json.dumps({**raw, "heartbeat": utc_now()}))
    assert load_run(workspace.runs_dir, "exp1").status == "running"
    path.write_text(json.dumps({**raw, "heartbeat": "2026-01-01T00:00:00.000000Z"}))
    assert load_run(workspace.runs_dir, "exp1").status == "killed"


def test_a_running_or_finished_run_cannot_be_reopened(workspace: Workspace) -> None:
    child = _start_child(workspace)
    try:
        with pytest.raises(ConfigError, match="still running"):
            Recorder.reopen(workspace.runs_dir, "exp1")
    finally:
        child.kill()
        child.communicate(timeout=LIMIT_S)
    reopened = Recorder.reopen(workspace.runs_dir, "exp1")
    assert reopened.finish("finished").status == "finished"
    with pytest.raises(ConfigError, match="is finished"):
        Recorder.reopen(workspace.runs_dir, "exp1")


def test_heartbeat_goes_on_while_the_loop_is_busy(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.run_folder.recorder.HEARTBEAT_S", 0.05)
    recorder = _new_run(workspace)
    first = load_run(workspace.runs_dir, "exp1").heartbeat
    deadline = time.monotonic() + LIMIT_S
    while load_run(workspace.runs_dir, "exp1").heartbeat == first:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    recorder.finish("finished")


def test_a_full_disk_is_an_error_with_advice(workspace: Workspace) -> None:
    folder = allocate_run(workspace.runs_dir)
    (folder / "run.json").write_text(
        json.dumps({"name": folder.name, "uid": "u", "status": "failed"})
    )
    (folder / "metrics.jsonl").symlink_to("/dev/full")
    recorder = Recorder.reopen(workspace.runs_dir, folder.name)
    with pytest.raises(StorageError, match="No space left") as caught:
        recorder.metrics({"a": 1.0}, step=1, epoch=1)
    assert "free some space" in caught.value.hint
    recorder.finish("failed")


def test_unknown_and_broken_runs_are_named(workspace: Workspace) -> None:
    with pytest.raises(UnknownRunError, match="no run exp1") as caught:
        load_run(workspace.runs_dir, "exp1")
    assert "tracker run train" in caught.value.hint
    make_run(workspace)
    make_run(workspace)
    (workspace.runs_dir / "exp1" / "run.json").write_text("{torn")
    with pytest.raises(StorageError, match=r"run\.json"):
        load_run(workspace.runs_dir, "exp1")
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["finished", "broken"]


def kill_before_the_first_record(workspace: Workspace) -> Path:
    """A run folder whose process was killed while it wrote run.json for the first time."""
    code = (
        "import os, signal, sys; from pathlib import Path; from tracker.run_folder import recorder;"
        "write = recorder.write_json;recorder.write_json ="
        " lambda path, value: os.kill(os.getpid(), signal.SIGKILL) if path.name == 'run.json' else"
        " write(path, value);recorder.Recorder.create(Path(sys.argv[1]), kind='train', config={},"
        " parent=None, note='', fingerprints={})"
    )
    before = set(list_run_numbers(workspace.runs_dir))
    command = [sys.executable, "-c", code, str(workspace.runs_dir)]
    assert subprocess.run(command, check=False, timeout=120).returncode == -signal.SIGKILL
    (number,) = set(list_run_numbers(workspace.runs_dir)) - before
    return workspace.runs_dir / f"exp{number}"


def test_a_run_killed_before_its_first_record_is_killed_at_its_folders_time(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0" * 10)
    folder = kill_before_the_first_record(workspace)
    bare = workspace.runs_dir / "exp3"
    bare.mkdir()
    for place in (folder, bare):
        os.utime(place, (1_700_000_000, 1_700_000_000))
    for _ in range(2):  # looking changes nothing
        records = list_runs(workspace.runs_dir)
        assert [record.status for record in records] == ["killed", "killed", "finished"]
        assert {record.created_at for record in records[:2]} == {"2023-11-14T22:13:20.000000Z"}
    assert json.loads(run_tracker("audit", "--json", cwd=workspace.root).stdout)["missing"] == []
    assert (
        "killed before its first record" in run_tracker("show", "exp2", cwd=workspace.root).stdout
    )
    run_tracker("tree", cwd=workspace.root)
    done = run_tracker("run", "train", "--resume", cwd=workspace.root, ok=False)
    assert done.returncode == 2 and "no killed, interrupted or failed run" in done.stderr


def test_a_run_that_is_being_made_is_running(workspace: Workspace) -> None:
    folder = workspace.runs_dir / "exp1"
    folder.mkdir(parents=True)
    with held(folder / ".lock"):
        assert [record.status for record in list_runs(workspace.runs_dir)] == ["running"]
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["killed"]


def test_a_record_that_was_lost_is_damage(workspace: Workspace) -> None:
    make_run(workspace)
    (workspace.runs_dir / "exp1" / "run.json").unlink()
    assert [record.status for record in list_runs(workspace.runs_dir)] == ["broken"]
    (gone,) = json.loads(run_tracker("audit", "--json", cwd=workspace.root).stdout)["missing"]
    assert gone["file"] == "runs/exp1/run.json"


LEAVE = """
import os, signal, sys
from pathlib import Path
from tracker.training.files import atomic_path
with atomic_path(Path(sys.argv[1])) as temporary:
    temporary.write_bytes(b"half")
    if sys.argv[2:]:
        print(temporary.name, flush=True)
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)
"""


def list_temporary(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name.endswith(".tmp"))


def leave_temporary(path: Path) -> None:
    """A temporary file of a process that was killed while it wrote `path`."""
    done = subprocess.run([sys.executable, "-c", LEAVE, str(path)], check=False, timeout=120)
    assert done.returncode == -signal.SIGKILL


def test_temporary_files_of_killed_processes_go_when_the_folder_is_opened_for_writing(
    workspace: Workspace,
) -> None:
    make_run(workspace, status="interrupted")
    folder = workspace.runs_dir / "exp1"
    for place in (folder / "last.pth", workspace.runs_dir / ".last"):
        leave_temporary(place)
    other_host = f".best.pth.0badcafe-{DEAD}.01234567.tmp"
    not_ours = ".notes.tmp"
    for name in (
        other_host,
        not_ours,
        f".best.pth.{DEAD}.01234567.tmp",
        f".run.json.{DEAD}.89abcdef.tmp",
    ):
        (folder / name).write_text("")
    os.utime(folder / f".run.json.{DEAD}.89abcdef.tmp", (0, 0))  # of an earlier version
    command = [sys.executable, "-c", LEAVE, str(folder / "best.pth"), "wait"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdin and child.stdout
        live = child.stdout.readline().strip()
        assert len(list_temporary(folder)) == 6
        Recorder.reopen(workspace.runs_dir, "exp1").finish("interrupted")
        assert list_temporary(folder) == sorted(
            [other_host, not_ours, f".best.pth.{DEAD}.01234567.tmp", live]
        )
        child.stdin.close()
    assert len(list_temporary(workspace.runs_dir)) == 1
    make_run(workspace)
    assert list_temporary(workspace.runs_dir) == []


def test_sync_removes_temporary_files_of_killed_processes(workspace: Workspace) -> None:
    make_run(workspace)
    leave_temporary(workspace.runs_dir / "exp1" / "best.pth")
    run_tracker("sync", cwd=workspace.root, ok=False, **NO_MLFLOW)
    assert list_temporary(workspace.runs_dir / "exp1") == []


def test_a_date_in_a_config_is_told_with_its_key(workspace: Workspace) -> None:
    make_run(workspace)
    (workspace.runs_dir / "exp1" / "config.toml").write_text(
        "x = 1\n[optim]\nlr = 2021-08-23\nbetas = [07:00:00]\n"
    )
    with pytest.raises(ConfigError) as caught:
        load_config(workspace.runs_dir, "exp1")
    assert [problem.partition(":")[0] for problem in caught.value.problems] == [
        "x",
        "optim.lr",
        "optim.betas",
    ]
    (row,) = json.loads(run_tracker("runs", "--json", cwd=workspace.root).stdout)
    assert row["config"] is None


@pytest.mark.parametrize(
    ("note", "config"), [("a\udcff", {}), ("", {"optim": {"name": "a\udcff"}})]
)
def test_what_is_not_utf8_makes_no_run_folder(
    workspace: Workspace, note: str, config: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="is not UTF-8"):
        tracker.start_run(config, note=note, root=workspace.root)
    assert list_runs(workspace.runs_dir) == []


def test_sync_leaves_out_a_folder_whose_process_died_before_it_began(
    workspace: Workspace, forks: Forks
) -> None:
    make_run(workspace)
    folder = workspace.runs_dir / "exp2"
    folder.mkdir()
    with atomic_path(folder / "env.json") as temporary:
        temporary.touch()
    left = folder / temporary.name.replace(f"-{os.getpid()}.", f"-{DEAD}.")
    (folder / "env.json").rename(left)
    done = forks.run("sync", cwd=workspace.root)
    assert not left.exists()
    assert "1 run up to date" in done.stdout
    assert "exp2 was killed before it began" in done.stderr
    with held(folder / ".lock"):
        assert not is_abandoned(folder)
    assert is_abandoned(folder)


def test_latest_is_the_newest_finished_run_with_predictions(workspace: Workspace) -> None:
    with pytest.raises(UnknownRunError, match="no finished run"):
        find_latest(workspace.runs_dir)
    make_run(workspace, "0" * 10)
    make_run(workspace)
    assert (
        describe_newer_than_latest(workspace.runs_dir) == "latest is exp1: exp2 has no predictions"
    )
    make_run(workspace, "1" * 10, status="failed")
    assert find_latest(workspace.runs_dir) == "exp1"
    assert describe_newer_than_latest(workspace.runs_dir) == "latest is exp1: exp3 failed"


def test_latest_is_by_number_and_says_what_ended_later(workspace: Workspace) -> None:
    begun = begin_run(workspace)
    make_run(workspace, "0" * 10)
    assert describe_newer_than_latest(workspace.runs_dir) == ""
    (begun.folder / "predictions.csv").write_text("ImageID,ans\n")
    begun.finish("finished")
    assert find_latest(workspace.runs_dir) == "exp2"
    assert describe_newer_than_latest(workspace.runs_dir) == (
        "latest is exp2: exp1 ended later, but has a lower number"
    )


def test_a_newer_run_that_latest_leaves_out_is_named(workspace: Workspace, forks: Forks) -> None:
    make_run(workspace, status="interrupted")
    done = forks.run("check", cwd=workspace.root, ok=False)
    assert "no finished run with predictions yet: exp1 was interrupted" in done.stderr
    make_run(workspace, "0" * 10)
    assert forks.run("show", cwd=workspace.root).stderr == ""
    make_run(workspace, status="interrupted")
    for command in (
        ("show",),
        ("show", "--json"),
        ("check",),
        ("diff", "exp2", "latest"),
        ("run", "train", "--from", "latest", "--resume"),
        ("run", "ensemble", "latest", "exp2"),
        ("data", "split", "--from", "latest"),
        ("tag", "latest", "chosen"),
        ("archive", "latest"),
    ):
        done = forks.run(*command, cwd=workspace.root, ok=False)
        assert done.stderr.splitlines()[0] == "latest is exp2: exp3 was interrupted", command
    assert forks.run("show", "exp2", cwd=workspace.root).stderr == ""


def test_naive_times_are_refused() -> None:
    import datetime as dt

    with pytest.raises(ValueError, match="no time zone"):
        to_utc_text(dt.datetime(2026, 1, 1))  # noqa: DTZ001
    assert to_utc_text(dt.datetime(2026, 1, 1, tzinfo=dt.UTC)) == "2026-01-01T00:00:00.000000Z"
