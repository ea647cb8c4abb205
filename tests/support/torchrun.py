"""Processes that torchrun starts: a script in two of them, and two addresses to start them at."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import COMMAND_LIMIT_S
from tests.support.servers import require_or_skip

# -P: what lies beside the script is not imported by its name
TORCHRUN = (sys.executable, "-P", "-m", "torch.distributed.run")


def run_two_processes(script: Path, *, cwd: Path) -> int:
    """Run a script under torchrun as two processes of this machine; the exit code."""
    return subprocess.run(
        [*TORCHRUN, "--standalone", "--nproc-per-node", "2", str(script)],
        cwd=cwd,
        capture_output=True,
        timeout=COMMAND_LIMIT_S,
        check=False,
    ).returncode


@dataclass(frozen=True)
class Machine:
    """A network namespace: what a command line begins with to run there, its address and device."""

    prefix: tuple[str, ...]
    address: str
    device: str = "eth0"


@contextmanager
def two_addresses() -> Iterator[list[Machine]]:
    """Two network namespaces with a cable between them; nothing else sees either."""
    if lacking := [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]:
        require_or_skip("namespaces", f"no {', '.join(lacking)} on PATH")
    holders = [
        # it says a line when it is there, and stays until its stdin is closed
        subprocess.Popen(
            ["unshare", "--net", "sh", "-c", "echo; exec cat"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        for _ in range(2)
    ]
    try:
        for holder in holders:
            assert holder.stdout and holder.stderr
            if not holder.stdout.readline():
                require_or_skip("namespaces", holder.stderr.read().decode().strip())
        machines = [
            Machine(("nsenter", "--net", f"--target={holder.pid}", "--"), f"10.78.0.{number}")
            for number, holder in enumerate(holders, start=1)
        ]
        peer = ("peer", "name", "eth0", "netns", str(holders[1].pid))
        _configure(machines[0], "link", "add", "eth0", "type", "veth", *peer)
        for machine in machines:
            _configure(machine, "address", "add", f"{machine.address}/24", "dev", "eth0")
            _configure(machine, "link", "set", "eth0", "up")
            _configure(machine, "link", "set", "lo", "up")
        yield machines
    finally:
        for holder in holders:
            holder.kill()
            holder.communicate()


def _configure(machine: Machine, *words: str) -> None:
    done = subprocess.run(
        [*machine.prefix, "ip", *words], capture_output=True, text=True, check=False
    )
    if done.returncode:  # a kernel without virtual cables
        require_or_skip("namespaces", done.stderr.strip())
