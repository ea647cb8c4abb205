"""The wheel works without the checkout; the session's demo is made by it (tests/conftest.py)."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from tests.conftest import NO_MLFLOW, ROOT

pytestmark = pytest.mark.slow

WHERE = "import cli, tracker.ledger, training.loop; print(cli.__file__, tracker.__file__, training.__file__)"


def test_the_installed_program_is_the_wheel_and_not_the_checkout(installed: Path, tmp_path: Path) -> None:
    done = subprocess.run([installed / "python", "-c", WHERE], cwd=tmp_path, capture_output=True, text=True, check=True)
    for place in done.stdout.split():
        assert Path(place).is_relative_to(installed.parent)
        assert not Path(place).is_relative_to(ROOT)


def test_the_installed_program_makes_a_ledger_and_a_run(demo: tuple[Path, str]) -> None:
    folder, story = demo
    assert (folder / "ledger.db").is_file()
    assert (folder / "runs" / "exp1" / "best.pth").is_file()
    assert "submission 2" in story


def test_the_installed_program_has_the_reports_page(installed: Path, demo: tuple[Path, str], tmp_path: Path) -> None:
    target = tmp_path / "report.html"
    command = [installed / "tracker", "report", "--html", target]
    subprocess.run(command, cwd=demo[0], env={**os.environ, **NO_MLFLOW}, capture_output=True, check=True)
    assert "<!doctype html>" in target.read_text()
