"""Real servers for tests: PostgreSQL and MLflow, on loopback and free ports, ended by the process
that began them.

And a real browser.
"""

from __future__ import annotations

import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import IO, Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright
from playwright.sync_api import Error as PlaywrightError

from tests.conftest import COMMAND_LIMIT_S, MEMORY, has_memory_for, made_once, tracker_command
from tests.support.forks import MLFLOW, Child, Forks
from tracker.core.settings import quiet_libraries

START_LIMIT_S = 90
STOP_LIMIT_S = 20
MEMORY_FOR_DATABASES = 6 << 30  # those of all test processes are 2 GB


def require_or_skip(what: str, reason: str) -> None:
    """What the machine lacks: skip the test here, fail it where TRACKER_TESTS_REQUIRE names `what`
    (CI)."""
    required = os.environ.get("TRACKER_TESTS_REQUIRE", "").split()
    if what in required:
        pytest.fail(f"{what} is required here: {reason}")
    pytest.skip(f"needs {what}: {reason}")


def free_port() -> int:
    """A port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(
    ready: Callable[[], bool], process: subprocess.Popen[bytes] | Child, log: Path
) -> None:
    """Wait until `ready`; fail with the server's log when it ended or took too long."""
    deadline = time.monotonic() + START_LIMIT_S
    while time.monotonic() < deadline and process.poll() is None:
        if ready():
            return
        time.sleep(0.1)
    pytest.fail(f"the server of {log} did not start:\n{log.read_text()[-3000:]}")


@contextmanager
def tracker_ui(*before: str, cwd: Path, **options: Any) -> Iterator[str]:
    """The page that `tracker ui` names on stdout, started by the command `before`; Ctrl-C ends it
    with 130."""
    with tracker_page("ui", *before, cwd=cwd, **options) as page:
        yield page
    if hasattr(log := options.get("stderr"), "name"):
        told = Path(log.name).read_text()
        assert (
            told.endswith("the MLflow page is closed; continue with: tracker ui\n")
            and "error:" not in told
        )


@contextmanager
def tracker_page(
    command: str, *before: str, cwd: Path, stop: int = signal.SIGINT, **options: Any
) -> Iterator[str]:
    """The address that `tracker ui` or `tracker board` names on stdout; `stop` ends it with 130."""
    child = subprocess.Popen(
        [*before, *tracker_command(command, "--port", "0")],
        cwd=cwd,
        stdout=subprocess.PIPE,
        text=True,
        **options,
    )
    assert child.stdout is not None
    try:
        yield _read_page(child.stdout)
    finally:
        child.send_signal(stop)
        assert child.wait(COMMAND_LIMIT_S) == 130
        child.stdout.close()


@contextmanager
def forked_ui(forks: Forks, cwd: Path, *, machine: int = 0) -> Iterator[str]:
    """The same, in processes that are forked where three interpreters would import MLflow;
    `machine` as `Forks.start` takes it."""
    child = forks.start("ui", "--port", "0", cwd=cwd, machine=machine)
    try:
        yield _read_page(child.stdout)
    finally:
        child.send_signal(signal.SIGINT)
        _, stderr = child.communicate(COMMAND_LIMIT_S)
        assert child.wait() == 130, stderr


def _read_page(output: IO[str]) -> str:
    line = output.readline()
    found = re.search(r"http://127\.0\.0\.1:\d+/\S*", line)
    assert found, line
    return found[0]


@contextmanager
def running(
    command: Sequence[str],
    log: Path,
    ready: Callable[[], bool],
    stop: int = signal.SIGTERM,
    **options: Any,
) -> Iterator[subprocess.Popen[bytes]]:
    """A server while the block runs; it and what it started end with the block, by the signal
    `stop`."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, **options
        )
    try:
        wait_until(ready, process, log)
        yield process
    finally:
        process.send_signal(stop)
        try:
            process.wait(STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(STOP_LIMIT_S)


# --- PostgreSQL ---


@dataclass(frozen=True)
class PostgresServer:
    """A PostgreSQL of this test session."""

    port: int
    password: str
    numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def url(self, database: str) -> str:
        return f"postgresql+psycopg://tracker:{self.password}@127.0.0.1:{self.port}/{database}"

    def create_database(self) -> str:
        """A new, empty database; its URL for SQLAlchemy."""
        import psycopg

        name = f"test_{next(self.numbers)}"
        with psycopg.connect(
            self.url("postgres").replace("+psycopg", ""), autocommit=True
        ) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return self.url(name)


def find_postgres() -> Path | None:
    """The folder of PostgreSQL's programs."""
    on_path = shutil.which("initdb")
    if on_path:
        return (
            Path(on_path).resolve().parent
            if shutil.which("postgres") is None
            else Path(on_path).parent
        )
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return found[-1].parent if found else None


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PostgresServer]:
    """One PostgreSQL for the session."""
    programs = find_postgres()
    if programs is None:
        require_or_skip(
            "postgresql",
            "no initdb on PATH or below /usr/lib/postgresql; apt-get install postgresql",
        )
    assert programs is not None
    # nothing of it outlives the session, and no test needs statistics: what only costs is off
    cheap = ("fsync=off", "synchronous_commit=off", "full_page_writes=off", "autovacuum=off")
    with running_postgres(programs, tmp_path_factory.mktemp("postgres") / "log", *cheap) as server:
        yield server


@contextmanager
def running_postgres(programs: Path, log: Path, *settings: str) -> Iterator[PostgresServer]:
    """A PostgreSQL while the block runs; it refuses to run as root, so root starts it as nobody."""
    server = PostgresServer(port=free_port(), password=secrets.token_hex(8))
    # nobody may not enter the folders of another (0700), so the data lies in one of its own
    folder = Path(
        subprocess.check_output(
            ["mktemp", "-d", "-p", find_quick_folder(), "tracker-pg-XXXXXX"], text=True
        ).strip()
    )
    user: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        user = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": [], "cwd": "/"}
    secret = folder / "password"
    secret.write_text(server.password)
    secret.chmod(0o644)
    data = folder / "data"
    subprocess.run(
        [
            *(
                programs / "initdb",
                "-D",
                data,
                "-U",
                "tracker",
                "-A",
                "scram-sha-256",
                f"--pwfile={secret}",
            ),
            *("-E", "UTF8", "--locale=C", "--no-sync"),
        ],
        check=True,
        capture_output=True,
        timeout=START_LIMIT_S,
        **user,
    )
    command = [
        str(programs / "postgres"),
        "-D",
        str(data),
        "-p",
        str(server.port),
        "-k",
        str(folder),
    ]
    for setting in (
        "listen_addresses=127.0.0.1",
        "max_connections=150",
        "wal_level=minimal",
        "max_wal_senders=0",
        "jit=off",
        *settings,
    ):
        command += ["-c", setting]
    try:
        with running(
            command, log, lambda: _answers(server), stop=signal.SIGQUIT, **user
        ):  # without a checkpoint
            yield server
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def find_quick_folder() -> Path:
    """Memory where there is plenty, else the folder of temporary files: a new database is 7 MB in
    300 files, for which a disk takes four times the processor time."""
    return MEMORY if has_memory_for(MEMORY_FOR_DATABASES) else Path(tempfile.gettempdir())


def _answers(server: PostgresServer) -> bool:
    import psycopg

    try:
        psycopg.connect(server.url("postgres").replace("+psycopg", ""), connect_timeout=3).close()
    except psycopg.OperationalError:
        return False
    return True


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a ledger database that does not exist (SQLite) or is empty (PostgreSQL)."""
    return new_ledger_url(request, tmp_path)


def new_ledger_url(request: pytest.FixtureRequest, folder: Path) -> str:
    """The same for a fixture that has these `params` and a wider scope."""
    if request.param == "sqlite":
        return f"sqlite:///{folder / 'ledger.db'}"
    server: PostgresServer = request.getfixturevalue("postgres_server")
    return server.create_database()


# --- MLflow ---


@contextmanager
def mlflow_server(folder: Path, *flags: str, port: int | None = None, **env: str) -> Iterator[str]:
    """`mlflow server` with these flags while the block runs; its address."""
    port = port or free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
        *flags,
    ]
    address = f"http://127.0.0.1:{port}"
    settings = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true", **env}
    with running(
        command,
        folder / "mlflow.log",
        lambda: _healthy(f"{address}/health"),
        cwd=folder,
        env=settings,
    ):
        yield address


@contextmanager
def mlflow_with_sqlite(folder: Path, *, port: int | None = None) -> Iterator[str]:
    """An MLflow server that keeps everything in `folder`, with one worker; its address."""
    folder.mkdir(exist_ok=True)
    flags = ("--backend-store-uri", f"sqlite:///{folder}/m.db", "--workers", "1")
    artifacts = ("--artifacts-destination", str(folder / "artifacts"))
    jobs_off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with mlflow_server(folder, *flags, *artifacts, port=port, **jobs_off) as address:
        yield address


@contextmanager
def forked_mlflow(folder: Path, forks: Forks) -> Iterator[str]:
    """The same, in processes that are forked where two interpreters would import MLflow for five
    seconds."""
    folder.mkdir(exist_ok=True)
    port, log = free_port(), folder / "mlflow.log"
    address = f"http://127.0.0.1:{port}"
    words = ("server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1")
    stores = ("--backend-store-uri", f"sqlite:///{folder}/m.db")
    artifacts = ("--artifacts-destination", folder / "artifacts")
    jobs_off = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with log.open("wb") as output:
        process = forks.start(
            *(*words, *stores, *artifacts),
            cwd=folder,
            module=MLFLOW,
            writes_to=output.fileno(),
            **jobs_off,
        )
    try:
        wait_until(lambda: _healthy(f"{address}/health"), process, log)
        yield address
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(STOP_LIMIT_S)


@pytest.fixture(scope="session")
def mlflow_db(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty database of MLflow, made once in a session: to be copied where a test needs one,
    which takes no time."""
    with made_once(tmp_path_factory, "mlflow") as (folder, first):
        if first:
            quiet_libraries()
            from mlflow import MlflowClient

            folder.mkdir()
            MlflowClient(f"sqlite:///{folder / 'mlflow.db'}").search_experiments()
    return folder / "mlflow.db"


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


# --- Browser ---

PAGE_LIMIT_MS = 60_000  # how long a page may take to show something; a busy machine is slow
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's chromium; not for the session, since playwright keeps an event loop running
    meanwhile."""
    program = shutil.which("chromium")
    if program is None:
        require_or_skip("chromium", "no chromium on PATH; apt-get install chromium")
    expect.set_options(timeout=PAGE_LIMIT_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program, args=CHROMIUM_FLAGS)
        yield browser
        browser.close()


@contextmanager
def pictured(page: Page) -> Iterator[None]:
    """Where the block fails, the error says where a picture of the page is: to draw a whole page
    takes a second, for nothing where all is well."""
    try:
        yield
    except BaseException as error:
        picture = Path(tempfile.mkdtemp(prefix="tracker-page-")) / "page.png"
        with suppress(PlaywrightError):  # the page may be what has gone
            page.screenshot(path=picture, full_page=True)
            error.add_note(f"a picture of the page: {picture}")
        raise
