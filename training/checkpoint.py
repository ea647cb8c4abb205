"""best.pth and last.pth: tensors and plain values only, so that weights_only loading reads them."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tracker.training.atomic import atomic_path, check_regular
from tracker.training.errors import WeightsError

FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint as a whole or not at all; raises StorageError."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # torch reports a full disk as its own error
            raise OSError(28 if "write" in str(error) else 5, str(error).splitlines()[0]) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint onto the CPU; raises WeightsError when it is missing, torn or of another format."""
    try:
        check_regular(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(f"no checkpoint {path}", hint="the run ended before its first epoch was complete") from None
    except (pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise WeightsError(f"cannot read checkpoint {path}: {first_line}") from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a checkpoint of this program (format {FORMAT})")
    return state


def save_weights(weights: Mapping[str, Any] | Path | str, target: Path) -> str:
    """Keep a state dict, or a copy of a checkpoint of any program, at `target`; returns the weights' fingerprint.

    Raises WeightsError when a checkpoint cannot be read with weights_only or has no tensors, StorageError.
    """
    if isinstance(weights, Mapping):
        state = _find_tensors(weights)
        if state:
            save_checkpoint(target, {"model": state})
    else:
        try:
            check_regular(Path(weights))
            state = _find_tensors(torch.load(weights, map_location="cpu", weights_only=True))
        except (pickle.UnpicklingError, OSError, RuntimeError, ValueError, EOFError, KeyError) as error:
            first_line = (str(error) or type(error).__name__).splitlines()[0]
            raise WeightsError(f"cannot read checkpoint {weights}: {first_line}") from error
        if state:
            with atomic_path(target) as temporary:
                shutil.copyfile(weights, temporary)
    if not state:
        raise WeightsError("no tensors in these weights", hint="give a state dict, or a file with one")
    return weights_fingerprint(state)


def _find_tensors(loaded: Any) -> dict[str, torch.Tensor]:
    """The state dict in what a training script saved: under one of the usual names, or the whole."""
    if isinstance(loaded, Mapping):
        for name in ("model", "state_dict", "model_state_dict", "module", "ema"):
            if isinstance(loaded.get(name), Mapping):
                return _find_tensors(loaded[name])
        return {str(name): value for name, value in loaded.items() if isinstance(value, torch.Tensor)}
    return {}


def weights_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes in name order: equal weights are equal however saved."""
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b"")
    return "sha256:" + digest.hexdigest()
