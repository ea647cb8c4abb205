"""What torch.compile makes faster on a GPU, and what it is not asked for."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch


def skip_odd_batch(count: int, usual: int) -> AbstractContextManager[Any]:
    """Within the block a compiled model runs as it is written where a batch has another size.

    The last batch often has: to compile for it would take as long again as for all the others.
    """
    if count == usual:
        return nullcontext()
    stance: AbstractContextManager[Any] = torch.compiler.set_stance("force_eager")
    return stance


def allow_fused_attention() -> None:
    """Models that are built after this compute attention in one kernel, also Swin's.

    timm calls that experimental. Its backward pass does not give the same bits twice.
    """
    from timm.layers import set_fused_attn

    set_fused_attn(experimental=True)
