"""The machine's figures beside a run: a real busy child, a stand-in for the GPU driver."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pynvml
import pytest

from tests.support.workspaces import begin_run, make_run
from tracker.jobs.logs import stream_logs
from tracker.run_folder.points import read_curves, read_points
from tracker.run_folder.recorder import Recorder
from tracker.run_folder.system_metrics import MB, Sampler, SystemMetrics
from tracker.workflows.reuse import copy_progress
from tracker.workspace.tracker_toml import Workspace

BUSY = """
import os, sys
held = bytearray(600 * 2**20)
while sum(os.times()[:2]) < 0.7:
    pass
print(flush=True)
sys.stdin.read()
"""


def new_recorder(workspace: Workspace) -> Recorder:
    return begin_run(workspace)


def test_a_run_has_figures_of_its_start_its_end_and_between(workspace: Workspace) -> None:
    recorder = new_recorder(workspace)
    with SystemMetrics(recorder, interval_s=0.05):
        recorder.metrics({"val/f1": 0.5}, step=1, epoch=1)
        while len(list(read_points(recorder.folder / "metrics.jsonl"))) < 4:
            pass
    recorder.finish("finished")
    points = [
        point
        for point in read_points(recorder.folder / "metrics.jsonl")
        if "val/f1" not in point["values"]
    ]
    wanted = {"system/memory_mb", "system/memory_available_mb", "system/disk_free_gb"}
    assert all(wanted <= set(point["values"]) for point in points)
    assert points[0]["values"]["system/memory_mb"] > 10
    assert not any("gpu" in name for name in points[0]["values"]), "no driver here"


def test_figures_of_the_machine_are_no_curves_are_not_in_logs_and_not_taken_over(
    workspace: Workspace,
) -> None:
    first = make_run(workspace, "0000011110")
    recorder = new_recorder(workspace)
    with SystemMetrics(recorder):
        pass
    folder = workspace.runs_dir / first.name
    recorder.metrics({"system/disk_free_gb": 1e9}, step=0, epoch=1)
    recorder.finish("finished")
    assert read_curves(recorder.folder / "metrics.jsonl") == {}
    assert list(stream_logs(workspace, recorder.record.name, follow=False)) == []
    for name in ("validation.npz", "last.pth"):
        (folder / name).write_bytes(b"")
    with (folder / "metrics.jsonl").open("ab") as file:
        file.write((recorder.folder / "metrics.jsonl").read_bytes())
    again = new_recorder(workspace)
    copy_progress(folder, again.folder)
    again.finish("finished")
    assert [set(point["values"]) for point in read_points(again.folder / "metrics.jsonl")] == [
        {"train/loss", "val/f1"}
    ]


def test_the_figures_count_the_processes_that_a_run_starts_but_not_the_mirror(
    workspace: Workspace,
) -> None:
    sampler = Sampler(str(workspace.root))
    before = sampler.sample()["memory_mb"]
    seen = {}
    for apart in (False, True):
        child = subprocess.Popen(
            [sys.executable, "-c", BUSY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=apart,
        )
        assert child.stdout and child.stdout.readline()
        seen[apart] = sampler.sample()
        child.communicate()
    # the test's own process may give back some memory meanwhile
    assert seen[False]["memory_mb"] > before + 400
    assert seen[False]["cpu_percent"] > 10
    assert seen[True]["memory_mb"] < before + 200


def test_figures_of_gpus_are_those_that_the_driver_gives(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_gpu: object) -> float:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)

    answers = {
        "nvmlInit": lambda: None,
        "nvmlDeviceGetCount": lambda: 1,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetUtilizationRates": lambda _gpu: SimpleNamespace(gpu=97),
        "nvmlDeviceGetMemoryInfo": lambda _gpu: SimpleNamespace(used=512 * MB),
        "nvmlDeviceGetPowerUsage": refuse,
        "nvmlDeviceGetTemperature": lambda _gpu, _kind: 61,
    }
    for name, answer in answers.items():
        monkeypatch.setattr(pynvml, name, answer)
    values = Sampler(str(workspace.root)).sample()
    found = {name: value for name, value in values.items() if name.startswith("gpu")}
    assert found == {"gpu_0_percent": 97, "gpu_0_memory_mb": 512, "gpu_0_temperature_c": 61}
