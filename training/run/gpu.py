"""Whether torch can use the GPU of this machine."""

from __future__ import annotations

import torch


def explain_no_gpu() -> tuple[str, str] | None:
    """Why torch cannot use a GPU that is there, and what to do; None when it can."""
    if torch.cuda.is_available():
        return None
    text = f"torch {torch.__version__} cannot use the GPU"
    if torch.version.cuda is None:
        return f"{text}: it is a build for processors", "pip install --force-reinstall torch"
    return text, "update the driver (nvidia-smi shows the CUDA version that it has)"
