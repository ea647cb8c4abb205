"""Fixtures that every test may use; servers are in tests/support/servers.py."""

from __future__ import annotations

import ctypes
import fcntl
import gc
import os
import pty
import shutil
import struct
import subprocess
import sys
import termios
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from filelock import FileLock
from PIL import Image

gc.disable()  # while tests are collected: a fourth of that time would go into looking for garbage
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # there are more test processes than cores
# What a training frees stays with its process: else the system clears the same pages at every step.
KEEP_MEMORY = {"mmap_threshold": 1 << 25, "trim_threshold": 1 << 28, "top_pad": 1 << 24}
os.environ.setdefault(
    "GLIBC_TUNABLES", ":".join(f"glibc.malloc.{key}={size}" for key, size in KEEP_MEMORY.items())
)
for _key, _number in (("trim_threshold", -1), ("top_pad", -2), ("mmap_threshold", -3)):
    with suppress(AttributeError):  # not on Linux
        ctypes.CDLL(None).mallopt(_number, KEEP_MEMORY[_key])
# Commands keep the byte code that they compile: a new interpreter for each would compile it again.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
if (
    "PYTEST_XDIST_WORKER" in os.environ
):  # make test: a test on each core, and no more threads than that
    os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop(
    "COLUMNS", None
)  # pytest-xdist sets it: tables would be as wide as the screen that the tests run on
for _name in [
    name for name in os.environ if name.startswith("TRACKER_") and name != "TRACKER_TESTS_REQUIRE"
]:
    del os.environ[_name]

pytest_plugins = [
    "tests.support.damage",
    "tests.support.forks",
    "tests.support.servers",
    "tests.support.trained_runs",
    "tests.support.workspaces",
]

ROOT = Path(__file__).resolve().parent.parent
LONGEST = (
    "test_jobs.py",
    "test_demo.py",
    "test_mlflow_log.py",
    "test_compose.py",
    "test_options.py",
    "test_races.py",
    "test_team.py",
    "test_reused_runs.py",
    "test_ui.py",
    "test_report_page.py",
    "test_submission_table.py",
    "test_board_page.py",
    "test_faults.py",
    "test_index.py",
    "test_suspects.py",
    "test_lifecycle.py",
    "test_mlflow_paths.py",
    "test_install.py",  # not beside test_demo.py: both need the demo
    "test_active_run.py",
    "test_competitions.py",
    "test_loop.py",
    "test_watch.py",
    "test_chain.py",
    "test_paired.py",
    "test_compare.py",
    "test_append.py",
    "test_headlines.py",
    "test_cli.py",
    "test_libraries.py",
    "test_damaged_files.py",
    "test_model_families.py",
    "test_torchrun.py",
    "test_slurm.py",
)
MEMORY = Path("/dev/shm")  # noqa: S108
MEMORY_FOR_FILES = 12 << 30  # they are 4 GB, databases 2, processes 5
COMMAND_LIMIT_S = 900  # two trainings at once on two cores are ten times slower than one
# Nothing listens there: a command says that MLflow is behind, at once, instead of importing it for
# three seconds.
NO_MLFLOW = {"TRACKER_MLFLOW_URI": "http://127.0.0.1:9"}
Done = subprocess.CompletedProcess[str]
Tracker = Callable[..., Done]


def pytest_addoption(parser: pytest.Parser) -> None:
    """Tests that hold for whatever was learned take a `seed`; bench/portable.sh runs them with
    several."""
    parser.addoption(
        "--seeds", type=int, default=1, help="how many seeds the tests with a seed run with"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Under pytest-xdist the files of tests lie in memory where there is plenty: a disk takes 15 of
    100 CPU seconds for them, and processes wait for it as long as they compute."""
    if getattr(config.option, "numprocesses", None) and has_memory_for(MEMORY_FOR_FILES):
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))


def pytest_sessionfinish(session: pytest.Session, exitstatus: int) -> None:
    """Leave nothing in memory but what a failure is looked for in."""
    if getattr(session.config.option, "numprocesses", None) and not exitstatus:
        factory: pytest.TempPathFactory = session.config._tmp_path_factory  # type: ignore[attr-defined]
        if factory.getbasetemp().is_relative_to(MEMORY):
            shutil.rmtree(factory.getbasetemp(), ignore_errors=True)


def has_memory_for(size: int) -> bool:
    """Whether so many bytes of files in memory leave room for the processes."""
    if not (MEMORY.is_dir() and os.access(MEMORY, os.W_OK)):
        return False
    return bool(min(shutil.disk_usage(MEMORY).free, psutil.virtual_memory().available) > size)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        metafunc.parametrize("seed", range(metafunc.config.getoption("--seeds")))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: what is begun last should be short, or one process works while the
    others have ended."""
    items.sort(
        key=lambda item: (
            LONGEST.index(item.path.name) if item.path.name in LONGEST else len(LONGEST)
        )
    )


def pytest_collection_finish() -> None:
    """What the imports have made stays to the end: a collection of garbage that looks through it
    takes half a second."""
    gc.freeze()
    gc.enable()


_forks: list[Callable[[], Any]] = []  # gives the server of tests/support/forks.py


@pytest.fixture(autouse=True)
def _programs_import_from_their_folder() -> None:
    """A tracker command that ran in this process has forbidden it to all that start from here."""
    os.environ.pop("PYTHONSAFEPATH", None)


@pytest.fixture(scope="session", autouse=True)
def _fork_commands(request: pytest.FixtureRequest) -> Iterator[None]:
    """Under pytest-xdist commands are forked; the first one starts the server."""
    if "PYTEST_XDIST_WORKER" in os.environ:
        _forks.append(lambda: request.getfixturevalue("forks"))
    yield
    _forks.clear()


def tracker_command(*words: str | Path) -> list[str]:
    """The command line of tracker in a process of its own."""
    return [sys.executable, "-P", "-m", "tracker.cli", *map(str, words)]


def run_tracker(*words: str | Path, cwd: Path, ok: bool = True, **env: str) -> Done:
    """Run a tracker command to its end; with `ok`, its exit code must be 0.

    Under pytest-xdist it is forked, which takes a third of the time of an interpreter; a test alone
    would wait for the server that forks. What an interpreter reads as it starts gets one.
    """
    if not _forks or any(name.startswith("PYTHON") for name in env):
        return run_interpreter(*words, cwd=cwd, ok=ok, **env)
    done: Done = _forks[0]().run(*words, cwd=cwd, ok=ok, **env)
    return done


def run_interpreter(*words: str | Path, cwd: Path, ok: bool = True, **env: str) -> Done:
    """The same with an interpreter of its own: for tests of the start of the program."""
    done = subprocess.run(
        tracker_command(*words),
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert not ok or done.returncode == 0, (
        f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    )
    assert "Traceback" not in done.stderr
    return done


def run_in_terminal(*words: str, cwd: Path, width: int, typed: str = "", **env: str) -> str:
    """What a tracker command writes to a terminal of its own that has `width` columns, `typed` is
    typed in it."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, width, 0, 0))
    os.write(ours, typed.encode())
    settings = {**os.environ, "TERM": "xterm-256color", **env}
    settings = {
        name: value for name, value in settings.items() if name != "NO_COLOR" or name in env
    }
    process = subprocess.Popen(
        tracker_command(*words), cwd=cwd, env=settings, stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    written = b""
    with suppress(OSError):  # the terminal has gone with its last process
        while part := os.read(ours, 65536):
            written += part
    os.close(ours)
    process.wait(COMMAND_LIMIT_S)
    return written.decode().replace("\r\n", "\n")


def save_image(
    path: Path, *, seed: int, mode: str = "RGB", size: tuple[int, int] = (24, 20)
) -> Path:
    """A photograph of noise, brighter when the seed is odd; size is (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 80, (size[1], size[0], 3)) + 120 * (seed % 2)
    Image.fromarray(noise.astype(np.uint8)).convert(mode).save(path)
    return path


def make_pictures(root: Path, *, per_class: int = 12, to_predict: int = 6) -> None:
    """train/{cat,dog} with images, eval/images and eval/info.csv, and a solution.csv that calls
    bright images dogs."""
    for label, name in enumerate(("cat", "dog")):
        for number in range(per_class):
            save_image(root / "train" / name / f"{name}{number:02d}.png", seed=2 * number + label)
    names = [f"e{number}.png" for number in range(to_predict)]
    for number, name in enumerate(names):
        save_image(root / "eval" / "images" / name, seed=100 + number)
    (root / "eval" / "info.csv").write_text(
        "ImageID,ans\n" + "".join(f"{name},0\n" for name in names)
    )
    truth = [f"{name},{n % 2},{'Public' if n % 3 else 'Private'}\n" for n, name in enumerate(names)]
    (root / "solution.csv").write_text("ImageID,ans,Usage\n" + "".join(truth))


def make_project(root: Path) -> Path:
    """A project of somebody else that has training/, cli.py and tests/ of its own."""
    for name, text in (
        ("training/__init__.py", "LOSS = 0.5\n"),
        ("cli.py", ""),
        ("tests/test_mine.py", ""),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


@contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder that all processes of the test session share, and whether this one must fill it; the
    others wait."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock"), timeout=COMMAND_LIMIT_S):
        done = folder.with_suffix(".done")
        yield folder, not done.exists()
        done.touch()


@pytest.fixture(scope="session")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin folder of an environment that has tracker's wheel installed, and the libraries of
    this one."""
    with made_once(tmp_path_factory, "installed") as (folder, first):
        python = folder / "env" / "bin" / "python"
        if first:
            install_wheel(folder, python)
    return python.parent


def install_wheel(folder: Path, python: Path) -> None:
    """Build the wheel and install it, without dependencies, into a new environment that has
    `python`."""
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    build = [
        *pip,
        "wheel",
        "--no-deps",
        "--no-build-isolation",
        "--wheel-dir",
        str(folder),
        str(ROOT),
    ]
    subprocess.run(build, check=True, timeout=COMMAND_LIMIT_S)
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", folder / "env"],
        check=True,
        timeout=COMMAND_LIMIT_S,
    )
    (wheel,) = folder.glob("submission_ledger-*.whl")
    command = [*pip, "--python", str(python), "install", "--no-deps", "--no-index", str(wheel)]
    subprocess.run(command, check=True, timeout=COMMAND_LIMIT_S)
    (libraries,) = (folder / "env" / "lib").glob("python3*/site-packages")
    ours = [place for place in sys.path if Path(place).name == "site-packages"]
    (libraries / "libraries.pth").write_text("".join(f"{place}\n" for place in ours))


@pytest.fixture(scope="session")
def demo(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The workspace that the installed `tracker demo` made, and what it printed; made once, not to
    be changed.

    It was made in a project that has names of ours: training/, cli.py and tests/.
    """
    with made_once(tmp_path_factory, "demo") as (folder, first):
        if first:
            make_project(folder)
            done = subprocess.run(
                [str(installed / "tracker"), "demo", str(folder / "masks")],
                cwd=folder,
                capture_output=True,
                text=True,
                timeout=COMMAND_LIMIT_S,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            (folder / "printed").write_text(done.stdout)
    return folder / "masks", (folder / "printed").read_text()
