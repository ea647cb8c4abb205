"""Any timm model, with weights from the hub, from a local file, or random."""

from __future__ import annotations

import difflib
import os
import pickle
from pathlib import Path
from typing import Any, Literal, cast

import torch

from training.config import ModelConfig
from training.errors import ConfigError, WeightsError


def build_model(config: ModelConfig, *, num_classes: int, image_size: tuple[int, int], root: Path) -> torch.nn.Module:
    """A timm model with a head for `num_classes`; paths in `config.pretrained` are relative to `root`.

    Raises ConfigError for an unknown model or an option that it does not have, WeightsError for weights that
    cannot be had.
    """
    import timm

    if not timm.is_model(config.name):
        near = difflib.get_close_matches(config.name, timm.list_models(), n=3, cutoff=0.4)
        raise ConfigError(
            f"model.name: timm has no model {config.name!r}", hint=f"nearest: {', '.join(near) or 'none'}"
        )
    options: dict[str, Any] = {"drop_path_rate": config.drop_path} if config.drop_path else {}
    if _needs_image_size(config.name):
        options["img_size"] = image_size
    hub = config.pretrained is True
    try:
        model: torch.nn.Module = timm.create_model(config.name, pretrained=hub, num_classes=num_classes, **options)
    except TypeError as error:
        raise ConfigError(f"{config.name} does not take {', '.join(options) or 'these options'}: {error}") from error
    except (OSError, RuntimeError, ValueError) as error:
        if not hub:
            raise ConfigError(f"{config.name} cannot be made: {error}") from error
        raise WeightsError(
            f"no pretrained weights of {config.name}: {str(error).splitlines()[0]}",
            hint="download them elsewhere and give the file: --set model.pretrained=FILE",
        ) from error
    if isinstance(config.pretrained, str):
        load_local_weights(model, root / Path(config.pretrained).expanduser())
    return model


def _needs_image_size(name: str) -> bool:
    """Whether the model's position embedding is made for one image size (ViT, Swin)."""
    import timm

    settings = timm.get_pretrained_cfg(name)
    return bool(settings and settings.fixed_input_size)


def load_local_weights(model: torch.nn.Module, path: Path) -> list[str]:
    """Load a state dict (.pth, .pt, .bin, .safetensors) whose head may have other classes; returns what was left out.

    Raises WeightsError when the file cannot be read or a body tensor is missing or of another shape.
    """
    state = read_state_dict(path)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    left = sorted(set(own) - set(fitting))
    classifier = str(getattr(model, "default_cfg", {}).get("classifier", ""))
    body = [name for name in left if not (classifier and name.startswith(classifier))]
    if body or not fitting:
        raise WeightsError(
            f"{path} does not fit this model: {len(body)} of {len(own)} tensors missing or of another shape,"
            f" first {body[0] if body else 'all'}",
            hint="check model.name; only the classifier may differ",
        )
    model.load_state_dict(fitting, strict=False)
    return left


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file, also of one that wraps them in `model` or `state_dict`; raises WeightsError."""
    try:
        if path.suffix == ".safetensors":
            return _read_safetensors(path)
        raw = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"no such file: {path}", hint="model.pretrained takes true, false or a path") from None
    except pickle.UnpicklingError as error:
        raise WeightsError(f"{path} holds more than tensors and is not loaded: {_first_line(error)}") from error
    except (OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        raise WeightsError(f"cannot read weights from {path}: {_first_line(error)}") from error
    for key in ("model", "state_dict"):
        if isinstance(raw, dict) and isinstance(raw.get(key), dict):
            raw = raw[key]
    if not isinstance(raw, dict) or not all(isinstance(value, torch.Tensor) for value in raw.values()):
        raise WeightsError(f"{path} is not a state dict")
    return {name.removeprefix("module."): value for name, value in raw.items()}


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"cannot read weights from {path}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def list_cpu_features() -> set[str]:
    """The instruction sets of this CPU, as the kernel names them."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return set()
    return set(next((line for line in lines if line.startswith("flags")), "").split())


Precision = Literal["32-true", "bf16-mixed", "16-mixed"]


def resolve_precision(wanted: str, device: str) -> tuple[Precision, str]:
    """The precision to use and a sentence when it is not the one asked for.

    bf16 autocast on a CPU without AMX or AVX512-BF16 is ten times slower than float32, and fp16 is not trained on CPUs.
    """
    if device == "cuda":
        best: Precision = "bf16-mixed" if torch.cuda.is_bf16_supported() else "16-mixed"
        return (best if wanted == "auto" else cast("Precision", wanted)), ""  # the config knows its choices
    if wanted in ("auto", "32-true"):
        return "32-true", ""
    if wanted == "bf16-mixed" and list_cpu_features() & {"amx_bf16", "avx512_bf16"}:
        return "bf16-mixed", ""
    return "32-true", f"{wanted} is slow or unsupported on this {device}: training in float32"


def cpu_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
