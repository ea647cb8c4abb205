"""Build everything that a run needs: devices, model, optimizer, batches, loss."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.distributed.device_mesh import DeviceMesh
from torch.optim.swa_utils import AveragedModel

from tracker.training.config import Config, TrainConfig
from tracker.training.errors import ConfigError
from tracker.training.fabric import ClusterEnvironment, Fabric, ModelParallelStrategy
from tracker.training.formats.samples import LoadedData, Task
from tracker.training.input.loader import ImageSource, build_dataset, build_loader
from tracker.training.input.mixup import Mixer, build_mixer
from tracker.training.input.sampler import BatchSampler, balance
from tracker.training.logger import RunLogger
from tracker.training.machine import keep_memory
from tracker.training.model.compiled import allow_fused_attention
from tracker.training.model.losses import Loss, build_loss
from tracker.training.model.model import (
    AttributeHeads,
    NumberHead,
    build_model,
    find_scale,
    resolve_precision,
)
from tracker.training.model.optim import build_optimizer, lr_factor
from tracker.training.saves import SaveRequest
from tracker.training.targets import (
    TARGETS,
    count_outputs,
    count_present,
    list_values,
    stack_values,
)


@dataclass
class Setup:
    """The objects that the training loop needs."""

    config: Config
    data: LoadedData
    task: Task
    run_dir: Path
    logger: RunLogger
    fabric: Fabric
    model: Any
    optimizer: Any
    scheduler: torch.optim.lr_scheduler.LambdaLR
    loss: Loss
    mixer: Mixer | None
    ema: AveragedModel | None
    train_loader: Any
    train_sampler: BatchSampler
    source: ImageSource
    saving: SaveRequest = field(default_factory=SaveRequest)

    @property
    def sharded(self) -> bool:
        """Whether each process has only a part of the weights."""
        return self.fabric.world_size > 1 and self.config.train.strategy == "fsdp"

    @property
    def eval_model(self) -> Any:
        """The module that is validated and saved: the moving average if there is one."""
        return self.model.module if self.ema is None else self.ema.module


def build_setup(
    config: Config,
    data: LoadedData,
    task: Task,
    *,
    source: ImageSource,
    run_dir: Path,
    logger: RunLogger,
    environment: ClusterEnvironment | None,
    resume: bool,
    notify: Callable[[str], None],
    precision: str | None = None,
) -> Setup:
    """Build everything that a run needs; `notify` gets sentences for the user.

    With `resume` no weights are read: they come from last.pth. `precision` as in `build_fabric`.
    Raises ConfigError and WeightsError.
    """
    train = config.train
    torch.use_deterministic_algorithms(train.deterministic, warn_only=True)
    # tries cuDNN's algorithms and takes the quickest, which another run may not take
    torch.backends.cudnn.benchmark = not train.deterministic
    fabric = build_fabric(config, environment=environment, notify=notify, precision=precision)

    if fabric.device.type == "cuda" and not train.deterministic:
        allow_fused_attention()
    # the model: seeded first, because a new head has random weights
    seed_torch(train.seed, 0)
    model_config = replace(config.model, pretrained=False) if resume else config.model
    module: Any = build_model(
        model_config,
        num_classes=count_outputs(task),
        is_number=task.target == "number",
        image_size=config.data.image_size,
        root=source.root,
        notify=notify,
    )
    if isinstance(module, NumberHead):
        module.fit(stack_values(data.train, task))
    module = _prepare_module(module, config, fabric)
    ema = None
    if train.ema:
        ema = AveragedModel(module.to(fabric.device))
    compiled: Any = torch.compile(module) if train.compile else module
    model = fabric.setup_module(compiled)

    # the optimizer needs the parameters that Fabric may have sharded
    trained = module.body if isinstance(module, AttributeHeads | NumberHead) else module
    optimizer = build_optimizer(trained, config.optim)

    # the batches
    labels = [sample.label for sample in data.train]
    sampler = BatchSampler(
        len(labels),
        train.batch_size,
        seed=train.seed,
        weights=balance(labels) if config.data.sampler == "weighted" else None,
        rank=fabric.global_rank,
        world=fabric.world_size,
    )
    paths, values = [sample.path for sample in data.train], list_values(data.train, task)
    dataset, note = build_dataset(config, paths, values, source, train=True)
    if note:
        notify(note)
    steps = -(-len(sampler) // train.accumulate)
    return Setup(
        config=config,
        data=data,
        task=task,
        run_dir=run_dir,
        logger=logger,
        fabric=fabric,
        model=model,
        optimizer=fabric.setup_optimizers(optimizer),
        scheduler=torch.optim.lr_scheduler.LambdaLR(
            optimizer,
            lambda step: lr_factor(
                step, steps_per_epoch=steps, epochs=train.epochs, config=config.sched
            ),
        ),
        loss=build_loss(
            config.loss,
            target=task.target,
            weights=_weigh_classes(config, data, task, fabric.device),
            scale=find_scale(module),
        ),
        mixer=build_mixer(
            config.augment, len(task.classes) if TARGETS[task.target].is_class else None
        ),
        ema=ema,
        train_loader=build_loader(
            dataset, sampler, workers=config.data.workers, pin_memory=fabric.device.type == "cuda"
        ),
        train_sampler=sampler,
        source=source,
    )


def _prepare_module(module: Any, config: Config, fabric: Fabric) -> Any:
    """The module in the memory format and with the batch norms that its devices need."""
    if config.train.strategy != "fsdp":  # which shards contiguous weights only
        module = module.to(memory_format=torch.channels_last)
    if fabric.world_size > 1 and fabric.device.type == "cuda":
        convert: Any = torch.nn.SyncBatchNorm.convert_sync_batchnorm  # torch does not type it
        module = convert(module)
    return module


def choose_device(train: TrainConfig) -> str:
    """The kind of device: "cuda", "mps" or "cpu"."""
    if train.accelerator != "auto":
        return train.accelerator
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_fabric(
    config: Config,
    *,
    environment: ClusterEnvironment | None,
    notify: Callable[[str], None],
    precision: str | None = None,
) -> Fabric:
    """Fabric on the devices of the config; raises ConfigError when they do not exist.

    `precision` is what train.precision "auto" stands for on a CPU, by default float32.
    """
    train = config.train
    if train.accelerator == "cuda" and not torch.cuda.is_available():
        raise ConfigError(
            "train.accelerator: no CUDA device on this machine", reason="no such device"
        )
    if train.accelerator == "mps" and not torch.backends.mps.is_available():
        raise ConfigError(
            "train.accelerator: no MPS device on this machine", reason="no such device"
        )
    device = choose_device(train)
    if device == "cuda" and torch.cuda.device_count() < train.devices:
        raise ConfigError(
            f"train.devices: {train.devices} asked for, {torch.cuda.device_count()} available"
        )
    is_settled = precision is not None and train.precision == "auto" and device == "cpu"
    wanted = str(precision) if is_settled else train.precision
    used, note = resolve_precision(wanted, device)
    if note:
        notify(note)
    if device == "cpu":
        keep_memory()
    fabric = Fabric(
        accelerator=device,
        devices=train.devices,
        num_nodes=train.num_nodes,
        strategy=_choose_strategy(config),
        precision=used,
        plugins=[environment] if environment else None,
    )
    fabric.launch()
    return fabric


def _choose_strategy(config: Config) -> str | ModelParallelStrategy:
    world = config.train.devices * config.train.num_nodes
    if world == 1:
        return "auto"
    if config.train.strategy == "ddp":
        return "ddp"
    # this is FSDP2; Fabric's FSDPStrategy is the older kind, and for GPUs only
    return ModelParallelStrategy(
        parallelize_fn=_shard,
        data_parallel_size=world,
        tensor_parallel_size=1,
        save_distributed_checkpoint=False,
    )


def _shard(model: torch.nn.Module, mesh: DeviceMesh) -> torch.nn.Module:
    """Divide each block, and the rest, among the processes.

    A block is whole in memory only while it is used.
    """
    from torch.distributed.fsdp import fully_shard

    for parent in reversed(list(model.modules())):
        if isinstance(parent, torch.nn.Sequential | torch.nn.ModuleList):
            for block in parent.children():
                if any(True for _ in block.parameters()):
                    fully_shard(block, mesh=mesh["data_parallel"])
    fully_shard(model, mesh=mesh["data_parallel"])
    return model


def seed_torch(seed: int, epoch: int, rank: int = 0) -> None:
    """Seed torch (dropout, drop path, mixing, initial weights) for one epoch of one process."""
    key = (seed, epoch, rank) if rank else (seed, epoch)
    torch.manual_seed(int(np.random.SeedSequence(key).generate_state(1)[0]))


def update_average(average: AveragedModel, model: torch.nn.Module, decay: float) -> None:
    """Move the averaged weights towards those of `model`: a moving average with a rising decay.

    After n steps it is (1 + n) / (10 + n), at most `decay`. Their number stays on the CPU:
    AveragedModel's own update waits for the GPU to read it.
    """
    steps = int(average.n_averaged)
    ours: list[torch.Tensor] = list(average.module.parameters())
    theirs: list[torch.Tensor] = list(model.parameters())
    with torch.no_grad():
        if steps == 0:
            torch._foreach_copy_(ours, theirs)
        else:
            torch._foreach_lerp_(ours, theirs, 1 - min(decay, (1 + steps) / (10 + steps)))
        for our, their in zip(average.module.buffers(), model.buffers(), strict=True):
            our.copy_(their)
        average.n_averaged += 1


def _weigh_classes(
    config: Config, data: LoadedData, task: Task, device: torch.device
) -> torch.Tensor | None:
    """A weight for each class [classes] on the device; its mean over the images is 1.

    Where an image has several labels, it is that of the images with the class: images without it by
    images with it.
    """
    if config.loss.class_weights == "none" or task.target == "number":
        return None
    if task.target == "labels":
        present = torch.from_numpy(count_present(data.train)).clamp_min(1)
        return ((len(data.train) - present).clamp_min(1) / present).to(device)
    labels = [sample.label for sample in data.train]
    weights = torch.ones(len(task.classes))
    weights[torch.tensor(labels)] = torch.from_numpy(balance(labels)).float()
    return weights.to(device)
