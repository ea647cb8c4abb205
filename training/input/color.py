"""Color jitter and normalization as one matrix.

Brightness, contrast about the image's mean, saturation and a turn of the hue in YIQ are affine in
R, G, B, and so is normalization: their product is one matrix [3, 4], applied to an image in one
pass. Nothing is cut off between the steps or at the end: what a step pushes past 0 or 255 stays
there, where ColorJitter on uint8 cuts it off.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Matrix = NDArray[np.float64]

# Rows Y, I, Q (NTSC). Y is also the gray that contrast and saturation move about (ITU-R BT.601, as
# in cv2 and PIL).
TO_YIQ = np.array([[0.299, 0.587, 0.114], [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
FROM_YIQ = np.linalg.inv(TO_YIQ)
GRAY = TO_YIQ[0]
# A turn of I and Q, between the two matrices: the part that stays, and those that go with its
# cosine and sine.
KEPT_BY_HUE = np.outer(FROM_YIQ[:, 0], TO_YIQ[0])
TURNED_COS = FROM_YIQ[:, 1:] @ TO_YIQ[1:]
TURNED_SIN = np.outer(FROM_YIQ[:, 1], TO_YIQ[2]) - np.outer(FROM_YIQ[:, 2], TO_YIQ[1])


def normalization_matrix(
    mean: Sequence[float] | float, std: Sequence[float] | float, white: float = 255.0
) -> Matrix:
    """[3, 4]: R, G, B in 0..white to (value / white - mean) / std."""
    means, stds = (
        np.broadcast_to(np.asarray(values, dtype=np.float64), 3) for values in (mean, std)
    )
    return np.hstack([np.diag(1 / (stds * white)), (-means / stds)[:, None]])


def jitter_matrix(
    factors: tuple[float, float, float, float], order: Sequence[int], color_mean: Sequence[float]
) -> Matrix:
    """[4, 4], on (R, G, B, 1): brightness, contrast, saturation and hue in the given order.

    Factors are those of ColorJitter: the first three multiply, the hue's is a share of the full
    turn. `color_mean` is the mean of R, G, B over the image; contrast is about the gray of what the
    steps before it made of that mean.
    """
    brightness, contrast, saturation, hue = factors
    mean = np.array([*color_mean, 1.0])
    matrix: Matrix = np.eye(4)
    colors = matrix[:3]
    for step in order:
        if step == 0:
            colors *= brightness
        elif step == 1:
            gray = GRAY @ (colors @ mean)
            colors *= contrast
            colors[:, 3] += (1 - contrast) * gray
        elif step == 2:
            gray = GRAY @ colors
            colors *= saturation
            colors += (1 - saturation) * gray
        else:
            colors[:] = hue_matrix(hue) @ colors
    return matrix


def hue_matrix(turn: float) -> Matrix:
    """[3, 3]: rotate colors about the gray axis by a share of the full turn.

    Red moves towards yellow, as in HSV.
    """
    angle = 2 * math.pi * turn
    matrix: Matrix = KEPT_BY_HUE + math.cos(angle) * TURNED_COS + math.sin(angle) * TURNED_SIN
    return matrix
