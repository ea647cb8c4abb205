"""Fixtures that every test may use; servers are in tests/servers.py."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("DO_NOT_TRACK", "true")
for _name in [name for name in os.environ if name.startswith("TRACKER_") and name != "TRACKER_TESTS_REQUIRE"]:
    del os.environ[_name]

pytest_plugins = ["tests.servers"]

COMMAND_LIMIT_S = 300
Done = subprocess.CompletedProcess[str]
Tracker = Callable[..., Done]


def tracker_command(*words: str | Path) -> list[str]:
    """The command line of tracker in a process of its own."""
    return [sys.executable, "-m", "cli", *map(str, words)]


def run_tracker(*words: str | Path, cwd: Path, ok: bool = True, **env: str) -> Done:
    """Run a tracker command to its end; with `ok`, its exit code must be 0."""
    done = subprocess.run(
        tracker_command(*words),
        cwd=cwd,
        env={**os.environ, **env},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert not ok or done.returncode == 0, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
    assert "Traceback" not in done.stderr
    return done


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The workspace that `tracker demo` made, and what it printed; made once, not to be changed."""
    folder = tmp_path_factory.mktemp("demo") / "masks"
    done = run_tracker("demo", folder, cwd=folder.parent)
    return folder, done.stdout
