"""Local weight files: reading them safely, bringing older formats to timm's names, and saying what did not fit."""

from __future__ import annotations

import importlib
import pickle
from pathlib import Path
from typing import Any

import torch

from tracker.training.atomic import check_regular
from tracker.training.errors import WeightsError

SHOWN = 3


def load_local_weights(model: torch.nn.Module, path: Path) -> str:
    """Load a state dict (.pth, .pt, .bin, .safetensors) whose head may have other classes; returns what did not fit.

    Formats that timm can convert are converted: the original Swin release, position embeddings for another image size.
    Raises WeightsError when the file cannot be read or a body tensor is missing or of another shape.
    """
    state = _convert(read_state_dict(path), model, path)
    own = model.state_dict()
    fitting = {name: value for name, value in state.items() if name in own and own[name].shape == value.shape}
    missing = sorted(set(own) - set(fitting))
    unused = sorted(set(state) - set(fitting))
    classifier = str(getattr(model, "default_cfg", {}).get("classifier", ""))
    body = [name for name in missing if not (classifier and name.startswith(classifier))]
    if body or not fitting:
        raise WeightsError(
            f"{path} does not fit this model: {len(body)} of {len(own)} tensors missing or of another shape,"
            f" first {body[0] if body else 'all'}",
            hint="check model.name; only the classifier may differ",
        )
    model.load_state_dict(fitting, strict=False)
    parts = [f"{len(missing)} of {len(own)} start random{_name(missing)}"] if missing else []
    parts += [f"{len(unused)} of the file are not used{_name(unused)}"] if unused else []
    return f"{path.name}: {len(fitting)} tensors loaded" + "".join(f", {part}" for part in parts)


def _name(names: list[str]) -> str:
    rest = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return f" ({', '.join(names[:SHOWN])}{rest})"


def _convert(state: dict[str, torch.Tensor], model: torch.nn.Module, path: Path) -> dict[str, torch.Tensor]:
    """Through the filter that timm has for this family of models, where it has one."""
    convert = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        found: dict[str, torch.Tensor] = convert(dict(state), model)
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(f"{path} does not fit this model: {_first_line(error)}", hint="check model.name") from error
    return found


def read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    """The tensors of a weights file, also of one that wraps them in `model` or `state_dict`; raises WeightsError."""
    try:
        check_regular(path)
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


def _read_safetensors(path: Path) -> dict[str, Any]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise WeightsError(f"cannot read weights from {path}: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
