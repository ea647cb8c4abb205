"""Trainings and sweeps as jobs: submitit's local executor runs them here, and is told to go."""

from __future__ import annotations

import json
import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.support.forks import NAMES, TASK, Forks
from tests.support.trained_runs import count_points, read_kinds, read_record, wait_until
from tests.support.workspaces import begin_run
from tracker.core.clock import utc_now
from tracker.core.errors import ConfigError, TrackerError
from tracker.jobs.slurm import check_job, submit_run, submit_sweep
from tracker.jobs.slurm_state import JOB_NAME, settle_gone
from tracker.jobs.stop import stop_run
from tracker.run_folder import recorder as recording
from tracker.run_folder.marks import archive_runs
from tracker.run_folder.read import load_run
from tracker.run_folder.record import JOB_FACT
from tracker.run_folder.recorder import Recorder, put_back
from tracker.run_folder.stop_note import STOP_NAME
from tracker.training.config import Config, TrainConfig
from tracker.workspace.slurm_options import SlurmOptions, change_options, parse_minutes
from tracker.workspace.tracker_toml import Workspace, load_workspace

HERE = ("--slurm-set", "executor=local")


@pytest.mark.slow
def test_a_job_that_is_preempted_twice_ends_with_the_weights_of_an_uninterrupted_run(
    training_root: Path, forks: Forks
) -> None:
    root = training_root
    for name in ("exp1", "exp2"):
        done = forks.run(
            "run", "train", "base.toml", "--force", "--slurm", *HERE, cwd=root, jobs=True
        )
        assert done.stdout.startswith(f"{name} waits for job ")
    trained = 0
    for _ in range(2):
        wait_until(lambda seen=trained: len(count_points(root, "exp2")) > seen + 20)
        pid = read_record(root, "exp2")["pid"]
        os.kill(pid, signal.SIGTERM)  # Slurm's first word: it ends nothing
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda old=pid: read_record(root, "exp2")["pid"] != old)
        trained = len(count_points(root, "exp2"))
    for name in ("exp1", "exp2"):
        done = forks.run("logs", name, "-f", cwd=root)
        wait_until(lambda run=name: read_kinds(root, run)[-1] == "finished")
    one, other = (read_record(root, run) for run in ("exp1", "exp2"))
    assert (other["status"], other["epoch"]) == ("finished", 30), done.stdout
    assert other["facts"]["threads"] == one["facts"]["threads"]
    assert other["fingerprints"]["weights"] == one["fingerprints"]["weights"]
    assert count_points(root, "exp2") == count_points(root, "exp1")
    assert set(count_points(root, "exp2").values()) == {1}
    again = ["preempted", "resumed"]
    assert read_kinds(root, "exp2") == ["pending", "started", *again, *again, "finished"]
    assert done.stdout.count("-- resumed ") == 2
    assert "exp2 finished" in done.stdout


SWEEP = """
trials = 1
[base]
config = "base.toml"
[space]
optim.lr = [0.003, 0.002]
"""


@pytest.mark.slow
def test_a_worker_of_a_sweep_that_must_leave_saves_its_trial_and_goes_on_with_it(
    training_root: Path, forks: Forks
) -> None:
    root = training_root
    (root / "lr.toml").write_text(SWEEP)
    done = forks.run("run", "sweep", "lr.toml", "--slurm", "1", *HERE, cwd=root, jobs=True)
    assert done.stdout.startswith("lr.toml is worked on by job ")
    wait_until(lambda: len(count_points(root, "exp1")) > 20)
    (worker,) = list_tasks(root)
    first = read_record(root, "exp1")["pid"]
    os.kill(worker, signal.SIGUSR1)
    wait_until(lambda: read_record(root, "exp1")["pid"] != first)
    wait_until(lambda: read_kinds(root, "exp1")[-1] == "finished")
    assert read_kinds(root, "exp1") == ["started", "interrupted", "resumed", "finished"]
    assert set(count_points(root, "exp1").values()) == {1}
    output = (root / "runs" / "exp1" / "output.log").read_text()
    assert (
        "exp1 was interrupted (the scheduler needs the machine)" in output
    )  # and not by SIGTERM, which saves nothing
    wait_until(lambda: not list_tasks(root))  # the worker tells the result after the run's end
    done = forks.run("run", "sweep", "lr.toml", "--json", cwd=root)
    (trial,) = json.loads(done.stdout)["trials"]
    assert (trial["run"], trial["state"]) == ("exp1", "complete")


def list_tasks(root: Path) -> list[int]:
    """The processes of the jobs of a workspace."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            name, place = (folder / "comm").read_text().strip(), (folder / "cwd").readlink()
        except OSError:  # it has ended
            continue
        if (name, place) == (NAMES[TASK], root):
            found.append(int(folder.name))
    return found


# --- What is asked of Slurm ---


@pytest.mark.parametrize(
    ("written", "minutes"),
    [
        (90, 90),
        ("90", 90),
        ("90:30", 91),
        ("4:00:00", 240),
        ("1-12", 36 * 60),
        ("2-0:30", 2 * 24 * 60 + 30),
        ("0:0:1", 1),
    ],
)
def test_a_time_limit_is_written_as_sbatch_takes_it(written: int | str, minutes: int) -> None:
    assert parse_minutes(written) == minutes


@pytest.mark.parametrize("written", ["", "0", 0, True, 1.5, "4h", "1-", "1:2:3:4", "-5"])
def test_what_is_no_time_limit_is_refused(written: Any) -> None:
    with pytest.raises(ValueError):
        parse_minutes(written)


def test_options_of_a_job_change_those_of_tracker_toml(workspace: Workspace) -> None:
    path = workspace.root / "tracker.toml"
    path.write_text(path.read_text() + '[slurm]\ntime = "2:00:00"\npartition = "gpu"\n')
    options = load_workspace(workspace.root).slurm
    assert (options.time, options.partition, options.executor) == (120, "gpu", "slurm")
    changed = change_options(options, ["time=1-0", 'options=["exclusive"]', "gpus=2"])
    assert (changed.time, changed.partition, changed.gpus) == (1440, "gpu", 2)
    assert changed.options == ("exclusive",)
    with pytest.raises(ConfigError) as caught:
        change_options(options, ["gpu=2", "time=soon", "x"])
    assert len(caught.value.problems) == 3


def put_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, **programs: str) -> None:
    """Programs of these names, which stand for those of Slurm; each writes down its call."""
    folder.mkdir()
    for name, script in programs.items():
        path = folder / name
        path.write_text(f'#!/bin/sh\necho "{name} $*" >> {folder}/calls\n{script}\n')
        path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")


def make_waiting(workspace: Workspace) -> str:
    recorder = Recorder.create(
        workspace.runs_dir,
        kind="train",
        config={},
        parent=None,
        note="",
        fingerprints={},
        waits=True,
    )
    return recorder.finish("pending").name


def test_a_job_is_submitted_with_what_the_workspace_asks_for(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    programs = tmp_path / "bin"
    asked = programs / "script"
    put_on_path(
        programs,
        monkeypatch,
        sbatch=f'cp "$1" {asked}; echo "Submitted batch job 4711"',
        srun="exit 1",
        squeue='echo "4711"',
        scancel="exit 0",
    )
    options = SlurmOptions(partition="gpu", mem_gb=32, options=("constraint=a100", "exclusive"))
    config = Config(train=TrainConfig(devices=2))
    name = make_waiting(workspace)
    job = submit_run(workspace, name, config, options)
    assert job.title == "Slurm job 4711"
    lines = asked.read_text().splitlines()
    for line in (
        "#SBATCH --signal=USR1@120",
        "#SBATCH --requeue",
        "#SBATCH --time=240",
        "#SBATCH --partition=gpu",
        "#SBATCH --gpus-per-node=2",
        "#SBATCH --cpus-per-task=10",
        "#SBATCH --mem=32GB",
        "#SBATCH --constraint=a100",
        "#SBATCH --exclusive",
        "#SBATCH --job-name=tracker-exp1",
        "export SUBMITIT_PREEMPT_SIGNAL=USR1 PYTHONSAFEPATH=1",
    ):
        assert line in lines
    settle_gone(workspace)
    assert load_run(workspace.runs_dir, name).status == "pending"
    record = stop_run(workspace, name, reason="stopped by mina")
    assert (record.status, record.error) == ("interrupted", "stopped by mina")
    assert (programs / "calls").read_text().splitlines()[-1] == "scancel 4711"
    # workers of a sweep
    jobs = submit_sweep(workspace, Path("lr.toml"), 3, config, options)
    assert [each.number for each in jobs] == ["4711_0", "4711_1", "4711_2"]
    assert "#SBATCH --array=0-2%3" in asked.read_text().splitlines()


def test_what_slurm_refuses_is_told_and_the_run_may_be_submitted_again(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusal = 'echo "sbatch: error: invalid partition specified: gpuu" >&2; exit 1'
    put_on_path(tmp_path / "bin", monkeypatch, sbatch=refusal, srun="exit 1")
    name = make_waiting(workspace)
    with pytest.raises(TrackerError, match="invalid partition specified: gpuu"):
        submit_run(workspace, name, Config(), SlurmOptions(partition="gpuu"))
    record = load_run(workspace.runs_dir, name)
    assert record.status == "failed"
    assert "gpuu" in record.error
    assert put_back(workspace.runs_dir, name).status == "preempted"


def test_without_a_cluster_and_for_several_machines_no_job_is_made(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError, match="no sbatch here"):
        check_job(SlurmOptions(), TrainConfig())
    with pytest.raises(ConfigError, match="one machine"):
        check_job(SlurmOptions(executor="local"), TrainConfig(num_nodes=2))


# --- Runs that wait ---


def test_a_run_that_waits_is_no_run_to_resume_or_archive(workspace: Workspace) -> None:
    name = make_waiting(workspace)
    with pytest.raises(ConfigError, match="exp1 waits for a job"):
        Recorder.reopen(workspace.runs_dir, name)
    with pytest.raises(ConfigError, match="exp1 is pending: nothing was archived"):
        archive_runs(workspace, [name])
    with pytest.raises(ConfigError, match="exp1 is pending"):
        put_back(workspace.runs_dir, name)
    begun = Recorder.reopen(workspace.runs_dir, name, job="12")
    assert begun.finish("preempted").finished_at is None
    assert read_kinds(workspace.root, name) == ["pending", "started", "preempted"]


def test_a_run_whose_job_is_gone_is_interrupted(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = {"executor": "slurm", "number": "12", "submitted": utc_now()}
    name = make_waiting(workspace)
    (workspace.runs_dir / name / JOB_NAME).write_text(json.dumps(job))
    settle_gone(workspace)  # no squeue here: nothing is known
    assert load_run(workspace.runs_dir, name).status == "pending"
    gone = 'echo "slurm_load_jobs error: Invalid job id specified" >&2; exit 1'
    put_on_path(tmp_path / "bin", monkeypatch, squeue=gone)
    settle_gone(workspace)
    record = load_run(workspace.runs_dir, name)
    assert (record.status, record.error) == ("interrupted", "Slurm job 12 has left the queue")


def test_a_run_of_a_job_finds_the_note_of_a_stop_on_another_machine(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recording, "HEARTBEAT_S", 0.01)
    received = threading.Event()
    before = signal.signal(signal.SIGINT, lambda *_: received.set())
    recorder = begin_run(workspace)
    try:
        (recorder.folder / STOP_NAME).write_text('{"elsewhere": true}')
        assert not received.wait(0.2)
        recorder.params({JOB_FACT: "12"})
        wait_until(received.is_set)
    finally:
        recorder.finish("interrupted")
        signal.signal(signal.SIGINT, before)
