"""Read weight files of any program safely, rename tensors to timm's names, report the rest."""

from __future__ import annotations

import importlib
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tracker.training.errors import WeightsError, first_line
from tracker.training.files import NotAFileError, check_regular

MAX_SHOWN = 3
SAFETENSORS = ".safetensors"
# Before the others, as in timm.
EMA_KEYS = ("state_dict_ema", "model_ema", "ema_state_dict", "ema")
STATE_KEYS = ("state_dict", "model_state_dict", "model", "module", "net")
SAVE_HINT = (
    'where it was trained, save its weights alone: torch.save(model.state_dict(), "weights.pth")'
)

# Errors of torch about a file that it cannot read: its unpickler fails in many ways.
READ_ERRORS = (
    *(
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        LookupError,
        TypeError,
        AttributeError,
        AssertionError,
    ),
    *(ArithmeticError, MemoryError, struct.error, pickle.UnpicklingError),
)

State = dict[str, torch.Tensor]


class _Placeholder:
    """Stands for an object of a class that torch does not load.

    Nothing of that class is imported or run.
    """

    def __new__(cls, *_args: Any) -> _Placeholder:
        return super().__new__(cls)

    def __init__(self, *_args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        """Drop the object's attributes."""


def load_local_weights(model: torch.nn.Module, path: Path) -> str:
    """Load a state dict (.pth, .ckpt, .bin, .safetensors); returns a sentence about the rest.

    The head may have other classes. It may be wrapped as `find_state` knows, its names may have a
    prefix. Formats that timm can convert are converted: the original Swin release, position
    embeddings for another image size. Raises WeightsError when the file cannot be read or a body
    tensor is missing or of another shape.
    """
    # bring the names to timm's
    state, key = read_state_dict(path)
    own = model.state_dict()
    state, prefix = strip_prefix(state, own)
    state = _convert(state, model, path)
    fitting = {
        name: value
        for name, value in state.items()
        if name in own and own[name].shape == value.shape
    }
    missing = sorted(set(own) - set(fitting))
    unused = sorted(set(state) - set(fitting))
    # only the classifier may be missing
    classifier = str(getattr(model, "default_cfg", {}).get("classifier", ""))
    body = [name for name in missing if not (classifier and name.startswith(classifier))]
    if body or not fitting:
        first = body[0] if body else "all"
        raise WeightsError(
            f"{path} does not fit this model: {len(body)} of {len(own)} tensors are missing or"
            f" have another shape, first {first}",
            hint="check model.name; only the classifier may differ",
        )
    model.load_state_dict(fitting, strict=False)
    # the sentence for the user
    parts = [f"{path.name}: {len(fitting)} tensors loaded"]
    if key in EMA_KEYS:
        parts.append(f"moving average ({key})")
    if prefix:
        parts.append(f"prefix {prefix} removed")
    if missing:
        count = f"{len(missing)} of {len(own)}"
        parts.append(f"{count} keep their random initialization{_list_first(missing)}")
    if unused:
        parts.append(f"unused in the file: {len(unused)}{_list_first(unused)}")
    return ", ".join(parts)


def _list_first(names: list[str]) -> str:
    rest = f" and {len(names) - MAX_SHOWN} more" if len(names) > MAX_SHOWN else ""
    return f" ({', '.join(names[:MAX_SHOWN])}{rest})"


def strip_prefix(state: State, own: Mapping[str, Any]) -> tuple[State, str]:
    """Remove a prefix from names of `state` that are in `own` without it; returns the prefix, too.

    Names without the prefix stay as they are: a loss or a metric of the training script. Where
    several prefixes have as many of the names, a moving average is preferred, then the shortest.
    """
    counts: dict[str, int] = {}
    for name in state:
        parts = name.split(".")
        for index in range(len(parts)):
            if ".".join(parts[index:]) in own:
                prefix = "".join(f"{part}." for part in parts[:index])
                counts[prefix] = counts.get(prefix, 0) + 1
    if not counts:
        return state, ""
    best = min(
        counts, key=lambda prefix: (-counts[prefix], "ema" not in prefix.lower(), len(prefix))
    )
    if not best:
        return state, ""
    stripped = {
        name.removeprefix(best): value for name, value in state.items() if name.startswith(best)
    }
    others = {
        name: value
        for name, value in state.items()
        if not name.startswith(best) and name not in own
    }
    return {**others, **stripped}, best


def _convert(state: State, model: torch.nn.Module, path: Path) -> State:
    """Convert a state dict by timm's filter for this family of models, if it has one."""
    convert = getattr(importlib.import_module(type(model).__module__), "checkpoint_filter_fn", None)
    if convert is None:
        return state
    try:
        converted: State = convert(dict(state), model)
    except (AttributeError, KeyError, RuntimeError, ValueError, TypeError) as error:
        raise WeightsError(
            f"{path} does not fit this model: {first_line(error)}", hint="check model.name"
        ) from error
    return converted


def read_state_dict(path: Path) -> tuple[State, str]:
    """The tensors of a weights file by name, and their key in the file; raises WeightsError."""
    if path.suffix == SAFETENSORS:
        return _read_safetensors(path), ""
    loaded = load_file(path)
    state, key = find_state(loaded)
    if not state and _has_placeholder(loaded):
        raise WeightsError(
            f"{path} is a pickled module, which would run its own code when it is loaded",
            hint=SAVE_HINT,
        )
    if not state:
        raise WeightsError(f"{path} is not a state dict", hint=SAVE_HINT)
    return state, key


def find_state(loaded: Any) -> tuple[State, str]:
    """The tensors that a training script saved, and their key; a moving average is preferred.

    Empty when there are no tensors.
    """
    if not isinstance(loaded, Mapping):
        return {}, ""
    for key in (*EMA_KEYS, *STATE_KEYS):
        state, inner = find_state(loaded.get(key))
        if state:
            return state, inner or key
    return {
        str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)
    }, ""


def _has_placeholder(loaded: Any) -> bool:
    return isinstance(loaded, _Placeholder) or (
        isinstance(loaded, Mapping) and _Placeholder in map(type, loaded.values())
    )


def load_file(path: Path) -> Any:
    """The content of a file of torch.save; placeholders stand for objects of other classes.

    Raises WeightsError.
    """
    from torch.serialization import get_unsafe_globals_in_checkpoint, safe_globals

    try:
        check_regular(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(
            f"no such file: {path}", hint="model.pretrained is true, false or a path"
        ) from None
    except NotAFileError as error:
        raise translate_load_error(path, error) from error
    except READ_ERRORS as error:
        first = error
    try:
        names = get_unsafe_globals_in_checkpoint(path)
    except READ_ERRORS:
        raise translate_load_error(path, first) from first
    try:
        with safe_globals([(_Placeholder, name) for name in names]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except READ_ERRORS as error:
        raise translate_load_error(path, error) from error


def translate_load_error(path: Path, error: Exception) -> WeightsError:
    """A WeightsError with torch's reason, without its advice to turn the safety off."""
    message = str(error)
    if "weights_only" in message or "Weights only" in message:
        return WeightsError(
            f"{path} contains more than tensors, so it is not loaded", hint=SAVE_HINT
        )
    return WeightsError(f"cannot read weights from {path}: {first_line(error)}")


def _read_safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors import torch as safe

    try:
        check_regular(path)
        return dict(safe.load_file(path))
    except FileNotFoundError:
        raise WeightsError(
            f"no such file: {path}", hint="model.pretrained is true, false or a path"
        ) from None
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"cannot read weights from {path}: {first_line(error)}") from error
