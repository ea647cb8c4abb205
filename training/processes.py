"""Several processes for one run: the first does all the writing, the others only compute.

On one machine the first process starts the others itself (`python -m tracker.training.follow`). On several, torchrun
starts one command on each; all but the first of them follow (training/follow.py). Either way the others get their work
from the first.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins.environments.cluster_environment import ClusterEnvironment
from lightning_fabric.plugins.environments.lightning import LightningEnvironment
from torch import Tensor

from tracker.training.config import TrainConfig
from tracker.training.errors import ConfigError, TrackerError

END_S = 60.0


class LocalProcesses(LightningEnvironment):
    """The first of several processes that were started here, not by torchrun nor by Fabric."""

    @property
    def creates_processes_externally(self) -> bool:
        """The others are started by `share_work`."""
        return True


@contextmanager
def share_work(config: TrainConfig, work: Mapping[str, Any], *, first: bool) -> Iterator[ClusterEnvironment | None]:
    """In the first process: start the others unless torchrun did, and give them `work`, the arguments of `fit`.

    Yields Fabric's environment, None where it finds that out itself. Raises ConfigError when torchrun started another
    number of processes, TrackerError when one of them died.
    """
    world = config.devices * config.num_nodes
    if first:
        _check_launch(config, world)
    if world == 1 or not first:
        yield None
        return
    external = "TORCHELASTIC_RUN_ID" in os.environ  # noqa: TID251
    port = 0 if external else _find_port()
    others = [] if external else [_start(rank, world, port) for rank in range(1, world)]
    threads = torch.get_num_threads()
    try:
        if external:
            torch.distributed.init_process_group()
        else:
            share_cores(world)
            address = f"tcp://127.0.0.1:{port}"
            torch.distributed.init_process_group(init_method=address, rank=0, world_size=world)
        torch.distributed.broadcast_object_list([dict(work)], src=0)
        yield None if external else LocalProcesses()
        for other in others:
            other.wait(timeout=END_S)
    except (RuntimeError, subprocess.TimeoutExpired) as error:
        if any(other.poll() for other in others):
            raise TrackerError("another process of this run died; its message is above") from error
        raise
    finally:
        for other in others:
            other.kill()  # nothing happens to those that have ended
            other.wait()
        torch.set_num_threads(threads)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def gather_images(fabric: Fabric, part: Tensor) -> Tensor:
    """What all processes have, [images, ...] in order: process r has every world-th image from r on, all equally many.

    Gradients flow into this process's own part alone, so the mean over processes is a world-th of the whole gradient.
    """
    if fabric.world_size == 1:
        return part
    parts = [torch.empty_like(part) for _ in range(fabric.world_size)]
    torch.distributed.all_gather(parts, part.detach().contiguous())
    parts[fabric.global_rank] = part
    return torch.stack(parts, dim=1).flatten(0, 1)


def _check_launch(config: TrainConfig, world: int) -> None:
    if "TORCHELASTIC_RUN_ID" in os.environ:  # noqa: TID251
        started = int(os.environ["WORLD_SIZE"])  # noqa: TID251
        if started != world:
            raise ConfigError(
                f"torchrun started {started} processes, the config says {config.num_nodes} x {config.devices}",
                hint="--set train.num_nodes=MACHINES --set train.devices=PROCESSES_ON_EACH",
            )
    elif config.num_nodes > 1:
        raise ConfigError(
            "train.num_nodes: several machines need torchrun",
            hint=f"torchrun --nnodes {config.num_nodes} --nproc-per-node {config.devices} -m tracker.cli run train ...",
        )


def _start(rank: int, world: int, port: int) -> subprocess.Popen[bytes]:
    place = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": world, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    environment = {**os.environ, **{name: str(value) for name, value in place.items()}}  # noqa: TID251
    command = [sys.executable, "-P", "-m", "tracker.training.follow"]
    return subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)


def share_cores(world: int) -> None:
    """As many threads as this process has cores of its own: more would wait for each other."""
    torch.set_num_threads(max(1, len(os.sched_getaffinity(0)) // world))


def _find_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
