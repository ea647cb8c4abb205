"""Runs in the background, in queues and sweeps: real processes, terminals that close, kill -9."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, make_pictures, run_tracker, tracker_command
from tests.support.forks import PROGRAM, Child, Forks
from tests.support.servers import PostgresServer
from tests.support.trained_runs import read_record, wait_until

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
    folders = ("--train-dir", folder / "train", "--eval-dir", folder / "eval")
    run_tracker("init", folder, *folders, "--no-pretrained", cwd=tmp_path)
    (folder / "base.toml").write_text(BASE)
    return folder


def list_runs(root: Path) -> list[dict[str, Any]]:
    """Oldest first."""
    found: list[dict[str, Any]] = json.loads(run_tracker("runs", "--json", cwd=root).stdout)
    return found[::-1]


def read_terminal(descriptor: int, until: bytes) -> bytes:
    """What a program wrote to its terminal, up to a word."""
    text = b""
    while until not in text:
        part = os.read(descriptor, 1000)
        assert part, text
        text += part
    return text


# --- Detached runs ---


def test_a_detached_run_survives_its_terminal_and_is_stopped_with_best_weights_and_status(
    root: Path,
) -> None:
    words = tracker_command("run", "train", "base.toml", "--epochs", "5000", "--detach")
    pid, terminal = pty.fork()
    if not pid:
        os.chdir(root)
        signal.signal(
            signal.SIGHUP, signal.SIG_DFL
        )  # under nohup it is ignored, and children inherit that
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
    assert shown_lines[0] == "exp1: 12 training, 4 validation images"
    assert shown_lines[1].startswith("split: training / validation have ")
    # another training of this machine may be told of in between
    assert any(line.startswith("epoch 1/5000  train/loss ") for line in shown_lines[2:4])
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert done.returncode == 1
    assert "exp1 is not running: it is interrupted" in done.stderr


def test_what_is_wrong_with_a_detached_run_is_told_at_once_with_its_exit_code(
    root: Path, forks: Forks
) -> None:
    words = ("run", "train", "base.toml", "--detach")
    done = forks.run(*words, "--set", "optim.lrr=1", cwd=root, ok=False, spares=1)
    assert done.returncode == 2
    assert "optim.lrr" in done.stderr
    (root / "train" / "cat" / "cat00.png").write_bytes(b"no image")  # found by the child
    done = forks.run(*words, cwd=root, ok=False, spares=1)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert "cat00.png" in done.stderr
    assert list_runs(root) == []


def test_logs_follow_a_run_to_its_end_and_stop_leaves_other_hosts_and_reused_numbers_alone(
    root: Path, forks: Forks
) -> None:
    words = ("run", "train", "base.toml", "--epochs", "5000", "--detach")
    forks.run(*words, cwd=root, spares=1)
    path = root / "runs" / "exp1" / "run.json"
    wait_until(lambda: read_record(root, "exp1")["epoch"] >= 1)
    record = read_record(root, "exp1")
    os.kill(record["pid"], signal.SIGSTOP)  # it writes nothing now
    path.write_text(json.dumps({**record, "host": "elsewhere"}))
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert "exp1 runs on elsewhere" in done.stderr
    path.write_text(json.dumps({**record, "pid": os.getpid()}))
    done = run_tracker("stop", "exp1", cwd=root, ok=False)
    assert f"but process {record['pid']} has its folder" in done.stderr
    path.write_text(json.dumps(record))
    done = run_tracker("stop", "exp1", "--wait", "0.2", cwd=root, ok=False)
    assert done.returncode == 1
    assert "has not ended after 0 s" in done.stderr
    os.kill(record["pid"], signal.SIGCONT)
    done = run_tracker("logs", "exp1", "-f", cwd=root)
    assert "exp1 interrupted" in done.stdout.splitlines()[-1]
    forks.run("run", "train", "--from", "exp1", "--set", "train.epochs=2", "--force", cwd=root)
    attached = run_tracker("logs", "exp2", cwd=root).stdout.splitlines()
    assert [line.partition("  ")[0] for line in attached[:2]] == ["epoch 1", "epoch 2"]
    assert attached[2].startswith("exp2 finished: best epoch ")


# --- Output that nobody can read any more ---


def start_in_terminal(
    root: Path, forks: Forks, *words: str, deaf: bool = False, spares: int = 0
) -> tuple[Child, int]:
    """A command as the first of a terminal of its own: its process, and our end; `deaf`: as under
    nohup."""
    terminal, theirs = pty.openpty()
    child = forks.start(*words, cwd=root, writes_to=theirs, deaf=deaf, spares=spares)
    os.close(theirs)
    return child, terminal


@pytest.mark.parametrize("deaf", [False, True])
def test_a_training_outlives_its_terminal_in_the_middle_of_an_epoch(
    root: Path, forks: Forks, deaf: bool
) -> None:
    words = ("run", "train", "base.toml", "--epochs", "5000", "--set", "data.workers=1")
    child, terminal = start_in_terminal(root, forks, *words, deaf=deaf)
    read_terminal(terminal, b"epoch 2/")
    os.close(terminal)
    log = root / "runs" / "exp1" / "output.log"
    wait_until(lambda: log.is_file() and log.read_text().count("  train/loss ") >= 3)
    first, *others = log.read_text().splitlines()
    reason = (
        "accepts no more output (Input/output error)"
        if deaf
        else "the terminal was closed (SIGHUP)"
    )
    assert first.endswith(f"{reason}: output continues here; tracker stop exp1 ends the run")
    assert "\x1b" not in "".join(others)
    assert len(others) < read_record(root, "exp1")["epoch"] + 3  # no steps of a progress bar
    followed = start(root, "logs", "latest", "-f")
    run_tracker("stop", "latest", cwd=root)
    assert child.wait() == 130
    assert first in followed.communicate(timeout=COMMAND_LIMIT_S)[0]
    (run,) = list_runs(root)
    assert run["status"] == "interrupted"
    assert run["error"].startswith("stopped by ")


def test_broken_pipes_full_disks_and_closed_descriptors_end_no_run(
    root: Path, forks: Forks
) -> None:
    words = (*tracker_command("run", "train", "base.toml"), "--force")
    piped = forks.start("run", "train", "base.toml", "--force", cwd=root)
    piped.stderr.readline()
    piped.stderr.close()
    piped.stdout.close()
    assert piped.wait(timeout=COMMAND_LIMIT_S) == 0
    with Path("/dev/full").open("w") as full:
        child = forks.start(
            "run", "train", "base.toml", "--force", cwd=root, writes_to=full.fileno()
        )
        assert child.wait() == 0
    subprocess.run(
        ["sh", "-c", '"$@" >&- 2>&- <&-', "sh", *words],
        cwd=root,
        check=True,
        timeout=COMMAND_LIMIT_S,
    )
    reasons = (
        "accepts no more output (Broken pipe)",
        "(No space left on device)",
        "stdout or stderr was closed",
    )
    for run, reason in zip(list_runs(root), reasons, strict=True):
        assert run["status"] == "finished"
        lines = (root / "runs" / run["name"] / "output.log").read_text().splitlines()
        assert reason in lines[0]
        assert any(line.startswith(f"{run['name']} finished: best epoch ") for line in lines)
    assert not list((root / ".tracker" / "output").iterdir())
    infer = ("run", "infer", "--from", "exp1", "--set", "eval.tta=flip")
    with Path("/dev/full").open("w") as full:
        assert forks.start(*infer, cwd=root, writes_to=full.fileno()).wait() == 0
    assert "exp4 finished: weights of exp1" in (root / "runs" / "exp4" / "output.log").read_text()


def test_folds_and_a_queue_outlive_their_terminals(root: Path, forks: Forks) -> None:
    child, terminal = start_in_terminal(root, forks, "run", "train", "base.toml", "--folds", "2")
    read_terminal(terminal, b"exp1: ")
    os.close(terminal)
    assert child.wait() == 0
    assert [run["kind"] for run in list_runs(root)] == ["train", "train", "ensemble"]
    assert "epoch 2/2" in (root / "runs" / "exp2" / "output.log").read_text()
    (root / "q.toml").write_text(
        '[[run]]\nconfig = "base.toml"\nseed = 1\n[[run]]\nconfig = "base.toml"\nseed = 2\n'
    )
    child, terminal = start_in_terminal(root, forks, "run", "queue", "q.toml", spares=2)
    read_terminal(terminal, b"epoch 1/")
    os.close(terminal)
    assert child.wait() == 0
    assert [run["status"] for run in list_runs(root)] == ["finished"] * 5
    (log,) = (root / ".tracker" / "queues").glob("*/output.log")
    assert "the terminal was closed (SIGHUP): output continues here; kill " in log.read_text()
    assert "entry 2 finished" in log.read_text()


# --- Runs of several processes ---


def begin_run_of_two(
    root: Path, forks: Forks, *words: str
) -> tuple[Child, psutil.Process, list[psutil.Process]]:
    """A run past its next epoch: its first process, its follower, and all but the mirror."""
    before = read_record(root, "exp1")["epoch"]
    first = forks.start("run", "train", *words, cwd=root, workers=1)
    wait_until(
        lambda: read_record(root, "exp1")["epoch"] > max(before, 0) or first.poll() is not None
    )
    assert first.poll() is None, first.communicate()
    children = psutil.Process(first.pid).children(recursive=True)
    others = [process for process in children if process.name() not in ("mirror", "spare")]
    direct = [process for process in others if process.ppid() == first.pid]
    (follower,) = (process for process in direct if process.name() == "worker")
    return first, follower, others


def end(first: Child, others: list[psutil.Process]) -> tuple[int, str]:
    """Wait for the end of all processes of a run; the exit code and stderr of the first."""
    _, stderr = first.communicate(timeout=COMMAND_LIMIT_S)
    assert psutil.wait_procs(others, timeout=COMMAND_LIMIT_S)[1] == []
    return first.wait(), stderr


def test_no_process_of_a_run_goes_on_alone(root: Path, forks: Forks) -> None:
    two = ("base.toml", "--epochs", "5000", "--set", "train.devices=2", "--set", "data.workers=1")
    first, follower, others = begin_run_of_two(root, forks, *two)
    follower.kill()
    code, stderr = end(first, others)
    reason = "process 1 of this run ended unexpectedly (killed by SIGKILL)"
    assert (code, read_record(root, "exp1")["status"]) == (1, "failed")
    assert read_record(root, "exp1")["error"].startswith(reason)
    assert f"error: {reason}" in stderr
    assert "Traceback" not in stderr

    first, _, others = begin_run_of_two(root, forks, "--resume")
    first.kill()
    assert end(first, others)[0] == -signal.SIGKILL
    assert list_runs(root)[0]["status"] == "killed"

    first, follower, others = begin_run_of_two(root, forks, "--resume")
    follower.suspend()  # the first waits for it in a collective, where no signal reaches it
    first.send_signal(signal.SIGTERM)
    code, stderr = end(first, others)
    assert (code, read_record(root, "exp1")["status"]) == (130, "interrupted")
    assert "exp1 was interrupted (SIGTERM); continue with: " in stderr

    first, _, others = begin_run_of_two(root, forks, "--resume")
    for process in [psutil.Process(first.pid), *others]:  # as systemd and Slurm do
        with suppress(psutil.NoSuchProcess):  # the first may have ended it
            process.terminate()
    code, stderr = end(first, others)
    assert (code, read_record(root, "exp1")["status"]) == (130, "interrupted"), stderr
    assert "bug in tracker" not in stderr


def begin_run_with_loaders(
    root: Path, forks: Forks, *words: str
) -> tuple[Child, list[psutil.Process]]:
    """A run in a session of its own, past its next epoch, and its loader processes."""
    before = max(read_record(root, "exp1")["epoch"], 0)
    child = forks.start("run", "train", *words, cwd=root, session=True)
    wait_until(lambda: read_record(root, "exp1")["epoch"] > before or child.poll() is not None)
    # between two epochs there are none
    wait_until(lambda: len(list_loaders(child)) >= 2 or child.poll() is not None)
    assert child.poll() is None, child.communicate()
    return child, list_loaders(child)


def list_loaders(child: Child) -> list[psutil.Process]:
    """The processes below a run that read its images."""
    found = []
    with suppress(psutil.NoSuchProcess):  # one that has just ended
        for process in psutil.Process(child.pid).children(recursive=True):
            if process.name() not in ("mirror", "spare"):
                found.append(process)
    return found


def test_sigterm_to_all_processes_of_a_run_interrupts_it_and_sigkill_to_a_loader_process_fails_it(
    root: Path, forks: Forks
) -> None:
    (root / "sig.toml").write_text(BASE.replace("workers = 0", "workers = 2"))
    child, loaders = begin_run_with_loaders(root, forks, "sig.toml", "--epochs", "5000")
    for process in loaders:  # those first, and one after the other
        process.terminate()
        time.sleep(0.1)
    os.killpg(child.pid, signal.SIGTERM)
    code, stderr = end(child, loaders)
    record = read_record(root, "exp1")
    assert (code, record["status"], record["error"]) == (130, "interrupted", "SIGTERM"), stderr
    assert stderr.endswith(
        "exp1 was interrupted (SIGTERM); continue with: tracker run train --from exp1 --resume\n"
    )
    assert not any(word in stderr for word in ("bug in tracker", "memory", "error", "Error"))

    child, loaders = begin_run_with_loaders(root, forks, "--resume")
    loaders[0].kill()
    code, stderr = end(child, loaders)
    record = read_record(root, "exp1")
    assert (code, record["status"]) == (1, "failed"), stderr
    assert record["error"].startswith("a loader process died: ")
    assert "memory may be short" in stderr and "bug in tracker" not in stderr

    child, loaders = begin_run_with_loaders(root, forks, "--resume")
    loaders[-1].terminate()  # the signal for the run itself is lost or late
    code, stderr = end(child, loaders)
    assert (code, read_record(root, "exp1")["error"]) == (130, "SIGTERM"), stderr


# The first process is stopped while a loader process hands it a batch: it hangs up.
HANGS_UP = """
import multiprocessing.connection as connection, os, signal, sys, time
pid, answer, calls = os.getpid(), connection.answer_challenge, []
def hang_up(channel, key):
    if os.getpid() == pid:
        calls.append(channel)
        if len(calls) == 2:
            channel.close()
            time.sleep(2)  # the loader process has seen it by then, and still runs
            os.kill(pid, signal.SIGTERM)
            return
    answer(channel, key)
connection.answer_challenge = hang_up
"""
TRAINS = """
from tracker.cli import main
sys.argv = ["tracker", "run", "train", "base.toml", "--set", "data.workers=1", "--epochs", "9"]
main()
"""
OWN_LOOP = """
import torch, tracker
from torch.utils.data import DataLoader
with tracker.start_run({"train": {"epochs": 9}}, follow=False) as run:
    for epoch in range(9):
        for batch in DataLoader(torch.arange(64.0), batch_size=4, num_workers=1):
            run.log({"train/loss": float(batch.sum())})
"""


@pytest.mark.parametrize("program", [TRAINS, OWN_LOOP], ids=["run train", "own loop"])
def test_a_loader_process_whose_batch_nobody_takes_anymore_prints_nothing(
    root: Path, program: str, forks: Forks
) -> None:
    (root / "program.py").write_text(HANGS_UP + program)
    child = forks.start("program.py", cwd=root, module=PROGRAM)
    _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
    record = read_record(root, "exp1")
    assert (record["status"], record["error"]) == ("interrupted", "SIGTERM"), stderr
    assert child.wait() in (130, -signal.SIGINT), stderr
    assert not any(word in stderr for word in ("bug in tracker", "Traceback", "EOFError"))
    assert "exp1 was interrupted" in stderr.splitlines()[-1]


# As where SIGTERM ends all processes: a lock breaks, and torch hears of its loader processes later.
BREAKS = """
import os, signal, threading, time, tracker
def hear(*_):
    raise RuntimeError("DataLoader worker (pid 1) is killed by signal: Terminated.")
run = tracker.start_run({}, follow=False)
signal.signal(signal.SIGCHLD, hear)
def explain():
    os.kill(os.getpid(), signal.SIGCHLD)
    time.sleep(0.01)
    return "as before"
run.explain_resume = explain
def stop():
    try:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
    except KeyboardInterrupt:
        threading.Condition(threading.Lock()).__exit__(None, None, None)  # release unlocked lock
"""
IN_A_BLOCK, AT_THE_END = "with run:\n    stop()\n", "stop()\n"


@pytest.mark.parametrize("where", [IN_A_BLOCK, AT_THE_END], ids=["with block", "script"])
def test_what_sigterm_breaks_in_a_script_is_neither_shown_nor_breaks_off_its_record(
    root: Path, where: str
) -> None:
    command = [sys.executable, "-P", "-c", BREAKS + where]
    done = subprocess.run(
        command, cwd=root, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    assert (done.returncode, read_record(root, "exp1")["status"]) == (130, "interrupted")
    assert done.stderr.splitlines() == [
        "exp1 started in runs/exp1",
        "exp1 was interrupted (SIGTERM). Resume: as before",
    ]


def test_a_script_whose_run_cannot_start_says_so_in_two_lines(root: Path) -> None:
    def run(code: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-P", "-c", f"import tracker\n{code}"]
        return subprocess.run(
            command, cwd=root, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
        )

    assert run("tracker.start_run({}, follow=False, quiet=True)").returncode == 0
    done = run('tracker.start_run({}, resume="exp1")')
    hint = 'parent="exp1", without resume, starts a new run from it'
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error: exp1 is finished and cannot be resumed", f"  try: {hint}"],
    )
    done = run('try: tracker.start_run({}, resume="exp1")\nexcept Exception: pass\n1 / 0')
    assert "ZeroDivisionError" in done.stderr and "exp1" not in done.stderr


SWALLOWED = """
import os, signal, time
from tracker.core import signals as ends
ends.REPEAT_INTERRUPT_S = 0.2
class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.01)
with ends.terminate_as_interrupt(repeat=True) as signals:
    try:
        Swallows()
        print("goes on", signals.received, flush=True)
        time.sleep(600)
    except KeyboardInterrupt as error:
        signals.ignore()
        cause = signals.find_cause(ValueError("what a library made of it"))
        print("ends", error, cause, flush=True)
"""


def test_a_signal_that_a_destructor_has_swallowed_ends_the_run_a_bit_later() -> None:
    command = [sys.executable, "-c", SWALLOWED]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_LIMIT_S, check=False
    )
    assert (done.returncode, done.stdout) == (
        0,
        "goes on SIGTERM\nends SIGTERM SIGTERM\n",
    ), done.stderr


# --- Queues ---

QUEUE = """
[[run]]
config = "base.toml"
note = "baseline"
[[run]]
config = "base.toml"
set = { optim.lrr = 1, optim.weight_decay = -1 }
[[run]]
config = "base.toml"
note = "the long one"
epochs = 30
[[run]]
from = "latest"
note = "starts where the third ended"
set = { train.epochs = 1, optim.lr = 0.01, augment.crop = [20, 20] }
[[run]]
config = "base.toml"
note = "the first again"
"""


def start(root: Path, *words: str) -> subprocess.Popen[str]:
    """A tracker command that is not waited for; without COLUMNS, which readline sets behind
    os.environ's back."""
    return subprocess.Popen(
        tracker_command(*words),
        cwd=root,
        env=dict(os.environ),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


def test_a_queue_of_five_with_a_bad_entry_finishes_four_and_resumes_where_it_was_killed(
    root: Path, forks: Forks
) -> None:
    (root / "q.toml").write_text(QUEUE)
    queue = forks.start("run", "queue", "q.toml", cwd=root, spares=2)
    wait_until(lambda: read_record(root, "exp2")["epoch"] >= 2)
    queue.kill()
    kill(read_record(root, "exp2")["pid"])
    _, stderr = queue.communicate(timeout=COMMAND_LIMIT_S)
    assert stderr.startswith("entry 2 will fail: ")
    reached = read_record(root, "exp2")["epoch"]
    (root / "q.toml").write_text(QUEUE.replace("the first again", "the first once more"))
    done = forks.run("run", "queue", "q.toml", cwd=root, ok=False, spares=4)
    assert done.returncode == 1
    assert f"exp2: resumed after epoch {reached} of 30" in done.stderr
    assert "exp1: " not in done.stderr, "a finished entry is not repeated"
    assert f"epoch {reached}/30" not in done.stderr, (
        "what it printed before the kill is not repeated"
    )
    rows = [
        line.split(maxsplit=1) for line in done.stdout.splitlines() if line.strip()[:1].isdigit()
    ]
    assert [row[0] for row in rows] == ["1", "2", "3", "4", "5"]
    words = ["exp1 finished", "- failed", "exp2 finished", "exp3 finished", "exp1 finished"]
    assert all(word in " ".join(row[1].split()) for row, word in zip(rows, words, strict=True))
    assert "optim.lrr: unknown key (nearest: optim.lr)" in done.stdout
    assert "optim.weight_decay: expected at least 0" in done.stdout
    assert "exp1 has the same config, data and code" in done.stdout
    runs = list_runs(root)
    assert [(run["status"], run["epoch"], run["parent"]) for run in runs] == [
        ("finished", 2, None),
        ("finished", 30, None),
        ("finished", 1, "exp2"),
    ]
    assert runs[2]["config"]["augment"]["crop"] == [20, 20]
    assert not list((root / ".tracker" / "output").iterdir())


def test_a_run_that_outlives_its_queue_is_waited_for_and_ctrl_c_ends_both(
    root: Path, forks: Forks
) -> None:
    (root / "q.toml").write_text('[[run]]\nconfig = "base.toml"\nepochs = 5000\n')
    first = forks.run("run", "queue", "q.toml", "--detach", cwd=root, spares=1)
    wait_until(lambda: read_record(root, "exp1")["epoch"] >= 1)
    kill(int(first.stdout.partition("process ")[2].partition("\n")[0]))
    run = read_record(root, "exp1")["pid"]
    second = forks.start("run", "queue", "q.toml", cwd=root)
    assert any(line.startswith("epoch ") for line in second.stderr)
    done = run_tracker("run", "queue", "q.toml", cwd=root, ok=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        3,
        [
            f"error: process {second.pid} is already working on q.toml",
            "  try: wait for it, or kill it",
        ],
    )
    second.send_signal(signal.SIGINT)
    _, stderr = second.communicate(timeout=COMMAND_LIMIT_S)
    assert second.returncode == 130
    assert stderr.endswith("interrupted in entry 1; continue with: tracker run queue q.toml\n")
    record = read_record(root, "exp1")
    assert (record["pid"], record["status"]) == (run, "interrupted")
    assert (root / "runs" / "exp1" / "best.pth").is_file()
    assert len(list_runs(root)) == 1


# --- Sweeps ---

SWEEP = """
trials = 3
monitor = "val/loss"
startup_trials = 1
[base]
config = "base.toml"
note = "which rate"
set = { sched.name = "constant" }
[space]
optim.lr = { low = 1e-9, high = 1.0, log = true }
train.epochs = { low = 1, high = 5000 }
[[first]]
optim.lr = 0.003
train.epochs = 30
[[first]]
optim.lr = 1e-9
train.epochs = 5000
[[first]]
optim.lr = 0.003
train.epochs = 30
"""


def test_a_killed_sweep_goes_on_prunes_a_bad_trial_and_trains_nothing_twice(
    root: Path, forks: Forks
) -> None:
    (root / "lr.toml").write_text(SWEEP)
    sweep = forks.start("run", "sweep", "lr.toml", cwd=root, spares=1)
    wait_until(lambda: read_record(root, "exp1")["epoch"] >= 2)
    sweep.kill()
    kill(read_record(root, "exp1")["pid"])
    sweep.communicate(timeout=COMMAND_LIMIT_S)
    reached = read_record(root, "exp1")["epoch"]
    done = forks.run("run", "sweep", "lr.toml", cwd=root, spares=3)
    assert f"exp1: resumed after epoch {reached} of 30" in done.stderr
    rows = [
        line.split(maxsplit=5) for line in done.stdout.splitlines() if line.strip()[:1].isdigit()
    ]
    assert [row[:4] for row in rows] == [
        ["0", "+", "exp1", "complete"],
        ["1", "exp2", "pruned", "-"],
        ["2", "+", "exp1", "complete"],
    ]
    assert rows[2][4] == rows[0][4]
    assert "exp1 has the same config, data and code" in done.stdout
    assert done.stdout.endswith("train from it: tracker run train --from exp1 --seed 43\n")
    first, second = list_runs(root)
    assert (first["status"], first["epoch"]) == ("finished", 30)
    assert first["note"] == "which rate: optim.lr 0.003, train.epochs 30"
    assert [run["facts"]["trial"] for run in (first, second)] == [0, 1]
    assert first["facts"]["sweep"].startswith("lr-")
    assert rows[0][4] == f"{first['metrics']['val/loss']:.4f}"
    assert (second["status"], second["facts"]["pruned"]) == ("interrupted", True)
    assert second["error"].startswith(f"pruned by {first['facts']['sweep']} after epoch ")
    assert (root / "runs" / "exp2" / "best.pth").is_file()
    done = run_tracker("run", "train", "--resume", cwd=root, ok=False)
    assert "no killed, interrupted or failed run to resume" in done.stderr


def test_two_processes_of_one_sweep_make_its_trials_between_them_and_a_failed_one_counts(
    root: Path, forks: Forks
) -> None:
    (root / "s.toml").write_text(
        'trials = 3\nstartup_trials = 1\n[base]\nconfig = "base.toml"\nepochs = 1\n[space]\n'
        "sched.warmup_epochs = { low = 0, high = 1 }\n[[first]]\nsched.warmup_epochs = 1\n"
    )
    words = ("run", "sweep", "s.toml", "--join")
    workers = [forks.start(*words, cwd=root, spares=3) for _ in range(2)]
    said = [worker.communicate(timeout=COMMAND_LIMIT_S) for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], said
    begun = [
        line[:7]
        for _, stderr in said
        for line in stderr.splitlines()
        if ": sched.warmup_epochs " in line
    ]
    assert sorted(begun) == ["trial 0", "trial 1", "trial 2"]
    assert [run["status"] for run in list_runs(root)] == ["finished", "finished"]
    last = max((stdout for stdout, _ in said), key=lambda text: text.count("complete"))
    assert last.count("complete") == 2
    assert "sched.warmup_epochs: must be less than train.epochs" in last
    (root / "train" / "cat" / "cat00.png").unlink()
    done = run_tracker("run", "sweep", "s.toml", cwd=root, ok=False)
    assert (
        done.returncode,
        "this sweep was started with another base: the data" in done.stderr,
    ) == (
        3,
        True,
    )


TRIALS = 6


def test_a_trial_whose_worker_is_killed_goes_to_another_machine_and_none_is_trained_twice(
    root: Path, forks: Forks, postgres_server: PostgresServer
) -> None:
    text = (
        f"trials = {TRIALS}\nheartbeat_s = 1\nstartup_trials = {TRIALS}\n"
        'pruner = "none"\n[base]\nconfig = "base.toml"\nepochs = 1\n[space]\n'
        "train.epochs = { low = 1, high = 60 }\n"
        "optim.lr = { low = 1e-4, high = 1e-2, log = true }\n"
        "[[first]]\ntrain.epochs = 60\n"
    )
    rest = "".join("[[first]]\ntrain.epochs = 1\n" for _ in range(TRIALS - 1))
    (root / "s.toml").write_text(text + rest)
    # Another machine: its own folder, and nothing in common but the database.
    other = root.parent / "other"
    folders = ("--train-dir", root / "train", "--eval-dir", root / "eval")
    run_tracker("init", other, *folders, "--no-pretrained", cwd=root.parent)
    for name in ("s.toml", "base.toml"):
        (other / name).write_text((root / name).read_text())
    url = postgres_server.create_database()
    words = ("run", "sweep", "s.toml", "--join")
    killed = forks.start(*words, cwd=root, spares=1, TRACKER_SWEEP_URL=url)
    wait_until(lambda: read_record(root, "exp1")["epoch"] >= 1)
    others = [
        forks.start(*words, cwd=other, spares=TRIALS, TRACKER_SWEEP_URL=url) for _ in range(2)
    ]
    killed.kill()
    killed.communicate(timeout=COMMAND_LIMIT_S)
    said = [worker.communicate(timeout=COMMAND_LIMIT_S) for worker in others]
    assert [worker.wait() for worker in others] == [0, 0], said
    assert max(stdout.count("complete") for stdout, _ in said) == TRIALS, said
    record = read_record(root, "exp1")
    assert (record["status"], record["error"]) == ("interrupted", "SIGTERM")
    assert record["epoch"] < 60
    assert sorted(run["facts"]["trial"] for run in list_runs(other)) == list(range(TRIALS))
    assert {run["status"] for run in list_runs(other)} == {"finished"}
