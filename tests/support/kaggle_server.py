"""A server on loopback that speaks Kaggle's submission protocol, as far as the official client uses
it to submit and to download."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from tests.support.servers import free_port

SERVICE = "/v1/competitions.CompetitionApiService/"


@dataclass
class Kaggle:
    """What the server knows, and how it is to behave; `refuse` maps a request name to (status,
    message)."""

    port: int
    allowed: int = 5
    score: str = "0.7656"
    polls_until_scored: int = 1
    error: str = ""
    refuse: dict[str, tuple[int, str]] = field(default_factory=dict)
    submissions: list[dict[str, Any]] = field(default_factory=list)
    uploads: dict[str, bytes] = field(default_factory=dict)
    names: dict[str, str] = field(default_factory=dict)
    archive: bytes = b""
    cut_at: int = 0  # bytes of the archive after which a connection breaks; 0: none does
    ranges: list[str] = field(default_factory=list)  # what a download asked for, "" is all of it

    def answer(self, request: str, body: dict[str, Any]) -> dict[str, Any]:
        """The answer to one request of the client."""
        if request == "GetSubmissionLimits":
            return {
                "numToday": len(self.submissions),
                "numAllowedNow": self.allowed - len(self.submissions),
            }
        if request == "StartSubmissionUpload":
            token = f"token{len(self.names)}"
            self.names[token] = body["fileName"]
            return {"token": token, "createUrl": f"http://127.0.0.1:{self.port}/upload/{token}"}
        if request == "CreateSubmission":
            token = body["blobFileTokens"]
            row = {
                "ref": len(self.submissions) + 1,
                "fileName": self.names[token],
                "status": "PENDING",
                "polls": 0,
            }
            self.submissions.append(
                {**row, "description": body["submissionDescription"], "token": token}
            )
            return {"ref": row["ref"], "message": "Successfully submitted"}
        assert request == "ListSubmissions", request
        for row in self.submissions:
            row["polls"] += 1
            if row["polls"] > self.polls_until_scored and row["status"] == "PENDING":
                row["status"] = "ERROR" if self.error else "COMPLETE"
                row.update(
                    {"errorDescription": self.error} if self.error else {"publicScore": self.score}
                )
        shown = ("ref", "fileName", "status", "description", "publicScore", "errorDescription")
        return {
            "submissions": [
                {key: row[key] for key in shown if key in row} for row in reversed(self.submissions)
            ]
        }


@contextmanager
def kaggle_server() -> Iterator[Kaggle]:
    """The server while the block runs, on a free port."""
    state = Kaggle(port=free_port())

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or b"{}")
            request = self.path.removeprefix(SERVICE)
            if request == "DownloadDataFiles" and request not in state.refuse:
                self.send_response(302)
                self.send_header("Location", f"http://127.0.0.1:{state.port}/files/archive.zip")
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            if request in state.refuse:
                status, message = state.refuse[request]
                self._send(status, {"code": status, "message": message})
            else:
                self._send(200, state.answer(request, body))

        def do_GET(self) -> None:
            asked = self.headers.get("Range", "")
            state.ranges.append(asked)
            start = int(asked.removeprefix("bytes=").removesuffix("-")) if asked else 0
            content = state.archive[start:]
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(len(content)))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("ETag", '"one"')
            self.send_header("Last-Modified", "Thu, 01 Jan 2026 00:00:00 GMT")
            self.end_headers()
            self.wfile.write(content[: max(0, state.cut_at - start)] if state.cut_at else content)

        def do_PUT(self) -> None:
            state.uploads[self.path.rpartition("/")[2]] = self.rfile.read(
                int(self.headers["Content-Length"])
            )
            self._send(200, {})

        def _send(self, status: int, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", state.port), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def turn_to(port: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the official client talk to the server on this port."""
    from kagglesdk import kaggle_env

    monkeypatch.setitem(
        kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.PROD, f"http://127.0.0.1:{port}"
    )
