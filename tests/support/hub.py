"""A hub of models that answers badly or not at all, and its cache."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file

CLOSED = "http://127.0.0.1:9"


def save_model(folder: Path, *, name: str = "test_resnet") -> dict[str, torch.Tensor]:
    """A folder as timm's save_for_hf writes it; returns the weights."""
    folder.mkdir(parents=True)
    torch.manual_seed(1)
    state: dict[str, torch.Tensor] = timm.create_model(name, num_classes=5).state_dict()
    settings = {
        "mean": [0.1, 0.2, 0.3],
        "std": [0.4, 0.5, 0.6],
        "crop_pct": 0.8,
        "interpolation": "bilinear",
    }
    settings |= {
        "input_size": [3, 160, 160],
        "classifier": "fc",
        "first_conv": "conv1.0",
        "num_classes": 5,
    }
    config = {"architecture": name, "num_classes": 5, "pretrained_cfg": settings}
    (folder / "config.json").write_text(json.dumps(config))
    save_file(state, folder / "model.safetensors")
    return state


def save_to_cache(cache: Path, repository: str) -> dict[str, torch.Tensor]:
    """The same, as a download leaves it in the cache."""
    folder = cache / f"models--{repository.replace('/', '--')}"
    state = save_model(folder / "snapshots" / "abc")
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text("abc")
    return state


@contextmanager
def serve(status: int) -> Iterator[str]:
    """A hub that answers everything with one status."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "1")
            self.end_headers()
            self.wfile.write(b"x")

        def log_message(self, *_args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def hang() -> Iterator[str]:
    """A hub that takes connections and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=64) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
