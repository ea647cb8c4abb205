"""A server's bad days: a proxy that loses requests or answers, and a run copied to MLflow through
it."""

from __future__ import annotations

import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.workspaces import begin_run, make_workspace
from tracker.mirror.copy import FILES, sync_run
from tracker.mirror.targets import TargetError
from tracker.mirror.targets.mlflow_server import connect
from tracker.submission.submit import sync_all
from tracker.training.config import Config, config_to_dict
from tracker.workspace.tracker_toml import Workspace

MODES = (
    "refuses",
    "hangs",
    "is slow",
    "answers 500",
    "closes before",
    "closes after",
    "cuts answers",
    "answers a page",  # of another program, as the login page of a network: 200
    "keeps nothing",  # of points, params and tags, and answers as if it did
)
KEPT = b"POST /api/2.0/mlflow/runs/log-batch "
PAGE = b"<html><body>please log in</body></html>"
LIMIT_S = 60.0


class Proxy:
    """Listens on 127.0.0.1 in front of a server; in `mode`, a share `rate` of the requests goes
    wrong.

    A request that hangs goes through after all, or never, when the mode is set back to "".
    """

    def __init__(
        self, address: str, *, seed: int = 0, rate: float = 0.5, delay_s: float = 5.0
    ) -> None:
        self._upstream = int(address.rpartition(":")[2])
        self._random = random.Random(seed)  # noqa: S311
        self._rate = rate
        self._delay_s = delay_s
        self._mode = ""
        self._well = threading.Event()
        self._well.set()
        self._threads: list[threading.Thread] = []
        self._listener: socket.socket | None = None
        self.faults = 0
        self.port = 0
        self._listen()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def set_mode(self, mode: str) -> None:
        """What goes wrong from now on; "" is nothing, and waits until what hung has gone through or
        been dropped."""
        self._mode = mode
        if mode == "refuses":
            self.faults += 1
            self._close()
        elif self._listener is None:
            self._listen()
        if mode:
            self._well.clear()
            return
        self._well.set()
        for thread in self._threads:
            thread.join(LIMIT_S)

    def end(self) -> None:
        self.set_mode("")
        self._close()

    def _close(self) -> None:
        if self._listener is not None:
            with suppress(OSError):
                self._listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            self._listener.close()
            self._listener = None

    def _listen(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._listener.bind(("127.0.0.1", self.port))
        self._listener.listen(64)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(client,), daemon=True)
            self._threads = [*(thread for thread in self._threads if thread.is_alive()), thread]
            thread.start()

    def _serve(self, client: socket.socket) -> None:
        with client, suppress(OSError):
            client.settimeout(LIMIT_S)
            request = _read_request(client)
            mode = self._mode
            if not request or (mode and mode != "is slow" and self._random.random() > self._rate):
                mode = ""
            if mode == "keeps nothing" and not request.startswith(KEPT):
                mode = ""
            self.faults += bool(mode)
            if answer := _answer_itself(mode):
                client.sendall(answer)
            elif mode == "closes before":
                self._forward(request[: self._random.randrange(len(request))])
            elif request:
                if mode == "is slow":
                    time.sleep(self._delay_s)
                elif mode == "hangs":
                    self._well.wait(LIMIT_S)
                    if self._random.random() < 0.5:
                        return
                answer = self._forward(request)
                if mode in ("closes after", "hangs"):
                    return
                client.sendall(
                    answer[: self._random.randrange(len(answer))]
                    if mode == "cuts answers"
                    else answer
                )

    def _forward(self, request: bytes) -> bytes:
        """Send to the server and read its whole answer; half a request is only sent."""
        with socket.create_connection(("127.0.0.1", self._upstream), timeout=LIMIT_S) as server:
            server.sendall(request)
            if _missing(request):
                return b""
            parts = []
            while part := server.recv(65536):
                parts.append(part)
            return b"".join(parts)


def _answer_itself(mode: str) -> bytes:
    """What the proxy answers in place of the server; empty where the server is asked."""
    status, kind, body = {
        "answers 500": ("500 Internal Server Error", "text/plain", b"no"),
        "answers a page": ("200 OK", "text/html", PAGE),
        "keeps nothing": ("200 OK", "application/json", b"{}"),
    }.get(mode, ("", "", b""))
    if not status:
        return b""
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}"
    return f"{head}\r\nConnection: close\r\n\r\n".encode() + body


def _read_request(client: socket.socket) -> bytes:
    """One whole request, which asks the server to close the connection after its answer."""
    data = b""
    while _missing(data):
        part = client.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    lines = [line for line in head.split(b"\r\n") if not line.lower().startswith(b"connection:")]
    return b"\r\n".join([*lines, b"Connection: close"]) + b"\r\n\r\n" + body


def _missing(data: bytes) -> int:
    """How many bytes are missing to a whole request, at least."""
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return 1
    lengths = [
        line.partition(b":")[2]
        for line in head.split(b"\r\n")
        if line.lower().startswith(b"content-length:")
    ]
    return max(0, int(lengths[0]) - len(body)) if lengths else 0


@contextmanager
def proxy_before(address: str, **options: Any) -> Iterator[Proxy]:
    proxy = Proxy(address, **options)
    try:
        yield proxy
    finally:
        proxy.end()


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What a run's copy came to: runs under its uid, points lost and there twice, files lost or
    torn."""

    runs: int
    points: int
    lost: int
    doubled: int
    torn: int
    faults: int

    @property
    def perfect(self) -> bool:
        return (self.runs, self.lost, self.doubled, self.torn) == (1, 0, 0, 0)


def copy_through(
    server: str, folder: Path, mode: str, *, seed: int, steps: int = 30, **options: Any
) -> Outcome:
    """Copy a run while it grows through a faulty proxy, then once more through a sound one; what
    MLflow has then."""
    rng = random.Random(seed)  # noqa: S311
    with proxy_before(server, seed=seed, **options) as proxy:
        workspace = make_workspace(
            folder / "ws", mlflow_uri=proxy.address, competition={"name": folder.name}
        )
        recorder = begin_run(workspace, config=config_to_dict(Config()), note="n")
        proxy.set_mode(mode)
        for step in range(1, steps + 1):
            values = {
                "train/loss": rng.random(),
                "정확도": rng.choice([0.5, float("nan"), 1e300]),
                "F1↑": 1.0,
            }
            recorder.metrics(values, step=step, epoch=step)
            recorder.progress(epoch=step, best_epoch=step, summary={"val/f1": step / steps})
            if step % (steps // 3) == 0:
                _try_to_copy(workspace)
        for number, name in enumerate(("best.pth", "probabilities.npz", "validation.npz")):
            (recorder.folder / name).write_bytes(rng.randbytes(100 * 50**number))
        recorder.finish("finished")
        _try_to_copy(workspace)
        proxy.set_mode("")
        done, problems = sync_all(workspace, ["exp1"])
        assert done == ["exp1"], problems
        return compare(workspace, faults=proxy.faults)


def _try_to_copy(workspace: Workspace) -> None:
    with suppress(TargetError):
        sync_run(workspace, "exp1")


def compare(workspace: Workspace, *, faults: int = 0) -> Outcome:
    """The run folder of exp1 against what MLflow has of it: key, step and value of every point,
    sizes of files."""
    from tracker.core.metric_names import to_chart_name, to_mlflow_name
    from tracker.run_folder.points import read_points
    from tracker.run_folder.read import load_run

    folder = workspace.runs_dir / "exp1"
    client = connect(workspace)
    experiment = client.get_experiment_by_name(workspace.competition.name).experiment_id
    uid = load_run(workspace.runs_dir, "exp1").uid
    runs = client.search_runs([experiment], filter_string=f"tags.`tracker.uid` = '{uid}'")
    run_id = runs[0].info.run_id
    wanted: Counter[tuple[str, int, str]] = Counter()
    for point in read_points(folder / "metrics.jsonl"):
        wanted.update(
            (to_chart_name(to_mlflow_name(key)), point["step"], repr(value))
            for key, value in point["values"].items()
        )
    found: Counter[tuple[str, int, str]] = Counter()
    for key in runs[0].data.metrics:
        found.update(
            (key, metric.step, repr(metric.value))
            for metric in client.get_metric_history(run_id, key)
        )
    sizes = {file.path: file.file_size for file in client.list_artifacts(run_id)}
    local = {name: (folder / name).stat().st_size for name in FILES if (folder / name).is_file()}
    state = json.loads((folder / "mlflow.json").read_text())
    assert state["run_id"] == run_id
    return Outcome(
        runs=len(runs),
        points=wanted.total(),
        lost=(wanted - found).total(),
        doubled=(found - wanted).total(),
        torn=sum(sizes.get(name) != size for name, size in local.items()),
        faults=faults,
    )
