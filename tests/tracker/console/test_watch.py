"""Running runs on a terminal and in a pipe."""

from __future__ import annotations

from dataclasses import replace

import pytest
import typer.testing

from tests.support.workspaces import begin_run, make_run, workspace
from tracker.commands.table import app
from tracker.console.watch import draw_sparkline, render_left, render_line
from tracker.run_folder.marks import archive_runs
from tracker.run_folder.record import RunRecord
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.running import RunningRun, RunWatcher
from tracker.training.errors import ConfigError
from tracker.workspace.tracker_toml import Workspace

__all__ = ["workspace"]
RUN = RunningRun(
    name="exp12",
    epoch=3,
    epochs=15,
    loss=0.5,
    metric="val/f1",
    value=0.7,
    best=0.7612,
    images_per_s=123.4,
    gpu_percent=97.0,
    left_s=750.0,
    curve=(0.1, 0.7612, 0.7),
)


def begin_watched(workspace: Workspace) -> Recorder:
    """A running run with an epoch of its curve."""
    recorder = begin_run(workspace, config={"train": {"epochs": 4, "monitor": "val/f1"}}, note="a")
    log_epoch(recorder, 1, 0.25)
    return recorder


def log_epoch(recorder: Recorder, epoch: int, f1: float) -> None:
    speed = {"train/images_per_s": 100.0, "system/gpu_0_percent": 50.0}
    recorder.metrics({"train/loss": 1 / epoch, "val/f1": f1, **speed}, step=epoch, epoch=epoch)


def test_only_running_runs_are_watched_and_new_points_are_read(workspace: Workspace) -> None:
    make_run(workspace)
    recorder = begin_watched(workspace)
    watcher = RunWatcher(workspace)
    (run,) = watcher.read()
    assert (run.name, run.epoch, run.epochs, run.left_s) == ("exp2", 1, 4, None)
    log_epoch(recorder, 2, 0.75)
    log_epoch(recorder, 3, 0.5)
    (run,) = watcher.read()
    assert (run.epoch, run.loss, run.curve) == (3, 1 / 3, (0.25, 0.75, 0.5))
    assert (run.value, run.best, run.images_per_s, run.gpu_percent) == (0.5, 0.75, 100.0, 50.0)
    assert run.left_s is not None
    ended: RunRecord = recorder.finish("finished")
    assert ended.status == "finished"
    assert watcher.read() == []
    (run,) = watcher.read([ended.uid])
    assert (run.name, run.status, run.curve) == ("exp2", "finished", (0.25, 0.75, 0.5))


def test_a_sparkline_has_the_shape_of_its_curve() -> None:
    assert draw_sparkline([]) == ""
    assert draw_sparkline([1.0, 1.0]) == "\u2581\u2581"
    assert draw_sparkline([0.0, 1.0, 0.5]) == "\u2581\u2588\u2585"
    long = draw_sparkline([float(n) for n in range(1000)])
    assert len(long) == 12
    assert list(long) == sorted(long)


def test_a_plain_line_leaves_out_what_is_unknown() -> None:
    line = "exp12  epoch 3/15  train/loss 0.5000  val/f1 0.7000  123 images/s  12:30 left"
    assert render_line(RUN) == line
    unknown = replace(RUN, epochs=None, loss=None, value=None, images_per_s=None, left_s=None)
    assert render_line(unknown) == "exp12  epoch 3"
    assert (render_left(None), render_left(3900.4)) == ("-", "1:05:00")


def test_watch_in_a_pipe_prints_lines(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(workspace.root)
    runner = typer.testing.CliRunner()
    assert runner.invoke(app, ["watch"]).output == "no run is running\n"
    recorder = begin_watched(workspace)
    once = runner.invoke(app, ["watch", "--once"])
    line = "exp1  epoch 1/4  train/loss 1.0000  val/f1 0.2500"
    assert once.output.startswith(line)
    assert runner.invoke(app, ["watch", "--once", "val/f1 < 0.5"]).output.startswith(line)
    for words in (["zzz"], ["val/f1 > 0.5"]):
        none = runner.invoke(app, ["watch", "--once", *words]).output
        assert none == "no running run matches the filter\n"
    wrong = runner.invoke(app, ["watch", "val/f2 > 0.5"]).exception
    assert isinstance(wrong, ConfigError)
    assert str(wrong).startswith("filter, character 1: no run has 'val/f2'")
    ended = make_run(workspace)
    archive_runs(workspace, [ended.name])
    pinned = runner.invoke(app, ["watch", "--once", "--pin", ended.name]).output.splitlines()
    assert pinned[0].startswith("exp2 ")
    assert pinned[0].endswith("  finished")
    assert pinned[1].startswith(line)
    recorder.finish("finished")
