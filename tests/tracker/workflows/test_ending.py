"""How the end of a run is told where its process is ended at once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, ROOT
from tests.support.workspaces import begin_run
from tracker.commands.training import train_command
from tracker.core.errors import InterruptedByUserError, UnknownRunError
from tracker.run_folder.read import list_runs, load_run
from tracker.run_folder.record import RunRecord
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.stop_note import STOP_NAME
from tracker.training.config import Config, DataConfig
from tracker.workflows.ending import record_end
from tracker.workflows.folds import train_folds
from tracker.workspace.tracker_toml import Workspace

# A wait in C that no signal ends, within a training.
STUCK = """
import ctypes, subprocess, sys, threading, time
from pathlib import Path
from tracker.run_folder.recorder import Recorder
from tracker.training import watch
from tracker.workflows.ending import record_end, record_stuck
from tracker.workspace.tracker_toml import find_workspace
watch.FREE_S = watch.GIVE_UP_S = 0.2
workspace = find_workspace()
recorder = Recorder.reopen(workspace.runs_dir, "exp1")
mutex, libc = ctypes.create_string_buffer(128), ctypes.CDLL(None)
waiting = Path(f"/proc/self/task/{threading.get_native_id()}/syscall")
def tell():  # when the main thread waits for the lock, where no signal reaches Python
    while hex(ctypes.addressof(mutex)) not in waiting.read_text():
        time.sleep(0.01)
    print("begun", flush=True)
with record_end(workspace, recorder):
    with watch.ProcessWatch(lambda error: record_stuck(workspace, recorder, error)) as group:
        if sys.argv[1:]:
            process = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stderr=subprocess.PIPE)
            group.workers.append(watch.Worker(1, process))
        threading.Thread(target=tell, daemon=True).start()
        for _ in range(2):
            libc.pthread_mutex_lock(mutex)
"""


def start_stuck(workspace: Workspace, *words: str) -> subprocess.Popen[str]:
    begin_run(workspace, config={"train": {"epochs": 2}}).finish("failed")
    return subprocess.Popen(
        [sys.executable, "-c", STUCK, *words],
        cwd=workspace.root,
        env={**os.environ, **NO_MLFLOW, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_stuck_run_whose_other_process_was_killed_says_how_to_resume_it(
    workspace: Workspace,
) -> None:
    code = "import os; os.kill(os.getpid(), 9)"
    stdout, stderr = start_stuck(workspace, code).communicate(timeout=COMMAND_LIMIT_S)
    assert load_run(workspace.runs_dir, "exp1").status == "failed", stdout + stderr
    reason = "process 1 of this run ended unexpectedly (killed by SIGKILL)"
    assert stderr.splitlines()[-2:] == [
        f"error: {reason}",
        "  try: completed epochs are saved: tracker run train --from exp1 --resume",
    ]


def test_a_stuck_run_that_got_a_signal_says_how_to_resume_it(workspace: Workspace) -> None:
    child = start_stuck(workspace)
    assert child.stdout
    assert child.stdout.readline() == "begun\n"
    os.kill(child.pid, signal.SIGTERM)
    _, stderr = child.communicate(timeout=COMMAND_LIMIT_S)
    assert child.returncode == 130, stderr
    assert load_run(workspace.runs_dir, "exp1").status == "interrupted"
    assert stderr.splitlines()[-1] == (
        "exp1 was interrupted (SIGTERM); continue with: tracker run train --from exp1 --resume"
    )


def test_ctrl_c_before_the_training_begins_leaves_an_interrupted_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def press_ctrl_c(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    places = ("tracker.mirror.mirror.Mirror.start", "tracker.workflows.ending.take_stop_note")
    for number, place in enumerate(places, start=1):
        recorder = begin_run(workspace)
        with monkeypatch.context() as patch, pytest.raises(InterruptedByUserError) as stopped:
            patch.setattr("tracker.mirror.mirror.Mirror.start", lambda _: None)
            patch.setattr(place, press_ctrl_c if "Mirror" in place else press_once())
            with record_end(workspace, recorder):
                pass
        assert str(stopped.value) == f"exp{number} was interrupted (Ctrl-C)"
        assert stopped.value.hint == f"tracker run train --from exp{number} --resume"
        assert load_run(workspace.runs_dir, f"exp{number}").status == "interrupted"


def test_sigterm_before_the_training_begins_leaves_an_interrupted_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def get_sigterm(_: object) -> None:
        handler = signal.getsignal(signal.SIGTERM)
        assert callable(handler)
        handler(signal.SIGTERM, None)

    monkeypatch.setattr("tracker.mirror.mirror.Mirror.start", get_sigterm)
    said = r"exp1 was interrupted \(SIGTERM\)"
    recorder = begin_run(workspace)
    with pytest.raises(InterruptedByUserError, match=said), record_end(workspace, recorder):
        pass
    assert load_run(workspace.runs_dir, "exp1").status == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


@pytest.mark.parametrize(
    "waits", ["tracker.mirror.mirror.Mirror.wait", "tracker.workflows.ending.index_run"]
)
def test_ctrl_c_while_a_finished_run_is_copied_says_that_it_is_finished(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, waits: str
) -> None:
    def press_ctrl_c(*_: object) -> str:
        raise KeyboardInterrupt

    monkeypatch.setattr("tracker.mirror.mirror.Mirror.start", lambda _: None)
    monkeypatch.setattr(waits, press_ctrl_c)
    recorder = begin_run(workspace)
    with (
        pytest.raises(InterruptedByUserError, match="exp1 is finished; the wait") as ended,
        record_end(workspace, recorder),
    ):
        pass
    assert ended.value.hint == "tracker sync"
    assert load_run(workspace.runs_dir, "exp1").status == "finished"


def test_ctrl_c_while_the_last_record_is_written_leaves_a_finished_run(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Recorder.finish

    def press_ctrl_c(recorder: Recorder, status: str) -> RunRecord:
        signal.raise_signal(signal.SIGINT)
        return write(recorder, status)

    monkeypatch.setattr("tracker.mirror.mirror.Mirror.start", lambda _: None)
    monkeypatch.setattr(Recorder, "finish", press_ctrl_c)
    recorder, handler = begin_run(workspace), signal.getsignal(signal.SIGINT)
    with record_end(workspace, recorder):
        pass
    assert load_run(workspace.runs_dir, "exp1").status == "finished"
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_name_too_long_for_a_folder_is_that_of_no_run(workspace: Workspace) -> None:
    with pytest.raises(UnknownRunError, match="no run aaa"):
        load_run(workspace.runs_dir, "a" * 300)


def test_a_training_that_was_stopped_says_the_reason_that_its_record_has(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.mirror.mirror.Mirror.start", lambda _: None)
    recorder = begin_run(workspace)
    said = r"^exp1 was interrupted \(stopped by ann\)"
    with (
        pytest.raises(InterruptedByUserError, match=said),
        record_end(workspace, recorder),
    ):
        note = {"reason": "stopped by ann", "facts": {}}
        (recorder.folder / STOP_NAME).write_text(json.dumps(note))
        raise KeyboardInterrupt("SIGTERM")
    assert load_run(workspace.runs_dir, "exp1").error == "stopped by ann"


def press_once() -> Callable[..., tuple[str, dict[str, str]]]:
    """Ctrl-C at the first call, and what a run without a stop note has at the second."""
    calls: list[int] = []

    def take(_: object) -> tuple[str, dict[str, str]]:
        calls.append(1)
        if len(calls) == 1:
            raise KeyboardInterrupt
        return "", {}

    return take


@pytest.mark.parametrize(
    ("number", "which"), [(signal.SIGTERM, r" \(SIGTERM\)"), (signal.SIGINT, "")]
)
def test_a_signal_before_a_run_begins_is_told_as_that(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch, number: signal.Signals, which: str
) -> None:
    def strike(*_: object, **__: object) -> None:
        signal.raise_signal(number)

    monkeypatch.chdir(workspace.root)
    monkeypatch.setattr("tracker.workflows.resolve.resolve_config", strike)
    with pytest.raises(InterruptedByUserError, match=f"interrupted{which} before a run began"):
        train_command()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    assert list_runs(workspace.runs_dir) == []


def test_folds_that_are_interrupted_say_how_all_of_them_go_on(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise InterruptedByUserError("exp1 was interrupted", hint="tracker run train --resume")

    monkeypatch.setattr("tracker.workflows.folds.train", stop)
    with pytest.raises(InterruptedByUserError, match="fold 0 of 3: exp1 was interrupted") as ended:
        train_folds(workspace, Config(data=DataConfig(folds=3)))
    assert ended.value.hint.startswith("tracker run train --resume, then the same command again: ")


def test_ctrl_c_between_two_folds_says_that_the_trained_ones_are_kept(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(_: Workspace, config: Config, **__: object) -> RunRecord:
        if config.data.fold == 1:
            raise KeyboardInterrupt("SIGTERM")
        return RunRecord(name="exp1", uid="1")

    monkeypatch.setattr("tracker.workflows.folds.train", train)
    said = r"interrupted \(SIGTERM\) before fold 1 of 3 began"
    with pytest.raises(InterruptedByUserError, match=said) as ended:
        train_folds(workspace, Config(data=DataConfig(folds=3)))
    assert ended.value.hint == "the same command again: it skips the folds that are trained"
