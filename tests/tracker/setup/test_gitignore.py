"""A workspace in a git repository: what git is told to leave out, judged by git itself."""

from __future__ import annotations

import os
import subprocess
from itertools import chain
from pathlib import Path

import pytest

from tests.conftest import run_tracker
from tracker.setup.gitignore import GITIGNORE, HEADING, OUTPUTS, ignore_outputs
from tracker.training.errors import StorageError

ALL = [*OUTPUTS]
MADE = ("runs/exp1/best.pth", "mlartifacts/1/a", ".tracker/images.npz", "submissions/exp1.csv")
MADE += ("ledger.db", "ledger.db-wal", "mlflow.db", "mlflow.db-shm")


def git(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """A git command without the settings of whoever runs the tests."""
    environment = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}
    return subprocess.run(
        ["git", "-C", str(folder), *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        timeout=60,
    )


def is_ignored(folder: Path, name: str) -> bool:
    return git(folder, "check-ignore", "-q", "--no-index", name).returncode == 0


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    folder.mkdir()
    assert git(folder, "init", "-q").returncode == 0
    return folder


def test_init_in_a_repository_tells_git_what_to_ignore_and_says_so(repository: Path) -> None:
    done = run_tracker("init", "masks", cwd=repository)
    assert f"added to .gitignore: {', '.join(ALL)}" in done.stdout
    folder = repository / "masks"
    assert all(is_ignored(folder, name) for name in MADE)
    assert not is_ignored(folder, "tracker.toml")
    assert not (repository / GITIGNORE).exists()
    listed = git(repository, "status", "--porcelain", "-uall").stdout.split()
    assert sorted(name for name in listed if name != "??") == [
        "masks/.gitignore",
        "masks/tracker.toml",
    ]


def test_init_leaves_git_alone_where_it_is_told_to_or_there_is_none(
    repository: Path, tmp_path: Path
) -> None:
    told = run_tracker("init", "masks", "--no-gitignore", cwd=repository)
    alone = run_tracker("init", "masks", cwd=tmp_path)
    assert "gitignore" not in told.stdout + alone.stdout
    assert not list(tmp_path.rglob(GITIGNORE))


def test_no_git_program_is_needed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    assert ignore_outputs(repository) == ALL


def test_only_missing_lines_are_added_and_the_rest_stays(repository: Path) -> None:
    path = repository / GITIGNORE
    path.write_bytes(b"# mine\r\n*.pyc\r\nruns/\r\n\xff\xfe\r\n*.db*")
    lines = ["mlartifacts/", ".tracker/", "submissions/", ".env"]
    assert ignore_outputs(repository) == lines
    added = "".join(f"{line}\r\n" for line in (HEADING, *lines)).encode()
    assert path.read_bytes() == b"# mine\r\n*.pyc\r\nruns/\r\n\xff\xfe\r\n*.db*\r\n" + added
    assert ignore_outputs(repository) == []


@pytest.mark.parametrize("ignored", ["masks/", "/masks", "**/masks", "*", "m?sks", "[l-n]asks"])
def test_a_workspace_that_is_ignored_as_a_whole_gets_no_file(
    repository: Path, ignored: str
) -> None:
    (repository / GITIGNORE).write_text(f"{ignored}\n")
    (repository / "masks").mkdir()
    assert ignore_outputs(repository / "masks") == []
    assert not (repository / "masks" / GITIGNORE).exists()


PATTERNS = (
    "runs",
    "runs/",
    "/runs/",
    "masks/runs/",
    "/masks/runs",
    "other/runs/",
    "**/runs/",
    "masks/**",
    "/**/runs",
    "*.db",
    "*.db-*",
    "*.db*",
    "ledger.*",
    "ledger.db?wal",
    "*.[a-d]b",
    "*.[!a]b",
    "[]x]*",
    "ledger.[db",
    "*.d\\b",
    "\\!runs",
    "#runs",
    "runs  ",
    "runs\\ ",
    "*",
    "!*",
    "*\n!masks",
    "*\n!masks/\n!runs/",
    "*\n!*/\n!*.db",
    "runs/*\n!runs/exp1",
    "**/exp*/**",
    "*.pth\n*.json",
    "runs/*",
    "m*s/.tracker",
    "m**s/runs",
    "masks/*/",
    "?uns",
    "/",
)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_what_is_ignored_already_is_what_git_says(repository: Path, pattern: str) -> None:
    (repository / GITIGNORE).write_text(f"{pattern}\n")
    folder = repository / "masks"
    for name in chain.from_iterable(OUTPUTS.values()):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
    wanted = [
        line
        for line, names in OUTPUTS.items()
        if not all(is_ignored(folder, name) for name in names)
    ]
    assert ignore_outputs(folder) == wanted


def test_exclude_and_the_file_of_a_worktree_count(repository: Path, tmp_path: Path) -> None:
    (repository / ".git" / "info" / "exclude").write_text("runs/\n")
    assert ignore_outputs(repository) == ALL[1:]
    worktree = tmp_path / "worktree"
    worktree.mkdir()
    (worktree / ".git").write_text(f"gitdir: {repository}/.git/worktrees/worktree\n")
    assert ignore_outputs(worktree) == ALL


def test_a_folder_called_git_alone_is_no_repository(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    assert ignore_outputs(tmp_path) == []


def test_a_gitignore_that_cannot_be_written_does_not_undo_the_workspace(repository: Path) -> None:
    (repository / "masks" / GITIGNORE).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"\.gitignore"):
        ignore_outputs(repository / "masks")
    done = run_tracker("init", "masks", cwd=repository)
    assert "git will see runs/" in done.stderr
    assert (repository / "masks" / "ledger.db").is_file()
