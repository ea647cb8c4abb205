"""What a laptop does, with Windows or macOS and without torch: everything but training."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

from tests.conftest import COMMAND_LIMIT_S, NO_MLFLOW, run_tracker
from tests.support.workspaces import make_run, make_workspace
from tracker.training import files
from tracker.training.errors import StorageError
from tracker.training.files import remove_leftovers, write_text
from tracker.workspace.tracker_toml import Workspace

# What Windows has not, taken out before anything of the program is imported.
WITHOUT = """
import contextlib, importlib.abc, io, json, os, signal, sys

LACKING = {
    "fcntl", "grp", "pty", "pwd", "resource", "termios", "tty",
    "albumentations", "captum", "cleanlab", "cv2", "imagehash", "lightning_fabric", "matplotlib",
    "optuna", "pandas", "pyarrow", "timm", "torch", "torchvision",
}

class Lacking(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in LACKING:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

import numpy, platform, psutil, sqlalchemy, subprocess, uuid  # these know both systems
for name in LACKING & sys.modules.keys():
    del sys.modules[name]
sys.meta_path.insert(0, Lacking())
for module, names in {
    os: ("fork", "geteuid", "getuid", "pipe2", "posix_fallocate", "sched_getaffinity", "setpgid",
         "setsid", "uname", "O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"),
    signal: ("SIGALRM", "SIGCHLD", "SIGHUP", "SIGPIPE", "SIGQUIT", "SIGTTOU", "SIGUSR1",
             "ITIMER_REAL", "setitimer"),
}.items():
    for name in names:
        delattr(module, name)

def run(words):
    from tracker import cli
    if words[0] == "cd":
        os.chdir(words[1])
        return 0, "", ""
    if words[0] == "board":  # what it serves until it is stopped
        import tracker.board.serve
        from tracker.board.app import build_app
        from tracker.board.pages import Pages
        from tracker.workspace.tracker_toml import find_workspace
        pages = Pages(find_workspace())
        build_app(pages, password="", names=())
        made = [pages.home(), pages.run("exp1"), pages.diff("exp1", "exp2")]
        return 0, "".join(page.html for page in made), ""
    sys.argv = ["tracker", *words]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as end:
            code = end.code
    return code, out.getvalue(), err.getvalue()

print(json.dumps([run(words) for words in json.loads(sys.argv[1])]))
"""
COMMANDS = (
    "runs",
    "show exp1",
    "diff exp1 exp2",
    "compare",
    "tree",
    "check exp1",
    "submit exp1 --memo first",
    "submit exp2 --memo second --yes",
    "submit exp1 --memo again",
    "leaderboard",
    "sota",
    "select -n 1",
    "note s1 seen",
    "note exp2 seen",
    "audit",
    "report --html r.html",
    "ledger verify",
    "ledger history",
    "ledger export table.csv",
    "board",
    "watch --once",
    "watch --pin exp1",
    "sync",
    "cd ../typed",
    "submit exp1 --memo first",
    "score 1 --public-f1 0.5",
    "init ../new",
)
REFUSED = {"submit exp1 --memo again": 3, "sync": 1}


def test_a_laptop_does_all_but_training(workspace: Workspace) -> None:
    for answers in ("0000011110", "0000011100"):
        make_run(workspace, answers)
    make_run(make_workspace(workspace.root.with_name("typed"), solution=None), "0000011110")
    words = json.dumps([line.split(maxsplit=3) for line in COMMANDS])
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT, words],
        cwd=workspace.root,
        env={**os.environ, **NO_MLFLOW},
        capture_output=True,
        text=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line, (code, out, err) in zip(COMMANDS, json.loads(done.stdout), strict=True):
        assert code == REFUSED.get(line, 0), f"{line}: {out}{err}"


def test_as_on_windows_a_file_replaces_one_that_is_being_read_a_moment_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refusals = iter([PermissionError(13, "in use")] * 3)
    replace = Path.replace

    def refuse(path: Path, target: Path) -> Path:
        for error in refusals:
            raise error
        return replace(path, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(StorageError):
        write_text(tmp_path / "file", "elsewhere it is an error")
    monkeypatch.setattr(files, "WINDOWS", True)
    write_text(tmp_path / "file", "new")
    assert list(tmp_path.iterdir()) == [tmp_path / "file"]
    assert (tmp_path / "file").read_text() == "new"


def test_as_on_windows_no_process_is_ended_by_asking_whether_it_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kill = os.kill

    def refuse(process: int, number: int) -> None:
        asker = sys._getframe(1).f_globals["__name__"]
        assert asker.startswith("psutil"), "os.kill ends a process there, whatever the signal"
        kill(process, number)

    monkeypatch.setattr(files, "WINDOWS", True)
    monkeypatch.setattr(os, "kill", refuse)
    mark = f"{zlib.crc32(platform.node().encode()):08x}"
    ours, dead = (
        tmp_path / f".a.{mark}-{process}.01234567.tmp" for process in (os.getpid(), 99_999_999)
    )
    ours.touch()
    dead.touch()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == [ours]


def test_what_the_output_cannot_encode_is_escaped_and_ends_nothing(workspace: Workspace) -> None:
    make_run(workspace, "0000011110", note="한글")
    done = run_tracker("show", "exp1", cwd=workspace.root, PYTHONIOENCODING="cp1252")
    assert "\\ud55c\\uae00" in done.stdout
