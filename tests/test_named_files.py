"""Files that users name: written whole, or not at all and with a clear error."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from tests.support.limits import Case, list_files, run_forked
from tests.support.workspaces import make_run, make_workspace_with_images
from tracker.jobs.queue import read_queue
from tracker.jobs.sweep_file import read_sweep
from tracker.ledger.heads import SeenHead
from tracker.ledger.signing import sign_head
from tracker.ledger.submission_table import read_submission_table
from tracker.ledger.transfer import restore_ledger
from tracker.submission.submit import submit
from tracker.training.errors import ConfigError
from tracker.workflows.resolve import resolve_config
from tracker.workspace.tracker_toml import Workspace

NO_MLFLOW = ["mlflow"]
WRITERS = {  # a command without the name of its file, and how the name ends
    "report --html": ".html",
    "report --md": ".md",
    "ledger export": ".csv",
    "ledger export ": ".json",
    "ledger export  ": ".md",
    "ledger backup": ".db",
    "data split --out": ".csv",
}
FOLDERS = ("data stats --figures", "data remove-background photos --processes 1 --out")


def test_a_file_that_is_not_there_is_a_usage_error_for_every_reader(workspace: Workspace) -> None:
    path = workspace.root / "nosuch.file"
    head = SeenHead(seq=1, hash="0" * 64, made_at="")
    readers: dict[str, Callable[[], object]] = {
        "run queue": lambda: read_queue(path),
        "run sweep": lambda: read_sweep(path),
        "run train": lambda: resolve_config(workspace, config_file=path),
        "ledger restore": lambda: restore_ledger(path, workspace.ledger_url),
        "ledger import": lambda: read_submission_table(path, workspace.competition),
        "ledger head --sign --key": lambda: sign_head(workspace, head, path),
    }
    for command, read in readers.items():
        with pytest.raises(ConfigError, match=r"^no such file: .*nosuch\.file") as caught:
            read()
        assert caught.value.exit_code == 2, command


@pytest.fixture
def full(tmp_path: Path) -> Workspace:
    """A workspace with images, a run and a submission, so that every command has something to
    write."""
    workspace = make_workspace_with_images(tmp_path / "ws")
    make_run(workspace, "0000011110")
    submit(workspace, "exp1", "first")
    return workspace


def test_without_room_the_old_file_stays_and_nothing_torn_is_left(full: Workspace) -> None:
    cases = []
    for words, ending in WRITERS.items():
        for name in (f"new{ending}", f"old{ending}"):
            if name.startswith("old") and ending != ".db":
                (full.root / name).write_text("what was there\n")
            force = [] if "backup" in words else ["--force"]
            cases.append(Case(full.root, [*words.split(), name, *force], NO_MLFLOW, room=20))
    before = list_files(full.root)
    with closing(sqlite3.connect(full.root / "ledger.db")) as held:
        held.execute(
            "SELECT count(*) FROM chain"
        ).fetchall()  # a first reader would need room for ledger.db-shm
        results = run_forked(cases)
    for case, result in zip(cases, results, strict=True):
        told = f"{case.words}: exit {result.code}\n{result.err}"
        assert result.code == 1, told
        name = next(word for word in case.words if word.startswith(("new", "old")))
        reasons = ("File too large", "disk I/O error")  # SQLite's word
        assert result.err.splitlines()[0] in [
            f"error: cannot write {name}: {reason}" for reason in reasons
        ], told
    assert list_files(full.root) == before


def test_folders_that_there_is_no_room_in_get_no_torn_file(full: Workspace) -> None:
    cases = [Case(full.root, [*words.split(), "new"], room=100) for words in FOLDERS]
    for case, result in zip(cases, run_forked(cases), strict=True):
        told = f"{case.words}: exit {result.code}\n{result.err}"
        assert result.code == 1, told
        assert result.err.splitlines()[-1].startswith("error: cannot write new/"), told
        assert "File too large" in result.err, told
    assert not [
        path for path in (full.root / "new").rglob("*") if path.name.endswith((".png", ".tmp"))
    ]


def test_a_place_where_no_file_can_be_is_one_clear_error(full: Workspace) -> None:
    (full.root / "folder").mkdir()
    (full.root / "plain").write_text("")
    os.mkfifo(full.root / "pipe")
    cases, wanted = [], []
    for words, ending in WRITERS.items():
        for name, reason in (
            (f"none/new{ending}", "No such file or directory"),
            (f"plain/new{ending}", "Not a directory"),
            (f"folder{ending}", "a folder"),
        ):
            (full.root / f"folder{ending}").mkdir(exist_ok=True)
            cases.append(Case(full.root, [*words.split(), name], NO_MLFLOW))
            wanted.append(reason)
    cases.append(Case(full.root, ["report", "--html", "."], NO_MLFLOW))
    wanted.append("it is a folder")
    cases.append(Case(full.root, ["report", "--md", "pipe"], NO_MLFLOW))
    wanted.append("it is no ordinary file")
    before = list_files(full.root)
    for case, reason, result in zip(cases, wanted, run_forked(cases), strict=True):
        told = f"{case.words}: exit {result.code}\n{result.err}"
        assert result.code == 1, told
        assert len(result.err.splitlines()) <= 2, told
        assert reason in result.err or "exists" in result.err or "Is a directory" in result.err, (
            told
        )
    assert list_files(full.root) == before
    assert (full.root / "pipe").is_fifo()


def test_the_folder_to_make_is_named(full: Workspace) -> None:
    (result,) = run_forked([Case(full.root, ["ledger", "export", "none/table.csv"])])
    assert result.err.splitlines()[1] == "  try: make the folder none first"


def test_a_long_name_in_korean_can_be_written(full: Workspace) -> None:
    name = "가" * 83 + ".md"  # 252 bytes of the 255 that there may be
    (result,) = run_forked([Case(full.root, ["ledger", "export", name])])
    assert result.code == 0, result.err
    assert "first" in (full.root / name).read_text()
