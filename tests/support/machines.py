"""Two machines on one: network namespaces with an address and a host name each, and a cable between
them."""

from __future__ import annotations

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from tests.support.servers import require_or_skip

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWNET = 0x00020000, 0x04000000, 0x40000000
KINDS = {"net": CLONE_NEWNET, "uts": CLONE_NEWUTS}
DEVICE = "eth0"  # the end of the cable on each
START_LIMIT_S = 30


@dataclass(frozen=True)
class Machine:
    """A host name, an address, and the process that holds both."""

    host: str
    address: str
    pid: int

    def command(self, words: Sequence[str]) -> list[str]:
        """A command line that runs there."""
        return ["nsenter", "--net", "--uts", f"--target={self.pid}", "--", *words]

    def run(self, *words: str) -> None:
        subprocess.run(self.command(words), check=True, capture_output=True, timeout=START_LIMIT_S)


def enter(pid: int) -> None:
    """Let this thread, and what it starts from now on, be on the machine of this process, and see
    the files that it sees."""
    libc = ctypes.CDLL(None, use_errno=True)
    for name, kind in {**KINDS, "mnt": CLONE_NEWNS}.items():
        theirs, ours = (Path(f"/proc/{who}/ns/{name}") for who in (pid, "thread-self"))
        if theirs.readlink() == ours.readlink():
            continue  # a thread may not ask for the files that it sees already
        with theirs.open() as namespace:
            if libc.setns(namespace.fileno(), kind) != 0:
                raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextmanager
def two_machines(*hosts: str) -> Iterator[list[Machine]]:
    """Machines of these names with the addresses 10.77.0.1 and 10.77.0.2; no other machine sees
    them, and this one has nothing new."""
    lacking = [name for name in ("unshare", "nsenter", "ip") if shutil.which(name) is None]
    if lacking:
        require_or_skip("namespaces", f"no {', '.join(lacking)} on PATH")
    may = subprocess.run(["unshare", "--net", "--uts", "true"], capture_output=True, check=False)
    if may.returncode:
        require_or_skip("namespaces", may.stderr.decode().strip())
    holders = [subprocess.Popen(["unshare", "--net", "--uts", "sleep", "3600"]) for _ in hosts]
    try:
        machines = [
            Machine(host, f"10.77.0.{number}", holder.pid)
            for number, (host, holder) in enumerate(zip(hosts, holders, strict=True), 1)
        ]
        for machine in machines:
            _wait_for(lambda pid=machine.pid: _is_apart(pid))  # type: ignore[misc]
        first, second = machines
        peer = ("peer", "name", DEVICE, "netns", str(second.pid))
        try:
            first.run("ip", "link", "add", DEVICE, "type", "veth", *peer)
        except subprocess.CalledProcessError as error:  # a kernel without veth
            require_or_skip("namespaces", error.stderr.decode().strip())
        for machine in machines:
            machine.run("ip", "address", "add", f"{machine.address}/24", "dev", DEVICE)
            machine.run("ip", "link", "set", DEVICE, "up")
            machine.run("ip", "link", "set", "lo", "up")
            _run_there(machine, lambda host=machine.host: socket.sethostname(host))  # type: ignore[misc]
        yield machines
    finally:
        for holder in holders:
            holder.kill()
            holder.wait(START_LIMIT_S)


def _is_apart(pid: int) -> bool:
    """Whether the process has both of its namespaces, or has ended."""
    pairs = ((Path(f"/proc/{who}/ns/{name}") for who in (pid, "self")) for name in KINDS)
    return all(theirs.readlink() != ours.readlink() for theirs, ours in pairs)


def _wait_for(ready: Callable[[], bool]) -> None:
    deadline = time.monotonic() + START_LIMIT_S
    while not ready():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.01)


def _run_there(machine: Machine, action: Callable[[], object]) -> None:
    """Call a function in a thread that is on that machine; this thread stays here."""
    errors: list[BaseException] = []

    def act() -> None:
        try:
            enter(machine.pid)
            action()
        except BaseException as error:  # noqa: BLE001 (raised in the caller's thread)
            errors.append(error)

    thread = threading.Thread(target=act)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@contextmanager
def published(machine: Machine, *ports: int) -> Iterator[None]:
    """Servers of this machine's loopback are on all addresses of that one, under the same ports, as
    a container's published port is."""
    listeners: list[socket.socket] = []

    def listen() -> None:
        for port in ports:
            listeners.append(socket.create_server(("0.0.0.0", port)))  # noqa: S104 (no way out)

    _run_there(machine, listen)
    try:
        for listener, port in zip(listeners, ports, strict=True):
            threading.Thread(target=_accept, args=(listener, port), daemon=True).start()
        yield
    finally:
        for listener in listeners:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)  # wakes the thread that accepts
            listener.close()


def _accept(listener: socket.socket, port: int) -> None:
    with suppress(OSError):
        while True:
            client, _ = listener.accept()
            threading.Thread(target=_forward, args=(client, port), daemon=True).start()


def _forward(client: socket.socket, port: int) -> None:
    """Copy both ways to the ends of both."""
    with client, suppress(OSError), socket.create_connection(("127.0.0.1", port)) as server:
        back = threading.Thread(target=_copy, args=(server, client), daemon=True)
        back.start()
        _copy(client, server)
        back.join()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while part := source.recv(65536):
            target.sendall(part)
    with suppress(OSError):
        target.shutdown(socket.SHUT_WR)
