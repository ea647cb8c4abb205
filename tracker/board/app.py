"""The board as a web application: its addresses, who may ask, and what each answer says of itself.

It answers GET and HEAD alone. A foreign page that has made its own name point to this machine (DNS
rebinding) asks with that name, so only known names are answered; an address in numbers cannot be
made to point elsewhere.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import ipaddress
import re
from collections.abc import Callable, Collection, Mapping
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.responses import HTMLResponse, PlainTextResponse, Response
from starlette.routing import Route

from tracker.board.pages import Page, Pages
from tracker.core.errors import LedgerError, TrackerError, UnknownRunError, render_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

HEALTH = "/health"
METHODS = ("GET", "HEAD")
SMALL = 1000  # bytes of an answer that is not compressed
# `exp12`, `s7`, `sota`, `latest`, `mina/exp12` or `mina@gpu1/exp12~3fa2c1`
WORD = re.compile(r"(?:[\w.@+-]{1,120}/)?exp[0-9]{1,9}(?:~[0-9a-f]{1,32})?|s[0-9]{1,9}|sota|latest")
RUN = re.compile(r"(?:[\w.@+-]{1,120}/)?exp[0-9]{1,9}(?:~[0-9a-f]{1,32})?")
HEADERS = {
    "Cache-Control": "no-store",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


def build_app(
    pages: Pages,
    *,
    password: str,
    names: Collection[str],
    on_start: Callable[[], None] = lambda: None,
) -> ASGIApp:
    """The application; without a password everybody who reaches it may read.

    `names` are the host names, in small letters, under which it is asked. `on_start` is called when
    the server answers.
    """

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        pages.states.start()
        on_start()
        yield
        pages.states.stop()

    answers = Answers(pages)
    app = Starlette(
        routes=[
            Route("/", answers.home),
            Route("/runs/{name:path}", answers.run),
            Route("/submissions/{number:int}", answers.submission),
            Route("/diff", answers.diff),
            Route(HEALTH, answers.health),
        ],
        exception_handlers={HTTPException: answers.refuse},
        middleware=[Middleware(GZipMiddleware, minimum_size=SMALL, compresslevel=5)],
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    headers = {**HEADERS, "Content-Security-Policy": pages.policy}
    return Guard(app, password=password, names=names, headers=headers)


class Answers:
    """What each address answers; a page is made in a thread, for it reads files."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages

    async def home(self, request: Request) -> Response:
        """The report."""
        return await self._answer(request, self._pages.home)

    async def run(self, request: Request) -> Response:
        """A run, by its name here."""
        name = request.path_params["name"]
        _check(RUN, name)
        return await self._answer(request, lambda: self._pages.run(name))

    async def submission(self, request: Request) -> Response:
        """A submission, by its number."""
        number = request.path_params["number"]
        return await self._answer(request, lambda: self._pages.submission(number))

    async def diff(self, request: Request) -> Response:
        """Two runs or submissions compared."""
        a, b = (request.query_params.get(name, "") for name in "ab")
        for word in filter(None, (a, b)):
            _check(WORD, word)
        return await self._answer(request, lambda: self._pages.diff(a, b))

    async def health(self, _: Request) -> Response:
        """That the board runs, for a supervisor without the password."""
        return PlainTextResponse("ok\n")

    async def refuse(self, _: Request, error: Exception) -> Response:
        """An address that is none."""
        status = error.status_code if isinstance(error, HTTPException) else 500
        if status == 404:
            html = self._pages.error("There is no such page", "The address is wrong.")
            return HTMLResponse(html, status)
        return PlainTextResponse(f"error {status}\n", status)

    async def _answer(self, request: Request, make: Callable[[], Page]) -> Response:
        """The page, or 304 for a browser that shows it already."""
        try:
            page = await run_in_threadpool(make)
        except TrackerError as error:
            return self._describe(error)
        tag = f'"{page.key}"'
        known = request.headers.get("if-none-match", "")
        if tag in [part.strip() for part in known.split(",")]:
            return Response(status_code=304, headers={"ETag": tag})
        return HTMLResponse(page.html, headers={"ETag": tag})

    def _describe(self, error: TrackerError) -> Response:
        """The page of an error; the ledger may be back in a moment."""
        if isinstance(error, UnknownRunError):
            return HTMLResponse(self._pages.error("It is not here", render_error(error)), 404)
        retry = isinstance(error, LedgerError)
        title = "The ledger cannot be read" if retry else "This page cannot be made"
        html = self._pages.error(title, render_error(error), retry=retry)
        return HTMLResponse(html, 503 if retry else 500)


def _check(form: re.Pattern[str], word: str) -> None:
    if not form.fullmatch(word):
        raise HTTPException(404)


class Guard:
    """Answers known names, known methods and those with the password; adds headers to all."""

    def __init__(
        self, app: ASGIApp, *, password: str, names: Collection[str], headers: Mapping[str, str]
    ) -> None:
        self._app = app
        self._names = frozenset(names)
        self._digest = _digest(password.encode()) if password else b""
        self._headers = [(name.lower().encode(), text.encode()) for name, text in headers.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *self._headers]
            await send(message)

        refusal = self._find_refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _find_refusal(self, scope: Scope) -> Response | None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._knows(hosts[0].decode("latin-1")):
            text = "this name is not known here: TRACKER_BOARD_HOSTS has the names of the board\n"
            return PlainTextResponse(text, 421)
        if scope["method"] not in METHODS:
            return PlainTextResponse("the board is only read\n", 405, {"Allow": ", ".join(METHODS)})
        if scope["path"] == HEALTH or self._may_read(scope):
            return None
        challenge = {"WWW-Authenticate": 'Basic realm="tracker board", charset="UTF-8"'}
        return PlainTextResponse("the password of the board, please\n", 401, challenge)

    def _knows(self, host: str) -> bool:
        """Whether a Host header names this machine: a known name, or an address in numbers."""
        found = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d+)?|([^:\[\]]+)(?::\d+)?", host)
        if found is None:
            return False
        name = (found[1] or found[2]).lower().removesuffix(".")
        if name in self._names:
            return True
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _may_read(self, scope: Scope) -> bool:
        """Whether the request has the password; the user may be any."""
        if not self._digest:
            return True
        given = b""
        for name, value in scope["headers"]:
            if name == b"authorization" and value[:6].lower() == b"basic ":
                try:
                    given = base64.b64decode(value[6:], validate=True).partition(b":")[2]
                except binascii.Error:
                    return False
        return hmac.compare_digest(_digest(given), self._digest)


def _digest(text: bytes) -> bytes:
    """Of equal length for all texts, so that a comparison tells nothing about the length."""
    return hashlib.sha256(text).digest()
