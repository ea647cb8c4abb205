"""best.pth and last.pth: tensors and plain values only, so that weights_only loading reads them."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tracker.training.errors import WeightsError, first_line
from tracker.training.files import atomic_path, check_regular
from tracker.training.model.weights import READ_ERRORS, SAFETENSORS, find_state, read_state_dict
from tracker.training.watch import is_loader_end

FORMAT = 1


def save_checkpoint(path: Path, state: Mapping[str, Any]) -> None:
    """Write a checkpoint as a whole or not at all; raises StorageError."""
    with atomic_path(path) as temporary:
        try:
            torch.save({"format": FORMAT, **state}, temporary)
        except RuntimeError as error:  # torch reports a full disk as its own error
            if is_loader_end(error):  # raised wherever the program is when a loader process dies
                raise
            raise OSError(28 if "write" in str(error) else 5, first_line(error)) from error


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint to the CPU; raises WeightsError when it is missing or damaged."""
    try:
        check_regular(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise WeightsError(
            f"no checkpoint {path}", hint="the run ended before its first epoch was complete"
        ) from None
    except OSError as error:
        raise WeightsError(f"cannot read checkpoint {path}: {error.strerror or error}") from error
    except READ_ERRORS as error:
        raise WeightsError(
            f"cannot read checkpoint {path}: it is damaged, or from another program"
        ) from error
    if not isinstance(state, dict) or state.get("format") != FORMAT:
        raise WeightsError(f"{path} is not a checkpoint of this program (format {FORMAT})")
    return state


def save_weights(weights: Mapping[str, Any] | Path | str, target: Path) -> str:
    """Save a state dict, or a copy of a checkpoint of any program, to `target`.

    Returns the fingerprint of the weights. Raises WeightsError when a file cannot be read safely or
    has no tensors, StorageError.
    """
    if isinstance(weights, Mapping):
        state = find_state(weights)[0]
        if state:
            save_checkpoint(target, {"model": state})
    else:
        path = Path(weights)
        state = read_state_dict(path)[0]
        if path.suffix == SAFETENSORS:
            save_checkpoint(target, {"model": state})
        else:
            with atomic_path(target) as temporary:
                shutil.copyfile(path, temporary)
    if not state:
        raise WeightsError(
            "no tensors in these weights", hint="give a state dict, or a file with one"
        )
    return weights_fingerprint(state)


def to_tensors(arrays: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """NumPy weights of a library without torch as tensors for `save_weights`; a copy."""
    return {name: torch.tensor(array) for name, array in arrays.items()}


def weights_fingerprint(state: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, sorted by name.

    Equal weights have equal fingerprints in any file format.
    """
    digest = hashlib.sha256()
    for name in sorted(state):
        tensor = state[name].detach().cpu().contiguous()
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(
            tensor.reshape(-1).view(torch.uint8).numpy().tobytes() if tensor.numel() else b""
        )
    return "sha256:" + digest.hexdigest()
