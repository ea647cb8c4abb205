"""The training losses; logits are float [batch, classes], the result is a scalar.

Targets are int64 [batch], or shares of the classes [batch, classes] where images were mixed. Where
an image has several classes or a number they are float [batch, outputs].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tracker.training.config import LossConfig

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(
    config: LossConfig, *, target: str = "class", weights: Tensor | None = None, scale: float = 1.0
) -> Loss:
    """The loss called `config.name` for a value of competition.target.

    `weights` [classes] are for the images of cross_entropy, label_smoothing and focal, and for the
    images that have a class in bce. A weighted loss is the sum over images divided by their number,
    not by their weights: so the mean of two equal batches is the loss of both. `scale` is the unit
    of mse and smooth_l1.
    """
    if target == "labels":
        return _build_loss_of_labels(config, weights)
    if target == "number":
        loss = functional.mse_loss if config.name == "mse" else functional.smooth_l1_loss
        return lambda logits, targets: loss(logits / scale, targets.to(logits) / scale)
    if config.name == "f1":
        return soft_f1_loss
    if config.name == "focal":
        return lambda logits, targets: focal_loss(
            logits, targets, gamma=config.gamma, weights=weights
        )
    smoothing = config.smoothing if config.name == "label_smoothing" else 0.0

    def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
        weight = None if weights is None else weights.to(logits)
        each = functional.cross_entropy(
            logits, targets, weight, reduction="none", label_smoothing=smoothing
        )
        return each.mean()

    return cross_entropy


def _build_loss_of_labels(config: LossConfig, weights: Tensor | None) -> Loss:
    """A loss of several labels an image: the mean over images and classes.

    asymmetric is summed over the classes instead, as in its paper (arXiv 2009.14119).
    """
    if config.name == "asymmetric":
        from timm.loss import AsymmetricLossMultiLabel

        asymmetric: Any = AsymmetricLossMultiLabel(reduction="batchmean")
        return lambda logits, targets: asymmetric(logits, targets.to(logits))
    if config.name == "focal":
        from torchvision.ops import sigmoid_focal_loss

        focal: Any = sigmoid_focal_loss  # torchvision does not type it
        return lambda logits, targets: focal(
            logits, targets.to(logits), alpha=-1, gamma=config.gamma, reduction="mean"
        )

    def bce(logits: Tensor, targets: Tensor) -> Tensor:
        present = None if weights is None else weights.to(logits)
        return functional.binary_cross_entropy_with_logits(
            logits, targets.to(logits), pos_weight=present
        )

    return bce


def to_shares(logits: Tensor, targets: Tensor) -> Tensor:
    """Targets as shares of the classes, in the type of the logits."""
    if targets.ndim == 2:
        return targets.to(logits.dtype)
    return functional.one_hot(targets, logits.shape[1]).to(logits.dtype)


def focal_loss(
    logits: Tensor, targets: Tensor, *, gamma: float, weights: Tensor | None = None
) -> Tensor:
    """Mean over images of -(1 - p)^gamma log p of the true class.

    Lin et al. 2017, arXiv 1708.02002, eq. 4.
    """
    log_p = functional.log_softmax(logits, dim=1)
    each = to_shares(logits, targets) * (1 - log_p.exp()) ** gamma * log_p
    if weights is not None:
        each = each * weights.to(logits)
    return -each.sum(dim=1).mean()


def soft_f1_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """1 - mean over classes of 2 TP / (2 TP + FP + FN), counts taken from softmax probabilities.

    A class that the batch does not have counts: its F1 is 0 whatever the model says, as in the
    winners' loss.
    """
    p = functional.softmax(logits, dim=1)
    truth = to_shares(logits, targets)
    true_positive = (p * truth).sum(0)
    both = p.sum(0) + truth.sum(0)  # TP + FP + TP + FN
    f1 = 2 * true_positive / both.clamp_min(torch.finfo(p.dtype).eps)
    return 1 - f1.mean()
