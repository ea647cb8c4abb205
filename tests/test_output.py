"""What cannot be written ends a command in one line, or in none where nobody reads; narrow tables
stay readable."""

from __future__ import annotations

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import typer

from tests.conftest import COMMAND_LIMIT_S, tracker_command
from tests.support.workspaces import make_run
from tracker.commands.table import app
from tracker.submission.submit import submit
from tracker.workspace.tracker_toml import Workspace

VIEWS = ("runs", "runs --json", "tree", "--help", "run train --help")


def run_into(output: int | str, words: str, root: Path) -> tuple[int, str]:
    """Exit code and stderr of a command whose stdout goes to a file, or to a file descriptor, which
    is closed here."""
    descriptor = output if isinstance(output, int) else os.open(output, os.O_WRONLY)
    try:
        done = subprocess.run(
            tracker_command(*words.split()),
            cwd=root,
            stdout=descriptor,
            stderr=subprocess.PIPE,
            text=True,
            timeout=COMMAND_LIMIT_S,
            check=False,
        )
    finally:
        os.close(descriptor)
    return done.returncode, done.stderr


@pytest.fixture
def two(workspace: Workspace) -> Workspace:
    make_run(workspace, "0000011110")
    make_run(workspace, "0000011111", config={"optim.lr": 0.5})
    return workspace


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
@pytest.mark.parametrize("words", VIEWS)
def test_a_full_disk_is_one_line_and_exit_code_1(two: Workspace, words: str) -> None:
    wanted = (1, "error: cannot write the output: No space left on device\n")
    assert run_into("/dev/full", words, two.root) == wanted


@pytest.mark.parametrize("words", VIEWS)
def test_a_pipe_that_nobody_reads_is_141_without_a_word(two: Workspace, words: str) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    assert run_into(writer, words, two.root) == (141, "")


def test_a_closed_output_is_no_error(two: Workspace) -> None:
    command = shlex.join(tracker_command("runs"))
    done = subprocess.run(
        ["sh", "-c", f"{command} >&-"], cwd=two.root, stderr=subprocess.PIPE, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")


# --- Narrow terminals ---

VIEW_HEADS = {
    "runs": "run",
    "leaderboard": "number",
    "show exp1": "exp1",
    "diff exp1 exp2": "metric",
    "compare": "run",
    "ledger history": "row",
}


def test_every_view_has_its_first_column_and_something_beside_it(
    two: Workspace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    submit(two, "exp1", "a memo of several words")
    for number in range(4):
        make_run(two, note=f"run {number}", config={"optim.lr": 0.1 + number})
    monkeypatch.chdir(two.root)
    for words, first in VIEW_HEADS.items():
        for width in (20, 40, 60):
            monkeypatch.setenv("COLUMNS", str(width))
            capsys.readouterr()
            typer.main.get_command(app).main(
                words.split(), prog_name="tracker", standalone_mode=False
            )
            drawn = capsys.readouterr().out.splitlines()
            rule = next(place for place, line in enumerate(drawn) if set(line) == {"-", " "})
            assert drawn[rule - 1].split()[0] == first
            assert len(drawn[rule + 1].split()) > 1 or width < 30


def test_what_a_command_does_is_told_in_twenty_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "20")
    typer.main.get_command(app).main(["--help"], prog_name="tracker", standalone_mode=False)
    words = " ".join(capsys.readouterr().out.replace("\u2502", " ").split())
    assert "Show the traceback of an error." in words
