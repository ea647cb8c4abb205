"""What `logs -f` says while a run prints nothing."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import pytest

from tests.conftest import run_tracker
from tests.support.workspaces import begin_run
from tracker.core.errors import TrackerError
from tracker.jobs import logs as running
from tracker.jobs import stop
from tracker.run_folder.recorder import Recorder
from tracker.training.config import Config, config_to_dict
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace, load_workspace


def follow(workspace: Workspace, recorder: Recorder) -> tuple[str, list[str]]:
    """What is printed of a run that ends after the first silence, and said of the silence."""
    said: list[str] = []

    def end(text: str) -> None:
        said.append(text)
        recorder.finish("finished")

    return (
        "".join(running.stream_logs(workspace, recorder.folder.name, follow=True, on_silence=end)),
        said,
    )


def start(workspace: Workspace, **fingerprints: str) -> Recorder:
    config = config_to_dict(Config())
    return begin_run(workspace, config=config, fingerprints=fingerprints)


def test_logs_say_which_epoch_a_silent_run_is_in_and_since_when(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = workspace.root / "tracker.toml"
    toml.write_text(toml.read_text().replace('time_zone = "UTC"', 'time_zone = "Asia/Seoul"'))
    seoul = load_workspace(workspace.root)
    monkeypatch.setattr(running, "SILENCE_S", 0.0)
    recorder = start(seoul, data="sha256:d")
    _, (first,) = follow(seoul, recorder)
    assert re.fullmatch(
        rf"exp1 has been in epoch 1 of {Config().train.epochs} since \d\d:\d\d", first
    )
    recorder = start(seoul, data="sha256:e")
    recorder.metrics({"val/f1": 0.5}, step=3, epoch=3)
    recorder.metrics({"train/batch_loss": 0.5}, step=4, epoch=4)
    moment = next(iter(running.read_points(recorder.folder / "metrics.jsonl")))["time"]
    shown, (second,) = follow(seoul, recorder)
    assert shown.startswith("epoch 3  val/f1 0.5000")
    clock = running.dt.datetime.fromtimestamp(moment, running.dt.UTC) + running.dt.timedelta(
        hours=9
    )
    assert second == f"exp2 has been in epoch 4 of {Config().train.epochs} since {clock:%H:%M}"


def test_logs_say_of_a_loop_of_ones_own_when_it_logged_last(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SILENCE_S", 0.0)
    recorder = start(workspace)
    recorder.metrics({"val/auc": 0.5}, step=3, epoch=3)
    _, (said,) = follow(workspace, recorder)
    assert re.fullmatch(r"exp1 has logged nothing since \d\d:\d\d, in epoch 3", said)


def log_epochs(recorder: Recorder, *epochs: int) -> None:
    for epoch in epochs:
        recorder.metrics({"val/f1": 0.1 * epoch}, step=epoch, epoch=epoch)


def test_logs_have_a_line_where_a_run_was_resumed(workspace: Workspace) -> None:
    recorder = start(workspace, data="sha256:d")
    log_epochs(recorder, 1, 2)
    recorder.finish("interrupted")
    before = "".join(running.stream_logs(workspace, "exp1", follow=False))
    assert before == "epoch 1  val/f1 0.1000\nepoch 2  val/f1 0.2000\n"
    recorder = Recorder.reopen(workspace.runs_dir, "exp1")
    (path,) = recorder.folder.glob("env-resumed-*.json")
    path.rename(recorder.folder / "env-resumed-4070908800.json")  # 2099, after all points so far
    followed = running.stream_logs(workspace, "exp1", follow=True)
    assert next(followed) == before
    with (recorder.folder / "metrics.jsonl").open("a") as file:
        for epoch in (2, 3):
            point = {
                "time": 4070908860.5 + epoch,
                "step": epoch,
                "epoch": epoch,
                "values": {"val/f1": 0.25},
            }
            file.write(json.dumps(point) + "\n")
    resumed = (
        "-- resumed 2099-01-01 00:00 (UTC) after epoch 1 --\nepoch 2  val/f1 0.2500\nepoch 3 "
        " val/f1 0.2500\n"
    )
    assert next(followed) == resumed
    recorder.finish("finished")
    assert "".join(followed) == ""
    assert "".join(running.stream_logs(workspace, "exp1", follow=False)) == before + resumed


def test_what_a_resumed_run_prints_in_the_background_is_kept_after_a_line_that_says_so(
    workspace: Workspace,
) -> None:
    folder = workspace.runs_dir / "exp1"
    folder.mkdir(parents=True)
    pending = workspace.root / "pending.log"
    script = (
        "import sys; from pathlib import Path; from tracker.run_folder.output import Output\n"
        "print('exp1: going on', flush=True)\n"
        "output = Output(Path(sys.argv[1]))\n"
        "output.attach_folder(Path(sys.argv[2]), 'stop it', resumed='-- resumed --')"
    )
    for _ in range(2):
        with pending.open("wb") as file:
            subprocess.run(
                [sys.executable, "-c", script, pending, folder],
                stdout=file,
                stderr=file,
                check=True,
            )
    assert (folder / "output.log").read_text() == "exp1: going on\n-- resumed --\nexp1: going on\n"


def test_logs_and_stop_without_a_run_mean_the_only_running_one(workspace: Workspace) -> None:
    with pytest.raises(TrackerError, match="no run yet"):
        stop.resolve_running(workspace, "", or_newest=True)
    first, second = start(workspace), start(workspace)
    with pytest.raises(ConfigError, match="2 runs are running: exp2, exp1"):
        stop.resolve_running(workspace, "", or_newest=True)
    second.finish("finished")
    first.metrics({"val/f1": 0.5}, step=3, epoch=3)
    done = run_tracker("logs", cwd=workspace.root)
    assert done.stdout.startswith("epoch 3  val/f1 0.5000")
    assert stop.resolve_running(workspace, "", or_newest=False) == "exp1"
    first.finish("finished")
    done = run_tracker("stop", cwd=workspace.root, ok=False)
    assert (done.returncode, "no run is running" in done.stderr) == (1, True)
