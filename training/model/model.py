"""Any timm model, with weights from the hub, from a local file, or random."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tracker.training.config import ModelConfig, locate
from tracker.training.errors import ConfigError, WeightsError
from tracker.training.formats.mask_profiles import ATTRIBUTES
from tracker.training.machine import has_bfloat16
from tracker.training.model.hub import (
    ModelSource,
    fetch_folder,
    fetch_weights,
    find_cached,
    find_source,
    read_settings,
    translate_hub_errors,
)
from tracker.training.model.weights import load_local_weights

SIZES = tuple(len(names) for names in ATTRIBUTES.values())  # the last changes from class to class


class AttributeHeads(nn.Module):
    """One output for each attribute instead of each class.

    Class logits [batch, 18] are sums of log-probabilities. So softmax over the classes is the
    product of the attributes' probabilities, and every loss works as with one head.
    """

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body

    def forward(self, images: Tensor) -> Tensor:
        """Images float [batch, 3, height, width] in."""
        return _join([functional.log_softmax(part, dim=1) for part in self._split(images)])

    def score(self, images: Tensor) -> Tensor:
        """Unnormalized scores with the same order of classes.

        Their gradient does not vanish where the model is sure.
        """
        return _join(self._split(images))

    def _split(self, images: Tensor) -> Sequence[Tensor]:
        return torch.split(self.body(images), list(SIZES), dim=1)


class NumberHead(nn.Module):
    """A model of one number, in the unit of the training values.

    The body learns numbers of mean 0 and standard deviation 1, as heads with random weights give
    them; both are saved with the weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def fit(self, values: NDArray[np.float32]) -> None:
        """Take mean and standard deviation of the training values."""
        self.mean.fill_(float(values.mean()))
        self.std.fill_(float(values.std()) or 1.0)

    def forward(self, images: Tensor) -> Tensor:
        """Numbers [batch, 1] of images float [batch, 3, height, width]."""
        numbers: Tensor = self.body(images) * self.std + self.mean
        return numbers


def find_scale(model: nn.Module) -> float:
    """The unit of the loss: the standard deviation of a number, 1 for other targets."""
    return float(model.std) if isinstance(model, NumberHead) else 1.0


def _join(parts: Sequence[Tensor]) -> Tensor:
    """Sums by class [batch, 18] of attribute values [batch, 3], [batch, 2] and [batch, 3]."""
    total = parts[0]
    for part in parts[1:]:
        total = (total[:, :, None] + part[:, None, :]).flatten(1)
    return total


def build_model(
    config: ModelConfig,
    *,
    num_classes: int,
    image_size: tuple[int, int],
    root: Path,
    notify: Callable[[str], None] = lambda _: None,
    is_number: bool = False,
) -> nn.Module:
    """A timm model with a head for `num_classes`, or for a number.

    Paths in `config.pretrained` are relative to `root`. `notify` gets a sentence about weights that
    did not fit. Raises ConfigError for an unknown model or an option that it does not have,
    WeightsError for weights that cannot be had.
    """
    joint = config.heads == "joint"
    if not joint and num_classes != math.prod(SIZES):
        raise ConfigError(
            f"model.heads: attributes needs {math.prod(SIZES)} classes, not {num_classes}"
        )
    body = _create(config, num_classes if joint else sum(SIZES), image_size, root)
    if isinstance(config.pretrained, str):
        notify(load_local_weights(body, locate(root, config.pretrained)))
    if config.grad_checkpointing:
        _checkpoint_gradients(body, config.name)
    _freeze(body, config.freeze)
    if not joint:
        return AttributeHeads(body)
    return NumberHead(body) if is_number else body


def check_model(config: ModelConfig, *, root: Path) -> None:
    """Check that the model exists, and download its weights.

    Raises ConfigError for a model that timm does not have or that lacks gradient checkpointing,
    WeightsError for weights that cannot be had.
    """
    source = find_source(config.name, root)
    if config.grad_checkpointing:
        name = _name_for_timm(source, weights=False)
        _checkpoint_gradients(_call_timm(config.name, name, 1, {}), config.name)
    if config.pretrained is True:
        fetch_weights(source, config.name)
    elif isinstance(config.pretrained, str) and not locate(root, config.pretrained).is_file():
        raise WeightsError(
            f"no such file: {config.pretrained} (model.pretrained)",
            hint="model.pretrained is true, false or a path",
        )


def _create(
    config: ModelConfig, outputs: int, image_size: tuple[int, int], root: Path
) -> nn.Module:
    """The model with timm's weights if the config asks for them, else with random weights."""
    source = find_source(config.name, root)
    settings = read_settings(source)
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    # ViT and Swin have a position embedding for one image size
    if settings.get("fixed_input_size"):
        options["img_size"] = image_size
    if config.pretrained is not True:
        return _call_timm(config.name, _name_for_timm(source, weights=False), outputs, options)
    fetch_weights(source, config.name)
    cached = (
        find_cached(settings) if source.kind == "timm" and not settings.get("custom_load") else None
    )
    if cached:  # timm would ask the hub whether there is a newer file
        options["pretrained_cfg_overlay"] = {"file": str(cached)}
    with translate_hub_errors(config.name):
        name = _name_for_timm(source, weights=True)
        return _call_timm(config.name, name, outputs, {**options, "pretrained": True})


def _name_for_timm(source: ModelSource, *, weights: bool) -> str:
    if source.kind == "timm":
        return source.location
    folder = (
        str(fetch_folder(source.location, weights=weights))
        if source.kind == "hf-hub"
        else source.location
    )
    return f"local-dir:{folder}"


def _call_timm(shown: str, name: str, outputs: int, options: dict[str, Any]) -> nn.Module:
    import timm

    try:
        model: nn.Module = timm.create_model(name, num_classes=outputs, **options)
    except TypeError as error:
        given = ", ".join(key for key in options if not key.startswith("pretrained"))
        raise ConfigError(f"{shown} does not take {given or 'these options'}: {error}") from error
    except (
        *(OSError, RuntimeError, ValueError, AssertionError),
        *(LookupError, AttributeError, ArithmeticError),  # of a damaged config.json
    ) as error:
        if options.get("pretrained"):
            raise
        raise ConfigError(f"{shown} cannot be made: {error}") from error
    return model


def _checkpoint_gradients(body: Any, name: str) -> None:
    """Switch it on; raises ConfigError for a model that does not have it."""
    try:
        body.set_grad_checkpointing(True)
    except (AssertionError, AttributeError, NotImplementedError) as error:
        raise ConfigError(
            f"model.grad_checkpointing: {name} does not have it",
            hint="set it to false and lower train.batch_size, with train.accumulate for the rest",
        ) from error


def _freeze(body: Any, parts: str) -> None:
    """Freeze the parameters of these modules; raises ConfigError for an unknown module."""
    names = [part.strip() for part in parts.split(",") if part.strip()]
    head = (
        {id(parameter) for parameter in body.get_classifier().parameters()}
        if "body" in names
        else set()
    )
    for part in names:
        inside = [
            p
            for name, p in body.named_parameters()
            if part == "body" or f"{name}.".startswith(f"{part}.")
        ]
        if not inside:
            known = ", ".join(name for name, _ in body.named_children())
            raise ConfigError(
                f"model.freeze: this model has no part {part!r}", hint=f"body, or one of {known}"
            )
        for parameter in inside:
            parameter.requires_grad = id(parameter) in head
    if not any(parameter.requires_grad for parameter in body.parameters()):
        raise ConfigError("model.freeze: nothing is left to train", hint="body leaves the head")


def train_mode(model: nn.Module) -> None:
    """Training mode, except for frozen parts: their batch norms and dropouts stay fixed."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def resolve_precision(wanted: str, device: str) -> tuple[Precision, str]:
    """The precision to use, and a sentence when it differs from the config.

    bf16 autocast on a CPU without AMX or AVX512-BF16 is ten times slower than float32, and fp16 is
    not trained on CPUs. "auto" is float32 on a CPU: whether bf16 is quicker there was measured
    before (training/run/precision.py).
    """
    if device == "cuda":
        # older GPUs (a T4, a P100) emulate bfloat16, many times slower than float16
        has_bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
        best: Precision = "bf16-mixed" if has_bf16 else "16-mixed"
        # the config has checked the choice already
        return best if wanted == "auto" else cast("Precision", wanted), ""
    if wanted in ("auto", "32-true"):
        return "32-true", ""
    if wanted == "bf16-mixed" and device == "cpu" and has_bfloat16():
        return "bf16-mixed", ""
    return "32-true", f"{wanted} is slow or unsupported on this {device}: training in float32"
