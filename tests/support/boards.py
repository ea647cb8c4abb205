"""Requests to the board as a web server hands them on, without a server."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tracker.board.app import build_app
from tracker.board.pages import Pages
from tracker.workspace.tracker_toml import Workspace


@dataclass(frozen=True)
class Answer:
    """What the board answered."""

    status: int
    headers: Mapping[str, str]
    text: str


class Board:
    """The application of a workspace."""

    def __init__(self, workspace: Workspace, *, password: str = "") -> None:
        self.pages = Pages(workspace)
        self._app = build_app(self.pages, password=password, names={"localhost", "gpu1"})

    def ask(self, path: str, method: str = "GET", **headers: str) -> Answer:
        """Send one request; `_` in the name of a header is a hyphen. `host` is localhost."""
        address, _, query = path.partition("?")
        given = {"host": "localhost:5001", **headers}
        scope = {
            "type": "http",
            "http_version": "1.1",
            "method": method,
            "scheme": "http",
            "path": address,
            "raw_path": address.encode(),
            "query_string": query.encode(),
            "root_path": "",
            "headers": [(k.replace("_", "-").encode(), v.encode()) for k, v in given.items() if v],
        }
        sent: list[dict[str, Any]] = []

        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"memo=written", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        asyncio.run(self._app(scope, receive, send))
        start = sent[0]
        body = b"".join(message.get("body", b"") for message in sent[1:])
        named = {name.decode(): value.decode() for name, value in start["headers"]}
        return Answer(start["status"], named, body.decode(errors="replace"))

    def read(self, path: str) -> str:
        """The page at an address that has one."""
        answer = self.ask(path)
        assert answer.status == 200, answer.text
        return answer.text


def basic(user: str, password: str) -> str:
    """The header of HTTP's basic authentication."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
