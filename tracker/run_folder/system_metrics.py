"""The load of a run on its machine: processor, memory, disk and GPU, sampled while it runs.

The samples are points of metrics.jsonl like all others, so MLflow draws them on its page of system
metrics. Their step is the age of the run in whole seconds, with the time before a resume included.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tracker.core.errors import render_error
from tracker.core.metric_names import SYSTEM_PREFIX
from tracker.training.errors import MissingLibraryError, StorageError
from tracker.training.libraries import is_installed, require

if TYPE_CHECKING:
    from tracker.run_folder.recorder import Recorder

INTERVAL_S = 10.0  # as MLflow's own system metrics
MIN_WINDOW_S = 0.5  # the processor's load over a shorter time is noise
MB = 2**20


class SystemMetrics:
    """In this block a thread logs a sample at the start, every `interval_s` and at the end."""

    def __init__(self, recorder: Recorder, *, interval_s: float = INTERVAL_S) -> None:
        self._recorder = recorder
        self._interval_s = interval_s
        self._end = threading.Event()
        self._thread = threading.Thread(
            target=self._run, name=f"system metrics {recorder.record.name}", daemon=True
        )

    def __enter__(self) -> SystemMetrics:
        try:
            require("psutil")
            self._thread.start()
        except MissingLibraryError as error:
            print(f"no system metrics are logged: {render_error(error)}", file=sys.stderr)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end.set()
        if self._thread.ident is not None:  # it was started
            self._thread.join()

    def _run(self) -> None:
        sampler = Sampler(str(self._recorder.folder))
        ended = False
        while True:
            # a full disk may get room again, and the loop's own writes report it
            with suppress(OSError, StorageError):
                sample = sampler.sample()
                values = {f"{SYSTEM_PREFIX}{name}": value for name, value in sample.items()}
                step, epoch = int(self._recorder.age_s), self._recorder.record.epoch
                self._recorder.metrics(values, step=step, epoch=epoch)
            if ended:
                return
            ended = self._end.wait(self._interval_s)


class Sampler:
    """Measures this process with its children in the same session, the machine, and its GPUs."""

    def __init__(self, folder: str) -> None:
        import psutil

        self._folder = folder
        self._process = psutil.Process()
        self._gpus = list_gpus()
        self._before = (time.monotonic(), _count_cpu_s(self._list_processes()))
        psutil.cpu_percent()  # the next call measures from here

    def sample(self) -> dict[str, float]:
        """{name: value}; MB are 2**20 bytes.

        100 % is one core in `cpu_percent`, and all cores in `machine_cpu_percent`.
        """
        import psutil

        processes = self._list_processes()
        now, cpu_s = time.monotonic(), _count_cpu_s(processes)
        values = {
            "memory_mb": sum(map(_measure_memory, processes)) / MB,
            "memory_available_mb": psutil.virtual_memory().available / MB,
            "disk_free_gb": psutil.disk_usage(self._folder).free / 1024 / MB,
        }
        if (window := now - self._before[0]) >= MIN_WINDOW_S:
            values["cpu_percent"] = max(0.0, 100 * (cpu_s - self._before[1]) / window)
            values["machine_cpu_percent"] = float(psutil.cpu_percent())
            self._before = (now, cpu_s)
        for index, gpu in enumerate(self._gpus):
            values |= {f"gpu_{index}_{name}": value for name, value in _measure_gpu(gpu).items()}
        return values

    def _list_processes(self) -> list[Any]:
        """This process and its descendants in the same session; the mirror has its own session."""
        import psutil

        session = os.getsid(0)
        processes = [self._process]
        for child in self._process.children(recursive=True):
            with suppress(psutil.Error, OSError):
                if os.getsid(child.pid) == session:
                    processes.append(child)
        return processes


def _count_cpu_s(processes: list[Any]) -> float:
    """Seconds of processor time so far, including loader processes that have ended."""
    import psutil

    total = 0.0
    for process in processes:
        with suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system
            total += getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
    return total


def _measure_memory(process: Any) -> float:
    """Bytes; on Linux memory that processes share counts once.

    This takes 40 ms for a process of 600 MB.
    """
    import psutil

    with suppress(psutil.Error):
        memory = process.memory_full_info()
        return float(getattr(memory, "pss", memory.rss))
    return 0.0


def list_gpus() -> list[Any]:
    """The NVIDIA GPUs of this machine; none without a driver or without pynvml."""
    if not is_installed("pynvml"):
        return []
    import pynvml

    try:
        pynvml.nvmlInit()
        count = pynvml.nvmlDeviceGetCount()
        return [pynvml.nvmlDeviceGetHandleByIndex(index) for index in range(count)]
    except pynvml.NVMLError:
        return []


def _measure_gpu(gpu: Any) -> dict[str, float]:
    """{name: value} of what this kind of GPU can measure."""
    import pynvml

    queries: dict[str, Callable[[], Any]] = {
        "percent": lambda: pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu,
        "memory_mb": lambda: pynvml.nvmlDeviceGetMemoryInfo(gpu).used / MB,
        "power_w": lambda: pynvml.nvmlDeviceGetPowerUsage(gpu) / 1000,
        "temperature_c": lambda: pynvml.nvmlDeviceGetTemperature(gpu, pynvml.NVML_TEMPERATURE_GPU),
    }
    values = {}
    for name, query in queries.items():
        with suppress(pynvml.NVMLError):
            values[name] = float(query())
    return values
