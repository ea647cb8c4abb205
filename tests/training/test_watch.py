"""What ends a run of several processes when one of them has ended, or cannot be reached."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.conftest import COMMAND_LIMIT_S
from tests.support.torchrun import run_two_processes
from tracker.training import processes
from tracker.training.config import TrainConfig
from tracker.training.errors import TrainingError
from tracker.training.run.checkpoint import save_checkpoint
from tracker.training.watch import is_loader_terminated

# a mutex that is locked twice: a wait in C that no signal ends
STUCK = """
import ctypes, signal, subprocess, sys
from tracker.training import watch
watch.FREE_S = watch.GIVE_UP_S = 0.2
def interrupt(*_):
    raise KeyboardInterrupt
signal.signal(signal.SIGTERM, interrupt)
mutex, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
with watch.ProcessWatch(lambda error: print(repr(error), flush=True)) as group:
    if sys.argv[1:]:
        process = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stderr=subprocess.PIPE)
        group.workers.append(watch.Worker(1, process))
    try:
        print("begun", flush=True)
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
    except KeyboardInterrupt:  # the signal was quicker than the lock
        libc.pthread_mutex_lock(mutex)
        libc.pthread_mutex_lock(mutex)
"""

# what happens between the processes of a training, without one
UNDER_TORCHRUN = """
import os, time
from tracker.training import processes
from tracker.training.config import TrainConfig
if os.environ["RANK"] == "1":
    processes.join_group()
    processes.torch.distributed.broadcast_object_list([None], src=0)
    processes.report_failure("process 1: DataError: x.png: the image is broken")
    raise SystemExit(2)
signal = processes.signal
signal.signal(signal.SIGTERM, signal.default_int_handler)
try:
    with processes.share_work(TrainConfig(devices=2), {}, first=True, on_stuck=print):
        time.sleep(600)
except processes.TrainingError as error:
    with open("reason", "w") as file:
        file.write(str(error))
"""


def test_a_process_that_dies_before_it_arrives_ends_the_run_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def start(rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
        code = "import no_such_module_here" if rank == 1 else "import time; time.sleep(600)"
        started.append(subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE))
        return started[-1]

    started: list[subprocess.Popen[bytes]] = []
    monkeypatch.setattr(processes, "_start", start)
    reason = (
        r"^process 1 of this run ended unexpectedly \(exit code 1\): ModuleNotFoundError:"
        r" .*no_such_module_here"
    )
    with (
        pytest.raises(TrainingError, match=reason),
        processes.share_work(TrainConfig(devices=3), {}, first=True, on_stuck=lambda _: None),
    ):
        pytest.fail("the work began")
    assert [process.poll() is not None for process in started] == [True, True]


def test_a_main_thread_that_nothing_frees_is_ended_with_the_reason_of_the_other() -> None:
    worker = "import time; time.sleep(1); raise ValueError('the disk is gone')"
    done = subprocess.run(
        [sys.executable, "-c", STUCK, worker],
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert done.returncode == 1, done.stderr
    reason = "process 1 of this run ended unexpectedly (exit code 1): ValueError: the disk is gone"
    assert done.stdout.splitlines() == ["begun", repr(TrainingError(reason))]


def test_a_signal_ends_a_main_thread_that_nothing_frees() -> None:
    child = subprocess.Popen([sys.executable, "-c", STUCK], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "begun\n"
    os.kill(child.pid, signal.SIGTERM)
    stdout, _ = child.communicate(timeout=COMMAND_LIMIT_S)
    assert (child.returncode, stdout) == (130, "KeyboardInterrupt('SIGTERM')\n")


ENDED_AT_ONCE = "import os, signal; os.kill(os.getpid(), signal.SIGTERM)"
ENDED_IN_THE_WORK = f"""
from tracker.training import processes
processes.join_group()
processes.torch.distributed.broadcast_object_list([None], src=0)
{ENDED_AT_ONCE}
"""


@pytest.mark.parametrize("code", [ENDED_AT_ONCE, ENDED_IN_THE_WORK], ids=["at once", "in the work"])
def test_sigterm_to_another_process_alone_interrupts_the_run_too(
    monkeypatch: pytest.MonkeyPatch, code: str
) -> None:
    def start(rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
        group = {"RANK": str(rank), "WORLD_SIZE": str(world), "MASTER_PORT": str(port)}
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code],
            env={**os.environ, **group},
            stderr=subprocess.PIPE,
        )

    monkeypatch.setattr(processes, "_start", start)
    with (
        pytest.raises(KeyboardInterrupt, match=r"^SIGTERM$"),
        processes.share_work(TrainConfig(devices=2), {}, first=True, on_stuck=lambda _: None),
    ):
        # the other process never takes part in this
        processes.torch.distributed.all_reduce(torch.ones(1))


class Waits(torch.utils.data.Dataset[int]):
    """Its second item never comes."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> int:
        time.sleep(600 * index)
        return index


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_loader_process_that_was_stopped_is_told_from_a_killed_one_without_torchs_word(
    number: signal.Signals,
) -> None:
    batches = iter(torch.utils.data.DataLoader(Waits(), num_workers=1, batch_size=1))
    assert next(batches) == 0
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # torch's own looks at the signal
    try:
        # From a process of its own: torch's loaders end with 0 when their parent stops them.
        loader = batches._workers[0].pid  # type: ignore[attr-defined]
        subprocess.run(["kill", f"-{number.value}", str(loader)], check=True)
        with pytest.raises(RuntimeError, match="exited unexpectedly") as caught:
            next(batches)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert is_loader_terminated(caught.value) == (number == signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_broken_connection_is_told_by_how_the_loader_process_ended(
    number: signal.Signals,
) -> None:
    class Broken:
        def get(self, timeout: float) -> None:
            raise ConnectionResetError(104, "Connection reset by peer")

    batches: Any = iter(torch.utils.data.DataLoader(Waits(), num_workers=1, batch_size=1))
    assert next(batches) == 0
    before = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    try:
        batches._data_queue = Broken()  # a moment before the end of the process is seen
        with pytest.raises(ConnectionResetError) as caught:
            next(batches)
        subprocess.run(["kill", f"-{number.value}", str(batches._workers[0].pid)], check=True)
        batches._workers[0].join()
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert is_loader_terminated(caught.value) == (number == signal.SIGTERM)


@pytest.mark.slow
def test_the_reason_of_a_process_under_torchrun_is_told_though_its_end_arrives_as_a_signal(
    tmp_path: Path,
) -> None:
    (tmp_path / "script.py").write_text(UNDER_TORCHRUN)
    run_two_processes(tmp_path / "script.py", cwd=tmp_path)
    assert (tmp_path / "reason").read_text() == "process 1: DataError: x.png: the image is broken"


def test_a_loader_that_dies_while_a_checkpoint_is_written_is_no_full_disk(tmp_path: Path) -> None:
    """Torch raises it wherever the program is; here while an object is written."""

    class Written:
        def __reduce__(self) -> str:
            raise RuntimeError("DataLoader worker (pid 7) is killed by signal: Killed. ")

    with pytest.raises(RuntimeError, match="DataLoader worker"):
        save_checkpoint(tmp_path / "last.pth", {"epoch": Written()})
    assert list(tmp_path.iterdir()) == []
