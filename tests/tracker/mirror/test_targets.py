"""A tracker of one's own behind the mirror: one class and one line, killed and resumed, and apart
from the others."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.workspaces import begin_run, make_run
from tracker.mirror.copy import RunCopy
from tracker.mirror.process import copy_until_end
from tracker.mirror.targets import TARGETS, TargetError, list_targets
from tracker.run_folder.read import load_run
from tracker.submission.notes import add_note
from tracker.submission.submit import submit, sync_all
from tracker.training.config import Config, config_to_dict
from tracker.workspace.tracker_toml import Workspace

LIMIT_S = 180
# As a user would write it: JSON lines outside the workspace. It stops in the second batch while
# `hold` is there.
LINES = """
import json
import time
from tracker.mirror.targets import Target


class LinesTarget(Target):
    title = "JSON lines"
    state_name = "lines.json"
    batch = 10

    def start(self, record):
        self._file = self.workspace.root / f"{record.name}.jsonl"
        if not self._file.exists():
            self.state.forget()
            self._add(start=record.uid)
        return True

    def _add(self, **line):
        with self._file.open("a") as file:
            file.write(json.dumps(line) + chr(10))

    def params(self, values):
        self._add(params=values)

    def points(self, batch):
        lines = map(json.loads, self._file.read_text().splitlines())
        there = {line["at"] for line in lines if "at" in line}
        for point in batch:
            if point.offset not in there:
                self._add(at=point.offset, step=point.step, values=point.values)
        while there and (self.workspace.root / "hold").exists():
            time.sleep(0.05)

    def artifact(self, path, name):
        self._add(artifact=name, size=path.stat().st_size)

    def note(self, text):
        self._add(note=text)

    def end(self, status):
        self._add(end=status)


class BrokenTarget(LinesTarget):
    title = "A share"
    state_name = "share.json"

    def points(self, batch):
        raise PermissionError("the share is read-only")
"""
MAIN = (
    "import sys; from tracker.mirror import targets as mirror_targets;"
    " mirror_targets.TARGETS.clear(); "
)
MAIN += "mirror_targets.TARGETS['lines'] = 'lines_target:LinesTarget'; "
MAIN += "from tracker.mirror.process import main; sys.exit(main())"


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the module `lines_target`, importable here."""
    folder = tmp_path / "plugin"
    folder.mkdir()
    (folder / "lines_target.py").write_text(LINES)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setattr("tracker.mirror.targets.TARGETS", dict(TARGETS))
    return folder


def start_mirror(workspace: Workspace, plugin: Path) -> subprocess.Popen[bytes]:
    """The mirror process of exp1, in which only the new target is registered."""
    command = [sys.executable, "-c", MAIN, str(workspace.root), "exp1"]
    places = [str(plugin), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, places))}
    )


def read_lines(workspace: Workspace) -> list[dict[str, Any]]:
    path = workspace.root / "exp1.jsonl"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_a_target_registered_at_run_time_gets_a_run_once_through_a_mirror_that_was_killed(
    workspace: Workspace, plugin: Path
) -> None:
    recorder = begin_run(workspace, config=config_to_dict(Config()), note="idea")
    for step in range(1, 31):
        recorder.metrics({"train/loss": 1 / step}, step=step, epoch=1)
    (workspace.root / "hold").touch()
    first = start_mirror(workspace, plugin)
    try:
        until = time.monotonic() + LIMIT_S
        while (
            sum("at" in line for line in read_lines(workspace)) < 20
        ):  # the second batch is written, not noted
            assert first.poll() is None
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        first.send_signal(signal.SIGKILL)
        first.wait(LIMIT_S)
    (workspace.root / "hold").unlink()
    second = start_mirror(workspace, plugin)
    recorder.metrics({"train/loss": 0.01}, step=31, epoch=2)
    recorder.finish("finished")
    assert second.wait(LIMIT_S) == 0
    lines = read_lines(workspace)
    assert [line["start"] for line in lines if "start" in line] == [recorder.record.uid]
    assert [line["params"]["optim.lr"] for line in lines if "params" in line] == [0.001]
    assert [(line["step"], line["values"]["train/loss"]) for line in lines if "at" in line] == [
        *((step, 1 / step) for step in range(1, 31)),
        (31, 0.01),
    ]
    sizes = {line["artifact"]: line["size"] for line in lines if "artifact" in line}
    assert sizes["metrics.jsonl"] == (workspace.runs_dir / "exp1" / "metrics.jsonl").stat().st_size
    assert len(sizes) == sum("artifact" in line for line in lines)
    assert [line["note"] for line in lines if "note" in line] == ["idea"]
    assert lines[-1] == {"end": "finished"}


def test_a_memo_and_a_note_after_the_end_reach_the_target_and_a_second_copy_adds_nothing(
    workspace: Workspace, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.mirror.targets.TARGETS", {"lines": "lines_target:LinesTarget"})
    make_run(workspace, "0000011110", note="idea")
    RunCopy(workspace, "exp1").push()
    submit(workspace, "exp1", "first")
    add_note(workspace, "exp1", "lucky")
    assert sync_all(workspace, ["exp1"]) == (["exp1"], [])
    lines = read_lines(workspace)
    texts = [line["note"] for line in lines if "note" in line]
    assert texts[0] == "idea"
    assert "Submission 1: first" in texts[-1]
    assert texts[-1].endswith(": lucky")
    assert sum("end" in line for line in lines) == 1
    copy_until_end(workspace, "exp1")
    assert read_lines(workspace) == lines


def test_a_target_that_fails_does_not_keep_the_others_from_their_copy(
    workspace: Workspace, plugin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places = {"share": "lines_target:BrokenTarget", "lines": "lines_target:LinesTarget"}
    monkeypatch.setattr("tracker.mirror.targets.TARGETS", places)
    make_run(workspace, "0000011110")
    with pytest.raises(TargetError, match="A share: the share is read-only"):
        RunCopy(workspace, "exp1").push()
    assert read_lines(workspace)[-1] == {"end": load_run(workspace.runs_dir, "exp1").status}


def test_the_state_files_of_the_targets_differ_and_are_no_other_file_of_a_run(
    workspace: Workspace,
) -> None:
    make_run(workspace, "0000011110")
    names = [target.state_name for target in list_targets()]
    assert len(set(names)) == len(names) == len(TARGETS)
    assert not [name for name in names if (workspace.runs_dir / "exp1" / name).exists()]


def test_what_an_earlier_version_wrote_for_tensorboard_is_not_written_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tracker.mirror.targets.TARGETS", {"tensorboard": TARGETS["tensorboard"]})
    make_run(workspace, "0000011110")
    folder = workspace.runs_dir / "exp1"
    size = (folder / "metrics.jsonl").stat().st_size
    (folder / "mlflow.json").write_text(json.dumps({"offset": 0, "board": size, "figures": {}}))
    RunCopy(workspace, "exp1").push()
    assert not (folder / "tensorboard").exists()
    assert json.loads((folder / "tensorboard.json").read_text())["offset"] == size
    for name in ("mlflow.json", "tensorboard.json"):
        (folder / name).unlink()
    RunCopy(workspace, "exp1").push()
    assert list((folder / "tensorboard").iterdir())
