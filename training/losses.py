"""The training losses; logits are float [batch, classes], targets int64 [batch], the result is a scalar."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from training.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(config: LossConfig) -> Loss:
    """The loss called `config.name`."""
    if config.name == "focal":
        return lambda logits, targets: focal_loss(logits, targets, gamma=config.gamma)
    if config.name == "label_smoothing":
        return lambda logits, targets: functional.cross_entropy(logits, targets, label_smoothing=config.smoothing)
    return soft_f1_loss if config.name == "f1" else functional.cross_entropy


def focal_loss(logits: Tensor, targets: Tensor, *, gamma: float) -> Tensor:
    """Mean of -(1 - p)^gamma log p of the true class (Lin et al. 2017, arXiv 1708.02002, eq. 4)."""
    log_p = functional.log_softmax(logits, dim=1).gather(1, targets[:, None]).squeeze(1)
    return (-((1 - log_p.exp()) ** gamma) * log_p).mean()


def soft_f1_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - mean over classes of 2 TP / (2 TP + FP + FN), counts taken from softmax probabilities.

    A class that the batch does not have counts: its F1 is 0 whatever the model says, as in the winners' loss.
    """
    p = functional.softmax(logits, dim=1)
    truth = functional.one_hot(targets, logits.shape[1]).to(p.dtype)
    true_positive = (p * truth).sum(0)
    both = p.sum(0) + truth.sum(0)  # TP + FP + TP + FN
    f1 = 2 * true_positive / both.clamp_min(torch.finfo(p.dtype).eps)
    return 1 - f1.mean()
