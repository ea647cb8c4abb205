"""Commands that lack something, a library or room on the disk: forks of a process that has loaded
the command line."""

from __future__ import annotations

import atexit
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from tests.conftest import COMMAND_LIMIT_S, ROOT

# Runs commands, each in a fork of this process in which the import system does not find some
# libraries: as if they were not there, and a hundred times quicker than an environment for each.
CHILD = """
import importlib.machinery, json, os, pkgutil, resource, select, sys
import tracker.cli

def forget(names):
    class Finder(importlib.machinery.PathFinder):
        @classmethod
        def find_spec(cls, name, path=None, target=None):
            top = name.partition(".")[0]
            return None if top in names else super().find_spec(name, path, target)
    assert not {name.partition(".")[0] for name in sys.modules} & names
    sys.meta_path[sys.meta_path.index(importlib.machinery.PathFinder)] = Finder

def run(case, files):
    forget(set(case["without"]))
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for number, file in enumerate(files, start=1):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(case["env"])
    if case["room"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (case["room"], case["room"]))
    os.chdir(case["folder"])
    sys.argv = ["tracker", *case["words"]]
    try:
        tracker.cli.main()
    except SystemExit as end:
        return end.code or 0
    except BaseException as error:
        sys.excepthook(type(error), error, None)
        return 1
    return 0

import tracker.commands
# What most cases import, once; `forget` fails where that is a library which must not be there.
for module in pkgutil.walk_packages(tracker.commands.__path__, "tracker.commands."):
    importlib.import_module(module.name)
for name in ("tracker.ledger.read", "sqlalchemy.dialects.sqlite", "numpy", "PIL.Image"):
    importlib.import_module(name)

def fork(case):
    (out, out_end), (err, err_end) = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        code = 99
        try:
            code = run(case, (out_end, err_end))
            sys.stdout.flush()
            sys.stderr.flush()
        finally:
            os._exit(code)
    os.close(out_end)
    os.close(err_end)
    texts, ends = {out: b"", err: b""}, {out, err}
    while ends:
        for end in select.select(ends, [], [])[0]:
            part = os.read(end, 65536)
            texts[end] += part
            if not part:
                ends.remove(end)
                os.close(end)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    return code, texts[out].decode(), texts[err].decode()

for line in sys.stdin:
    print(json.dumps([fork(case) for case in json.loads(line)]), flush=True)
"""


class Case(NamedTuple):
    """A command in `folder`, without some libraries; `room`: the system writes no byte of a file
    beyond that."""

    folder: Path
    words: Sequence[str]
    without: Sequence[str] = ()
    env: dict[str, str] = {}  # noqa: RUF012  (never changed)
    room: int | None = None


class Result(NamedTuple):
    """What a command printed, and its exit code."""

    code: int
    out: str
    err: str


@cache
def start_child() -> subprocess.Popen[str]:
    """The process that forks, one for all tests of this process, and ended with it."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-c", CHILD],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    atexit.register(child.communicate, timeout=COMMAND_LIMIT_S)
    return child


def run_forked(cases: Sequence[Case]) -> list[Result]:
    """Run the cases one after another, in one process that forks."""
    plain = [
        case._asdict()
        | {
            "folder": str(case.folder),
            "without": list(case.without),
            "env": {**os.environ, **case.env},
        }
        for case in cases
    ]
    child = start_child()
    assert child.stdin and child.stdout
    print(json.dumps(plain), file=child.stdin, flush=True)
    answer = child.stdout.readline()
    assert answer, f"the process that forks has ended: {child.poll()}"
    return [Result(*found) for found in json.loads(answer)]


def list_files(root: Path) -> dict[str, int]:
    """The files of a folder with their sizes; locks and the survey of the images are no work that
    was begun."""
    return {
        str(path.relative_to(root)): path.stat().st_size
        for path in root.rglob("*")
        if path.is_file()
        and ".tracker" not in path.parts
        and not path.name.startswith("ledger.db-")
    }
