"""Several processes for one run: the first writes all files, the others only compute.

On one machine the first process starts the others itself (`python -m tracker.training.run.worker`).
On several, torchrun starts one command on each; all but the first of them follow
(training/run/worker.py). Either way the others get their work from the first. None goes on alone:
the others end with the first, and the first watches the others (training/watch.py).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor
from torch.distributed import PrefixStore, TCPStore  # type: ignore[attr-defined]  # public, but not re-exported by name
from torch.distributed.rendezvous import rendezvous

from tracker.training.config import TrainConfig
from tracker.training.errors import ConfigError, TrainingError
from tracker.training.fabric import ClusterEnvironment, Fabric, LightningEnvironment
from tracker.training.machine import count_cores, count_trainings, register_training
from tracker.training.saves import block_saves
from tracker.training.watch import POLL_S, SIGNAL_S, ProcessWatch, Worker, name_signal

END_S = 60.0  # for the workers to end after the work: the slowest may still write to a log
THREADS = "OMP_NUM_THREADS"  # torch reads it when it starts
# keys of the store that the processes share
JOINED, FAILURE = "tracker/here/{rank}", "tracker/lost"
MEETING, ALIVE = "tracker/meeting", "tracker/alive"


class LocalProcesses(LightningEnvironment):
    """Fabric's environment for the first process, where this module starts the others."""

    @property
    def creates_processes_externally(self) -> bool:
        """The others are started by `share_work`."""
        return True


@contextmanager
def share_work(
    config: TrainConfig,
    work: Mapping[str, Any],
    *,
    first: bool,
    on_stuck: Callable[[BaseException], None],
    threads: int | None = None,
) -> Iterator[ClusterEnvironment | None]:
    """In the first process: start the others and give them `work`, the arguments of `fit`.

    Each uses `threads` threads, by default its share of the cores of this host. torchrun may have
    started them already. Yields Fabric's environment, None where it finds that out itself. Raises
    ConfigError when torchrun started another number of processes, TrainingError when another one
    ended unexpectedly. When that, or a signal, cannot free this thread from its waiting for the
    others, `on_stuck` is called in another thread, and the process ends.
    """
    world = config.devices * config.num_nodes
    if first:
        _check_launch(config, world)
    if not first:
        yield None
        return
    with share_cores(world, threads):
        if world == 1:
            yield None
            return
        with _start_others(world, work, on_stuck) as environment:
            yield environment


@contextmanager
def _start_others(
    world: int, work: Mapping[str, Any], on_stuck: Callable[[BaseException], None]
) -> Iterator[ClusterEnvironment | None]:
    external = started_by_torchrun()
    with ProcessWatch(on_stuck) as watch:
        try:
            if external:
                _meet()
            else:
                _start_group(watch, world)
            torch.distributed.broadcast_object_list([dict(work)], src=0)
            yield None if external else LocalProcesses()
            watch.finish(END_S)
        except (RuntimeError, KeyboardInterrupt) as error:
            cause = _find_cause(watch, error)
            if watch.terminated:
                raise KeyboardInterrupt(name_signal(signal.SIGTERM)) from error
            if cause:
                raise TrainingError(cause, reason="processes ended") from error
            raise
        finally:
            watch.kill()
            if torch.distributed.is_initialized():
                torch.distributed.destroy_process_group()


def join_group() -> None:
    """In each other process: connect to the first one; raises RuntimeError if it has ended."""
    if started_by_torchrun():
        _meet()
        return
    rank, world, port = (int(os.environ[name]) for name in ("RANK", "WORLD_SIZE", "MASTER_PORT"))  # noqa: TID251
    store = TCPStore("127.0.0.1", port, world, is_master=False)
    store.set(JOINED.format(rank=rank), "")
    torch.distributed.init_process_group(store=store, rank=rank, world_size=world)
    torch.set_num_threads(int(os.environ[THREADS]))  # noqa: TID251


def _meet() -> None:
    """Connect the processes that torchrun has started.

    Its store outlives a restart (max_restarts), and has the addresses of processes that ended. So
    the first process names each meeting, and counts while it waits: then it is no dead one.
    """
    store, rank, world = next(rendezvous("env://"))
    if rank == 0:
        name = uuid.uuid4().hex
        store.set(MEETING, name)
        absent = {f"{name}/{other}" for other in range(1, world)}
        while absent := {key for key in absent if not store.check([key])}:
            store.add(ALIVE, 1)
            time.sleep(POLL_S)
    else:
        count = store.add(ALIVE, 0)
        while store.add(ALIVE, 0) == count:
            time.sleep(POLL_S)
        name = store.get(MEETING).decode()
        store.set(f"{name}/{rank}", "")
    place = PrefixStore(name, store)
    torch.distributed.init_process_group(store=place, rank=rank, world_size=world)


def report_failure(reason: str) -> None:
    """In another process that fails: tell the first process why, if it can be reached."""
    with suppress(RuntimeError, ValueError):
        torch.distributed.distributed_c10d._get_default_store().set(FAILURE, reason)


def started_by_torchrun() -> bool:
    """Whether torchrun started this process."""
    return "TORCHELASTIC_RUN_ID" in os.environ  # noqa: TID251


def is_connection_error(error: RuntimeError) -> bool:
    """Whether torch raised this because another process of the group has ended."""
    if isinstance(error, torch.distributed.DistError):
        return True
    text = str(error).lower()
    signs = ("gloo", "nccl", "connection closed by peer", "connection reset by peer")
    return any(sign in text for sign in signs)


def gather_images(fabric: Fabric, part: Tensor) -> Tensor:
    """The images of all processes, [images, ...] in order.

    Process r has each world-th image from r on; all processes have the same number. Gradients flow
    into this process's own part alone, so the mean over processes is a world-th of the whole
    gradient.
    """
    if fabric.world_size == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, part.detach().contiguous())
    parts[fabric.global_rank] = part
    return torch.stack(parts, dim=1).flatten(0, 1)


def has_own_threads() -> bool:
    """Whether the user has said by OMP_NUM_THREADS how many threads a process uses."""
    return THREADS in os.environ  # noqa: TID251


@contextmanager
def share_cores(world: int, threads: int | None = None) -> Iterator[None]:
    """Within the block, this process uses its share of the cores, or `threads` threads.

    The cores are divided among the trainings on this host and the `world` processes of this one:
    threads beyond the cores wait for each other. OMP_NUM_THREADS is the user's own number.
    """
    before = torch.get_num_threads()
    with register_training():
        cores = max(1, count_cores() // world)
        wanted = threads or before
        if threads is None and not has_own_threads():
            wanted = max(1, min(before, cores) // count_trainings())
        torch.set_num_threads(min(wanted, cores))
        try:
            yield
        finally:
            torch.set_num_threads(before)


def _check_launch(config: TrainConfig, world: int) -> None:
    if started_by_torchrun():
        started = int(os.environ["WORLD_SIZE"])  # noqa: TID251
        if started != world:
            raise ConfigError(
                f"torchrun started {started} processes, the config says {config.num_nodes} x"
                f" {config.devices}",
                reason="other number of processes",
            )
    elif config.num_nodes > 1:
        raise ConfigError(
            "train.num_nodes: several machines need torchrun",
            reason="torchrun needed",
            machines=config.num_nodes,
            processes=config.devices,
        )


def _start_group(watch: ProcessWatch, world: int) -> None:
    """Start the other processes on this machine and connect them.

    Raises TrainingError when one ends before that.
    """
    store = TCPStore("127.0.0.1", 0, world, is_master=True, wait_for_workers=False)
    watch.workers += [Worker(rank, _start(rank, world, store.port)) for rank in range(1, world)]
    absent = {JOINED.format(rank=rank) for rank in range(1, world)}
    while absent := {key for key in absent if not store.check([key])}:
        if watch.terminated:
            raise KeyboardInterrupt(name_signal(signal.SIGTERM))
        if watch.failure:
            raise TrainingError(watch.failure)
        time.sleep(POLL_S)
    torch.distributed.init_process_group(store=store, rank=0, world_size=world)


def _start(rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
    group = {
        "RANK": rank,
        "LOCAL_RANK": rank,
        "WORLD_SIZE": world,
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        THREADS: torch.get_num_threads(),
    }
    environment = {
        **os.environ,  # noqa: TID251
        **{name: str(value) for name, value in group.items()},
    }
    with block_saves():
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "tracker.training.run.worker", str(os.getpid())],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            # Ctrl-C, or SIGTERM to the whole group, is for the first process, which ends the others
            process_group=0,
        )


def _find_cause(watch: ProcessWatch, error: RuntimeError | KeyboardInterrupt) -> str:
    """Why the group broke: how another process ended, its own report, or torch's message.

    Empty where it did not break. torchrun ends this process by a signal when another one has ended;
    what that has left tells it from somebody's Ctrl-C.
    """
    external = started_by_torchrun()
    if isinstance(error, KeyboardInterrupt):
        return _read_failure() if external else ""
    if not is_connection_error(error):
        return ""
    if not external:
        # somebody may end all processes, another one first: then our own signal arrives soon
        time.sleep(SIGNAL_S)
    elif threading.current_thread() is threading.main_thread():
        # torchrun sends SIGTERM now, but the cause is known already
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    lines = str(error).strip().splitlines() or [type(error).__name__]
    message = lines[0].rpartition("] ")[2]  # without the place in torch's source
    return (
        watch.failure
        or _read_failure()
        or f"another process of this run ended unexpectedly: {message}"
    )


def _read_failure() -> str:
    """The report of `report_failure`; empty when there is none."""
    with suppress(RuntimeError, ValueError):
        store = torch.distributed.distributed_c10d._get_default_store()
        if store.check([FAILURE]):
            return str(store.get(FAILURE).decode(errors="replace"))
    return ""
