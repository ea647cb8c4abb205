"""Trainings and sweeps as jobs: submitit's local executor runs them here, and is told to go."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.support.forks import Forks
from tests.support.trained_runs import count_points, read_kinds, read_record, wait_until

HERE = ("--slurm-set", "executor=local")


@pytest.mark.slow
def test_a_job_that_is_preempted_twice_ends_with_the_weights_of_an_uninterrupted_run(
    training_root: Path, forks: Forks
) -> None:
    root = training_root
    forks.run("run", "train", "base.toml", "-q", cwd=root)
    done = forks.run("run", "train", "base.toml", "--force", "--slurm", *HERE, cwd=root)
    assert done.stdout.startswith("exp2 waits for job ")
    trained = 0
    for _ in range(2):
        wait_until(lambda seen=trained: len(count_points(root, "exp2")) > seen + 20)
        pid = read_record(root, "exp2")["pid"]
        os.kill(pid, signal.SIGTERM)  # Slurm's first word: it ends nothing
        os.kill(pid, signal.SIGUSR1)
        wait_until(lambda old=pid: read_record(root, "exp2")["pid"] != old)
        trained = len(count_points(root, "exp2"))
    done = forks.run("logs", "exp2", "-f", cwd=root)
    one, other = (read_record(root, run) for run in ("exp1", "exp2"))
    assert (other["status"], other["epoch"]) == ("finished", 30), done.stdout
    assert other["fingerprints"]["weights"] == one["fingerprints"]["weights"]
    assert count_points(root, "exp2") == count_points(root, "exp1")
    assert set(count_points(root, "exp2").values()) == {1}
    again = ["preempted", "resumed"]
    assert read_kinds(root, "exp2") == ["pending", "started", *again, *again, "finished"]
    assert done.stdout.count("-- resumed ") == 2
    assert "exp2 finished" in done.stdout
