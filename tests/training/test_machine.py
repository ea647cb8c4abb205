"""Several trainings on one machine share its cores."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import COMMAND_LIMIT_S, ROOT
from tracker.training import machine
from tracker.training.machine import (
    count_own_cores,
    count_trainings,
    find_trainings_folder,
    register_training,
)
from tracker.training.processes import share_cores
from tracker.training.run.loop import _describe_share

TRAINING = """
import sys
from tracker.training.machine import count_trainings, register_training
with register_training():
    print(count_trainings(), flush=True)
    sys.stdin.read()
"""


FREED = """
import resource, sys
import numpy as np
from tracker.training.machine import keep_memory
keep_memory()
def count_new_pages():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for megabytes in (1, 40, 100):
        np.empty(megabytes << 20, dtype=np.uint8).fill(1)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
print(count_new_pages(), count_new_pages())
"""


def start_training() -> subprocess.Popen[str]:
    """Another process that trains, until its stdin is closed or it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", TRAINING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert process.stdout
    assert process.stdout.readline() == "1\n"
    return process


def test_the_sentence_about_shared_cores_says_why_a_training_uses_more_than_its_share(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in (("count_trainings", 2), ("count_cores", 8)):
        monkeypatch.setattr(f"tracker.training.run.loop.{name}", lambda value=value: value)
    monkeypatch.setattr("torch.get_num_threads", lambda: 4)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    others = "2 trainings share this machine: this one"
    assert _describe_share(None) == _describe_share(64) == f"{others} uses 4 threads of 8"
    kept = "goes on with 4 threads, as it began: another number may change the weights"
    assert _describe_share(4) == f"{others} {kept}"
    monkeypatch.setenv("OMP_NUM_THREADS", "4")
    assert _describe_share(None) == f"{others} uses 4 threads, as OMP_NUM_THREADS says"


def test_cores_are_divided_among_the_trainings_that_run_and_a_killed_one_has_no_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("tracker.training.machine.count_cores", lambda: 8)
    monkeypatch.setattr("tracker.training.processes.count_cores", lambda: 8)
    before = torch.get_num_threads()
    torch.set_num_threads(8)

    def share(world: int = 1, threads: int | None = None) -> tuple[int, int, int]:
        with share_cores(world, threads):
            found = (count_trainings(), count_own_cores(), torch.get_num_threads())
        assert (count_trainings(), torch.get_num_threads()) == (1, 8)
        return found

    try:
        assert share() == (1, 8, 8)
        with start_training() as other:
            assert share() == (2, 4, 4)
            assert share(world=2) == (2, 4, 2)
            assert share(threads=3) == (2, 4, 3)
            assert share(threads=64) == (2, 4, 8)
            monkeypatch.setenv("OMP_NUM_THREADS", "8")
            assert share() == (2, 4, 8)
            monkeypatch.delenv("OMP_NUM_THREADS")
            other.kill()
            other.communicate(timeout=COMMAND_LIMIT_S)
            assert share() == (1, 8, 8)
    finally:
        torch.set_num_threads(before)
    assert list(find_trainings_folder().iterdir()) == []


def test_a_training_that_cannot_be_registered_counts_as_the_only_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "tracker-trainings").write_text("a file where the folder should be")
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    with register_training():
        assert count_trainings() == 1
    (tmp_path / "tracker-trainings").unlink()
    monkeypatch.setattr(machine, "fcntl", None)
    with register_training():
        assert count_trainings() == 1


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another malloc")
def test_memory_that_was_freed_is_used_again_without_new_pages() -> None:
    done = subprocess.run(
        [sys.executable, "-c", FREED],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_LIMIT_S,
    )
    first, later = map(int, done.stdout.split())
    assert later < first / 10


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another OpenMP")
@pytest.mark.parametrize(
    ("own", "turns"),
    [({}, "1000"), ({"OMP_WAIT_POLICY": "passive"}, "0"), ({"GOMP_SPINCOUNT": "70"}, "70")],
)
def test_threads_that_wait_leave_their_core_soon_unless_the_user_says_otherwise(
    own: dict[str, str], turns: str
) -> None:
    names = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
    environment = {name: text for name, text in os.environ.items() if name not in names}
    done = subprocess.run(
        [sys.executable, "-c", "import tracker.training.model.model"],
        env={**environment, **own, "OMP_DISPLAY_ENV": "verbose"},
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=COMMAND_LIMIT_S,
    )
    assert f"GOMP_SPINCOUNT = '{turns}'" in done.stderr  # what libgomp says that it has read
