"""Serves the board until Ctrl-C or SIGTERM, on this machine alone unless a host is asked for."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

from tracker.core.errors import InterruptedByUserError
from tracker.core.settings import get_setting
from tracker.core.signals import terminate_as_interrupt
from tracker.training.errors import ConfigError, StorageError
from tracker.training.machine import host_name
from tracker.workspace.tracker_toml import Workspace

HOST = "127.0.0.1"
PASSWORD = "TRACKER_BOARD_PASSWORD"  # noqa: S105 (the name of the setting)
NAMES = "TRACKER_BOARD_HOSTS"
DOTENV = ".env"
LEAST_PASSWORD = 12
STOP_LIMIT_S = 3  # for answers that are under way
MOST_REQUESTS = 200  # connections at once; more get 503


def serve_board(
    workspace: Workspace, *, host: str = HOST, port: int, browser: bool = False
) -> None:
    """Serve until interrupted, then raise InterruptedByUserError.

    Raises ConfigError for a port that is in use, a host that is not of this machine, or a host
    beyond this machine without a password.
    """
    password = find_password(workspace.root)
    try:
        with terminate_as_interrupt(), listen(host, port, password) as server_socket:
            address = render_address(host, server_socket.getsockname()[1])

            def announce() -> None:
                print(f"{workspace.competition.name}: {address}   (Ctrl-C stops it)", flush=True)
                if browser:
                    _browse(address)

            _serve(workspace, server_socket, password, list_names(host), announce)
    except KeyboardInterrupt:
        raise InterruptedByUserError("the board is closed", hint="tracker board") from None


def _serve(
    workspace: Workspace,
    server_socket: socket.socket,
    password: str,
    names: set[str],
    on_start: Callable[[], None],
) -> None:
    """Serve on the socket until a signal comes, which is then raised again."""
    import uvicorn

    from tracker.board.app import build_app
    from tracker.board.pages import Pages

    app = build_app(Pages(workspace), password=password, names=names, on_start=on_start)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="warning",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=MOST_REQUESTS,
        timeout_graceful_shutdown=STOP_LIMIT_S,
    )
    uvicorn.Server(config).run(sockets=[server_socket])


def find_password(root: Path) -> str:
    """The password in the environment, or in the .env of the workspace; empty without one.

    Raises StorageError for an .env that cannot be read.
    """
    if password := get_setting(PASSWORD):
        return password
    path = root / DOTENV
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    except (OSError, UnicodeDecodeError) as error:
        raise StorageError(
            f"cannot read {path}: {error}", hint=f"or set {PASSWORD} in the environment"
        ) from error
    for line in reversed(lines):
        name, _, value = line.partition("=")
        if name.strip() == PASSWORD:
            return value.strip().strip("\"'")
    return ""


def listen(host: str, port: int, password: str) -> socket.socket:
    """A socket that accepts connections on the host; raises ConfigError."""
    try:
        family, _, _, _, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (OSError, UnicodeError) as error:
        raise ConfigError(
            f"--host {host}: there is no such address",
            hint="an address of this machine, as 0.0.0.0",
        ) from error
    address = ipaddress.ip_address(str(place[0]).partition("%")[0])
    if not address.is_loopback:
        _check_password(host, password)
    server_socket = socket.socket(family, socket.SOCK_STREAM)
    try:
        if os.name == "posix":  # a board that has just ended; elsewhere it would share the port
            server_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server_socket.bind(place)
        server_socket.listen(128)
    except OSError as error:
        server_socket.close()
        raise ConfigError(
            f"cannot listen on port {port} of {host}: {error.strerror}",
            hint="tracker board --port 0 chooses a free one",
        ) from error
    return server_socket


def _check_password(host: str, password: str) -> None:
    hint = f"set {PASSWORD} in the environment or in .env; never on the command line"
    if not password:
        raise ConfigError(
            f"--host {host} lets other machines read the board, and it has no password", hint=hint
        )
    if len(password) < LEAST_PASSWORD:
        raise ConfigError(
            f"--host {host} lets other machines read the board: a password of"
            f" {LEAST_PASSWORD} characters or more is needed",
            hint=hint,
        )


def list_names(host: str) -> set[str]:
    """The names, in small letters, under which browsers reach the board.

    Addresses in numbers need no name.
    """
    return {name.lower() for name in _list_names(host)}


def _list_names(host: str) -> Iterator[str]:
    yield "localhost"
    yield host
    yield host_name()
    yield from get_setting(NAMES).replace(",", " ").split()


def render_address(host: str, port: int) -> str:
    """The address to open; every host has this machine's own, too."""
    shown = {"0.0.0.0": HOST, "::": "::1"}.get(host, host)  # noqa: S104 (what is not listened on)
    bracketed = f"[{shown}]" if ":" in shown else shown
    return f"http://{bracketed}:{port}/"


def _browse(address: str) -> None:
    import webbrowser

    webbrowser.open(address)
