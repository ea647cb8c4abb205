"""A small disk and a read-only folder, in namespaces of their own: the machine sees neither.

A process keeps the namespaces. Forked commands enter them (`strike.py`); afterwards the files are
copied out of the small disk to where they seemed to be, as if the disk had got room.
"""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

UNSHARE = ("unshare", "--user", "--map-root-user", "--mount", "--propagation", "private")
DISK_MB = 48
LIMIT_S = 60


@dataclass(frozen=True)
class Keeper:
    """A process in the namespaces: its number, and the file that fills the disk there."""

    pid: int
    filler: str


@cache
def find_lack() -> str:
    """Why a process cannot have file systems of its own here; empty where it can."""
    if shutil.which("unshare") is None:
        return "no program unshare"
    done = subprocess.run(
        [*UNSHARE, "mount", "-t", "tmpfs", "none", "/mnt"],
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )
    return done.stderr.strip().splitlines()[-1] if done.returncode else ""


@contextmanager
def keeping(root: Path, *, small: bool) -> Iterator[Keeper]:
    """Namespaces while the block runs, with the folder `root` on a small disk where `small`."""
    disk = root.parent / "disk"
    script = "echo ready; exec cat"
    if small:
        disk.mkdir(exist_ok=True)
        script = (
            f'mount -t tmpfs -o size={DISK_MB}m none "{disk}" && cp -a "{root}" "{disk}/ws" &&'
            f' mount --bind "{disk}/ws" "{root}" && {script}'
        )
    process = subprocess.Popen(
        [*UNSHARE, "sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        if process.stdout.readline() != "ready\n":
            raise OSError(f"the namespaces of {root} could not be made")
        yield Keeper(process.pid, str(disk / "filler"))
        if small:
            copy_out(process.pid, root)
    finally:
        process.stdin.close()
        process.wait(LIMIT_S)
        process.stdout.close()


def copy_out(pid: int, root: Path) -> None:
    """Have in `root` what a process sees there."""
    copy = root.with_name("copy")
    shutil.copytree(f"/proc/{pid}/root{root}", copy, symlinks=True)
    shutil.rmtree(root)  # where something is mounted in the namespaces, it goes with this
    copy.rename(root)
