"""TensorBoard event files of a run: one for each process that copies, without TensorFlow."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tracker.core.metric_names import to_mlflow_name
from tracker.mirror.targets import Point, RunInfo, Target, read_state
from tracker.training.libraries import is_installed
from tracker.training.machine import host_name
from tracker.workspace.tracker_toml import Workspace

# Earlier versions had this state there, as "board" and "figures".
OLDER_STATE_NAME = "mlflow.json"


class TensorboardTarget(Target):
    """A run's curves and figures, in the folder `tensorboard` of the run."""

    title = "TensorBoard"
    state_name = "tensorboard.json"
    remote = False
    batch = 20_000  # a local file: large batches cost nothing

    def __init__(self, workspace: Workspace, folder: Path, connection: Any) -> None:
        super().__init__(workspace, folder, connection)
        self._events = EventFile(folder / "tensorboard")

    def load_state(self) -> None:
        """The state, or what an earlier version wrote elsewhere."""
        super().load_state()
        older = {} if self.state.values else read_state(self.folder / OLDER_STATE_NAME)
        if older:
            self.state.values = {
                "offset": older.get("board", older.get("offset", 0)),
                "files": older.get("figures", {}),
            }

    def points(self, batch: Sequence[Point]) -> None:
        """Add the points, with the same names as in MLflow."""
        for point in batch:
            values = {to_mlflow_name(name): value for name, value in point.values.items()}
            self._events.add_point(values, step=point.step, time_s=point.time_ms / 1000)
        self._events.flush()

    def artifact(self, path: Path, name: str) -> None:
        """Add a figure; other files stay in the run folder only."""
        if path.suffix == ".png":
            self._events.add_figure(path, name.removesuffix(".png"))

    def summarize(self, info: RunInfo) -> list[Any]:
        """Nothing: event files have no place for it."""
        return []

    def log_once(self, text: str) -> None:
        """Nothing: the remote copies already say what is wrong in a run folder."""


class EventFile:
    """An event file in `folder`, created with the first event and closed by each `flush`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._path: Path | None = None
        self._records: Any = None

    def add_point(self, values: Mapping[str, float], *, step: int, time_s: float) -> None:
        """Add a point of several curves; `flush` writes it to disk."""
        if not is_installed("tensorboard"):
            return  # only a view: the run folder has every point
        from tensorboard.compat.proto.summary_pb2 import Summary

        shown = [Summary.Value(tag=name, simple_value=value) for name, value in values.items()]
        self._add(shown, step=step, time_s=time_s)

    def add_figure(self, path: Path, tag: str) -> None:
        """Add a PNG with this name."""
        if not is_installed("tensorboard"):
            return
        from PIL import Image
        from tensorboard.compat.proto.summary_pb2 import Summary

        with Image.open(path) as figure:
            width, height = figure.size
        picture = Summary.Image(
            height=height, width=width, colorspace=4, encoded_image_string=path.read_bytes()
        )
        self._add([Summary.Value(tag=tag, image=picture)], step=0, time_s=path.stat().st_mtime)
        self.flush()

    def flush(self) -> None:
        """Write what was added to disk."""
        if self._records is not None:
            self._records.close()
            self._records = None

    def _add(self, values: list[Any], *, step: int, time_s: float) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.compat.proto.summary_pb2 import Summary

        if self._records is None:
            self._open()
        event = Event(wall_time=time_s, step=step, summary=Summary(value=values))
        self._records.write(event.SerializeToString())

    def _open(self) -> None:
        from tensorboard.compat.proto.event_pb2 import Event
        from tensorboard.summary.writer.record_writer import RecordWriter

        if self._path is not None:
            self._records = RecordWriter(self._path.open("ab"))
            return
        self._folder.mkdir(exist_ok=True)
        now = time.time()
        host, unique = host_name(), time.monotonic_ns()
        name = f"events.out.tfevents.{int(now)}.{host}.{os.getpid()}.{unique}"
        self._path = self._folder / name
        self._records = RecordWriter(self._path.open("ab"))
        self._records.write(Event(wall_time=now, file_version="brain.Event:2").SerializeToString())
