"""What `logs -f` says while a run prints nothing."""

from __future__ import annotations

import re

import pytest

from tracker.jobs import running
from tracker.recorder import Recorder
from tracker.training.config import Config, config_to_dict
from tracker.workspace import Workspace, load_workspace


def follow(workspace: Workspace, recorder: Recorder) -> tuple[str, list[str]]:
    """What is printed of a run that ends after the first silence, and what is said of the silence."""
    said: list[str] = []

    def end(text: str) -> None:
        said.append(text)
        recorder.finish("finished")

    return "".join(running.stream_logs(workspace, recorder.folder.name, follow=True, on_silence=end)), said


def start(workspace: Workspace, **fingerprints: str) -> Recorder:
    config = config_to_dict(Config())
    return Recorder.create(
        workspace.runs_dir, kind="train", config=config, parent=None, note="", fingerprints=fingerprints
    )


def test_logs_say_which_epoch_a_silent_run_is_in_and_since_when(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    toml = workspace.root / "tracker.toml"
    toml.write_text(toml.read_text().replace('time_zone = "UTC"', 'time_zone = "Asia/Seoul"'))
    seoul = load_workspace(workspace.root)
    monkeypatch.setattr(running, "SILENCE_S", 0.0)
    recorder = start(seoul, data="sha256:d")
    _, (first,) = follow(seoul, recorder)
    assert re.fullmatch(rf"exp1 is in epoch 1 of {Config().train.epochs} since \d\d:\d\d", first)
    recorder = start(seoul, data="sha256:e")
    recorder.metrics({"val/f1": 0.5}, step=3, epoch=3)
    recorder.metrics({"train/batch_loss": 0.5}, step=4, epoch=4)
    moment = next(iter(running.read_points(recorder.folder / "metrics.jsonl")))["time"]
    shown, (second,) = follow(seoul, recorder)
    assert shown.startswith("epoch 3  val/f1 0.5000")
    clock = running.dt.datetime.fromtimestamp(moment, running.dt.UTC) + running.dt.timedelta(hours=9)
    assert second == f"exp2 is in epoch 4 of {Config().train.epochs} since {clock:%H:%M}"


def test_logs_say_of_a_loop_of_ones_own_when_it_logged_last(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(running, "SILENCE_S", 0.0)
    recorder = start(workspace)
    recorder.metrics({"val/auc": 0.5}, step=3, epoch=3)
    _, (said,) = follow(workspace, recorder)
    assert re.fullmatch(r"exp1 has logged nothing since \d\d:\d\d, in epoch 3", said)
